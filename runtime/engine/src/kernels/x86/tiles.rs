//! int8 tiles. What they have in common: each 32-bit lane holds one output, four weights of it are multiplied by the
//! same four codes, and the codes are broadcast.

use core::arch::x86_64::*;

use viseme_format::panels::OUTPUTS;

use crate::kernels::panels::{Group, Sums, Tile, common_length};

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
        let groups = common_length(&x, &w);
        // SAFETY: inlined only into functions compiled for AVX-512 with VNNI; `g` is below the length of every slice.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); M]; P];
            for g in 0..groups {
                let w = w.map(|w| _mm512_loadu_si512(w.get_unchecked(g).as_ptr().cast()));
                for m in 0..M {
                    let x = _mm512_set1_epi32(i32::from_le_bytes(*x[m].get_unchecked(g)));
                    for p in 0..P {
                        sums[p][m] = _mm512_dpbusd_epi32(sums[p][m], x, w[p]);
                    }
                }
            }
            sums.map(|row| row.map(|sums| core::mem::transmute::<__m512i, Sums>(sums)))
        }
    }
}

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
