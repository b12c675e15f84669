//! The search against all sentences there are.

use std::vec::Vec;

use super::*;
use crate::model::auto_avsr::decoder::log_softmax;

const VOCABULARY: usize = 4;
const END: usize = VOCABULARY - 1;

fn noise(seed: usize, len: usize) -> Vec<f32> {
    let hash = |i: usize| (i * 7919 + seed * 104_729 + i * i * 31) % 1009;
    let mut values: Vec<f32> = (0..len).map(|i| hash(i) as f32 / 252.0 - 2.0).collect();
    values.chunks_exact_mut(VOCABULARY).for_each(log_softmax);
    values
}

/// A decoder that looks at the last two tokens.
struct Bigrams {
    table: Vec<f32>,
    tokens: Vec<usize>,
    out: Vec<f32>,
}

impl Bigrams {
    fn new(seed: usize) -> Self {
        Bigrams {
            table: noise(seed, (VOCABULARY + 1) * VOCABULARY * VOCABULARY),
            tokens: Vec::new(),
            out: Vec::new(),
        }
    }

    fn after(&self, before: Option<usize>, token: usize) -> &[f32] {
        let row = before.map_or(VOCABULARY, |b| b) * VOCABULARY + token;
        &self.table[row * VOCABULARY..][..VOCABULARY]
    }
}

impl NextToken for Bigrams {
    fn step(&mut self, steps: &[Step<'_>]) -> &[f32] {
        let mut out = Vec::new();
        for step in steps {
            let before = step.path.last().map(|&row| self.tokens[row]);
            out.extend_from_slice(self.after(before, step.token));
        }
        self.tokens.extend(steps.iter().map(|step| step.token));
        self.out = out;
        &self.out
    }

    fn rows(&self) -> usize {
        self.tokens.len()
    }
}

/// ln of the probability that CTC reads exactly these tokens, by all alignments.
fn ctc_of_sentence(ctc: &[f32], tokens: &[usize]) -> f64 {
    let frames = ctc.len() / VOCABULARY;
    let mut sum = 0.0;
    for mut code in 0..VOCABULARY.pow(frames as u32) {
        let mut probability = 0.0;
        let (mut read, mut last) = (Vec::new(), 0);
        for t in 0..frames {
            let token = code % VOCABULARY;
            code /= VOCABULARY;
            probability += f64::from(ctc[t * VOCABULARY + token]);
            if token != 0 && token != last {
                read.push(token);
            }
            last = token;
        }
        if read == tokens {
            sum += f64::exp(probability);
        }
    }
    f64::ln(sum)
}

#[test]
fn the_whole_beam_finds_the_best_of_all_sentences() {
    for (seed, weight, penalty) in [(1, 0.3, 0.0), (2, 0.1, 0.4), (3, 0.9, 0.0), (4, 0.0, 0.2)] {
        let ctc = noise(seed, 4 * VOCABULARY);
        let options = Options {
            beam: VOCABULARY,
            ctc_weight: weight,
            penalty,
        };
        let mut decoder = Bigrams::new(seed + 10);
        let found = search(&mut decoder, &ctc, VOCABULARY, &options).unwrap();
        for hypothesis in found.iter().filter(|h| h.ended && h.score > -1e6) {
            let tokens = &hypothesis.tokens;
            let mut want = 0.0;
            for i in 1..tokens.len() {
                let before = (i >= 2).then(|| tokens[i - 2]);
                want += f64::from(decoder.after(before, tokens[i - 1])[tokens[i]]);
            }
            let sentence = &tokens[1..tokens.len() - 1];
            let ctc = if weight > 0.0 {
                ctc_of_sentence(&ctc, sentence)
            } else {
                0.0
            };
            let weight = f64::from(weight);
            let want = (1.0 - weight) * want
                + weight * ctc
                + f64::from(penalty) * (tokens.len() - 1) as f64;
            assert!(
                (f64::from(hypothesis.score) - want).abs() < 1e-4,
                "{tokens:?}: {} instead of {want}",
                hypothesis.score
            );
            assert_eq!(tokens[0], END);
        }
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert!(found.iter().any(|h| h.ended));
    }
}

#[test]
fn scores_of_a_prefix_and_its_sentence_add_up() {
    let ctc = noise(7, 5 * VOCABULARY);
    let scorer = PrefixScorer::new(&ctc, VOCABULARY);
    // A sentence that begins so either ends here or goes on with one of the tokens.
    let (mut prefix, mut tokens) = (scorer.root(), Vec::new());
    for next in [1, 1, 2] {
        let all: Vec<f64> = scorer
            .scores(&prefix, &tokens, &[1, 2, END])
            .into_iter()
            .map(|v| f64::exp(f64::from(v)))
            .collect();
        let token_three = 0.0; // END is the vocabulary's third token: CTC's mass on it reads as a token, too.
        let sum: f64 = all.iter().sum::<f64>() + token_three;
        assert!(sum <= f64::exp(f64::from(prefix.score)) + 1e-5);
        let grown = scorer.grow(&prefix, &tokens, next);
        assert_eq!(grown.score, scorer.scores(&prefix, &tokens, &[next])[0]);
        tokens.push(next);
        prefix = grown;
    }
    let sentence = ctc_of_sentence(&ctc, &tokens);
    let got = scorer.scores(&prefix, &tokens, &[END])[0];
    assert!((f64::from(got) - sentence).abs() < 1e-4, "{got} {sentence}");
    assert_eq!(scorer.increments(&prefix, &tokens, &[0]), [LOG_ZERO]);
}

#[test]
fn searches_that_make_no_sense_are_refused() {
    let ctc = noise(1, 2 * VOCABULARY);
    let try_with =
        |ctc: &[f32], options| search(&mut Bigrams::new(1), ctc, VOCABULARY, &options).unwrap_err();
    let options = Options {
        beam: 2,
        ..Options::default()
    };
    let beam = SearchError::Beam { most: VOCABULARY };
    for wrong in [0, VOCABULARY + 1] {
        assert_eq!(
            try_with(
                &ctc,
                Options {
                    beam: wrong,
                    ..options
                }
            ),
            beam
        );
    }
    for ctc_weight in [-0.1, 1.1, f32::NAN] {
        assert_eq!(
            try_with(
                &ctc,
                Options {
                    ctc_weight,
                    ..options
                }
            ),
            SearchError::Weight
        );
    }
    assert_eq!(try_with(&[], options), SearchError::Empty);
    assert_eq!(try_with(&ctc[..5], options), SearchError::Empty);
    assert_eq!(try_with(&[f32::NAN; 4], options), SearchError::NotFinite);
}
