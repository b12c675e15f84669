//! Pictures and their warping, with the bits of OpenCV.
//!
//! [`warp`] computes what `cv2.warpAffine(…, INTER_LINEAR, BORDER_CONSTANT, 0)` computes for u8
//! pictures (OpenCV 4, `modules/imgproc/src/imgwarp.cpp`): positions in 1/32 pixel, weights of 15
//! bits. Only the asked window of the destination is rendered.

use core::fmt;

use super::similarity::Similarity;
use crate::math::round_half_even_f64;

/// A borrowed u8 picture of `C` interleaved channels, rows from top to bottom, without padding.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a, const C: usize> {
    data: &'a [u8],
    width: usize,
    height: usize,
}

/// The largest width and height of a picture: OpenCV's positions are 16-bit.
pub const MAX_SIDE: usize = 32_767;

impl<'a, const C: usize> Image<'a, C> {
    /// A picture over `data`, which is `[height, width, C]`.
    ///
    /// # Errors
    /// When a side is 0 or above [`MAX_SIDE`], or `data` has another length.
    pub fn new(data: &'a [u8], width: usize, height: usize) -> Result<Self, ImageError> {
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(ImageError::Side { width, height });
        }
        let expected = width
            .checked_mul(height)
            .and_then(|pixels| pixels.checked_mul(C));
        if expected != Some(data.len()) {
            return Err(ImageError::Length {
                width,
                height,
                got: data.len(),
            });
        }
        Ok(Self {
            data,
            width,
            height,
        })
    }

    /// The pixels, `[height, width, C]`.
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Pixels a row.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub const fn height(&self) -> usize {
        self.height
    }

    /// A pixel, or black outside the picture.
    #[inline]
    fn pixel_or_black(&self, x: i64, y: i64) -> [u8; C] {
        match (usize::try_from(x), usize::try_from(y)) {
            (Ok(x), Ok(y)) if x < self.width && y < self.height => self.pixel(x, y),
            _ => [0; C],
        }
    }

    #[inline]
    fn pixel(&self, x: usize, y: usize) -> [u8; C] {
        let start = (y * self.width + x) * C;
        let mut pixel = [0; C];
        pixel.copy_from_slice(&self.data[start..start + C]);
        pixel
    }
}

/// Why bytes are no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// A side is 0 or above [`MAX_SIDE`].
    Side {
        /// The width given.
        width: usize,
        /// The height given.
        height: usize,
    },
    /// The bytes are not as many as the sides say.
    Length {
        /// The width given.
        width: usize,
        /// The height given.
        height: usize,
        /// How many bytes there are.
        got: usize,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Side { width, height } => write!(
                f,
                "a picture of {width}x{height} cannot be used; sides go from 1 to {MAX_SIDE}"
            ),
            Self::Length { width, height, got } => write!(
                f,
                "{got} bytes do not make a picture of {width}x{height}; check the pixel format"
            ),
        }
    }
}

impl core::error::Error for ImageError {}

/// A rectangle of the destination of a warp, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first column.
    pub x: usize,
    /// The first row.
    pub y: usize,
    /// How many columns.
    pub width: usize,
    /// How many rows.
    pub height: usize,
}

/// Renders `window` of the picture that `transform` (source to destination) makes of `source`, into
/// `out`, `[window.height, window.width, C]`. What lies outside the source is black.
///
/// # Panics
/// When `out` has not the length of the window.
pub fn warp<const C: usize>(
    source: &Image<'_, C>,
    transform: &Similarity,
    window: Window,
    out: &mut [u8],
) {
    assert_eq!(
        out.len(),
        window.width * window.height * C,
        "the output must hold the window"
    );
    if out.is_empty() {
        return;
    }
    let back = invert(transform.matrix());
    let rows = out.chunks_exact_mut(window.width * C);
    for (y, row) in (window.y..).zip(rows) {
        let [x0, y0] = back.map(|[_, m1, m2]| fixed((m1 * y as f64 + m2) * STEPS) + HALF_STEP);
        for (x, pixel) in (window.x..).zip(row.chunks_exact_mut(C)) {
            let [dx, dy] = back.map(|[m0, _, _]| fixed(m0 * x as f64 * STEPS));
            let (px, py) = ((x0 + dx) >> SUBPIXEL_SHIFT, (y0 + dy) >> SUBPIXEL_SHIFT);
            pixel.copy_from_slice(&bilinear(source, px, py));
        }
    }
}

/// Grey from RGB as `cv2.cvtColor(…, COLOR_RGB2GRAY)`: 0.299 R + 0.587 G + 0.114 B in 15-bit fixed
/// point. `rgb` is `[pixels, 3]`, `grey` `[pixels]`.
///
/// # Panics
/// When `rgb` is not three times as long as `grey`.
pub fn rgb_to_grey(rgb: &[u8], grey: &mut [u8]) {
    assert_eq!(rgb.len(), grey.len() * 3, "three bytes make a grey one");
    for (pixel, out) in rgb.chunks_exact(3).zip(grey) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
        *out = ((r * 9_798 + g * 19_235 + b * 3_735 + (1 << 14)) >> 15) as u8;
    }
}

/// The mix of two pictures of the same size: `weight` of `b` (0 to 1, in steps of 1/256), the rest
/// of `a`.
///
/// # Panics
/// When the three slices differ in length.
pub fn blend(a: &[u8], b: &[u8], weight: f32, out: &mut [u8]) {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "blend mixes equal sizes"
    );
    let weight = (weight.clamp(0.0, 1.0) * 256.0 + 0.5) as u32;
    for ((&a, &b), out) in a.iter().zip(b).zip(out) {
        *out = ((u32::from(a) * (256 - weight) + u32::from(b) * weight + 128) >> 8) as u8;
    }
}

// Positions are computed in 1/1024 pixel (OpenCV's AB_BITS) and used in 1/32 (INTER_BITS).
const STEPS: f64 = 1024.0;
const SUBPIXEL_BITS: u32 = 5;
const SUBPIXELS: i64 = 1 << SUBPIXEL_BITS;
const SUBPIXEL_SHIFT: u32 = 10 - SUBPIXEL_BITS;
const HALF_STEP: i64 = 1024 / SUBPIXELS / 2;

/// The inverse of an affine matrix, in the order of operations of `cv::warpAffine`.
fn invert([[m0, m1, m2], [m3, m4, m5]]: [[f64; 3]; 2]) -> [[f64; 3]; 2] {
    let d = m0 * m4 - m1 * m3;
    let d = if d != 0.0 { 1.0 / d } else { 0.0 };
    let (n0, n1, n3, n4) = (m4 * d, m1 * -d, m3 * -d, m0 * d);
    [[n0, n1, -n0 * m2 - n1 * m5], [n3, n4, -n3 * m2 - n4 * m5]]
}

/// OpenCV's `saturate_cast<int>(double)`.
#[inline]
fn fixed(v: f64) -> i64 {
    i64::from(round_half_even_f64(v) as i32)
}

/// The pixel at (x, y), both in 1/32 pixel.
#[inline]
fn bilinear<const C: usize>(source: &Image<'_, C>, x: i64, y: i64) -> [u8; C] {
    let (fx, fy) = ((x & (SUBPIXELS - 1)) as u32, (y & (SUBPIXELS - 1)) as u32);
    let (x, y) = (x >> SUBPIXEL_BITS, y >> SUBPIXEL_BITS);
    let top = [source.pixel_or_black(x, y), source.pixel_or_black(x + 1, y)];
    let bottom = [
        source.pixel_or_black(x, y + 1),
        source.pixel_or_black(x + 1, y + 1),
    ];
    // Weights of 10 bits give the same result as OpenCV's of 15: those are these times 32.
    let n = SUBPIXELS as u32;
    let weights = [(n - fx) * (n - fy), fx * (n - fy), (n - fx) * fy, fx * fy];
    core::array::from_fn(|c| {
        let corners = [top[0][c], top[1][c], bottom[0][c], bottom[1][c]].map(u32::from);
        let sum: u32 = corners.iter().zip(weights).map(|(v, w)| v * w).sum();
        ((sum + (1 << 9)) >> 10) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Window = Window {
        x: 0,
        y: 0,
        width: 5,
        height: 4,
    };

    fn ramp() -> [u8; 20] {
        core::array::from_fn(|i| (i % 5 * 10 + i / 5 * 100) as u8)
    }

    #[test]
    fn identity_copies_and_a_window_is_a_part() {
        let data = ramp();
        let image = Image::<1>::new(&data, 5, 4).unwrap();
        let mut out = [7; 20];
        warp(&image, &Similarity::IDENTITY, WHOLE, &mut out);
        assert_eq!(out, data);
        let window = Window {
            x: 1,
            y: 2,
            width: 3,
            height: 2,
        };
        let mut part = [0; 6];
        warp(&image, &Similarity::IDENTITY, window, &mut part);
        assert_eq!(
            part,
            [data[11], data[12], data[13], data[16], data[17], data[18]]
        );
    }

    #[test]
    fn a_half_pixel_shift_averages_and_the_border_is_black() {
        let data = [100u8, 200, 50, 0];
        let image = Image::<1>::new(&data, 4, 1).unwrap();
        let window = Window {
            x: 0,
            y: 0,
            width: 5,
            height: 1,
        };
        let mut out = [9; 5];
        warp(
            &image,
            &Similarity::new(1.0, 0.0, 0.5, 0.0),
            window,
            &mut out,
        );
        assert_eq!(out, [50, 150, 125, 25, 0]);
        warp(
            &image,
            &Similarity::new(1.0, 0.0, 1e9, -1e9),
            window,
            &mut out,
        );
        assert_eq!(out, [0; 5]);
    }

    #[test]
    fn channels_do_not_mix() {
        let data = [1u8, 2, 3, 11, 12, 13];
        let image = Image::<3>::new(&data, 2, 1).unwrap();
        let window = Window {
            x: 0,
            y: 0,
            width: 1,
            height: 1,
        };
        let mut out = [0; 3];
        warp(
            &image,
            &Similarity::new(1.0, 0.0, -0.5, 0.0),
            window,
            &mut out,
        );
        assert_eq!(out, [6, 7, 8]);
    }

    #[test]
    fn grey_of_grey_is_itself() {
        for v in 0..=255u8 {
            let mut grey = [0];
            rgb_to_grey(&[v; 3], &mut grey);
            assert_eq!(grey, [v]);
        }
        let mut grey = [0; 3];
        rgb_to_grey(&[255, 0, 0, 0, 255, 0, 0, 0, 255], &mut grey);
        assert_eq!(grey, [76, 150, 29]);
    }

    #[test]
    fn blending_keeps_its_ends_and_rounds_between() {
        let (a, b) = ([0u8, 255, 10], [255u8, 0, 20]);
        let mut out = [0; 3];
        blend(&a, &b, 0.0, &mut out);
        assert_eq!(out, a);
        blend(&a, &b, 1.0, &mut out);
        assert_eq!(out, b);
        blend(&a, &b, 0.25, &mut out);
        assert_eq!(out, [64, 191, 13]);
    }

    #[test]
    fn pictures_that_are_none_are_refused() {
        assert!(Image::<1>::new(&[], 0, 0).is_err());
        assert!(Image::<1>::new(&[0; 5], 2, 2).is_err());
        assert!(Image::<3>::new(&[0; 4], 2, 2).is_err());
        assert!(Image::<1>::new(&[0; 4], usize::MAX, 4).is_err());
        assert!(Image::<1>::new(&[0; 4], 40_000, 1).is_err());
    }
}
