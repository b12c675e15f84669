//! Models of every architecture that is exported, with random weights, and what our engine makes of them: for
//! comparing other engines with it (feature `testing`).

use viseme_engine::kernels::detect;
use viseme_engine::model::auto_avsr;
use viseme_engine::model::conformer::Model;
use viseme_engine::preprocess::crop::normalise;
use viseme_engine::session::{Options, Session};
use viseme_engine::testing::{self, REFERENCE, Size, TINY};
use viseme_format::spec::auto_avsr::{
    AutoAvsr, Branch, CROP, FRAME_SAMPLES, Fusion, FusionNorm, Positions, TransformerDecoder, Trunk,
};
use viseme_format::spec::{Activation, Conformer, Family, Tokens, Weights};

use crate::{Chunks, HIDDEN, Input, Part};

/// Something to run: a model, what of it, and what goes in.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// The model file.
    pub model: Vec<u8>,
    /// What is exported of it.
    pub part: Part,
    /// Crops or features of all frames, row by row; of a [`Part::Step`] those of all chunks.
    pub input: Vec<f32>,
}

type Change = fn(&mut Conformer<'_>);

const CENTRED: Change = |_| {};
const CAUSAL: Change = |c| c.encoder.conv_left = c.encoder.conv_kernel - 1;
const LIMITED: Change = |c| {
    (c.encoder.att_left, c.encoder.att_right) = (4, 1);
    c.encoder.ff_activation = Activation::Relu;
    c.frontend.frames = 1;
};
const WIDE: Change = |c| c.frontend.frames = 5;

/// Whole utterances, from crops and from features, of models that differ in everything that a model file can say. The
/// weights of all precisions are the same before rounding.
pub fn utterances(weights: Weights) -> Vec<Case> {
    let features = |frames| Part::Encoder {
        frames,
        chunks: None,
    };
    let crops = |frames| Part::Whole { frames };
    let cases: [(&str, Size, Change, Part); 9] = [
        ("tiny", TINY, CENTRED, features(19)),
        ("tiny-causal", TINY, CAUSAL, features(19)),
        ("tiny-limited", TINY, LIMITED, features(19)),
        ("tiny-one", TINY, CENTRED, features(1)),
        ("tiny-crops", TINY, CENTRED, crops(7)),
        ("tiny-limited-crops", TINY, LIMITED, crops(7)),
        ("tiny-wide-crops", TINY, WIDE, crops(2)),
        ("reference", REFERENCE, CENTRED, features(64)),
        ("reference-crops", REFERENCE, CAUSAL, crops(8)),
    ];
    let cases = cases.map(|(name, size, change, part)| {
        Case::new(name, &size, weights, change, part, part.frames())
    });
    cases.into()
}

/// Utterances of models of Auto-AVSR in f32: pictures, sound and both, with everything that such a model file can say.
pub fn auto_avsr() -> Vec<Case> {
    let [silu, prelu] =
        [(Trunk::Silu, 24, 3), (Trunk::Prelu, 16, 2)].map(|(trunk, d_model, heads)| Branch {
            width: 4,
            trunk,
            d_model,
            heads,
            ff: 40,
            blocks: 2,
            conv_kernel: 5,
            positions: match trunk {
                Trunk::Silu => Positions::Latest,
                Trunk::Prelu => Positions::Legacy,
            },
        });
    let fusion = |norm| Some(Fusion { hidden: 20, norm });
    let cases = [
        ("video", Some(silu), None, None, 9),
        ("video-legacy", Some(prelu), None, None, 6),
        ("video-one", Some(silu), None, None, 1),
        ("audio", None, Some(prelu), None, 9),
        ("audio-silu", None, Some(silu), None, 3),
        ("both", Some(silu), Some(prelu), fusion(FusionNorm::None), 7),
        (
            "both-batch",
            Some(prelu),
            Some(silu),
            fusion(FusionNorm::Batch),
            7,
        ),
        (
            "both-layer",
            Some(silu),
            Some(silu),
            fusion(FusionNorm::Layer),
            7,
        ),
    ];
    let case = |(name, video, audio, fusion, frames): (
        &'static str,
        Option<Branch>,
        Option<Branch>,
        _,
        usize,
    )| {
        let d_model = video.or(audio).map_or(0, |branch| branch.d_model);
        let of = AutoAvsr {
            crop: CROP,
            video,
            audio,
            fusion,
            decoder: TransformerDecoder {
                d_model,
                heads: 2,
                ff: 12,
                blocks: 1,
            },
            max_frames: 64,
            tokens: Tokens::from(&testing::TOKENS[..11]),
        };
        let mut input = Vec::new();
        if video.is_some() {
            let crops = testing::crops(7, frames, CROP.size as usize);
            input.extend(crops.into_iter().map(f32::from));
        }
        if audio.is_some() {
            input.extend(testing::features(7, frames, FRAME_SAMPLES as usize));
        }
        let model = testing::model(&testing::auto_avsr_spec(of, Weights::F32), 3);
        Case {
            name,
            model: model.expect("a model"),
            part: Part::Whole { frames },
            input,
        }
    };
    cases.map(case).into()
}

/// Streams in f32: an encoder that sees what a stream does, and the same encoder in steps. Both have the same logits.
pub fn streams() -> Vec<[Case; 2]> {
    // Chunk, left context, frames; the last has a left context that is no multiple of its chunk.
    let cases: [([&str; 2], Size, [usize; 3]); 5] = [
        (["tiny-chunks", "tiny-steps"], TINY, [4, 8, 28]),
        (
            ["tiny-single-chunks", "tiny-single-steps"],
            TINY,
            [1, 5, 12],
        ),
        (["tiny-none-chunks", "tiny-none-steps"], TINY, [3, 0, 9]),
        (
            ["reference-chunks", "reference-steps"],
            REFERENCE,
            [8, 64, 96],
        ),
        (
            ["reference-odd-chunks", "reference-odd-steps"],
            REFERENCE,
            [8, 19, 48],
        ),
    ];
    let pair =
        |([whole, steps], size, [chunk, left, frames]): ([&'static str; 2], Size, [usize; 3])| {
            let chunks = Chunks {
                frames: chunk,
                left,
            };
            let encoder = Part::Encoder {
                frames,
                chunks: Some(chunks),
            };
            let step = Part::Step {
                frames: chunk,
                left,
            };
            [(whole, encoder), (steps, step)]
                .map(|(name, part)| Case::new(name, &size, Weights::F32, CAUSAL, part, frames))
        };
    cases.map(pair).into()
}

/// The case `tiny-single-steps` as a model that sees no more than its steps do, whole.
pub fn single_steps_whole() -> Case {
    let seen: Change = |c| {
        CAUSAL(c);
        (c.encoder.att_left, c.encoder.att_right) = (5, 0);
    };
    let part = Part::Encoder {
        frames: 12,
        chunks: None,
    };
    Case::new("tiny-single", &TINY, Weights::F32, seen, part, 12)
}

impl Case {
    fn new(
        name: &'static str,
        size: &Size,
        weights: Weights,
        change: Change,
        part: Part,
        frames: usize,
    ) -> Self {
        let mut spec = testing::spec(size, weights);
        if let Family::Conformer(conformer) = &mut spec.family {
            change(conformer);
        }
        let input = match part {
            Part::Whole { .. } => {
                let crops = testing::crops(7, frames, 88);
                crops.into_iter().map(f32::from).collect()
            }
            Part::Encoder { .. } | Part::Step { .. } => {
                testing::features(7, frames, size.d_model as usize)
            }
        };
        Case {
            name,
            model: testing::model(&spec, 3).expect("a model"),
            part,
            input,
        }
    }

    /// What our engine's encoder gives of a model of [`auto_avsr`].
    ///
    /// # Panics
    /// If the input is not what the model reads.
    pub fn memory(&self) -> Vec<f32> {
        let model = auto_avsr::Model::open(&self.model).expect("a model");
        let spec = model.auto_avsr().expect("a model of Auto-AVSR");
        let pixels = spec.video.map_or(0, |_| {
            self.part.frames() * (spec.crop.size * spec.crop.size) as usize
        });
        let (video, audio) = self.input.split_at(pixels);
        let normal = |&grey: &f32| normalise(grey as u8, spec.crop.mean, spec.crop.std);
        let video: Vec<f32> = video.iter().map(normal).collect();
        let input = auto_avsr::Input {
            video: spec.video.map(|_| &video[..]),
            audio: spec.audio.map(|_| audio),
        };
        model.encode(detect(), &input, None).expect("an utterance")
    }

    /// Logits of our engine, which sees the input as one utterance, with the context that the model was made for.
    ///
    /// # Panics
    /// If the input is not what the model reads.
    pub fn engine(&self) -> Vec<f32> {
        let model = Model::open(&self.model).expect("a model");
        let mut arena = vec![0; model.arena_bytes(model.max_frames())];
        let mut session = Session::new(&model, &mut arena, Options::default()).expect("a session");
        if let Part::Whole { frames } = self.part {
            let crops: Vec<u8> = self.input.iter().map(|&grey| grey as u8).collect();
            for crop in crops.chunks(crops.len() / frames) {
                session.push_crop(crop, 0).expect("a crop");
            }
        } else {
            for row in self.input.chunks(self.width()) {
                session.push_features(row, 0).expect("features");
            }
        }
        session.finish();
        session.logits().to_vec()
    }

    /// Logits of another engine, given what it makes of a file's inputs, all in the file's order; steps one after the
    /// other, each with the caches that the one before it returned.
    ///
    /// # Errors
    /// The engine's own.
    pub fn run<E>(
        &self,
        mut engine: impl FnMut(&[Input]) -> Result<Vec<Vec<f32>>, E>,
    ) -> Result<Vec<f32>, E> {
        let model = Model::open(&self.model).expect("a model");
        let spec = model.spec().conformer().expect("a conformer");
        let input = |shape: &[usize], values: &[f32]| Input {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let (frames, left) = match self.part {
            Part::Whole { frames } => {
                let side = spec.crop.size as usize;
                let outputs = engine(&[input(&[frames, side, side], &self.input)])?;
                return Ok(outputs.concat());
            }
            Part::Encoder { frames, .. } => {
                let mut outputs = engine(&[input(&[frames, self.width()], &self.input)])?;
                return Ok(outputs.swap_remove(0));
            }
            Part::Step { frames, left } => (frames, left),
        };
        let d = self.width();
        let rows = [left, left, spec.encoder.conv_kernel as usize - 1];
        let mut rows = rows.repeat(spec.encoder.blocks as usize);
        // What would be empty is no input.
        rows.retain(|&rows| rows > 0);
        let mut caches: Vec<Vec<f32>> = rows.iter().map(|rows| vec![0.0; rows * d]).collect();
        let mut logits = Vec::new();
        for (number, chunk) in self.input.chunks(frames * d).enumerate() {
            let mut inputs = vec![input(&[frames, d], chunk)];
            let cached = rows.iter().zip(&caches);
            inputs.extend(cached.map(|(rows, values)| input(&[*rows, d], values)));
            let unseen = left - left.min(number * frames);
            let mut mask = vec![0.0; left + frames];
            mask[..unseen].fill(HIDDEN);
            inputs.push(input(&[1, 1, left + frames], &mask));
            let mut outputs = engine(&inputs)?;
            logits.append(&mut outputs[0]);
            caches = outputs.split_off(1);
        }
        Ok(logits)
    }

    /// Elements of a row of features.
    fn width(&self) -> usize {
        let model = Model::open(&self.model).expect("a model");
        let spec = model.spec().conformer().expect("a conformer");
        spec.encoder.d_model as usize
    }
}
