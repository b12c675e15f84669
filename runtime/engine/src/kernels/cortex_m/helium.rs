//! int8 tile in plain Rust, of the shape that LLVM turns into VMLAVA: 16 products and their sum an instruction.
//!
//! VMLAVA wants the weights of one output side by side, so a piece of a panel is brought into that order for all rows that
//! it meets.

use viseme_format::panels::OUTPUTS;

use crate::kernels::panels::{Group, Sums, Tile, common_length};

#[derive(Clone, Copy)]
pub(super) struct HeliumTile;

/// Groups that are reordered together: 2 kilobytes of stack.
const CHUNK: usize = 32;

/// So many groups of one output or of one row.
type Line = [[i8; 4]; CHUNK];

impl Tile for HeliumTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[Group]; P],
    ) -> [[Sums; M]; P] {
        let mut all = [[[0; OUTPUTS]; M]; P];
        add(x, w, &mut all);
        all
    }
}

/// Adds all groups. A function, so that the stack of one tile is used by the next.
#[inline(never)]
fn add<const M: usize, const P: usize>(
    x: [&[[u8; 4]]; M],
    w: [&[Group]; P],
    all: &mut [[Sums; M]; P],
) {
    let groups = common_length(&x, &w);
    let mut codes: [Line; M] = [[[0; 4]; CHUNK]; M];
    let mut weights: [Line; OUTPUTS] = [[[0; 4]; CHUNK]; OUTPUTS];
    for from in (0..groups).step_by(CHUNK) {
        let len = CHUNK.min(groups - from);
        for (codes, x) in codes.iter_mut().zip(&x) {
            for (four, x) in codes.iter_mut().zip(&x[from..][..len]) {
                *four = x.map(|code| (code ^ 0x80) as i8);
            }
        }
        for (w, all) in w.iter().zip(&mut *all) {
            for (g, group) in w[from..][..len].iter().enumerate() {
                for (line, four) in weights.iter_mut().zip(group) {
                    line[g] = *four;
                }
            }
            for (codes, sums) in codes.iter().zip(all) {
                for (weights, sum) in weights.iter().zip(sums) {
                    *sum += dot(&codes[..len], &weights[..len]);
                }
            }
        }
    }
}

/// Σ a · b in 32 bits.
#[inline(always)]
fn dot(a: &[[i8; 4]], b: &[[i8; 4]]) -> i32 {
    let pairs = a.as_flattened().iter().zip(b.as_flattened());
    pairs.fold(0, |sum: i32, (&a, &b)| {
        sum.wrapping_add(i32::from(a) * i32::from(b))
    })
}
