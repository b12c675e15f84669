//! int8 and int4 tiles. What they have in common: each 32-bit lane holds one output, four weights of it are multiplied by
//! the same four codes, and the codes are broadcast.
//!
//! With VPDPBUSD, int4 weights are used sixteen times as large as they are: the high half of a byte then needs a mask
//! only, the low half a shift and a mask, and the sums are divided by 16 at the end, which leaves no rest.

use core::arch::x86_64::*;

use viseme_format::panels::OUTPUTS;

use crate::kernels::packed::Pair;
use crate::kernels::panels::{Group, Lines, Sums, Tile, common_length, common_pairs};

/// 64 weights and 16 sums a register: VPDPBUSD on 512 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx512VnniTile;

impl Tile for Avx512VnniTile {
    const ROWS: usize = 8;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        self.sums_ahead(x, w, &[])
    }

    #[inline(always)]
    fn sums_ahead<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
        ahead: &[Group],
    ) -> [[Sums; M]; P] {
        let lines = Lines {
            count: 1,
            len: common_length(&x, &w),
            apart: 0,
            weights_apart: 0,
        };
        self.line_sums(lines, x, w, ahead)
    }

    #[inline(always)]
    fn line_sums<const M: usize, const P: usize>(
        self,
        lines: Lines,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
        ahead: &[Group],
    ) -> [[Sums; M]; P] {
        let [codes, weights] = lines.spans();
        if x.iter().any(|x| x.len() < codes) || w.iter().any(|w| w.len() < weights) {
            return [[[0; OUTPUTS]; M]; P];
        }
        // Far away from them nothing happens.
        let mut ahead = if ahead.is_empty() { w[0] } else { ahead }.as_ptr();
        // SAFETY: inlined only into functions compiled for AVX-512 with VNNI; `g` and `i` are below the spans, and so
        // below the length of every slice.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); M]; P];
            for line in 0..lines.count {
                let (first, first_weight) = (line * lines.apart, line * lines.weights_apart);
                for k in 0..lines.len {
                    let (g, i) = (first + k, first_weight + k);
                    // Of few rows the next panel comes soon enough by itself.
                    if M > 2 {
                        _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(k).cast());
                    }
                    let mut weights = [_mm512_setzero_si512(); P];
                    for p in 0..P {
                        weights[p] = _mm512_loadu_si512(w[p].get_unchecked(i).as_ptr().cast());
                    }
                    for m in 0..M {
                        let x = _mm512_set1_epi32(i32::from_le_bytes(*x[m].get_unchecked(g)));
                        for p in 0..P {
                            sums[p][m] = _mm512_dpbusd_epi32(sums[p][m], x, weights[p]);
                        }
                    }
                }
                ahead = ahead.wrapping_add(lines.len);
            }
            let mut all = [[[0; OUTPUTS]; M]; P];
            for p in 0..P {
                for m in 0..M {
                    all[p][m] = core::mem::transmute::<__m512i, Sums>(sums[p][m]);
                }
            }
            all
        }
    }
}

impl Tile<Pair> for Avx512VnniTile {
    const ROWS: usize = 8;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Pair]; P],
    ) -> [[Sums; M]; P] {
        let (pairs, odd) = common_pairs(&x, &w);
        // SAFETY: inlined only into functions compiled for AVX-512 with VNNI; `i` is below the length of every panel,
        // and the groups below that of every row.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); M]; P];
            // A single row has few sums: a second one each, for the high halves, keeps the unit busy.
            let mut second = [_mm512_setzero_si512(); P];
            if M > 2 {
                // One half after the other: for the codes of both there are no registers.
                for half in 0..2 {
                    for i in 0..pairs {
                        let mut weights = [_mm512_setzero_si512(); P];
                        for p in 0..P {
                            let w = _mm512_loadu_si512(w[p].get_unchecked(i).as_ptr().cast());
                            weights[p] = sixteenfold(w)[half];
                        }
                        for m in 0..M {
                            let codes = broadcast(x[m], 2 * i + half);
                            for p in 0..P {
                                sums[p][m] = _mm512_dpbusd_epi32(sums[p][m], codes, weights[p]);
                            }
                        }
                    }
                }
            } else {
                for i in 0..pairs {
                    for p in 0..P {
                        let w = _mm512_loadu_si512(w[p].get_unchecked(i).as_ptr().cast());
                        let [low, high] = sixteenfold(w);
                        for m in 0..M {
                            let [first, other] = [0, 1].map(|half| broadcast(x[m], 2 * i + half));
                            sums[p][m] = _mm512_dpbusd_epi32(sums[p][m], first, low);
                            let sum = if M == 1 {
                                &mut second[p]
                            } else {
                                &mut sums[p][m]
                            };
                            *sum = _mm512_dpbusd_epi32(*sum, other, high);
                        }
                    }
                }
            }
            if odd {
                for p in 0..P {
                    let w = _mm512_loadu_si512(w[p].get_unchecked(pairs).as_ptr().cast());
                    let [low, _] = sixteenfold(w);
                    for m in 0..M {
                        let codes = broadcast(x[m], 2 * pairs);
                        sums[p][m] = _mm512_dpbusd_epi32(sums[p][m], codes, low);
                    }
                }
            }
            let mut all = [[[0; OUTPUTS]; M]; P];
            for p in 0..P {
                if M == 1 {
                    sums[p][0] = _mm512_add_epi32(sums[p][0], second[p]);
                }
                for m in 0..M {
                    let sums = _mm512_srai_epi32::<4>(sums[p][m]);
                    all[p][m] = core::mem::transmute::<__m512i, Sums>(sums);
                }
            }
            all
        }
    }
}

/// The four codes of group `g` in every lane.
///
/// # Safety
/// `g` is below the length of `x`.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn broadcast(x: &[[u8; 4]], g: usize) -> __m512i {
    // SAFETY: as asked above.
    let codes = unsafe { *x.get_unchecked(g) };
    _mm512_set1_epi32(i32::from_le_bytes(codes))
}

/// The numbers in the low and in the high halves of bytes, times 16.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn sixteenfold(bytes: __m512i) -> [__m512i; 2] {
    let high_half = _mm512_set1_epi8(HIGH_HALF);
    [
        _mm512_and_si512(_mm512_slli_epi16::<4>(bytes), high_half),
        _mm512_and_si512(bytes, high_half),
    ]
}

/// The bits of a byte's high half.
const HIGH_HALF: i8 = 0xf0_u8 as i8;

/// 32 weights and 8 sums a register: VPDPBUSD on 256 bits.
#[derive(Clone, Copy)]
pub(super) struct AvxVnniTile;

impl Tile for AvxVnniTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        // SAFETY: inlined only into functions compiled for AVX2 and AVX-VNNI.
        one_panel_at_a_time(
            x,
            w,
            |sums, x, w| unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) },
            |x| x,
        )
    }
}

impl Tile<Pair> for AvxVnniTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Pair]; P],
    ) -> [[Sums; M]; P] {
        let (pairs, odd) = common_pairs(&x, &w);
        let mut all = [[[0; OUTPUTS]; M]; P];
        for p in 0..P {
            // SAFETY: inlined only into functions compiled for AVX2 and AVX-VNNI; `i` is below the length of every
            // panel, and the groups below that of every row.
            unsafe {
                let mask = _mm256_set1_epi8(HIGH_HALF);
                let low = |w| _mm256_and_si256(_mm256_slli_epi16::<4>(w), mask);
                let high = |w| _mm256_and_si256(w, mask);
                let mut sums = [[_mm256_setzero_si256(); M]; 2];
                for i in 0..pairs {
                    for (h, sums) in sums.iter_mut().enumerate() {
                        let w = half_of_pair(w[p], i, h);
                        let (low, high) = (low(w), high(w));
                        for m in 0..M {
                            let sum = _mm256_dpbusd_avx_epi32(sums[m], codes(x[m], 2 * i), low);
                            sums[m] = _mm256_dpbusd_avx_epi32(sum, codes(x[m], 2 * i + 1), high);
                        }
                    }
                }
                for (h, sums) in sums.iter_mut().enumerate() {
                    if odd {
                        let low = low(half_of_pair(w[p], pairs, h));
                        for m in 0..M {
                            sums[m] = _mm256_dpbusd_avx_epi32(sums[m], codes(x[m], 2 * pairs), low);
                        }
                    }
                    for m in 0..M {
                        let to = all[p][m][8 * h..].as_mut_ptr();
                        _mm256_storeu_si256(to.cast(), _mm256_srai_epi32::<4>(sums[m]));
                    }
                }
            }
        }
        all
    }
}

/// Without VNNI: VPMADDUBSW adds two products of an unsigned and a signed byte in 16 bits, where codes up to 255 would
/// saturate. So the codes are made signed, and their sign is moved to the weights: 128 · 127 · 2 fits 16 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx2Tile;

impl Tile for Avx2Tile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        // SAFETY: inlined only into functions compiled for AVX2.
        let add = |sums, x, w| unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        };
        // SAFETY: as above.
        let signed = |x| unsafe { _mm256_xor_si256(x, _mm256_set1_epi8(i8::MIN)) };
        one_panel_at_a_time(x, w, add, signed)
    }
}

/// Pairs whose products with u8 codes VPMADDUBSW adds up in 16 bits: 2 · 255 · 7 for each of their 8 groups.
const SHORT_PAIRS: usize = 4;

impl Tile<Pair> for Avx2Tile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 0;

    /// int4 weights are so small that nothing saturates: codes stay as they are, and only every eighth group is widened
    /// to 32 bits.
    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Pair]; P],
    ) -> [[Sums; M]; P] {
        let (pairs, odd) = common_pairs(&x, &w);
        let mut all = [[[0; OUTPUTS]; M]; P];
        for p in 0..P {
            for h in 0..2 {
                // SAFETY: inlined only into functions compiled for AVX2; `i` is below the length of every panel, and
                // the groups below that of every row.
                unsafe {
                    let low_half = _mm256_set1_epi8(15);
                    // The sixteen numbers of four bits in two's complement.
                    let number = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                        0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1,
                    ));
                    let low = |w| _mm256_shuffle_epi8(number, _mm256_and_si256(w, low_half));
                    let high = |w| low(_mm256_srli_epi16::<4>(w));
                    let widen = |short| _mm256_madd_epi16(short, _mm256_set1_epi16(1));
                    let mut sums = [_mm256_setzero_si256(); M];
                    let mut first = 0;
                    while first < pairs {
                        let end = (first + SHORT_PAIRS).min(pairs);
                        let mut short = [_mm256_setzero_si256(); M];
                        for i in first..end {
                            let w = half_of_pair(w[p], i, h);
                            let (low, high) = (low(w), high(w));
                            for m in 0..M {
                                let a = _mm256_maddubs_epi16(codes(x[m], 2 * i), low);
                                let b = _mm256_maddubs_epi16(codes(x[m], 2 * i + 1), high);
                                short[m] = _mm256_add_epi16(short[m], _mm256_add_epi16(a, b));
                            }
                        }
                        for m in 0..M {
                            sums[m] = _mm256_add_epi32(sums[m], widen(short[m]));
                        }
                        first = end;
                    }
                    if odd {
                        let low = low(half_of_pair(w[p], pairs, h));
                        for m in 0..M {
                            let short = _mm256_maddubs_epi16(codes(x[m], 2 * pairs), low);
                            sums[m] = _mm256_add_epi32(sums[m], widen(short));
                        }
                    }
                    for m in 0..M {
                        let to = all[p][m][8 * h..].as_mut_ptr();
                        _mm256_storeu_si256(to.cast(), sums[m]);
                    }
                }
            }
        }
        all
    }
}

/// The bytes of outputs 8 · `h` to 8 · `h` + 7 of a pair.
///
/// # Safety
/// The CPU has AVX2; `i` is below the length of `w`, `h` below 2.
#[inline(always)]
unsafe fn half_of_pair(w: &[Pair], i: usize, h: usize) -> __m256i {
    // SAFETY: as asked above: 32 of the pair's 64 bytes.
    unsafe {
        let from: *const __m256i = w.get_unchecked(i).as_ptr().cast();
        _mm256_loadu_si256(from.add(h))
    }
}

/// The four codes of group `g` in every lane.
///
/// # Safety
/// The CPU has AVX2; `g` is below the length of `x`.
#[inline(always)]
unsafe fn codes(x: &[[u8; 4]], g: usize) -> __m256i {
    // SAFETY: as asked above.
    unsafe { _mm256_set1_epi32(i32::from_le_bytes(*x.get_unchecked(g))) }
}

/// Tiles of 256-bit registers: two for the outputs of a panel; sixteen registers have room for four rows of it.
#[inline(always)]
fn one_panel_at_a_time<const M: usize, const P: usize>(
    x: [&[[u8; 4]]; M],
    w: [&[Group]; P],
    add: impl Fn(__m256i, __m256i, __m256i) -> __m256i,
    prepare: impl Fn(__m256i) -> __m256i,
) -> [[Sums; M]; P] {
    let groups = common_length(&x, &w);
    let mut all = [[[0; OUTPUTS]; M]; P];
    for p in 0..P {
        // SAFETY: inlined only into functions compiled for AVX2; `g` is below the length of every slice.
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); 2]; M];
            for g in 0..groups {
                let from: *const __m256i = w[p].get_unchecked(g).as_ptr().cast();
                let w = [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))];
                for m in 0..M {
                    let x = prepare(_mm256_set1_epi32(i32::from_le_bytes(
                        *x[m].get_unchecked(g),
                    )));
                    for h in 0..2 {
                        sums[m][h] = add(sums[m][h], x, w[h]);
                    }
                }
            }
            for m in 0..M {
                all[p][m] = core::mem::transmute::<[__m256i; 2], Sums>(sums[m]);
            }
        }
    }
    all
}
