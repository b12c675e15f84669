//! Convolutions of int8 maps in place (Dukhan, "The Indirect Convolution Algorithm", 2019): windows are not copied, since
//! what a line of a window covers lies side by side in the map, as its weights do in the panels.
//!
//! What a window covers of the border is not multiplied: the border is zero, so it would add nothing. Windows over the
//! same part of the border are computed together.

use core::iter::from_fn;
use core::ops::Range;

use viseme_format::panels::{INPUTS, OUTPUTS};

use super::im2row::Windows;
use super::panels::{Block, Group, Lines, PANELS, Row, Rows, Sums, Tile, add, take};
use super::{QuantRows, WeightsI8, code_stride};
use crate::parts::{equal_parts, part};

/// Windows on maps within a border of zeros that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    windows: Windows,
    border: [usize; 2],
}

/// Most pixels of a window.
const TAPS: usize = 9;

impl Convolution {
    /// `windows` slide over maps with `border` more lines above and below, and columns at both sides, than they have.
    ///
    /// `None` unless there are windows and pixels, a window has at most 9 of them and is no smaller than the border, and a
    /// pixel has whole groups of values.
    pub fn new(windows: Windows, border: [usize; 2]) -> Option<Self> {
        let taps = windows.kernel[0].checked_mul(windows.kernel[1])?;
        let fits = windows.channels.is_multiple_of(INPUTS) && taps <= TAPS;
        let has_pixels = |axis: usize| {
            border[axis] <= windows.kernel[axis] && windows.size[axis] > 2 * border[axis]
        };
        (fits && windows.count().is_some() && has_pixels(0) && has_pixels(1))
            .then_some(Convolution { windows, border })
    }

    /// Height and width of the maps.
    fn size(&self) -> [usize; 2] {
        let along = |axis: usize| self.windows.size[axis] - 2 * self.border[axis];
        [along(0), along(1)]
    }

    /// Windows along an axis, in spans that cover the border alike.
    fn spans(&self, axis: usize) -> impl Iterator<Item = Span> {
        let Windows { kernel, stride, .. } = self.windows;
        let (kernel, border) = (kernel[axis], self.border[axis]);
        let end = border + self.size()[axis];
        let taps = move |window: usize| {
            let at = window * stride;
            border.saturating_sub(at).min(kernel)..end.saturating_sub(at).min(kernel)
        };
        let count = self.windows.count().map_or(0, |count| count[axis]);
        let mut next = 0;
        from_fn(move || {
            let first = next;
            while next < count && taps(next) == taps(first) {
                next += 1;
            }
            (first < next).then(|| Span {
                windows: first..next,
                taps: taps(first),
            })
        })
    }

    /// The first element along an axis that a window of the span covers, in the map.
    fn start(&self, axis: usize, span: &Span, window: usize) -> usize {
        (window * self.windows.stride + span.taps.start).saturating_sub(self.border[axis])
    }
}

/// Windows along an axis, and their pixels that are in the map.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    windows: Range<usize>,
    taps: Range<usize>,
}

/// See [`Kernels::convolve_i8`](super::Kernels::convolve_i8).
#[inline(always)]
pub fn convolve<T: Tile>(
    tile: T,
    over: &Convolution,
    x: QuantRows<'_>,
    w: WeightsI8<'_>,
    bias: &[f32],
    y: &mut [f32],
) {
    let ([height, width], windows) = (over.size(), over.windows);
    let [lines, columns] = windows.count().unwrap_or([0; 2]);
    let pixel = windows.channels / INPUTS;
    let map = code_stride(height * width * windows.channels) / INPUTS;
    let (codes, _) = x.codes.as_chunks::<INPUTS>();
    let maps = x.scale.len().min(codes.len() / map.max(1));
    let units = w.units().max(1);
    let mut chunks = w.panels().chunks(PANELS * units).peekable();
    let mut first = 0;
    while let Some(panels) = chunks.next() {
        let mut ahead = chunks.peek().copied().unwrap_or(&[]);
        let sums = tap_sums(tile, panels, units, pixel);
        for down in over.spans(0) {
            for across in over.spans(1) {
                let mut colsum = [[0; OUTPUTS]; PANELS];
                for line in down.taps.clone() {
                    let at = line * windows.kernel[1];
                    let taps = part(&sums, at + across.taps.start, across.taps.len());
                    for tap in taps {
                        add(colsum.as_flattened_mut(), tap.as_flattened());
                    }
                }
                let block = Block {
                    tile,
                    rows: WindowRows {
                        codes,
                        lines: Lines {
                            count: down.taps.len(),
                            len: across.taps.len() * pixel,
                            apart: width * pixel,
                            weights_apart: windows.kernel[1] * pixel,
                        },
                        weights: (down.taps.start * windows.kernel[1] + across.taps.start) * pixel,
                        first,
                        colsum: &colsum,
                    },
                    panels,
                    units,
                    first,
                    scale: w.scale(),
                    bias,
                };
                let quant = x.scale.iter().zip(x.zero).take(maps);
                let rows = quant.enumerate().flat_map(|(m, (&scale, &zero))| {
                    let pairs = (down.windows.clone())
                        .flat_map(|y| across.windows.clone().map(move |x| (y, x)));
                    let (down, across) = (&down, &across);
                    pairs.map(move |(y, x)| {
                        let start = over.start(0, down, y) * width + over.start(1, across, x);
                        Row {
                            from: m * map + start * pixel,
                            to: ((m * lines + y) * columns + x) * w.outputs(),
                            scale,
                            zero,
                        }
                    })
                });
                block.run_all(rows, &mut ahead, y);
            }
        }
        first += PANELS * OUTPUTS;
    }
}

/// Sums of the weights of each pixel of a window, in some panels.
#[inline(always)]
fn tap_sums<T: Tile>(
    tile: T,
    panels: &[Group],
    units: usize,
    pixel: usize,
) -> [[Sums; PANELS]; TAPS] {
    // Groups of ones: products with them are sums.
    const LEN: usize = 64;
    let ones = [[(T::OFFSET + 1) as u8; INPUTS]; LEN];
    let mut all = [[[0; OUTPUTS]; PANELS]; TAPS];
    for (tap, sums) in all.iter_mut().enumerate() {
        for at in (tap * pixel..((tap + 1) * pixel).min(units)).step_by(LEN) {
            let len = LEN.min((tap + 1) * pixel - at);
            let ones = [part(&ones, 0, len)];
            let whole = match panels.len() == PANELS * units {
                true => equal_parts::<_, PANELS>(panels, units),
                false => None,
            };
            if let Some(mut w) = whole {
                for w in &mut w {
                    *w = part(w, at, len);
                }
                let more = tile.sums(ones, w);
                for (sums, [more]) in sums.iter_mut().zip(&more) {
                    add(sums, more);
                }
            } else {
                for (sums, panel) in sums.iter_mut().zip(panels.chunks_exact(units)) {
                    let [[more]] = &tile.sums(ones, [part(panel, at, len)]);
                    add(sums, more);
                }
            }
        }
    }
    all
}

/// Windows in maps, or the lines of them that are there.
#[derive(Clone, Copy)]
struct WindowRows<'x> {
    codes: &'x [[u8; INPUTS]],
    lines: Lines,
    /// Groups of weights before the first line.
    weights: usize,
    /// The first output, and sums of the weights that the lines meet.
    first: usize,
    colsum: &'x [Sums; PANELS],
}

impl Rows<Group> for WindowRows<'_> {
    #[inline(always)]
    fn sums<T: Tile, const M: usize, const P: usize>(
        &self,
        tile: T,
        rows: &[Row; M],
        w: [&[Group]; P],
        ahead: &mut &[Group],
    ) -> [[Sums; M]; P] {
        // Windows of nothing but border.
        if self.lines.count == 0 || self.lines.len == 0 {
            return [[[0; OUTPUTS]; M]; P];
        }
        let [codes, weights] = self.lines.spans();
        let mut x = [self.codes; M];
        for (x, row) in x.iter_mut().zip(rows) {
            *x = part(self.codes, row.from, codes);
        }
        let mut w = w;
        for w in &mut w {
            *w = part(w, self.weights, weights);
        }
        let ahead = take(ahead, self.lines.count * self.lines.len);
        tile.line_sums(self.lines, x, w, ahead)
    }

    #[inline(always)]
    fn colsum(&self, output: usize) -> Sums {
        let panel = (output - self.first) / OUTPUTS;
        self.colsum.get(panel).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn windows_over_the_same_border_are_together() {
        let spans = |size: usize, stride| {
            let over = Convolution::new(Windows::square(size + 2, 4, 3, stride), [1, 1]).unwrap();
            let spans: Vec<_> = over.spans(0).map(|s| (s.windows, s.taps)).collect();
            spans
        };
        assert_eq!(spans(1, 1), [(0..1, 1..2)]);
        assert_eq!(spans(2, 1), [(0..1, 1..3), (1..2, 0..2)]);
        assert_eq!(spans(6, 1), [(0..1, 1..3), (1..5, 0..3), (5..6, 0..2)]);
        assert_eq!(spans(6, 2), [(0..1, 1..3), (1..3, 0..3)]);
    }

    #[test]
    fn what_needs_copies_is_refused() {
        let new = |size, channels, kernel, border| {
            Convolution::new(Windows::square(size, channels, kernel, 1), border)
        };
        assert!(new(8, 4, 3, [1, 1]).is_some());
        assert!(new(8, 6, 3, [1, 1]).is_none(), "channels");
        assert!(new(8, 4, 5, [2, 2]).is_none(), "pixels of a window");
        assert!(new(2, 4, 3, [1, 1]).is_none(), "no window");
        assert!(new(4, 4, 3, [2, 0]).is_none(), "no map");
        assert!(
            new(12, 4, 3, [4, 0]).is_none(),
            "windows of nothing but border"
        );
    }
}
