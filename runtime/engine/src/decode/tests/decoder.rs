//! Logits to transcripts: exactness with grammars, times, partial results, determinism, speed.

use std::string::{String, ToString};
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

use super::ctc::assert_same;
use super::reference::*;
use crate::decode::ctc::{BLANK, Lookahead, MAX_BEAM, Outlook, PrefixBeam, log_probs, prefix_beam};
use crate::decode::grammar::Grammar;
use crate::decode::graph::{Arc, TokenGraph};
use crate::decode::*;

const TIMES: FrameTimes<'static> = FrameTimes::Regular {
    start_us: 0,
    period_us: 40_000,
};

/// Grammars with few sentences, and the sentences.
const SMALL: [(&str, &[&str]); 4] = [
    (
        "sentence = x y\nx = a | b | ab\ny = a | ba",
        &["a a", "a ba", "b a", "b ba", "ab a", "ab ba"],
    ),
    ("sentence = a [b] | [ab] ba", &["a", "a b", "ba", "ab ba"]),
    ("sentence = [a] [a] [a]", &["", "a", "a a", "a a a"]),
    (
        "sentence = (a | b) (a | b) | ab",
        &["a a", "a b", "b a", "b b", "ab"],
    ),
];

#[test]
fn a_beam_with_a_grammar_ranks_its_sentences_as_brute_force_does() {
    let vocabularies = [
        Vocabulary::new(TokenKind::Word, ["<blank>", "ba", "b", "ab", "a"]).unwrap(),
        Vocabulary::new(TokenKind::Char, ["<blank>", "b", "▁", "a"]).unwrap(),
        Vocabulary::new(
            TokenKind::Piece,
            ["<blank>", "a", "▁a", "▁", "b", "▁ab", "ba"],
        )
        .unwrap(),
    ];
    let mut random = Random(20);
    for vocabulary in &vocabularies {
        for (source, sentences) in SMALL {
            let graph = TokenGraph::compile(&Grammar::parse(source).unwrap(), vocabulary).unwrap();
            for frames in 0..=9 {
                let logits = random.logits(frames * vocabulary.len(), 3.0);
                let probabilities = softmax(&logits, vocabulary.len());
                let spellings = sentences
                    .iter()
                    .flat_map(|sentence| spellings(vocabulary, sentence));
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
            found.extend(
                cut(vocabulary, &text[end..])
                    .into_iter()
                    .map(|rest| [vec![token], rest].concat()),
            );
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
        let options = Options {
            grammar: Some(&grammar),
            beam: width,
        };
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
fn grid_beams_agree_with_scoring_all_64000_sentences() {
    let grammar = Grammar::shipped("grid").unwrap();
    let vocabulary = grid_vocabulary(&grammar);
    let mut first = 1;
    let places = [4, 4, 4, 25, 10, 4].map(|count| {
        first += count;
        (first - count..first).collect::<Vec<u32>>()
    });
    let mut sentences = vec![vec![]];
    for words in &places {
        let longer = |before: &Vec<u32>| {
            let before = before.clone();
            words
                .iter()
                .map(move |&word| [before.as_slice(), &[word]].concat())
                .collect::<Vec<_>>()
        };
        sentences = sentences.iter().flat_map(longer).collect();
    }
    assert_eq!(sentences.len(), 64_000);
    let mut random = Random(22);
    // From noise alone to clear speech; ranked by the past only, a beam of 1024 still misses some.
    for margin in [0.0, 2.0, 3.5, 6.0] {
        let said = &sentences[random.below(sentences.len())];
        let logits = spoken(&mut random, said, vocabulary.len(), margin);
        let probabilities = softmax(&logits, vocabulary.len());
        let all = sentences
            .iter()
            .map(|tokens| (tokens.clone(), forward(&probabilities, tokens)));
        let best = all.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        for beam in [16, 64] {
            let options = Options {
                grammar: Some(&grammar),
                beam,
            };
            let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
            let found = decoder
                .decode(&logits, 75, vocabulary.len(), &TIMES)
                .unwrap();
            assert!(found.complete && grammar.accepts(found.text.split(' ')));
            assert_eq!(found.tokens, best.0, "margin {margin}, beam {beam}");
            let missed = best.1.ln() - f64::from(found.score);
            std::println!(
                "margin {margin}, beam {beam}: {} of {}",
                found.score,
                best.1.ln()
            );
            assert!((-1e-4..0.05).contains(&missed), "{missed}");
        }
    }
}

#[test]
fn the_look_ahead_is_the_best_path_through_the_frames_to_come() {
    let vocabulary = Vocabulary::new(TokenKind::Char, ["<blank>", "b", "▁", "a"]).unwrap();
    let mut random = Random(26);
    for (source, sentences) in SMALL {
        let graph = TokenGraph::compile(&Grammar::parse(source).unwrap(), &vocabulary).unwrap();
        let spellings: Vec<_> = sentences
            .iter()
            .flat_map(|text| spellings(&vocabulary, text))
            .collect();
        let logits = random.logits(7 * 4, 3.0);
        let log_probs = log_probs(&logits, 4).unwrap();
        let lookahead = Lookahead::new(&log_probs, 4, &graph).unwrap();
        for seen in 0..=7 {
            let probabilities = softmax(&logits[seen * 4..], 4);
            let best = paths(7 - seen, 4)
                .filter(|path| spellings.contains(&collapse(path)))
                .map(|path| path_probability(&probabilities, &path))
                .fold(0.0, f64::max)
                .ln();
            let found = f64::from(lookahead.of(seen, graph.start()));
            assert!(
                found == best || (found - best).abs() < 1e-5,
                "{found} {best}"
            );
        }
    }
}

#[test]
fn the_look_ahead_knows_every_place_of_the_acceptor() {
    let vocabularies = [
        Vocabulary::new(TokenKind::Word, ["<blank>", "ba", "b", "ab", "a"]).unwrap(),
        Vocabulary::new(
            TokenKind::Piece,
            ["<blank>", "a", "▁a", "▁", "b", "▁ab", "ba"],
        )
        .unwrap(),
    ];
    let mut random = Random(28);
    for vocabulary in &vocabularies {
        for source in SMALL
            .map(|small| small.0)
            .into_iter()
            .chain(["words: a ab ba"])
        {
            let graph = TokenGraph::compile(&Grammar::parse(source).unwrap(), vocabulary).unwrap();
            let size = vocabulary.len();
            let log_probs = log_probs(&random.logits(5 * size, 3.0), size).unwrap();
            let lookahead = Lookahead::new(&log_probs, size, &graph).unwrap();
            let check = |found: f32, expected: f32| {
                assert!(
                    found == expected || (found - expected).abs() < 1e-5,
                    "{found} {expected}"
                );
            };
            for seen in 0..=5 {
                let rest = &log_probs[seen * size..];
                for state in 0..graph.states() as u32 {
                    check(
                        lookahead.of(seen, state),
                        best_completion(&graph, rest, state, BLANK),
                    );
                    for (arc, Arc { token, to }) in graph.numbered_arcs(state) {
                        let expected = best_completion(&graph, rest, to, token);
                        check(lookahead.in_token(seen, arc), expected);
                    }
                }
            }
        }
    }
}

/// By trying all ways through the frames, the last one before which had the token `last`.
fn best_completion(graph: &TokenGraph, log_probs: &[f32], state: u32, last: u32) -> f32 {
    if log_probs.is_empty() {
        return if graph.accepts_at(state) {
            0.0
        } else {
            f32::NEG_INFINITY
        };
    }
    let (row, rest) = log_probs.split_at(graph.vocab_size());
    let new = graph.arcs(state).filter(|arc| arc.token != last);
    let new = new.map(|arc| (arc.token, arc.to));
    [(BLANK, state), (last, state)]
        .into_iter()
        .chain(new)
        .map(|(token, to)| row[token as usize] + best_completion(graph, rest, to, token))
        .fold(f32::NEG_INFINITY, f32::max)
}

#[test]
fn without_look_ahead_a_wide_beam_finds_the_same() {
    let vocabulary = Vocabulary::new(TokenKind::Char, ["<blank>", "b", "▁", "a"]).unwrap();
    let mut random = Random(27);
    for (source, _) in SMALL {
        let graph = TokenGraph::compile(&Grammar::parse(source).unwrap(), &vocabulary).unwrap();
        for frames in 0..=9 {
            let log_probs = log_probs(&random.logits(frames * 4, 3.0), 4).unwrap();
            let expected = prefix_beam(&log_probs, 4, &graph, MAX_BEAM, usize::MAX);
            let expected: Vec<_> = expected
                .into_iter()
                .map(|found| (found.tokens, f64::from(found.score)))
                .collect();
            let (mut open, mut left) = (
                PrefixBeam::new(&graph, MAX_BEAM),
                PrefixBeam::new(&graph, MAX_BEAM),
            );
            for (frame, row) in log_probs.chunks_exact(4).enumerate() {
                open.step(row, Outlook::Open);
                left.step(row, Outlook::Left(frames - frame - 1));
            }
            let complete: Vec<_> = open.hypotheses().filter(|found| found.complete).collect();
            assert_same(&complete, &expected);
            let left: Vec<_> = left.hypotheses().collect();
            if frames > 0 {
                assert_same(&left, &expected);
            }
        }
        // And a narrow one ends complete whenever that is possible.
        for frames in 1..=9 {
            let log_probs = log_probs(&random.logits(frames * 4, 3.0), 4).unwrap();
            let mut search = PrefixBeam::new(&graph, 1);
            for (frame, row) in log_probs.chunks_exact(4).enumerate() {
                search.step(row, Outlook::Left(frames - frame - 1));
            }
            assert!(search.hypotheses().all(|found| found.complete));
            let fits = graph
                .frames_needed(graph.start(), BLANK)
                .is_some_and(|needed| needed <= frames);
            assert_eq!(search.hypotheses().count(), usize::from(fits));
        }
    }
}

#[test]
fn words_have_the_times_of_their_frames() {
    let vocabulary = Vocabulary::new(TokenKind::Word, ["<blank>", "on", "off"]).unwrap();
    // _ on on _ off off off _
    let path = [0, 1, 1, 0, 2, 2, 2, 0];
    let logits = certain(&path, 3);
    let starts_us = [
        1_000_000, 1_040_000, 1_080_000, 1_120_000, 1_160_000, 1_200_000, 1_260_000, 1_300_000,
    ];
    let stamps = FrameTimes::Stamps {
        starts_us: &starts_us,
        period_us: 40_000,
    };
    let grammar = Grammar::parse("words: off on").unwrap();
    for options in [
        Options::default(),
        Options {
            beam: 8,
            ..Options::default()
        },
        Options {
            grammar: Some(&grammar),
            beam: 0,
        },
    ] {
        let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
        let found = decoder.decode(&logits, 8, 3, &TIMES).unwrap();
        assert_eq!(found.text, "on off");
        assert!(found.complete);
        let times: Vec<_> = found
            .words
            .iter()
            .map(|w| (w.text.as_str(), w.start_s, w.end_s))
            .collect();
        assert_eq!(times, [("on", 0.04, 0.12), ("off", 0.16, 0.28)]);
        let certain = 1.0 / (1.0 + 2.0 * (-9.0f32).exp());
        assert!(
            found
                .words
                .iter()
                .all(|word| (word.confidence - certain).abs() < 1e-6)
        );

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
    let found = decoder
        .decode(&certain(&path, 4), path.len(), 4, &TIMES)
        .unwrap();
    let times: Vec<_> = found
        .words
        .iter()
        .map(|w| (w.text.as_str(), w.start_s, w.end_s))
        .collect();
    assert_eq!(
        (found.text.as_str(), times),
        ("at a", vec![("at", 0.04, 0.16), ("a", 0.24, 0.28)])
    );
    assert_eq!(found.tokens, [1, 2, 3, 1, 2, 1, 1]);

    let pieces = Vocabulary::new(TokenKind::Piece, ["<blank>", "▁a", "t", "▁"]).unwrap();
    let decoder = Decoder::new(pieces, Options::default()).unwrap();
    let path = [1, 0, 2, 0, 3, 2, 1, 1];
    let found = decoder
        .decode(&certain(&path, 4), path.len(), 4, &TIMES)
        .unwrap();
    let times: Vec<_> = found
        .words
        .iter()
        .map(|w| (w.text.as_str(), w.start_s, w.end_s))
        .collect();
    assert_eq!(
        times,
        [("at", 0.0, 0.12), ("t", 0.2, 0.24), ("a", 0.24, 0.32)]
    );
    assert_eq!(found.text, "at t a");
}

#[test]
fn n_best_texts_differ_and_partial_results_need_not_be_complete() {
    let pieces = Vocabulary::new(TokenKind::Piece, ["<blank>", "▁a", "▁", "a", "b"]).unwrap();
    let grammar = Grammar::parse("sentence = a b | b a | ab").unwrap();
    let options = Options {
        grammar: Some(&grammar),
        beam: 64,
    };
    let decoder = Decoder::new(pieces, options).unwrap();
    let logits = Random(23).logits(9 * 5, 2.0);
    let found = decoder.decode_n_best(&logits, 9, 5, &TIMES, 10).unwrap();
    let mut texts: Vec<_> = found
        .iter()
        .map(|transcript| transcript.text.as_str())
        .collect();
    assert!(found.windows(2).all(|pair| pair[0].score > pair[1].score));
    assert_eq!(found[0], decoder.decode(&logits, 9, 5, &TIMES).unwrap());
    texts.sort();
    assert_eq!(texts, ["a b", "ab", "b a"]);
    assert_eq!(
        decoder
            .decode_n_best(&logits, 9, 5, &TIMES, 2)
            .unwrap()
            .len(),
        2
    );

    let logits = certain(&[0, 1, 1, 0], 5);
    let partial = decoder.decode_partial(&logits, 4, 5, &TIMES).unwrap();
    assert_eq!((partial.text.as_str(), partial.complete), ("a", false));
    assert_eq!(partial.words[0].start_s, 0.04);
    assert_ne!(decoder.decode(&logits, 4, 5, &TIMES).unwrap().text, "a");
}

#[test]
fn wrong_input_is_refused() {
    let vocabulary = Vocabulary::new(TokenKind::Word, ["<blank>", "on"]).unwrap();
    let decoder = Decoder::new(
        vocabulary,
        Options {
            beam: 4,
            ..Options::default()
        },
    )
    .unwrap();
    let refused = |logits: &[f32], frames, vocab_size, times| {
        decoder
            .decode(logits, frames, vocab_size, &times)
            .unwrap_err()
    };
    assert_eq!(
        refused(&[0.0; 6], 2, 3, TIMES),
        DecodeError::WrongVocabulary {
            expected: 2,
            found: 3
        }
    );
    assert_eq!(
        refused(&[0.0; 6], 2, 2, TIMES),
        DecodeError::WrongShape {
            values: 6,
            vocab_size: 2
        }
    );
    let stamps = FrameTimes::Stamps {
        starts_us: &[0, 1],
        period_us: 1,
    };
    assert_eq!(
        refused(&[0.0; 6], 3, 2, stamps),
        DecodeError::WrongTimes {
            frames: 3,
            times: 2
        }
    );
    assert_eq!(
        refused(&[0.0, f32::NAN], 1, 2, TIMES),
        DecodeError::NotFinite { frame: 0 }
    );
    let frames = usize::MAX;
    assert_eq!(
        refused(&[], frames, 2, TIMES),
        DecodeError::TooLong {
            frames,
            most: MAX_FRAMES
        }
    );
    // The extremes of f32 and of time are fine.
    let logits = [f32::MAX, f32::MIN, f32::MIN, f32::MAX];
    let times = FrameTimes::Stamps {
        starts_us: &[u64::MAX, 0],
        period_us: u64::MAX,
    };
    let found = decoder.decode(&logits, 2, 2, &times).unwrap();
    assert_eq!((found.text.as_str(), found.score), ("on", 0.0));
    assert!(found.words[0].end_s >= found.words[0].start_s);
}

#[test]
fn bad_vocabularies_are_refused() {
    let refused =
        |kind, tokens: &[&str]| Vocabulary::new(kind, tokens.iter().copied()).unwrap_err();
    use TokenKind::*;
    assert_eq!(refused(Word, &[]), VocabularyError::NoTokens);
    assert_eq!(refused(Word, &["<blank>"]), VocabularyError::NoTokens);
    assert_eq!(refused(Word, &["a", "b"]), VocabularyError::NoBlank);
    assert_eq!(
        refused(Char, &["<blank>", "a", ""]),
        VocabularyError::Empty { index: 2 }
    );
    assert_eq!(
        refused(Char, &["<blank>", " ", "▁"]),
        VocabularyError::Twice { index: 2 }
    );
}

#[test]
fn the_same_logits_give_the_same_bits() {
    let grammar = Grammar::shipped("grid").unwrap();
    let vocabulary = grid_vocabulary(&grammar);
    let logits = spoken(
        &mut Random(24),
        &[1, 5, 9, 20, 40, 50],
        vocabulary.len(),
        2.0,
    );
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    for options in [
        Options::default(),
        Options {
            beam: 32,
            ..Options::default()
        },
        Options {
            grammar: Some(&grammar),
            beam: 0,
        },
    ] {
        let decode = |decoder: &Decoder| {
            decoder
                .decode_n_best(&logits, 75, vocabulary.len(), &TIMES, 8)
                .unwrap()
        };
        let decoder = Decoder::new(vocabulary.clone(), options).unwrap();
        let found = decode(&decoder);
        assert_eq!(found, decode(&decoder));
        assert_eq!(
            found,
            decode(&Decoder::new(vocabulary.clone(), options).unwrap())
        );
        for transcript in found {
            let confidences = transcript
                .words
                .iter()
                .map(|word| word.confidence.to_bits());
            for bits in transcript
                .tokens
                .iter()
                .copied()
                .chain([transcript.score.to_bits()])
                .chain(confidences)
            {
                // FNV-1a.
                digest = (digest ^ u64::from(bits)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    // Written down once: every build and every target has to reach the same bits.
    assert_eq!(digest, DIGEST, "{digest:#018x}");
}

const DIGEST: u64 = 0xc9ce_5c53_0a43_38e3;

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
            decoder
                .decode(&logits, 75, vocabulary.len(), &TIMES)
                .unwrap();
            least = least.min(start.elapsed());
        }
        std::println!("{name}: {least:?} for 75 frames of 52 tokens");
        assert!(
            beam > 16 || least < Duration::from_millis(5),
            "{name}: {least:?}"
        );
    }
}

fn grid_vocabulary(grammar: &Grammar) -> Vocabulary {
    Vocabulary::new(
        TokenKind::Word,
        ["<blank>"].into_iter().chain(grammar.words()),
    )
    .unwrap()
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
