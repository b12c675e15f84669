//! Whole utterances to sentences, with a model of Auto-AVSR: the counterpart of [`recognise`](crate::recognise) for models
//! that read with full context and have a decoder of their own.

use std::fmt;

use viseme_engine::decode::attention::{self, SearchError};
use viseme_engine::decode::{FrameTimes, TokenKind, Transcript, Vocabulary, VocabularyError, ctc};
use viseme_engine::kernels::Kernels;
use viseme_engine::model::auto_avsr::decoder::Decoding;
use viseme_engine::model::auto_avsr::{Input, InputError, Model};
use viseme_engine::model::conformer::LoadError;
use viseme_engine::preprocess::crop::{PATCH, centre, normalise};
use viseme_format::spec::auto_avsr::AutoAvsr;

/// Frames a second.
pub const FPS: f32 = 25.0;

/// Reads utterances with one model.
pub struct SentenceReader<'m> {
    model: &'m Model<'m>,
    kernels: &'m dyn Kernels,
    vocabulary: Vocabulary,
    options: attention::Options,
}

/// An utterance as it was perceived.
#[derive(Clone, Debug, Default)]
pub struct Utterance {
    /// Mouth crops at 25 frames a second, [frames, 96, 96].
    pub crops: Vec<u8>,
    /// Time of the first one, in microseconds of the source's clock.
    pub start_us: u64,
    /// Sound from time 0 of the source on, 16 kHz.
    pub samples: Vec<i16>,
}

impl<'m> SentenceReader<'m> {
    /// A reader that computes with these kernels and searches so.
    ///
    /// # Errors
    /// If the model's crops are not of 96 pixels, two of its tokens are the same, or it cannot be searched so.
    pub fn new(
        model: &'m Model<'m>,
        kernels: &'m dyn Kernels,
        options: attention::Options,
    ) -> Result<Self, SentenceError> {
        let of = model.auto_avsr()?;
        if of.crop.patch as usize != PATCH {
            return Err(SentenceError::Patch(of.crop.patch));
        }
        options.check(model.vocabulary())?;
        Ok(SentenceReader {
            vocabulary: vocabulary(of)?,
            model,
            kernels,
            options,
        })
    }

    /// What was said.
    ///
    /// # Errors
    /// If the utterance is empty, too long, or lacks what the model perceives.
    pub fn read(&self, utterance: &Utterance) -> Result<Transcript, SentenceError> {
        let of = self.model.auto_avsr()?;
        let video = of.video.map(|_| self.pictures(utterance, of));
        let audio = of.audio.map(|_| standardised(&utterance.samples));
        let input = Input {
            video: video.as_deref(),
            audio: audio.as_deref(),
        };
        let kernels = self.kernels;
        let memory = self.model.encode(kernels, &input, None)?;
        let logits = self.model.ctc(kernels, &memory);
        let width = self.model.vocabulary();
        let log_probs = ctc::log_probs(&logits, width).map_err(|_| SearchError::NotFinite)?;
        let mut decoding = Decoding::new(self.model, kernels, &memory, None);
        let found = attention::search(&mut decoding, &log_probs, width, &self.options)?;
        let times = FrameTimes::Regular {
            start_us: if of.video.is_some() {
                utterance.start_us
            } else {
                0
            },
            period_us: (1e6 / FPS) as u64,
        };
        let best = found.first().ok_or(SearchError::Empty)?;
        Ok(attention::transcript(
            best,
            &log_probs,
            &self.vocabulary,
            &times,
        ))
    }

    /// The centres of the crops, normalised.
    fn pictures(&self, utterance: &Utterance, of: &AutoAvsr<'_>) -> Vec<f32> {
        let side = of.crop.size as usize;
        let mut inner = vec![0; side * side];
        let mut out = Vec::with_capacity(utterance.crops.len() / (PATCH * PATCH) * inner.len());
        for patch in utterance.crops.chunks_exact(PATCH * PATCH) {
            centre(patch, PATCH, &mut inner, side);
            out.extend(
                inner
                    .iter()
                    .map(|&v| normalise(v, of.crop.mean, of.crop.std)),
            );
        }
        out
    }
}

/// The tokens of a model of Auto-AVSR.
///
/// # Errors
/// If two are the same.
pub fn vocabulary(of: &AutoAvsr<'_>) -> Result<Vocabulary, VocabularyError> {
    Vocabulary::new(TokenKind::Piece, of.tokens.iter())
}

/// Samples less their mean, over their standard deviation, as the original's layer norm of the whole utterance does.
fn standardised(samples: &[i16]) -> Vec<f32> {
    const EPS: f64 = 1e-8;
    let len = samples.len().max(1) as f64;
    let values = || samples.iter().map(|&v| f64::from(v) / 32_768.0);
    let mean = values().sum::<f64>() / len;
    let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / len;
    let scale = 1.0 / (variance + EPS).sqrt();
    values().map(|v| ((v - mean) * scale) as f32).collect()
}

/// Why an utterance was not read. `Display` is one line for the user.
#[derive(Debug)]
pub enum SentenceError {
    /// The model.
    Model(LoadError),
    /// Its tokens.
    Vocabulary(VocabularyError),
    /// Its crops have another size than those that are made here.
    Patch(u32),
    /// The utterance.
    Input(InputError),
    /// The search.
    Search(SearchError),
}

impl fmt::Display for SentenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SentenceError::Model(e) => e.fmt(f),
            SentenceError::Vocabulary(e) => e.fmt(f),
            SentenceError::Patch(side) => write!(
                f,
                "the model reads patches of {side} pixels, and those made here have {PATCH}; give another model"
            ),
            SentenceError::Input(e) => e.fmt(f),
            SentenceError::Search(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for SentenceError {}

macro_rules! from {
    ($($of:ty => $to:ident),*) => {$(
        impl From<$of> for SentenceError {
            fn from(error: $of) -> Self {
                SentenceError::$to(error)
            }
        }
    )*};
}

from!(LoadError => Model, VocabularyError => Vocabulary, InputError => Input, SearchError => Search);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_brought_to_mean_0_and_variance_1() {
        let samples: Vec<i16> = (0..1000).map(|i| (i % 7) * 1000 + 500).collect();
        let got = standardised(&samples);
        let mean = got.iter().sum::<f32>() / 1000.0;
        let variance = got.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / 1000.0;
        assert!(
            mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4,
            "{mean} {variance}"
        );
        assert_eq!(standardised(&[5; 10]), [0.0; 10]);
    }
}
