//! A stream: mouth crops in without end, logits out chunk by chunk, in constant time and memory.
//!
//! Frames are worked on in chunks. A chunk's frames attend to each other and to a limited number of frames before
//! them, whose keys and values are kept as int8; the depthwise convolution, which must be causal, keeps what it needs
//! of the past. So nothing is computed twice, and a frame waits for at most a chunk ([`Chunks::look_ahead`]).
//!
//! The logits are, bit for bit, those that a [`Session`](crate::session::Session) with the same [`Chunks`] computes
//! over the whole clip.
//!
//! ```no_run
//! # fn demo(file: &[u8], crops: impl Iterator<Item = (Vec<u8>, u64)>) -> Result<(), Box<dyn core::error::Error>> {
//! use viseme_engine::model::conformer::Model;
//! use viseme_engine::stream::{Options, Stream};
//!
//! let model = Model::open(file)?;
//! let options = Options::default();
//! let mut arena = vec![0; Stream::arena_bytes(&model, &options)?];
//! let mut stream = Stream::new(&model, &mut arena, options)?;
//! for (crop, timestamp_us) in crops {
//!     for row in stream.push_crop(&crop, timestamp_us)?.chunks(model.vocabulary()) {
//!         println!("{row:?}");
//!     }
//! }
//! println!("{:?}", stream.finish());
//! # Ok(())
//! # }
//! ```

use core::fmt;

use crate::kernels::attention::Mask;
use crate::kernels::{self, Kernels};
use crate::model::conformer::encoder::Shared;
use crate::model::conformer::plan::{Buffers, Plan};
use crate::model::conformer::{MAX_ARENA, Model};
use crate::parts::{copy, first, part_mut};
use crate::session::PushError;

/// Longest chunk, in frames.
pub const MAX_CHUNK: usize = 32;

/// Longest left context, in frames: the longest utterance of the format.
pub const MAX_LEFT: usize = 8192;

/// What to do about [`Chunks`] out of range.
pub(crate) const CHUNK_LIMITS: &str = "a chunk has at most 32 frames, the context before it at most 8192; choose less look-ahead or context";

/// How a stream is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// Most frames that a frame's logits wait for, counting itself: the size of a chunk. 0 and 1 mean that every frame
    /// is worked on as it comes.
    pub look_ahead: usize,
    /// Frames before a chunk that it attends to; `None` for the model's `att_left`, or 64 where that is unlimited.
    pub left: Option<usize>,
}

impl Default for Chunks {
    /// 8 frames, the model's context.
    fn default() -> Self {
        Chunks {
            look_ahead: 8,
            left: None,
        }
    }
}

impl Chunks {
    /// Frames of a chunk.
    pub fn size(&self) -> usize {
        self.look_ahead.max(1)
    }

    /// `None` if they are out of range.
    pub(crate) fn mask(&self, model: &Model<'_>) -> Option<Mask> {
        let (size, left) = (self.size(), self.left.unwrap_or(model.dims.stream_left()));
        (size <= MAX_CHUNK && left <= MAX_LEFT).then_some(Mask::Chunks { size, left })
    }
}

/// How a stream runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How it is cut up.
    pub chunks: Chunks,
    /// The matrix kernels. Which ones changes the speed, never the logits.
    pub kernels: &'static dyn Kernels,
}

impl Default for Options {
    /// Chunks of 8 frames, the fastest kernels of this machine.
    fn default() -> Self {
        Options {
            chunks: Chunks::default(),
            kernels: kernels::detect(),
        }
    }
}

/// One stream of frames through one model, in the caller's memory. Allocates nothing.
#[derive(Debug)]
pub struct Stream<'s> {
    model: &'s Model<'s>,
    shared: Shared<'static>,
    buffers: Buffers<'s>,
    size: usize,
    left: usize,
    at: At,
}

/// How far a stream is, in frames from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct At {
    /// Frames pushed.
    pushed: usize,
    /// Frames that have been through the front-end.
    seen: usize,
    /// Frames whose logits have been computed.
    done: usize,
    /// Frames of the last chunk, the last of those that are done.
    last: usize,
    /// Timestamp of the last push.
    time: u64,
    /// 1 for crops, 2 for vectors, 0 before the first push.
    input: usize,
    finished: bool,
}

const CROPS: usize = 1;
const FEATURES: usize = 2;

impl<'s> Stream<'s> {
    /// Bytes of an arena for a stream, at any address.
    ///
    /// # Errors
    /// A model that cannot be streamed, options out of range.
    pub fn arena_bytes(model: &Model<'_>, options: &Options) -> Result<usize, StreamError> {
        let (size, left) = checked(model, options)?;
        let bytes = Plan::stream(&model.dims, size, left).bytes();
        bytes
            .filter(|&bytes| bytes <= MAX_ARENA)
            .ok_or(StreamError::Chunks)
    }

    /// A stream in `arena`, whose content does not matter. Fills the position tables.
    ///
    /// # Errors
    /// As [`arena_bytes`](Self::arena_bytes), and an arena of fewer bytes than that.
    pub fn new(
        model: &'s Model<'s>,
        arena: &'s mut [u8],
        options: Options,
    ) -> Result<Self, StreamError> {
        let (size, left) = checked(model, &options)?;
        let too_small = StreamError::Arena {
            given: arena.len(),
            needed: Self::arena_bytes(model, &options)?,
        };
        let plan = Plan::stream(&model.dims, size, left);
        let mut stream = Stream {
            model,
            shared: model.shared(options.kernels, Mask::Chunks { size, left }),
            buffers: plan.carve(arena).ok_or(too_small)?,
            size,
            left,
            at: At::default(),
        };
        model.fill_positions(&stream.shared, &mut stream.buffers);
        stream.reset();
        Ok(stream)
    }

    /// Takes the next mouth crop: [`Model::crop_side`] squared grey values, row by row, taken at `timestamp_us`. Crops
    /// come at the model's frame rate. Returns the logits of a chunk when it completes one, otherwise none: rows of
    /// [`Model::vocabulary`] values, before any softmax.
    ///
    /// # Errors
    /// See [`PushError`]; the stream then stays as it was.
    pub fn push_crop(&mut self, crop: &[u8], timestamp_us: u64) -> Result<&[f32], PushError> {
        let want = self.model.dims.crop_len();
        if crop.len() != want {
            let got = crop.len();
            return Err(PushError::Size { got, want });
        }
        self.begin(CROPS, timestamp_us)?;
        let slot = self.at.pushed % self.model.dims.stack.max(1);
        copy(crop, part_mut(self.buffers.crops, slot * want, want));
        self.end(timestamp_us);
        Ok(self.advance(self.at.pushed.saturating_sub(self.model.dims.stack / 2)))
    }

    /// Takes the next frame as the vector that a front-end made of it, `d_model` values, instead of a crop. Returns what
    /// [`push_crop`](Self::push_crop) does.
    ///
    /// # Errors
    /// See [`PushError`]; the stream then stays as it was.
    pub fn push_features(
        &mut self,
        features: &[f32],
        timestamp_us: u64,
    ) -> Result<&[f32], PushError> {
        let want = self.model.dims.d;
        if features.len() != want {
            let got = features.len();
            return Err(PushError::Width { got, want });
        }
        self.begin(FEATURES, timestamp_us)?;
        let row = self.at.pushed - self.at.done;
        copy(features, part_mut(self.buffers.features, row * want, want));
        self.end(timestamp_us);
        self.at.seen = self.at.pushed;
        Ok(self.advance(self.at.pushed))
    }

    /// Says that no frame will follow, and returns the logits of the frames that still waited for a whole chunk: at most
    /// one chunk, and, if the front-end waits for neighbours, as many frames more.
    pub fn finish(&mut self) -> Rest<'_, 's> {
        self.at.finished = true;
        Rest { stream: self }
    }

    /// Logits of the last chunk, [`frames`](Self::frames) rows.
    pub fn logits(&self) -> &[f32] {
        let len = self.at.last * self.model.vocabulary();
        first(self.buffers.logits, len)
    }

    /// The residual stream behind the last block, from which [`logits`](Self::logits) were made, a row a frame: for measuring
    /// the encoder by itself.
    #[cfg(feature = "testing")]
    pub fn encoded(&self) -> &[f32] {
        first(self.buffers.stream, self.at.last * self.shared.d)
    }

    /// Frames of the last chunk.
    pub fn frames(&self) -> usize {
        self.at.last
    }

    /// Frames whose logits have been returned since the stream began, the last chunk's among them.
    pub fn done(&self) -> usize {
        self.at.done
    }

    /// When the `row`-th frame of the last chunk was taken, in microseconds.
    pub fn timestamp(&self, row: usize) -> Option<u64> {
        let frame = (self.at.done - self.at.last).checked_add(row)?;
        let times = &self.buffers.times;
        let time = times.get(frame % times.len().max(1));
        time.filter(|_| row < self.at.last).copied()
    }

    /// The model.
    pub fn model(&self) -> &'s Model<'s> {
        self.model
    }

    /// Frames of a chunk.
    pub fn chunk(&self) -> usize {
        self.size
    }

    /// Forgets everything; the next push begins a new stream.
    pub fn reset(&mut self) {
        self.at = At::default();
    }

    /// Bytes of a saved state.
    pub fn state_bytes(&self) -> usize {
        let state = self.buffers.state().map(<[u8]>::len).sum::<usize>();
        HEADER + state
    }

    /// Writes the state into `to`, [`state_bytes`](Self::state_bytes) long: what a stream of the same model and options
    /// needs to go on from here, on any machine of the same byte order.
    ///
    /// # Errors
    /// A slice of another length.
    pub fn save(&self, to: &mut [u8]) -> Result<(), StreamError> {
        let want = self.state_bytes();
        if to.len() != want {
            let got = to.len();
            return Err(StreamError::StateSize { got, want });
        }
        let (header, mut rest) = to.split_at_mut_checked(HEADER).unwrap_or_default();
        let words = header.as_chunks_mut::<8>().0.iter_mut();
        words
            .zip(self.header())
            .for_each(|(to, word)| *to = word.to_le_bytes());
        for part in self.buffers.state() {
            let (front, back) = rest.split_at_mut_checked(part.len()).unwrap_or_default();
            copy(part, front);
            rest = back;
        }
        Ok(())
    }

    /// Goes on from a state that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// Bytes of another length, or of another model, other options or no state at all; the stream then stays as it was.
    pub fn restore(&mut self, from: &[u8]) -> Result<(), StreamError> {
        let want = self.state_bytes();
        if from.len() != want {
            let got = from.len();
            return Err(StreamError::StateSize { got, want });
        }
        let (header, mut rest) = from.split_at_checked(HEADER).unwrap_or_default();
        let mut words = [0u64; HEADER / 8];
        let bytes = header.as_chunks::<8>().0;
        words
            .iter_mut()
            .zip(bytes)
            .for_each(|(word, &bytes)| *word = u64::from_le_bytes(bytes));
        let at = self.at_from(words).ok_or(StreamError::State)?;
        for part in self.buffers.state_mut() {
            let (front, back) = rest.split_at_checked(part.len()).unwrap_or_default();
            copy(front, part);
            rest = back;
        }
        self.at = at;
        Ok(())
    }

    fn begin(&mut self, input: usize, timestamp_us: u64) -> Result<(), PushError> {
        if self.at.finished {
            return Err(PushError::Finished);
        }
        if self.at.input != 0 && self.at.input != input {
            return Err(PushError::Mixed);
        }
        if timestamp_us < self.at.time {
            return Err(PushError::Backwards { timestamp_us });
        }
        self.at.input = input;
        Ok(())
    }

    fn end(&mut self, timestamp_us: u64) {
        let slot = self.at.pushed % self.buffers.times.len().max(1);
        if let Some(time) = self.buffers.times.get_mut(slot) {
            *time = timestamp_us;
        }
        self.at.time = timestamp_us;
        self.at.pushed += 1;
    }

    /// Brings frames up to `end` through the front-end, until a chunk is complete; then runs that.
    fn advance(&mut self, end: usize) -> &[f32] {
        let whole = self.at.done + self.size;
        while self.at.seen < end.min(whole) {
            let (t, last) = (self.at.seen, self.at.pushed - 1);
            let row = t - self.at.done;
            self.model
                .see(self.shared.kernels, &mut self.buffers, t, last, row);
            self.at.seen += 1;
        }
        let waiting = self.at.seen - self.at.done;
        let complete = waiting == self.size || (self.at.finished && waiting > 0);
        if !complete {
            return &[];
        }
        self.model
            .encode(&self.shared, &mut self.buffers, self.at.done, waiting);
        self.at.done += waiting;
        self.at.last = waiting;
        self.logits()
    }

    fn header(&self) -> [u64; HEADER / 8] {
        let at = &self.at;
        let counts = [at.pushed, at.seen, at.done, at.last, at.input];
        let [pushed, seen, done, last, input] = counts.map(|n| n as u64);
        let cut = (self.size as u64) << 32 | self.left as u64;
        let finished = u64::from(at.finished);
        [
            STATE,
            self.model.identity(),
            cut,
            pushed,
            seen,
            done,
            last,
            at.time,
            input << 1 | finished,
        ]
    }

    /// Checks a header: whoever wrote it, no later step may leave its buffers.
    fn at_from(&self, words: [u64; HEADER / 8]) -> Option<At> {
        let own = self.header();
        if words[..3] != own[..3] {
            return None;
        }
        let [_, _, _, pushed, seen, done, last, time, input] = words;
        let count = |n: u64| usize::try_from(n).ok().filter(|&n| n < usize::MAX / 2);
        let at = At {
            pushed: count(pushed)?,
            seen: count(seen)?,
            done: count(done)?,
            last: count(last)?,
            time,
            input: count(input >> 1)?,
            finished: input & 1 == 1,
        };
        let around = if at.input == FEATURES {
            0
        } else {
            self.model.dims.stack / 2
        };
        let holds = at.last <= at.done.min(self.size)
            && at.done <= at.seen
            && at.seen - at.done < self.size
            && at.seen <= at.pushed
            && at.pushed - at.seen <= around
            && at.input <= FEATURES
            && (at.input == 0) == (at.pushed == 0);
        holds.then_some(at)
    }
}

/// The last chunks of a stream, see [`Stream::finish`].
#[derive(Debug)]
pub struct Rest<'r, 's> {
    stream: &'r mut Stream<'s>,
}

impl Rest<'_, '_> {
    /// The next chunk's logits; empty when there is none.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> &[f32] {
        self.stream.advance(self.stream.at.pushed)
    }

    /// The stream, to ask it for timestamps.
    pub fn stream(&self) -> &Stream<'_> {
        self.stream
    }
}

/// Bytes before the saved memory: a mark, the model, the chunks, and how far the stream was.
const HEADER: usize = 9 * 8;
/// "VISEMES1".
const STATE: u64 = u64::from_le_bytes(*b"VISEMES1");

fn checked(model: &Model<'_>, options: &Options) -> Result<(usize, usize), StreamError> {
    if !model.dims.causal() {
        return Err(StreamError::NotCausal);
    }
    if !model.dims.int8 {
        return Err(StreamError::NotQuantised);
    }
    match options.chunks.mask(model) {
        Some(Mask::Chunks { size, left }) => Ok((size, left)),
        _ => Err(StreamError::Chunks),
    }
}

/// Why a stream could not be opened, saved or restored. `Display` is one line for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The arena is too small.
    Arena {
        /// Its size in bytes.
        given: usize,
        /// The size it should have.
        needed: usize,
    },
    /// The model's convolutions look at later frames.
    NotCausal,
    /// The model has f32 weights.
    NotQuantised,
    /// Chunks or context out of range.
    Chunks,
    /// A saved state is of another length.
    StateSize {
        /// Bytes given.
        got: usize,
        /// Bytes wanted.
        want: usize,
    },
    /// A saved state is of another model or other options, or damaged.
    State,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Arena { given, needed } => write!(
                f,
                "the arena has {given} bytes, the stream needs {needed}; give it more"
            ),
            StreamError::NotCausal => f.write_str(
                "the model looks at later frames (conv_left is less than conv_kernel - 1); read whole clips with it, or train one for streams",
            ),
            StreamError::NotQuantised => {
                f.write_str("the model has f32 weights; quantise it for streams")
            }
            StreamError::Chunks => f.write_str(CHUNK_LIMITS),
            StreamError::StateSize { got, want } => write!(
                f,
                "the saved state has {got} bytes, this stream's has {want}; restore it with the model and options it was saved with"
            ),
            StreamError::State => f.write_str(
                "the saved state is damaged or of another model or other options; begin the stream anew",
            ),
        }
    }
}

impl core::error::Error for StreamError {}
