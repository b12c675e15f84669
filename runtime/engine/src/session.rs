//! A session: push mouth crops as they arrive, read logits.
//!
//! The front-end runs as crops are pushed, as far behind as its stack of neighbouring frames
//! reaches (one frame for a stack of three); the encoder runs over the whole utterance when logits
//! are asked for.
//!
//! ```no_run
//! # fn demo(file: &[u8], crop: &[u8]) -> Result<(), Box<dyn core::error::Error>> {
//! use viseme_engine::model::conformer::Model;
//! use viseme_engine::session::{Options, Session};
//!
//! let model = Model::open(file)?;
//! let mut arena = vec![0; model.arena_bytes(75)];
//! let mut session = Session::new(&model, &mut arena, Options { max_frames: Some(75), ..Options::default() })?;
//! for frame in 0..75 {
//!     session.push_crop(crop, frame * 40_000)?;
//! }
//! session.finish();
//! for row in session.logits().chunks(model.vocabulary()) {
//!     println!("{row:?}");
//! }
//! # Ok(())
//! # }
//! ```

use core::fmt;

use crate::kernels::{self, Kernels};
use crate::model::conformer::Model;
use crate::model::conformer::encoder::Shared;
use crate::model::conformer::plan::{Buffers, Plan};
use crate::parts::{copy, first, part_mut};
use crate::stream::Chunks;

/// How a session runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest utterance, in frames; `None` for the model's own `max_frames`. Less needs a smaller
    /// arena.
    pub max_frames: Option<usize>,
    /// Attend as a [`Stream`](crate::stream::Stream) in such chunks does, to the bit; `None` for the model's own
    /// reach, mostly the whole utterance.
    pub chunks: Option<Chunks>,
    /// The matrix kernels. Which ones changes the speed, never the logits.
    pub kernels: &'static dyn Kernels,
}

impl Default for Options {
    /// The model's longest utterance, the fastest kernels of this machine.
    fn default() -> Self {
        Options {
            max_frames: None,
            chunks: None,
            kernels: kernels::detect(),
        }
    }
}

/// One utterance at a time through one model, in the caller's memory. Allocates nothing.
#[derive(Debug)]
pub struct Session<'s> {
    model: &'s Model<'s>,
    shared: Shared<'static>,
    buffers: Buffers<'s>,
    max_frames: usize,
    /// Crops pushed.
    pushed: usize,
    /// Frames that have been through the front-end.
    ready: usize,
    /// Frames whose logits are in the buffer.
    encoded: usize,
    /// What this utterance is made of, from its first push on.
    input: Input,
    finished: bool,
}

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Crops,
    Features,
}

impl<'s> Session<'s> {
    /// A session for utterances of at most `options.max_frames` frames, in `arena`, whose content
    /// does not matter. Fills the position tables, which takes about as long as encoding as many
    /// frames.
    ///
    /// # Errors
    /// An arena of less than [`Model::arena_bytes`] (with `chunks`: [`arena_bytes`](Self::arena_bytes)), `chunks` out
    /// of range, or `max_frames` of 0 or over the model's.
    pub fn new(
        model: &'s Model<'s>,
        arena: &'s mut [u8],
        options: Options,
    ) -> Result<Self, SessionError> {
        let most = model.max_frames();
        let max_frames = options.max_frames.unwrap_or(most);
        if !(1..=most).contains(&max_frames) {
            return Err(SessionError::MaxFrames { most });
        }
        let mask = match &options.chunks {
            None => model.dims.mask(max_frames),
            Some(chunks) => chunks.mask(model).ok_or(SessionError::Chunks)?,
        };
        let plan = Plan::utterance(&model.dims, mask, max_frames);
        let too_small = SessionError::Arena {
            given: arena.len(),
            needed: plan.bytes().unwrap_or(usize::MAX),
        };
        let buffers = plan.carve(arena).ok_or(too_small)?;
        let mut session = Session {
            model,
            shared: model.shared(options.kernels, mask),
            buffers,
            max_frames,
            pushed: 0,
            ready: 0,
            encoded: 0,
            input: Input::Crops,
            finished: false,
        };
        model.fill_positions(&session.shared, &mut session.buffers);
        Ok(session)
    }

    /// Bytes of an arena for a session with these options; `None` for options that [`new`](Self::new) refuses.
    pub fn arena_bytes(model: &Model<'_>, options: &Options) -> Option<usize> {
        let frames = options.max_frames.unwrap_or(model.max_frames());
        let mask = match &options.chunks {
            None => model.dims.mask(frames),
            Some(chunks) => chunks.mask(model)?,
        };
        Plan::utterance(&model.dims, mask, frames).bytes()
    }

    /// Takes the next mouth crop: [`Model::crop_side`] squared grey values, row by row, taken at
    /// `timestamp_us`. Crops come at the model's frame rate.
    ///
    /// # Errors
    /// See [`PushError`]; the session then stays as it was.
    pub fn push_crop(&mut self, crop: &[u8], timestamp_us: u64) -> Result<(), PushError> {
        let want = self.model.dims.crop_len();
        if crop.len() != want {
            let got = crop.len();
            return Err(PushError::Size { got, want });
        }
        self.begin_push(Input::Crops, timestamp_us)?;
        let slot = self.pushed % self.model.dims.stack.max(1);
        copy(crop, part_mut(self.buffers.crops, slot * want, want));
        self.end_push(timestamp_us);
        self.run_frontend(self.pushed.saturating_sub(self.model.dims.stack / 2));
        Ok(())
    }

    /// Takes the next frame as the vector that a front-end made of it, `d_model` values, instead of a crop: for
    /// another front-end than the model's, and for measuring the encoder by itself.
    ///
    /// # Errors
    /// See [`PushError`]; the session then stays as it was.
    pub fn push_features(&mut self, features: &[f32], timestamp_us: u64) -> Result<(), PushError> {
        let want = self.model.dims.d;
        if features.len() != want {
            let got = features.len();
            return Err(PushError::Width { got, want });
        }
        self.begin_push(Input::Features, timestamp_us)?;
        let row = part_mut(self.buffers.features, self.pushed * want, want);
        copy(features, row);
        self.end_push(timestamp_us);
        self.ready = self.pushed;
        Ok(())
    }

    /// Says that the utterance is complete: its last frames, which wait for neighbours that will not
    /// come, are worked on with the last crop in their place.
    pub fn finish(&mut self) {
        self.finished = true;
        self.run_frontend(self.pushed);
    }

    /// Logits of the frames that are ready, [`frames`](Self::frames) rows of
    /// [`Model::vocabulary`] values, before any softmax.
    ///
    /// Runs the encoder if frames came since the last call. Before [`finish`](Self::finish) the
    /// result is provisional: frames to come change it as far as attention looks ahead.
    pub fn logits(&mut self) -> &[f32] {
        if self.encoded != self.ready {
            self.encode();
        }
        self.rows()
    }

    /// The residual stream behind the last block, from which the last [`logits`](Self::logits) were made, a row a frame: for
    /// measuring the encoder by itself.
    #[cfg(feature = "testing")]
    pub fn encoded(&self) -> &[f32] {
        first(self.buffers.stream, self.encoded * self.shared.d)
    }

    /// [`logits`](Self::logits), and the timestamp of each row in microseconds.
    pub fn timed_logits(&mut self) -> (&[f32], &[u64]) {
        self.logits();
        (self.rows(), first(self.buffers.times, self.ready))
    }

    /// Frames that [`logits`](Self::logits) has rows for: all that were pushed once the utterance is
    /// finished, fewer before by as many as the front-end waits for.
    pub fn frames(&self) -> usize {
        self.ready
    }

    /// Most frames the session holds.
    pub fn max_frames(&self) -> usize {
        self.max_frames
    }

    /// Timestamps of the pushed crops, in microseconds; the i-th row of logits belongs to the i-th.
    pub fn timestamps(&self) -> &[u64] {
        first(self.buffers.times, self.pushed)
    }

    /// The model.
    pub fn model(&self) -> &'s Model<'s> {
        self.model
    }

    /// Forgets the utterance; the next push begins a new one.
    pub fn reset(&mut self) {
        (self.pushed, self.ready, self.encoded) = (0, 0, 0);
        self.finished = false;
    }

    /// Whether a frame of this kind may follow.
    fn begin_push(&mut self, input: Input, timestamp_us: u64) -> Result<(), PushError> {
        if self.finished {
            return Err(PushError::Finished);
        }
        if self.pushed == self.max_frames {
            return Err(PushError::Full {
                max_frames: self.max_frames,
            });
        }
        match self.timestamps().last() {
            None => self.input = input,
            Some(_) if self.input != input => return Err(PushError::Mixed),
            Some(&last) if timestamp_us < last => {
                return Err(PushError::Backwards { timestamp_us });
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn end_push(&mut self, timestamp_us: u64) {
        if let Some(time) = self.buffers.times.get_mut(self.pushed) {
            *time = timestamp_us;
        }
        self.pushed += 1;
    }

    /// Brings frames up to `end` through the front-end.
    fn run_frontend(&mut self, end: usize) {
        while self.ready < end {
            let (t, last) = (self.ready, self.pushed - 1);
            self.model
                .see(self.shared.kernels, &mut self.buffers, t, last, t);
            self.ready += 1;
        }
    }

    /// The rows of logits of the frames that are ready, once they are computed.
    fn rows(&self) -> &[f32] {
        let len = self.ready * self.model.vocabulary();
        first(self.buffers.logits, len)
    }

    fn encode(&mut self) {
        self.model
            .encode(&self.shared, &mut self.buffers, 0, self.ready);
        self.encoded = self.ready;
    }
}

/// Why a session could not be opened. `Display` is one line for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// The arena is too small.
    Arena {
        /// Its size in bytes.
        given: usize,
        /// The size it should have.
        needed: usize,
    },
    /// Chunks of no frame or too many, or a left context that is too long.
    Chunks,
    /// `max_frames` is 0 or over the model's.
    MaxFrames {
        /// The model's.
        most: usize,
    },
}

/// Why a frame was not taken. `Display` is one line for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// The crop is not of the model's size.
    Size {
        /// Values given.
        got: usize,
        /// Values wanted.
        want: usize,
    },
    /// The vector is not of the encoder's width.
    Width {
        /// Values given.
        got: usize,
        /// Values wanted.
        want: usize,
    },
    /// Crops and vectors in one utterance.
    Mixed,
    /// The utterance is as long as the session allows.
    Full {
        /// Frames the session holds.
        max_frames: usize,
    },
    /// The utterance was finished.
    Finished,
    /// The timestamp is before the last one.
    Backwards {
        /// The timestamp.
        timestamp_us: u64,
    },
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Arena { given, needed } => {
                write!(
                    f,
                    "the arena has {given} bytes, the session needs {needed}; give it more"
                )
            }
            SessionError::Chunks => f.write_str(crate::stream::CHUNK_LIMITS),
            SessionError::MaxFrames { most } => {
                write!(
                    f,
                    "the model takes utterances of 1 to {most} frames; ask for no others"
                )
            }
        }
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Size { got, want } => {
                write!(
                    f,
                    "the mouth crop has {got} pixels, the model wants {want}; crop to its size"
                )
            }
            PushError::Width { got, want } => {
                write!(
                    f,
                    "the vector has {got} values, the encoder takes {want}; use the front-end of this model"
                )
            }
            PushError::Mixed => {
                write!(
                    f,
                    "the utterance began with the other kind of frame; push crops or vectors, not both"
                )
            }
            PushError::Full { max_frames } => {
                write!(
                    f,
                    "the utterance is longer than {max_frames} frames; cut it into shorter clips"
                )
            }
            PushError::Finished => {
                write!(
                    f,
                    "the utterance was finished; reset the session before the next one"
                )
            }
            PushError::Backwards { timestamp_us } => {
                write!(
                    f,
                    "the frame at {timestamp_us} us is earlier than the one before it; sort the frames by time"
                )
            }
        }
    }
}

impl core::error::Error for SessionError {}

impl core::error::Error for PushError {}
