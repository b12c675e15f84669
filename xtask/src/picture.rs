//! The demo's picture: mouth frames in time, each word under the frames in which it was read.

use font8x8::UnicodeFonts;

/// A word and when it was spoken.
#[derive(Debug, Clone)]
pub struct Caption {
    /// The word.
    pub text: String,
    /// Begin, in seconds.
    pub start_s: f32,
    /// End, in seconds.
    pub end_s: f32,
}

/// Side of a frame.
const SIDE: usize = 96;
/// Frames in a row of the picture.
const PER_ROW: usize = 12;
/// Height of a row: the frame and a line of text.
const ROW: usize = SIDE + 16;
/// Every so many frames of the clip are shown.
const STEP: usize = 2;
const FPS: f32 = 25.0;

/// The frames of a grey 96x96 Y4M file.
pub fn y4m_frames(video: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut lines = video.splitn(2, |&b| b == b'\n');
    let header = lines.next().ok_or("the video is empty")?;
    if !header.starts_with(b"YUV4MPEG2") {
        return Err("the video is no Y4M file");
    }
    let mut rest = lines.next().unwrap_or_default();
    let mut frames = Vec::new();
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let pixels = rest
            .get(end + 1..end + 1 + SIDE * SIDE)
            .ok_or("the video is cut off")?;
        frames.push(pixels);
        rest = &rest[end + 1 + SIDE * SIDE..];
    }
    Ok(frames)
}

/// A PNG of every second frame, with the word being spoken under each.
pub fn sheet(frames: &[&[u8]], captions: &[Caption]) -> Result<Vec<u8>, String> {
    let shown: Vec<usize> = (0..frames.len()).step_by(STEP).collect();
    let (width, height) = (PER_ROW * SIDE, shown.len().div_ceil(PER_ROW).max(1) * ROW);
    let mut grey = vec![255u8; width * height];
    for (place, &t) in shown.iter().enumerate() {
        let (x, y) = (place % PER_ROW * SIDE, place / PER_ROW * ROW);
        for (row, pixels) in frames[t].chunks_exact(SIDE).enumerate() {
            grey[(y + row) * width + x..][..SIDE].copy_from_slice(pixels);
        }
        if let Some(word) = spoken(captions, t as f32 / FPS, (t + STEP) as f32 / FPS) {
            write(&mut grey, width, x, y + SIDE + 4, &word.text);
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder
        .write_header()
        .and_then(|mut w| w.write_image_data(&grey))
        .map_err(|e| e.to_string())?;
    Ok(file)
}

/// The word that fills most of the time from `start_s` to `end_s`, however short it is.
fn spoken(captions: &[Caption], start_s: f32, end_s: f32) -> Option<&Caption> {
    let shared = |c: &Caption| c.end_s.min(end_s) - c.start_s.max(start_s);
    let words = captions.iter().filter(|c| shared(c) > 0.0);
    words.max_by(|a, b| shared(a).total_cmp(&shared(b)))
}

/// Writes a word in the middle of a frame's width, cut where it does not fit.
fn write(grey: &mut [u8], width: usize, x: usize, y: usize, word: &str) {
    let letters: Vec<char> = word.chars().take(SIDE / 8).collect();
    let left = x + (SIDE - letters.len() * 8) / 2;
    for (i, &letter) in letters.iter().enumerate() {
        let Some(glyph) = font8x8::BASIC_FONTS.get(letter) else {
            continue;
        };
        for (row, bits) in glyph.iter().enumerate() {
            for column in (0..8).filter(|c| bits >> c & 1 == 1) {
                grey[(y + row) * width + left + i * 8 + column] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_holds_the_frames_and_the_word() {
        let (dark, light) = (vec![10u8; SIDE * SIDE], vec![200u8; SIDE * SIDE]);
        let frames: Vec<&[u8]> = vec![&dark, &dark, &light, &light];
        let word = Caption {
            text: "bin".into(),
            start_s: 0.08,
            end_s: 0.16,
        };
        let file = sheet(&frames, &[word]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .unwrap();
        let mut grey = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut grey).unwrap();
        let width = PER_ROW * SIDE;
        assert_eq!((grey[0], grey[SIDE]), (10, 200));
        let ink = |frame: usize| {
            let lines = SIDE..ROW;
            lines
                .flat_map(|y| &grey[y * width + frame * SIDE..][..SIDE])
                .filter(|&&p| p == 0)
                .count()
        };
        assert_eq!(ink(0), 0, "nobody speaks in the first frame");
        assert!(ink(1) > 20, "the word stands under the second picture");
    }
}
