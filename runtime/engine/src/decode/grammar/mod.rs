//! What may be said: grammar files, and finite-state acceptors over words.
//!
#![doc = include_str!("../../../grammars/GRAMMAR.md")]

pub(super) mod acceptor;
mod error;
mod parse;

use alloc::string::String;
use alloc::vec::Vec;

use acceptor::Acceptor;
pub use error::{GrammarError, GrammarErrorKind};

/// The grammars that ship with the engine: name and source.
pub const SHIPPED: [(&str, &str); 1] = [("grid", include_str!("../../../grammars/grid.grammar"))];

/// A grammar, read from a file and checked. It is not yet bound to the tokens of a model.
#[derive(Clone, Debug)]
pub struct Grammar {
    words: Vec<Word>,
    acceptor: Acceptor,
}

/// A word of the grammar, and the line of the file where it first occurs.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: u32,
}

impl Grammar {
    /// Reads a grammar from the bytes of its file.
    ///
    /// # Errors
    /// [`GrammarError`], when the source breaks a rule or a limit of [this page](self).
    pub fn parse(source: impl AsRef<[u8]>) -> Result<Self, GrammarError> {
        let tree = parse::parse(source.as_ref())?;
        let acceptor = Acceptor::build(&tree)?;
        Ok(Grammar {
            words: tree.words,
            acceptor,
        })
    }

    /// The grammar of [`SHIPPED`] with this name.
    pub fn shipped(name: &str) -> Option<Self> {
        let (_, source) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
        Self::parse(source).ok()
    }

    /// The words that it mentions, each once, in the order of the file.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|word| word.text.as_str())
    }

    /// Whether this sequence of words is a sentence of the grammar.
    pub fn accepts<'w>(&self, sentence: impl IntoIterator<Item = &'w str>) -> bool {
        let number = |text: &str| self.words.iter().position(|word| word.text == text);
        let sentence: Option<Vec<u32>> = sentence
            .into_iter()
            .map(|text| number(text).map(|n| n as u32))
            .collect();
        sentence.is_some_and(|sentence| self.acceptor.accepts(&sentence))
    }

    pub(super) fn word(&self, number: u32) -> &Word {
        &self.words[number as usize]
    }

    pub(super) fn word_count(&self) -> usize {
        self.words.len()
    }

    pub(super) fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }
}
