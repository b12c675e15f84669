//! What can be wrong with a grammar.

use alloc::string::String;
use core::fmt;

/// Why a grammar is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrammarError {
    /// The line of the file, from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// What is wrong there.
    pub kind: GrammarErrorKind,
}

/// What is wrong with a grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrammarErrorKind {
    /// The file is larger than a grammar may be.
    TooLong,
    /// Not UTF-8.
    NotText,
    /// Neither a rule nor a list of words.
    Empty,
    /// A character that means nothing here.
    Character(char),
    /// A quoted word without its second quote, with nothing in it, or with white space.
    Quote,
    /// A symbol of more than 64 bytes.
    LongSymbol,
    /// Something else was expected here.
    Expected {
        /// What.
        expected: &'static str,
        /// What is there instead.
        found: String,
    },
    /// A list of words together with other lines.
    MixedForms,
    /// Two rules of one name.
    Twice {
        /// The name.
        rule: String,
        /// Line of the first.
        first: u32,
    },
    /// No rule says what a sentence is.
    NoSentence,
    /// A rule that no sentence uses.
    Unused(String),
    /// A rule that contains itself.
    Recursive(String),
    /// Expressions in expressions, beyond the limit.
    TooDeep,
    /// More than the limit of what is named.
    TooLarge(&'static str),
    /// A word that the model's tokens cannot spell.
    Unspellable(String),
    /// The model's characters have no token between words.
    NoSpace,
}

impl GrammarErrorKind {
    pub(in crate::decode) fn at(self, line: u32) -> GrammarError {
        GrammarError { line, kind: self }
    }
}

impl core::error::Error for GrammarError {}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "grammar: {}", self.kind),
            line => write!(f, "grammar line {line}: {}", self.kind),
        }
    }
}

impl fmt::Display for GrammarErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use GrammarErrorKind::*;
        match self {
            TooLong => write!(f, "the file is larger than 1 MiB; is it a grammar?"),
            NotText => write!(f, "the file is not UTF-8 text; is it a grammar?"),
            Empty => write!(
                f,
                "there is nothing in it; write `sentence = ...` or `words: ...`"
            ),
            Character(c) => {
                write!(
                    f,
                    "unexpected character `{}`; put a word that holds it in quotes",
                    c.escape_debug()
                )
            }
            Quote => write!(
                f,
                "a quote needs a word without spaces and then a second quote"
            ),
            LongSymbol => write!(f, "a word or name is longer than 64 bytes; shorten it"),
            Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            MixedForms => write!(f, "`words:` stands alone; write either one list or rules"),
            Twice { rule, first } => {
                write!(
                    f,
                    "rule `{rule}` is on line {first} already; join the two with `|`"
                )
            }
            NoSentence => write!(f, "no rule is called `sentence`; add `sentence = ...`"),
            Unused(rule) => {
                write!(
                    f,
                    "no sentence uses rule `{rule}`; check the spelling of its name, or remove it"
                )
            }
            Recursive(rule) => {
                write!(
                    f,
                    "rule `{rule}` contains itself; use `x*` or `x+` for repetition"
                )
            }
            TooDeep => write!(f, "groups or rules are nested too deeply; flatten them"),
            TooLarge(what) => write!(f, "the grammar has too many {what}; make it smaller"),
            Unspellable(word) => {
                write!(
                    f,
                    "`{word}` is no rule, and no word that the model can spell; check the spelling"
                )
            }
            NoSpace => write!(
                f,
                "sentences of several words need a model with a space token; allow one word, or take another model"
            ),
        }
    }
}
