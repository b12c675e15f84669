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

/// Finds the faces among the cells' raw outputs, best first; fills `out` and returns how many it holds.
///
/// `heads` is [cells of stride 8, then 16, then 32, in rows][16]; its content is lost. `padded` is the
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
    // Candidates move to the front; class and objectness make room for score and cell number (exact in f32: there are
    // fewer than 2^24 cells).
    let mut candidates = 0;
    for index in 0..cells.len() {
        let mut cell = cells[index];
        let score = math::sqrt(math::sigmoid(cell[0]) * math::sigmoid(cell[1]));
        let finite = cell.iter().all(|value| value.is_finite());
        if finite && score >= threshold {
            (cell[0], cell[1]) = (score, index as f32);
            cells[candidates] = cell;
            candidates += 1;
        }
    }
    let candidates = &mut cells[..candidates];
    // Equal scores in the order of the cells, as a stable sort would have them.
    candidates.sort_unstable_by(|a, b| b[0].total_cmp(&a[0]).then(a[1].total_cmp(&b[1])));

    let mut found = 0;
    for cell in candidates {
        if found == out.len() {
            break;
        }
        let face = decode(cell, padded);
        if face.is_finite()
            && out[..found]
                .iter()
                .all(|kept| face.overlap(kept) <= overlap)
        {
            out[found] = face;
            found += 1;
        }
    }
    out[..found]
        .iter_mut()
        .for_each(|face| *face = face.scaled(scale));
    found
}

/// The face that a candidate (score, cell number, box, points) describes, in pixels of the network's input.
fn decode(cell: &[f32; HEAD], padded: [usize; 2]) -> Face {
    let mut index = cell[1] as usize;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads for an input of 32 x 32: 16 cells, 4 cells, 1 cell, none of them a face.
    fn heads() -> [[f32; HEAD]; 21] {
        let mut cell = [0.0; HEAD];
        (cell[0], cell[1]) = (-20.0, -20.0);
        [cell; 21]
    }

    fn run(heads: &mut [[f32; HEAD]; 21], threshold: f32, out: &mut [Face]) -> usize {
        find(
            heads.as_flattened_mut(),
            [32, 32],
            [2.0, 4.0],
            threshold,
            0.3,
            out,
        )
    }

    #[test]
    fn a_cell_becomes_a_face() {
        let mut heads = heads();
        // Stride 16, column 1, row 0: logit 0 is 1/2 for class and objectness.
        heads[17] = [
            0.0,
            0.0,
            0.5,
            0.25,
            0.0,
            2f32.ln(),
            0.0,
            0.0,
            1.0,
            0.0,
            0.0,
            1.0,
            -1.0,
            0.5,
            0.5,
            -1.0,
        ];
        let mut out = [Face::default(); 2];
        assert_eq!(run(&mut heads, 0.5, &mut out), 1);
        let face = out[0];
        // Centre (1.5, 0.25) cells = (24, 4) pixels, 16 wide, 32 high; then 2 and 4 source pixels per pixel.
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-4, "{a} {b}");
        close(face.score, 0.5);
        close(face.x, 32.0);
        close(face.y, -48.0);
        close(face.w, 32.0);
        close(face.h, 128.0);
        let points = [
            (32.0, 0.0),
            (64.0, 0.0),
            (32.0, 64.0),
            (0.0, 32.0),
            (48.0, -64.0),
        ];
        for ((x, y), (want_x, want_y)) in face.points.into_iter().zip(points) {
            close(x, want_x);
            close(y, want_y);
        }
    }

    #[test]
    fn doubles_go_and_the_best_come_first() {
        let mut heads = heads();
        let size = 3f32.ln(); // 24 pixels
        for (cell, logit) in [(0, 1.0), (1, 3.0), (15, 2.0)] {
            (heads[cell][0], heads[cell][1]) = (logit, logit);
            (heads[cell][4], heads[cell][5]) = (size, size);
        }
        let mut out = [Face::default(); 3];
        // Cells 0 and 1 are 8 pixels apart (overlap 16/32), cell 15 is 16 and 24 pixels from cell 1 (no overlap).
        assert_eq!(run(&mut heads.clone(), 0.5, &mut out), 2);
        assert!(out[0].score > out[1].score);
        assert_eq!(out[0].x, 2.0 * (8.0 - 12.0));
        assert_eq!(out[1].x, 2.0 * (24.0 - 12.0));
        assert_eq!(run(&mut heads.clone(), 0.5, &mut out[..1]), 1);
        assert_eq!(run(&mut heads.clone(), 0.9, &mut out), 1);
        assert_eq!(run(&mut heads, 0.99, &mut out), 0);
    }

    #[test]
    fn values_that_are_not_numbers_are_no_faces() {
        let mut heads = heads();
        for (i, bad) in [f32::NAN, f32::INFINITY, 1e30, f32::NEG_INFINITY]
            .into_iter()
            .enumerate()
        {
            heads[i] = [9.0; HEAD];
            heads[i][4] = bad;
        }
        heads[4][0] = f32::NAN;
        let mut out = [Face::default(); 8];
        assert_eq!(run(&mut heads.clone(), 0.0, &mut out[..0]), 0);
        let found = run(&mut heads, 0.5, &mut out);
        assert!(out[..found].iter().all(Face::is_finite));
        assert_eq!(found, 0);
    }
}
