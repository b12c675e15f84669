//! int8 and int4 tiles. Codes are made signed (minus 128); four outputs by four inputs fill a register.
//!
//! SDOT and SMMLA take int4 weights sixteen times as large as they are: the high halves of bytes then need a mask, the low
//! ones a shift, and the sums are divided by 16 at the end, which leaves no rest.

use core::arch::aarch64::*;
use core::arch::asm;

use viseme_format::panels::OUTPUTS;

use crate::kernels::packed::Pair;
use crate::kernels::panels::{Group, Sums, Tile, common_length, common_pairs};
use crate::parts::after;

/// SMULL, SMLAL and SADALP: products of two groups are added in 16 bits (128 · 127 · 2 fits), then pairwise to 32.
/// 16 products take 3 instructions.
#[derive(Clone, Copy)]
pub(super) struct NeonTile;

impl Tile for NeonTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        let groups = common_length(&x, &w);
        let mut all = [[[0; OUTPUTS]; M]; P];
        for (w, all) in w.into_iter().zip(&mut all) {
            // Eight outputs at a time: four registers of sums a row, two to an output.
            for half in 0..2 {
                // SAFETY: NEON is part of AArch64; `g`, and `g + 1` where it is used, are below the length of every slice.
                unsafe {
                    let mut sums = [[vdupq_n_s32(0); 4]; M];
                    let mut g = 0;
                    while g + 1 < groups {
                        let near = eight_outputs(w, g, half);
                        let far = eight_outputs(w, g + 1, half);
                        for (sums, x) in sums.iter_mut().zip(x) {
                            let (a, b) = (codes(x, g), codes(x, g + 1));
                            for i in 0..4 {
                                let products = vmull_s8(quarter(near, i), vget_low_s8(a));
                                let products = vmlal_s8(products, quarter(far, i), vget_low_s8(b));
                                sums[i] = vpadalq_s16(sums[i], products);
                            }
                        }
                        g += 2;
                    }
                    if g < groups {
                        let last = eight_outputs(w, g, half);
                        for (sums, x) in sums.iter_mut().zip(x) {
                            let a = codes(x, g);
                            for i in 0..4 {
                                let products = vmull_s8(quarter(last, i), vget_low_s8(a));
                                sums[i] = vpadalq_s16(sums[i], products);
                            }
                        }
                    }
                    for (all, sums) in all.iter_mut().zip(sums) {
                        let to = all[8 * half..].as_mut_ptr();
                        vst1q_s32(to, vpaddq_s32(sums[0], sums[1]));
                        vst1q_s32(to.add(4), vpaddq_s32(sums[2], sums[3]));
                    }
                }
            }
        }
        all
    }
}

/// Pairs whose products SMLAL adds up in 16 bits: 128 · 7 for each of their two groups.
const SHORT_PAIRS: usize = 16;

impl Tile<Pair> for NeonTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    /// int4 weights are so small that many products fit 16 bits before they are widened: 16 products take 2 instructions.
    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Pair]; P],
    ) -> [[Sums; M]; P] {
        let (pairs, odd) = common_pairs(&x, &w);
        let mut all = [[[0; OUTPUTS]; M]; P];
        for (w, all) in w.into_iter().zip(&mut all) {
            for half in 0..2 {
                // SAFETY: NEON is part of AArch64; `i` is below the length of every panel, and the groups below that of
                // every row.
                unsafe {
                    let mut sums = [[vdupq_n_s32(0); 4]; M];
                    let mut first = 0;
                    while first < pairs {
                        let end = (first + SHORT_PAIRS).min(pairs);
                        let mut short = [[vdupq_n_s16(0); 4]; M];
                        for i in first..end {
                            let (low, high) = halves(eight_outputs_of_pair(w, i, half));
                            for (short, x) in short.iter_mut().zip(x) {
                                let (a, b) = (codes(x, 2 * i), codes(x, 2 * i + 1));
                                for i in 0..4 {
                                    let sum = vmlal_s8(short[i], quarter(low, i), vget_low_s8(a));
                                    short[i] = vmlal_s8(sum, quarter(high, i), vget_low_s8(b));
                                }
                            }
                        }
                        for (sums, short) in sums.iter_mut().zip(short) {
                            for i in 0..4 {
                                sums[i] = vpadalq_s16(sums[i], short[i]);
                            }
                        }
                        first = end;
                    }
                    if odd {
                        let (low, _) = halves(eight_outputs_of_pair(w, pairs, half));
                        for (sums, x) in sums.iter_mut().zip(x) {
                            let a = codes(x, 2 * pairs);
                            for i in 0..4 {
                                let products = vmull_s8(quarter(low, i), vget_low_s8(a));
                                sums[i] = vpadalq_s16(sums[i], products);
                            }
                        }
                    }
                    for (all, sums) in all.iter_mut().zip(sums) {
                        let to = all[8 * half..].as_mut_ptr();
                        vst1q_s32(to, vpaddq_s32(sums[0], sums[1]));
                        vst1q_s32(to.add(4), vpaddq_s32(sums[2], sums[3]));
                    }
                }
            }
        }
        all
    }
}

/// SDOT: a register of four outputs by four inputs meets the four codes of a row.
#[derive(Clone, Copy)]
pub(super) struct DotTile;

impl Tile for DotTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        let groups = common_length(&x, &w);
        let mut all = [[[0; OUTPUTS]; M]; P];
        for (w, all) in w.into_iter().zip(&mut all) {
            // SAFETY: inlined only into functions compiled for SDOT; `g` is below the length of every slice.
            unsafe {
                let mut sums = [[vdupq_n_s32(0); 4]; M];
                for g in 0..groups {
                    let (low, high) = (eight_outputs(w, g, 0), eight_outputs(w, g, 1));
                    for (sums, x) in sums.iter_mut().zip(x) {
                        let x = codes(x, g);
                        sums[0] = sdot(sums[0], low.0, x);
                        sums[1] = sdot(sums[1], low.1, x);
                        sums[2] = sdot(sums[2], high.0, x);
                        sums[3] = sdot(sums[3], high.1, x);
                    }
                }
                for (all, sums) in all.iter_mut().zip(sums) {
                    for (i, sums) in sums.into_iter().enumerate() {
                        vst1q_s32(all[4 * i..].as_mut_ptr(), sums);
                    }
                }
            }
        }
        all
    }
}

impl Tile<Pair> for DotTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Pair]; P],
    ) -> [[Sums; M]; P] {
        let (pairs, odd) = common_pairs(&x, &w);
        let mut all = [[[0; OUTPUTS]; M]; P];
        for (w, all) in w.into_iter().zip(&mut all) {
            // SAFETY: inlined only into functions compiled for SDOT; `i` is below the length of every panel, and the
            // groups below that of every row.
            unsafe {
                let mut sums = [[vdupq_n_s32(0); 4]; M];
                for i in 0..pairs {
                    let w = [0, 1, 2, 3].map(|quad| four_outputs_of_pair(w, i, quad));
                    for (sums, x) in sums.iter_mut().zip(x) {
                        let (a, b) = (codes(x, 2 * i), codes(x, 2 * i + 1));
                        for (sums, w) in sums.iter_mut().zip(w) {
                            *sums =
                                sdot(sdot(*sums, low_sixteenfold(w), a), high_sixteenfold(w), b);
                        }
                    }
                }
                if odd {
                    let w = [0, 1, 2, 3].map(|quad| four_outputs_of_pair(w, pairs, quad));
                    for (sums, x) in sums.iter_mut().zip(x) {
                        let a = codes(x, 2 * pairs);
                        for (sums, w) in sums.iter_mut().zip(w) {
                            *sums = sdot(*sums, low_sixteenfold(w), a);
                        }
                    }
                }
                for (all, sums) in all.iter_mut().zip(sums) {
                    for (i, sums) in sums.into_iter().enumerate() {
                        vst1q_s32(all[4 * i..].as_mut_ptr(), vshrq_n_s32::<4>(sums));
                    }
                }
            }
        }
        all
    }
}

/// SMMLA: two rows of eight codes by two outputs of eight inputs, 32 products an instruction. Single rows, and a last
/// group without a partner, go by SDOT.
#[derive(Clone, Copy)]
pub(super) struct MatrixTile;

impl Tile for MatrixTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        if M == 1 {
            return DotTile.sums(x, w);
        }
        let groups = common_length(&x, &w);
        let paired = groups - groups % 2;
        let mut all = [[[0; OUTPUTS]; M]; P];
        for (w, all) in w.into_iter().zip(&mut all) {
            for (rows, all) in x.chunks_exact(2).zip(all.chunks_exact_mut(2)) {
                // SAFETY: inlined only into functions compiled for SMMLA; `g + 1` is below the length of every slice.
                unsafe {
                    // [row 0 output 0, row 0 output 1, row 1 output 0, row 1 output 1], then outputs 2 and 3, …
                    let mut sums = [vdupq_n_s32(0); 8];
                    for g in (0..paired).step_by(2) {
                        let x = two_rows(rows[0], rows[1], g);
                        for quad in 0..4 {
                            let near = four_outputs(w, g, quad);
                            let far = four_outputs(w, g + 1, quad);
                            let low = vreinterpretq_s8_s32(vzip1q_s32(near, far));
                            let high = vreinterpretq_s8_s32(vzip2q_s32(near, far));
                            sums[2 * quad] = smmla(sums[2 * quad], x, low);
                            sums[2 * quad + 1] = smmla(sums[2 * quad + 1], x, high);
                        }
                    }
                    for (i, sums) in sums.into_iter().enumerate() {
                        vst1_s32(all[0][2 * i..].as_mut_ptr(), vget_low_s32(sums));
                        vst1_s32(all[1][2 * i..].as_mut_ptr(), vget_high_s32(sums));
                    }
                }
            }
        }
        if paired < groups {
            let rest =
                DotTile.sums::<M, P>(x.map(|x| after(x, paired)), w.map(|w| after(w, paired)));
            let sums = all.as_flattened_mut().as_flattened_mut();
            for (sum, rest) in sums.iter_mut().zip(rest.as_flattened().as_flattened()) {
                *sum += rest;
            }
        }
        all
    }
}

impl Tile<Pair> for MatrixTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    /// The two groups of a pair are the eight inputs of an instruction.
    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Pair]; P],
    ) -> [[Sums; M]; P] {
        if M == 1 {
            return Tile::<Pair>::sums(DotTile, x, w);
        }
        let (pairs, odd) = common_pairs(&x, &w);
        let mut all = [[[0; OUTPUTS]; M]; P];
        for (w, all) in w.into_iter().zip(&mut all) {
            for (rows, all) in x.chunks_exact(2).zip(all.chunks_exact_mut(2)) {
                // SAFETY: inlined only into functions compiled for SMMLA; `i` is below the length of every panel, and
                // the groups below that of every row.
                unsafe {
                    let mut sums = [vdupq_n_s32(0); 8];
                    for i in 0..pairs {
                        let x = two_rows(rows[0], rows[1], 2 * i);
                        for quad in 0..4 {
                            let both = four_outputs_of_pair(w, i, quad);
                            let near = vreinterpretq_s32_s8(low_sixteenfold(both));
                            let far = vreinterpretq_s32_s8(high_sixteenfold(both));
                            let low = vreinterpretq_s8_s32(vzip1q_s32(near, far));
                            let high = vreinterpretq_s8_s32(vzip2q_s32(near, far));
                            sums[2 * quad] = smmla(sums[2 * quad], x, low);
                            sums[2 * quad + 1] = smmla(sums[2 * quad + 1], x, high);
                        }
                    }
                    for (i, sums) in sums.into_iter().enumerate() {
                        let sums = vshrq_n_s32::<4>(sums);
                        vst1_s32(all[0][2 * i..].as_mut_ptr(), vget_low_s32(sums));
                        vst1_s32(all[1][2 * i..].as_mut_ptr(), vget_high_s32(sums));
                    }
                }
            }
        }
        if odd {
            let (x, w) = (x.map(|x| after(x, 2 * pairs)), w.map(|w| after(w, pairs)));
            let rest = Tile::<Pair>::sums(DotTile, x, w);
            let sums = all.as_flattened_mut().as_flattened_mut();
            for (sum, rest) in sums.iter_mut().zip(rest.as_flattened().as_flattened()) {
                *sum += rest;
            }
        }
        all
    }
}

/// sums\[i\] += Σ_k w\[4i + k\] · x\[4i + k\]. (The intrinsic is not stable in Rust 1.95.)
///
/// # Safety
/// The CPU has SDOT.
#[target_feature(enable = "dotprod")]
#[inline]
unsafe fn sdot(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: works on registers only.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// sums\[2r + o\] += Σ_k x\[8r + k\] · w\[8o + k\]. (The intrinsic is not stable in Rust 1.95.)
///
/// # Safety
/// The CPU has SMMLA.
#[target_feature(enable = "i8mm")]
#[inline]
unsafe fn smmla(mut sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: works on registers only.
    unsafe {
        asm!(
            "smmla {sums:v}.4s, {x:v}.16b, {w:v}.16b",
            sums = inout(vreg) sums,
            x = in(vreg) x,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// The four codes of group `g`, signed, four times.
///
/// # Safety
/// `g` is below the length of `x`.
#[inline(always)]
unsafe fn codes(x: &[[u8; 4]], g: usize) -> int8x16_t {
    // SAFETY: as asked above.
    unsafe {
        let four = u32::from_le_bytes(*x.get_unchecked(g));
        vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x8080_8080))
    }
}

/// The eight codes from group `g` on of two rows, signed.
///
/// # Safety
/// `g + 1` is below the length of both.
#[inline(always)]
unsafe fn two_rows(a: &[[u8; 4]], b: &[[u8; 4]], g: usize) -> int8x16_t {
    // SAFETY: as asked above.
    unsafe {
        let a = vld1_u8(a.get_unchecked(g).as_ptr());
        let b = vld1_u8(b.get_unchecked(g).as_ptr());
        vreinterpretq_s8_u8(veorq_u8(vcombine_u8(a, b), vdupq_n_u8(0x80)))
    }
}

/// Outputs 8 · `half` to 8 · `half` + 7 of group `g`.
///
/// # Safety
/// `g` is below the length of `w`, `half` below 2.
#[inline(always)]
unsafe fn eight_outputs(w: &[Group], g: usize, half: usize) -> int8x16x2_t {
    // SAFETY: as asked above: 32 of the group's 64 bytes.
    unsafe {
        let from: *const i8 = w.get_unchecked(g).as_ptr().cast();
        let from = from.add(32 * half);
        int8x16x2_t(vld1q_s8(from), vld1q_s8(from.add(16)))
    }
}

/// Outputs 4 · `quad` to 4 · `quad` + 3 of group `g`, a lane each.
///
/// # Safety
/// `g` is below the length of `w`, `quad` below 4.
#[inline(always)]
unsafe fn four_outputs(w: &[Group], g: usize, quad: usize) -> int32x4_t {
    // SAFETY: as asked above: 16 of the group's 64 bytes.
    unsafe {
        let from: *const i8 = w.get_unchecked(g).as_ptr().cast();
        vreinterpretq_s32_s8(vld1q_s8(from.add(16 * quad)))
    }
}

/// The bytes of outputs 8 · `half` to 8 · `half` + 7 of pair `i`.
///
/// # Safety
/// `i` is below the length of `w`, `half` below 2.
#[inline(always)]
unsafe fn eight_outputs_of_pair(w: &[Pair], i: usize, half: usize) -> int8x16x2_t {
    // SAFETY: as asked above.
    unsafe {
        int8x16x2_t(
            four_outputs_of_pair(w, i, 2 * half),
            four_outputs_of_pair(w, i, 2 * half + 1),
        )
    }
}

/// The bytes of outputs 4 · `quad` to 4 · `quad` + 3 of pair `i`.
///
/// # Safety
/// `i` is below the length of `w`, `quad` below 4.
#[inline(always)]
unsafe fn four_outputs_of_pair(w: &[Pair], i: usize, quad: usize) -> int8x16_t {
    // SAFETY: as asked above: 16 of the pair's 64 bytes.
    unsafe {
        let from: *const i8 = w.get_unchecked(i).as_ptr().cast();
        vld1q_s8(from.add(16 * quad))
    }
}

/// The numbers in the low and in the high halves of bytes.
#[inline(always)]
fn halves(bytes: int8x16x2_t) -> (int8x16x2_t, int8x16x2_t) {
    // SAFETY: NEON is part of AArch64.
    unsafe {
        let low = |bytes| vshrq_n_s8::<4>(vshlq_n_s8::<4>(bytes));
        let high = |bytes| vshrq_n_s8::<4>(bytes);
        (
            int8x16x2_t(low(bytes.0), low(bytes.1)),
            int8x16x2_t(high(bytes.0), high(bytes.1)),
        )
    }
}

/// Sixteen times the numbers in the low halves of bytes.
#[inline(always)]
fn low_sixteenfold(bytes: int8x16_t) -> int8x16_t {
    // SAFETY: NEON is part of AArch64.
    unsafe { vshlq_n_s8::<4>(bytes) }
}

/// Sixteen times the numbers in the high halves of bytes.
#[inline(always)]
fn high_sixteenfold(bytes: int8x16_t) -> int8x16_t {
    // SAFETY: NEON is part of AArch64.
    unsafe { vandq_s8(bytes, vdupq_n_s8(-16)) }
}

/// Two outputs of eight: `i` from 0 to 3.
#[inline(always)]
fn quarter(eight: int8x16x2_t, i: usize) -> int8x8_t {
    // SAFETY: NEON is part of AArch64.
    unsafe {
        match i {
            0 => vget_low_s8(eight.0),
            1 => vget_high_s8(eight.0),
            2 => vget_low_s8(eight.1),
            _ => vget_high_s8(eight.1),
        }
    }
}
