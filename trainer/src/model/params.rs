//! Named weights outside any graph: what the optimiser updates and checkpoints store.

use std::collections::BTreeMap;

use rand::RngExt;

use super::{Dims, ops::Moments};
use crate::rng::Rng;

/// A row-major tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<f32>,
}

/// Weights by their canonical names, in name order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params(pub BTreeMap<String, Array>);

impl Params {
    /// Random weights: uniform in +-1/sqrt(fan-in) for matrices (PyTorch's default for linear and
    /// convolution layers), ones and zeros for norms, zeros for biases.
    pub fn init(dims: &Dims, tokens: usize, rng: &mut Rng) -> Self {
        let mut p = Self::default();
        for (i, conv) in dims.convs().into_iter().enumerate() {
            let shape = [conv.cout, conv.kernel, conv.kernel, conv.cin];
            p.uniform(&format!("frontend.conv.{i}.weight"), &shape, rng);
            p.norm(&format!("frontend.bn.{i}"), conv.cout);
        }
        let (d, dk) = (dims.d_model, dims.d_model / dims.heads);
        p.linear("frontend.proj", d, dims.features(), rng);
        for b in 0..dims.blocks {
            let at = |s: &str| format!("encoder.{b}.{s}");
            for ff in ["ff1", "ff2"] {
                p.norm(&at(&format!("{ff}.norm")), d);
                p.linear(&at(&format!("{ff}.up")), dims.ff, d, rng);
                p.linear(&at(&format!("{ff}.down")), d, dims.ff, rng);
            }
            p.norm(&at("att.norm"), d);
            for m in ["q", "k", "v", "out"] {
                p.linear(&at(&format!("att.{m}")), d, d, rng);
            }
            p.uniform(&at("att.pos.weight"), &[d, d], rng);
            p.filled(&at("att.bias_u"), &[dims.heads, dk], 0.0);
            p.filled(&at("att.bias_v"), &[dims.heads, dk], 0.0);
            p.norm(&at("conv.norm"), d);
            p.linear(&at("conv.pointwise1"), 2 * d, d, rng);
            p.uniform(&at("conv.depthwise.weight"), &[d, dims.conv_kernel], rng);
            p.filled(&at("conv.depthwise.bias"), &[d], 0.0);
            p.norm(&at("conv.bn"), d);
            p.linear(&at("conv.pointwise2"), d, d, rng);
            p.norm(&at("norm"), d);
        }
        p.norm("encoder.norm", d);
        p.linear("ctc", tokens, d, rng);
        p
    }

    /// Zeros of the same names and shapes.
    pub fn zeros_like(&self) -> Self {
        let zero = |a: &Array| Array {
            shape: a.shape.clone(),
            data: vec![0.0; a.data.len()],
        };
        Self(self.0.iter().map(|(n, a)| (n.clone(), zero(a))).collect())
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.0.values().map(|a| a.data.len()).sum()
    }

    /// Starting moments of every batch norm: mean 0, variance 1.
    pub fn initial_moments(&self) -> BTreeMap<String, Moments> {
        let norms = self.0.iter().filter_map(|(name, a)| {
            let name = name.strip_suffix(".weight")?;
            let batch = name.ends_with(".bn") || name.starts_with("frontend.bn.");
            let c = a.data.len();
            batch.then(|| {
                (
                    name.to_owned(),
                    Moments {
                        mean: vec![0.0; c],
                        var: vec![1.0; c],
                    },
                )
            })
        });
        norms.collect()
    }

    fn linear(&mut self, name: &str, out: usize, input: usize, rng: &mut Rng) {
        self.uniform(&format!("{name}.weight"), &[out, input], rng);
        self.filled(&format!("{name}.bias"), &[out], 0.0);
    }

    fn norm(&mut self, name: &str, c: usize) {
        self.filled(&format!("{name}.weight"), &[c], 1.0);
        self.filled(&format!("{name}.bias"), &[c], 0.0);
    }

    fn uniform(&mut self, name: &str, shape: &[usize], rng: &mut Rng) {
        let fan_in: usize = shape[1..].iter().product();
        let bound = 1.0 / (fan_in as f32).sqrt();
        let data = (0..shape.iter().product())
            .map(|_| rng.random_range(-bound..bound))
            .collect();
        self.0.insert(
            name.to_owned(),
            Array {
                shape: shape.to_vec(),
                data,
            },
        );
    }

    fn filled(&mut self, name: &str, shape: &[usize], value: f32) {
        let data = vec![value; shape.iter().product()];
        self.0.insert(
            name.to_owned(),
            Array {
                shape: shape.to_vec(),
                data,
            },
        );
    }
}
