//! Networks as a [`Graph`]: the arithmetic of `runtime/format/SPEC.md` in f32. Here are the conformer block, which both
//! families of models have in common, and what it is made of.
//!
//! Three things are computed here once instead of in every run, none of which changes what a network computes: the
//! projected positions; 1/√(d/H), which goes into the queries; and the ½ of the feed-forward modules, which goes into
//! their last matrix.

pub mod auto_avsr;
pub mod conformer;

use viseme_engine::math;
use viseme_format::gguf::Reader;
use viseme_format::spec::Activation;

use crate::ExportError;
use crate::graph::{Graph, Id, Kind};
use crate::weights::{self, Matrix};

/// A network that is being built.
struct Network<'n> {
    file: &'n Reader<'n>,
    graph: Graph,
}

/// Conformer blocks.
#[derive(Clone, Copy)]
struct Encoder {
    /// What the names of their tensors begin with.
    prefix: &'static str,
    d: usize,
    heads: usize,
    ff: usize,
    activation: Activation,
    kernel: usize,
    /// Frames of the past that the depthwise convolution sees.
    conv_left: usize,
    eps: f32,
    positions: Positions,
}

/// How attention counts distances.
#[derive(Clone, Copy, PartialEq)]
enum Positions {
    /// From query to key.
    Latest,
    /// As `SPEC.md`, section 5.2, says: row r of the table is the sinusoid of this number less r.
    Legacy(usize),
}

/// Frames of before, as the caller of a step has them: inputs and the outputs that replace them.
#[derive(Default)]
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
    fn block(
        &mut self,
        e: &Encoder,
        b: usize,
        x: Id,
        span: &Span,
        cache: Option<Cache>,
    ) -> Result<(Id, Cache), ExportError> {
        let Cache { keys, values, conv } = cache.unwrap_or_default();
        let x = self.feed_forward(e, &e.name(b, "ff1"), x)?;
        let (x, keys, values) = self.attention(e, b, x, span, keys, values)?;
        let (x, conv) = self.convolution(e, b, x, conv)?;
        let x = self.feed_forward(e, &e.name(b, "ff2"), x)?;
        let x = self.norm(&e.name(b, "norm"), x, e.eps)?;
        Ok((x, Cache { keys, values, conv }))
    }

    /// x + ½ · down(act(up(LN x))).
    fn feed_forward(&mut self, e: &Encoder, name: &str, x: Id) -> Result<Id, ExportError> {
        let (d, ff) = (e.d, e.ff);
        let normed = self.norm(&format!("{name}.norm"), x, e.eps)?;
        let wide = self.linear(&format!("{name}.up"), normed, ff, d, 1.0)?;
        let wide = match e.activation {
            Activation::Silu => self.silu(&format!("{name}.silu"), wide),
            Activation::Relu => self.same(&format!("{name}.relu"), Kind::Relu, wide),
        };
        let y = self.linear(&format!("{name}.down"), wide, d, ff, 0.5)?;
        Ok(self.add(&format!("{name}.sum"), x, y))
    }

    /// x + out(attention(LN x)), and the last rows of keys and values.
    fn attention(
        &mut self,
        e: &Encoder,
        b: usize,
        x: Id,
        span: &Span,
        old_keys: Option<Id>,
        old_values: Option<Id>,
    ) -> Result<(Id, Option<Id>, Option<Id>), ExportError> {
        let (d, heads) = (e.d, e.heads);
        let at = |part: &str| e.name(b, &format!("att.{part}"));
        let scale = math::rsqrt((d / heads) as f32);
        let normed = self.norm(&at("norm"), x, e.eps)?;
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
            Ok::<Id, ExportError>(self.split_heads(&at(&format!("heads_{name}")), biased, heads))
        });
        let (content, place) = (content?, place?);
        let keys = self.split_heads(&at("heads_k"), keys, heads);
        let values = self.split_heads(&at("heads_values"), values, heads);

        let (n, all) = (span.frames, span.left + span.frames);
        let by_content = self.product(&at("content"), content, keys, true, &[heads, n, all]);
        let by_place = self.places(e, b, place, n, span.left)?;
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
    fn places(
        &mut self,
        e: &Encoder,
        b: usize,
        queries: Id,
        n: usize,
        left: usize,
    ) -> Result<Id, ExportError> {
        let (d, heads) = (e.d, e.heads);
        let at = |part: &str| e.name(b, &format!("att.{part}"));
        let (all, span) = (left + n, left + 2 * n - 1);
        if let Positions::Legacy(last) = e.positions {
            return self.legacy_places(e, b, queries, n, last);
        }
        let positions = self.positions(e, b, left + n - 1, span)?;
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

    /// The same as the first version of ESPnet has it, with a row of the table for each frame: a column of zeros before
    /// the products, and the first n of the flat rows of n + 1 left out.
    fn legacy_places(
        &mut self,
        e: &Encoder,
        b: usize,
        queries: Id,
        n: usize,
        last: usize,
    ) -> Result<Id, ExportError> {
        let (width, heads) = (e.d / e.heads, e.heads);
        let at = |part: &str| e.name(b, &format!("att.{part}"));
        let positions = self.positions(e, b, last, n)?;
        let positions = self
            .graph
            .constant(&at("positions"), &[heads, width, n], positions);
        let products = self.product(&at("place"), queries, positions, false, &[heads, n, n]);
        let zeros = self
            .graph
            .constant(&at("place_zeros"), &[heads, n, 1], vec![0.0; heads * n]);
        let shape = [heads, n, n + 1];
        let padded = (self.graph).op(
            &at("place_padded"),
            Kind::Concat { axis: 2 },
            &[zeros, products],
            &shape,
        );
        let flat = self.reshape(&at("place_flat"), padded, &[heads, n * (n + 1)]);
        let shifted = self.slice(&at("place_cut"), flat, &[0, n], &[heads, n * n]);
        Ok(self.reshape(&at("place_rows"), shifted, &[heads, n, n]))
    }

    /// p(r) for `span` offsets r from `first` downwards, [heads, d / heads, span].
    fn positions(
        &self,
        e: &Encoder,
        b: usize,
        first: usize,
        span: usize,
    ) -> Result<Vec<f32>, ExportError> {
        let d = e.d;
        let name = e.name(b, "att.pos.weight");
        let weight = weights::floats(self.file, &name, &[d, d])?;
        // As the engine does it: the factor in double precision, its products in single.
        let factor = (-10_000f64.ln() / d as f64) as f32;
        let mut table = vec![0.0; d * span];
        for m in 0..span {
            let offset = first as f32 - m as f32;
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
        e: &Encoder,
        b: usize,
        x: Id,
        old: Option<Id>,
    ) -> Result<(Id, Option<Id>), ExportError> {
        let (d, kernel, left) = (e.d, e.kernel, e.conv_left);
        let at = |part: &str| e.name(b, &format!("conv.{part}"));
        let normed = self.norm(&at("norm"), x, e.eps)?;
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
        let d = self.graph.shape(new)[1];
        let shape = [kept + rows, d];
        let all = self
            .graph
            .op(name, Kind::Concat { axis: 0 }, &[old, new], &shape);
        let last = self.slice(&format!("{name}_last"), all, &[rows, 0], &[kept, d]);
        (all, Some(last))
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

    fn norm(&mut self, name: &str, x: Id, eps: f32) -> Result<Id, ExportError> {
        let width = self.graph.shape(x).last().copied().unwrap_or(0);
        let norm = Kind::LayerNorm {
            weight: weights::floats(self.file, &format!("{name}.weight"), &[width])?,
            bias: weights::floats(self.file, &format!("{name}.bias"), &[width])?,
            eps,
        };
        Ok(self.same(name, norm, x))
    }

    /// [frames, d] to [heads, frames, d / heads].
    fn split_heads(&mut self, name: &str, x: Id, heads: usize) -> Id {
        let [rows, d] = [0, 1].map(|i| self.graph.shape(x)[i]);
        let shape = [rows, heads, d / heads];
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

impl Encoder {
    /// Name of a part of a block.
    fn name(&self, block: usize, part: &str) -> String {
        format!("{}encoder.{block}.{part}", self.prefix)
    }
}
