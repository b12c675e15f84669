//! Attention in f32.

use super::{Mask, Shift};
use crate::kernels::eight::Eight;
use crate::kernels::norm::softmax;
use crate::parts::{copy, first_mut, part, part_mut};

/// What one attention layer needs besides its inputs.
#[derive(Clone, Copy, Debug)]
pub struct RelativeAttention<'a> {
    /// Number of heads H; `bias_u` and `bias_v` have H · d_k = d elements.
    pub heads: usize,
    /// Added to the queries that meet keys, [H, d_k].
    pub bias_u: &'a [f32],
    /// Added to the queries that meet positions, [H, d_k].
    pub bias_v: &'a [f32],
    /// Projected position vectors, transposed: [d, span] of the mask's reach; column m is the offset
    /// i − j = left − m of query i from key j, so that it grows with j. With [`Shift::Legacy`] [d, left + 1].
    pub positions: &'a [f32],
    /// Which keys a query sees.
    pub mask: Mask,
    /// Which column a query meets.
    pub shift: Shift,
    /// 1 / sqrt(d_k).
    pub scale: f32,
}

/// The inputs of one attention layer, and its working memory.
#[derive(Debug)]
pub struct Attended<'x> {
    /// Queries, [frames, d]; replaced by their contexts.
    pub q: &'x mut [f32],
    /// Keys, transposed: [d, key_stride], of which the first `frames` columns are used.
    pub keys: &'x [f32],
    /// Elements from one row of `keys` to the next.
    pub key_stride: usize,
    /// Values, [frames, d].
    pub v: &'x [f32],
    /// Scratch of 2 · d_k elements.
    pub queries: &'x mut [f32],
    /// Scratch of `frames` elements.
    pub scores: &'x mut [f32],
    /// Weights after the softmax, [H, frames, frames], for those who ask; else empty.
    pub weights: &'x mut [f32],
}

impl RelativeAttention<'_> {
    /// Replaces the queries by their contexts.
    ///
    /// score\[i, j\] = ((q_i + u) · k_j + (q_i + v) · p_(i−j)) · scale, summed from zero over the
    /// elements of a head upwards, key product before position product; softmax over j; the context
    /// sums weight · value over j upwards.
    #[inline(always)]
    pub fn run<V: Eight>(&self, x: Attended<'_>) {
        let Attended {
            q,
            keys,
            key_stride,
            v,
            queries,
            scores,
            weights,
        } = x;
        let d = self.bias_u.len();
        let d_k = d / self.heads.max(1);
        if d_k == 0 {
            return;
        }
        let frames = q.len() / d;
        for head in 0..self.heads {
            let at = head * d_k;
            for i in 0..frames {
                let seen = self.mask.seen(i, frames);
                let scores = first_mut(scores, seen.len());
                if self.shift == Shift::Latest {
                    let query = part(q, i * d + at, d_k);
                    self.score(at, i, seen.start, query, keys, key_stride, queries, scores);
                } else {
                    self.score_legacy(at, i, q, keys, key_stride, scores);
                }
                softmax::<V>(scores);
                if !weights.is_empty() {
                    let row = (head * frames + i) * frames + seen.start;
                    copy(scores, part_mut(weights, row, seen.len()));
                }
                let query = part_mut(q, i * d + at, d_k);
                let values = part(v, seen.start * d, seen.len() * d).chunks_exact(d);
                weigh(scores, values.map(|v| part(v, at, d_k)), query);
            }
        }
    }

    /// Scores of query `i` against the keys it sees, before the softmax; the head begins at element `at`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn score(
        &self,
        at: usize,
        i: usize,
        first_key: usize,
        query: &[f32],
        keys: &[f32],
        key_stride: usize,
        queries: &mut [f32],
        scores: &mut [f32],
    ) {
        let d_k = query.len();
        let (with_u, with_v) = first_mut(queries, 2 * d_k)
            .split_at_mut_checked(d_k)
            .unwrap_or_default();
        for (with, bias) in [(&mut *with_u, self.bias_u), (&mut *with_v, self.bias_v)] {
            for ((with, &q), &bias) in with.iter_mut().zip(query).zip(part(bias, at, d_k)) {
                *with = q + bias;
            }
        }
        let reach = self.mask.reach();
        let first_position = first_key + reach.left - i;
        let (span, len) = (reach.span(), scores.len());
        let element = |c: usize| {
            let keys = part(keys, (at + c) * key_stride + first_key, len);
            let positions = part(self.positions, (at + c) * span + first_position, len);
            keys.iter().zip(positions)
        };
        scores.fill(0.0);
        // Two elements a pass halve the traffic of the scores; the order stays the same.
        let (u, last_u) = with_u.as_chunks::<2>();
        let (v, last_v) = with_v.as_chunks::<2>();
        for (i, (&[u0, u1], &[v0, v1])) in u.iter().zip(v).enumerate() {
            let elements = element(2 * i).zip(element(2 * i + 1));
            for (s, ((k0, p0), (k1, p1))) in scores.iter_mut().zip(elements) {
                *s = *s + u0 * k0 + v0 * p0 + u1 * k1 + v1 * p1;
            }
        }
        for (u, v) in last_u.iter().zip(last_v) {
            for (s, (k, p)) in scores.iter_mut().zip(element(d_k - 1)) {
                *s = *s + u * k + v * p;
            }
        }
        for s in scores {
            *s *= self.scale;
        }
    }

    /// [`Self::score`] with [`Shift::Legacy`]: of query `i` of `q` against all keys.
    #[inline(always)]
    fn score_legacy(
        &self,
        at: usize,
        i: usize,
        q: &[f32],
        keys: &[f32],
        key_stride: usize,
        scores: &mut [f32],
    ) {
        let d = self.bias_u.len();
        let d_k = d / self.heads.max(1);
        let (frames, columns) = (scores.len(), self.mask.reach().left + 1);
        scores.fill(0.0);
        for c in at..at + d_k {
            let element = |all: &[f32], i: usize| all.get(i).copied().unwrap_or(0.0);
            let query = element(q, i * d + c);
            let u = query + element(self.bias_u, c);
            for (s, k) in scores.iter_mut().zip(part(keys, c * key_stride, frames)) {
                *s += u * k;
            }
            let table = part(self.positions, c * columns, columns);
            let v = query + element(self.bias_v, c);
            let near = part(table, columns - 1 - i, i + 1);
            for (s, p) in scores.iter_mut().zip(near) {
                *s += v * p;
            }
            let v = element(q, (i + 1) * d + c) + element(self.bias_v, c);
            for (s, p) in scores.iter_mut().skip(i + 2).zip(table) {
                *s += v * p;
            }
        }
        for s in scores {
            *s *= self.scale;
        }
    }
}

/// context = Σ_j weights\[j\] · values\[j\].
#[inline(always)]
fn weigh<'a>(weights: &[f32], mut values: impl Iterator<Item = &'a [f32]>, context: &mut [f32]) {
    context.fill(0.0);
    let (fours, rest) = weights.as_chunks::<4>();
    for &[w0, w1, w2, w3] in fours {
        let mut next = || values.next().unwrap_or(&[]);
        let (a, b, c, d) = (next(), next(), next(), next());
        let values = a.iter().zip(b).zip(c.iter().zip(d));
        for (y, ((a, b), (c, d))) in context.iter_mut().zip(values) {
            *y = *y + w0 * a + w1 * b + w2 * c + w3 * d;
        }
    }
    for (&w, values) in rest.iter().zip(values) {
        for (y, v) in context.iter_mut().zip(values) {
            *y += w * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::attention::Reach;
    use crate::kernels::eight::Plain;
    use std::vec::Vec;

    fn noise(seed: usize, len: usize) -> Vec<f32> {
        let hash = |i: usize| (i * 7919 + seed * 104_729 + i * i * 31) % 1009;
        (0..len).map(|i| hash(i) as f32 / 504.5 - 1.0).collect()
    }

    /// The formula in f64, straight.
    #[test]
    fn matches_the_formula_within_any_reach() {
        for (frames, heads, d_k, left, right) in [
            (1, 1, 2, 0, 0),
            (5, 2, 3, 9, 9),
            (9, 1, 4, 2, 0),
            (12, 3, 5, 0, 3),
            (20, 2, 8, 4, 2),
        ] {
            let d = heads * d_k;
            let reach = Reach { left, right };
            let (q, k, v) = (
                noise(1, frames * d),
                noise(2, frames * d),
                noise(3, frames * d),
            );
            let (bias_u, bias_v) = (noise(4, d), noise(5, d));
            let positions = noise(6, d * reach.span());
            let stride = frames + 3;
            let mut keys = std::vec![f32::NAN; d * stride];
            crate::kernels::elementwise::transpose_into(&k, d, &mut keys, stride, 0);
            let attention = RelativeAttention {
                heads,
                bias_u: &bias_u,
                bias_v: &bias_v,
                positions: &positions,
                mask: Mask::Reach(reach),
                shift: Shift::Latest,
                scale: 0.7,
            };
            let mut got = q.clone();
            let (mut queries, mut scores) = (std::vec![0.0; 2 * d_k], std::vec![0.0; frames]);
            attention.run::<Plain>(Attended {
                q: &mut got,
                keys: &keys,
                key_stride: stride,
                v: &v,
                queries: &mut queries,
                scores: &mut scores,
                weights: &mut [],
            });
            for i in 0..frames {
                for h in 0..heads {
                    let seen: Vec<usize> = (0..frames)
                        .filter(|&j| j + left >= i && j <= i + right)
                        .collect();
                    let score = |j: usize| {
                        let column = (left + j) - i;
                        let terms = (h * d_k..(h + 1) * d_k).map(|c| {
                            let q = f64::from(q[i * d + c]);
                            let content = (q + f64::from(bias_u[c])) * f64::from(k[j * d + c]);
                            let p = f64::from(positions[c * reach.span() + column]);
                            content + (q + f64::from(bias_v[c])) * p
                        });
                        (0.7 * terms.sum::<f64>()).exp()
                    };
                    let total: f64 = seen.iter().map(|&j| score(j)).sum();
                    for c in h * d_k..(h + 1) * d_k {
                        let terms = seen.iter().map(|&j| score(j) * f64::from(v[j * d + c]));
                        let want = terms.sum::<f64>() / total;
                        assert!((f64::from(got[i * d + c]) - want).abs() < 2e-6);
                    }
                }
            }
        }
    }
}
