//! The camera image as the network sees it: shrunk if it is large, line by line, in f32.

/// An image of 8-bit samples in rows without gaps.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    channels: usize,
}

impl<'a> Image<'a> {
    /// A grey image; `pixels` is [height, width].
    pub fn grey(pixels: &'a [u8], width: usize, height: usize) -> Self {
        Self {
            pixels,
            width,
            height,
            channels: 1,
        }
    }

    /// A colour image; `pixels` is [height, width, 3], blue first.
    pub fn bgr(pixels: &'a [u8], width: usize, height: usize) -> Self {
        Self {
            pixels,
            width,
            height,
            channels: 3,
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Whether the sides are in `1..=`[`MAX_SIDE`] and the samples are all there.
    pub(super) fn is_whole(&self) -> bool {
        let sides = 1..=MAX_SIDE;
        sides.contains(&self.width)
            && sides.contains(&self.height)
            && self.pixels.len() == self.width * self.height * self.channels
    }

    fn row(&self, y: usize) -> &'a [u8] {
        let len = self.width * self.channels;
        &self.pixels[y * len..][..len]
    }
}

/// Longest side of a source image. Sums over a column of so many samples stay exact in f32.
pub const MAX_SIDE: usize = 16384;

/// Sizes on the way from the source image to the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// Width and height of the source.
    pub source: [usize; 2],
    /// Width and height after shrinking.
    pub scaled: [usize; 2],
    /// Width and height after padding right and below with zeros.
    pub padded: [usize; 2],
}

impl Fit {
    /// Shrinks (never enlarges) so that the longer side is at most `max_side`, then pads to whole multiples.
    pub fn new(width: usize, height: usize, max_side: usize, multiple: usize) -> Self {
        let long = width.max(height);
        let scaled = [width, height].map(|side| match long > max_side {
            true => ((side * max_side + long / 2) / long).max(1),
            false => side,
        });
        Self {
            source: [width, height],
            scaled,
            padded: scaled.map(|side| side.next_multiple_of(multiple)),
        }
    }

    /// Source pixels per scaled pixel, across and down.
    pub fn scale(&self) -> [f32; 2] {
        [0, 1].map(|i| self.source[i] as f32 / self.scaled[i] as f32)
    }
}

/// Writes line `y` of the network's input into `line` [1 + padded width, channels]: one zero pixel, the image's
/// samples (0..=255), zeros.
///
/// Shrinking averages over the area each pixel covers, as a camera with fewer pixels would; `columns` [source width,
/// channels] is scratch for that.
pub(super) fn read_line(
    image: &Image<'_>,
    fit: &Fit,
    y: usize,
    columns: &mut [f32],
    line: &mut [f32],
) {
    line.fill(0.0);
    if y >= fit.scaled[1] {
        return;
    }
    let channels = image.channels;
    let inner = &mut line[channels..][..fit.scaled[0] * channels];
    if fit.source == fit.scaled {
        for (value, &sample) in inner.iter_mut().zip(image.row(y)) {
            *value = f32::from(sample);
        }
        return;
    }
    let columns = &mut columns[..image.width * channels];
    columns.fill(0.0);
    // Whole-number weights keep the sums over a column exact.
    for (row, weight) in cover(y, image.height, fit.scaled[1]) {
        let weight = weight as f32;
        for (sum, &sample) in columns.iter_mut().zip(image.row(row)) {
            *sum += weight * f32::from(sample);
        }
    }
    let norm = 1.0 / (image.width as f32 * image.height as f32);
    for (x, pixel) in inner.chunks_exact_mut(channels).enumerate() {
        for (column, weight) in cover(x, image.width, fit.scaled[0]) {
            let weight = weight as f32;
            for (value, &sum) in pixel.iter_mut().zip(&columns[column * channels..]) {
                *value += weight * sum;
            }
        }
        pixel.iter_mut().for_each(|value| *value *= norm);
    }
}

/// The source cells that cell `i` of `to` covers of `from` cells, each with the part covered in 1/`to` cells; the
/// parts add up to `from`.
fn cover(i: usize, from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    let (start, end) = (i * from, (i + 1) * from);
    (start / to..end.div_ceil(to)).map(move |cell| {
        let (first, last) = (cell * to, (cell + 1) * to);
        (cell, last.min(end) - first.max(start))
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{vec, vec::Vec};

    fn line(image: &Image<'_>, max_side: usize, y: usize) -> Vec<f32> {
        let fit = Fit::new(image.width, image.height, max_side, 32);
        let mut columns = vec![7.0; image.width * image.channels];
        let mut line = vec![7.0; (fit.padded[0] + 1) * image.channels];
        read_line(image, &fit, y, &mut columns, &mut line);
        line
    }

    #[test]
    fn sizes_shrink_to_the_limit_and_pad_to_multiples() {
        let sizes = |w, h, max| {
            let fit = Fit::new(w, h, max, 32);
            (fit.scaled, fit.padded)
        };
        assert_eq!(sizes(216, 232, 320), ([216, 232], [224, 256]));
        assert_eq!(sizes(320, 320, 320), ([320, 320], [320, 320]));
        assert_eq!(sizes(1920, 1080, 320), ([320, 180], [320, 192]));
        assert_eq!(sizes(1080, 1920, 320), ([180, 320], [192, 320]));
        assert_eq!(sizes(16384, 1, 320), ([320, 1], [320, 32]));
        assert_eq!(sizes(1, 1, 320), ([1, 1], [32, 32]));
    }

    #[test]
    fn small_images_are_copied_with_zeros_around() {
        let pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255];
        let first = line(&Image::bgr(&pixels, 2, 2), 320, 1);
        assert_eq!(first.len(), 33 * 3);
        assert_eq!(
            first[..9],
            [0.0, 0.0, 0.0, 7.0, 8.0, 9.0, 10.0, 11.0, 255.0]
        );
        assert!(first[9..].iter().all(|&v| v == 0.0));
        assert!(
            line(&Image::bgr(&pixels, 2, 2), 320, 2)
                .iter()
                .all(|&v| v == 0.0)
        );
    }

    #[test]
    fn shrinking_averages_the_area_covered() {
        // 96 x 3 to 64 x 2: each pixel covers 1.5 x 1.5, so in thirds of a side: 2 and 1, or 1 and 2.
        let pixels: Vec<u8> = (0..96 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let image = Image::grey(&pixels, 96, 3);
        for y in 0..2 {
            let line = line(&image, 64, y);
            for x in 0..64 {
                let part = |i: usize| {
                    if i.is_multiple_of(2) {
                        [(0, 2), (1, 1)]
                    } else {
                        [(1, 1), (2, 2)]
                    }
                };
                let mut sum = 0;
                for (row, down) in part(y) {
                    for (column, across) in part(x) {
                        sum += down * across * u32::from(pixels[row * 96 + x / 2 * 3 + column]);
                    }
                }
                let want = f64::from(sum) / 9.0;
                assert!((f64::from(line[1 + x]) - want).abs() < 1e-4, "{x}, {y}");
            }
        }
    }

    #[test]
    fn incomplete_images_are_refused() {
        assert!(Image::grey(&[0; 6], 3, 2).is_whole());
        assert!(Image::bgr(&[0; 18], 3, 2).is_whole());
        assert!(!Image::grey(&[0; 5], 3, 2).is_whole());
        assert!(!Image::bgr(&[0; 6], 3, 2).is_whole());
        assert!(!Image::grey(&[], 0, 0).is_whole());
        assert!(!Image::grey(&[], usize::MAX, 2).is_whole());
    }
}
