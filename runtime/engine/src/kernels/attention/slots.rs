//! Keys, values and position vectors as int8, in the panels that the matrix kernels read.
//!
//! A vector of all heads goes into a slot. Each head's part is quantised by itself, symmetrically. Frames go round:
//! frame f is in slot f mod slots, so a cache of limited length needs no moving. Where a product's sums run over
//! the elements of a head (keys, positions), 16 slots are a panel ([`VectorSlots`]); where they run over the slots
//! (values), 16 elements are ([`ValueSlots`]).

use viseme_format::panels::{INPUTS, OUTPUTS};

use crate::kernels::panels::Group;
use crate::kernels::portable::quantize_symmetric;

/// Elements of a head, and how many heads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads H.
    pub count: usize,
    /// Elements d_k of each.
    pub width: usize,
}

impl Heads {
    /// Groups of elements of a head.
    pub fn groups(&self) -> usize {
        self.width.div_ceil(INPUTS)
    }

    /// Panels of elements of a head.
    pub fn panels(&self) -> usize {
        self.width.div_ceil(OUTPUTS)
    }
}

/// Slots for `frames` vectors: whole panels.
pub fn slots_for(frames: usize) -> usize {
    frames.next_multiple_of(OUTPUTS)
}

/// Sizes of the memory behind [`VectorSlots`]: groups, scales and sums; `None` if they overflow.
pub fn vector_sizes(heads: Heads, slots: usize) -> Option<[usize; 3]> {
    let each = heads.count.checked_mul(slots)?;
    let groups = (each / OUTPUTS).checked_mul(heads.groups())?;
    Some([groups, each, each])
}

/// Sizes of the memory behind [`ValueSlots`]: groups and scales; `None` if they overflow.
pub fn value_sizes(heads: Heads, slots: usize) -> Option<[usize; 2]> {
    let each = heads.count.checked_mul(slots)?;
    let groups = (each / INPUTS).checked_mul(heads.panels())?;
    Some([groups, each])
}

/// Vectors whose elements are summed over: keys, position vectors.
#[derive(Debug)]
pub struct VectorSlots<'s> {
    /// [head][slot / 16][element / 4][slot mod 16][element mod 4].
    pub panels: &'s mut [Group],
    /// [head][slot].
    pub scale: &'s mut [f32],
    /// Sum of the codes, [head][slot].
    pub sum: &'s mut [i32],
}

/// Vectors that are summed over: values.
#[derive(Debug)]
pub struct ValueSlots<'s> {
    /// [head][element / 16][slot / 4][element mod 16][slot mod 4].
    pub panels: &'s mut [Group],
    /// [head][slot].
    pub scale: &'s mut [f32],
}

/// Codes of a head that fit on the stack; wider heads are quantised in parts of one scale.
const WIDEST: usize = 64;

impl VectorSlots<'_> {
    /// Number of slots.
    pub fn slots(&self, heads: Heads) -> usize {
        self.scale.len() / heads.count.max(1)
    }

    /// Puts rows of all heads into the slots of the frames from `first` on.
    #[inline(always)]
    pub fn put_rows(&mut self, heads: Heads, first: usize, rows: &[f32]) {
        let slots = self.slots(heads).max(1);
        for (frame, row) in (first..).zip(rows.chunks_exact((heads.count * heads.width).max(1))) {
            self.put(heads, frame % slots, row);
        }
    }

    /// Puts a vector into a slot: codes = rne(x / scale) in −127..=127 with scale = max |x| / 127, head by head.
    #[inline(always)]
    pub fn put(&mut self, heads: Heads, slot: usize, vector: &[f32]) {
        let (slots, groups) = (self.slots(heads), heads.groups());
        for (h, part) in vector.chunks_exact(heads.width.max(1)).enumerate() {
            let at = h * slots + slot;
            let panel = at / OUTPUTS * groups;
            let Some(panel) = self.panels.get_mut(panel..panel + groups) else {
                return;
            };
            let (mut scale, mut sum) = (0.0, 0);
            quantized(part, |first, codes, step| {
                scale = step;
                let fours = codes.as_chunks::<INPUTS>().0;
                for (group, &four) in panel.iter_mut().skip(first / INPUTS).zip(fours) {
                    if let Some(to) = group.get_mut(at % OUTPUTS) {
                        *to = four;
                    }
                    sum += four.iter().map(|&c| i32::from(c)).sum::<i32>();
                }
            });
            if let (Some(to_scale), Some(to_sum)) = (self.scale.get_mut(at), self.sum.get_mut(at)) {
                (*to_scale, *to_sum) = (scale, sum);
            }
        }
    }
}

impl ValueSlots<'_> {
    /// Number of slots.
    pub fn slots(&self, heads: Heads) -> usize {
        self.scale.len() / heads.count.max(1)
    }

    /// Puts rows of all heads into the slots of the frames from `first` on.
    #[inline(always)]
    pub fn put_rows(&mut self, heads: Heads, first: usize, rows: &[f32]) {
        let slots = self.slots(heads).max(1);
        for (frame, row) in (first..).zip(rows.chunks_exact((heads.count * heads.width).max(1))) {
            self.put(heads, frame % slots, row);
        }
    }

    /// Puts a vector into a slot, quantised as by [`VectorSlots::put`].
    #[inline(always)]
    pub fn put(&mut self, heads: Heads, slot: usize, vector: &[f32]) {
        let slots = self.slots(heads);
        let (panels, groups) = (heads.panels(), slots / INPUTS);
        for (h, part) in vector.chunks_exact(heads.width.max(1)).enumerate() {
            let mut scale = 0.0;
            quantized(part, |first, codes, step| {
                scale = step;
                for (p, sixteen) in codes.chunks(OUTPUTS).enumerate() {
                    let panel = h * panels + first / OUTPUTS + p;
                    let Some(group) = self.panels.get_mut(panel * groups + slot / INPUTS) else {
                        return;
                    };
                    for (to, &code) in group.iter_mut().zip(sixteen) {
                        to[slot % INPUTS] = code;
                    }
                }
            });
            if let Some(to) = self.scale.get_mut(h * slots + slot) {
                *to = scale;
            }
        }
    }
}

/// The codes of one head, [`WIDEST`] at a time, padded with zeros to whole groups: `put(first element, codes, scale)`.
#[inline(always)]
fn quantized(part: &[f32], mut put: impl FnMut(usize, &[i8], f32)) {
    let largest = portable_max(part);
    for (i, elements) in part.chunks(WIDEST).enumerate() {
        let mut codes = [0i8; WIDEST];
        let scale = quantize_symmetric(elements, largest, &mut codes);
        let used = elements.len().next_multiple_of(INPUTS).min(WIDEST);
        put(i * WIDEST, codes.get(..used).unwrap_or(&[]), scale);
    }
}

/// max |x|; NaN are passed over.
#[inline(always)]
fn portable_max(x: &[f32]) -> f32 {
    let mut largest = [0.0f32; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    let mut widen = |values: &[f32]| {
        for (&v, most) in values.iter().zip(&mut largest) {
            let v = v.abs();
            *most = if v > *most { v } else { *most };
        }
    };
    chunks.iter().for_each(|c| widen(c));
    widen(rest);
    largest
        .into_iter()
        .fold(0.0, |a, b| if b > a { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::noise;
    use std::vec;

    #[test]
    fn slots_hold_what_was_put_into_them() {
        for (count, width) in [(1, 1), (2, 3), (4, 36), (2, 64), (1, 100)] {
            let heads = Heads { count, width };
            let slots = slots_for(20);
            let [groups, scales, sums] = vector_sizes(heads, slots).unwrap();
            // What the memory held before does not matter.
            let (mut panels, mut scale, mut sum) = (
                vec![[[77; 4]; 16]; groups],
                vec![f32::NAN; scales],
                vec![9; sums],
            );
            let mut keys = VectorSlots {
                panels: &mut panels,
                scale: &mut scale,
                sum: &mut sum,
            };
            let [groups, scales] = value_sizes(heads, slots).unwrap();
            let (mut value_panels, mut value_scale) =
                (vec![[[77; 4]; 16]; groups], vec![f32::NAN; scales]);
            let mut values = ValueSlots {
                panels: &mut value_panels,
                scale: &mut value_scale,
            };
            let d = count * width;
            for slot in [0, 5, 15, 16, 31] {
                let x = noise(slot as u64, d);
                keys.put(heads, slot, &x);
                values.put(heads, slot, &x);
                for (h, part) in x.chunks(width).enumerate() {
                    let largest = part.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    let step = largest / 127.0;
                    assert_eq!(keys.scale[h * slots + slot], step);
                    assert_eq!(values.scale[h * slots + slot], step);
                    let mut total = 0;
                    for (c, &v) in part.iter().enumerate() {
                        let panel = (h * slots + slot) / 16 * heads.groups() + c / 4;
                        let key = keys.panels[panel][slot % 16][c % 4];
                        let panel = (h * heads.panels() + c / 16) * (slots / 4) + slot / 4;
                        assert_eq!(key, values.panels[panel][c % 16][slot % 4]);
                        assert!((f32::from(key) * step - v).abs() <= 0.501 * step);
                        total += i32::from(key);
                    }
                    assert_eq!(keys.sum[h * slots + slot], total);
                    // The last group is filled with zeros, which meet the codes of nothing.
                    for c in width..width.next_multiple_of(4) {
                        let panel = (h * slots + slot) / 16 * heads.groups() + c / 4;
                        assert_eq!(keys.panels[panel][slot % 16][c % 4], 0);
                    }
                }
            }
        }
    }
}
