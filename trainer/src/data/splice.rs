//! Sentences put together from parts of several clips.
//!
//! A random split of GRID shares most first words between training and test, so a model can learn
//! sentences instead of lips. Cutting clips at word boundaries and joining the beginning of one
//! with the rest of another takes that shortcut away.

use rand::RngExt;

use super::{Clip, Word};
use crate::loss::Target;
use crate::rng::Rng;

/// Frames picked from clips, with the words spoken in them.
#[derive(Debug, Clone)]
pub struct Timeline<'a> {
    /// Per output frame: the clip, and the (fractional) frame in it.
    pub frames: Vec<(&'a Clip, f32)>,
    /// Words, in output frames.
    pub words: Vec<Word>,
}

impl<'a> Timeline<'a> {
    /// A clip as it is.
    pub fn whole(clip: &'a Clip) -> Self {
        let frames = (0..clip.frames()).map(|t| (clip, t as f32)).collect();
        Self {
            frames,
            words: clip.words.clone(),
        }
    }

    /// Begins with `first` and, at each boundary between two words, goes on in another clip of
    /// the same number of words with probability `p`.
    pub fn spliced(first: &'a Clip, clips: &'a [Clip], p: f32, rng: &mut Rng) -> Self {
        let count = first.words.len();
        let mut clip = first;
        let mut out = Self {
            frames: Vec::new(),
            words: Vec::new(),
        };
        let mut from = 0;
        for w in 0..count {
            let word = clip.words[w];
            let last = w + 1 == count;
            let next = if last || rng.random::<f32>() >= p {
                clip
            } else {
                partner(clips, count, rng).unwrap_or(clip)
            };
            let switch = !last && !std::ptr::eq(next, clip);
            let until = if last {
                clip.frames()
            } else if switch {
                (word.end.round() as usize).min(clip.frames())
            } else {
                (clip.words[w + 1].start.round() as usize).min(clip.frames())
            };
            let shift = out.frames.len() as f32 - from as f32;
            out.words.push(Word {
                token: word.token,
                start: word.start + shift,
                end: word.end + shift,
            });
            out.frames
                .extend((from..until.max(from)).map(|t| (clip, t as f32)));
            from = if switch {
                next.words[w + 1].start.round() as usize
            } else {
                until
            };
            clip = next;
        }
        if count == 0 {
            return Self::whole(first);
        }
        out
    }

    /// Plays `factor` times as fast.
    pub fn change_speed(&mut self, factor: f32) {
        let frames = (self.frames.len() as f32 / factor).floor().max(1.0) as usize;
        let last = self.frames.len() - 1;
        let at = |i: usize| {
            let place = i as f32 * factor;
            let base = (place as usize).min(last);
            let (clip, t) = self.frames[base];
            (
                clip,
                (t + place - base as f32).min(clip.frames() as f32 - 1.0),
            )
        };
        self.frames = (0..frames).map(at).collect();
        for w in &mut self.words {
            (w.start, w.end) = (w.start / factor, w.end / factor);
        }
    }

    /// Frames from the first word's begin to the last word's end.
    pub fn extent(&self) -> usize {
        match (self.words.first(), self.words.last()) {
            (Some(a), Some(b)) => (b.end.ceil() - a.start.floor()).max(1.0) as usize,
            _ => 1,
        }
    }

    /// Cuts to exactly `frames` frames at a random place that keeps the words where possible;
    /// a clip that is too short holds its last frame.
    pub fn cut(&mut self, frames: usize, rng: &mut Rng) {
        while self.frames.len() < frames {
            let last = *self.frames.last().expect("a clip has frames");
            self.frames.push(last);
        }
        let (begin, end) = match (self.words.first(), self.words.last()) {
            (Some(a), Some(b)) => (a.start.floor().max(0.0) as usize, b.end.ceil() as usize),
            _ => (0, 0),
        };
        let highest = begin.min(self.frames.len() - frames);
        let lowest = end.saturating_sub(frames).min(highest);
        let start = rng.random_range(lowest..=highest);
        self.frames = self.frames[start..start + frames].to_vec();
        for w in &mut self.words {
            (w.start, w.end) = (w.start - start as f32, w.end - start as f32);
        }
        // A word of which less than half is left is no longer asked for.
        self.words.retain(|w| {
            let seen = w.end.min(frames as f32) - w.start.max(0.0);
            seen > 0.5 * (w.end - w.start)
        });
    }

    /// What the frames say.
    pub fn target(&self) -> Target {
        let mut frames = vec![0; self.frames.len()];
        for w in &self.words {
            for (t, label) in frames.iter_mut().enumerate() {
                let centre = t as f32 + 0.5;
                if centre >= w.start && centre < w.end {
                    *label = w.token;
                }
            }
        }
        Target {
            tokens: self.words.iter().map(|w| w.token).collect(),
            frames,
        }
    }
}

fn partner<'a>(clips: &'a [Clip], words: usize, rng: &mut Rng) -> Option<&'a Clip> {
    // A few tries suffice: nearly all clips of a corpus have the same number of words.
    (0..8).find_map(|_| {
        let clip = &clips[rng.random_range(0..clips.len())];
        (clip.words.len() == words).then_some(clip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::PATCH;
    use crate::rng::rng;

    fn clip(id: &str, base: usize) -> Clip {
        // 20 frames; words of 4 frames from frame 3 on; every pixel of frame t has value base + t.
        let pixels = (0..20)
            .flat_map(|t| vec![(base + t) as u8; PATCH * PATCH])
            .collect();
        let word = |i: usize| Word {
            token: base + i,
            start: 3.0 + 4.0 * i as f32,
            end: 7.0 + 4.0 * i as f32,
        };
        Clip {
            id: id.into(),
            pixels,
            fps: 25.0,
            words: (0..3).map(word).collect(),
        }
    }

    #[test]
    fn without_splicing_a_clip_stays_as_it_is() {
        let clips = [clip("a", 10), clip("b", 100)];
        let line = Timeline::spliced(&clips[0], &clips, 0.0, &mut rng(1, &[]));
        assert_eq!(line.words, clips[0].words);
        let frames: Vec<f32> = line.frames.iter().map(|f| f.1).collect();
        assert_eq!(frames, (0..20).map(|t| t as f32).collect::<Vec<_>>());
    }

    #[test]
    fn labels_stay_with_their_frames_through_splice_speed_and_cut() {
        let clips = [clip("a", 10), clip("b", 100), clip("c", 200)];
        let mut mixed = 0;
        for seed in 0..200 {
            let mut r = rng(seed, &[]);
            let mut line = Timeline::spliced(&clips[0], &clips, 0.7, &mut r);
            line.change_speed(r.random_range(0.8..1.25));
            line.cut(line.extent() + 2, &mut r);
            let target = line.target();
            for (t, &label) in target.frames.iter().enumerate() {
                let (from, place) = line.frames[t];
                // The word spoken in the source frame; frames next to a boundary may round.
                let inside = from
                    .words
                    .iter()
                    .find(|w| place + 0.5 > w.start + 0.7 && place + 0.5 < w.end - 0.7);
                if let Some(w) = inside {
                    assert_eq!(label, w.token, "seed {seed} frame {t} at {place}");
                }
            }
            assert_eq!(target.tokens.len(), 3);
            mixed += usize::from(target.tokens.iter().any(|&t| t >= 100));
        }
        assert!(mixed > 100, "{mixed} of 200 are spliced");
    }
}
