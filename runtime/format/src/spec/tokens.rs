//! The vocabulary.

#[cfg(feature = "alloc")]
use alloc::string::String;

use crate::gguf::Array;

/// A list of tokens: in a model file, or in memory of the caller who builds a spec.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a>(List<'a>);

#[derive(Clone, Copy, Debug)]
enum List<'a> {
    File(Array<'a>),
    Strs(&'a [&'a str]),
    #[cfg(feature = "alloc")]
    Strings(&'a [String]),
}

impl<'a> Tokens<'a> {
    /// Number of tokens, the blank included.
    pub fn len(&self) -> usize {
        match self.0 {
            List::File(array) => array.len(),
            List::Strs(list) => list.len(),
            #[cfg(feature = "alloc")]
            List::Strings(list) => list.len(),
        }
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a token. In a file this walks from the first token on: time in proportion to `index`.
    pub fn get(&self, index: usize) -> Option<&'a str> {
        match self.0 {
            List::File(array) => array.strs().nth(index),
            List::Strs(list) => list.get(index).copied(),
            #[cfg(feature = "alloc")]
            List::Strings(list) => list.get(index).map(String::as_str),
        }
    }

    /// The tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (mut file, mut strs): (_, &'a [&'a str]) = (None, &[]);
        #[cfg(feature = "alloc")]
        let mut strings: &'a [String] = &[];
        match self.0 {
            List::File(array) => file = Some(array.strs()),
            List::Strs(list) => strs = list,
            #[cfg(feature = "alloc")]
            List::Strings(list) => strings = list,
        }
        let all = file.into_iter().flatten().chain(strs.iter().copied());
        #[cfg(feature = "alloc")]
        let all = all.chain(strings.iter().map(String::as_str));
        all
    }

    pub(super) fn from_file(array: Array<'a>) -> Self {
        Self(List::File(array))
    }
}

impl<'a> From<&'a [&'a str]> for Tokens<'a> {
    fn from(list: &'a [&'a str]) -> Self {
        Self(List::Strs(list))
    }
}

#[cfg(feature = "alloc")]
impl<'a> From<&'a [String]> for Tokens<'a> {
    fn from(list: &'a [String]) -> Self {
        Self(List::Strings(list))
    }
}

impl PartialEq for Tokens<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
