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
    /// Queries, rows of d; replaced by their contexts. With [`Shift::Legacy`] those of all frames.
    pub q: &'x mut [f32],
    /// The frame of the first query.
    pub first: usize,
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
            first,
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
        let (rows, frames) = (q.len() / d, v.len() / d);
        for head in 0..self.heads {
            let at = head * d_k;
            for row in 0..rows {
                let i = first + row;
                let seen = self.mask.seen(i, frames);
                let scores = first_mut(scores, seen.len());
                if self.shift == Shift::Latest {
                    let query = part(q, row * d + at, d_k);
                    self.score::<V>(at, i, seen.start, query, keys, key_stride, queries, scores);
                } else {
                    self.score_legacy(at, i, q, keys, key_stride, scores);
                }
                softmax::<V>(scores);
                if !weights.is_empty() {
                    let at = (head * frames + i) * frames + seen.start;
                    copy(scores, part_mut(weights, at, seen.len()));
                }
                let query = part_mut(q, row * d + at, d_k);
                let values = part(v, seen.start * d, seen.len() * d).chunks_exact(d);
                let terms = scores.iter().zip(values);
                combine::<V, 1>(terms.map(|(&w, v)| [(w, part(v, at, d_k))]), query);
            }
        }
    }

    /// Scores of query `i` against the keys it sees, before the softmax; the head begins at element `at`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn score<V: Eight>(
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
        let factors = with_u.iter().zip(&*with_v).enumerate();
        let terms = factors.map(|(c, (&u, &v))| {
            let keys = part(keys, (at + c) * key_stride + first_key, len);
            let positions = part(self.positions, (at + c) * span + first_position, len);
            [(u, keys), (v, positions)]
        });
        combine::<V, 2>(terms, scores);
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

/// y = Σ factor · row over all terms, T at a time, summed from zero in their order.
///
/// Sums stay in registers while all rows pass by. The last of them may be computed twice, to the same.
#[inline(always)]
fn combine<'x, V: Eight, const T: usize>(
    terms: impl Iterator<Item = [(f32, &'x [f32]); T]> + Clone,
    y: &mut [f32],
) {
    let (mut at, len) = (0, y.len());
    while at < len {
        let eights = match (len - at, len) {
            (64.., _) => 8,
            (17.., 32..) => 4,
            (_, 16..) => 2,
            (_, 8..) => 1,
            _ => 0,
        };
        let first = at.min(len.saturating_sub(8 * eights));
        at = first + 8 * eights;
        match eights {
            8 => combine_eights::<V, T, 8>(terms.clone(), first, y),
            4 => combine_eights::<V, T, 4>(terms.clone(), first, y),
            2 => combine_eights::<V, T, 2>(terms.clone(), first, y),
            1 => combine_eights::<V, T, 1>(terms.clone(), first, y),
            _ => {
                y.fill(0.0);
                for (factor, row) in terms.clone().flatten() {
                    for (y, v) in y.iter_mut().zip(row) {
                        *y += factor * v;
                    }
                }
                return;
            }
        }
    }
}

/// N times eight elements of y, from `at` on.
#[inline(always)]
fn combine_eights<'x, V: Eight, const T: usize, const N: usize>(
    terms: impl Iterator<Item = [(f32, &'x [f32]); T]>,
    at: usize,
    y: &mut [f32],
) {
    let mut sums = [V::splat(0.0); N];
    for term in terms {
        for (factor, row) in &term {
            let (eights, _) = part(row, at, 8 * N).as_chunks::<8>();
            let (Some(eights), factor) = (eights.first_chunk::<N>(), V::splat(*factor)) else {
                return;
            };
            for n in 0..N {
                sums[n] = sums[n].add(factor.mul(V::load(&eights[n])));
            }
        }
    }
    let (to, _) = part_mut(y, at, 8 * N).as_chunks_mut::<8>();
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = sum.array();
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
                first: 0,
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
