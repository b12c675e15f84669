//! Images to matrix rows: a convolution becomes a product of patches with kernels
//! (Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document
//! Processing", 2006), one band of output rows at a time so that the patches stay in the cache.

/// A feature map [height, width, channels] and the windows that slide over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Height and width of the map, padding included.
    pub size: [usize; 2],
    /// Values of a pixel.
    pub channels: usize,
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next, and to the one below.
    pub stride: usize,
}

impl Windows {
    /// Square windows on a square map.
    pub fn square(size: usize, channels: usize, kernel: usize, stride: usize) -> Self {
        Windows {
            size: [size; 2],
            channels,
            kernel: [kernel; 2],
            stride,
        }
    }

    /// Rows of windows, and windows side by side; `None` if not one fits or a field is zero.
    pub fn count(&self) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let room = self.size[axis].checked_sub(self.kernel[axis])?;
            (self.kernel[axis] > 0 && self.channels > 0).then_some(())?;
            Some(room.checked_div(self.stride)? + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Values of one window; `None` if that overflows.
    pub fn values(&self) -> Option<usize> {
        let [height, width] = self.kernel;
        height.checked_mul(width)?.checked_mul(self.channels)
    }

    /// Output rows worked on at a time: enough patches for a matrix kernel to reuse its weights.
    pub fn band(&self) -> Option<usize> {
        let [rows, columns] = self.count()?;
        Some((PATCHES / columns).clamp(1, rows))
    }
}

/// Copies the windows of `map` from window `first` on, counted row by row, as many as `rows` has room for, one every
/// `stride` elements into `rows`, each in the order (y, x, channel).
pub fn im2row<T: Copy>(map: &[T], windows: &Windows, first: usize, stride: usize, rows: &mut [T]) {
    let (Some([_, columns]), Some(len)) = (windows.count(), windows.values()) else {
        return;
    };
    let line = (windows.size[1] * windows.channels).max(1);
    let run = (windows.kernel[1] * windows.channels).max(1);
    let columns = columns.max(1);
    for (i, row) in (first..).zip(rows.chunks_exact_mut(stride.max(len).max(1))) {
        let (y, x) = (i / columns, i % columns);
        let corner = y * windows.stride * line + x * windows.stride * windows.channels;
        let from = map.get(corner..).unwrap_or(&[]);
        let row = row.get_mut(..len).unwrap_or_default();
        for (to, from) in row.chunks_exact_mut(run).zip(from.chunks(line)) {
            if from.len() >= to.len() {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

const PATCHES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn windows_hold_the_pixels_they_cover() {
        let windows = Windows::square(7, 2, 3, 2);
        assert_eq!(
            (windows.count(), windows.values(), windows.band()),
            (Some([3, 3]), Some(18), Some(3))
        );
        let map: Vec<u8> = (0..7 * 7 * 2).collect();
        let mut rows = std::vec![0; 2 * 3 * 20];
        im2row(&map, &windows, 3, 20, &mut rows);
        let rows = rows.chunks(20).flat_map(|row| &row[..18]);
        for (i, &got) in rows.enumerate() {
            let (window, at) = (i / 18, i % 18);
            let (wy, wx) = (1 + window / 3, window % 3);
            let (ky, kx, c) = (at / 6, at / 2 % 3, at % 2);
            let want = ((wy * 2 + ky) * 7 + wx * 2 + kx) * 2 + c;
            assert_eq!(usize::from(got), want);
        }
    }

    #[test]
    fn windows_of_sound_are_one_sample_high() {
        let windows = Windows {
            size: [1, 10],
            channels: 1,
            kernel: [1, 4],
            stride: 3,
        };
        assert_eq!(windows.count(), Some([1, 3]));
        let samples: Vec<u8> = (0..10).collect();
        let mut rows = std::vec![0; 2 * 4];
        im2row(&samples, &windows, 1, 4, &mut rows);
        assert_eq!(rows, [3, 4, 5, 6, 6, 7, 8, 9]);
    }

    #[test]
    fn impossible_windows_are_told_apart() {
        let windows = Windows::square(7, 2, 8, 2);
        assert_eq!(windows.count(), None);
        assert_eq!(Windows::square(7, 2, 3, 0).count(), None);
        assert_eq!(Windows::square(7, 2, 0, 2).count(), None);
        im2row(&[0u8; 98], &windows, 0, 10, &mut [0; 10]);
    }
}
