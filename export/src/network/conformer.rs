//! Models of `viseme-conformer`: `SPEC.md`, section 4.

use viseme_format::gguf::Reader;
use viseme_format::spec::Conformer;

use super::{Cache, Encoder, Network, Positions, Span};
use crate::graph::{Graph, Id, Kind};
use crate::weights;
use crate::{ExportError, Part};

/// Added to the scores of keys that are not to be seen: exp of it is 0 beside any other score.
pub const HIDDEN: f32 = -1e9;

/// The network, or a part of it.
///
/// # Errors
/// Frames or a left context that the model cannot have, or a tensor that is missing.
pub fn build(file: &Reader<'_>, spec: &Conformer<'_>, part: Part) -> Result<Graph, ExportError> {
    part.check(spec)?;
    let e = &spec.encoder;
    let blocks = Encoder {
        prefix: "",
        d: e.d_model as usize,
        heads: e.heads as usize,
        ff: e.ff as usize,
        activation: e.ff_activation,
        kernel: e.conv_kernel as usize,
        conv_left: e.conv_left as usize,
        eps: e.norm_eps,
        positions: Positions::Latest,
    };
    let net = Network {
        file,
        graph: Graph::default(),
    };
    let mut model = Model { net, spec, blocks };
    match part {
        Part::Whole { frames } => {
            let x = model.frontend(frames)?;
            let mask = model.reach(frames);
            model.encoder(x, frames, mask)?;
        }
        Part::Encoder { frames, chunks } => {
            let x = model.net.graph.input("features", &[frames, blocks.d]);
            let mask = match chunks {
                None => model.reach(frames),
                Some(chunks) => Some(seen(frames, |i, j| chunks.sees(i, j))),
            };
            let encoded = model.encoder(x, frames, mask)?;
            model.net.graph.output("encoded", encoded);
        }
        Part::Step { frames, left } => model.step(frames, left)?,
    }
    Ok(model.net.graph)
}

/// What is added to the score of query i and key j, [frames, frames].
fn seen(frames: usize, sees: impl Fn(usize, usize) -> bool) -> Vec<f32> {
    let places = (0..frames * frames).map(|at| (at / frames, at % frames));
    let score = |(i, j)| if sees(i, j) { 0.0 } else { HIDDEN };
    places.map(score).collect()
}

struct Model<'n> {
    net: Network<'n>,
    spec: &'n Conformer<'n>,
    blocks: Encoder,
}

impl Model<'_> {
    /// Whole utterances: [frames, d] to logits; what they are made from. Without a mask every frame sees every other.
    fn encoder(
        &mut self,
        mut x: Id,
        frames: usize,
        mask: Option<Vec<f32>>,
    ) -> Result<Id, ExportError> {
        let mask = mask.map(|mask| self.net.graph.constant("mask", &[1, frames, frames], mask));
        let span = Span {
            frames,
            left: 0,
            mask,
        };
        for block in 0..self.spec.encoder.blocks as usize {
            x = self.net.block(&self.blocks, block, x, &span, None)?.0;
        }
        let logits = self.head(x)?;
        self.net.graph.output("logits", logits);
        Ok(x)
    }

    /// One chunk of a stream. The caches come in and go out in the order of the blocks; the mask, the last input, hides
    /// what is in the key caches before the stream's first frame.
    fn step(&mut self, frames: usize, left: usize) -> Result<(), ExportError> {
        let (d, blocks) = (self.blocks.d, self.spec.encoder.blocks as usize);
        let conv = self.spec.encoder.conv_kernel as usize - 1;
        let mut x = self.net.graph.input("features", &[frames, d]);
        let mut input = |name: &str, block: usize, rows: usize| {
            (rows > 0).then(|| self.net.graph.input(&format!("{name}.{block}"), &[rows, d]))
        };
        let caches = (0..blocks).map(|block| Cache {
            keys: input("keys", block, left),
            values: input("values", block, left),
            conv: input("conv", block, conv),
        });
        let caches: Vec<Cache> = caches.collect();
        let mask = Some(self.net.graph.input("mask", &[1, 1, left + frames]));
        let span = Span { frames, left, mask };
        let mut next = Vec::new();
        for (block, cache) in caches.into_iter().enumerate() {
            let (y, cache) = self.net.block(&self.blocks, block, x, &span, Some(cache))?;
            x = y;
            next.extend([cache.keys, cache.values, cache.conv].into_iter().flatten());
        }
        let logits = self.head(x)?;
        self.net.graph.output("logits", logits);
        for (id, input) in next.into_iter().zip(1..) {
            let name = self.net.graph.values[self.net.graph.inputs[input].0]
                .name
                .clone();
            self.net.graph.output(&format!("next.{name}"), id);
        }
        self.net.graph.output("encoded", x);
        Ok(())
    }

    /// The mask of the model's own reach; `None` if every frame sees every other.
    fn reach(&self, frames: usize) -> Option<Vec<f32>> {
        let encoder = &self.spec.encoder;
        let most = |reach: i32| usize::try_from(reach).unwrap_or(frames);
        let (left, right) = (most(encoder.att_left), most(encoder.att_right));
        let limited = left + 1 < frames || right + 1 < frames;
        limited.then(|| seen(frames, |i, j| j + left >= i && j <= i + right))
    }

    /// `encoder.norm` and `ctc`.
    fn head(&mut self, x: Id) -> Result<Id, ExportError> {
        let normed = self.net.norm("encoder.norm", x, self.blocks.eps)?;
        self.net
            .linear("ctc", normed, self.spec.tokens.len(), self.blocks.d, 1.0)
    }

    /// Grey crops [frames, side, side] to [frames, d].
    fn frontend(&mut self, frames: usize) -> Result<Id, ExportError> {
        let (front, mut side) = (&self.spec.frontend, self.spec.crop.size as usize);
        let crops = self.net.graph.input("crops", &[frames, side, side]);
        let grey = self
            .net
            .graph
            .constant("frontend.pad", &[1], vec![-(front.pad_value as f32)]);
        let x = self.net.add("frontend.grey", crops, grey);
        let mut x = self
            .net
            .reshape("frontend.pixels", x, &[frames, side, side, 1]);
        if front.frames > 1 {
            x = self.stack(x, front.frames as usize);
        }
        let mut channels = front.frames as usize;
        for (i, stage) in front.stages().iter().enumerate() {
            let name = |part: &str| format!("frontend.conv.{i}.{part}");
            let (outputs, kernel) = (stage.channels as usize, stage.kernel as usize);
            let inputs = kernel * kernel * channels;
            let convolution = Kind::Convolution {
                weight: weights::matrix(
                    self.net.file,
                    &name("weight"),
                    [outputs, inputs],
                    &[outputs, kernel, kernel, channels],
                )?
                .rows,
                bias: weights::floats(self.net.file, &name("bias"), &[outputs])?,
                kernel: [kernel; 2],
                stride: [stage.stride as usize; 2],
                pad: [stage.pad as usize; 2],
            };
            side = stage.side(side as u32).unwrap_or(0) as usize;
            channels = outputs;
            let shape = [frames, side, side, channels];
            let y = self.net.graph.op(&name("map"), convolution, &[x], &shape);
            x = self.net.silu(&name("silu"), y);
        }
        let features = side * side * channels;
        let x = self.net.reshape("frontend.flat", x, &[frames, features]);
        self.net
            .linear("frontend.proj", x, self.blocks.d, features, 1.0)
    }

    /// Neighbouring frames as channels; beyond the ends the first and the last frame are repeated.
    fn stack(&mut self, x: Id, channels: usize) -> Id {
        let [frames, side, ..] = *self.net.graph.shape(x) else {
            return x;
        };
        let around = channels / 2;
        let shifted = (0..channels).map(|c| {
            // Frames that are missing before, and after.
            let before = around.saturating_sub(c).min(frames);
            let after = c.saturating_sub(around).min(frames);
            let kept = frames - before - after;
            let mut parts = Vec::new();
            let mut cut = |first: usize, count: usize, what: &str| {
                let name = format!("frontend.shift.{c}.{what}");
                self.net
                    .slice(&name, x, &[first, 0, 0, 0], &[count, side, side, 1])
            };
            parts.extend((0..before).map(|i| cut(0, 1, &format!("first.{i}"))));
            if kept > 0 {
                parts.push(cut(after, kept, "kept"));
            }
            parts.extend((0..after).map(|i| cut(frames - 1, 1, &format!("last.{i}"))));
            let name = format!("frontend.shift.{c}");
            let shape = [frames, side, side, 1];
            match parts[..] {
                [whole] => whole,
                _ => (self.net.graph).op(&name, Kind::Concat { axis: 0 }, &parts, &shape),
            }
        });
        let shifted: Vec<Id> = shifted.collect();
        let shape = [frames, side, side, channels];
        (self.net.graph).op("frontend.stack", Kind::Concat { axis: 3 }, &shifted, &shape)
    }
}
