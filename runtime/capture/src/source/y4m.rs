//! YUV4MPEG2 files (`.y4m`), read without ffmpeg: luma planes with a fixed frame rate.
//!
//! Format: mjpegtools, yuv4mpeg(5). Limited-range luma (16 to 235, the default of every colour space but `mono`) is
//! stretched to 0..=255, as ffmpeg and OpenCV do when they make grey from video.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::FrameSource;
use crate::error::{one_line, show};
use crate::{Error, Frame};

const MAX_DECODED_SIDE: usize = 16_384;
/// No header of a real file comes near this.
const MAX_LINE: u64 = 1024;

/// Frames of a Y4M file.
pub struct Y4m<R = BufReader<File>> {
    path: PathBuf,
    name: String,
    input: R,
    header: Header,
    luma: Vec<u8>,
    index: u64,
    done: bool,
}

impl Y4m {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// If it cannot be read or its header is not YUV4MPEG2 with a known colour space.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = super::check_file(path)?;
        Y4m::from_reader(path, BufReader::with_capacity(1 << 16, file))
    }
}

impl<R: BufRead + Send> Y4m<R> {
    /// Reads a stream that was opened elsewhere; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`Y4m::open`].
    pub fn from_reader(path: &Path, mut input: R) -> Result<Self, Error> {
        let bad = |detail: String| Error::BadFrame(path.into(), detail);
        let line = read_line(&mut input)
            .ok()
            .flatten()
            .ok_or_else(|| bad("not a YUV4MPEG2 file (no header line); export it again".into()))?;
        let header = Header::parse(line.trim_end_matches(['\r', '\n']))
            .map_err(|detail| bad(format!("{detail}; export it again")))?;
        Ok(Y4m {
            path: path.into(),
            name: show(path),
            input,
            header,
            luma: Vec::new(),
            index: 0,
            done: false,
        })
    }

    fn read_luma(&mut self) -> Result<bool, Error> {
        let line = read_line(&mut self.input).map_err(|e| Error::io(&self.path, e))?;
        let Some(line) = line else {
            return if self.index == 0 {
                Err(Error::NoFrames(self.path.clone()))
            } else {
                Ok(false)
            };
        };
        let Some(tag) = line.strip_suffix('\n') else {
            return Err(self.cut_off());
        };
        let tag = tag.trim_end_matches('\r');
        if !(tag == "FRAME" || tag.starts_with("FRAME ")) {
            let detail = format!(
                "frame {} does not start with FRAME; export it again",
                self.index
            );
            return Err(Error::BadFrame(self.path.clone(), detail));
        }
        let header = &self.header;
        self.luma
            .resize(header.width * header.height * header.sample_bytes(), 0);
        self.input
            .read_exact(&mut self.luma)
            .map_err(|_| self.cut_off())?;
        let rest = header.chroma_bytes as u64;
        let skipped = std::io::copy(&mut (&mut self.input).take(rest), &mut std::io::sink());
        if skipped.map_err(|e| Error::io(&self.path, e))? < rest {
            return Err(self.cut_off());
        }
        Ok(true)
    }

    fn cut_off(&self) -> Error {
        Error::Truncated(self.path.clone(), self.index)
    }
}

impl<R: BufRead + Send> FrameSource for Y4m<R> {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        if self.done || !self.read_luma().inspect_err(|_| self.done = true)? {
            self.done = true;
            return Ok(false);
        }
        self.header.to_full_range(&mut self.luma);
        frame.set(self.header.width, self.header.height, &self.luma);
        let (num, den) = self.header.rate;
        frame.timestamp_us =
            (u128::from(self.index) * 1_000_000 * u128::from(den) / u128::from(num)) as u64;
        self.index += 1;
        Ok(true)
    }
}

#[derive(Debug, PartialEq)]
struct Header {
    width: usize,
    height: usize,
    rate: (u32, u32),
    depth: u32,
    full_range: bool,
    chroma_bytes: usize,
}

impl Header {
    fn parse(line: &str) -> Result<Self, String> {
        let mut fields = line.split(' ').filter(|f| !f.is_empty());
        if fields.next() != Some("YUV4MPEG2") {
            return Err("not a YUV4MPEG2 file".into());
        }
        let (mut width, mut height, mut rate) = (0, 0, (25, 1));
        let (mut space, mut range) = ("420jpeg", None);
        for field in fields {
            let (tag, value) = field.split_at(field.chars().next().map_or(0, char::len_utf8));
            match tag {
                "W" => width = value.parse().unwrap_or(0),
                "H" => height = value.parse().unwrap_or(0),
                "F" => {
                    rate = parse_rate(value)
                        .ok_or_else(|| format!("{} is not a frame rate", one_line(field)))?
                }
                "C" => space = value,
                "X" if value == "COLORRANGE=FULL" => range = Some(true),
                "X" if value == "COLORRANGE=LIMITED" => range = Some(false),
                _ => {}
            }
        }
        let fits = |side| (1..=MAX_DECODED_SIDE).contains(&side);
        if !fits(width) || !fits(height) {
            return Err(format!(
                "the picture is {width}x{height}, sizes from 1 to {MAX_DECODED_SIDE} are read"
            ));
        }
        let (family, depth) = split_space(space)
            .ok_or_else(|| format!("colour space {} is not read", one_line(space)))?;
        let (half_w, half_h) = (width.div_ceil(2), height.div_ceil(2));
        let chroma_samples = match family {
            "420" => 2 * half_w * half_h,
            "422" => 2 * half_w * height,
            "444" => 2 * width * height,
            "411" => 2 * width.div_ceil(4) * height,
            "444alpha" => 3 * width * height,
            _ => 0,
        };
        let full_range = range.unwrap_or(family == "mono");
        let chroma_bytes = chroma_samples * if depth > 8 { 2 } else { 1 };
        Ok(Header {
            width,
            height,
            rate,
            depth,
            full_range,
            chroma_bytes,
        })
    }

    fn sample_bytes(&self) -> usize {
        if self.depth > 8 { 2 } else { 1 }
    }

    /// Turns raw luma samples into one full-range byte each, in place.
    fn to_full_range(&self, luma: &mut Vec<u8>) {
        if self.depth == 8 && self.full_range {
            return;
        }
        let shift = self.depth - 8;
        let (black, span) = if self.full_range {
            (0, (256 << shift) - 1)
        } else {
            (16 << shift, 219 << shift)
        };
        let map = |sample: u32| {
            let above = sample.saturating_sub(black).min(span);
            ((above * 255 + span / 2) / span) as u8
        };
        if self.depth == 8 {
            luma.iter_mut().for_each(|v| *v = map(u32::from(*v)));
        } else {
            let samples = luma.len() / 2;
            for i in 0..samples {
                luma[i] = map(u32::from(u16::from_le_bytes([
                    luma[2 * i],
                    luma[2 * i + 1],
                ])));
            }
            luma.truncate(samples);
        }
    }
}

/// `420mpeg2` -> ("420", 8), `422p10` -> ("422", 10), `mono16` -> ("mono", 16).
fn split_space(space: &str) -> Option<(&'static str, u32)> {
    Some(match space {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => ("420", 8),
        "411" => ("411", 8),
        "422" => ("422", 8),
        "444" => ("444", 8),
        "444alpha" => ("444alpha", 8),
        "mono" => ("mono", 8),
        _ => {
            let deep = |tail: &str| tail.parse().ok().filter(|d| (9..=16).contains(d));
            if let Some(depth) = space.strip_prefix("mono").and_then(deep) {
                return Some(("mono", depth));
            }
            let (family, depth) = space.split_once('p')?;
            let family = ["420", "422", "444"].into_iter().find(|f| *f == family)?;
            (family, deep(depth)?)
        }
    })
}

fn parse_rate(value: &str) -> Option<(u32, u32)> {
    let (num, den) = value.split_once(':')?;
    let rate = (num.parse().ok()?, den.parse().ok()?);
    (rate.0 > 0 && rate.1 > 0).then_some(rate)
}

/// One line with its end, unless the stream ends first; `None` at the end of the stream.
fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    input.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Result<Vec<Frame>, Error> {
        let mut source = Y4m::from_reader(Path::new("t.y4m"), bytes)?;
        let (mut frame, mut all) = (Frame::default(), Vec::new());
        while source.read(&mut frame)? {
            all.push(frame.clone());
        }
        Ok(all)
    }

    #[test]
    fn luma_is_stretched_and_chroma_skipped() {
        let mut file = b"YUV4MPEG2 W2 H2 F30000:1001 Ip A1:1 C420jpeg\n".to_vec();
        for luma in [[16, 235, 0, 255], [126, 16, 16, 16]] {
            file.extend(b"FRAME\n");
            file.extend(luma);
            file.extend([128, 128]);
        }
        let read = frames(&file).expect("a sound file");
        assert_eq!(read[0].pixels, [0, 255, 0, 255]);
        assert_eq!(read[1].pixels, [128, 0, 0, 0]);
        assert_eq!((read[0].timestamp_us, read[1].timestamp_us), (0, 33_366));
    }

    #[test]
    fn deep_samples_are_scaled() {
        let mut file = b"YUV4MPEG2 W2 H1 F25:1 C420p10 XCOLORRANGE=FULL\nFRAME\n".to_vec();
        for sample in [1023_u16, 512, 0, 0] {
            file.extend(sample.to_le_bytes());
        }
        assert_eq!(frames(&file).expect("a sound file")[0].pixels, [255, 128]);
    }

    #[test]
    fn lines_may_end_as_on_windows() {
        let file = b"YUV4MPEG2 W2 H1 F25:1 Cmono\r\nFRAME\r\nabFRAME Ip\r\n\r\n";
        let read = frames(file).expect("a sound file");
        assert_eq!(read[0].pixels, *b"ab");
        assert_eq!(read[1].pixels, *b"\r\n");
    }

    #[test]
    fn faults_are_named() {
        let says = |bytes: &[u8], words: &str| {
            let error = frames(bytes).expect_err("a fault").to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        };
        says(b"RIFF....", "not a YUV4MPEG2 file");
        says(b"YUV4MPEG2 W0 H4 F25:1 Cmono\n", "0x4");
        says(b"YUV4MPEG2 W99999999999999999999 H4 Cmono\n", "0x4");
        says(b"YUV4MPEG2 W16384 H99999 Cmono\n", "16384x99999");
        says(b"YUV4MPEG2 W4 H4 F0:0 Cmono\n", "frame rate");
        says(b"YUV4MPEG2 W4 H4 F25:1 Cxyz\n", "colour space xyz");
        says(b"YUV4MPEG2 W2 H1 F25:1 Cmono\n", "without a single frame");
        says(
            b"YUV4MPEG2 W2 H1 F25:1 Cmono\nFRAME\nab\nFRAME\nab",
            "does not start with FRAME",
        );
        says(
            b"YUV4MPEG2 W2 H1 F25:1 Cmono\nFRAME\nabFRAME\na",
            "cut off after 1 frames",
        );
        says(
            b"YUV4MPEG2 W2 H1 F25:1 Cmono\nFRAME\nabFRA",
            "cut off after 1 frames",
        );
    }
}
