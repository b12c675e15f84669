//! Against values that other code computed: the CTC forward variables, n-best scores and greedy
//! paths that Auto-AVSR's own PyTorch code gave for small models.

use std::path::PathBuf;
use std::string::ToString;
use std::vec;
use std::vec::Vec;
use std::{env, fs, println};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::decode::ctc::{TokenRun, greedy, log_probs, prefix_beam};
use crate::decode::grammar::Grammar;
use crate::decode::graph::TokenGraph;
use crate::decode::{TokenKind, Vocabulary};

#[test]
fn scores_agree_with_auto_avsr() {
    let mut models = 0;
    for model in ["audio_small", "video_small", "av_small"] {
        let Some(peer) = Peer::read(model) else {
            continue;
        };
        models += 1;
        let log_probs = log_probs(&peer.logits, peer.vocab_size).unwrap();
        let mut compared = 0;
        for beam in peer.expected["beam"].as_array().unwrap() {
            for best in beam["nbest"].as_array().unwrap() {
                let Some(ctc) = best["scores"]["ctc"].as_f64() else {
                    continue;
                };
                // Without the sentence marks around them. Their score of a token outside the
                // pre-beam is "logzero", and hypotheses with the blank as a token have no path.
                let tokens = numbers(&best["yseq"]);
                let tokens = &tokens[1..tokens.len() - 1];
                if ctc < -1e6 || tokens.contains(&0) {
                    continue;
                }
                let graph = only(tokens, peer.vocab_size);
                let found = prefix_beam(&log_probs, peer.vocab_size, &graph, 100, 1);
                assert_eq!(found[0].tokens, tokens);
                assert!(
                    (f64::from(found[0].score) - ctc).abs() < 2e-4,
                    "{tokens:?} {ctc} {found:?}"
                );
                compared += 1;
            }
        }
        println!("{model}: {compared} scores");
        assert!(compared >= 20);
    }
    println!("{models} models");
}

#[test]
fn log_probs_and_greedy_agree_with_auto_avsr() {
    for model in ["audio_small", "video_small", "av_small"] {
        let Some(peer) = Peer::read(model) else {
            continue;
        };
        for (found, expected) in log_probs(&peer.logits, peer.vocab_size)
            .unwrap()
            .iter()
            .zip(peer.tensor("ctc.log_probs"))
        {
            assert!((found - expected).abs() < 2e-6 * expected.abs().max(1.0));
        }
        let mut buffer = vec![TokenRun::default(); peer.logits.len() / peer.vocab_size];
        let runs = greedy(&peer.logits, peer.vocab_size, &mut buffer)
            .unwrap()
            .runs;
        let tokens: Vec<u32> = runs.iter().map(|run| run.token).collect();
        assert_eq!(tokens, numbers(&peer.expected["ctc_greedy_collapsed"]));
        let frames = numbers(&peer.expected["ctc_greedy_frame_ids"]);
        for run in runs {
            assert!(
                frames[run.start as usize..run.end as usize]
                    .iter()
                    .all(|&id| id == run.token)
            );
        }
    }
}

#[test]
fn pieces_join_as_auto_avsr_joins_them() {
    for model in ["audio_small", "video_small", "av_small"] {
        let Some(peer) = Peer::read(model) else {
            continue;
        };
        let tokens = peer.expected["token_list"].as_array().unwrap();
        let tokens = tokens.iter().map(|token| token.as_str().unwrap());
        let vocabulary = Vocabulary::new(TokenKind::Piece, tokens).unwrap();
        for beam in peer.expected["beam"].as_array().unwrap() {
            for best in beam["nbest"].as_array().unwrap() {
                // Their text leaves out the end marks, of which the last step may add a second.
                let end = peer.vocab_size as u32 - 1;
                let mut tokens = numbers(&best["yseq"]);
                tokens.retain(|&token| token != end);
                // Without CTC their search may take the blank for a token, and spell it.
                if tokens.contains(&0) {
                    continue;
                }
                assert_eq!(
                    vocabulary.join(&tokens),
                    best["text"].as_str().unwrap(),
                    "{tokens:?}"
                );
            }
        }
    }
}

/// The acceptor of one token sequence, by way of a grammar over token names.
fn only(tokens: &[u32], vocab_size: usize) -> TokenGraph {
    let names: Vec<_> = (0..vocab_size)
        .map(|token| std::format!("t{token}"))
        .collect();
    let list = ["<blank>"]
        .into_iter()
        .chain(names[1..].iter().map(|name| name.as_str()));
    let vocabulary = Vocabulary::new(TokenKind::Word, list).unwrap();
    let sentence: Vec<_> = tokens
        .iter()
        .map(|&token| names[token as usize].as_str())
        .collect();
    let grammar = Grammar::parse("sentence = ".to_string() + &sentence.join(" ")).unwrap();
    TokenGraph::compile(&grammar, &vocabulary).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_u64().unwrap() as u32)
        .collect()
}

/// One of the shared fixtures.
struct Peer {
    expected: Value,
    file: Vec<u8>,
    logits: Vec<f32>,
    vocab_size: usize,
}

impl Peer {
    fn read(model: &str) -> Option<Self> {
        let shared = env::var_os("VISEME_SHARED")
            .map(PathBuf::from)
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
        let folder = shared.join("fixtures/auto_avsr").join(model);
        let Ok(expected) = fs::read(folder.join("expected.json")) else {
            println!("skipped: no {}; set VISEME_SHARED", folder.display());
            return None;
        };
        let expected = serde_json::from_slice(&expected).unwrap();
        let file = fs::read(folder.join("io.safetensors")).unwrap();
        let mut peer = Peer {
            expected,
            file,
            logits: vec![],
            vocab_size: 0,
        };
        peer.vocab_size = peer.open().tensor("ctc.logits").unwrap().shape()[1];
        peer.logits = peer.tensor("ctc.logits");
        Some(peer)
    }

    fn open(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.file).unwrap()
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let tensors = self.open();
        let bytes = tensors.tensor(name).unwrap().data();
        bytes
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }
}
