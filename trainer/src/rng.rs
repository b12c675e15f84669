//! Random numbers that are a function of what they are for, never of when they are drawn: a run
//! that is killed and resumed draws the same ones.

use rand::SeedableRng;

/// The generator used throughout training.
pub type Rng = rand_pcg::Pcg64Mcg;

/// A generator for one purpose: every different `path` gives an independent stream.
pub fn rng(seed: u64, path: &[u64]) -> Rng {
    // SplitMix64 (Steele et al. 2014) folds the path into one seed.
    let mut state = seed;
    for &part in path {
        state = mix(state ^ mix(part.wrapping_add(0x9E37_79B9_7F4A_7C15)));
    }
    Rng::seed_from_u64(state)
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
