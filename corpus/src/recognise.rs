//! Mouth crops to text: the one place where clips are read for measuring.
//!
//! [`Recogniser`] joins the engine's session, or another [`Backend`], with the decoder; [`evaluate`] runs it over clips
//! and counts errors and time. Whoever reports an error rate (the trainer, the quantiser's gate, `viseme eval`) reports
//! this one.
//!
//! A window holds [`Model::max_frames`] frames. Longer clips are read in consecutive windows: a window that is full is
//! cut, in its second half, where the mouth moves least (smallest mean difference between neighbouring crops, over a
//! quarter of a second), and the next one begins there. The logits of all windows are decoded as one utterance, so
//! that a sentence of a grammar may span a cut. Only clips of more than [`MOST_VALUES`] logits or
//! [`MAX_FRAMES`] frames are decoded in pieces.

use std::fmt;
use std::time::Instant;

use viseme_capture::pipeline::PipelineOptions;
use viseme_engine::decode::grammar::GrammarError;
use viseme_engine::decode::{
    DecodeError, Decoder, FrameTimes, MAX_FRAMES, Options, Transcript, Vocabulary, VocabularyError,
};
use viseme_engine::model::conformer::Model;
use viseme_engine::preprocess::crop::{PATCH, centre};
use viseme_engine::session::{self, PushError, Session, SessionError};
use viseme_format::spec::SpecError;

use crate::backend::{Backend, BackendError};
use crate::crops::ClipCrops;
use crate::score::Score;

/// The most logits that are decoded at once: 64 MB of them.
pub const MOST_VALUES: usize = 16 << 20;

/// Frames over which movement is averaged where a window is cut.
const STILLNESS: usize = 7;

/// Reads mouth crops with one model, one clip after the other.
pub struct Recogniser<'m> {
    model: &'m Model<'m>,
    backend: Box<dyn Backend + 'm>,
    decoder: Decoder,
    fps: f32,
    period_us: u64,
    crop: Vec<u8>,
    window: Window,
    /// Times of the window's frames.
    stamps: Vec<u64>,
    /// Logits of the windows that were cut, and the times of their frames.
    logits: Vec<f32>,
    times: Vec<u64>,
    /// Frames that are decoded at once.
    piece_frames: usize,
    /// What was decoded already of a very long clip.
    pieces: Option<Transcript>,
}

impl<'m> Recogniser<'m> {
    /// A recogniser with our engine, which works in `memory`; that is made as large as the model needs.
    ///
    /// # Errors
    /// If the model does not read mouths of 96 pixels, or cannot spell the grammar.
    pub fn new(
        model: &'m Model<'m>,
        memory: &'m mut Vec<u8>,
        options: Options<'_>,
    ) -> Result<Self, RecogniseError> {
        memory.resize(model.arena_bytes(model.max_frames()), 0);
        let session = Session::new(model, memory, session::Options::default())?;
        Self::with_backend(model, Box::new(session), options)
    }

    /// A recogniser with a backend that computes what `model` does.
    ///
    /// # Errors
    /// As [`Recogniser::new`].
    pub fn with_backend(
        model: &'m Model<'m>,
        backend: Box<dyn Backend + 'm>,
        options: Options<'_>,
    ) -> Result<Self, RecogniseError> {
        let conformer = model.spec().conformer()?;
        if conformer.crop.patch as usize != PATCH {
            return Err(RecogniseError::Patch(conformer.crop.patch));
        }
        let decoder = Decoder::new(Vocabulary::of_model(conformer)?, options)?;
        let most = MAX_FRAMES.min(MOST_VALUES / model.vocabulary());
        Ok(Recogniser {
            decoder,
            fps: conformer.fps,
            period_us: (1e6 / f64::from(conformer.fps)).round() as u64,
            crop: vec![0; model.crop_side() * model.crop_side()],
            window: Window::new(model.max_frames()),
            stamps: Vec::with_capacity(model.max_frames()),
            logits: Vec::new(),
            times: Vec::new(),
            piece_frames: most.saturating_sub(model.max_frames()),
            pieces: None,
            backend,
            model,
        })
    }

    /// Reads a whole clip.
    ///
    /// # Errors
    /// If the clip was cropped at another rate than the model's.
    pub fn recognise(&mut self, clip: &ClipCrops) -> Result<Transcript, RecogniseError> {
        if clip.fps != self.fps {
            return Err(RecogniseError::Rate {
                clip: clip.fps,
                model: self.fps,
            });
        }
        self.reset();
        for (index, patch) in clip.crops.chunks_exact(PATCH * PATCH).enumerate() {
            let time = index as f64 * 1e6 / f64::from(self.fps);
            self.push(patch, time.round() as u64)?;
        }
        self.finish()
    }

    /// Takes the next crop of a clip, `[96, 96]`, at the model's rate.
    ///
    /// # Errors
    /// If the crop has another size or its time is earlier than the last one's.
    pub fn push(&mut self, patch: &[u8], timestamp_us: u64) -> Result<(), RecogniseError> {
        if patch.len() != PATCH * PATCH {
            let (got, want) = (patch.len(), PATCH * PATCH);
            return Err(PushError::Size { got, want }.into());
        }
        if (self.stamps.last()).is_some_and(|&last| timestamp_us < last) {
            return Err(PushError::Backwards { timestamp_us }.into());
        }
        if self.stamps.len() == self.model.max_frames() {
            self.cut()?;
        }
        centre(patch, PATCH, &mut self.crop, self.model.crop_side());
        self.backend.push(&self.crop)?;
        self.window.push(&self.crop);
        self.stamps.push(timestamp_us);
        Ok(())
    }

    /// Ends the clip: what was said in it. The next push begins another one.
    ///
    /// # Errors
    /// If the backend fails, or the model's logits are not finite.
    pub fn finish(&mut self) -> Result<Transcript, RecogniseError> {
        self.take_window(self.stamps.len())?;
        let last = self.decode();
        let earlier = self.pieces.take();
        self.reset();
        Ok(join(earlier, last?))
    }

    /// Forgets the clip that was begun.
    pub fn reset(&mut self) {
        self.backend.reset();
        self.window.clear();
        self.stamps.clear();
        self.logits.clear();
        self.times.clear();
        self.pieces = None;
    }

    /// The rate at which crops are wanted, in crops a second.
    pub fn fps(&self) -> f32 {
        self.fps
    }

    /// Cuts the full window and begins the next one with the frames after the cut.
    fn cut(&mut self) -> Result<(), RecogniseError> {
        let cut = self.window.quietest();
        self.take_window(cut)?;
        self.backend.reset();
        self.stamps.drain(..cut);
        for crop in self.window.cut(cut).chunks_exact(self.crop.len()) {
            self.backend.push(crop)?;
            self.window.push(crop);
        }
        if self.times.len() > self.piece_frames {
            let piece = self.decode()?;
            self.pieces = Some(join(self.pieces.take(), piece));
            self.logits.clear();
            self.times.clear();
        }
        Ok(())
    }

    /// Keeps the logits of the window's first `frames` frames, read with all of the window as context.
    fn take_window(&mut self, frames: usize) -> Result<(), RecogniseError> {
        let logits = self.backend.finish()?;
        let values = frames * self.model.vocabulary();
        self.logits.extend_from_slice(&logits[..values]);
        self.times.extend_from_slice(&self.stamps[..frames]);
        Ok(())
    }

    fn decode(&self) -> Result<Transcript, RecogniseError> {
        let times = FrameTimes::Stamps {
            starts_us: &self.times,
            period_us: self.period_us,
        };
        let vocabulary = self.model.vocabulary();
        Ok(self
            .decoder
            .decode(&self.logits, self.times.len(), vocabulary, &times)?)
    }
}

/// What [`evaluate`] measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Word error rate in percent.
    pub wer: f64,
    /// Character error rate in percent.
    pub cer: f64,
    /// Clips read.
    pub clips: usize,
    /// Words in their references.
    pub words: usize,
    /// Real-time factor: seconds of computing (front-end, encoder and decoder; not tracking) per second of the clips.
    pub rtf: f64,
}

/// A clip that is read for measuring.
pub trait Measured {
    /// What is said in it.
    fn text(&self) -> &str;

    /// How long it is.
    fn seconds(&self) -> f64;
}

impl Measured for ClipCrops {
    fn text(&self) -> &str {
        &self.text
    }

    fn seconds(&self) -> f64 {
        self.frames() as f64 / f64::from(self.fps)
    }
}

impl<M: Measured> Measured for &M {
    fn text(&self) -> &str {
        (*self).text()
    }

    fn seconds(&self) -> f64 {
        (*self).seconds()
    }
}

/// Reads the clips and compares what was read with their references. `progress` sees every clip and its transcript.
///
/// # Errors
/// If there are no clips or no words in their references, or one cannot be read.
pub fn evaluate<M: Measured, E: From<RecogniseError>>(
    clips: impl IntoIterator<Item = M>,
    mut read: impl FnMut(&M) -> Result<Transcript, E>,
    mut progress: impl FnMut(&M, &Transcript),
) -> Result<Evaluation, E> {
    let mut score = Score::default();
    let (mut computing, mut seconds) = (0.0, 0.0);
    for clip in clips {
        let start = Instant::now();
        let transcript = read(&clip)?;
        computing += start.elapsed().as_secs_f64();
        seconds += clip.seconds();
        score.add(clip.text(), &transcript.text);
        progress(&clip, &transcript);
    }
    if score.clips == 0 {
        return Err(RecogniseError::NoClips.into());
    }
    if score.words.reference == 0 {
        return Err(RecogniseError::NoWords.into());
    }
    Ok(Evaluation {
        wer: score.wer(),
        cer: score.cer(),
        clips: score.clips,
        words: score.words.reference,
        rtf: computing / f64::max(seconds, f64::MIN_POSITIVE),
    })
}

/// How crops for a model are made: its rate and its smoothing.
///
/// # Errors
/// If the model is no recogniser.
pub fn pipeline_options(model: &Model<'_>) -> Result<PipelineOptions, RecogniseError> {
    let conformer = model.spec().conformer()?;
    Ok(PipelineOptions {
        fps: conformer.fps,
        smooth: conformer.crop.smooth as usize,
        ..PipelineOptions::default()
    })
}

/// What has to be known of a window to cut it.
struct Window {
    frames: usize,
    /// Movement before each frame: mean absolute difference to the one before it, in grey values.
    movement: Vec<f32>,
    last: Vec<u8>,
    /// The crops of the second half, which the next window may begin with.
    tail: Vec<u8>,
}

impl Window {
    fn new(frames: usize) -> Self {
        Window {
            frames,
            movement: Vec::with_capacity(frames),
            last: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// The first frame that the window may be cut before; at least 1.
    fn earliest(&self) -> usize {
        self.frames.div_ceil(2)
    }

    fn push(&mut self, crop: &[u8]) {
        let differences = self.last.iter().zip(crop).map(|(a, b)| a.abs_diff(*b));
        let sum: u64 = differences.map(u64::from).sum();
        self.movement.push(sum as f32 / crop.len() as f32);
        if self.movement.len() > self.earliest() {
            self.tail.extend_from_slice(crop);
        }
        self.last.clear();
        self.last.extend_from_slice(crop);
    }

    /// The frame before which the mouth moves least, the last of equals; in the second half.
    fn quietest(&self) -> usize {
        let around = |at: usize| {
            let from = at.saturating_sub(STILLNESS / 2);
            let near = &self.movement[from..self.movement.len().min(from + STILLNESS)];
            near.iter().sum::<f32>() / near.len() as f32
        };
        let frames = self.earliest()..self.movement.len();
        frames
            .rev()
            .min_by(|&a, &b| around(a).total_cmp(&around(b)))
            .unwrap_or(self.movement.len())
    }

    /// Empties the window; the crops from frame `cut` on, which must not be before [`Self::earliest`].
    fn cut(&mut self, cut: usize) -> Vec<u8> {
        let rest = self
            .tail
            .split_off((cut - self.earliest()) * self.last.len());
        self.clear();
        rest
    }

    fn clear(&mut self) {
        self.movement.clear();
        self.last.clear();
        self.tail.clear();
    }
}

/// Two transcripts as one.
fn join(earlier: Option<Transcript>, mut later: Transcript) -> Transcript {
    let Some(mut joined) = earlier else {
        return later;
    };
    if !joined.text.is_empty() && !later.text.is_empty() {
        joined.text.push(' ');
    }
    joined.text.push_str(&later.text);
    joined.words.append(&mut later.words);
    joined.tokens.append(&mut later.tokens);
    joined.score += later.score;
    joined.complete &= later.complete;
    joined
}

/// Why clips could not be recognised. `Display` is one line for the user.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecogniseError {
    /// The model is of another family.
    Spec(SpecError),
    /// The model reads crops cut from patches of so many pixels.
    Patch(u32),
    /// The model's tokens are no vocabulary.
    Vocabulary(VocabularyError),
    /// The grammar does not fit the model.
    Grammar(GrammarError),
    /// No session for the model.
    Session(SessionError),
    /// A crop was not taken.
    Push(PushError),
    /// The backend has no logits.
    Backend(BackendError),
    /// The logits cannot be decoded.
    Decode(DecodeError),
    /// The clip was cropped for a model of another rate.
    Rate {
        /// Crops a second of the clip.
        clip: f32,
        /// Crops a second that the model wants.
        model: f32,
    },
    /// Nothing to evaluate.
    NoClips,
    /// Nothing to compare with what is read.
    NoWords,
}

impl fmt::Display for RecogniseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecogniseError::Spec(error) => error.fmt(f),
            RecogniseError::Patch(side) => write!(
                f,
                "the model wants mouth patches of {side} pixels, the tracker makes {PATCH}; export the model for {PATCH}"
            ),
            RecogniseError::Vocabulary(error) => error.fmt(f),
            RecogniseError::Grammar(error) => error.fmt(f),
            RecogniseError::Session(error) => error.fmt(f),
            RecogniseError::Push(error) => error.fmt(f),
            RecogniseError::Backend(error) => error.fmt(f),
            RecogniseError::Decode(error) => error.fmt(f),
            RecogniseError::Rate { clip, model } => write!(
                f,
                "the clip was cropped at {clip} frames a second, the model wants {model}; make its crops for this model"
            ),
            RecogniseError::NoClips => {
                f.write_str("there is no clip to evaluate; check the manifest and the split")
            }
            RecogniseError::NoWords => f.write_str(
                "no clip has words in its reference, so there is no error rate; put what is said into `text`",
            ),
        }
    }
}

impl std::error::Error for RecogniseError {}

macro_rules! from {
    ($($error:ident => $variant:ident),*) => {$(
        impl From<$error> for RecogniseError {
            fn from(error: $error) -> Self {
                RecogniseError::$variant(error)
            }
        }
    )*};
}

from!(
    SpecError => Spec,
    VocabularyError => Vocabulary,
    GrammarError => Grammar,
    SessionError => Session,
    PushError => Push,
    BackendError => Backend,
    DecodeError => Decode
);

#[cfg(test)]
mod tests {
    use viseme_engine::decode::ctc;
    use viseme_engine::testing::{self, TINY};
    use viseme_format::spec::Weights;

    use super::*;

    const FPS: f32 = 25.0;

    /// A tiny random model's file, at an address that the engine takes.
    fn file() -> Vec<u64> {
        let bytes = testing::model(&testing::spec(&TINY, Weights::Int8), 3).expect("a model");
        let mut words = vec![0; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
        words
    }

    fn clip(frames: usize, seed: u64) -> ClipCrops {
        ClipCrops {
            id: "s1/clip".into(),
            speaker: "s1".into(),
            text: "bin blue".into(),
            words: Vec::new(),
            split: String::new(),
            pair_split: None,
            crops: testing::crops(seed, frames, PATCH),
            fps: FPS,
            tracked_frames: frames,
            faces_seen: 1,
            damaged: false,
        }
    }

    /// Greedy text of logits straight from a session, without the code under test.
    fn peer(model: &Model<'_>, clip: &ClipCrops) -> Vec<u32> {
        let mut arena = vec![0; model.arena_bytes(model.max_frames())];
        let mut session =
            Session::new(model, &mut arena, session::Options::default()).expect("a session");
        for (i, patch) in clip.crops.chunks(PATCH * PATCH).enumerate() {
            let rows = patch.chunks(PATCH).skip(4).take(88);
            let crop: Vec<u8> = rows.flat_map(|row| &row[4..92]).copied().collect();
            session.push_crop(&crop, 40_000 * i as u64).expect("room");
        }
        session.finish();
        let mut runs = vec![ctc::TokenRun::default(); clip.frames()];
        let found = ctc::greedy(session.logits(), model.vocabulary(), &mut runs).expect("finite");
        found.runs.iter().map(|run| run.token).collect()
    }

    #[test]
    fn a_clip_is_read_as_the_session_and_the_decoder_read_it() {
        let file = file();
        let model = Model::open(bytemuck::cast_slice(&file)).expect("a model");
        let mut memory = Vec::new();
        let mut recogniser =
            Recogniser::new(&model, &mut memory, Options::default()).expect("fits");
        let mut tokens_seen = 0;
        for seed in 0..4 {
            let clip = clip(30 + seed as usize, seed);
            let read = recogniser.recognise(&clip).expect("readable");
            assert_eq!(read.tokens, peer(&model, &clip));
            tokens_seen += read.tokens.len();
            for word in &read.words {
                assert!(0.0 <= word.start_s && word.start_s < word.end_s);
                assert!(word.end_s <= clip.frames() as f64 * 0.04 + 1e-9);
            }
        }
        assert!(tokens_seen > 4, "random models say something");
    }

    #[test]
    fn a_full_window_is_the_whole_clip() {
        let file = file();
        let model = Model::open(bytemuck::cast_slice(&file)).expect("a model");
        let mut memory = Vec::new();
        let mut recogniser =
            Recogniser::new(&model, &mut memory, Options::default()).expect("fits");
        let clip = clip(model.max_frames(), 5);
        assert_eq!(
            recogniser.recognise(&clip).expect("readable").tokens,
            peer(&model, &clip)
        );
    }

    #[test]
    fn a_long_clip_is_cut_where_the_mouth_rests() {
        let file = file();
        let model = Model::open(bytemuck::cast_slice(&file)).expect("a model");
        let (most, size) = (model.max_frames(), PATCH * PATCH);
        // The mouth rests for ten frames in the second half, and is wild elsewhere.
        let mut long = clip(2 * most - 20, 6);
        let rest = most / 2 + 8..most / 2 + 18;
        let still = long.crops[rest.start * size..][..size].to_vec();
        for crop in long.crops[rest.start * size..rest.end * size].chunks_mut(size) {
            crop.copy_from_slice(&still);
        }
        let mut memory = Vec::new();
        let mut recogniser =
            Recogniser::new(&model, &mut memory, Options::default()).expect("fits");
        for (i, patch) in long.crops.chunks(size).enumerate() {
            recogniser.push(patch, 40_000 * i as u64).expect("no limit");
        }
        let cut = recogniser.times.len();
        assert!(
            (rest.start + STILLNESS / 2..=rest.end - STILLNESS / 2).contains(&cut),
            "{cut}"
        );
        // Before the cut as in the full first window, after it as in a clip of its own.
        let read = recogniser.finish().expect("finite");
        let part = |from: usize, to: usize| {
            let mut part = long.clone();
            part.crops = part.crops[from * size..to * size].to_vec();
            part
        };
        let second = peer(&model, &part(cut, long.frames()));
        assert!(read.tokens.ends_with(&second[1..]), "{read:?} {second:?}");
        assert_eq!(
            read,
            recogniser.recognise(&long).expect("readable"),
            "twice the same"
        );
        for pair in read.words.windows(2) {
            assert!(pair[0].end_s <= pair[1].start_s);
        }
    }

    #[test]
    fn a_very_long_clip_is_decoded_in_pieces() {
        let file = file();
        let model = Model::open(bytemuck::cast_slice(&file)).expect("a model");
        let mut memory = Vec::new();
        let mut recogniser =
            Recogniser::new(&model, &mut memory, Options::default()).expect("fits");
        let long = clip(5 * model.max_frames(), 7);
        let whole = recogniser.recognise(&long).expect("readable");
        recogniser.piece_frames = 0;
        let pieces = recogniser.recognise(&long).expect("readable");
        // A token that lies on a cut may be counted on both sides.
        assert!(pieces.tokens.len().abs_diff(whole.tokens.len()) <= 9);
        assert_eq!(pieces.words.len(), pieces.tokens.len());
        assert_eq!(pieces.text.split(' ').count(), pieces.words.len());
        assert!(pieces.words.last().expect("words").end_s > 4.0 * model.max_frames() as f64 * 0.04);
        assert_eq!(recogniser.times.len(), 0);
    }

    #[test]
    fn the_quietest_place_is_in_the_second_half_and_the_last_of_equals() {
        let mut window = Window::new(40);
        // Grey values that rise by 5 a frame, but rest at frames 10 to 15 and 30 to 35.
        for i in 0..40_u8 {
            let rest = [10, 30].into_iter().find(|&at| (at..at + 6).contains(&i));
            window.push(&[5 * rest.unwrap_or(i)]);
        }
        // Of seven frames around 32, five do not move and two move by 5.
        assert_eq!(window.quietest(), 32);
        let mut flat = Window::new(9);
        (0..9).for_each(|_| flat.push(&[7]));
        assert_eq!(flat.quietest(), 8);
        let mut single = Window::new(1);
        single.push(&[7]);
        assert_eq!(single.quietest(), 1);
        assert!(single.cut(1).is_empty());
    }

    #[test]
    fn an_evaluation_counts_clips_words_and_time() {
        let file = file();
        let model = Model::open(bytemuck::cast_slice(&file)).expect("a model");
        let mut memory = Vec::new();
        let mut recogniser =
            Recogniser::new(&model, &mut memory, Options::default()).expect("fits");
        let mut clips = vec![clip(30, 1), clip(40, 2)];
        clips[0].text = recogniser.recognise(&clips[0]).expect("readable").text;
        clips[1].text.clear();
        let mut seen = Vec::new();
        let mut recognise = |clip: &&ClipCrops| recogniser.recognise(clip);
        let got = evaluate(&clips, &mut recognise, |clip, read| {
            seen.push((clip.frames(), read.words.len()));
        })
        .expect("readable");
        let said = clips[0].text.split(' ').count();
        // The first is read without an error; whatever is read in the second was not said.
        assert_eq!((got.clips, got.words), (2, said));
        let wer = 100.0 * seen[1].1 as f64 / said as f64;
        assert!((got.wer - wer).abs() < 1e-9, "{got:?}");
        assert_eq!((seen[0].0, seen[1].0), (30, 40));
        assert!(got.rtf > 0.0 && got.rtf.is_finite());
        let none = evaluate([&clips[0]; 0], &mut recognise, |_, _| ());
        assert!(matches!(none, Err(RecogniseError::NoClips)));
        clips[1].text = "  ".into();
        let wordless = evaluate(&clips[1..], &mut recognise, |_, _| ());
        assert!(matches!(wordless, Err(RecogniseError::NoWords)));
        clips[0].fps = 30.0;
        assert!(matches!(
            recogniser.recognise(&clips[0]),
            Err(RecogniseError::Rate { .. })
        ));
    }
}
