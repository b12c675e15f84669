//! Word and character error rates: Levenshtein edits over a corpus, relative to the length of the references.
//!
//! Levenshtein (1966); the counting of substitutions, deletions and insertions over all clips, not the mean of rates
//! per clip, is that of NIST's sclite. Where several cheapest alignments exist, substitutions are preferred.

use std::ops::AddAssign;

/// Edits that turn references into hypotheses, and how long the references were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Units of the reference read as something else.
    pub substitutions: usize,
    /// Units of the reference that were not read.
    pub deletions: usize,
    /// Units that were read but not said.
    pub insertions: usize,
    /// Units of the reference.
    pub reference: usize,
}

impl Edits {
    /// Edits between two texts, counted in words. Any white space separates words.
    pub fn of_words(reference: &str, hypothesis: &str) -> Self {
        let words = |text: &'_ str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        Edits::between(&words(reference), &words(hypothesis))
    }

    /// Edits between two texts, counted in characters; one space between words, none around the text.
    pub fn of_chars(reference: &str, hypothesis: &str) -> Self {
        let chars = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            words.join(" ").chars().collect::<Vec<char>>()
        };
        Edits::between(&chars(reference), &chars(hypothesis))
    }

    /// Cheapest edits between two sequences.
    pub fn between<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Self {
        // One row of the table at a time; each cell carries its edits so far.
        let mut row: Vec<Edits> = (0..=hypothesis.len())
            .map(|insertions| Edits {
                insertions,
                ..Edits::default()
            })
            .collect();
        for said in reference {
            let mut diagonal = row[0];
            row[0].deletions += 1;
            for (column, read) in hypothesis.iter().enumerate() {
                let above = row[column + 1];
                let mut best = diagonal;
                best.substitutions += usize::from(said != read);
                let mut deleted = above;
                deleted.deletions += 1;
                let mut inserted = row[column];
                inserted.insertions += 1;
                for other in [deleted, inserted] {
                    if other.errors() < best.errors() {
                        best = other;
                    }
                }
                row[column + 1] = best;
                diagonal = above;
            }
        }
        Edits {
            reference: reference.len(),
            ..row[hypothesis.len()]
        }
    }

    /// All edits.
    pub fn errors(&self) -> usize {
        self.substitutions + self.deletions + self.insertions
    }

    /// Error rate in percent. Above 100 when more was inserted than said; an empty reference counts as one unit.
    pub fn percent(&self) -> f64 {
        100.0 * self.errors() as f64 / self.reference.max(1) as f64
    }
}

impl AddAssign for Edits {
    fn add_assign(&mut self, other: Self) {
        self.substitutions += other.substitutions;
        self.deletions += other.deletions;
        self.insertions += other.insertions;
        self.reference += other.reference;
    }
}

/// Word and character edits of a corpus, clip by clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Clips counted.
    pub clips: usize,
    /// Edits in words.
    pub words: Edits,
    /// Edits in characters.
    pub chars: Edits,
}

impl Score {
    /// Counts one more clip.
    pub fn add(&mut self, reference: &str, hypothesis: &str) {
        self.clips += 1;
        self.words += Edits::of_words(reference, hypothesis);
        self.chars += Edits::of_chars(reference, hypothesis);
    }

    /// Word error rate in percent.
    pub fn wer(&self) -> f64 {
        self.words.percent()
    }

    /// Character error rate in percent.
    pub fn cer(&self) -> f64 {
        self.chars.percent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(substitutions: usize, deletions: usize, insertions: usize, reference: usize) -> Edits {
        Edits {
            substitutions,
            deletions,
            insertions,
            reference,
        }
    }

    #[test]
    fn words_are_counted_by_hand() {
        let said = "bin blue at f two now";
        assert_eq!(Edits::of_words(said, said), edits(0, 0, 0, 6));
        assert_eq!(
            Edits::of_words(said, "bin blue at s two now"),
            edits(1, 0, 0, 6)
        );
        assert_eq!(
            Edits::of_words(said, "bin blue at two now"),
            edits(0, 1, 0, 6)
        );
        assert_eq!(
            Edits::of_words(said, "bin blue at f f two now"),
            edits(0, 0, 1, 6)
        );
        assert_eq!(
            Edits::of_words(said, "  blue at\tg two now please "),
            edits(1, 1, 1, 6)
        );
        assert_eq!(Edits::of_words(said, ""), edits(0, 6, 0, 6));
        assert_eq!(Edits::of_words("", said), edits(0, 0, 6, 0));
    }

    #[test]
    fn characters_are_counted_by_hand() {
        // The two examples every text on the distance has: kitten/sitting 3, saturday/sunday 3.
        assert_eq!(Edits::of_chars("kitten", "sitting"), edits(2, 0, 1, 6));
        assert_eq!(Edits::of_chars("saturday", "sunday"), edits(1, 2, 0, 8));
        assert_eq!(Edits::of_chars("a  b", "ab"), edits(0, 1, 0, 3));
    }

    #[test]
    fn a_corpus_is_one_text_not_a_mean_of_rates() {
        let mut score = Score::default();
        score.add("a b c d", "a b c d");
        score.add("x", "y z");
        assert_eq!((score.clips, score.words), (2, edits(1, 0, 1, 5)));
        assert_eq!(score.wer(), 40.0);
        assert_eq!(score.chars, edits(1, 0, 2, 8));
        assert_eq!(score.cer(), 37.5);
    }
}
