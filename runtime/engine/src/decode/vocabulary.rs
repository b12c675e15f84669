//! The tokens of a model and how they make words.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;

use viseme_format::spec::{self, Conformer, TokenKind};

/// The tokens of a model, checked: token 0 is the blank, all others have a text of their own.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    kind: TokenKind,
    texts: Vec<String>,
    by_text: BTreeMap<String, u32>,
}

/// Stands for U+2581, which pieces begin words with, and which as a character stands between words.
pub(super) const SPACE: char = ' ';

impl Vocabulary {
    /// The tokens of a model.
    ///
    /// # Errors
    /// As [`Vocabulary::new`].
    pub fn of_model(model: &Conformer<'_>) -> Result<Self, VocabularyError> {
        Self::new(model.token_kind, model.tokens.iter())
    }

    /// Takes the tokens in the model's order.
    ///
    /// # Errors
    /// [`VocabularyError`].
    pub fn new<'t>(
        kind: TokenKind,
        tokens: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, VocabularyError> {
        let mut texts = Vec::new();
        let mut by_text = BTreeMap::new();
        for (index, token) in tokens.into_iter().enumerate() {
            let text = match kind {
                TokenKind::Word => String::from(token),
                TokenKind::Char | TokenKind::Piece => token.replace('\u{2581}', " "),
            };
            if index == 0 && token != spec::BLANK {
                return Err(VocabularyError::NoBlank);
            }
            if text.is_empty() {
                return Err(VocabularyError::Empty { index });
            }
            if index > 0 && by_text.insert(text.clone(), index as u32).is_some() {
                return Err(VocabularyError::Twice { index });
            }
            texts.push(text);
        }
        if texts.len() < 2 {
            return Err(VocabularyError::NoTokens);
        }
        Ok(Vocabulary {
            kind,
            texts,
            by_text,
        })
    }

    /// What a token is.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Number of tokens, the blank included: V.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text of a token; in characters and pieces a space stands for U+2581. Empty for the blank
    /// and for numbers that are no token.
    pub fn text(&self, token: u32) -> &str {
        match token {
            super::ctc::BLANK => "",
            _ => self.texts.get(token as usize).map_or("", |text| text),
        }
    }

    /// The token with this text, as [`Vocabulary::text`] gives it; never the blank.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied()
    }

    /// Tokens as text: words with one space between them.
    pub fn join(&self, tokens: &[u32]) -> String {
        let mut joined = String::new();
        for &token in tokens {
            if self.kind == TokenKind::Word {
                joined.push(SPACE);
            }
            joined.push_str(self.text(token));
        }
        let words: Vec<&str> = joined
            .split(SPACE)
            .filter(|word| !word.is_empty())
            .collect();
        words.join(" ")
    }

    /// The token with this text, and whether longer ones begin with it.
    pub(super) fn look_up(&self, text: &str) -> (Option<u32>, bool) {
        let from = (Bound::Included(text), Bound::Unbounded);
        let mut beginning = self
            .by_text
            .range::<str, _>(from)
            .take_while(|(other, _)| other.starts_with(text));
        match beginning.next() {
            Some((other, &token)) if other == text => (Some(token), beginning.next().is_some()),
            longer => (None, longer.is_some()),
        }
    }
}

/// Why a list of tokens is not a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyError {
    /// Token 0 is something else than `<blank>`.
    NoBlank,
    /// There is no token but the blank.
    NoTokens,
    /// A token without text.
    Empty {
        /// Its number.
        index: usize,
    },
    /// A token with the text of an earlier one.
    Twice {
        /// The number of the later one.
        index: usize,
    },
}

impl core::error::Error for VocabularyError {}

impl fmt::Display for VocabularyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBlank => write!(
                f,
                "the model's token 0 is not <blank>; take another model file"
            ),
            Self::NoTokens => write!(f, "the model has no tokens; take another model file"),
            Self::Empty { index } => {
                write!(
                    f,
                    "the model's token {index} is empty; take another model file"
                )
            }
            Self::Twice { index } => {
                write!(
                    f,
                    "the model's token {index} occurs twice; take another model file"
                )
            }
        }
    }
}
