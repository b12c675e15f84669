//! Weights of fewer bits than a float, in the panels of [`viseme_format::panels`]: int8, and int4 with two groups of
//! inputs in the bytes of one.

use viseme_format::panels::{INPUTS, OUTPUTS, int4, len};

use super::MAX_INPUTS;

/// int8 weights in packed panels, each output with its scale and the sum of its weights.
pub type WeightsI8<'a> = Packed<'a, Group>;

/// int4 weights in packed panels, each output with its scale and the sum of its weights.
pub type WeightsI4<'a> = Packed<'a, Pair>;

/// Four inputs of 16 outputs.
pub type Group = [[i8; INPUTS]; OUTPUTS];

/// Eight inputs of 16 outputs: a group in the low halves of the bytes, the next group in the high halves, both in two's
/// complement.
pub type Pair = [[u8; INPUTS]; OUTPUTS];

/// What a panel is made of.
pub trait Unit: Copy {
    /// Groups of inputs in it.
    const GROUPS: usize;

    /// The group at `index`, which is below [`GROUPS`](Self::GROUPS).
    fn group(&self, index: usize) -> Group;

    /// All groups with their indices.
    fn groups(&self) -> impl Iterator<Item = (usize, Group)> {
        (0..Self::GROUPS).map(|index| (index, self.group(index)))
    }

    /// Adds the weights of each output to its sum.
    #[inline(always)]
    fn add_to(&self, sums: &mut [i32; OUTPUTS]) {
        for index in 0..Self::GROUPS {
            for (sum, four) in sums.iter_mut().zip(self.group(index)) {
                *sum += four.into_iter().map(i32::from).sum::<i32>();
            }
        }
    }
}

impl Unit for Group {
    const GROUPS: usize = 1;

    #[inline(always)]
    fn group(&self, _: usize) -> Group {
        *self
    }
}

impl Unit for Pair {
    const GROUPS: usize = 2;

    #[inline(always)]
    fn group(&self, index: usize) -> Group {
        let left = if index == 0 { 4 } else { 0 };
        let mut group = [[0; INPUTS]; OUTPUTS];
        let to = group.as_flattened_mut().iter_mut();
        for (to, &byte) in to.zip(self.as_flattened()) {
            *to = ((byte << left) as i8) >> 4;
        }
        group
    }
}

/// Weights in packed panels of units, each output with its scale and the sum of its weights.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a, U> {
    panels: &'a [U],
    scale: &'a [f32],
    colsum: &'a [i32],
    inputs: usize,
}

impl<'a> WeightsI8<'a> {
    /// `None` unless there are 1 to [`MAX_INPUTS`] inputs and at least one output, `scale` and `colsum` have one element
    /// an output, and `panels` is as long as they call for.
    pub fn new(
        panels: &'a [i8],
        scale: &'a [f32],
        colsum: &'a [i32],
        inputs: usize,
    ) -> Option<Self> {
        let fits = len(scale.len(), inputs) == Some(panels.len());
        let (units, _) = panels.as_chunks::<INPUTS>().0.as_chunks();
        Packed::of_units(units, scale, colsum, inputs).filter(|_| fits)
    }
}

impl<'a> WeightsI4<'a> {
    /// `None` unless there are 1 to [`MAX_INPUTS`] inputs and at least one output, `scale` and `colsum` have one element
    /// an output, and `panels` is as long as they call for.
    pub fn new(
        panels: &'a [i8],
        scale: &'a [f32],
        colsum: &'a [i32],
        inputs: usize,
    ) -> Option<Self> {
        let fits = int4::len(scale.len(), inputs) == Some(panels.len());
        let bytes: &[u8] = bytemuck::cast_slice(panels);
        let (units, _) = bytes.as_chunks::<INPUTS>().0.as_chunks();
        Packed::of_units(units, scale, colsum, inputs).filter(|_| fits)
    }
}

impl<'a, U: Unit> Packed<'a, U> {
    fn of_units(
        panels: &'a [U],
        scale: &'a [f32],
        colsum: &'a [i32],
        inputs: usize,
    ) -> Option<Self> {
        let fits =
            (1..=MAX_INPUTS).contains(&inputs) && !scale.is_empty() && colsum.len() == scale.len();
        fits.then_some(Packed {
            panels,
            scale,
            colsum,
            inputs,
        })
    }

    /// Elements of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of rows.
    pub fn outputs(&self) -> usize {
        self.scale.len()
    }

    /// Groups of inputs that a row of activations has.
    pub fn groups(&self) -> usize {
        self.inputs.div_ceil(INPUTS)
    }

    /// Units of a panel.
    pub fn units(&self) -> usize {
        self.groups().div_ceil(U::GROUPS)
    }

    /// Whether what the panels hold beyond the outputs and inputs is 0.
    pub fn padding_is_zero(&self) -> bool {
        let units = self.units();
        // Only the last unit of a panel, and the last panel, can hold more than there is.
        let whole = (units - 1) * U::GROUPS * INPUTS;
        let ends = self.panels.chunks_exact(units).filter_map(<[U]>::last);
        let inputs_end = self.inputs - whole == U::GROUPS * INPUTS
            || ends.flat_map(Unit::groups).all(|(g, group)| {
                let used = self.inputs.saturating_sub(whole + g * INPUTS);
                let mut fours = group.iter();
                fours.all(|four| four.iter().skip(used).all(|&w| w == 0))
            });
        let outputs = self.outputs() % OUTPUTS;
        let last = &self.panels[self.panels.len() - units..];
        let outputs_end = outputs == 0
            || (last.iter().flat_map(Unit::groups))
                .all(|(_, group)| group[outputs..].as_flattened().iter().all(|&w| w == 0));
        inputs_end && outputs_end
    }

    /// Whether `colsum` is what it says.
    pub fn sums_hold(&self) -> bool {
        let panels = self.panels.chunks_exact(self.units());
        panels
            .zip(self.colsum.chunks(OUTPUTS))
            .all(|(panel, want)| {
                let mut sums = [0i32; OUTPUTS];
                panel.iter().for_each(|unit| unit.add_to(&mut sums));
                sums[..want.len()] == *want
            })
    }

    /// All panels, unit by unit.
    pub fn panels(&self) -> &'a [U] {
        self.panels
    }

    /// Scale of each output.
    pub fn scale(&self) -> &'a [f32] {
        self.scale
    }

    /// Sum of the weights of each output.
    pub fn colsum(&self) -> &'a [i32] {
        self.colsum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_the_wrong_size_are_refused() {
        assert!(WeightsI8::new(&[0; 64], &[1.0; 2], &[0; 2], 3).is_some());
        assert!(WeightsI8::new(&[0; 64], &[1.0; 2], &[0; 3], 3).is_none());
        assert!(WeightsI8::new(&[0; 64], &[1.0; 2], &[0; 2], 5).is_none());
        assert!(WeightsI8::new(&[0; 64], &[1.0; 17], &[0; 17], 3).is_none());
        assert!(WeightsI8::new(&[], &[], &[], 3).is_none());
        assert!(WeightsI4::new(&[0; 64], &[1.0; 2], &[0; 2], 8).is_some());
        assert!(WeightsI4::new(&[0; 64], &[1.0; 2], &[0; 3], 8).is_none());
        assert!(WeightsI4::new(&[0; 64], &[1.0; 2], &[0; 2], 9).is_none());
        assert!(WeightsI4::new(&[0; 63], &[1.0; 2], &[0; 2], 8).is_none());
        assert!(WeightsI4::new(&[0; 64], &[1.0; 17], &[0; 17], 8).is_none());
        assert!(WeightsI4::new(&[], &[], &[], 3).is_none());
        assert!(WeightsI4::new(&[0; 64], &[1.0; 2], &[0; 2], 0).is_none());
    }

    #[test]
    fn weights_beyond_the_shape_and_wrong_sums_are_seen() {
        for (at, padded, summed) in [(3, false, false), (2 * 4, false, true), (0, true, false)] {
            let mut packed = [0i8; 64];
            packed[at] = 1;
            let w = WeightsI8::new(&packed, &[1.0; 2], &[0; 2], 3).unwrap();
            let found = (w.padding_is_zero(), w.sums_hold());
            assert_eq!(found, (padded, summed), "{at}");
        }
        // Six inputs of two outputs: byte 3 holds inputs 3 and 7, byte 2 inputs 2 and 6, byte 1 inputs 1 and 5.
        for (at, value, padded, summed) in [
            (3, 0x10, false, false),
            (2, 0x70, false, false),
            (2, 0x07, true, false),
            (1, 0x10, true, false),
            (2 * 4, 1, false, true),
            (2 * 4, 0x10, false, true),
            (1, 0x1f, true, true),
        ] {
            let mut packed = [0i8; 64];
            packed[at] = value;
            let w = WeightsI4::new(&packed, &[1.0; 2], &[0; 2], 6).unwrap();
            let found = (w.padding_is_zero(), w.sums_hold());
            assert_eq!(found, (padded, summed), "{at} {value}");
        }
        // Three inputs: the whole high half is beyond them.
        let mut packed = [0i8; 64];
        packed[0] = 0x10;
        let w = WeightsI4::new(&packed, &[1.0], &[1], 3).unwrap();
        assert!(!w.padding_is_zero());
    }
}
