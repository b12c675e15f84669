//! Int8 rows: per-output-channel symmetric weights, their scales and column sums, and the model
//! file that holds them.

use anyhow::{Result, bail};
use viseme_format::gguf::{DType, Writer};
use viseme_format::layout;
use viseme_format::panels;
use viseme_format::spec::ModelSpec;

use crate::checkpoint::Array;
use crate::fold::Tensors;

/// How well one tensor survived quantisation.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// Tensor name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Signal-to-noise ratio of the quantised weights, in decibels.
    pub snr_db: f64,
}

/// Writes the model file. With [`Weights::Int8`] every matrix becomes int8 rows and its error is
/// reported; the rest stays f32.
///
/// [`Weights::Int8`]: viseme_format::spec::Weights::Int8
pub fn pack(spec: &ModelSpec<'_>, tensors: &Tensors) -> Result<(Vec<u8>, Vec<LayerError>)> {
    let mut writer = Writer::new();
    spec.write(&mut writer)?;
    let mut errors = Vec::new();
    // The table lists a matrix, then its scales, then its sums.
    let mut rows = Rows::default();
    layout::model(
        spec.conformer()?,
        spec.weights,
        |name, shape, dtype| -> Result<()> {
            match (tensors.get(name), dtype) {
                (Some(array), DType::I8) => {
                    rows = Rows::quantise(array);
                    errors.push(LayerError {
                        name: name.to_owned(),
                        shape: array.shape.clone(),
                        snr_db: rows.snr_db(array),
                    });
                    let inputs = rows.values.len() / rows.scale.len();
                    writer.tensor_i8(name, shape, &panels::pack(&rows.values, inputs))?;
                }
                (Some(array), _) => writer.tensor_f32(name, shape, &array.data)?,
                (None, DType::I32) => writer.tensor_i32(name, shape, &rows.sums)?,
                (None, DType::F32) if name.ends_with(".scale") => {
                    writer.tensor_f32(name, shape, &rows.scale)?;
                }
                (None, _) => bail!("tensor {name} is missing"),
            }
            Ok(())
        },
    )?;
    Ok((writer.finish()?, errors))
}

/// A matrix in int8, one scale a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// `[out][in]` in -127..=127.
    pub values: Vec<i8>,
    /// Real value of one unit, per row.
    pub scale: Vec<f32>,
    /// Sum of the row's int8 values.
    pub sums: Vec<i32>,
}

impl Rows {
    /// Rounds each row to the grid, out of a few, with the least squared error: clipping a lone
    /// outlier can give all other weights a finer step.
    pub fn quantise(array: &Array) -> Self {
        let width: usize = array.shape[1..].iter().product();
        let mut out = Self {
            values: Vec::new(),
            scale: Vec::new(),
            sums: Vec::new(),
        };
        for row in array.data.chunks_exact(width) {
            let scale = best_scale(row);
            let q: Vec<i8> = row.iter().map(|&w| round(w, scale)).collect();
            out.sums.push(q.iter().map(|&v| i32::from(v)).sum());
            out.values.extend(q);
            out.scale.push(scale);
        }
        out
    }

    /// The weights that the integers stand for.
    pub fn dequantised(&self) -> impl Iterator<Item = f32> {
        let width = self.values.len() / self.scale.len();
        self.values
            .iter()
            .enumerate()
            .map(move |(i, &q)| f32::from(q) * self.scale[i / width])
    }

    fn snr_db(&self, array: &Array) -> f64 {
        let (mut signal, mut noise) = (0.0, 0.0);
        for (&w, q) in array.data.iter().zip(self.dequantised()) {
            signal += f64::from(w) * f64::from(w);
            noise += f64::from(w - q) * f64::from(w - q);
        }
        10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10()
    }
}

fn best_scale(row: &[f32]) -> f32 {
    let top = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    if top == 0.0 {
        // An all-zero row: any positive scale is right.
        return 1.0;
    }
    let error = |scale: f32| -> f64 {
        row.iter()
            .map(|&w| f64::from(w - f32::from(round(w, scale)) * scale).powi(2))
            .sum()
    };
    let candidates = (0..=12).map(|i| top * (1.0 - 0.025 * i as f32) / 127.0);
    candidates
        .map(|s| s.max(f32::MIN_POSITIVE))
        .min_by(|a, b| error(*a).total_cmp(&error(*b)))
        .unwrap_or(top / 127.0)
}

fn round(w: f32, scale: f32) -> i8 {
    (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rounded_with_their_own_scale() {
        let array = Array {
            shape: vec![2, 3],
            data: vec![1.27, -1.27, 0.64, 0.0, 0.0, 0.0],
        };
        let rows = Rows::quantise(&array);
        assert_eq!(rows.values, [127, -127, 64, 0, 0, 0]);
        assert!((rows.scale[0] - 0.01).abs() < 1e-7);
        assert_eq!(rows.sums, [64, 0]);
    }

    #[test]
    fn halves_round_to_even_and_the_range_is_symmetric() {
        assert_eq!(round(2.5, 1.0), 2);
        assert_eq!(round(3.5, 1.0), 4);
        assert_eq!(round(-2.5, 1.0), -2);
        assert_eq!(round(-1000.0, 1.0), -127);
    }

    #[test]
    fn an_outlier_is_clipped_when_that_pays() {
        // Many values half-way between two steps of the full range, one slightly larger outlier.
        let mut data: Vec<f32> = vec![0.0; 4000];
        for (i, w) in data.iter_mut().enumerate() {
            *w = ((i % 37) as f32 - 18.0) / 18.0;
        }
        data[0] = 1.2;
        let array = Array {
            shape: vec![1, 4000],
            data,
        };
        let rows = Rows::quantise(&array);
        let plain = 1.2 / 127.0;
        let error = |scale: f32| -> f32 {
            array
                .data
                .iter()
                .map(|&w| (w - f32::from(round(w, scale)) * scale).powi(2))
                .sum()
        };
        assert!(error(rows.scale[0]) <= error(plain));
    }
}
