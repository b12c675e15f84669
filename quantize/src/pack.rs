//! The model file: matrices as rows of integers in panels, their scales and column sums.

use anyhow::{Result, bail};
use viseme_format::gguf::{DType, Writer};
use viseme_format::layout;
use viseme_format::panels;
use viseme_format::rounding::Rows;
use viseme_format::spec::{ModelSpec, Weights};

use crate::checkpoint::Array;
use crate::feedback::Feedback;
use crate::fold::Tensors;

/// How well one tensor survived quantisation.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// Tensor name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub stored: Weights,
    /// Signal-to-noise ratio of the quantised weights, in decibels.
    pub snr_db: f64,
}

/// The largest number that F16 has.
const HALF_MAX: f32 = 65504.0;

/// Writes the model file. With [`Weights::Int8`] and [`Weights::Int4`] every matrix becomes rows of integers and its
/// error is reported; the rest stays f32.
pub fn pack(spec: &ModelSpec<'_>, tensors: &Tensors) -> Result<(Vec<u8>, Vec<LayerError>)> {
    let mut packer = Packer::default();
    spec.write(&mut packer.writer)?;
    layout::model(spec.conformer()?, spec.weights, |name, shape, dtype| {
        let stored = layout::stored(spec.weights, name);
        packer.put(stored, name, shape, dtype, tensors.get(name), None)
    })?;
    Ok((packer.writer.finish()?, packer.errors))
}

/// A model file that is being written.
#[derive(Default)]
pub(crate) struct Packer {
    pub writer: Writer,
    /// How the matrices so far survived.
    pub errors: Vec<LayerError>,
    /// The last matrix: the layout lists a matrix, then its scales, then its sums.
    rows: Rows,
}

impl Packer {
    /// Adds one tensor of the layout to the file: `array` as it is or, where `dtype` is I8, as rows of integers, rounded
    /// with feedback if there is one.
    pub fn put(
        &mut self,
        stored: Weights,
        name: &str,
        shape: &[usize],
        dtype: DType,
        array: Option<&Array>,
        feedback: Option<&Feedback>,
    ) -> Result<()> {
        let Packer {
            writer,
            errors,
            rows,
        } = self;
        match (array, dtype) {
            (Some(array), DType::I8) => {
                let inputs = array.shape[1..].iter().product();
                let top = layout::top(stored).unwrap_or(i8::MAX);
                *rows = Rows::quantise(&array.data, inputs, top);
                if let Some(feedback) = feedback {
                    feedback.round(rows, &array.data, inputs);
                }
                errors.push(LayerError {
                    name: name.to_owned(),
                    shape: array.shape.clone(),
                    stored,
                    snr_db: snr_db(rows, array),
                });
                let packed = match stored {
                    Weights::Int4 => panels::int4::pack(&rows.values, inputs),
                    _ => panels::pack(&rows.values, inputs),
                };
                writer.tensor_i8(name, shape, &packed)?;
            }
            (Some(array), DType::F16) => {
                let largest = array.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                if largest > HALF_MAX {
                    bail!("tensor {name} is too large for half precision; use --bits f32");
                }
                writer.tensor_f16(name, shape, &array.data)?;
            }
            (Some(array), _) => writer.tensor_f32(name, shape, &array.data)?,
            (None, DType::I32) => writer.tensor_i32(name, shape, &rows.sums)?,
            (None, DType::F32) if name.ends_with(".scale") => {
                writer.tensor_f32(name, shape, &rows.scale)?;
            }
            (None, _) => bail!("tensor {name} is missing"),
        }
        Ok(())
    }
}

fn snr_db(rows: &Rows, array: &Array) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    for (&w, q) in array.data.iter().zip(rows.dequantised()) {
        signal += f64::from(w) * f64::from(w);
        noise += f64::from(w - q) * f64::from(w - q);
    }
    10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_worth_six_decibels() {
        // Uniform weights: the error of n codes is a uniform 1/n of the range, 20 log10(n) decibels below it.
        let data: Vec<f32> = (0..15 * 400)
            .map(|i| (i * 7919 % 6000) as f32 / 3000.0 - 1.0)
            .collect();
        let array = Array {
            shape: vec![15, 400],
            data,
        };
        for (top, codes) in [(127, 255.0f64), (7, 15.0)] {
            let rows = Rows::quantise(&array.data, 400, top);
            let snr = snr_db(&rows, &array);
            assert!((snr - 20.0 * codes.log10()).abs() < 1.0, "{top}: {snr}");
        }
    }
}
