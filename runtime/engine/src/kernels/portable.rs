//! Matrix kernels in plain Rust, for every target; what all others are compared with.
//!
//! Weights are walked once for a block of rows that stays in the first-level cache, in tiles small
//! enough for 16 vector registers (Goto and van de Geijn, "Anatomy of high-performance matrix
//! multiplication", 2008). The inner loops are shaped so that LLVM vectorises them with the baseline
//! instruction sets of x86-64 and AArch64.

use core::array::from_fn;

use viseme_format::panels::OUTPUTS;

use super::attention::{AttendedInt8, Int8Attention};
#[cfg(feature = "alloc")]
use super::convolution::{self, Convolution};
use super::eight::{Eight, Plain, tree};
use super::packed::{Pair, Unit};
use super::panels::{self, Group, Sums, Tile};
use super::{Kernels, QuantRows, RowQuant, WeightsF32, WeightsI4, WeightsI8};
use crate::parts::equal_parts;

/// The portable kernels.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Kernels for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
        panels::matmul(PortableTile, x, w, bias, y);
    }

    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
        attention.run::<_, Plain>(PortableTile, x);
    }
}

/// See [`Kernels::matmul_f32`].
#[inline(always)]
pub fn matmul_f32<V: Eight>(x: &[f32], w: WeightsF32<'_>, bias: &[f32], y: &mut [f32]) {
    let (k, n) = (w.inputs(), w.outputs());
    let blocks = x
        .chunks((ROWS_F32 * k).max(1))
        .zip(y.chunks_mut((ROWS_F32 * n).max(1)));
    for (x, y) in blocks {
        for (i, rows) in w.rows().chunks((2 * k).max(1)).enumerate() {
            match rows.split_at_checked(k) {
                Some((row, [])) => strip_f32::<V, 1>(x, [row], bias, y, 2 * i, n),
                Some((a, b)) => strip_f32::<V, 2>(x, [a, b], bias, y, 2 * i, n),
                // Rows are whole.
                None => {}
            }
        }
    }
}

/// See [`Kernels::matmul_i4`].
pub fn matmul_i4(x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
    panels::matmul(PortableTile, x, w, bias, y);
}

/// See [`Kernels::convolve_i8`].
#[cfg(feature = "alloc")]
pub fn convolve_i8(
    over: &Convolution,
    x: QuantRows<'_>,
    w: WeightsI8<'_>,
    bias: &[f32],
    y: &mut [f32],
) {
    convolution::convolve(PortableTile, over, x, w, bias, y);
}

/// Σ a\[i\] · b\[i\] in the engine's one order: eight running sums, the i-th product added to sum
/// i mod 8, then ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7)). Products and sums round to f32
/// one by one. Elements that one of the slices lacks count as zero.
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let k = a.len().min(b.len());
    let [[sum]] = tile_f32::<Plain, 1, 1>([&a[..k]], [&b[..k]]);
    sum
}

/// Quantises one row: lo = min(0, x), hi = max(0, x), scale = (hi − lo) / 255, inverse = 1 / scale,
/// zero = rne(−lo · inverse), q = clamp(rne(x · inverse) + zero, 0, 255), with rne rounding halves to
/// even. A row of zeros, or one whose scale or its inverse is no normal number, has scale 0 and codes
/// 0. A NaN counts as 0.
#[inline(always)]
pub fn quantize<V: Eight>(x: &[f32], q: &mut [u8]) -> RowQuant {
    let (lo, hi) = range::<V>(x);
    let scale = (hi - lo) / 255.0;
    let inverse = 1.0 / scale;
    if !(scale.is_normal() && inverse.is_normal()) {
        q.fill(0);
        return RowQuant::default();
    }
    // Values are within ±255 after the product, where adding 1.5 · 2^23 rounds to the nearest integer, and leaves it in
    // the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    let clamp = |v: f32, least: f32| {
        let v = if v > least { v } else { least };
        if v < least + 255.0 { v } else { least + 255.0 }
    };
    let zero = clamp(-lo * inverse + SHIFT, SHIFT) - SHIFT;
    let least = SHIFT - zero;
    let (q, rest) = q.split_at_mut(x.len().min(q.len()));
    rest.fill(0);
    for (q, &v) in q.iter_mut().zip(x) {
        let code = clamp(v * inverse + SHIFT, least);
        *q = (code.to_bits() as u8).wrapping_sub(least.to_bits() as u8);
    }
    RowQuant {
        scale,
        zero: zero as i32,
    }
}

/// Quantises symmetrically: scale = largest / 127, q = clamp(rne(x / scale), −127, 127), with x / scale computed as
/// x · (1 / scale). `largest` is the largest magnitude of the row that `x` is all or part of; where it is too small
/// or too large for its step and the inverse to be normal numbers, the codes and the scale are 0. A NaN counts as 0.
#[inline(always)]
pub fn quantize_symmetric(x: &[f32], largest: f32, q: &mut [i8]) -> f32 {
    let scale = largest / 127.0;
    let inverse = 1.0 / scale;
    if !(scale.is_normal() && inverse.is_normal()) {
        q.fill(0);
        return 0.0;
    }
    for (q, &v) in q.iter_mut().zip(x) {
        let code = v * inverse;
        let code = if code > -127.0 { code } else { -127.0 };
        let code = if code < 127.0 { code } else { 127.0 };
        // Rounded by the 1.5 · 2^23 on top of it, whose lowest bits then hold the integer.
        let bits = (code + 12_582_912.0).to_bits() as i8;
        *q = if v.is_nan() { 0 } else { bits };
    }
    scale
}

/// Rows of activations that stay in the first-level cache while the weights pass by.
const ROWS_F32: usize = 16;

/// Columns `out..out + N` of y for all rows of x.
#[inline(always)]
fn strip_f32<V: Eight, const N: usize>(
    x: &[f32],
    w: [&[f32]; N],
    bias: &[f32],
    y: &mut [f32],
    out: usize,
    n: usize,
) {
    let k = w[0].len();
    let bias: [f32; N] = from_fn(|j| bias.get(out + j).copied().unwrap_or(0.0));
    let finish = |y: &mut [f32], sums: [f32; N]| store::<N>(y, out, from_fn(|j| sums[j] + bias[j]));
    for (x, y) in x.chunks((4 * k).max(1)).zip(y.chunks_mut((4 * n).max(1))) {
        if x.len() == 4 * k
            && y.len() == 4 * n
            && let Some(rows) = equal_parts(x, k)
        {
            let sums = tile_f32::<V, 4, N>(rows, w);
            for (y, sums) in y.chunks_exact_mut(n.max(1)).zip(sums) {
                finish(y, sums);
            }
        } else {
            for (x, y) in x.chunks_exact(k.max(1)).zip(y.chunks_exact_mut(n.max(1))) {
                let [sums] = tile_f32::<V, 1, N>([x], w);
                finish(y, sums);
            }
        }
    }
}

#[inline(always)]
fn store<const N: usize>(row: &mut [f32], at: usize, values: [f32; N]) {
    for (y, v) in row.iter_mut().skip(at).zip(values) {
        *y = v;
    }
}

/// Dot products of M rows of x with N rows of w, all of one length.
#[inline(always)]
fn tile_f32<'x, V: Eight, const M: usize, const N: usize>(
    x: [&'x [f32]; M],
    w: [&'x [f32]; N],
) -> [[f32; N]; M] {
    let (x, w) = (x.map(<[f32]>::as_chunks), w.map(<[f32]>::as_chunks));
    // Equal lengths, told to the compiler, take the bounds checks out of the loop.
    let lengths = x.iter().chain(&w).map(|(chunks, _)| chunks.len());
    let len = lengths.min().unwrap_or(0);
    let equal = |(chunks, _): (&'x [[f32; 8]], &[f32])| chunks.get(..len).unwrap_or(&[]);
    let (xs, ws) = (x.map(equal), w.map(equal));
    let mut sums = [[V::splat(0.0); N]; M];
    for i in 0..len {
        let mut w = [V::splat(0.0); N];
        for n in 0..N {
            w[n] = V::load(ws[n].get(i).unwrap_or(&[0.0; 8]));
        }
        for m in 0..M {
            let x = V::load(xs[m].get(i).unwrap_or(&[0.0; 8]));
            for n in 0..N {
                sums[m][n] = sums[m][n].add(x.mul(w[n]));
            }
        }
    }
    let mut all = [[0.0; N]; M];
    for m in 0..M {
        for n in 0..N {
            let sum = sums[m][n];
            all[m][n] = if x[m].1.is_empty() {
                sum.sum()
            } else {
                let mut sums = sum.array();
                for (sum, (a, b)) in sums.iter_mut().zip(x[m].1.iter().zip(w[n].1)) {
                    *sum += a * b;
                }
                tree(sums)
            };
        }
    }
    all
}

/// The int8 and int4 tiles in plain Rust.
#[derive(Clone, Copy)]
struct PortableTile;

impl Tile for PortableTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        w.map(|w| x.map(|x| row_sums(x, w)))
    }
}

/// Sums of a row over a panel. Not part of every loop that asks for them: unrolled there, they were a tenth of a small
/// program.
#[inline(never)]
fn row_sums(x: &[[u8; 4]], w: &[Group]) -> Sums {
    let mut sums = [0; OUTPUTS];
    for (x, group) in x.iter().zip(w) {
        add(&mut sums, x, group);
    }
    sums
}

impl Tile<Pair> for PortableTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Pair]; P],
    ) -> [[Sums; M]; P] {
        w.map(|w| pair_sums(x, w))
    }
}

/// Sums of some rows over a panel of pairs, which are unpacked once for all rows.
#[inline(never)]
fn pair_sums<const M: usize>(x: [&[[u8; 4]]; M], w: &[Pair]) -> [Sums; M] {
    let mut all = [[0; OUTPUTS]; M];
    for (i, pair) in w.iter().enumerate() {
        let groups = [pair.group(0), pair.group(1)];
        for (x, sums) in x.iter().zip(&mut all) {
            // Never: rows are as long as panels. Going on with less would cost the loop its vectors.
            let Some(x) = x.get(2 * i..) else { return all };
            for (x, group) in x.iter().zip(&groups) {
                add(sums, x, group);
            }
        }
    }
    all
}

/// Adds the products of four codes with a group.
#[inline(always)]
fn add(sums: &mut Sums, x: &[u8; 4], group: &Group) {
    for (sum, w) in sums.iter_mut().zip(group) {
        for (&x, &w) in x.iter().zip(w) {
            // Wrapping: MAX_INPUTS excludes overflow, and a check would stop vectorisation.
            *sum = sum.wrapping_add(i32::from(x) * i32::from(w));
        }
    }
}

/// min(0, x) and max(0, x); NaN are passed over.
#[inline(always)]
fn range<V: Eight>(x: &[f32]) -> (f32, f32) {
    let (chunks, rest) = x.as_chunks::<8>();
    let (mut lo, mut hi) = ([V::splat(0.0); 2], [V::splat(0.0); 2]);
    let pairs = chunks.chunks_exact(2);
    if let [last] = pairs.remainder() {
        lo[0] = V::load(last).least(lo[0]);
        hi[0] = V::load(last).most(hi[0]);
    }
    for pair in pairs {
        for ((eight, lo), hi) in pair.iter().zip(&mut lo).zip(&mut hi) {
            let v = V::load(eight);
            *lo = v.least(*lo);
            *hi = v.most(*hi);
        }
    }
    let (lo, hi) = (lo[0].least(lo[1]).array(), hi[0].most(hi[1]).array());
    let (lo, hi) = (lo.iter().chain(rest), hi.iter().chain(rest));
    (
        lo.fold(0.0, |a, &b| if b < a { b } else { a }),
        hi.fold(0.0, |a, &b| if b > a { b } else { a }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::noise;
    use crate::kernels::code_stride;
    use std::vec::Vec;
    use viseme_format::panels::pack;

    const SIZES: [(usize, usize, usize); 10] = [
        (1, 1, 1),
        (2, 3, 2),
        (1, 8, 5),
        (3, 36, 7),
        (4, 144, 2),
        (17, 23, 9),
        // Four rows, two and one, by several panels at a time and what is left of them.
        (7, 5, 70),
        (33, 64, 3),
        (37, 144, 11),
        (75, 192, 24),
    ];

    /// An interpreter takes minutes for the large ones; every tile and remainder is in the small ones too.
    fn sizes() -> &'static [(usize, usize, usize)] {
        let count = if cfg!(miri) { 7 } else { SIZES.len() };
        &SIZES[..count]
    }

    #[test]
    fn f32_products_match_f64() {
        for &(m, k, n) in sizes() {
            let (x, w, bias) = (noise(1, m * k), noise(2, n * k), noise(3, n));
            let mut y = std::vec![f32::NAN; m * n];
            Portable.matmul_f32(&x, WeightsF32::new(&w, k).unwrap(), &bias, &mut y);
            for (i, &got) in y.iter().enumerate() {
                let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
                let products = x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b));
                let want = products.sum::<f64>() + f64::from(bias[i % n]);
                assert!(
                    (f64::from(got) - want).abs() < 1e-5,
                    "{m}x{k}x{n}: {got} {want}"
                );
                assert_eq!(got, dot_f32(x, w) + bias[i % n], "every tile has one order");
            }
        }
    }

    #[test]
    fn the_order_of_a_dot_product_is_the_documented_one() {
        let (a, b) = (noise(4, 29), noise(5, 29));
        let mut s = [0.0f32; 8];
        for i in 0..29 {
            s[i % 8] += a[i] * b[i];
        }
        let want = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
        assert_eq!(dot_f32(&a, &b).to_bits(), want.to_bits());
    }

    #[test]
    fn int8_products_are_exact() {
        for &(m, k, n) in sizes() {
            let stride = code_stride(k);
            let codes: Vec<u8> = noise(6, m * stride)
                .iter()
                .map(|v| ((v + 1.0) * 127.5) as u8)
                .collect();
            let w: Vec<i8> = noise(7, n * k).iter().map(|v| (v * 127.9) as i8).collect();
            let colsum: Vec<i32> = w
                .chunks(k)
                .map(|r| r.iter().map(|&v| i32::from(v)).sum())
                .collect();
            let (scale, bias) = (std::vec![1.0; n], std::vec![0.0; n]);
            let zero: Vec<i32> = (0..m).map(|i| (i * 37 % 256) as i32).collect();
            let x = QuantRows {
                codes: &codes,
                scale: &std::vec![1.0; m],
                zero: &zero,
            };
            let mut y = std::vec![f32::NAN; m * n];
            let packed = pack(&w, k);
            let w8 = WeightsI8::new(&packed, &scale, &colsum, k).unwrap();
            assert!(w8.padding_is_zero() && w8.sums_hold());
            Portable.matmul_i8(x, w8, &bias, &mut y);
            for (i, &got) in y.iter().enumerate() {
                let (x, w) = (&codes[i / n * stride..][..k], &w[i % n * k..][..k]);
                let want: i64 = x
                    .iter()
                    .zip(w)
                    .map(|(&a, &b)| (i64::from(a) - i64::from(zero[i / n])) * i64::from(b))
                    .sum();
                assert_eq!(got, want as f32, "{m}x{k}x{n}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "half a million products, which run natively")]
    fn the_worst_accumulation_does_not_overflow() {
        let k = crate::kernels::MAX_INPUTS;
        for (code, weight, zero) in [(255, 127, 0), (255, -127, 0), (0, 127, 255), (0, -127, 255)] {
            let sum = k as i32 * i32::from(weight);
            let mut y = [f32::NAN];
            let (packed, colsum) = (pack(&std::vec![weight; k], k), [sum]);
            let w = WeightsI8::new(&packed, &[1.0], &colsum, k).unwrap();
            let codes = std::vec![code; k];
            let x = QuantRows {
                codes: &codes,
                scale: &[1.0],
                zero: &[zero],
            };
            Portable.matmul_i8(x, w, &[], &mut y);
            let want = (i64::from(code) - i64::from(zero)) * i64::from(sum);
            assert_eq!(y[0], want as f32);
        }
    }

    #[test]
    fn quantisation_follows_its_formula() {
        for len in [1, 7, 8, 144, 145] {
            for (seed, offset) in [(8, 0.0), (9, 0.9), (10, -2.0)] {
                let x: Vec<f32> = noise(seed, len).iter().map(|v| 3.0 * v + offset).collect();
                let mut q = std::vec![0; len];
                let p = quantize::<Plain>(&x, &mut q);
                let lo = x.iter().fold(0.0f32, |a, b| a.min(*b));
                let hi = x.iter().fold(0.0f32, |a, b| a.max(*b));
                let scale = (hi - lo) / 255.0;
                let inverse = 1.0 / scale;
                let zero = (-lo * inverse).round_ties_even();
                assert_eq!((p.scale, p.zero), (scale, zero as i32));
                for (&q, &x) in q.iter().zip(&x) {
                    let want = ((x * inverse).round_ties_even() + zero).clamp(0.0, 255.0);
                    assert_eq!(f32::from(q), want);
                    let back = p.scale * (i32::from(q) - p.zero) as f32;
                    assert!((back - x).abs() <= 1.001 * scale, "{back} {x} {scale}");
                }
            }
        }
    }

    #[test]
    fn degenerate_rows_quantise_without_a_panic() {
        let mut q = [9; 3];
        assert_eq!(
            quantize::<Plain>(&[0.0, -0.0, 0.0], &mut q),
            RowQuant::default()
        );
        assert_eq!(q, [0; 3]);
        quantize::<Plain>(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &mut q);
        quantize::<Plain>(&[f32::MAX, f32::MIN, 1.0], &mut q);
        let tiny = quantize::<Plain>(&[f32::from_bits(1), 0.0, 0.0], &mut q);
        assert_eq!((tiny, q), (RowQuant::default(), [0; 3]));
    }

    #[test]
    fn f32_weights_of_the_wrong_size_are_refused() {
        assert!(WeightsF32::new(&[0.0; 6], 3).is_some());
        assert!(WeightsF32::new(&[0.0; 6], 4).is_none());
        assert!(WeightsF32::new(&[], 4).is_none());
        assert!(WeightsF32::new(&[0.0; 6], 0).is_none());
    }
}
