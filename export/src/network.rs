//! The conformer as a [`Graph`]: the arithmetic of `runtime/format/SPEC.md`, section 4, in f32.
//!
//! Three things are computed here once instead of in every run, none of which changes what the network computes: the
//! projected positions; 1/√(d/H), which goes into the queries; and the ½ of the feed-forward modules, which goes into
//! their last matrix.

use viseme_engine::math;
use viseme_format::gguf::Reader;
use viseme_format::spec::{Activation, Conformer};

use crate::graph::{Graph, Id, Kind};
use crate::weights::{self, Matrix};
use crate::{ExportError, Part};

/// Added to the scores of keys that are not to be seen: exp of it is 0 beside any other score.
pub const HIDDEN: f32 = -1e9;

/// The network, or a part of it.
///
/// # Errors
/// Frames or a left context that the model cannot have, or a tensor that is missing.
pub fn build(file: &Reader<'_>, spec: &Conformer<'_>, part: Part) -> Result<Graph, ExportError> {
    part.check(spec)?;
    let mut net = Network {
        file,
        spec,
        d: spec.encoder.d_model as usize,
        heads: spec.encoder.heads as usize,
        graph: Graph::default(),
    };
    match part {
        Part::Whole { frames } => {
            let x = net.frontend(frames)?;
            let mask = net.reach(frames);
            net.encoder(x, frames, mask)?;
        }
        Part::Encoder { frames, chunks } => {
            let x = net.graph.input("features", &[frames, net.d]);
            let mask = match chunks {
                None => net.reach(frames),
                Some(chunks) => Some(seen(frames, |i, j| chunks.sees(i, j))),
            };
            net.encoder(x, frames, mask)?;
        }
        Part::Step { frames, left } => net.step(frames, left)?,
    }
    Ok(net.graph)
}

/// What is added to the score of query i and key j, [frames, frames].
fn seen(frames: usize, sees: impl Fn(usize, usize) -> bool) -> Vec<f32> {
    let places = (0..frames * frames).map(|at| (at / frames, at % frames));
    let score = |(i, j)| if sees(i, j) { 0.0 } else { HIDDEN };
    places.map(score).collect()
}

struct Network<'n> {
    file: &'n Reader<'n>,
    spec: &'n Conformer<'n>,
    d: usize,
    heads: usize,
    graph: Graph,
}

/// Frames of before, as the caller of a step has them: inputs and the outputs that replace them.
struct Cache {
    keys: Option<Id>,
    values: Option<Id>,
    conv: Option<Id>,
}

/// What the attention of all blocks has in common.
struct Span {
    /// Frames of queries.
    frames: usize,
    /// Frames of keys before the first query.
    left: usize,
    /// Added to the scores.
    mask: Option<Id>,
}

impl Network<'_> {
    /// Whole utterances: [frames, d] to logits. Without a mask every frame sees every other.
    fn encoder(
        &mut self,
        mut x: Id,
        frames: usize,
        mask: Option<Vec<f32>>,
    ) -> Result<(), ExportError> {
        let mask = mask.map(|mask| self.graph.constant("mask", &[1, frames, frames], mask));
        let span = Span {
            frames,
            left: 0,
            mask,
        };
        for block in 0..self.spec.encoder.blocks as usize {
            x = self.block(block, x, &span, None)?.0;
        }
        let logits = self.head(x)?;
        self.graph.output("logits", logits);
        Ok(())
    }

    /// One chunk of a stream. The caches come in and go out in the order of the blocks; the mask, the last input, hides
    /// what is in the key caches before the stream's first frame.
    fn step(&mut self, frames: usize, left: usize) -> Result<(), ExportError> {
        let (d, blocks) = (self.d, self.spec.encoder.blocks as usize);
        let conv = self.spec.encoder.conv_kernel as usize - 1;
        let mut x = self.graph.input("features", &[frames, d]);
        let mut input = |name: &str, block: usize, rows: usize| {
            (rows > 0).then(|| self.graph.input(&format!("{name}.{block}"), &[rows, d]))
        };
        let caches = (0..blocks).map(|block| Cache {
            keys: input("keys", block, left),
            values: input("values", block, left),
            conv: input("conv", block, conv),
        });
        let caches: Vec<Cache> = caches.collect();
        let mask = Some(self.graph.input("mask", &[1, 1, left + frames]));
        let span = Span { frames, left, mask };
        let mut next = Vec::new();
        for (block, cache) in caches.into_iter().enumerate() {
            let (y, cache) = self.block(block, x, &span, Some(cache))?;
            x = y;
            next.extend([cache.keys, cache.values, cache.conv].into_iter().flatten());
        }
        let logits = self.head(x)?;
        self.graph.output("logits", logits);
        for (id, input) in next.into_iter().zip(1..) {
            let name = self.graph.values[self.graph.inputs[input].0].name.clone();
            self.graph.output(&format!("next.{name}"), id);
        }
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

    fn block(
        &mut self,
        b: usize,
        x: Id,
        span: &Span,
        cache: Option<Cache>,
    ) -> Result<(Id, Cache), ExportError> {
        let Cache { keys, values, conv } = cache.unwrap_or(Cache {
            keys: None,
            values: None,
            conv: None,
        });
        let x = self.feed_forward(&format!("encoder.{b}.ff1"), x)?;
        let (x, keys, values) = self.attention(b, x, span, keys, values)?;
        let (x, conv) = self.convolution(b, x, conv)?;
        let x = self.feed_forward(&format!("encoder.{b}.ff2"), x)?;
        let x = self.norm(&format!("encoder.{b}.norm"), x)?;
        Ok((x, Cache { keys, values, conv }))
    }

    /// x + ½ · down(act(up(LN x))).
    fn feed_forward(&mut self, name: &str, x: Id) -> Result<Id, ExportError> {
        let (d, ff) = (self.d, self.spec.encoder.ff as usize);
        let normed = self.norm(&format!("{name}.norm"), x)?;
        let wide = self.linear(&format!("{name}.up"), normed, ff, d, 1.0)?;
        let wide = match self.spec.encoder.ff_activation {
            Activation::Silu => self.silu(&format!("{name}.silu"), wide),
            Activation::Relu => self.same(&format!("{name}.relu"), Kind::Relu, wide),
        };
        let y = self.linear(&format!("{name}.down"), wide, d, ff, 0.5)?;
        Ok(self.add(&format!("{name}.sum"), x, y))
    }

    /// x + out(attention(LN x)), and the last rows of keys and values.
    fn attention(
        &mut self,
        b: usize,
        x: Id,
        span: &Span,
        old_keys: Option<Id>,
        old_values: Option<Id>,
    ) -> Result<(Id, Option<Id>, Option<Id>), ExportError> {
        let (d, heads) = (self.d, self.heads);
        let at = |part: &str| format!("encoder.{b}.att.{part}");
        let scale = math::rsqrt((d / heads) as f32);
        let normed = self.norm(&at("norm"), x)?;
        let queries = self.linear(&at("q"), normed, d, d, scale)?;
        let keys = self.linear(&at("k"), normed, d, d, 1.0)?;
        let values = self.linear(&at("v"), normed, d, d, 1.0)?;
        let (keys, next_keys) = self.behind(&at("keys"), old_keys, keys);
        let (values, next_values) = self.behind(&at("values"), old_values, values);

        let [content, place] = [("u", "bias_u"), ("v", "bias_v")].map(|(name, tensor)| {
            let mut bias = weights::floats(self.file, &at(tensor), &[heads, d / heads])?;
            bias.iter_mut().for_each(|value| *value *= scale);
            let bias = self.graph.constant(&at(tensor), &[d], bias);
            let biased = self.add(&at(&format!("query_{name}")), queries, bias);
            Ok::<Id, ExportError>(self.split_heads(&at(&format!("heads_{name}")), biased))
        });
        let (content, place) = (content?, place?);
        let keys = self.split_heads(&at("heads_k"), keys);
        let values = self.split_heads(&at("heads_values"), values);

        let (n, all) = (span.frames, span.left + span.frames);
        let by_content = self.product(&at("content"), content, keys, true, &[heads, n, all]);
        let by_place = self.places(b, place, n, span.left)?;
        let mut scores = self.add(&at("scores"), by_content, by_place);
        if let Some(mask) = span.mask {
            scores = self.add(&at("masked"), scores, mask);
        }
        let shares = self.same(&at("shares"), Kind::Softmax, scores);
        let context = self.product(
            &at("context"),
            shares,
            values,
            false,
            &[heads, n, d / heads],
        );
        let context = self.transpose(&at("by_frame"), context, &[1, 0, 2]);
        let context = self.reshape(&at("joined"), context, &[n, d]);
        let y = self.linear(&at("out"), context, d, d, 1.0)?;
        Ok((self.add(&at("sum"), x, y), next_keys, next_values))
    }

    /// (q + v) · p(i - j) of every query i and key j: the products with all offsets there are, and out of row i those
    /// that belong to its keys. One shift does that for all rows (Dai et al., "Transformer-XL", 2019, appendix B): in
    /// the flat rows of S products, key j of query i lies at iS + C-1-i + j = i(S-1) + C-1 + j.
    fn places(&mut self, b: usize, queries: Id, n: usize, left: usize) -> Result<Id, ExportError> {
        let (d, heads) = (self.d, self.heads);
        let at = |part: &str| format!("encoder.{b}.att.{part}");
        let (all, span) = (left + n, left + 2 * n - 1);
        let positions = self.positions(b, n, left)?;
        let positions = self
            .graph
            .constant(&at("positions"), &[heads, d / heads, span], positions);
        let products = self.product(&at("place"), queries, positions, false, &[heads, n, span]);
        if n == 1 {
            return Ok(products);
        }
        let flat = self.reshape(&at("place_flat"), products, &[heads, n * span]);
        let shifted = self.slice(
            &at("place_cut"),
            flat,
            &[0, n - 1],
            &[heads, n * (span - 1)],
        );
        let rows = self.reshape(&at("place_rows"), shifted, &[heads, n, span - 1]);
        if all == span - 1 {
            return Ok(rows);
        }
        Ok(self.slice(&at("place_keys"), rows, &[0, 0, 0], &[heads, n, all]))
    }

    /// p(r) for the offsets r = left + n - 1 down to -(n - 1), [heads, d / heads, offsets].
    fn positions(&self, b: usize, n: usize, left: usize) -> Result<Vec<f32>, ExportError> {
        let (d, span) = (self.d, left + 2 * n - 1);
        let name = format!("encoder.{b}.att.pos.weight");
        let weight = weights::floats(self.file, &name, &[d, d])?;
        // As the engine does it: the factor in double precision, its products in single.
        let factor = (-10_000f64.ln() / d as f64) as f32;
        let mut table = vec![0.0; d * span];
        for m in 0..span {
            let offset = (left + n - 1) as f32 - m as f32;
            let waves = (0..d).map(|i| {
                let angle = offset * math::exp((i / 2 * 2) as f32 * factor);
                if i % 2 == 0 {
                    math::sin(angle)
                } else {
                    math::cos(angle)
                }
            });
            let waves: Vec<f64> = waves.map(f64::from).collect();
            for (row, to) in weight.chunks(d).zip(table[m..].iter_mut().step_by(span)) {
                let products = row.iter().zip(&waves).map(|(w, wave)| f64::from(*w) * wave);
                *to = products.sum::<f64>() as f32;
            }
        }
        Ok(table)
    }

    /// x + pointwise2(SiLU(depthwise(GLU(pointwise1(LN x))))), and the last rows of what the depthwise convolution saw.
    fn convolution(
        &mut self,
        b: usize,
        x: Id,
        old: Option<Id>,
    ) -> Result<(Id, Option<Id>), ExportError> {
        let d = self.d;
        let kernel = self.spec.encoder.conv_kernel as usize;
        let left = self.spec.encoder.conv_left as usize;
        let at = |part: &str| format!("encoder.{b}.conv.{part}");
        let normed = self.norm(&at("norm"), x)?;
        let wide = self.linear(&at("pointwise1"), normed, 2 * d, d, 1.0)?;
        let rows = self.graph.shape(x)[0];
        let [linear, gate] = self
            .graph
            .op2(&at("halves"), Kind::Halves, wide, &[rows, d]);
        let gate = self.same(&at("gate"), Kind::Sigmoid, gate);
        let gated = self.mul(&at("gated"), linear, gate);
        let (gated, next) = self.behind(&at("frames"), old, gated);
        let pad = match old {
            Some(_) => [0, 0],
            None => [left, kernel - 1 - left],
        };
        let depthwise = Kind::Depthwise {
            weight: weights::floats(self.file, &at("depthwise.weight"), &[kernel, d])?,
            bias: weights::floats(self.file, &at("depthwise.bias"), &[d])?,
            kernel,
            pad,
        };
        let filtered = self
            .graph
            .op(&at("depthwise"), depthwise, &[gated], &[rows, d]);
        let active = self.silu(&at("silu"), filtered);
        let y = self.linear(&at("pointwise2"), active, d, d, 1.0)?;
        Ok((self.add(&at("sum"), x, y), next))
    }

    /// Frames behind those of a cache, and the cache's next content.
    fn behind(&mut self, name: &str, old: Option<Id>, new: Id) -> (Id, Option<Id>) {
        let Some(old) = old else {
            return (new, None);
        };
        let (kept, rows) = (self.graph.shape(old)[0], self.graph.shape(new)[0]);
        let shape = [kept + rows, self.d];
        let all = self
            .graph
            .op(name, Kind::Concat { axis: 0 }, &[old, new], &shape);
        let last = self.slice(&format!("{name}_last"), all, &[rows, 0], &[kept, self.d]);
        (all, Some(last))
    }

    /// `encoder.norm` and `ctc`.
    fn head(&mut self, x: Id) -> Result<Id, ExportError> {
        let normed = self.norm("encoder.norm", x)?;
        self.linear("ctc", normed, self.spec.tokens.len(), self.d, 1.0)
    }

    /// Grey crops [frames, side, side] to [frames, d].
    fn frontend(&mut self, frames: usize) -> Result<Id, ExportError> {
        let (front, mut side) = (&self.spec.frontend, self.spec.crop.size as usize);
        let crops = self.graph.input("crops", &[frames, side, side]);
        let grey = self
            .graph
            .constant("frontend.pad", &[1], vec![-(front.pad_value as f32)]);
        let x = self.add("frontend.grey", crops, grey);
        let mut x = self.reshape("frontend.pixels", x, &[frames, side, side, 1]);
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
                    self.file,
                    &name("weight"),
                    [outputs, inputs],
                    &[outputs, kernel, kernel, channels],
                )?
                .rows,
                bias: weights::floats(self.file, &name("bias"), &[outputs])?,
                kernel,
                stride: stage.stride as usize,
                pad: stage.pad as usize,
            };
            side = stage.side(side as u32).unwrap_or(0) as usize;
            channels = outputs;
            let shape = [frames, side, side, channels];
            let y = self.graph.op(&name("map"), convolution, &[x], &shape);
            x = self.silu(&name("silu"), y);
        }
        let features = side * side * channels;
        let x = self.reshape("frontend.flat", x, &[frames, features]);
        self.linear("frontend.proj", x, self.d, features, 1.0)
    }

    /// Neighbouring frames as channels; beyond the ends the first and the last frame are repeated.
    fn stack(&mut self, x: Id, channels: usize) -> Id {
        let [frames, side, ..] = *self.graph.shape(x) else {
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
                self.slice(&name, x, &[first, 0, 0, 0], &[count, side, side, 1])
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
                _ => (self.graph).op(&name, Kind::Concat { axis: 0 }, &parts, &shape),
            }
        });
        let shifted: Vec<Id> = shifted.collect();
        let shape = [frames, side, side, channels];
        (self.graph).op("frontend.stack", Kind::Concat { axis: 3 }, &shifted, &shape)
    }

    /// x Wᵀ + b, times `factor`.
    fn linear(
        &mut self,
        name: &str,
        x: Id,
        outputs: usize,
        inputs: usize,
        factor: f32,
    ) -> Result<Id, ExportError> {
        let weight = format!("{name}.weight");
        let weight: Matrix =
            weights::matrix(self.file, &weight, [outputs, inputs], &[outputs, inputs])?;
        let mut bias = weights::floats(self.file, &format!("{name}.bias"), &[outputs])?;
        bias.iter_mut().for_each(|value| *value *= factor);
        let weight = weight.scaled(factor);
        let shape = [self.graph.shape(x)[0], outputs];
        Ok(self
            .graph
            .op(name, Kind::Linear { weight, bias }, &[x], &shape))
    }

    fn norm(&mut self, name: &str, x: Id) -> Result<Id, ExportError> {
        let norm = Kind::LayerNorm {
            weight: weights::floats(self.file, &format!("{name}.weight"), &[self.d])?,
            bias: weights::floats(self.file, &format!("{name}.bias"), &[self.d])?,
            eps: self.spec.encoder.norm_eps,
        };
        Ok(self.same(name, norm, x))
    }

    /// [frames, d] to [heads, frames, d / heads].
    fn split_heads(&mut self, name: &str, x: Id) -> Id {
        let rows = self.graph.shape(x)[0];
        let shape = [rows, self.heads, self.d / self.heads];
        let split = self.reshape(&format!("{name}.split"), x, &shape);
        self.transpose(name, split, &[1, 0, 2])
    }

    fn silu(&mut self, name: &str, x: Id) -> Id {
        let gate = self.same(&format!("{name}.gate"), Kind::Sigmoid, x);
        self.mul(name, x, gate)
    }

    fn product(&mut self, name: &str, a: Id, b: Id, transposed: bool, shape: &[usize]) -> Id {
        self.graph
            .op(name, Kind::Product { transposed }, &[a, b], shape)
    }

    fn add(&mut self, name: &str, a: Id, b: Id) -> Id {
        let shape = self.graph.shape(a).to_vec();
        self.graph.op(name, Kind::Add, &[a, b], &shape)
    }

    fn mul(&mut self, name: &str, a: Id, b: Id) -> Id {
        let shape = self.graph.shape(a).to_vec();
        self.graph.op(name, Kind::Mul, &[a, b], &shape)
    }

    fn same(&mut self, name: &str, kind: Kind, x: Id) -> Id {
        let shape = self.graph.shape(x).to_vec();
        self.graph.op(name, kind, &[x], &shape)
    }

    fn reshape(&mut self, name: &str, x: Id, shape: &[usize]) -> Id {
        self.graph.op(name, Kind::Reshape, &[x], shape)
    }

    fn slice(&mut self, name: &str, x: Id, begin: &[usize], shape: &[usize]) -> Id {
        let begin = begin.to_vec();
        self.graph.op(name, Kind::Slice { begin }, &[x], shape)
    }

    fn transpose(&mut self, name: &str, x: Id, order: &[usize]) -> Id {
        let from = self.graph.shape(x);
        let shape: Vec<usize> = order.iter().map(|&i| from[i]).collect();
        let order = order.to_vec();
        self.graph.op(name, Kind::Transpose { order }, &[x], &shape)
    }
}
