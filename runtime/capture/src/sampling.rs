//! Rendering parts of a frame through a similarity transform without skipping pixels.

use viseme_engine::preprocess::similarity::Similarity;
use viseme_engine::preprocess::warp::{Image, Window, warp};

use crate::Frame;

/// Renders `window` of the picture that `transform` makes of `frame` into `out`.
///
/// As [`warp`], but what would be shrunk to less than half its size is averaged down first: sampling it directly would
/// skip pixels.
pub(crate) fn render(frame: &Frame, transform: &Similarity, window: Window, out: &mut [u8]) {
    let factor = (1.0 / transform.scale()).floor().min(16.0) as usize;
    let factor = factor.min(frame.width).min(frame.height);
    if factor < 2 {
        let picture =
            Image::<1>::new(&frame.pixels, frame.width, frame.height).expect("frames are whole");
        warp(&picture, transform, window, out);
        return;
    }
    let (small, width, height) = shrunk(frame, factor);
    let picture = Image::<1>::new(&small, width, height).expect("frames are whole");
    // The centre of a small pixel in pixels of the frame.
    let middle = (factor as f64 - 1.0) / 2.0;
    let transform = Similarity::new(factor as f64, 0.0, middle, middle).then(transform);
    warp(&picture, &transform, window, out);
}

/// Means of `factor` x `factor` blocks; what is left over at the right and below is dropped.
fn shrunk(frame: &Frame, factor: usize) -> (Vec<u8>, usize, usize) {
    let (width, height) = (frame.width / factor, frame.height / factor);
    let area = (factor * factor) as u32;
    let mut out = Vec::with_capacity(width * height);
    let mut sums = vec![0_u32; width];
    for rows in frame.pixels.chunks_exact(frame.width * factor).take(height) {
        sums.fill(0);
        for row in rows.chunks_exact(frame.width) {
            for (sum, block) in sums.iter_mut().zip(row.chunks_exact(factor)) {
                *sum += block.iter().map(|&v| u32::from(v)).sum::<u32>();
            }
        }
        out.extend(sums.iter().map(|sum| ((sum + area / 2) / area) as u8));
    }
    (out, width, height)
}
