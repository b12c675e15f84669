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

use super::watch::Watched;
use crate::kernels::convolution::Convolution;
use crate::kernels::elementwise::Activation;
use crate::kernels::im2row::{Windows, im2row};
use crate::kernels::{Kernels, QuantRows, RowQuant, WeightsF32, code_stride};
use crate::math;
use crate::model::conformer::LoadError;
use crate::model::conformer::linear::{Activations, Linear, Weight};
use crate::model::conformer::load::Tensors;

/// Pictures that go through together.
const GROUP: usize = 8;

/// Values of the windows that are multiplied at a time, and the fewest windows: enough for each weight that is read.
const BAND_VALUES: usize = 128 << 10;
const BAND_WINDOWS: usize = 96;

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

/// Maps of some frames, one after the other.
#[derive(Clone, Debug, Default)]
struct Maps {
    frames: usize,
    height: usize,
    width: usize,
    channels: usize,
    values: Vec<f32>,
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
                let group = |kernels: &dyn Kernels, group: usize, out: &mut [f32]| {
                    let (first, frames) = (group * GROUP, out.len() / features);
                    let mut work = Work::new(kernels, self.int8);
                    let maps = self.see(&clip, first, frames, &mut work, watched);
                    let maps = self.trunk(maps, &mut work, first, watched);
                    average(&maps, maps.height * maps.width, out);
                };
                let len = GROUP * features;
                match kernels.crew() {
                    Some(crew) => crew.share_out(len, &mut out, &group),
                    None => {
                        let groups = out.chunks_mut(len).enumerate();
                        groups.for_each(|(i, out)| group(kernels, i, out));
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
        let mut maps = Maps::new(frames, height, width, self.width);
        let len = maps.len();
        let mut stacked = core::mem::take(&mut work.stacked);
        for (i, y) in maps.values.chunks_exact_mut(len).enumerate() {
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
            work.convolve(&stacked, 0, &windows, &stem, y);
            if watched.is_watched() && t == 0 {
                watched.see("frontend.stem_bn", 0, &[height, width, self.width], y);
            }
            work.kernels.activate(Activation::Silu, y);
        }
        work.stacked = stacked;
        let pooled = pool(&maps);
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
        let mut maps = Maps::new(1, 1, width, self.width);
        let padded = Source {
            values: padded,
            codes: Vec::new(),
        };
        work.convolve(&padded, 0, &windows, &self.stem, &mut maps.values);
        watched.see("frontend.stem_bn", 0, &[width, self.width], &maps.values);
        activate(self.stem_slopes, &mut maps, work.kernels);
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
    /// act(conv2(act(conv1(x))) + down(x)).
    fn run(&self, x: Maps, work: &mut Work<'_>) -> Maps {
        let mut y = work.convolution(&x, self.border, self.stride, &self.conv[0]);
        activate(self.slopes.map(|s| s[0]), &mut y, work.kernels);
        let skip = match &self.down {
            Some(down) => work.pointwise(&x, self.stride, down),
            None => x,
        };
        let mut y = work.convolution(&y, self.border, 1, &self.conv[1]);
        work.kernels.add_scaled(&mut y.values, 1.0, &skip.values);
        activate(self.slopes.map(|s| s[1]), &mut y, work.kernels);
        y
    }
}

/// PReLU by these slopes, or SiLU.
fn activate(slopes: Option<&[f32]>, maps: &mut Maps, kernels: &dyn Kernels) {
    match slopes {
        None => kernels.activate(Activation::Silu, &mut maps.values),
        Some(slopes) => {
            for pixel in maps.values.chunks_exact_mut(maps.channels.max(1)) {
                for (v, slope) in pixel.iter_mut().zip(slopes) {
                    *v *= if *v < 0.0 { *slope } else { 1.0 };
                }
            }
        }
    }
}

impl Maps {
    fn new(frames: usize, height: usize, width: usize, channels: usize) -> Self {
        Maps {
            frames,
            height,
            width,
            channels,
            values: vec![0.0; frames * height * width * channels],
        }
    }

    /// Values of one frame.
    fn len(&self) -> usize {
        (self.height * self.width * self.channels).max(1)
    }

    fn show(&self, first: usize, name: &str, watched: Watched<'_>) {
        if !watched.is_watched() {
            return;
        }
        let of_sound = [self.width, self.channels];
        let of_pictures = [self.height, self.width, self.channels];
        let row = if self.frames == 1 && self.height == 1 {
            &of_sound[..]
        } else {
            &of_pictures
        };
        watched.see(name, first, row, &self.values);
    }
}

/// What is convolved: values, or codes in int8 models.
#[derive(Debug, Default)]
struct Source {
    values: Vec<f32>,
    codes: Vec<u8>,
}

/// Working memory.
struct Work<'k> {
    kernels: &'k dyn Kernels,
    int8: bool,
    /// Of each frame of the maps that were quantised last.
    quant: Quants,
    /// Their codes, without a border.
    codes: Vec<u8>,
    padded: Source,
    stacked: Source,
    band: Source,
    band_quant: Quants,
}

/// Scales and zero points.
#[derive(Debug, Default)]
struct Quants {
    scale: Vec<f32>,
    zero: Vec<i32>,
}

impl<'k> Work<'k> {
    fn new(kernels: &'k dyn Kernels, int8: bool) -> Self {
        Work {
            kernels,
            int8,
            quant: Quants::default(),
            codes: Vec::new(),
            padded: Source::default(),
            stacked: Source::default(),
            band: Source::default(),
            band_quant: Quants::default(),
        }
    }

    /// A convolution of 3 by 3, or of 1 by 3 where nothing is added above and below.
    fn convolution(
        &mut self,
        x: &Maps,
        border: [usize; 2],
        stride: usize,
        layer: &Linear<'_>,
    ) -> Maps {
        self.quantise(x);
        let windows = Windows {
            size: [x.height + 2 * border[0], x.width + 2 * border[1]],
            channels: x.channels,
            kernel: border.map(|border| 2 * border + 1),
            stride,
        };
        if let Some(y) = self.in_place(x, windows, border, layer) {
            return y;
        }
        let mut padded = core::mem::take(&mut self.padded);
        let frame = windows.size[0] * windows.size[1] * x.channels;
        let at = Border {
            lines: border[0],
            line: windows.size[1] * x.channels,
            indent: border[1] * x.channels,
        };
        if self.int8 {
            padded.codes.resize(x.frames * frame, 0);
            let frames = padded.codes.chunks_exact_mut(frame.max(1));
            let codes = self.codes.chunks_exact(code_stride(x.len()));
            for ((to, from), &zero) in frames.zip(codes).zip(&self.quant.zero) {
                at.frame(&from[..x.len()], x.width * x.channels, zero as u8, to);
            }
        } else {
            padded.values.resize(x.frames * frame, 0.0);
            let frames = padded.values.chunks_exact_mut(frame.max(1));
            for (to, from) in frames.zip(x.values.chunks_exact(x.len())) {
                at.frame(from, x.width * x.channels, 0.0, to);
            }
        }
        let [height, width] = windows.count().unwrap_or([0; 2]);
        let mut y = Maps::new(x.frames, height, width, layer.outputs());
        self.convolve(&padded, frame, &windows, layer, &mut y.values);
        self.padded = padded;
        y
    }

    /// A convolution of 1 by 1 on the maps that were convolved last, whose codes are still at hand.
    fn pointwise(&mut self, x: &Maps, stride: usize, layer: &Linear<'_>) -> Maps {
        let windows = Windows {
            size: [x.height, x.width],
            channels: x.channels,
            kernel: [1, 1],
            stride,
        };
        if let Some(y) = self.in_place(x, windows, [0; 2], layer) {
            return y;
        }
        let [height, width] = windows.count().unwrap_or([0; 2]);
        let mut y = Maps::new(x.frames, height, width, layer.outputs());
        let mut source = Source::default();
        if self.int8 {
            source.codes = core::mem::take(&mut self.codes);
            self.convolve(
                &source,
                code_stride(x.len()),
                &windows,
                layer,
                &mut y.values,
            );
            self.codes = source.codes;
        } else {
            source.values = x.values.clone();
            self.convolve(&source, x.len(), &windows, layer, &mut y.values);
        }
        y
    }

    /// A convolution of the maps that were quantised last, where they need no copies: those of sound are a single one, the
    /// windows of which are better dealt out to threads.
    fn in_place(
        &self,
        x: &Maps,
        windows: Windows,
        border: [usize; 2],
        layer: &Linear<'_>,
    ) -> Option<Maps> {
        let Weight::I8(weight) = layer.weight else {
            return None;
        };
        let over = Convolution::new(windows, border).filter(|_| x.height > 1)?;
        let [height, width] = windows.count()?;
        let mut y = Maps::new(x.frames, height, width, layer.outputs());
        let x = self.quant.rows(&self.codes);
        self.kernels
            .convolve_i8(&over, x, weight, layer.bias, &mut y.values);
        Some(y)
    }

    /// Quantises maps frame by frame.
    fn quantise(&mut self, x: &Maps) {
        if !self.int8 {
            return;
        }
        let stride = code_stride(x.len());
        self.codes.resize(x.frames * stride, 0);
        self.quant.clear();
        let frames = x.values.chunks_exact(x.len());
        for (from, to) in frames.zip(self.codes.chunks_exact_mut(stride)) {
            self.quant.push(self.kernels.quantize(from, to), 1);
        }
    }

    /// Multiplies the windows of all frames in `x`, which lie `apart`, with the layer's weights: `y` is
    /// [frames, windows, outputs].
    fn convolve(
        &mut self,
        x: &Source,
        apart: usize,
        windows: &Windows,
        layer: &Linear<'_>,
        y: &mut [f32],
    ) {
        let outputs = layer.outputs().max(1);
        let [rows, columns] = windows.count().unwrap_or([0; 2]);
        let (count, values) = ((rows * columns).max(1), windows.values().unwrap_or(0));
        let band = (BAND_VALUES / values.max(1)).max(BAND_WINDOWS);
        let frame = (windows.size[0] * windows.size[1] * windows.channels).max(1);
        let is_int8 = !matches!(layer.weight, Weight::F32(_));
        let stride = if is_int8 { code_stride(values) } else { values };
        let mut y = y;
        let (mut done, all) = (0, y.len() / outputs);
        while done < all {
            let len = band.min(all - done);
            let (now, rest) = core::mem::take(&mut y).split_at_mut(len * outputs);
            y = rest;
            self.band_quant.clear();
            if is_int8 {
                self.band.codes.resize(len * stride, 0);
            } else {
                self.band.values.resize(len * stride, 0.0);
            }
            // A band may hold windows of several frames.
            let mut at = 0;
            while at < len {
                let (index, first) = ((done + at) / count, (done + at) % count);
                let part = (count - first).min(len - at);
                let place = at * stride..(at + part) * stride;
                if is_int8 {
                    let frame = &x.codes[index * apart..][..frame];
                    im2row(frame, windows, first, stride, &mut self.band.codes[place]);
                    self.band_quant.push(self.quant.get(index), part);
                } else {
                    let frame = &x.values[index * apart..][..frame];
                    im2row(frame, windows, first, stride, &mut self.band.values[place]);
                }
                at += part;
            }
            let x = if is_int8 {
                Activations::quantised(self.band_quant.rows(&self.band.codes[..len * stride]))
            } else {
                Activations::floats(&self.band.values[..len * stride])
            };
            layer.run(self.kernels, x, now);
            done += len;
        }
    }
}

impl Quants {
    fn clear(&mut self) {
        self.scale.clear();
        self.zero.clear();
    }

    /// Adds `quant` so many times.
    fn push(&mut self, quant: RowQuant, count: usize) {
        let len = self.scale.len() + count;
        self.scale.resize(len, quant.scale);
        self.zero.resize(len, quant.zero);
    }

    fn get(&self, index: usize) -> RowQuant {
        RowQuant {
            scale: self.scale[index],
            zero: self.zero[index],
        }
    }

    fn rows<'x>(&'x self, codes: &'x [u8]) -> QuantRows<'x> {
        QuantRows {
            codes,
            scale: &self.scale,
            zero: &self.zero,
        }
    }
}

/// Where a map lies within its border.
struct Border {
    lines: usize,
    line: usize,
    indent: usize,
}

impl Border {
    fn frame<T: Copy>(&self, from: &[T], width: usize, border: T, to: &mut [T]) {
        to.fill(border);
        let lines = to.chunks_exact_mut(self.line.max(1)).skip(self.lines);
        for (to, from) in lines.zip(from.chunks_exact(width.max(1))) {
            to[self.indent..self.indent + width].copy_from_slice(from);
        }
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
    let code = |&v: &f32| {
        let pixel = v / step + zero;
        let code = math::round_half_even(pixel);
        ((0.0..=255.0).contains(&code) && (pixel - code).abs() < 1e-2).then_some(code as u8)
    };
    let codes = values.iter().map(code).collect::<Option<Vec<u8>>>()?;
    let whole = math::round_half_even(zero);
    let quant = RowQuant {
        scale: step,
        zero: whole as i32,
    };
    Some((codes, quant, zero - whole))
}

/// Max-pooling of 3 by 3 with stride 2 and a border of one pixel that is never the largest.
fn pool(x: &Maps) -> Maps {
    let mut y = Maps::new(
        x.frames,
        x.height.div_ceil(2),
        x.width.div_ceil(2),
        x.channels,
    );
    let (line, c) = (x.width * x.channels, x.channels);
    let (y_len, y_line) = (y.len(), (y.width * c).max(1));
    let frames = x.values.chunks_exact(x.len());
    for (from, to) in frames.zip(y.values.chunks_exact_mut(y_len)) {
        for (row, to) in to.chunks_exact_mut(y_line).enumerate() {
            for (column, to) in to.chunks_exact_mut(c).enumerate() {
                to.fill(f32::NEG_INFINITY);
                for y in (2 * row).saturating_sub(1)..(2 * row + 2).min(x.height) {
                    for x in (2 * column).saturating_sub(1)..(2 * column + 2).min(x.width) {
                        let from = &from[y * line + x * c..][..c];
                        for (to, &from) in to.iter_mut().zip(from) {
                            *to = if from > *to { from } else { *to };
                        }
                    }
                }
            }
        }
    }
    y
}

/// Averages so many neighbouring pixels, all frames one after the other: `y` is [.., channels].
fn average(x: &Maps, pixels: usize, y: &mut [f32]) {
    let c = x.channels.max(1);
    let from = x.values.chunks_exact((pixels * c).max(1));
    for (from, y) in from.zip(y.chunks_exact_mut(c)) {
        y.fill(0.0);
        for pixel in from.chunks_exact(c) {
            y.iter_mut().zip(pixel).for_each(|(y, v)| *y += v);
        }
        y.iter_mut().for_each(|v| *v /= pixels as f32);
    }
}
