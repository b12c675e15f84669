//! ResNet-18 front-ends (He et al., "Deep Residual Learning for Image Recognition", 2016): of pictures behind a 3-D
//! stem (Stafylakis and Tzimiropoulos, "Combining Residual Networks with LSTMs for Lipreading", 2017), of sound on the
//! raw waveform (Petridis et al., "End-to-End Audiovisual Speech Recognition", 2018).
//!
//! Both are the same residual blocks on maps [height, width, channels], of which those of sound are one sample high.
//! Batch norms are folded. In int8 models a map is quantised as a whole, pictures frame by frame; the border is the
//! code of zero. Some pictures go through together, so that the wide layers' weights are read once for all of them.

use alloc::vec;
use alloc::vec::Vec;

use viseme_format::layout::auto_avsr::{AUDIO_STEM, STAGES, UNITS, VIDEO_STEM, unit};
use viseme_format::spec::auto_avsr::{AUDIO_POOL, Branch, Trunk};
use viseme_format::spec::{Crop, Weights};

use super::maps::{Maps, Source, Work, activate, average, pool};
use super::watch::Watched;
use crate::kernels::elementwise::Activation;
use crate::kernels::im2row::Windows;
use crate::kernels::{Kernels, RowQuant, WeightsF32, code_stride};
use crate::math;
use crate::model::conformer::LoadError;
use crate::model::conformer::linear::{Linear, Weight};
use crate::model::conformer::load::Tensors;

/// Pictures that go through together.
const GROUP: usize = 8;

/// A front-end.
#[derive(Debug)]
pub(super) struct Resnet<'a> {
    stem: Linear<'a>,
    /// Factors of negative values behind it; `None` for SiLU.
    stem_slopes: Option<&'a [f32]>,
    units: Vec<Unit<'a>>,
    width: usize,
    /// Side, mean and standard deviation of crops; `None` where sound goes in.
    crop: Option<(usize, [f32; 2])>,
    int8: bool,
}

/// A residual block.
#[derive(Debug)]
struct Unit<'a> {
    conv: [Linear<'a>; 2],
    down: Option<Linear<'a>>,
    /// Factors of negative values behind both convolutions; `None` for SiLU.
    slopes: Option<[&'a [f32]; 2]>,
    stride: usize,
    /// Lines and columns of zeros around a map.
    border: [usize; 2],
}

impl<'a> Resnet<'a> {
    pub fn load(
        t: &Tensors<'_, 'a>,
        prefix: &str,
        of: &Branch,
        crop: &Crop,
    ) -> Result<Self, LoadError> {
        let width = of.width as usize;
        let is_video = prefix == "video";
        let stem = format_args!("{prefix}.frontend.stem");
        let stem = if is_video {
            let [height, side, frames] = VIDEO_STEM;
            t.linear(stem, &[width, height, side, frames])?
        } else {
            let rows = t.floats(
                format_args!("{prefix}.frontend.stem.weight"),
                &[width, AUDIO_STEM],
            )?;
            let rows = WeightsF32::new(rows, AUDIO_STEM);
            Linear {
                weight: Weight::F32(rows.ok_or(LoadError::Unsupported("an empty front-end"))?),
                bias: t.floats(format_args!("{prefix}.frontend.stem.bias"), &[width])?,
            }
        };
        let is_sloped = of.trunk == Trunk::Prelu && !is_video;
        let slopes = || t.floats(format_args!("{prefix}.frontend.stem.act.weight"), &[width]);
        let stem_slopes = is_sloped.then(slopes).transpose()?;
        let mut units = Vec::new();
        for stage in 0..STAGES {
            for u in 0..UNITS {
                let (inputs, outputs, stride) = unit(width, stage, u);
                let name = format_args!("{prefix}.frontend.{stage}.{u}");
                let conv = |conv: &str, inputs| {
                    let name = format_args!("{name}.{conv}");
                    match is_video {
                        true => t.linear(name, &[outputs, 3, 3, inputs]),
                        false => t.linear(name, &[outputs, 3, inputs]),
                    }
                };
                let slope = |act: &str| t.floats(format_args!("{name}.{act}.weight"), &[outputs]);
                let down = || t.linear(format_args!("{name}.down"), &[outputs, inputs]);
                units.push(Unit {
                    conv: [conv("conv1", inputs)?, conv("conv2", outputs)?],
                    down: (stride > 1).then(down).transpose()?,
                    slopes: match of.trunk {
                        Trunk::Silu => None,
                        Trunk::Prelu => Some([slope("act1")?, slope("act2")?]),
                    },
                    stride,
                    border: [usize::from(is_video), 1],
                });
            }
        }
        Ok(Resnet {
            stem,
            stem_slopes,
            units,
            width,
            crop: is_video.then_some((crop.size as usize, [crop.mean, crop.std])),
            int8: t.weights != Weights::F32,
        })
    }

    /// Vectors of all frames, [frames, 8 · width].
    pub fn run(
        &self,
        kernels: &dyn Kernels,
        input: &[f32],
        frames: usize,
        watched: Watched<'_>,
    ) -> Vec<f32> {
        let features = 8 * self.width;
        let mut out = vec![0.0; frames * features];
        let mut work = Work::new(kernels, self.int8);
        match self.crop {
            Some((crop, normal)) => {
                let clip = Clip::new(&work, input, crop, normal, &self.stem);
                let group = |work: &mut Work<'_>, group: usize, out: &mut [f32]| {
                    let (first, frames) = (group * GROUP, out.len() / features);
                    let maps = self.see(&clip, first, frames, work, watched);
                    let maps = self.trunk(maps, work, first, watched);
                    average(&maps, maps.height * maps.width, out);
                    work.reuse(maps);
                };
                let len = GROUP * features;
                match kernels.crew() {
                    Some(crew) => crew.share_out(len, &mut out, &|kernels, i, out| {
                        group(&mut Work::new(kernels, self.int8), i, out);
                    }),
                    None => {
                        let groups = out.chunks_mut(len).enumerate();
                        groups.for_each(|(i, out)| group(&mut work, i, out));
                    }
                }
            }
            None => {
                let maps = self.hear(input, &mut work, watched);
                let maps = self.trunk(maps, &mut work, 0, watched);
                average(&maps, AUDIO_POOL, &mut out);
            }
        }
        out
    }

    /// Stem and pooling of pictures.
    fn see(
        &self,
        clip: &Clip<'_>,
        first: usize,
        frames: usize,
        work: &mut Work<'_>,
        watched: Watched<'_>,
    ) -> Maps {
        let [_, side, stack] = VIDEO_STEM;
        let windows = Windows::square(clip.crop + 2 * (side / 2), stack, side, 2);
        let [height, width] = windows.count().unwrap_or([0; 2]);
        let mut maps = work.maps([1, height, width, self.width]);
        let pooled = [height.div_ceil(2), width.div_ceil(2)];
        let mut pooled = work.maps([frames, pooled[0], pooled[1], self.width]);
        let len = pooled.len();
        let mut stacked = core::mem::take(&mut work.stacked);
        for (i, to) in pooled.values.chunks_exact_mut(len).enumerate() {
            let t = first + i;
            if self.int8 {
                stacked
                    .codes
                    .resize(windows.size[0] * windows.size[1] * stack, 0);
                stacked.codes.fill(clip.quant.zero as u8);
                clip.stack(&clip.codes, t, side / 2, &mut stacked.codes);
                work.quant.clear();
                work.quant.push(clip.quant, 1);
            } else {
                stacked
                    .values
                    .resize(windows.size[0] * windows.size[1] * stack, 0.0);
                stacked.values.fill(0.0);
                clip.stack(clip.values, t, side / 2, &mut stacked.values);
            }
            let stem = Linear {
                bias: &clip.bias,
                ..self.stem
            };
            let y = &mut maps.values;
            work.convolve(&stacked, 0, &windows, &stem, y);
            if watched.is_watched() && t == 0 {
                watched.see("frontend.stem_bn", 0, &[height, width, self.width], y);
            }
            work.kernels.activate(Activation::Silu, y);
            pool(&maps, to);
        }
        work.stacked = stacked;
        work.reuse(maps);
        pooled.show(first, "frontend.stem", watched);
        pooled
    }

    /// Stem of sound.
    fn hear(&self, samples: &[f32], work: &mut Work<'_>, watched: Watched<'_>) -> Maps {
        let border = AUDIO_STEM / 2 - 2;
        let mut padded = vec![0.0; samples.len() + 2 * border];
        padded[border..border + samples.len()].copy_from_slice(samples);
        let windows = Windows {
            size: [1, padded.len()],
            channels: 1,
            kernel: [1, AUDIO_STEM],
            stride: 4,
        };
        let [_, width] = windows.count().unwrap_or([0; 2]);
        let mut maps = work.maps([1, 1, width, self.width]);
        let padded = Source {
            values: padded,
            codes: Vec::new(),
        };
        work.convolve(&padded, 0, &windows, &self.stem, &mut maps.values);
        watched.see("frontend.stem_bn", 0, &[width, self.width], &maps.values);
        activate(
            self.stem_slopes,
            maps.channels,
            &mut maps.values,
            work.kernels,
        );
        maps
    }

    /// The residual blocks.
    fn trunk(
        &self,
        mut maps: Maps,
        work: &mut Work<'_>,
        first: usize,
        watched: Watched<'_>,
    ) -> Maps {
        work.quantise(&maps);
        for (i, unit) in self.units.iter().enumerate() {
            maps = unit.run(maps, work);
            if i % UNITS == UNITS - 1 {
                maps.show(first, &alloc::format!("frontend.{}", i / UNITS), watched);
            }
        }
        maps
    }
}

impl Unit<'_> {
    /// act(conv2(act(conv1(x))) + down(x)), of maps that were quantised last; so is the result.
    fn run(&self, x: Maps, work: &mut Work<'_>) -> Maps {
        let mut inner = work.convolution(&x, self.border, self.stride, &self.conv[0]);
        let skip = match &self.down {
            Some(down) => {
                let skip = work.pointwise(&x, self.stride, down);
                work.reuse(x);
                skip
            }
            None => x,
        };
        work.settle(&mut inner, None, self.slopes.map(|s| s[0]));
        let mut y = work.convolution(&inner, self.border, 1, &self.conv[1]);
        work.reuse(inner);
        work.settle(&mut y, Some(&skip), self.slopes.map(|s| s[1]));
        work.reuse(skip);
        y
    }
}

/// All crops of an utterance.
struct Clip<'x> {
    values: &'x [f32],
    /// int8 models: all of them by one scale.
    codes: Vec<u8>,
    quant: RowQuant,
    crop: usize,
    /// Bias of the stem, with what is left of the mean when the code of zero is a whole number.
    bias: Vec<f32>,
}

impl<'x> Clip<'x> {
    fn new(
        work: &Work<'_>,
        values: &'x [f32],
        crop: usize,
        normal: [f32; 2],
        stem: &Linear<'_>,
    ) -> Self {
        let mut clip = Clip {
            values,
            codes: Vec::new(),
            quant: RowQuant::default(),
            crop,
            bias: stem.bias.to_vec(),
        };
        if let Weight::I8(weight) = &stem.weight {
            if let Some((codes, quant, rest)) = pixels(values, normal) {
                (clip.codes, clip.quant) = (codes, quant);
                let sums = weight.scale().iter().zip(weight.colsum());
                for (bias, (scale, &sum)) in clip.bias.iter_mut().zip(sums) {
                    *bias -= quant.scale * rest * scale * sum as f32;
                }
            } else {
                clip.codes.resize(code_stride(values.len()), 0);
                clip.quant = work.kernels.quantize(values, &mut clip.codes);
            }
        }
        clip
    }

    /// Interleaves the crops around frame `t` as channels of one map with a border; those that are not there are left
    /// as they are.
    fn stack<T: Copy>(&self, crops: &[T], t: usize, border: usize, to: &mut [T]) {
        let [.., stack] = VIDEO_STEM;
        let (crop, line) = (self.crop, (self.crop + 2 * border) * stack);
        for channel in 0..stack {
            let Some(t) = (t + channel).checked_sub(stack / 2) else {
                continue;
            };
            let Some(from) = crops.get(t * crop * crop..(t + 1) * crop * crop) else {
                continue;
            };
            let lines = to.chunks_exact_mut(line).skip(border);
            for (to, from) in lines.zip(from.chunks_exact(crop)) {
                let pixels = to[border * stack..].chunks_exact_mut(stack);
                for (to, from) in pixels.zip(from) {
                    to[channel] = *from;
                }
            }
        }
    }
}

/// The pixels of eight bits that crops of this mean and standard deviation were made of, and what their code of zero lacks;
/// `None` if they were not. The border is then the grey value next to the mean, less than half a grey value from it.
fn pixels(values: &[f32], [mean, std]: [f32; 2]) -> Option<(Vec<u8>, RowQuant, f32)> {
    let (step, zero) = (1.0 / (255.0 * std), 255.0 * mean);
    let mut codes = vec![0; values.len()];
    let mut fits = true;
    for (to, v) in codes.iter_mut().zip(values) {
        let pixel = v / step + zero;
        let code = math::round_half_even(pixel);
        fits &= (0.0..=255.0).contains(&code) && (pixel - code).abs() < 1e-2;
        *to = code as u8;
    }
    if !fits {
        return None;
    }
    let whole = math::round_half_even(zero);
    let quant = RowQuant {
        scale: step,
        zero: whole as i32,
    };
    Some((codes, quant, zero - whole))
}
