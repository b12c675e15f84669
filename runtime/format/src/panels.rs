//! Where an int8 weight lies: panels of 16 outputs by groups of 4 inputs (`SPEC.md`, section 3.1). [`int4`] has two
//! groups in the place of one.
//!
//! One panel is read front to back while the products of 16 outputs are summed; 4 neighbouring bytes are
//! what one lane of a dot-product instruction (VPDPBUSD, SDOT) takes, and half a word of SMLAD.

pub mod int4;

/// Outputs of a panel.
pub const OUTPUTS: usize = 16;

/// Inputs of a group: the bytes of one output that lie side by side.
pub const INPUTS: usize = 4;

/// Shape of the tensor that holds a matrix [outputs, inputs]: [panels, groups, 16, 4].
pub fn shape(outputs: usize, inputs: usize) -> [usize; 4] {
    let (panels, groups) = (outputs.div_ceil(OUTPUTS), inputs.div_ceil(INPUTS));
    [panels, groups, OUTPUTS, INPUTS]
}

/// Bytes of that tensor; `None` if that overflows.
pub fn len(outputs: usize, inputs: usize) -> Option<usize> {
    let [panels, groups, ..] = shape(outputs, inputs);
    panels.checked_mul(groups)?.checked_mul(OUTPUTS * INPUTS)
}

/// Place of the weight from `input` to `output` in that tensor.
pub fn at(output: usize, input: usize, inputs: usize) -> usize {
    let (panel, lane) = (output / OUTPUTS, output % OUTPUTS);
    let (group, byte) = (input / INPUTS, input % INPUTS);
    let groups = inputs.div_ceil(INPUTS);
    ((panel * groups + group) * OUTPUTS + lane) * INPUTS + byte
}

/// Lays out the rows of a matrix [outputs, inputs]; what is left over in the last panel and the last groups is 0.
///
/// # Panics
/// If `rows` is no whole number of rows.
#[cfg(feature = "alloc")]
pub fn pack(rows: &[i8], inputs: usize) -> alloc::vec::Vec<i8> {
    assert!(
        inputs > 0 && rows.len().is_multiple_of(inputs),
        "whole rows"
    );
    let outputs = rows.len() / inputs;
    let mut panels = alloc::vec![0; len(outputs, inputs).expect("no more than twice the rows")];
    for (output, row) in rows.chunks_exact(inputs).enumerate() {
        for (input, &weight) in row.iter().enumerate() {
            panels[at(output, input, inputs)] = weight;
        }
    }
    panels
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn sixteen_outputs_by_four_inputs_lie_together() {
        let rows: alloc::vec::Vec<i8> = (0..18 * 5).map(|i| i as i8).collect();
        let panels = pack(&rows, 5);
        assert_eq!(shape(18, 5), [2, 2, 16, 4]);
        assert_eq!(panels.len(), 2 * 2 * 64);
        // The first group: inputs 0 to 3 of outputs 0, 1, …
        assert_eq!(panels[..8], [0, 1, 2, 3, 5, 6, 7, 8]);
        // The second group holds the fifth input and zeros.
        assert_eq!(panels[64..72], [4, 0, 0, 0, 9, 0, 0, 0]);
        // The second panel holds outputs 16 and 17.
        assert_eq!(panels[128..137], [80, 81, 82, 83, 85, 86, 87, 88, 0]);
    }
}
