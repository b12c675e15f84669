//! Logits to transcripts: exactness with grammars, times, partial results, determinism, speed.

use std::string::{String, ToString};
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

use super::ctc::assert_same;
use super::reference::*;
use crate::decode::ctc::{MAX_BEAM, log_probs, prefix_beam};
use crate::decode::grammar::Grammar;
use crate::decode::graph::TokenGraph;
use crate::decode::*;

const TIMES: FrameTimes<'static> = FrameTimes::Regular { start_us: 0, period_us: 40_000 };

/// Grammars with few sentences, and the sentences.
const SMALL: [(&str, &[&str]); 4] = [
    ("sentence = x y\nx = a | b | ab\ny = a | ba", &["a a", "a ba", "b a", "b ba", "ab a", "ab ba"]),
    ("sentence = a [b] | [ab] ba", &["a", "a b", "ba", "ab ba"]),
    ("sentence = [a] [a] [a]", &["", "a", "a a", "a a a"]),
    ("sentence = (a | b) (a | b) | ab", &["a a", "a b", "b a", "b b", "ab"]),
];

#[test]
fn a_beam_with_a_grammar_ranks_its_sentences_as_brute_force_does() {
    let vocabularies = [
        Vocabulary::new(TokenKind::Word, ["<blank>", "ba", "b", "ab", "a"]).unwrap(),
        Vocabulary::new(TokenKind::Char, ["<blank>", "b", "▁", "a"]).unwrap(),
        Vocabulary::new(TokenKind::Piece, ["<blank>", "a", "▁a", "▁", "b", "▁ab", "ba"]).unwrap(),
    ];
    let mut random = Random(20);
    for vocabulary in &vocabularies {
        for (source, sentences) in SMALL {
            let graph = TokenGraph::compile(&Grammar::parse(source).unwrap(), vocabulary).unwrap();
            for frames in 0..=9 {
                let logits = random.logits(frames * vocabulary.len(), 3.0);
                let probabilities = softmax(&logits, vocabulary.len());
                let spellings = sentences.iter().flat_map(|sentence| spellings(vocabulary, sentence));
                let expected = ranked(spellings.map(|tokens| {
                    let probability = forward(&probabilities, &tokens);
                    (tokens, probability)
                }));
                let log_probs = log_probs(&logits, vocabulary.len()).unwrap();
                let found = prefix_beam(&log_probs, vocabulary.len(), &graph, MAX_BEAM, usize::MAX);
                assert_same(&found, &expected);
            }
        }
    }
}

/// All token sequences for a sentence.
fn spellings(vocabulary: &Vocabulary, sentence: &str) -> Vec<Vec<u32>> {
    let text = match vocabulary.kind() {
        TokenKind::Word => {
            let words = sentence.split(' ').filter(|word| !word.is_empty());
            return vec![words.map(|word| vocabulary.token(word).unwrap()).collect()];
        }
        TokenKind::Char => sentence.to_string(),
        TokenKind::Piece if sentence.is_empty() => String::new(),
        TokenKind::Piece => " ".to_string() + sentence,
    };
    cut(vocabulary, &text)
}

fn cut(vocabulary: &Vocabulary, text: &str) -> Vec<Vec<u32>> {
    if text.is_empty() {
        return vec![vec![]];
    }
    let mut found = vec![];
    for end in 1..=text.len() {
        if let Some(token) = vocabulary.token(&text[..end]) {
            found.extend(cut(vocabulary, &text[end..]).into_iter().map(|rest| [vec![token], rest].concat()));
        }
    }
    found
}

#[test]
fn any_beam_finds_a_complete_sentence_when_one_fits() {
    let vocabulary = Vocabulary::new(TokenKind::Char, ["<blank>", "b", "▁", "a", "e"]).unwrap();
    // With a blank between its two e the sentence takes 8 frames.
    let grammar = Grammar::parse("sentence = bee aba | bee aba b b b").unwrap();
    let mut random = Random(21);
    for width in [1, 2, 16] {
        let options = Options { grammar: Some(&grammar), beam: width };
        let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
        for frames in 0..30 {
            let logits = random.logits(frames * 5, 5.0);
            let found = decoder.decode(&logits, frames, 5, &TIMES).unwrap();
            assert_eq!(found.complete, frames >= 8, "{width} {frames}");
            assert_eq!(found.text.starts_with("bee aba"), frames >= 8);
            assert_eq!(found.words.len(), found.text.split_terminator(' ').count());
        }
    }
}

#[test]
fn grid_beams_agree_with_scoring_every_sentence() {
    let grammar = Grammar::shipped("grid").unwrap();
    let vocabulary = grid_vocabulary(&grammar);
    let positions: Vec<Vec<u32>> = [4, 4, 4, 25, 10, 4]
        .iter()
        .scan(1, |first, count| {
            *first += count;
            Some((*first - count..*first).collect())
        })
        .collect();
    let mut random = Random(22);
    let mut agreed = 0;
    for _ in 0..20 {
        let said: Vec<u32> = positions.iter().map(|words| words[random.below(words.len())]).collect();
        let logits = spoken(&mut random, &said, vocabulary.len(), 3.5);
        // Best sentence of all 64 000, by the best word at each place given the others, until nothing
        // improves, from the sentence that the beam found and from the one that was said.
        let probabilities = softmax(&logits, vocabulary.len());
        let options = Options { grammar: Some(&grammar), beam: 16 };
        let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
        let found = decoder.decode(&logits, 75, vocabulary.len(), &TIMES).unwrap();
        let best = [found.tokens.clone(), said]
            .into_iter()
            .map(|tokens| climb(&probabilities, &positions, tokens))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        assert!(found.complete && grammar.accepts(found.text.split(' ')));
        let bound = best.1.ln() + 1e-3;
        assert!(f64::from(found.score) <= bound, "{} {bound}", found.score);
        for beam in [4, 16, 64, 256, 1024] {
            let options = Options { grammar: Some(&grammar), beam };
            let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
            let found = decoder.decode(&logits, 75, vocabulary.len(), &TIMES).unwrap();
            std::println!("{beam} {} {:?} best {} {:?}", found.score, found.tokens, best.1.ln(), best.0);
        }
        agreed += usize::from(found.tokens == best.0);
    }
    assert_eq!(agreed, 20);
}

fn climb(probabilities: &[Vec<f64>], positions: &[Vec<u32>], mut tokens: Vec<u32>) -> (Vec<u32>, f64) {
    let mut best = forward(probabilities, &tokens);
    loop {
        let before = best;
        for (place, words) in positions.iter().enumerate() {
            for &word in words {
                let mut other = tokens.clone();
                other[place] = word;
                let score = forward(probabilities, &other);
                if score > best {
                    (tokens, best) = (other, score);
                }
            }
        }
        if best == before {
            return (tokens, best);
        }
    }
}

#[test]
fn words_have_the_times_of_their_frames() {
    let vocabulary = Vocabulary::new(TokenKind::Word, ["<blank>", "on", "off"]).unwrap();
    // _ on on _ off off off _
    let path = [0, 1, 1, 0, 2, 2, 2, 0];
    let logits = certain(&path, 3);
    let starts_us = [1_000_000, 1_040_000, 1_080_000, 1_120_000, 1_160_000, 1_200_000, 1_260_000, 1_300_000];
    let stamps = FrameTimes::Stamps { starts_us: &starts_us, period_us: 40_000 };
    let grammar = Grammar::parse("words: off on").unwrap();
    for options in [
        Options::default(),
        Options { beam: 8, ..Options::default() },
        Options { grammar: Some(&grammar), beam: 0 },
    ] {
        let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
        let found = decoder.decode(&logits, 8, 3, &TIMES).unwrap();
        assert_eq!(found.text, "on off");
        assert!(found.complete);
        let times: Vec<_> = found.words.iter().map(|w| (w.text.as_str(), w.start_s, w.end_s)).collect();
        assert_eq!(times, [("on", 0.04, 0.12), ("off", 0.16, 0.28)]);
        let certain = 1.0 / (1.0 + 2.0 * (-9.0f32).exp());
        assert!(found.words.iter().all(|word| (word.confidence - certain).abs() < 1e-6));

        let found = decoder.decode(&logits, 8, 3, &stamps).unwrap();
        let times: Vec<_> = found.words.iter().map(|w| (w.start_s, w.end_s)).collect();
        assert_eq!(times, [(1.04, 1.12), (1.16, 1.3)]);
        let found = decoder.decode(&logits[..7 * 3], 7, 3, &TIMES).unwrap();
        assert_eq!(found.words[1].end_s, 0.28);
    }
}

#[test]
fn characters_and_pieces_make_words() {
    let chars = Vocabulary::new(TokenKind::Char, ["<blank>", "▁", "a", "t"]).unwrap();
    let decoder = Decoder::new(chars, Options::default()).unwrap();
    // "at a", with a space before and two after.
    let path = [1, 2, 2, 3, 0, 1, 2, 1, 0, 1];
    let found = decoder.decode(&certain(&path, 4), path.len(), 4, &TIMES).unwrap();
    let times: Vec<_> = found.words.iter().map(|w| (w.text.as_str(), w.start_s, w.end_s)).collect();
    assert_eq!((found.text.as_str(), times), ("at a", vec![("at", 0.04, 0.16), ("a", 0.24, 0.28)]));
    assert_eq!(found.tokens, [1, 2, 3, 1, 2, 1, 1]);

    let pieces = Vocabulary::new(TokenKind::Piece, ["<blank>", "▁a", "t", "▁"]).unwrap();
    let decoder = Decoder::new(pieces, Options::default()).unwrap();
    let path = [1, 0, 2, 0, 3, 2, 1, 1];
    let found = decoder.decode(&certain(&path, 4), path.len(), 4, &TIMES).unwrap();
    let times: Vec<_> = found.words.iter().map(|w| (w.text.as_str(), w.start_s, w.end_s)).collect();
    assert_eq!(times, [("at", 0.0, 0.12), ("t", 0.2, 0.24), ("a", 0.24, 0.32)]);
    assert_eq!(found.text, "at t a");
}

#[test]
fn n_best_texts_differ_and_partial_results_need_not_be_complete() {
    let pieces = Vocabulary::new(TokenKind::Piece, ["<blank>", "▁a", "▁", "a", "b"]).unwrap();
    let grammar = Grammar::parse("sentence = a b | b a | ab").unwrap();
    let options = Options { grammar: Some(&grammar), beam: 64 };
    let decoder = Decoder::new(pieces, options).unwrap();
    let logits = Random(23).logits(9 * 5, 2.0);
    let found = decoder.decode_n_best(&logits, 9, 5, &TIMES, 10).unwrap();
    let mut texts: Vec<_> = found.iter().map(|transcript| transcript.text.as_str()).collect();
    assert!(found.windows(2).all(|pair| pair[0].score > pair[1].score));
    assert_eq!(found[0], decoder.decode(&logits, 9, 5, &TIMES).unwrap());
    texts.sort();
    assert_eq!(texts, ["a b", "ab", "b a"]);
    assert_eq!(decoder.decode_n_best(&logits, 9, 5, &TIMES, 2).unwrap().len(), 2);

    let logits = certain(&[0, 1, 1, 0], 5);
    let partial = decoder.decode_partial(&logits, 4, 5, &TIMES).unwrap();
    assert_eq!((partial.text.as_str(), partial.complete), ("a", false));
    assert_eq!(partial.words[0].start_s, 0.04);
    assert_ne!(decoder.decode(&logits, 4, 5, &TIMES).unwrap().text, "a");
}

#[test]
fn wrong_input_is_refused() {
    let vocabulary = Vocabulary::new(TokenKind::Word, ["<blank>", "on"]).unwrap();
    let decoder = Decoder::new(vocabulary, Options { beam: 4, ..Options::default() }).unwrap();
    let refused = |logits: &[f32], frames, vocab_size, times| {
        decoder.decode(logits, frames, vocab_size, &times).unwrap_err()
    };
    assert_eq!(refused(&[0.0; 6], 2, 3, TIMES), DecodeError::WrongVocabulary { expected: 2, found: 3 });
    assert_eq!(refused(&[0.0; 6], 2, 2, TIMES), DecodeError::WrongShape { values: 6, vocab_size: 2 });
    let stamps = FrameTimes::Stamps { starts_us: &[0, 1], period_us: 1 };
    assert_eq!(refused(&[0.0; 6], 3, 2, stamps), DecodeError::WrongTimes { frames: 3, times: 2 });
    assert_eq!(refused(&[0.0, f32::NAN], 1, 2, TIMES), DecodeError::NotFinite { frame: 0 });
    let frames = usize::MAX;
    assert_eq!(refused(&[], frames, 2, TIMES), DecodeError::TooLong { frames, most: MAX_FRAMES });
    // The extremes of f32 and of time are fine.
    let logits = [f32::MAX, f32::MIN, f32::MIN, f32::MAX];
    let times = FrameTimes::Stamps { starts_us: &[u64::MAX, 0], period_us: u64::MAX };
    let found = decoder.decode(&logits, 2, 2, &times).unwrap();
    assert_eq!((found.text.as_str(), found.score), ("on", 0.0));
    assert!(found.words[0].end_s >= found.words[0].start_s);
}

#[test]
fn bad_vocabularies_are_refused() {
    let refused = |kind, tokens: &[&str]| Vocabulary::new(kind, tokens.iter().copied()).unwrap_err();
    use TokenKind::*;
    assert_eq!(refused(Word, &[]), VocabularyError::NoTokens);
    assert_eq!(refused(Word, &["<blank>"]), VocabularyError::NoTokens);
    assert_eq!(refused(Word, &["a", "b"]), VocabularyError::NoBlank);
    assert_eq!(refused(Char, &["<blank>", "a", ""]), VocabularyError::Empty { index: 2 });
    assert_eq!(refused(Char, &["<blank>", " ", "▁"]), VocabularyError::Twice { index: 2 });
}

#[test]
fn the_same_logits_give_the_same_bits() {
    let grammar = Grammar::shipped("grid").unwrap();
    let vocabulary = grid_vocabulary(&grammar);
    let logits = spoken(&mut Random(24), &[1, 5, 9, 20, 40, 50], vocabulary.len(), 2.0);
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    for options in [
        Options::default(),
        Options { beam: 32, ..Options::default() },
        Options { grammar: Some(&grammar), beam: 0 },
    ] {
        let decode = |decoder: &Decoder| {
            decoder.decode_n_best(&logits, 75, vocabulary.len(), &TIMES, 8).unwrap()
        };
        let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
        let found = decode(&decoder);
        assert_eq!(found, decode(&decoder));
        assert_eq!(found, decode(&Decoder::new(vocabulary.clone(), options).unwrap()));
        for transcript in found {
            let confidences = transcript.words.iter().map(|word| word.confidence.to_bits());
            for bits in transcript.tokens.iter().copied().chain([transcript.score.to_bits()]).chain(confidences) {
                // FNV-1a.
                digest = (digest ^ u64::from(bits)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    // Written down once: every build and every target has to reach the same bits.
    assert_eq!(digest, DIGEST, "{digest:#018x}");
}

const DIGEST: u64 = 0;

#[test]
fn a_grid_clip_is_decoded_in_5_ms() {
    if cfg!(debug_assertions) {
        std::println!("skipped: times count in release builds");
        return;
    }
    let grammar = Grammar::shipped("grid").unwrap();
    let vocabulary = grid_vocabulary(&grammar);
    for (name, grammar, beam) in [
        ("greedy", None, 0),
        ("grid grammar, beam 16", Some(&grammar), 16),
        ("grid grammar, beam 64", Some(&grammar), 64),
        ("no grammar, beam 16", None, 16),
    ] {
        let decoder = Decoder::new(vocabulary.clone(), Options { grammar, beam }).unwrap();
        let mut random = Random(25);
        let mut least = Duration::MAX;
        for _ in 0..20 {
            let logits = spoken(&mut random, &[2, 6, 10, 17, 42, 48], vocabulary.len(), 2.0);
            let start = Instant::now();
            decoder.decode(&logits, 75, vocabulary.len(), &TIMES).unwrap();
            least = least.min(start.elapsed());
        }
        std::println!("{name}: {least:?} for 75 frames of 52 tokens");
        assert!(beam > 16 || least < Duration::from_millis(5), "{name}: {least:?}");
    }
}

fn grid_vocabulary(grammar: &Grammar) -> Vocabulary {
    Vocabulary::new(TokenKind::Word, ["<blank>"].into_iter().chain(grammar.words())).unwrap()
}

/// 75 frames in which `tokens` are spoken one after the other, for 8 frames each with 3 between,
/// with noise: `margin` is what the spoken token has above the mean of the others.
fn spoken(random: &mut Random, tokens: &[u32], vocab_size: usize, margin: f32) -> Vec<f32> {
    let mut logits = random.logits(75 * vocab_size, 3.0);
    for (frame, row) in logits.chunks_mut(vocab_size).enumerate() {
        let (place, offset) = (frame / 11, frame % 11);
        let spoken = place < tokens.len() && offset < 8;
        row[if spoken { tokens[place] as usize } else { 0 }] += margin;
    }
    logits
}

/// Logits that leave no doubt about a path.
fn certain(path: &[u32], vocab_size: usize) -> Vec<f32> {
    let mut logits = vec![0.0; path.len() * vocab_size];
    for (row, &token) in logits.chunks_mut(vocab_size).zip(path) {
        row[token as usize] = 9.0;
    }
    logits
}
