//! The lip reader as it is trained: named weights in, logits out. The maths is the engine's
//! (`viseme_engine::model::conformer`); a test holds the two together.

pub mod ops;
mod params;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

use crate::rng::Rng;
use ops::{ConvShape, Moments, Train};
pub use params::{Array, Params};
use serde::{Deserialize, Serialize};

/// Dimensions of a model, the `[model]` table of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dims {
    /// Output channels of the front-end's three convolutions.
    pub channels: [usize; 3],
    /// Conformer blocks.
    pub blocks: usize,
    /// Width of the encoder.
    pub d_model: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward modules.
    pub ff: usize,
    /// Kernel of the depthwise convolution, in frames.
    pub conv_kernel: usize,
    /// Frames the depthwise convolution sees to the left; `conv_kernel / 2` is centred.
    pub conv_left: usize,
    /// Dropout probability.
    pub dropout: f32,
}

/// Side of the crop that the model sees.
pub const SIDE: usize = 88;
/// Kernel, stride and padding of the front-end's convolutions.
pub const CONVS: [(usize, usize, usize); 3] = [(8, 4, 2), (4, 2, 0), (4, 2, 0)];

impl Dims {
    /// The convolutions of the front-end, first to last.
    pub fn convs(&self) -> [ConvShape; 3] {
        let (mut side, mut cin) = (SIDE, 3);
        std::array::from_fn(|i| {
            let (kernel, stride, pad) = CONVS[i];
            let cout = self.channels[i];
            let shape = ConvShape {
                side,
                cin,
                cout,
                kernel,
                stride,
                pad,
            };
            (side, cin) = (shape.out_side(), cout);
            shape
        })
    }

    /// Values of one frame after the convolutions.
    pub fn features(&self) -> usize {
        let last = self.convs()[2];
        last.out_side() * last.out_side() * last.cout
    }
}

/// A batch of clips of equal length, cut to the model's input.
#[derive(Debug, Clone)]
pub struct Input {
    /// `clips * frames` crops of `SIDE * SIDE` normalised pixels.
    pub pixels: Arc<Vec<f32>>,
    /// Number of clips.
    pub clips: usize,
    /// Frames in each clip.
    pub frames: usize,
    /// Normalised value of the pixels outside the crop.
    pub outside: f32,
}

/// How a forward pass is run.
pub enum Mode<'a> {
    /// Batch statistics and dropout drawn from the generator.
    Train(&'a mut Rng),
    /// Running statistics, no dropout.
    Eval(&'a BTreeMap<String, Moments>),
}

/// Named weights as leaves of one graph.
pub struct Leaves(BTreeMap<String, (Vec<usize>, Tensor<Train, 1>)>);

impl Leaves {
    /// Fresh leaves of a fresh graph: two threads never share one.
    pub fn new(params: &Params) -> Self {
        let device = Device::<Train>::default();
        let leaf = |a: &Array| {
            let data = TensorData::new(a.data.clone(), [a.data.len()]);
            (
                a.shape.clone(),
                Tensor::from_data(data, &device).require_grad(),
            )
        };
        Self(params.0.iter().map(|(n, a)| (n.clone(), leaf(a))).collect())
    }

    /// Gradients of a backward pass, by name; a weight that was not used has gradient zero.
    pub fn gradients(&self, loss: Tensor<Train, 1>) -> Params {
        let grads = loss.backward();
        let flat = |(shape, t): &(Vec<usize>, Tensor<Train, 1>)| {
            let data = match t.grad(&grads) {
                Some(g) => to_vec(g),
                None => vec![0.0; shape.iter().product()],
            };
            Array {
                shape: shape.clone(),
                data,
            }
        };
        Params(
            self.0
                .iter()
                .map(|(n, leaf)| (n.clone(), flat(leaf)))
                .collect(),
        )
    }

    fn vec(&self, name: &str) -> Tensor<Train, 1> {
        self.0[name].1.clone()
    }

    fn mat(&self, name: &str) -> Tensor<Train, 2> {
        let (shape, t) = &self.0[name];
        t.clone().reshape([shape[0], shape[1..].iter().product()])
    }

    fn linear(&self, name: &str, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
        let y = x.matmul(self.mat(&format!("{name}.weight")).transpose());
        y + self.vec(&format!("{name}.bias")).unsqueeze()
    }

    fn norm(&self, name: &str, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
        ops::layer_norm(
            x,
            self.vec(&format!("{name}.weight")),
            self.vec(&format!("{name}.bias")),
        )
    }
}

/// What one forward pass gives.
pub struct Output {
    /// `[clips * frames, tokens]`, before softmax.
    pub logits: Tensor<Train, 2>,
    /// The moments that each batch norm saw (training) or used (evaluation), by its name.
    pub moments: BTreeMap<String, Moments>,
}

/// Runs the model.
pub fn forward(dims: &Dims, leaves: &Leaves, input: &Input, mode: Mode<'_>) -> Output {
    let mut pass = Pass {
        dims,
        leaves,
        mode,
        frames: input.frames,
        moments: BTreeMap::new(),
    };
    let mut x = pass.front_end(input);
    let positions = positions(input.frames, dims.d_model);
    for b in 0..dims.blocks {
        x = pass.block(&format!("encoder.{b}"), x, &positions);
    }
    let x = leaves.norm("encoder.norm", x);
    Output {
        logits: leaves.linear("ctc", x),
        moments: pass.moments,
    }
}

struct Pass<'a> {
    dims: &'a Dims,
    leaves: &'a Leaves,
    mode: Mode<'a>,
    frames: usize,
    moments: BTreeMap<String, Moments>,
}

impl Pass<'_> {
    fn front_end(&mut self, input: &Input) -> Tensor<Train, 2> {
        let mut x: Option<Tensor<Train, 2>> = None;
        for (i, shape) in self.dims.convs().into_iter().enumerate() {
            let weight = self.leaves.mat(&format!("frontend.conv.{i}.weight"));
            let y = match x {
                None => {
                    let pixels = input.pixels.clone();
                    ops::conv_pixels(pixels, input.frames, shape, input.outside, weight)
                }
                Some(x) => ops::conv(x, shape, weight),
            };
            x = Some(self.batch_norm_silu(&format!("frontend.bn.{i}"), y));
        }
        let x = x.expect("three convolutions");
        let x = x.reshape([input.clips * input.frames, self.dims.features()]);
        let x = self.dropout(x);
        self.leaves.linear("frontend.proj", x)
    }

    fn block(
        &mut self,
        name: &str,
        x: Tensor<Train, 2>,
        positions: &Tensor<Train, 2>,
    ) -> Tensor<Train, 2> {
        let x = x.clone() + self.feed_forward(&format!("{name}.ff1"), x) * 0.5;
        let x = x.clone() + self.attention(&format!("{name}.att"), x, positions);
        let x = x.clone() + self.convolution(&format!("{name}.conv"), x);
        let x = x.clone() + self.feed_forward(&format!("{name}.ff2"), x) * 0.5;
        self.leaves.norm(&format!("{name}.norm"), x)
    }

    fn feed_forward(&mut self, name: &str, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
        let x = self.leaves.norm(&format!("{name}.norm"), x);
        let x = self.leaves.linear(&format!("{name}.up"), x);
        let x = ops::silu(x);
        let x = self.dropout(x);
        let x = self.leaves.linear(&format!("{name}.down"), x);
        self.dropout(x)
    }

    /// Multi-head attention with relative positions (Dai et al. 2019), full context.
    fn attention(
        &mut self,
        name: &str,
        x: Tensor<Train, 2>,
        positions: &Tensor<Train, 2>,
    ) -> Tensor<Train, 2> {
        let (t, h) = (self.frames, self.dims.heads);
        let dk = self.dims.d_model / h;
        let clips = x.dims()[0] / t;
        let x = self.leaves.norm(&format!("{name}.norm"), x);
        let heads = |x: Tensor<Train, 2>| x.reshape([clips, t, h, dk]).swap_dims(1, 2);
        let part = |p: &str, x| heads(self.leaves.linear(&format!("{name}.{p}"), x));
        let (q, k, v) = (part("q", x.clone()), part("k", x.clone()), part("v", x));
        let bias = |b: &str| {
            self.leaves
                .mat(&format!("{name}.{b}"))
                .reshape([1, h, 1, dk])
        };
        let p = positions
            .clone()
            .matmul(self.leaves.mat(&format!("{name}.pos.weight")).transpose());
        let p = p.reshape([1, 2 * t - 1, h, dk]).swap_dims(1, 2);
        let content = (q.clone() + bias("bias_u")).matmul(k.transpose());
        let place = relative_shift((q + bias("bias_v")).matmul(p.transpose()));
        let scores = (content + place) * (1.0 / (dk as f64).sqrt());
        let out = softmax(scores, 3).matmul(v);
        let out = out.swap_dims(1, 2).reshape([clips * t, h * dk]);
        let out = self.leaves.linear(&format!("{name}.out"), out);
        self.dropout(out)
    }

    fn convolution(&mut self, name: &str, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
        let d = self.dims.d_model;
        let x = self.leaves.norm(&format!("{name}.norm"), x);
        let x = self.leaves.linear(&format!("{name}.pointwise1"), x);
        let rows = x.dims()[0];
        let gate = sigmoid(x.clone().slice([0..rows, d..2 * d]));
        let x = x.slice([0..rows, 0..d]) * gate;
        let x = ops::depthwise(
            x,
            self.frames,
            self.leaves.mat(&format!("{name}.depthwise.weight")),
            self.leaves.vec(&format!("{name}.depthwise.bias")),
            self.dims.conv_left,
        );
        let x = self.batch_norm_silu(&format!("{name}.bn"), x);
        let x = self.leaves.linear(&format!("{name}.pointwise2"), x);
        self.dropout(x)
    }

    fn batch_norm_silu(&mut self, name: &str, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
        let fixed = match &self.mode {
            Mode::Train(_) => None,
            Mode::Eval(running) => Some(&running[name]),
        };
        let weight = self.leaves.vec(&format!("{name}.weight"));
        let bias = self.leaves.vec(&format!("{name}.bias"));
        let (y, moments) = ops::batch_norm_silu(x, weight, bias, fixed);
        self.moments.insert(name.to_owned(), moments);
        y
    }

    fn dropout(&mut self, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
        let keep = 1.0 - self.dims.dropout;
        match &mut self.mode {
            Mode::Train(rng) if keep < 1.0 => {
                let [rows, c] = x.dims();
                let mask: Vec<f32> = (0..rows * c)
                    .map(|_| {
                        if rng.random::<f32>() < keep {
                            1.0 / keep
                        } else {
                            0.0
                        }
                    })
                    .collect();
                x * constant(mask, [rows, c])
            }
            _ => x,
        }
    }
}

/// `[.., T, 2T-1]` scores by (query, distance T-1 .. -(T-1)) to `[.., T, T]` by (query, key):
/// the padding trick of Transformer-XL (Dai et al. 2019, appendix B).
fn relative_shift(x: Tensor<Train, 4>) -> Tensor<Train, 4> {
    let [b, h, t, r] = x.dims();
    let zero = Tensor::zeros([b, h, t, 1], &x.device());
    let x = Tensor::cat(vec![zero, x], 3).reshape([b, h, r + 1, t]);
    let x = x.slice([0..b, 0..h, 1..r + 1, 0..t]).reshape([b, h, t, r]);
    x.slice([0..b, 0..h, 0..t, 0..t])
}

/// Sinusoids of the distances `T-1, .., 0, .., -(T-1)`: `[2T-1, d]`.
fn positions(frames: usize, d: usize) -> Tensor<Train, 2> {
    let mut out = Vec::with_capacity((2 * frames - 1) * d);
    for row in 0..2 * frames - 1 {
        let distance = frames as f64 - 1.0 - row as f64;
        for k in 0..d / 2 {
            let angle = distance * (-(2.0 * k as f64) * 10000f64.ln() / d as f64).exp();
            out.push(angle.sin() as f32);
            out.push(angle.cos() as f32);
        }
    }
    constant(out, [2 * frames - 1, d])
}

fn constant<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> Tensor<Train, D> {
    Tensor::from_data(TensorData::new(data, shape), &Device::<Train>::default())
}

/// Values of a tensor outside the graph.
fn to_vec<const D: usize>(t: Tensor<Flex, D>) -> Vec<f32> {
    t.into_data().to_vec().expect("f32 tensor")
}

/// Values of a tensor, leaving the graph.
pub fn values<const D: usize>(t: Tensor<Train, D>) -> Vec<f32> {
    to_vec(t.inner())
}
