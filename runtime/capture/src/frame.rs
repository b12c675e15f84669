//! One grey picture with the moment it was taken, and the area average that keeps pictures small.

/// Longest side of a frame that any source hands out, in pixels. Larger pictures are averaged down on reading.
pub const MAX_SIDE: usize = 1280;

/// A grey picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width and height of the picture as it was before it was averaged down.
    pub shown: (usize, usize),
    /// When it was taken, in microseconds since the start of the source.
    pub timestamp_us: u64,
    /// `width * height` grey values, row by row, 0 black to 255 white.
    pub pixels: Vec<u8>,
}

impl Frame {
    /// Replaces the picture by `pixels` (`width * height` grey values), averaged down to [`MAX_SIDE`] if it is larger.
    ///
    /// # Panics
    /// If `pixels` is not `width * height` long; callers have checked their input.
    pub fn set(&mut self, width: usize, height: usize, pixels: &[u8]) {
        assert_eq!(pixels.len(), width * height);
        self.shown = (width, height);
        (self.width, self.height) = fitted(width, height);
        if (self.width, self.height) == (width, height) {
            self.pixels.clear();
            self.pixels.extend_from_slice(pixels);
        } else {
            average_down(
                pixels,
                width,
                height,
                self.width,
                self.height,
                &mut self.pixels,
            );
        }
    }
}

/// Size that a `width` x `height` picture has after it was fitted into [`MAX_SIDE`]; never larger than it was.
pub fn fitted(width: usize, height: usize) -> (usize, usize) {
    let long = width.max(height);
    if long <= MAX_SIDE {
        return (width, height);
    }
    let fit = |side: usize| ((side * MAX_SIDE + long / 2) / long).max(1);
    (fit(width), fit(height))
}

/// Area average: each target pixel is the mean of the source area that it covers, edges weighted by their share.
fn average_down(
    source: &[u8],
    width: usize,
    height: usize,
    to_width: usize,
    to_height: usize,
    out: &mut Vec<u8>,
) {
    let columns = spans(width, to_width);
    let rows = spans(height, to_height);
    let area = width as u64 * height as u64;
    out.clear();
    out.reserve(to_width * to_height);
    let mut sums = vec![0_u64; to_width];
    for row in &rows {
        sums.fill(0);
        for y in row.first..=row.last {
            let line = &source[y * width..][..width];
            let row_weight = row.weight(y, height, to_height);
            for (sum, column) in sums.iter_mut().zip(&columns) {
                let inner: u64 = (column.first..=column.last)
                    .map(|x| u64::from(line[x]) * column.weight(x, width, to_width))
                    .sum();
                *sum += inner * row_weight;
            }
        }
        // All weights of one target pixel add up to width * height, in units of 1 / (to_width * to_height) pixel.
        out.extend(sums.iter().map(|sum| ((sum + area / 2) / area) as u8));
    }
}

/// Source pixels `first..=last` that one target pixel touches.
struct Span {
    index: usize,
    first: usize,
    last: usize,
}

impl Span {
    /// Overlap of source pixel `at` with this span, in units of `1 / to` source pixels.
    fn weight(&self, at: usize, from: usize, to: usize) -> u64 {
        let start = (at * to).max(self.index * from);
        let end = ((at + 1) * to).min((self.index + 1) * from);
        (end - start) as u64
    }
}

fn spans(from: usize, to: usize) -> Vec<Span> {
    (0..to)
        .map(|index| Span {
            index,
            first: index * from / to,
            last: ((index + 1) * from - 1) / to,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_are_kept_and_large_ones_fitted() {
        assert_eq!(fitted(1280, 720), (1280, 720));
        assert_eq!(fitted(3840, 2160), (1280, 720));
        assert_eq!(fitted(4320, 7680), (720, 1280));
        assert_eq!(fitted(100_000, 1), (1280, 1));
    }

    #[test]
    fn whole_blocks_are_plain_means() {
        let mut out = Vec::new();
        average_down(&[0, 10, 100, 200, 20, 30, 50, 50], 4, 2, 2, 1, &mut out);
        assert_eq!(out, [15, 100]);
    }

    #[test]
    fn fractional_blocks_weigh_their_edges() {
        // Three pixels to two: each target holds one and a half, so (2*a + b)/3 and (b + 2*c)/3.
        let mut out = Vec::new();
        average_down(&[0, 90, 240], 3, 1, 2, 1, &mut out);
        assert_eq!(out, [30, 190]);
        average_down(&[0, 90, 240], 1, 3, 1, 2, &mut out);
        assert_eq!(out, [30, 190]);
    }

    #[test]
    fn a_flat_8k_picture_stays_flat() {
        let mut frame = Frame::default();
        frame.set(7680, 4320, &vec![201; 7680 * 4320]);
        assert_eq!((frame.width, frame.height), (1280, 720));
        assert_eq!(frame.shown, (7680, 4320));
        assert!(frame.pixels.iter().all(|&v| v == 201));
    }
}
