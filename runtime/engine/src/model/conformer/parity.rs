//! The encoder against the original: intermediate tensors of Auto-AVSR's PyTorch code
//! (github.com/mpc001/auto_avsr) on a model of reduced size.

use std::boxed::Box;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;
use std::{env, format, fs, println, vec};

use safetensors::SafeTensors;

use super::encoder::*;
use super::linear::{Linear, QuantBuffer, Weight};
use crate::kernels::attention::slots::{Heads, ValueSlots, VectorSlots};
use crate::kernels::attention::{Int8Scratch, Mask, Reach};
use crate::kernels::elementwise::{Activation, transpose_into};
use crate::kernels::{WeightsF32, detect};

/// The fixture's dimensions: 20 frames, d 64, 4 heads, feed-forward 128, kernel 31, 41 tokens.
const FRAMES: usize = 20;
const D: usize = 64;
const FF: usize = 128;
const KERNEL: usize = 31;
const BLOCKS: usize = 2;

/// The fixture's files, or `None` (and a word on why) where the shared data is not at hand.
fn fixture() -> Option<[Vec<u8>; 2]> {
    let shared = env::var_os("VISEME_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into());
    let folder = shared.join("fixtures/auto_avsr/video_small");
    if !folder.is_dir() {
        println!("skipped: no {}; set VISEME_SHARED", folder.display());
        return None;
    }
    Some(["model", "io"].map(|name| fs::read(folder.join(format!("{name}.safetensors"))).unwrap()))
}

struct Tensors<'a>(SafeTensors<'a>);

impl<'a> Tensors<'a> {
    fn open(bytes: &'a [u8]) -> Self {
        Tensors(SafeTensors::deserialize(bytes).unwrap())
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let tensor = self
            .0
            .tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
        let words = tensor.data().as_chunks::<4>().0;
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    }

    /// Leaked, so that layers can borrow it.
    fn leak(&self, name: &str) -> &'static [f32] {
        self.get(name).leak()
    }

    fn norm(&self, name: String) -> Norm<'static> {
        Norm {
            weight: self.leak(&format!("{name}.weight")),
            bias: self.leak(&format!("{name}.bias")),
        }
    }

    fn linear(&self, name: String, inputs: usize) -> Linear<'static> {
        let rows = self.leak(&format!("{name}.weight"));
        Linear {
            weight: Weight::F32(WeightsF32::new(rows, inputs).unwrap()),
            bias: self.leak(&format!("{name}.bias")),
        }
    }

    fn block(&self, index: usize) -> Block<'static> {
        let at = |name: &str| format!("encoder.encoders.{index}.{name}");
        let feed_forward = |norm: &str, name: &str| FeedForward {
            norm: self.norm(at(norm)),
            up: self.linear(at(&format!("{name}.w_1")), D),
            down: self.linear(at(&format!("{name}.w_2")), FF),
        };
        let projection = |name: &str| self.linear(at(&format!("self_attn.linear_{name}")), D);
        let (depthwise, depthwise_bias) = self.folded_depthwise(&at("conv_module"));
        Block {
            ff1: feed_forward("norm_ff_macaron", "feed_forward_macaron"),
            att: Attention {
                norm: self.norm(at("norm_mha")),
                q: projection("q"),
                k: projection("k"),
                v: projection("v"),
                out: projection("out"),
                pos: WeightsF32::new(self.leak(&at("self_attn.linear_pos.weight")), D).unwrap(),
                bias_u: self.leak(&at("self_attn.pos_bias_u")),
                bias_v: self.leak(&at("self_attn.pos_bias_v")),
            },
            conv: Convolution {
                norm: self.norm(at("norm_conv")),
                pointwise1: self.linear(at("conv_module.pointwise_cov1"), D),
                depthwise,
                depthwise_bias,
                pointwise2: self.linear(at("conv_module.pointwise_cov2"), D),
            },
            ff2: feed_forward("norm_ff", "feed_forward"),
            norm: self.norm(at("norm_final")),
        }
    }

    /// Depthwise taps and bias with the batch norm (eps 1e-5) folded in.
    fn folded_depthwise(&self, module: &str) -> (&'static [f32], &'static [f32]) {
        let get = |name: &str| self.get(&format!("{module}.{name}"));
        let (mut taps, mut bias) = (get("depthwise_conv.weight"), get("depthwise_conv.bias"));
        let (weight, shift) = (get("norm.weight"), get("norm.bias"));
        let (mean, variance) = (get("norm.running_mean"), get("norm.running_var"));
        for c in 0..D {
            let scale = f64::from(weight[c]) / (f64::from(variance[c]) + 1e-5).sqrt();
            for tap in &mut taps[c * KERNEL..(c + 1) * KERNEL] {
                *tap = (f64::from(*tap) * scale) as f32;
            }
            let centred = f64::from(bias[c]) - f64::from(mean[c]);
            bias[c] = (centred * scale + f64::from(shift[c])) as f32;
        }
        let mut by_tap = vec![0.0; taps.len()];
        transpose_into(&taps, KERNEL, &mut by_tap, D, 0);
        (by_tap.leak(), bias.leak())
    }
}

fn shared() -> Shared<'static> {
    Shared {
        kernels: detect(),
        d: D,
        ff: FF,
        heads: Heads {
            count: 4,
            width: D / 4,
        },
        conv_left: 15,
        activation: Activation::Relu,
        eps: 1e-12,
        int8: false,
        // More room than the utterance needs: offsets are counted from its middle.
        mask: Mask::Reach(Reach {
            left: FRAMES + 3,
            right: FRAMES + 5,
        }),
    }
}

/// Runs `f` with scratch memory for the fixture.
fn with_scratch<R>(f: impl FnOnce(&mut Scratch<'_>, &mut QuantBuffer<'_>) -> R) -> R {
    let [mut q, mut v, mut keys] = [(); 3].map(|()| vec![f32::NAN; FRAMES * D]);
    let (mut normed, mut wide) = (vec![f32::NAN; ROWS * D], vec![f32::NAN; ROWS * 2 * D]);
    let (mut queries, mut scores) = (vec![f32::NAN; 2 * D], vec![f32::NAN; FRAMES]);
    let mut scratch = Scratch {
        q: &mut q,
        v: &mut v,
        keys: &mut keys,
        normed: &mut normed,
        wide: &mut wide,
        queries: &mut queries,
        scores: &mut scores,
        attention: Int8Scratch {
            query: &mut [],
            codes: &mut [],
            scores: &mut [],
            places: &mut [],
            weights: &mut [],
            offsets: &mut [],
        },
    };
    let mut quant = QuantBuffer {
        codes: &mut [],
        scale: &mut [],
        zero: &mut [],
    };
    f(&mut scratch, &mut quant)
}

#[track_caller]
fn assert_close(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let largest = want.iter().fold(1.0f32, |m, w| m.max(w.abs()));
    let error = got.iter().zip(want).fold(0.0f32, |m, (g, w)| {
        assert!(g.is_finite(), "{name}");
        m.max((g - w).abs())
    });
    println!("{name}: {:.1e} of {largest:.2}", error);
    assert!(error <= 1e-4 * largest, "{name}: {error} of {largest}");
}

/// Runs `f` with the memories of blocks, their position tables filled.
fn with_memories<R>(
    c: &Shared<'_>,
    attentions: &[&'static Attention<'static>],
    scratch: &mut Scratch<'_>,
    f: impl FnOnce(&mut [Memory<'_>], &mut Scratch<'_>) -> R,
) -> R {
    let mut floats: Vec<_> = (attentions.iter())
        .map(|_| {
            let table = vec![f32::NAN; D * c.mask.reach().span()];
            (table, vec![f32::NAN; FRAMES * D])
        })
        .collect();
    let mut memories: Vec<Memory<'_>> = (floats.iter_mut())
        .map(|(positions, gated)| Memory {
            positions,
            places: none(),
            keys: none(),
            values: ValueSlots {
                panels: &mut [],
                scale: &mut [],
            },
            gated,
        })
        .collect();
    let layers = attentions.iter().copied();
    let put = |b: usize, first, rows: &[f32]| memories[b].put_positions(c, first, rows);
    fill_positions(c, layers, put, scratch);
    f(&mut memories, scratch)
}

fn none() -> VectorSlots<'static> {
    VectorSlots {
        panels: &mut [],
        scale: &mut [],
        sum: &mut [],
    }
}

/// Each module of the first block by itself, on the original's inputs.
#[test]
fn modules_match_auto_avsr() {
    let Some([model, io]) = fixture() else { return };
    let (model, io) = (Tensors::open(&model), Tensors::open(&io));
    let (c, block) = (shared(), model.block(0));
    let att: &'static Attention<'static> = Box::leak(Box::new(block.att));
    with_scratch(|s, q| {
        with_memories(&c, &[att], s, |memories, s| {
            let memory = &mut memories[0];
            let mut x = io.get("encoder.embed.x_scaled");
            let step =
                |x: &mut Vec<f32>, factor: f32, name: &str, run: &mut dyn FnMut(&mut [f32])| {
                    let before = x.clone();
                    run(x);
                    let name = format!("encoder.layer0.{name}");
                    let want = io.get(&name);
                    let got: Vec<f32> = x
                        .iter()
                        .zip(&before)
                        .map(|(x, b)| (x - b) / factor)
                        .collect();
                    assert_close(&name, &got, &want);
                    // Errors do not add up: go on from the original's output.
                    *x = before
                        .iter()
                        .zip(&want)
                        .map(|(b, w)| b + factor * w)
                        .collect();
                };
            step(&mut x, 0.5, "ff_macaron", &mut |x| {
                block.ff1.run(&c, x, s, q)
            });
            step(&mut x, 1.0, "self_attn", &mut |x| {
                block.att.run(&c, memory, 0, x, s, q)
            });
            step(&mut x, 1.0, "conv_module", &mut |x| {
                block.conv.run(&c, memory.gated, 0, x, s, q)
            });
            step(&mut x, 0.5, "ff", &mut |x| block.ff2.run(&c, x, s, q));
            let mut y = vec![f32::NAN; x.len()];
            block.norm.run(c.kernels, c.eps, &x, &mut y);
            assert_close("encoder.layer0.out", &y, &io.get("encoder.layer0.out"));
        })
    });
}

/// The whole encoder and the CTC head, from the scaled embedding to logits.
#[test]
fn the_encoder_matches_auto_avsr() {
    let Some([model, io]) = fixture() else { return };
    let (model, io) = (Tensors::open(&model), Tensors::open(&io));
    let c = shared();
    let blocks = [0, 1].map(|b| model.block(b));
    assert_eq!(blocks.len(), BLOCKS);
    let attentions = blocks.map(|block| &*Box::leak(Box::new(block.att)));
    with_scratch(|s, q| {
        with_memories(&c, &attentions, s, |memories, s| {
            let mut x = io.get("encoder.embed.x_scaled");
            for (b, memory) in memories.iter_mut().enumerate() {
                blocks[b].run(&c, memory, 0, &mut x, s, q);
                let name = format!("encoder.layer{b}.out");
                assert_close(&name, &x, &io.get(&name));
            }
            let mut y = vec![f32::NAN; x.len()];
            model
                .norm("encoder.after_norm".into())
                .run(c.kernels, c.eps, &x, &mut y);
            assert_close("encoder.out", &y, &io.get("encoder.out"));
            let mut logits = vec![f32::NAN; FRAMES * 41];
            let rows = q.load(c.kernels, false, &y, D);
            model
                .linear("ctc.ctc_lo".into(), D)
                .run(c.kernels, rows, &mut logits);
            assert_close("ctc.logits", &logits, &io.get("ctc.logits"));
        })
    });
}

/// The sinusoids behind the position tables, through a projection that changes nothing.
#[test]
fn sinusoids_match_auto_avsr() {
    let Some([model, io]) = fixture() else { return };
    let (model, io) = (Tensors::open(&model), Tensors::open(&io));
    let mut identity = vec![0.0; D * D];
    identity.iter_mut().step_by(D + 1).for_each(|v| *v = 1.0);
    let att = Attention {
        pos: WeightsF32::new(identity.leak(), D).unwrap(),
        ..model.block(0).att
    };
    let c = Shared {
        mask: Mask::Reach(Reach {
            left: FRAMES - 1,
            right: FRAMES - 1,
        }),
        ..shared()
    };
    let span = c.mask.reach().span();
    let mut got = vec![f32::NAN; D * span];
    let put = |_, first: usize, rows: &[f32]| got[first * D..][..rows.len()].copy_from_slice(rows);
    with_scratch(|s, _| fill_positions(&c, [&att].into_iter(), put, s));
    // The original's row 0 is the largest offset, as ours is.
    let want = io.get("encoder.embed.pos_emb");
    assert_close("encoder.embed.pos_emb", &got, &want);
}
