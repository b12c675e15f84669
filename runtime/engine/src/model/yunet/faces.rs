//! From the heads' numbers to faces: decoding and suppression of doubles.
//!
//! The same arithmetic as OpenCV's `FaceDetectorYN` (modules/objdetect/src/face_detect.cpp), so that its users find the
//! numbers they know: score = sqrt(class · objectness), boxes around cells of each stride, greedy suppression on boxes
//! cut to whole pixels.

use crate::math;

/// A face, in pixels of the source image; positions may lie outside it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Face {
    /// Confidence, 0..=1.
    pub score: f32,
    /// Left edge of the box.
    pub x: f32,
    /// Top edge of the box.
    pub y: f32,
    /// Width of the box.
    pub w: f32,
    /// Height of the box.
    pub h: f32,
    /// Eyes, nose tip and corners of the mouth, those of the person's right side (on the image's left) first:
    /// right eye, left eye, nose, right corner, left corner; (x, y) each.
    pub points: [(f32, f32); 5],
}

/// Channels of a head: class, objectness, box, points.
pub(super) const HEAD: usize = 16;

/// Strides of the three levels, in pixels.
pub(super) const STRIDES: [usize; 3] = [8, 16, 32];

/// Marks a cell that is no candidate.
const NONE: f32 = -1.0;

/// Finds the faces among the cells' raw outputs, best first; fills `out` and returns how many it holds.
///
/// `heads` is [cells of stride 8, then 16, then 32, in rows][16]; its first channel is overwritten. `padded` is the
/// network's input size, `scale` source pixels per input pixel.
pub(super) fn find(
    heads: &mut [f32],
    padded: [usize; 2],
    scale: [f32; 2],
    threshold: f32,
    overlap: f32,
    out: &mut [Face],
) -> usize {
    let (cells, _) = heads.as_chunks_mut::<HEAD>();
    for cell in cells.iter_mut() {
        let score = math::sqrt(math::sigmoid(cell[0]) * math::sigmoid(cell[1]));
        // NaN is no candidate either.
        cell[0] = if score >= threshold { score } else { NONE };
    }
    let mut found = 0;
    while found < out.len() {
        // The first of equal scores, as a stable sort would have it.
        let mut best = NONE;
        let mut at = 0;
        for (i, cell) in cells.iter().enumerate() {
            if cell[0] > best {
                (best, at) = (cell[0], i);
            }
        }
        if best <= NONE {
            break;
        }
        let face = decode(&cells[at], at, padded);
        cells[at][0] = NONE;
        if !face.is_finite() || out[..found].iter().any(|kept| face.overlap(kept) > overlap) {
            continue;
        }
        out[found] = face;
        found += 1;
    }
    out[..found]
        .iter_mut()
        .for_each(|face| *face = face.scaled(scale));
    found
}

/// The face that cell number `index` describes, in pixels of the network's input; `cell[0]` holds its score.
fn decode(cell: &[f32; HEAD], mut index: usize, padded: [usize; 2]) -> Face {
    let mut stride = STRIDES[0];
    for next in &STRIDES[1..] {
        let cells = (padded[0] / stride) * (padded[1] / stride);
        if index < cells {
            break;
        }
        index -= cells;
        stride = *next;
    }
    let columns = padded[0] / stride;
    let (column, row) = ((index % columns) as f32, (index / columns) as f32);
    let stride = stride as f32;
    let [w, h] = [4, 5].map(|i| math::exp(cell[i]) * stride);
    Face {
        score: cell[0],
        x: (column + cell[2]) * stride - w / 2.0,
        y: (row + cell[3]) * stride - h / 2.0,
        w,
        h,
        points: [0, 1, 2, 3, 4].map(|n| {
            let (x, y) = (cell[6 + 2 * n], cell[7 + 2 * n]);
            ((x + column) * stride, (y + row) * stride)
        }),
    }
}

impl Face {
    /// Intersection over union of the two boxes cut to whole pixels.
    fn overlap(&self, other: &Self) -> f32 {
        let cut = |face: &Self| [face.x, face.y, face.w, face.h].map(|v| i64::from(v as i32));
        let (a, b) = (cut(self), cut(other));
        let side = |i: usize| ((a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i])).max(0);
        let common = side(0) as f32 * side(1) as f32;
        let area = |r: [i64; 4]| r[2] as f32 * r[3] as f32;
        let union = area(a) + area(b) - common;
        if union > 0.0 { common / union } else { 1.0 }
    }

    fn is_finite(&self) -> bool {
        let points = self
            .points
            .iter()
            .all(|(x, y)| x.is_finite() && y.is_finite());
        points
            && [self.x, self.y, self.w, self.h]
                .iter()
                .all(|v| v.is_finite())
    }

    fn scaled(&self, [sx, sy]: [f32; 2]) -> Self {
        Self {
            score: self.score,
            x: self.x * sx,
            y: self.y * sy,
            w: self.w * sx,
            h: self.h * sy,
            points: self.points.map(|(x, y)| (x * sx, y * sy)),
        }
    }
}
