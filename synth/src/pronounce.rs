//! Text to phonemes: a small pronouncing dictionary, letter names, and letter-to-sound
//! rules for everything else.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::phoneme::Phoneme;
use crate::rng::Rng;

/// The four slots of a GRID sentence that hold whole words (Cooke et al. 2006, "An
/// audio-visual corpus for speech perception and automatic speech recognition").
pub const GRID_COMMANDS: [&str; 4] = ["bin", "lay", "place", "set"];
/// GRID colours.
pub const GRID_COLOURS: [&str; 4] = ["blue", "green", "red", "white"];
/// GRID prepositions.
pub const GRID_PREPOSITIONS: [&str; 4] = ["at", "by", "in", "with"];
/// GRID letters: the alphabet without the three-syllable w.
pub const GRID_LETTERS: [&str; 25] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "x", "y", "z",
];
/// GRID digits.
pub const GRID_DIGITS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];
/// GRID adverbs.
pub const GRID_ADVERBS: [&str; 4] = ["again", "now", "please", "soon"];

/// Short, weak words, spoken in less time than their phonemes would take elsewhere.
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "for", "from", "had", "has",
    "have", "he", "her", "him", "his", "if", "in", "is", "it", "me", "my", "of", "on", "or", "she",
    "so", "than", "that", "the", "them", "then", "there", "they", "this", "to", "us", "was", "we",
    "were", "will", "with", "would", "you", "your",
];

/// A random sentence of the GRID grammar: command colour preposition letter digit adverb.
#[must_use]
pub fn grid_sentence(rng: &mut Rng) -> String {
    [
        *rng.pick(&GRID_COMMANDS),
        *rng.pick(&GRID_COLOURS),
        *rng.pick(&GRID_PREPOSITIONS),
        *rng.pick(&GRID_LETTERS),
        *rng.pick(&GRID_DIGITS),
        *rng.pick(&GRID_ADVERBS),
    ]
    .join(" ")
}

/// Whether `words` are a sentence of the GRID grammar.
#[must_use]
pub fn in_grid_grammar(words: &[&str]) -> bool {
    let slots: [&[&str]; 6] = [
        &GRID_COMMANDS,
        &GRID_COLOURS,
        &GRID_PREPOSITIONS,
        &GRID_LETTERS,
        &GRID_DIGITS,
        &GRID_ADVERBS,
    ];
    words.len() == slots.len()
        && words
            .iter()
            .zip(slots)
            .all(|(word, slot)| slot.contains(word))
}

/// What a word is in its sentence, which decides how long it is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A noun, verb, letter, digit…
    Content,
    /// A short unstressed word.
    Function,
}

/// One word with its pronunciation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpokenWord {
    /// The word in lower case, as it appears in the transcript.
    pub text: String,
    /// Its phonemes; never empty.
    pub phonemes: Vec<Phoneme>,
    /// Content or function word.
    pub weight: Weight,
}

/// A text as it will be spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// The words in order; may be empty.
    pub words: Vec<SpokenWord>,
}

impl Sentence {
    /// Splits `text` into words and looks each up. Digits are read one by one; anything
    /// that is neither letter, digit nor apostrophe separates words.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let words = (0..tokens.len())
            .map(|i| spoken(&tokens[i], tokens.get(i + 1).map(String::as_str)))
            .collect();
        Self { words }
    }

    /// The transcript: the words in lower case, separated by single spaces.
    #[must_use]
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|w| w.text.as_str()).collect();
        words.join(" ")
    }
}

/// The pronunciation of one word (any case; other characters than a-z are ignored):
/// dictionary first, then letter-to-sound rules.
#[must_use]
pub fn pronounce(word: &str) -> Vec<Phoneme> {
    let mut word = word.to_ascii_lowercase();
    word.retain(|c| c.is_ascii_lowercase());
    match dictionary().get(word.as_str()) {
        Some(phonemes) => phonemes.clone(),
        None => inflected(&word).unwrap_or_else(|| letter_to_sound(&word)),
    }
}

/// Whether the dictionary itself holds `word` (any case).
#[must_use]
pub fn in_dictionary(word: &str) -> bool {
    dictionary().contains_key(word.to_ascii_lowercase().as_str())
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' => word.push(c.to_ascii_lowercase()),
            '\'' | '’' => {}
            _ => {
                if !word.is_empty() {
                    tokens.push(core::mem::take(&mut word));
                }
                if let Some(digit) = c.to_digit(10) {
                    tokens.push(GRID_DIGITS[digit as usize].to_owned());
                }
            }
        }
    }
    if !word.is_empty() {
        tokens.push(word);
    }
    tokens
}

fn spoken(word: &str, next: Option<&str>) -> SpokenWord {
    // "a" before a longer word that is no digit is the article, else the letter's name.
    let article = word == "a" && next.is_some_and(|n| n.len() > 1 && !GRID_DIGITS.contains(&n));
    let function = FUNCTION_WORDS.contains(&word) && (word != "a" || article);
    SpokenWord {
        text: word.to_owned(),
        phonemes: if article {
            vec![Phoneme::Ax]
        } else {
            pronounce(word)
        },
        weight: if function {
            Weight::Function
        } else {
            Weight::Content
        },
    }
}

fn dictionary() -> &'static BTreeMap<&'static str, Vec<Phoneme>> {
    static DICTIONARY: OnceLock<BTreeMap<&'static str, Vec<Phoneme>>> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        include_str!("dictionary.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let word = fields.next()?;
                Some((word, fields.filter_map(Phoneme::from_symbol).collect()))
            })
            .collect()
    })
}

/// A known word with a regular ending (-s, -ed, -ing, -ly, -er).
fn inflected(word: &str) -> Option<Vec<Phoneme>> {
    use Phoneme::{Ax, D, Ih, Iy, L, Ng, R, S, T, Z};
    let stem_of = |ending: &str| -> Option<Vec<Phoneme>> {
        let stem = word.strip_suffix(ending).filter(|s| s.len() > 1)?;
        let with_e = format!("{stem}e");
        let undoubled = &stem[..stem.len() - 1];
        let doubled = stem.as_bytes()[stem.len() - 1] == stem.as_bytes()[stem.len() - 2];
        dictionary()
            .get(stem)
            .or_else(|| dictionary().get(with_e.as_str()))
            .or_else(|| dictionary().get(undoubled).filter(|_| doubled))
            .cloned()
    };
    let joined = |stem: Vec<Phoneme>, tail: &[Phoneme]| Some([&stem[..], tail].concat());
    if let Some(stem) = stem_of("ing") {
        return joined(stem, &[Ih, Ng]);
    }
    if let Some(stem) = stem_of("ly") {
        return joined(stem, &[L, Iy]);
    }
    if let Some(stem) = stem_of("er") {
        return joined(stem, &[Ax, R]);
    }
    if let Some(stem) = stem_of("ed") {
        let last = *stem.last()?;
        let tail: &[Phoneme] = match last {
            T | D => &[Ih, D],
            _ if last.voiced() => &[D],
            _ => &[T],
        };
        return joined(stem, tail);
    }
    if let Some(stem) = stem_of("s") {
        let last = *stem.last()?;
        let tail: &[Phoneme] = match last {
            S | Z | Phoneme::Sh | Phoneme::Ch | Phoneme::Jh | Phoneme::Zh => &[Ih, Z],
            _ if last.voiced() => &[Z],
            _ => &[S],
        };
        return joined(stem, tail);
    }
    None
}

/// Spelling patterns, longest first within a letter; `^`-free and context-light on purpose:
/// this only has to be plausible for words nobody listed.
const RULES: &[(&str, &[Phoneme])] = {
    use Phoneme::*;
    &[
        ("tion", &[Sh, Ax, N]),
        ("sion", &[Zh, Ax, N]),
        ("ough", &[Ao]),
        ("augh", &[Ao]),
        ("eigh", &[Ey]),
        ("igh", &[Ay]),
        ("tch", &[Ch]),
        ("dge", &[Jh]),
        ("sch", &[S, K]),
        ("ear", &[Ih, R]),
        ("eer", &[Ih, R]),
        ("air", &[Eh, R]),
        ("are", &[Eh, R]),
        ("our", &[Ao, R]),
        ("oor", &[Ao, R]),
        ("ch", &[Ch]),
        ("sh", &[Sh]),
        ("th", &[Th]),
        ("ph", &[F]),
        ("wh", &[W]),
        ("ck", &[K]),
        ("ng", &[Ng]),
        ("qu", &[K, W]),
        ("kn", &[N]),
        ("wr", &[R]),
        ("ee", &[Iy]),
        ("ea", &[Iy]),
        ("ai", &[Ey]),
        ("ay", &[Ey]),
        ("oa", &[Ow]),
        ("oo", &[Uw]),
        ("ou", &[Aw]),
        ("ow", &[Ow]),
        ("oi", &[Oy]),
        ("oy", &[Oy]),
        ("au", &[Ao]),
        ("aw", &[Ao]),
        ("ew", &[Y, Uw]),
        ("ue", &[Uw]),
        ("ie", &[Iy]),
        ("ei", &[Ey]),
        ("ar", &[Aa, R]),
        ("er", &[Ax, R]),
        ("ir", &[Er]),
        ("or", &[Ao, R]),
        ("ur", &[Er]),
        ("a", &[Ae]),
        ("b", &[B]),
        ("c", &[K]),
        ("d", &[D]),
        ("e", &[Eh]),
        ("f", &[F]),
        ("g", &[G]),
        ("h", &[Hh]),
        ("i", &[Ih]),
        ("j", &[Jh]),
        ("k", &[K]),
        ("l", &[L]),
        ("m", &[M]),
        ("n", &[N]),
        ("o", &[Ao]),
        ("p", &[P]),
        ("q", &[K]),
        ("r", &[R]),
        ("s", &[S]),
        ("t", &[T]),
        ("u", &[Ah]),
        ("v", &[V]),
        ("w", &[W]),
        ("x", &[K, S]),
        ("y", &[Iy]),
        ("z", &[Z]),
    ]
};

/// Phonemes for a word by its spelling alone (lower-case ASCII letters).
fn letter_to_sound(word: &str) -> Vec<Phoneme> {
    let bytes = word.as_bytes();
    let is_vowel = |i: usize| bytes.get(i).is_some_and(|b| b"aeiouy".contains(b));
    let mut out: Vec<Phoneme> = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let last = i + 1 == bytes.len();
        let here = bytes[i];
        // A doubled consonant sounds once.
        if i > 0 && bytes[i - 1] == here && !is_vowel(i) {
            i += 1;
            continue;
        }
        // Final e is silent and lengthens the vowel before one consonant: "bake".
        if here == b'e' && last && i > 1 && out.iter().any(|p| p.is_vowel()) {
            break;
        }
        let magic_e = is_vowel(i)
            && i + 3 == bytes.len()
            && bytes[i + 2] == b'e'
            && !is_vowel(i + 1)
            && !b"rwx".contains(&bytes[i + 1]);
        if magic_e {
            out.extend_from_slice(match here {
                b'a' => &[Phoneme::Ey],
                b'e' => &[Phoneme::Iy],
                b'o' => &[Phoneme::Ow],
                b'u' => &[Phoneme::Uw],
                _ => &[Phoneme::Ay],
            });
            i += 1;
            continue;
        }
        let softens = bytes.get(i + 1).is_some_and(|b| b"eiy".contains(b));
        let (length, phonemes): (usize, &[Phoneme]) = match here {
            b'c' if softens => (1, &[Phoneme::S]),
            b'g' if softens => (1, &[Phoneme::Jh]),
            b'y' if i == 0 && is_vowel(1) => (1, &[Phoneme::Y]),
            b'o' if last => (1, &[Phoneme::Ow]),
            b'a' if last => (1, &[Phoneme::Ax]),
            _ => RULES
                .iter()
                .find(|(spelling, _)| word[i..].starts_with(spelling))
                .map_or((1, &[][..]), |(spelling, p)| (spelling.len(), p)),
        };
        out.extend_from_slice(phonemes);
        i += length;
    }
    if out.is_empty() {
        out.push(Phoneme::Ax);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phoneme::*;

    #[test]
    fn every_dictionary_line_is_read_whole() {
        let mut words = 0;
        for line in include_str!("dictionary.txt").lines() {
            if line.starts_with('#') {
                continue;
            }
            let symbols: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
            assert!(!symbols.is_empty(), "{line}");
            for symbol in symbols {
                assert!(Phoneme::from_symbol(symbol).is_some(), "{symbol} in {line}");
            }
            words += 1;
        }
        assert_eq!(words, dictionary().len(), "a word is listed twice");
    }

    #[test]
    fn covers_every_grid_word() {
        let lists: [&[&str]; 6] = [
            &GRID_COMMANDS,
            &GRID_COLOURS,
            &GRID_PREPOSITIONS,
            &GRID_LETTERS,
            &GRID_DIGITS,
            &GRID_ADVERBS,
        ];
        let words: Vec<&str> = lists.concat();
        assert_eq!(words.len(), 51);
        for word in words {
            assert!(in_dictionary(word), "{word}");
        }
    }

    #[test]
    fn reads_digits_letters_and_articles() {
        let sentence = Sentence::parse("Set a box at A 9, don't!");
        assert_eq!(sentence.text(), "set a box at a nine dont");
        assert_eq!(sentence.words[1].phonemes, [Ax]);
        assert_eq!(sentence.words[4].phonemes, [Ey]);
    }

    #[test]
    fn falls_back_to_spelling() {
        assert_eq!(pronounce("bake"), [B, Ey, K]);
        assert_eq!(pronounce("shoot"), [Sh, Uw, T]);
        assert_eq!(pronounce("ship"), [Sh, Ih, P]);
        assert_eq!(pronounce("walking"), [W, Ao, K, Ih, Ng]);
        assert_eq!(pronounce("stopped"), [S, T, Ao, P, T]);
        assert_eq!(pronounce("cent"), [S, Eh, N, T]);
        assert_eq!(pronounce("dinner"), [D, Ih, N, Ax, R]);
        assert!(!pronounce("zzz").is_empty());
    }

    #[test]
    fn grid_sentences_follow_the_grammar() {
        assert!(in_grid_grammar(&["bin", "blue", "at", "f", "two", "now"]));
        assert!(!in_grid_grammar(&["bin", "blue", "at", "w", "two", "now"]));
        let mut rng = Rng::from_seed(9);
        for _ in 0..200 {
            let sentence = grid_sentence(&mut rng);
            let words: Vec<&str> = sentence.split(' ').collect();
            assert!(in_grid_grammar(&words), "{sentence}");
        }
    }
}
