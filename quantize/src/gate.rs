//! The gate: a quantised model that reads worse than its f32 original is not written.

use std::fmt;

use anyhow::{Result, anyhow};
use viseme_corpus::crops::ClipCrops;
use viseme_corpus::recognise::{Evaluation, Recogniser, evaluate};
use viseme_engine::decode;
use viseme_engine::model::conformer::Model;
use viseme_engine::preprocess::crop::{PATCH, centre};
use viseme_engine::session::{Options, Session};
use viseme_format::spec::Weights;

/// Most points of word error rate that rounding may lose.
pub const LIMIT: f64 = 0.5;

/// Both models on the same clips, decoded greedily.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The model in full precision.
    pub original: Evaluation,
    /// The quantised one.
    pub quantised: Evaluation,
    /// How the quantised one stores its matrices.
    pub weights: Weights,
    /// Root of the summed squared difference of the logits over that of the f32 logits.
    pub relative_rms: f64,
}

impl Verdict {
    /// Whether the quantised model may be published.
    pub fn passes(&self) -> bool {
        self.quantised.wer <= self.original.wer + LIMIT
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WER on {} clips: f32 {:.2} %, {} {:.2} % (greedy); logits relative RMS error {:.4}",
            self.original.clips,
            self.original.wer,
            self.weights,
            self.quantised.wer,
            self.relative_rms
        )
    }
}

/// Measures both model files on `clips`.
pub fn compare(original: &[u8], quantised: &[u8], clips: &[ClipCrops]) -> Result<Verdict> {
    let open = |file| Model::open(file).map_err(|e| anyhow!("the engine refuses the model: {e}"));
    let (original, quantised) = (open(original)?, open(quantised)?);
    Ok(Verdict {
        relative_rms: relative_rms(&original, &quantised, clips)?,
        original: measure(&original, clips)?,
        quantised: measure(&quantised, clips)?,
        weights: quantised.spec().weights,
    })
}

fn measure(model: &Model<'_>, clips: &[ClipCrops]) -> Result<Evaluation> {
    let mut memory = Vec::new();
    let mut recogniser = Recogniser::new(model, &mut memory, decode::Options::default())?;
    Ok(evaluate(
        clips,
        |clip| recogniser.recognise(clip),
        |_, _| {},
    )?)
}

fn relative_rms(original: &Model<'_>, quantised: &Model<'_>, clips: &[ClipCrops]) -> Result<f64> {
    let (mut noise, mut signal) = (0.0f64, 0.0f64);
    for clip in clips {
        let reference = logits(original, clip)?;
        for (x, y) in reference.iter().zip(logits(quantised, clip)?) {
            signal += f64::from(*x).powi(2);
            noise += f64::from(x - y).powi(2);
        }
    }
    Ok((noise / signal.max(f64::MIN_POSITIVE)).sqrt())
}

/// Logits of a clip, or of the part of it that the model can take at once.
fn logits(model: &Model<'_>, clip: &ClipCrops) -> Result<Vec<f32>> {
    let frames = clip.frames().clamp(1, model.max_frames());
    let mut arena = vec![0; model.arena_bytes(frames)];
    let options = Options {
        max_frames: Some(frames),
        ..Options::default()
    };
    let mut session = Session::new(model, &mut arena, options)?;
    let mut crop = vec![0; model.crop_side() * model.crop_side()];
    for (t, patch) in clip
        .crops
        .chunks_exact(PATCH * PATCH)
        .take(frames)
        .enumerate()
    {
        centre(patch, PATCH, &mut crop, model.crop_side());
        session.push_crop(&crop, t as u64)?;
    }
    session.finish();
    Ok(session.logits().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_point_is_the_limit() {
        let evaluation = |wer| Evaluation {
            wer,
            cer: 0.0,
            clips: 1,
            words: 100,
            rtf: 0.1,
        };
        let passes = |original, quantised| {
            let verdict = Verdict {
                original: evaluation(original),
                quantised: evaluation(quantised),
                weights: Weights::Int8,
                relative_rms: 0.0,
            };
            verdict.passes()
        };
        assert!(passes(6.0, 6.5) && passes(6.0, 5.0) && passes(0.0, 0.0));
        assert!(!passes(6.0, 6.625) && !passes(0.0, 100.0));
        assert!(!passes(0.0, f64::NAN) && !passes(f64::NAN, 0.0));
    }
}
