//! Words to tokens.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use viseme_format::spec::TokenKind;

use super::{Arc, NONE, State, TokenGraph};
use crate::decode::grammar::acceptor::{ACCEPT, Acceptor, START};
use crate::decode::grammar::{Grammar, GrammarError, GrammarErrorKind};
use crate::decode::vocabulary::Vocabulary;

/// Limits over words; on the sets of states together; and on steps taken (about a second).
const MAX_WORD_STATES: usize = 1 << 16;
const MAX_WORD_ARCS: usize = 1 << 18;
const MAX_SET_MEMBERS: usize = 1 << 22;
const MAX_WORK: usize = 1 << 23;
/// Limits over tokens.
const MAX_STATES: usize = 1 << 20;
const MAX_ARCS: usize = 1 << 21;

pub(super) fn compile(
    grammar: &Grammar,
    vocabulary: &Vocabulary,
) -> Result<TokenGraph, GrammarError> {
    let (spellings, spelling_of) = spell(grammar, vocabulary)?;
    let sentences = determine(grammar.acceptor(), &spelling_of)?;
    if vocabulary.kind() == TokenKind::Word {
        return Ok(over_words(&sentences, &spellings, vocabulary));
    }
    let many = sentences
        .arcs
        .iter()
        .any(|arc| sentences.arcs(arc.to).next().is_some());
    if vocabulary.kind() == TokenKind::Char && many && vocabulary.token(" ").is_none() {
        return Err(GrammarErrorKind::NoSpace.at(0));
    }
    Speller {
        sentences: &sentences,
        spellings: &spellings,
        vocabulary,
        states: Vec::new(),
        arcs: Vec::new(),
    }
    .spell()
}

/// The text that the model's tokens form for each word of the grammar: all texts, sorted, and for
/// each word the number of its text.
fn spell(
    grammar: &Grammar,
    vocabulary: &Vocabulary,
) -> Result<(Vec<String>, Vec<u32>), GrammarError> {
    let mut texts = Vec::with_capacity(grammar.word_count());
    for number in 0..grammar.word_count() as u32 {
        let word = grammar.word(number);
        let versions = [
            word.text.clone(),
            word.text.to_lowercase(),
            word.text.to_uppercase(),
        ];
        let mark = if vocabulary.kind() == TokenKind::Piece {
            " "
        } else {
            ""
        };
        let spelled = versions
            .into_iter()
            .map(|version| String::from(mark) + &version);
        match spelled.into_iter().find(|text| can_spell(text, vocabulary)) {
            Some(text) => texts.push(text),
            None => return Err(GrammarErrorKind::Unspellable(word.text.clone()).at(word.line)),
        }
    }
    let spellings: Vec<String> = texts
        .iter()
        .cloned()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let numbers = texts
        .iter()
        .map(|text| spellings.partition_point(|other| other < text) as u32);
    let numbers = numbers.collect();
    Ok((spellings, numbers))
}

fn can_spell(text: &str, vocabulary: &Vocabulary) -> bool {
    if vocabulary.kind() == TokenKind::Word {
        return vocabulary.token(text).is_some();
    }
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for begin in (0..text.len()).filter(|&begin| text.is_char_boundary(begin)) {
        if !reached[begin] {
            continue;
        }
        for (offset, c) in text[begin..].char_indices() {
            let end = begin + offset + c.len_utf8();
            let (token, longer) = vocabulary.look_up(&text[begin..end]);
            reached[end] |= token.is_some();
            if !longer {
                break;
            }
        }
    }
    reached[text.len()]
}

/// A deterministic acceptor over words.
struct Sentences {
    /// Whether each state accepts, and the end of its arcs; they begin where those of the state
    /// before end.
    states: Vec<(bool, usize)>,
    /// In the order of words.
    arcs: Vec<WordArc>,
}

#[derive(Clone, Copy)]
struct WordArc {
    word: u32,
    to: u32,
}

impl Sentences {
    fn arcs(&self, state: u32) -> impl Iterator<Item = WordArc> {
        let first = if state == 0 {
            0
        } else {
            self.states[state as usize - 1].1
        };
        self.arcs[first..self.states[state as usize].1]
            .iter()
            .copied()
    }

    fn accepts_at(&self, state: u32) -> bool {
        self.states[state as usize].0
    }
}

/// Subset construction (Rabin and Scott, 1959); words are replaced by their spellings first, which
/// may be the same for two of them.
fn determine(acceptor: &Acceptor, spelling_of: &[u32]) -> Result<Sentences, GrammarError> {
    let mut marked = vec![false; acceptor.states()];
    let mut start = vec![START];
    acceptor.close(&mut start, &mut marked);
    let mut sets = vec![start.clone()];
    let mut numbers = BTreeMap::from([(start, 0u32)]);
    let mut found = Sentences {
        states: Vec::new(),
        arcs: Vec::new(),
    };
    let (mut work, mut members) = (0, 0);
    while let Some(set) = sets.get(found.states.len()) {
        let arcs = set.iter().flat_map(|&state| acceptor.arcs(state));
        let mut arcs: Vec<(u32, u32)> = arcs
            .map(|arc| (spelling_of[arc.word as usize], arc.to))
            .collect();
        arcs.sort_unstable();
        arcs.dedup();
        let accepts = set.contains(&ACCEPT);
        work += set.len() + arcs.len();
        for arcs in arcs.chunk_by(|a, b| a.0 == b.0) {
            let mut next: Vec<u32> = arcs.iter().map(|arc| arc.1).collect();
            acceptor.close(&mut next, &mut marked);
            work += next.len();
            let to = match numbers.get(&next) {
                Some(&number) => number,
                None => {
                    let number = sets.len() as u32;
                    members += next.len();
                    sets.push(next.clone());
                    numbers.insert(next, number);
                    number
                }
            };
            found.arcs.push(WordArc {
                word: arcs[0].0,
                to,
            });
            if work > MAX_WORK || members > MAX_SET_MEMBERS || sets.len() > MAX_WORD_STATES {
                return Err(GrammarErrorKind::TooLarge("states").at(0));
            }
            if found.arcs.len() > MAX_WORD_ARCS {
                return Err(GrammarErrorKind::TooLarge("arcs").at(0));
            }
        }
        found.states.push((accepts, found.arcs.len()));
    }
    Ok(found)
}

/// Words are tokens: the same states and arcs.
fn over_words(sentences: &Sentences, spellings: &[String], vocabulary: &Vocabulary) -> TokenGraph {
    let token = |word: u32| vocabulary.token(&spellings[word as usize]).unwrap_or(NONE);
    let arcs = sentences
        .arcs
        .iter()
        .map(|arc| Arc {
            token: token(arc.word),
            to: arc.to,
        })
        .collect();
    let mut first = 0;
    let states = sentences.states.iter().map(|&(accepts, last)| {
        let state = State::new(first, last, NONE, accepts);
        first = last;
        state
    });
    TokenGraph {
        vocab_size: vocabulary.len(),
        start: 0,
        states: states.collect(),
        arcs,
    }
}

/// Spells words out in characters or pieces.
///
/// For each state between words there is one state where a word begins (`2 n`) and one where a word
/// has ended (`2 n + 1`). With pieces, whose words begin with a mark of their own, nothing stands
/// between the two and only the first is used. Inside words the states are the prefixes spelled so
/// far; a prefix which is itself a word also has the arcs of the state after that word.
struct Speller<'a> {
    sentences: &'a Sentences,
    spellings: &'a [String],
    vocabulary: &'a Vocabulary,
    states: Vec<State>,
    arcs: Vec<Arc>,
}

/// The words (by their sorted spellings) that begin with one prefix of `len` bytes.
#[derive(Clone, Copy)]
struct Prefix<'w> {
    words: &'w [WordArc],
    len: usize,
}

impl Speller<'_> {
    fn spell(mut self) -> Result<TokenGraph, GrammarError> {
        let space = self
            .vocabulary
            .token(" ")
            .filter(|_| self.vocabulary.kind() == TokenKind::Char);
        for state in 0..self.sentences.states.len() as u32 {
            // In the place of the state where a word begins; it is filled in by `spell_words`.
            let pieces = self.vocabulary.kind() == TokenKind::Piece;
            let accepts = self.sentences.accepts_at(state);
            self.states.push(State::new(0, 0, NONE, accepts && pieces));
            let first = self.arcs.len();
            let more = self.sentences.arcs(state).next().is_some();
            self.arcs.extend(space.filter(|_| more).map(|token| Arc {
                token,
                to: 2 * state,
            }));
            self.states
                .push(State::new(first, self.arcs.len(), NONE, accepts));
        }
        for state in 0..self.sentences.states.len() as u32 {
            self.spell_words(state)?;
        }
        let start = self.states.len() as u32;
        self.states
            .push(State::new(0, 0, 0, self.sentences.accepts_at(0)));
        let vocab_size = self.vocabulary.len();
        Ok(TokenGraph {
            vocab_size,
            start,
            states: self.states,
            arcs: self.arcs,
        })
    }

    /// Adds the words that may come in a state.
    fn spell_words(&mut self, state: u32) -> Result<(), GrammarError> {
        let words: Vec<WordArc> = self.sentences.arcs(state).collect();
        let mut open = vec![(
            2 * state,
            Prefix {
                words: &words,
                len: 0,
            },
        )];
        let mut known = BTreeMap::new();
        while let Some((from, prefix)) = open.pop() {
            let first = self.arcs.len();
            // All ways to go on by one token: the prefixes of words that are a token longer.
            let mut longer = self.extensions(prefix);
            while let Some(next) = longer.pop() {
                let text = &self.spellings[next.words[0].word as usize][prefix.len..next.len];
                let (token, go_on) = self.vocabulary.look_up(text);
                if let Some(token) = token {
                    // A prefix is told from others by its first word and its length.
                    let key = (next.words[0].word, next.len);
                    let to = match known.get(&key) {
                        Some(&to) => to,
                        None => {
                            let to = self.state_after(next, &mut open);
                            known.insert(key, to);
                            to
                        }
                    };
                    self.arcs.push(Arc { token, to });
                }
                if go_on {
                    longer.extend(self.extensions(next));
                }
                self.check_size()?;
            }
            let state = &mut self.states[from as usize];
            (state.first, state.last) = (first as u32, self.arcs.len() as u32);
        }
        Ok(())
    }

    /// The prefixes one character longer than `prefix`.
    fn extensions<'w>(&self, prefix: Prefix<'w>) -> Vec<Prefix<'w>> {
        let next = |word: &WordArc| {
            self.spellings[word.word as usize][prefix.len..]
                .chars()
                .next()
        };
        let groups = prefix.words.chunk_by(|a, b| next(a) == next(b));
        let groups = groups.filter_map(|words| {
            let len = prefix.len + next(&words[0])?.len_utf8();
            Some(Prefix { words, len })
        });
        groups.collect()
    }

    /// The state where a prefix has been spelled. If words go on from there, it is a new one, still to
    /// be filled in.
    fn state_after<'w>(&mut self, prefix: Prefix<'w>, open: &mut Vec<(u32, Prefix<'w>)>) -> u32 {
        let shortest = prefix.words[0];
        let ends = self.spellings[shortest.word as usize].len() == prefix.len;
        let between = 2 * shortest.to + u32::from(self.vocabulary.kind() == TokenKind::Char);
        if ends && prefix.words.len() == 1 {
            return between;
        }
        let number = self.states.len() as u32;
        let accepts = ends && self.sentences.accepts_at(shortest.to);
        self.states
            .push(State::new(0, 0, if ends { between } else { NONE }, accepts));
        open.push((number, prefix));
        number
    }

    fn check_size(&self) -> Result<(), GrammarError> {
        if self.states.len() > MAX_STATES {
            return Err(GrammarErrorKind::TooLarge("states").at(0));
        }
        if self.arcs.len() > MAX_ARCS {
            return Err(GrammarErrorKind::TooLarge("arcs").at(0));
        }
        Ok(())
    }
}
