//! Images to matrix rows: a convolution becomes a product of patches with kernels
//! (Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document
//! Processing", 2006), one band of output rows at a time so that the patches stay in the cache.

/// A square feature map [size, size, channels] and the square windows that slide over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Width and height of the map, padding included.
    pub size: usize,
    /// Values of a pixel.
    pub channels: usize,
    /// Width and height of a window.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
}

impl Windows {
    /// Windows side by side; `None` if not one fits or a field is zero.
    pub fn count(&self) -> Option<usize> {
        let room = self.size.checked_sub(self.kernel)?;
        (self.kernel > 0 && self.channels > 0).then_some(())?;
        Some(room.checked_div(self.stride)? + 1)
    }

    /// Values of one window; `None` if that overflows.
    pub fn values(&self) -> Option<usize> {
        self.kernel
            .checked_mul(self.kernel)?
            .checked_mul(self.channels)
    }

    /// Output rows worked on at a time: enough patches for a matrix kernel to reuse its weights.
    pub fn band(&self) -> Option<usize> {
        let count = self.count()?;
        Some((PATCHES / count).clamp(1, count))
    }
}

/// Copies the windows of output rows `first..` of `map`, as many as `rows` has room for, one every
/// `stride` elements into `rows`, each in the order (y, x, channel).
pub fn im2row<T: Copy>(map: &[T], windows: &Windows, first: usize, stride: usize, rows: &mut [T]) {
    let (Some(count), Some(len)) = (windows.count(), windows.values()) else {
        return;
    };
    let line = (windows.size * windows.channels).max(1);
    let run = (windows.kernel * windows.channels).max(1);
    let count = count.max(1);
    for (i, row) in rows.chunks_exact_mut(stride.max(len).max(1)).enumerate() {
        let (y, x) = (first + i / count, i % count);
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
        let windows = Windows {
            size: 7,
            channels: 2,
            kernel: 3,
            stride: 2,
        };
        assert_eq!(
            (windows.count(), windows.values(), windows.band()),
            (Some(3), Some(18), Some(3))
        );
        let map: Vec<u8> = (0..7 * 7 * 2).collect();
        let mut rows = std::vec![0; 2 * 3 * 20];
        im2row(&map, &windows, 1, 20, &mut rows);
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
    fn impossible_windows_are_told_apart() {
        let windows = Windows {
            size: 7,
            channels: 2,
            kernel: 8,
            stride: 2,
        };
        assert_eq!(windows.count(), None);
        assert_eq!(
            Windows {
                stride: 0,
                kernel: 3,
                ..windows
            }
            .count(),
            None
        );
        assert_eq!(
            Windows {
                kernel: 0,
                ..windows
            }
            .count(),
            None
        );
        im2row(&[0u8; 98], &windows, 0, 10, &mut [0; 10]);
    }
}
