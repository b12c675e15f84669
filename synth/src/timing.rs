//! When each phoneme is spoken.
//!
//! Lengths follow the shape of Klatt's duration rules (Klatt 1979, "Synthesis by rule of
//! segmental durations in English sentences"): an inherent length per phoneme, scaled by
//! the word's length, its weight and its place in the sentence. The scales were set so that
//! GRID sentences last what they last in the corpus (six words in about 1.5 s).

use crate::phoneme::{Manner, Phoneme};
use crate::pronounce::{Sentence, Weight};
use crate::rng::Rng;
use crate::speaker::Style;

/// One phoneme in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Which phoneme.
    pub phoneme: Phoneme,
    /// Start, seconds.
    pub start: f32,
    /// End, seconds; after `start`.
    pub end: f32,
}

/// A sentence in time.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Phonemes without gaps from 0 to `seconds`; silence first and last.
    pub segments: Vec<Segment>,
    /// (start, end, text) of each word, in order, not overlapping.
    pub words: Vec<(f32, f32, String)>,
    /// Total length, seconds.
    pub seconds: f32,
}

impl Timeline {
    /// Lays `sentence` out in time for a speaker of this `style`: a leading silence, the
    /// words, and silence up to at least `min_seconds`, a whole number of frames of `1/fps`.
    pub(crate) fn new(
        sentence: &Sentence,
        style: &Style,
        min_seconds: f32,
        fps: f32,
        rng: &mut Rng,
    ) -> Self {
        let lead = (0.55 + 0.19 * rng.normal()).clamp(0.12, 1.1);
        let tempo = style.tempo * (1.0 + 0.05 * rng.normal());
        let mut layout = Layout {
            segments: Vec::new(),
            now: 0.0,
        };
        layout.push(Phoneme::Sil, lead);
        let mut words = Vec::with_capacity(sentence.words.len());
        let count = sentence.words.len();
        for (index, word) in sentence.words.iter().enumerate() {
            if index > 0 && rng.chance(style.pauses) {
                layout.push(Phoneme::Sil, rng.range(0.03, 0.18));
            }
            let phonemes = spoken_phonemes(&word.phonemes, style.rhotic);
            let place = Place {
                first: index == 0,
                last: index + 1 == count,
                weight: word.weight,
                phonemes: phonemes.len(),
            };
            let word_scale = tempo * place.scale() * (1.0 + style.irregular * rng.normal());
            let start = layout.now;
            for (k, &phoneme) in phonemes.iter().enumerate() {
                let mut seconds = phoneme.seconds() * word_scale;
                seconds *= 1.0 + style.irregular * rng.normal();
                seconds *= cluster_scale(&phonemes, k);
                layout.push(phoneme, seconds.max(0.022));
            }
            words.push((start, layout.now, word.text.clone()));
        }
        let tail = (0.45 + 0.15 * rng.normal()).max(0.15);
        let frames = ((layout.now + tail).max(min_seconds) * fps).ceil();
        let seconds = frames / fps;
        // Where the clip has a fixed length, the rest is silence after the last word.
        let rest = (seconds - layout.now).max(0.05);
        layout.push(Phoneme::Sil, rest);
        Self {
            segments: layout.segments,
            words,
            seconds,
        }
    }
}

struct Layout {
    segments: Vec<Segment>,
    now: f32,
}

impl Layout {
    fn push(&mut self, phoneme: Phoneme, seconds: f32) {
        let end = self.now + seconds;
        self.segments.push(Segment {
            phoneme,
            start: self.now,
            end,
        });
        self.now = end;
    }
}

/// What decides a word's tempo.
struct Place {
    first: bool,
    last: bool,
    weight: Weight,
    phonemes: usize,
}

impl Place {
    fn scale(&self) -> f32 {
        let short = match self.phonemes {
            0 | 1 => 1.5,
            2 => 1.27,
            3 => 1.1,
            _ => 0.98,
        };
        let edge = if self.last {
            1.4
        } else if self.first {
            1.22
        } else {
            1.0
        };
        match self.weight {
            Weight::Function => 0.74 * edge,
            Weight::Content => short * edge,
        }
    }
}

/// Consonants next to consonants are short.
fn cluster_scale(phonemes: &[Phoneme], k: usize) -> f32 {
    if phonemes[k].is_vowel() {
        return 1.0;
    }
    let consonant = |i: Option<&Phoneme>| i.is_some_and(|p| !p.is_vowel());
    let beside = consonant(phonemes.get(k + 1)) || (k > 0 && consonant(phonemes.get(k - 1)));
    if beside { 0.78 } else { 1.0 }
}

/// Drops r after a vowel and before no vowel, unless the speaker is rhotic.
fn spoken_phonemes(phonemes: &[Phoneme], rhotic: bool) -> Vec<Phoneme> {
    let mut out = Vec::with_capacity(phonemes.len());
    for (k, &phoneme) in phonemes.iter().enumerate() {
        let after_vowel = k > 0 && phonemes[k - 1].is_vowel();
        let before_vowel = phonemes.get(k + 1).is_some_and(|p| p.is_vowel());
        if phoneme == Phoneme::R && after_vowel && !before_vowel && !rhotic {
            continue;
        }
        out.push(phoneme);
    }
    out
}

/// Whether a segment makes sound from its very start (plosives begin with a closure).
pub(crate) fn begins_silent(phoneme: Phoneme) -> bool {
    matches!(
        phoneme.manner(),
        Manner::Plosive | Manner::Affricate | Manner::Silence
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pronounce::grid_sentence;
    use crate::speaker::Speaker;

    /// Mean word lengths of GRID speakers s1, s2, s3, s31, s32 and s34 (seconds, from the
    /// corpus's alignments): the synthetic speakers as a whole must be within a third.
    #[test]
    fn words_last_what_they_last_in_the_corpus() {
        let expected = [
            ("bin", 0.25),
            ("place", 0.29),
            ("blue", 0.25),
            ("green", 0.23),
            ("red", 0.19),
            ("white", 0.24),
            ("in", 0.10),
            ("with", 0.12),
            ("b", 0.18),
            ("q", 0.21),
            ("zero", 0.35),
            ("three", 0.26),
            ("nine", 0.27),
            ("again", 0.34),
            ("now", 0.31),
            ("please", 0.41),
            ("soon", 0.39),
        ];
        let mut sums = vec![(0.0, 0.0); expected.len()];
        let (mut speech, mut clips) = (0.0, 0.0);
        let mut rng = Rng::from_seed(5);
        for i in 0..2000 {
            let sentence = Sentence::parse(&grid_sentence(&mut rng));
            let style = &Speaker::train(i).style;
            let timeline = Timeline::new(&sentence, style, 3.0, 25.0, &mut rng);
            speech += timeline.words[5].1 - timeline.words[0].0;
            clips += 1.0;
            for (start, end, text) in timeline.words {
                if let Some(k) = expected.iter().position(|(w, _)| *w == text) {
                    sums[k].0 += end - start;
                    sums[k].1 += 1.0;
                }
            }
        }
        for ((word, seconds), (sum, n)) in expected.iter().zip(&sums) {
            let ratio = sum / n / seconds;
            assert!((0.67..1.5).contains(&ratio), "{word}: {ratio:.2}");
        }
        let mean: f32 = speech / clips;
        assert!((1.35..1.75).contains(&mean), "speech lasts {mean:.2} s");
    }
}
