//! int8 tile of the DSP extension: SMLAD adds two products of 16-bit halves.
//!
//! Codes are split into halves (inputs 0 and 2, 1 and 3 of a group) once for all outputs that they meet, weights once for
//! all rows: four rows by one output, two by two, or one by four, as many as the registers hold. LLVM loads one word at a
//! time and keeps running out of registers here, so the three inner loops are written out.

use core::arch::asm;

use viseme_format::panels::OUTPUTS;

use crate::kernels::panels::{Group, Sums, Tile, common_length};

#[derive(Clone, Copy)]
pub(super) struct DspTile;

/// Groups of one row, or half as many of two, whose codes are split together: a kilobyte of stack.
const CHUNK: usize = 128;
/// Groups that an inner loop takes at once: as many as `unrolled` repeats.
const UNROLLED: usize = 4;

/// A group of codes in halves: inputs 0 and 2, inputs 1 and 3.
type Halves = [u32; 2];

/// Split groups, the last one at the end: it lies at a multiple of its size, so that a loop sees from the address alone when
/// it is done, and needs no register to count.
#[repr(align(1024))]
struct Chunk([Halves; CHUNK]);

impl Tile for DspTile {
    const ROWS: usize = 4;
    const OFFSET: i32 = 0;

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
    // Where LDRD may read weights.
    let aligned = w.iter().all(|w| w.as_ptr().cast::<u32>().is_aligned());
    let looped = if aligned && matches!(M, 1 | 2 | 4) {
        groups - groups % UNROLLED
    } else {
        0
    };
    let mut chunk = Chunk([[0; 2]; CHUNK]);
    let most = CHUNK / M;
    for from in (0..looped).step_by(most) {
        let len = most.min(looped - from);
        let Some(halves) = chunk.0.get_mut(CHUNK - M * len..) else {
            return;
        };
        for (m, x) in x.iter().enumerate() {
            let x = x.get(from..from + len).unwrap_or(&[]);
            split_row(x, m, halves.as_chunks_mut::<M>().0);
        }
        for (w, sums) in w.iter().zip(all.iter_mut()) {
            let Some(w) = w.get(from..from + len) else {
                return;
            };
            match &mut sums[..] {
                [row] => one_row(halves, w, row),
                [row, next] => two_rows(halves, w, [row, next]),
                [a, b, c, d] => four_rows(halves, w, [a, b, c, d]),
                _ => {}
            }
        }
    }
    for (w, sums) in w.iter().zip(all) {
        let w = w.get(looped..groups).unwrap_or(&[]);
        for (x, sums) in x.iter().zip(&mut *sums) {
            let x = x.get(looped..groups).unwrap_or(&[]);
            for (&x, w) in x.iter().zip(w) {
                let halves = split(x);
                for (sum, w) in sums.iter_mut().zip(w) {
                    let four = i32::from_le_bytes(w.map(|w| w as u8));
                    *sum = smlad(even(four), halves[0], *sum);
                    *sum = smlad(odd(four), halves[1], *sum);
                }
            }
        }
    }
}

/// Splits the codes of one row of M, whole turns of a loop of four groups.
#[inline(always)]
fn split_row<const M: usize>(x: &[[u8; 4]], row: usize, halves: &mut [[Halves; M]]) {
    let (x, halves) = (x.as_chunks::<UNROLLED>().0, halves.as_chunks_mut().0);
    for (x, halves) in x.iter().zip(halves) {
        let halves: &mut [[Halves; M]; UNROLLED] = halves;
        // SAFETY: this module is compiled only for processors with the instructions. Four groups of `x` are read, and
        // `row`, below M, is written in each of the four of `halves`, which lie at multiples of 4.
        unsafe {
            asm!(
                "ldr {b}, [{x}]",
                "uxtb16 {a}, {b}",
                "uxtb16 {b}, {b}, ror #8",
                "strd {a}, {b}, [{to}]",
                "ldr {b}, [{x}, #4]",
                "uxtb16 {a}, {b}",
                "uxtb16 {b}, {b}, ror #8",
                "strd {a}, {b}, [{to}, #{step}]",
                "ldr {b}, [{x}, #8]",
                "uxtb16 {a}, {b}",
                "uxtb16 {b}, {b}, ror #8",
                "strd {a}, {b}, [{to}, #2 * {step}]",
                "ldr {b}, [{x}, #12]",
                "uxtb16 {a}, {b}",
                "uxtb16 {b}, {b}, ror #8",
                "strd {a}, {b}, [{to}, #3 * {step}]",
                x = in(reg) x.as_ptr(),
                to = in(reg) halves.as_flattened_mut()[row..].as_mut_ptr(),
                step = const size_of::<[Halves; M]>(),
                a = out(reg) _, b = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// An inner loop: these instructions for one group, the operands after them; `x` tells when it is done.
macro_rules! unrolled {
    ($($line:literal),*; $($operands:tt)*) => {
        asm!(
            "2:",
            $($line,)*
            $($line,)*
            $($line,)*
            $($line,)*
            "lsls {t}, {x}, #22",
            "bne 2b",
            $($operands)*
        )
    };
}

/// One row by four outputs: 16 products take 19 instructions.
#[inline(always)]
fn one_row(x: &[Halves], w: &[Group], sums: &mut Sums) {
    for (four, sums) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let [mut s0, mut s1, mut s2, mut s3] = *sums;
        // SAFETY: as for `four_rows`, of one row; the four outputs lie within a group.
        unsafe {
            unrolled!(
                "ldrd {a}, {b}, [{x}], #8",
                "ldrd {v}, {w}, [{at}, #8]",
                "sxtb16 {t}, {v}",
                "sxtb16 {v}, {v}, ror #8",
                "smlad {s2}, {t}, {a}, {s2}",
                "smlad {s2}, {v}, {b}, {s2}",
                "sxtb16 {t}, {w}",
                "sxtb16 {w}, {w}, ror #8",
                "smlad {s3}, {t}, {a}, {s3}",
                "smlad {s3}, {w}, {b}, {s3}",
                "ldrd {v}, {w}, [{at}], #64",
                "sxtb16 {t}, {v}",
                "sxtb16 {v}, {v}, ror #8",
                "smlad {s0}, {t}, {a}, {s0}",
                "smlad {s0}, {v}, {b}, {s0}",
                "sxtb16 {t}, {w}",
                "sxtb16 {w}, {w}, ror #8",
                "smlad {s1}, {t}, {a}, {s1}",
                "smlad {s1}, {w}, {b}, {s1}";
                x = inout(reg) x.as_ptr() => _,
                at = inout(reg) w.as_ptr().cast::<u32>().add(4 * four) => _,
                s0 = inout(reg) s0, s1 = inout(reg) s1, s2 = inout(reg) s2, s3 = inout(reg) s3,
                a = out(reg) _, b = out(reg) _, v = out(reg) _, w = out(reg) _, t = out(reg) _,
                options(readonly, nostack),
            );
        }
        *sums = [s0, s1, s2, s3];
    }
}

/// Two rows by two outputs: 16 products take 15 instructions.
#[inline(always)]
fn two_rows(x: &[Halves], w: &[Group], sums: [&mut Sums; 2]) {
    let [row, next] = sums.map(|sums| sums.as_chunks_mut::<2>().0);
    for (two, (row, next)) in row.iter_mut().zip(next).enumerate() {
        let ([mut s0, mut s1], [mut n0, mut n1]) = (*row, *next);
        // SAFETY: as for `four_rows`, of two; the two outputs lie within a group.
        unsafe {
            unrolled!(
                "ldrd {v}, {w}, [{at}], #64",
                "ldrd {a}, {b}, [{x}], #8",
                "sxtb16 {t}, {v}",
                "sxtb16 {v}, {v}, ror #8",
                "sxtb16 {u}, {w}",
                "sxtb16 {w}, {w}, ror #8",
                "smlad {s0}, {t}, {a}, {s0}",
                "smlad {s0}, {v}, {b}, {s0}",
                "smlad {s1}, {u}, {a}, {s1}",
                "smlad {s1}, {w}, {b}, {s1}",
                "ldrd {a}, {b}, [{x}], #8",
                "smlad {n0}, {t}, {a}, {n0}",
                "smlad {n0}, {v}, {b}, {n0}",
                "smlad {n1}, {u}, {a}, {n1}",
                "smlad {n1}, {w}, {b}, {n1}";
                x = inout(reg) x.as_ptr() => _,
                at = inout(reg) w.as_ptr().cast::<u32>().add(2 * two) => _,
                s0 = inout(reg) s0, s1 = inout(reg) s1, n0 = inout(reg) n0, n1 = inout(reg) n1,
                a = out(reg) _, b = out(reg) _, v = out(reg) _, w = out(reg) _, t = out(reg) _, u = out(reg) _,
                options(readonly, nostack),
            );
        }
        (*row, *next) = ([s0, s1], [n0, n1]);
    }
}

/// Four rows by one output: 16 products take 15 instructions.
#[inline(always)]
fn four_rows(x: &[Halves], w: &[Group], mut sums: [&mut Sums; 4]) {
    for output in 0..OUTPUTS {
        let [mut s0, mut s1, mut s2, mut s3] = [0, 1, 2, 3].map(|m: usize| sums[m][output]);
        // SAFETY: this module is compiled only for processors with the instructions. `x` is the end of a `Chunk`, of whole
        // turns of the loop, and not empty: the loop reads it to its end, where the lower 10 bits of the address are zero,
        // as they are nowhere before. `w` has as many groups as it has four rows of codes, at multiples of 4.
        unsafe {
            unrolled!(
                "ldr {v}, [{at}], #64",
                "ldrd {a}, {b}, [{x}], #8",
                "sxtb16 {t}, {v}",
                "sxtb16 {v}, {v}, ror #8",
                "smlad {s0}, {t}, {a}, {s0}",
                "smlad {s0}, {v}, {b}, {s0}",
                "ldrd {a}, {b}, [{x}], #8",
                "smlad {s1}, {t}, {a}, {s1}",
                "smlad {s1}, {v}, {b}, {s1}",
                "ldrd {a}, {b}, [{x}], #8",
                "smlad {s2}, {t}, {a}, {s2}",
                "smlad {s2}, {v}, {b}, {s2}",
                "ldrd {a}, {b}, [{x}], #8",
                "smlad {s3}, {t}, {a}, {s3}",
                "smlad {s3}, {v}, {b}, {s3}";
                x = inout(reg) x.as_ptr() => _,
                at = inout(reg) w.as_ptr().cast::<u32>().add(output) => _,
                s0 = inout(reg) s0, s1 = inout(reg) s1, s2 = inout(reg) s2, s3 = inout(reg) s3,
                a = out(reg) _, b = out(reg) _, v = out(reg) _, t = out(reg) _,
                options(readonly, nostack),
            );
        }
        for (sums, sum) in sums.iter_mut().zip([s0, s1, s2, s3]) {
            sums[output] = sum;
        }
    }
}

/// UXTB16 twice, which LLVM knows.
#[inline(always)]
fn split(codes: [u8; 4]) -> Halves {
    let four = u32::from_le_bytes(codes);
    [four & 0x00ff_00ff, (four >> 8) & 0x00ff_00ff]
}

/// Bytes 0 and 2, signed, in halves.
#[inline(always)]
fn even(four: i32) -> i32 {
    let halves;
    // SAFETY: this module is compiled only for processors with the instruction, which works on registers only.
    unsafe {
        asm!("sxtb16 {}, {}", lateout(reg) halves, in(reg) four, options(pure, nomem, nostack, preserves_flags));
    }
    halves
}

/// Bytes 1 and 3, signed, in halves.
#[inline(always)]
fn odd(four: i32) -> i32 {
    let halves;
    // SAFETY: as above.
    unsafe {
        asm!("sxtb16 {}, {}, ror #8", lateout(reg) halves, in(reg) four, options(pure, nomem, nostack, preserves_flags));
    }
    halves
}

/// sum + the products of the lower halves and of the upper halves.
#[inline(always)]
fn smlad(a: i32, b: u32, sum: i32) -> i32 {
    let more;
    // SAFETY: as above. The flag of saturation, which it may set, is not restored.
    unsafe {
        asm!("smlad {}, {}, {}, {}", lateout(reg) more, in(reg) a, in(reg) b, in(reg) sum, options(pure, nomem, nostack));
    }
    more
}
