//! Where an int4 weight lies: the panels of int8 weights, two neighbouring groups of inputs in the bytes of one
//! (`SPEC.md`, section 3.2).
//!
//! One register of bytes becomes two of int8 weights in the usual order by a shift and a mask.

use super::{INPUTS, OUTPUTS};

/// Largest int4 weight; the smallest is its negative.
pub const MAX: i8 = 7;

/// Inputs of a pair of groups.
pub const PAIR: usize = 2 * INPUTS;

/// Shape of the tensor that holds a matrix [outputs, inputs]: [panels, pairs of groups, 16, 4].
pub fn shape(outputs: usize, inputs: usize) -> [usize; 4] {
    let (panels, pairs) = (outputs.div_ceil(OUTPUTS), inputs.div_ceil(PAIR));
    [panels, pairs, OUTPUTS, INPUTS]
}

/// Bytes of that tensor; `None` if that overflows.
pub fn len(outputs: usize, inputs: usize) -> Option<usize> {
    let [panels, pairs, ..] = shape(outputs, inputs);
    panels.checked_mul(pairs)?.checked_mul(OUTPUTS * INPUTS)
}

/// Place of the byte with the weight from `input` to `output` in that tensor, and whether it is the byte's high half.
pub fn at(output: usize, input: usize, inputs: usize) -> (usize, bool) {
    let (panel, lane) = (output / OUTPUTS, output % OUTPUTS);
    let (pair, within) = (input / PAIR, input % PAIR);
    let pairs = inputs.div_ceil(PAIR);
    let byte = ((panel * pairs + pair) * OUTPUTS + lane) * INPUTS + within % INPUTS;
    (byte, within >= INPUTS)
}

/// The two weights of a byte: the low half's, the high half's.
#[inline(always)]
pub const fn halves(byte: u8) -> [i8; 2] {
    [((byte << 4) as i8) >> 4, (byte as i8) >> 4]
}

/// Lays out the rows of a matrix [outputs, inputs] of weights in -7..=7; what is left over is 0.
///
/// # Panics
/// If `rows` is no whole number of rows, or a weight is out of range.
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
            assert!((-MAX..=MAX).contains(&weight), "weights of four bits");
            let (byte, high) = at(output, input, inputs);
            panels[byte] |= if high { weight << 4 } else { weight & 15 };
        }
    }
    panels
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn eight_inputs_of_sixteen_outputs_lie_together() {
        // Input i of output o weighs (o + i) mod 15 - 7.
        let weight = |o: usize, i: usize| ((o + i) % 15) as i8 - 7;
        let rows: alloc::vec::Vec<i8> = (0..18 * 13).map(|n| weight(n / 13, n % 13)).collect();
        let panels = pack(&rows, 13);
        assert_eq!(shape(18, 13), [2, 2, 16, 4]);
        assert_eq!(panels.len(), 2 * 2 * 64);
        // Output 0: inputs 0 to 3 (-7, -6, -5, -4) below inputs 4 to 7 (-3, -2, -1, 0).
        let bytes = |from: usize| panels[from..][..4].iter().map(|&b| b as u8);
        assert!(bytes(0).eq([0xd9, 0xea, 0xfb, 0x0c]));
        // Output 1 follows: -6, -5, -4, -3 below -2, -1, 0, 1.
        assert!(bytes(4).eq([0xea, 0xfb, 0x0c, 0x1d]));
        // The second pair: inputs 8 to 11 (1, 2, 3, 4), input 12 (5) and zeros.
        assert!(bytes(64).eq([0x51, 0x02, 0x03, 0x04]));
        // The second panel holds outputs 16 and 17, which begin with 16 mod 15 - 7 and 17 mod 15 - 7, and zeros.
        assert!(bytes(128).eq([0xea, 0xfb, 0x0c, 0x1d]));
        assert!(panels[136..192].iter().all(|&b| b == 0));
        for (n, &want) in rows.iter().enumerate() {
            let (byte, high) = at(n / 13, n % 13, 13);
            assert_eq!(halves(panels[byte] as u8)[usize::from(high)], want);
        }
    }

    #[test]
    fn every_byte_is_two_numbers() {
        for low in -8i8..8 {
            for high in -8i8..8 {
                let byte = ((high as u8) << 4) | (low as u8 & 15);
                assert_eq!(halves(byte), [low, high]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "four bits")]
    fn a_weight_of_more_bits_is_not_packed() {
        pack(&[8], 1);
    }
}
