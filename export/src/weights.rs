//! The weights of a model file, as numbers and, where they are int8, as the codes that stand in the file.

use viseme_engine::math;
use viseme_format::gguf::Reader;
use viseme_format::panels;
use viseme_format::weights::{ValuesError, is_int4, values};

/// A matrix [outputs, inputs].
#[derive(Debug)]
pub struct Matrix {
    /// Its elements, row by row.
    pub rows: Vec<f32>,
    /// Elements of a row.
    pub inputs: usize,
    /// The int8 codes it is stored as, if it is.
    codes: Option<Codes>,
}

/// int8 rows: element = code · scale of its row.
#[derive(Clone, Debug)]
pub struct Codes {
    /// In -127..=127, row by row.
    pub codes: Vec<i8>,
    /// One a row.
    pub scale: Vec<f32>,
}

impl Matrix {
    /// Number of rows.
    pub fn outputs(&self) -> usize {
        self.rows.len() / self.inputs
    }

    /// The rows as int8: those of the file if it has them, else rounded as the quantizer does it (`SPEC.md`, section
    /// 4.1: the largest element of a row becomes 127).
    pub fn int8(&self) -> Codes {
        if let Some(codes) = &self.codes {
            return codes.clone();
        }
        let rows = self.rows.chunks(self.inputs);
        let scale = rows.clone().map(|row| {
            let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            (largest / 127.0).max(f32::MIN_POSITIVE)
        });
        let scale: Vec<f32> = scale.collect();
        let round = |(row, scale): (&[f32], f32)| {
            let code = move |v: &f32| math::round_half_even(v / scale).clamp(-127.0, 127.0) as i8;
            row.iter().map(code).collect::<Vec<_>>()
        };
        let codes = rows.zip(scale.iter().copied()).flat_map(round).collect();
        Codes { codes, scale }
    }

    /// The same matrix times a number.
    pub fn scaled(mut self, factor: f32) -> Self {
        let codes = self.codes.iter_mut().flat_map(|codes| &mut codes.scale);
        self.rows
            .iter_mut()
            .chain(codes)
            .for_each(|value| *value *= factor);
        self
    }
}

/// Reads a vector or any other tensor that is always f32.
///
/// # Errors
/// A tensor that is missing or of another shape.
pub fn floats(file: &Reader<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, ValuesError> {
    values(file, name, shape)
}

/// Reads a matrix; `shape` is that of the tensor in an f32 file.
///
/// # Errors
/// A tensor that is missing or of another shape.
pub fn matrix(
    file: &Reader<'_>,
    name: &str,
    [outputs, inputs]: [usize; 2],
    shape: &[usize],
) -> Result<Matrix, ValuesError> {
    let rows = values(file, name, shape)?;
    let scale = name.replace(".weight", ".scale");
    let codes = file.tensor(name).and_then(|tensor| tensor.as_i8());
    let codes = codes.filter(|_| !is_int4(file, name)).map(|packed| {
        let code = |(o, i)| packed[panels::at(o, i, inputs)];
        let places = (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i)));
        Ok(Codes {
            codes: places.map(code).collect(),
            scale: values(file, &scale, &[outputs])?,
        })
    });
    Ok(Matrix {
        rows,
        inputs,
        codes: codes.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use viseme_engine::testing::{self, TINY};
    use viseme_format::spec::Weights;

    /// Both files hold the same weights before rounding.
    #[test]
    fn codes_of_a_file_are_kept_and_made_by_the_same_rule() {
        let files = [Weights::Int8, Weights::F32]
            .map(|weights| testing::model(&testing::spec(&TINY, weights), 1).unwrap());
        let [stored, made] = [&files[0], &files[1]].map(|file| {
            let file = Reader::open(file).unwrap();
            let up = matrix(&file, "encoder.1.ff2.up.weight", [40, 24], &[40, 24]).unwrap();
            (up.int8(), up.scaled(0.5).int8())
        });
        assert_eq!(stored.0.codes, made.0.codes);
        assert_eq!(stored.0.scale, made.0.scale);
        assert_eq!(stored.1.codes, made.0.codes);
        assert_eq!(stored.1.scale[7], 0.5 * made.0.scale[7]);
    }

    /// Rounding to int8 what has four bits moves it by half a step of int8 at most.
    #[test]
    fn rows_of_four_bits_become_int8() {
        let file = testing::model(&testing::spec(&TINY, Weights::Int4), 1).unwrap();
        let file = Reader::open(&file).unwrap();
        let up = matrix(&file, "encoder.1.ff2.up.weight", [40, 24], &[40, 24]).unwrap();
        let int8 = up.int8();
        let codes = int8.codes.chunks(24).zip(&int8.scale);
        for (row, (codes, scale)) in up.rows.chunks(24).zip(codes) {
            for (value, code) in row.iter().zip(codes) {
                let error = (value - scale * f32::from(*code)).abs();
                assert!(error <= 0.5001 * scale, "{value}");
            }
        }
    }
}
