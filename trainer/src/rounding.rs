//! Weights rounded while training, so that they learn to survive it.
//!
//! The forward pass sees the weights as a model file of few bits holds them, and the gradient there goes to the weights
//! behind them: the straight-through estimator w + (q(w) - w).detach() (Bengio, Léonard and Courville, "Estimating or
//! propagating gradients through stochastic neurons", 2013; Jacob et al., "Quantization and training of neural networks
//! for efficient integer-arithmetic-only inference", 2018). Since the detached term has no gradient, that of w is the
//! one of the rounded weights, and rounding can stay outside of the graph: once a step, not once a shard.

use std::borrow::Cow;
use std::convert::Infallible;

use anyhow::{Result, anyhow};
use viseme_format::layout;
use viseme_format::rounding::Rows;
use viseme_format::spec::Weights;
use viseme_format::spec::json::JsonSpec;

use crate::model::Params;
use crate::recipe::Recipe;
use crate::spec;

/// Which weights are rounded, and how.
#[derive(Debug, Clone, Default)]
pub struct Rounding {
    matrices: Vec<Matrix>,
}

#[derive(Debug, Clone)]
struct Matrix {
    name: String,
    inputs: usize,
    top: i8,
}

impl Rounding {
    /// What the recipe's run asks for: nothing, unless it is one that fine-tunes.
    ///
    /// # Errors
    /// A recipe whose dimensions the model format does not allow.
    pub fn of(recipe: &Recipe) -> Result<Self> {
        let Some(tuned) = &recipe.tuned else {
            return Ok(Self::default());
        };
        let weights = match tuned.bits {
            4 => Weights::Int4,
            _ => Weights::Int8,
        };
        let json = JsonSpec::parse(&spec::json(recipe)?).map_err(|e| anyhow!("{e}"))?;
        let mut matrices = Vec::new();
        let visit = |name: &str, shape: &[usize]| -> Result<(), Infallible> {
            if let Some(top) = layout::top(layout::stored(weights, name)) {
                matrices.push(Matrix {
                    name: name.to_owned(),
                    inputs: shape[1..].iter().product(),
                    top,
                });
            }
            Ok(())
        };
        let Ok(()) = layout::matrices(json.spec()?.conformer()?, visit);
        Ok(Self { matrices })
    }

    /// The weights that the forward pass sees.
    pub fn apply<'p>(&self, weights: &'p Params) -> Cow<'p, Params> {
        if self.matrices.is_empty() {
            return Cow::Borrowed(weights);
        }
        let mut rounded = weights.clone();
        for matrix in &self.matrices {
            if let Some(array) = rounded.0.get_mut(&matrix.name) {
                let rows = Rows::quantise(&array.data, matrix.inputs, matrix.top);
                let values = rows.dequantised();
                array.data.iter_mut().zip(values).for_each(|(w, q)| *w = q);
            }
        }
        Cow::Owned(rounded)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::model::ops::Train;
    use crate::model::values;
    use crate::rng::rng;

    fn recipe(bits: u8) -> Recipe {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/grid-vsr.toml");
        let recipe = Recipe::read(Path::new(path)).expect("the published recipe is valid");
        recipe
            .tuned(bits, "a digest")
            .expect("it can be fine-tuned")
    }

    #[test]
    fn matrices_take_as_many_values_as_their_bits_allow() {
        let recipe = recipe(4);
        let weights = Params::init(&recipe.model, recipe.tokens().len(), &mut rng(1, &[0]));
        let rounded = Rounding::of(&recipe)
            .expect("a sound recipe")
            .apply(&weights);
        for (name, array) in &weights.0 {
            let got = &rounded.0[name];
            let inputs: usize = array.shape[1..].iter().product();
            let most = match name.as_str() {
                _ if array.shape.len() < 2 || name.contains(".att.pos.") => 0,
                _ if name.contains("depthwise") || name.contains(".att.bias_") => 0,
                _ if name.starts_with("encoder.") => 15,
                _ => 255,
            };
            if most == 0 {
                assert_eq!(got, array, "{name} is no matrix");
                continue;
            }
            for row in got.data.chunks(inputs) {
                let mut levels = row.to_vec();
                levels.sort_by(f32::total_cmp);
                levels.dedup();
                assert!(levels.len() <= most, "{name}: {} values", levels.len());
            }
            assert!(got != array, "{name}");
        }
    }

    /// Held against burn's own differentiation of the formula.
    #[test]
    fn the_gradient_is_that_of_the_straight_through_formula() {
        let device = Device::<Train>::default();
        let (outputs, inputs) = (5, 24);
        let data: Vec<f32> = (0..outputs * inputs)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0)
            .collect();
        let x: Vec<f32> = (0..3 * inputs)
            .map(|i| ((i * 53 % 97) as f32 - 48.0) / 40.0)
            .collect();
        let tensor = |data: &[f32], shape: [usize; 2]| {
            Tensor::<Train, 2>::from_data(TensorData::new(data.to_vec(), shape), &device)
        };
        let x = tensor(&x, [3, inputs]);
        let rounded: Vec<f32> = Rows::quantise(&data, inputs, 7).dequantised().collect();
        let loss = |w: Tensor<Train, 2>| x.clone().matmul(w.transpose()).powi_scalar(3).sum();

        let w = tensor(&data, [outputs, inputs]).require_grad();
        let q = tensor(&rounded, [outputs, inputs]);
        let straight = w.clone() + (q - w.clone()).detach();
        let formula = w.grad(&loss(straight).backward()).expect("a gradient");

        let leaf = tensor(&rounded, [outputs, inputs]).require_grad();
        let ours = leaf
            .grad(&loss(leaf.clone()).backward())
            .expect("a gradient");
        let [formula, ours] = [formula, ours].map(|g| values(Tensor::<Train, 2>::from_inner(g)));
        let largest = formula.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        assert!(largest > 0.1);
        for (a, b) in formula.iter().zip(&ours) {
            // w + (q - w) is q but for a rounding error.
            assert!((a - b).abs() < 1e-5 * largest, "{a} {b}");
        }
    }
}
