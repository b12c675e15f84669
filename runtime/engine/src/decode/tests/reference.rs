//! Brute force, straight from the definitions and in f64.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

/// SplitMix64 (Steele et al., 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Evenly from -`size` to `size`.
    pub fn logit(&mut self, size: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * size
    }

    pub fn logits(&mut self, count: usize, size: f32) -> Vec<f32> {
        (0..count).map(|_| self.logit(size)).collect()
    }
}

/// Probabilities `[T][V]`.
pub fn softmax(logits: &[f32], vocab_size: usize) -> Vec<Vec<f64>> {
    let row = |logits: &[f32]| {
        let powers: Vec<f64> = logits.iter().map(|&x| f64::from(x).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|p| p / sum).collect()
    };
    logits.chunks(vocab_size).map(row).collect()
}

/// What a path stands for: repeats merged, then blanks dropped.
pub fn collapse(path: &[u32]) -> Vec<u32> {
    let mut tokens = path.to_vec();
    tokens.dedup();
    tokens.retain(|&token| token != 0);
    tokens
}

/// All V^T paths.
pub fn paths(frames: usize, vocab_size: usize) -> impl Iterator<Item = Vec<u32>> {
    (0..vocab_size.pow(frames as u32)).map(move |mut number| {
        let mut path = vec![0; frames];
        for token in &mut path {
            *token = (number % vocab_size) as u32;
            number /= vocab_size;
        }
        path
    })
}

pub fn path_probability(probabilities: &[Vec<f64>], path: &[u32]) -> f64 {
    path.iter()
        .zip(probabilities)
        .map(|(&token, row)| row[token as usize])
        .product()
}

/// The probability of every token sequence that has a path, by summing over all paths.
pub fn all_sequences(probabilities: &[Vec<f64>]) -> BTreeMap<Vec<u32>, f64> {
    let mut sums = BTreeMap::new();
    for path in paths(probabilities.len(), probabilities[0].len()) {
        *sums.entry(collapse(&path)).or_insert(0.0) += path_probability(probabilities, &path);
    }
    sums
}

/// The probability of a token sequence by the forward algorithm (Graves et al., 2006, section 4.1).
pub fn forward(probabilities: &[Vec<f64>], tokens: &[u32]) -> f64 {
    let mut labels = vec![0];
    for &token in tokens {
        labels.extend([token, 0]);
    }
    let mut alpha = vec![0.0; labels.len()];
    alpha[0] = 1.0;
    for row in probabilities {
        let before = alpha.clone();
        for (s, &label) in labels.iter().enumerate() {
            let mut sum = before[s];
            if s >= 1 {
                sum += before[s - 1];
            }
            if s >= 2 && label != 0 && label != labels[s - 2] {
                sum += before[s - 2];
            }
            alpha[s] = sum * row[label as usize];
        }
    }
    alpha[labels.len() - 1]
        + if tokens.is_empty() {
            0.0
        } else {
            alpha[labels.len() - 2]
        }
}

/// Sequences with their log-probabilities, best first, without those of probability 0.
pub fn ranked(sequences: impl IntoIterator<Item = (Vec<u32>, f64)>) -> Vec<(Vec<u32>, f64)> {
    let mut ranked: Vec<_> = sequences
        .into_iter()
        .filter(|(_, p)| *p > 0.0)
        .map(|(tokens, p)| (tokens, p.ln()))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

#[test]
fn the_two_references_agree() {
    let logits = Random(1).logits(5 * 3, 3.0);
    let probabilities = softmax(&logits, 3);
    let all = all_sequences(&probabilities);
    assert!((all.values().sum::<f64>() - 1.0).abs() < 1e-12);
    for (tokens, sum) in &all {
        assert!(
            (forward(&probabilities, tokens) / sum - 1.0).abs() < 1e-12,
            "{tokens:?}"
        );
    }
    assert_eq!(
        forward(&probabilities, &[1, 1, 1, 1]),
        0.0,
        "needs 7 frames"
    );
}
