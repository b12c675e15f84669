//! Sound as 16 kHz mono samples: WAV files by our own means, everything else through ffmpeg.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::ffmpeg::{Transcoder, Verdict};
use super::resample::Resample;
use crate::Error;
use crate::error::one_line;

/// Samples a second of everything a [`Sound`] hands out.
pub const SAMPLE_RATE: u32 = 16_000;

/// Mono samples at [`SAMPLE_RATE`], the first one at time 0 of the source.
pub struct Sound {
    path: PathBuf,
    reader: Reader,
    samples: u64,
}

/// Opens the sound of the file at `path`.
///
/// A WAV file needs no ffmpeg. Sound that starts later than the picture is preceded by silence, so that time
/// 0 is the same for both.
///
/// # Errors
/// If nothing readable is there, or ffmpeg is needed and not installed. Faults in the stream appear while reading.
pub fn open_sound(path: &Path) -> Result<Sound, Error> {
    let file = super::check_file(path)?;
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("wav"))
        && let Some(wav) = Wav::open(path, file.try_clone().map_err(|e| Error::io(path, e))?)?
    {
        return Ok(Sound {
            path: path.into(),
            reader: Reader::Wav(Box::new(wav)),
            samples: 0,
        });
    }
    let rate = SAMPLE_RATE.to_string();
    let output = [
        "-map",
        "0:a:0",
        "-af",
        "aresample=async=1:first_pts=0",
        "-ac",
        "1",
        "-ar",
        &rate,
        "-f",
        "s16le",
        "-",
    ];
    let reader = Reader::Ffmpeg(Box::new(Transcoder::start(path, file, &output)?));
    Ok(Sound {
        path: path.into(),
        reader,
        samples: 0,
    })
}

enum Reader {
    Wav(Box<Wav>),
    Ffmpeg(Box<Transcoder>),
    Done,
}

impl Sound {
    /// Reads the next samples into `block` and says how many; 0 at the end.
    ///
    /// # Errors
    /// If the stream holds no sound or is broken.
    pub fn read(&mut self, block: &mut [i16]) -> Result<usize, Error> {
        let count = match &mut self.reader {
            Reader::Wav(wav) => wav.read(block).map_err(|e| wav_error(&self.path, &e))?,
            Reader::Ffmpeg(child) => read_pcm(&mut child.stdout, block),
            Reader::Done => 0,
        };
        self.samples += count as u64;
        if count == 0 && !block.is_empty() {
            self.finish()?;
        }
        Ok(count)
    }

    /// Reads everything that is left, at most `limit` samples.
    ///
    /// # Errors
    /// As [`Sound::read`].
    pub fn read_all(&mut self, limit: usize) -> Result<Vec<i16>, Error> {
        let mut all = Vec::new();
        let mut block = [0; 4096];
        while all.len() < limit {
            match self.read(&mut block)? {
                0 => break,
                count => all.extend_from_slice(&block[..count]),
            }
        }
        all.truncate(limit);
        Ok(all)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let Reader::Ffmpeg(mut child) = std::mem::replace(&mut self.reader, Reader::Done) else {
            return Ok(());
        };
        let ended = child.finish();
        match ended.verdict() {
            Verdict::Refused => Err(Error::NotVideo(self.path.clone(), ended.format())),
            Verdict::NoStream => Err(Error::NoAudio(self.path.clone())),
            Verdict::Cut => Err(Error::NotMedia(self.path.clone(), ended.last_line())),
            Verdict::Other if ended.success && self.samples > 0 => Ok(()),
            Verdict::Other if ended.success => Err(Error::NoAudio(self.path.clone())),
            Verdict::Other => Err(Error::NotMedia(self.path.clone(), ended.last_line())),
        }
    }
}

/// A WAV file, and how its samples come to our rate, if it has another one.
struct Wav {
    file: hound::WavReader<BufReader<File>>,
    resample: Option<Resample>,
    /// Samples at our rate that were not asked for yet, from `given` on.
    ready: Vec<i16>,
    given: usize,
    ended: bool,
}

impl Wav {
    /// `None` when the file is a sound WAV of a rate that only ffmpeg may know what to do with.
    fn open(path: &Path, file: File) -> Result<Option<Self>, Error> {
        let file = hound::WavReader::new(BufReader::new(file)).map_err(|e| wav_error(path, &e))?;
        let spec = file.spec();
        if spec.channels == 0 || spec.sample_rate == 0 {
            return Err(Error::BadFrame(
                path.into(),
                "a WAV file without channels or rate; export it again".into(),
            ));
        }
        let resample = match spec.sample_rate {
            SAMPLE_RATE => None,
            rate => match Resample::new(rate) {
                Some(resample) => Some(resample),
                None => return Ok(None),
            },
        };
        Ok(Some(Wav {
            file,
            resample,
            ready: Vec::new(),
            given: 0,
            ended: false,
        }))
    }

    fn read(&mut self, block: &mut [i16]) -> Result<usize, hound::Error> {
        let Some(resample) = &mut self.resample else {
            return read_wav(&mut self.file, block);
        };
        while self.given == self.ready.len() && !self.ended {
            self.ready.clear();
            self.given = 0;
            let mut raw = [0; 4096];
            match read_wav(&mut self.file, &mut raw)? {
                0 => {
                    resample.finish(&mut self.ready);
                    self.ended = true;
                }
                count => resample.push(&raw[..count], &mut self.ready),
            }
        }
        let ready = &self.ready[self.given..];
        let count = ready.len().min(block.len());
        block[..count].copy_from_slice(&ready[..count]);
        self.given += count;
        Ok(count)
    }
}

/// Reads samples of any width and averages the channels.
fn read_wav(
    wav: &mut hound::WavReader<BufReader<File>>,
    block: &mut [i16],
) -> Result<usize, hound::Error> {
    let spec = wav.spec();
    let channels = usize::from(spec.channels);
    let mut count = 0;
    match spec.sample_format {
        hound::SampleFormat::Float => {
            let mut samples = wav.samples::<f32>();
            while count < block.len() {
                let Some(mean) = mean_of(&mut samples, channels, f64::from)? else {
                    break;
                };
                if !mean.is_finite() {
                    return Err(hound::Error::FormatError("a sample is no number"));
                }
                block[count] = (mean * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
                count += 1;
            }
        }
        hound::SampleFormat::Int => {
            let scale = 2_f64.powi(16 - i32::from(spec.bits_per_sample));
            let mut samples = wav.samples::<i32>();
            while count < block.len() {
                let Some(mean) = mean_of(&mut samples, channels, f64::from)? else {
                    break;
                };
                block[count] = (mean * scale).round().clamp(-32_768.0, 32_767.0) as i16;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Mean of one sample of every channel; `None` at the end.
fn mean_of<S>(
    samples: &mut impl Iterator<Item = Result<S, hound::Error>>,
    channels: usize,
    value: impl Fn(S) -> f64,
) -> Result<Option<f64>, hound::Error> {
    let mut sum = 0.0;
    for _ in 0..channels {
        let Some(sample) = samples.next() else {
            return Ok(None);
        };
        sum += value(sample?);
    }
    Ok(Some(sum / channels as f64))
}

/// Reads little-endian samples until `block` is full or the pipe ends.
fn read_pcm(input: &mut impl Read, block: &mut [i16]) -> usize {
    let mut bytes = vec![0; block.len() * 2];
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(n) => filled += n,
        }
    }
    for (sample, pair) in block.iter_mut().zip(bytes[..filled].chunks_exact(2)) {
        *sample = i16::from_le_bytes([pair[0], pair[1]]);
    }
    filled / 2
}

fn wav_error(path: &Path, error: &hound::Error) -> Error {
    let detail = format!(
        "not a readable WAV file ({}); export it as 16-bit PCM",
        one_line(&error.to_string())
    );
    Error::BadFrame(path.into(), detail)
}
