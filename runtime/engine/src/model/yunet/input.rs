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
