//! Greedy, beam and alignment against brute force.

use std::vec;
use std::vec::Vec;

use super::reference::*;
use crate::decode::DecodeError;
use crate::decode::ctc::*;
use crate::decode::graph::TokenGraph;

/// f32 sums of a few frames against f64.
const CLOSE: f64 = 1e-5;

#[test]
fn log_softmax_is_the_logarithm_of_softmax() {
    let mut random = Random(2);
    for size in [0.1, 5.0, 80.0] {
        let logits = random.logits(52, size);
        let mut found = vec![0.0; 52];
        log_softmax(&logits, &mut found);
        for (found, probability) in found.iter().zip(&softmax(&logits, 52)[0]) {
            let error = (f64::from(*found) - probability.ln()).abs();
            assert!(
                error < 3e-7 * f64::from(size).max(4.0),
                "{found} {} {size}",
                probability.ln()
            );
        }
    }
    let mut found = [0.0; 2];
    log_softmax(&[f32::MAX, f32::MIN], &mut found);
    assert_eq!(found, [0.0, -1e30]);
}

#[test]
fn greedy_is_the_collapsed_best_path() {
    let mut random = Random(3);
    for _ in 0..200 {
        let (frames, vocab_size) = (random.below(30), 2 + random.below(4));
        let logits = random.logits(frames * vocab_size, 4.0);
        let probabilities = softmax(&logits, vocab_size);
        let path: Vec<u32> = probabilities
            .iter()
            .map(|row| {
                (0..vocab_size)
                    .max_by(|&a, &b| row[a].total_cmp(&row[b]))
                    .unwrap() as u32
            })
            .collect();
        let mut buffer = vec![TokenRun::default(); frames];
        let found = greedy(&logits, vocab_size, &mut buffer).unwrap();

        let tokens: Vec<u32> = found.runs.iter().map(|run| run.token).collect();
        assert_eq!(tokens, collapse(&path));
        let score = path_probability(&probabilities, &path).ln();
        assert!((f64::from(found.score) - score).abs() < 1e-5 * frames.max(1) as f64);
        // The runs cover the path's tokens, and nothing else.
        let mut covered = vec![0; frames];
        for run in found.runs {
            let run_frames = run.start as usize..run.end as usize;
            covered[run_frames.clone()].fill(run.token);
            let mean = probabilities[run_frames.clone()]
                .iter()
                .map(|row| row[run.token as usize]);
            let mean = mean.sum::<f64>() / run_frames.len() as f64;
            assert!((f64::from(run.confidence) - mean).abs() < 1e-6);
        }
        assert_eq!(covered, path);
    }
}

#[test]
fn greedy_takes_the_first_of_equals_and_keeps_to_its_buffer() {
    let mut buffer = [TokenRun::default(); 1];
    let found = greedy(&[1.0, 1.0, 1.0, 0.0, 2.0, 2.0], 3, &mut buffer).unwrap();
    assert_eq!(
        found.runs.iter().map(|run| run.token).collect::<Vec<_>>(),
        [1]
    );
    let two = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    assert_eq!(
        greedy(&two, 3, &mut buffer),
        Err(DecodeError::BufferTooSmall { needed: 2 })
    );
    assert!(greedy(&[], 3, &mut []).unwrap().runs.is_empty());
}

#[test]
fn a_beam_without_grammar_ranks_all_sequences_as_brute_force_does() {
    let mut random = Random(4);
    for (frames, vocab_size) in [(1, 2), (2, 3), (4, 3), (5, 4), (8, 2), (7, 3)] {
        for _ in 0..5 {
            let logits = random.logits(frames * vocab_size, 3.0);
            let expected = ranked(all_sequences(&softmax(&logits, vocab_size)));
            let log_probs = log_probs(&logits, vocab_size).unwrap();
            let graph = TokenGraph::any(vocab_size);
            let found = prefix_beam(&log_probs, vocab_size, &graph, MAX_BEAM, usize::MAX);
            assert_same(&found, &expected);
        }
    }
}

#[test]
fn a_narrow_beam_keeps_only_its_width_and_never_scores_too_high() {
    let mut random = Random(5);
    for width in [1, 2, 3, 8] {
        let logits = random.logits(7 * 4, 2.0);
        let probabilities = softmax(&logits, 4);
        let log_probs = log_probs(&logits, 4).unwrap();
        let found = prefix_beam(&log_probs, 4, &TokenGraph::any(4), width, usize::MAX);
        assert_eq!(found.len(), width);
        for pair in found.windows(2) {
            assert!(pair[0].score >= pair[1].score && pair[0].tokens != pair[1].tokens);
        }
        for hypothesis in &found {
            let bound = forward(&probabilities, &hypothesis.tokens).ln() + CLOSE;
            assert!(
                f64::from(hypothesis.score) <= bound,
                "{hypothesis:?} > {bound}"
            );
        }
    }
}

#[test]
fn alignment_is_the_best_path_of_its_tokens() {
    let mut random = Random(6);
    for frames in 1..=7 {
        let vocab_size = 3;
        let logits = random.logits(frames * vocab_size, 3.0);
        let probabilities = softmax(&logits, vocab_size);
        let log_probs = log_probs(&logits, vocab_size).unwrap();
        for tokens in all_sequences(&probabilities).into_keys() {
            let best = paths(frames, vocab_size)
                .filter(|path| collapse(path) == tokens)
                .max_by(|a, b| {
                    path_probability(&probabilities, a)
                        .total_cmp(&path_probability(&probabilities, b))
                })
                .unwrap();
            let runs = align(&log_probs, vocab_size, &tokens).unwrap();
            assert_eq!(runs.iter().map(|run| run.token).collect::<Vec<_>>(), tokens);
            let mut path = vec![0; frames];
            for run in &runs {
                path[run.start as usize..run.end as usize].fill(run.token);
                let mean = (run.start..run.end)
                    .map(|frame| probabilities[frame as usize][run.token as usize])
                    .sum::<f64>()
                    / f64::from(run.end - run.start);
                assert!((f64::from(run.confidence) - mean).abs() < 1e-6);
            }
            assert_eq!(path, best, "{tokens:?}");
        }
    }
}

#[test]
fn alignment_needs_enough_frames() {
    let log_probs = log_probs(&[0.0; 3 * 3], 3).unwrap();
    assert!(align(&log_probs, 3, &[1, 2, 1]).is_some());
    assert!(align(&log_probs, 3, &[1, 1]).is_some());
    assert!(align(&log_probs, 3, &[1, 1, 2]).is_none());
    assert!(align(&log_probs, 3, &[3]).is_none(), "no such token");
    assert_eq!(align(&[], 3, &[]), Some(vec![]));
    assert!(align(&[], 3, &[1]).is_none());
}

#[test]
fn alignment_of_many_frames_follows_the_words() {
    // Token k in frames 10k+3..10k+8, blank between; √T blocks do not divide the frames evenly.
    let (words, vocab_size) = (101, 5);
    let mut logits = vec![0.0; (words * 10 + 7) * vocab_size];
    let tokens: Vec<u32> = (0..words as u32).map(|k| 1 + k % 4).collect();
    for (frame, row) in logits.chunks_mut(vocab_size).enumerate() {
        let spoken = (3..8).contains(&(frame % 10)) && frame / 10 < words;
        row[if spoken {
            tokens[frame / 10] as usize
        } else {
            0
        }] = 4.0;
    }
    let runs = align(
        &log_probs(&logits, vocab_size).unwrap(),
        vocab_size,
        &tokens,
    )
    .unwrap();
    for (k, run) in runs.iter().enumerate() {
        assert_eq!((run.start, run.end), (10 * k as u32 + 3, 10 * k as u32 + 8));
    }
}

#[test]
fn logits_are_checked() {
    let mut buffer = [TokenRun::default(); 4];
    let wrong = Err(DecodeError::WrongShape {
        values: 5,
        vocab_size: 3,
    });
    assert_eq!(greedy(&[0.0; 5], 3, &mut buffer).map(|_| ()), wrong);
    assert!(greedy(&[0.0; 4], 0, &mut buffer).is_err());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let expected = Err(DecodeError::NotFinite { frame: 1 });
        assert_eq!(
            greedy(&[0.0, 0.0, bad, 0.0], 2, &mut buffer).map(|_| ()),
            expected
        );
        assert_eq!(log_probs(&[0.0, 0.0, bad, 0.0], 2).map(|_| ()), expected);
    }
}

/// The search found the same sequences in the same order with the same scores.
pub fn assert_same(found: &[Hypothesis], expected: &[(Vec<u32>, f64)]) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found.complete);
        let error = (f64::from(found.score) - expected.1).abs();
        assert!(
            error < CLOSE * expected.1.abs().max(1.0),
            "{index}: {found:?} {expected:?}"
        );
        assert_eq!(found.tokens, expected.0, "{index}");
    }
}
