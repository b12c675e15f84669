//! What takes `unsafe`: a file as memory, and instructions in a row, to know what this machine could do at best.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use memmap2::Mmap;

/// A file as memory.
///
/// # Errors
/// A file that cannot be opened or mapped.
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the files that are measured lie in our own folder below target, and nothing writes to them meanwhile.
    unsafe { Mmap::map(&file) }
}

/// Products of 8-bit numbers that one core adds up in a second, with everything in registers; `None` where there is no
/// such instruction that this program knows.
pub fn peak_int8() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            #[target_feature(enable = "avx512f,avx512vnni")]
            fn chains(steps: usize, one: i32) -> i32 {
                let x = _mm512_set1_epi32(one);
                let mut sums = [x; CHAINS];
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = _mm512_dpbusd_epi32(*sum, x, x);
                    }
                }
                let mut all = 0i32;
                for sum in sums {
                    all = all.wrapping_add(_mm512_reduce_add_epi32(sum));
                }
                all
            }
            // SAFETY: the CPU has the instructions.
            return Some(rate(64, |steps, one| unsafe { chains(steps, one) }));
        }
        if is_x86_feature_detected!("avxvnni") {
            #[target_feature(enable = "avx2,avxvnni")]
            fn chains(steps: usize, one: i32) -> i32 {
                let x = _mm256_set1_epi32(one);
                let mut sums = [x; CHAINS];
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = _mm256_dpbusd_avx_epi32(*sum, x, x);
                    }
                }
                let mut all = 0i32;
                for sum in sums {
                    all = all.wrapping_add(_mm256_extract_epi32::<0>(sum));
                }
                all
            }
            // SAFETY: the CPU has the instructions.
            return Some(rate(32, |steps, one| unsafe { chains(steps, one) }));
        }
    }
    None
}

/// Sums that do not wait for each other; enough for a latency of 5 cycles and two instructions in each.
#[cfg(target_arch = "x86_64")]
const CHAINS: usize = 12;

/// The best of some rounds.
#[cfg(target_arch = "x86_64")]
fn rate(products: usize, chains: impl Fn(usize, i32) -> i32) -> f64 {
    const STEPS: usize = 200_000;
    let rounds = (0..12).map(|_| {
        let start = Instant::now();
        std::hint::black_box(chains(STEPS, std::hint::black_box(1)));
        (STEPS * CHAINS * products) as f64 / start.elapsed().as_secs_f64()
    });
    rounds.fold(0.0, f64::max)
}
