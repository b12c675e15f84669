//! A folder of images, one a frame, in the order of their names.

use std::fs;
use std::path::{Path, PathBuf};

use image::DynamicImage;

use super::FrameSource;
use crate::error::{one_line, show};
use crate::{Error, Frame};

/// Largest image side that is opened, and most memory that decoding one may take.
const MAX_DECODED_SIDE: u32 = 16_384;
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Frames from a folder of PNG, JPEG or PGM images.
pub struct ImageFolder {
    name: String,
    files: std::vec::IntoIter<PathBuf>,
    fps: f64,
    index: u64,
    size: Option<(usize, usize)>,
}

impl ImageFolder {
    /// Lists the images of the folder at `path`, taken at `fps` frames a second. Numbers in names count as numbers, so
    /// `f2.png` comes before `f10.png`.
    ///
    /// # Errors
    /// If the folder cannot be listed, holds no images, or `fps` is not a rate.
    pub fn open(path: &Path, fps: f64) -> Result<Self, Error> {
        if !(fps.is_finite() && (0.1..=1000.0).contains(&fps)) {
            return Err(Error::Setting(format!(
                "{fps} frames a second is not a rate; give one from 0.1 to 1000"
            )));
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| Error::io(path, e))? {
            let file = entry.map_err(|e| Error::io(path, e))?.path();
            if is_image(&file) && file.is_file() {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(Error::NoImages(path.into()));
        }
        files.sort_by_cached_key(|file| {
            natural_key(&file.file_name().unwrap_or_default().to_string_lossy())
        });
        Ok(ImageFolder {
            name: show(path),
            files: files.into_iter(),
            fps,
            index: 0,
            size: None,
        })
    }
}

impl FrameSource for ImageFolder {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        let Some(path) = self.files.next() else {
            return Ok(false);
        };
        let (width, height, pixels) = read_grey(&path)?;
        let size = *self.size.get_or_insert((width, height));
        if size != (width, height) {
            self.files = Vec::new().into_iter();
            let detail = format!(
                "{width}x{height}, but the first image of the folder is {}x{}; give frames of one size",
                size.0, size.1
            );
            return Err(Error::BadFrame(path, detail));
        }
        frame.set(width, height, &pixels);
        frame.timestamp_us = (self.index as f64 * 1e6 / self.fps).round() as u64;
        self.index += 1;
        Ok(true)
    }
}

/// Decodes one image to grey: width, height, pixels.
fn read_grey(path: &Path) -> Result<(usize, usize, Vec<u8>), Error> {
    super::check_file(path)?;
    let broken = |e: image::ImageError| {
        let detail = format!(
            "not a readable image ({}); export the frame again",
            one_line(&e.to_string())
        );
        Error::BadFrame(path.into(), detail)
    };
    let mut reader = image::ImageReader::open(path).map_err(|e| Error::io(path, e))?;
    // Names lie now and then; the content decides.
    reader = reader
        .with_guessed_format()
        .map_err(|e| Error::io(path, e))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_DECODED_SIDE);
    limits.max_image_height = Some(MAX_DECODED_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(broken)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    Ok((width, height, to_grey(image)))
}

/// ITU-R BT.601 luma, as OpenCV and video files have it; the image crate's own conversion is BT.709.
fn to_grey(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma8(grey) => grey.into_raw(),
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA8(_)
        | DynamicImage::ImageLumaA16(_) => image.into_luma8().into_raw(),
        _ => image.into_rgb8().pixels().map(|p| luma(p.0)).collect(),
    }
}

fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + (1 << 15)) >> 16) as u8
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg" | "pgm")
}

/// Splits a name into text and numbers, so that comparing two keys compares numbers as numbers. Runs of digits are
/// kept as text without leading zeros, ordered by length first: no number is too long. The name itself breaks ties.
fn natural_key(name: &str) -> (Vec<(String, usize, String)>, String) {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text_end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, tail) = rest.split_at(text_end);
        let digits_end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (digits, tail) = tail.split_at(digits_end);
        let digits = digits.trim_start_matches('0');
        parts.push((text.to_owned(), digits.len(), digits.to_owned()));
        rest = tail;
    }
    (parts, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = [
            "f10.png", "f9.png", "f1.png", "a.png", "f007.png", "f10a.png",
        ];
        names.sort_by_cached_key(|n| natural_key(n));
        assert_eq!(
            names,
            [
                "a.png", "f1.png", "f007.png", "f9.png", "f10.png", "f10a.png"
            ]
        );
    }

    #[test]
    fn grey_is_bt601() {
        // OpenCV's cvtColor(RGB2GRAY) of the primaries and white.
        assert_eq!(
            [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3]].map(luma),
            [76, 150, 29, 255]
        );
    }
}
