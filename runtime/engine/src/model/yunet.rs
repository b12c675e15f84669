//! The YuNet face detector: boxes and five points (eyes, nose, corners of the mouth).
//!
//! Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector" (Machine Intelligence Research 2023);
//! github.com/ShiqiYu/libfacedetection.train. The model file (architecture `viseme-yunet`) is made from the published
//! ONNX file by the `viseme-import` crate, whose `yunet` module lists the tensors.

mod chain;
mod faces;
mod input;
mod load;

use core::fmt;

use viseme_format::gguf::{self, Reader};
use viseme_format::names::TensorName;
use viseme_format::spec::SpecError;

use crate::kernels::Kernels;
use chain::{Chain, Step};
pub use faces::Face;
use faces::{HEAD, STRIDES};
use input::{Fit, read_line};
pub use input::{Image, MAX_SIDE};

/// A face detector, borrowing its weights from the model file.
#[derive(Debug, Clone)]
pub struct Detector<'m> {
    /// [3, 3, 3, channels]
    stem: &'m [f32],
    stem_bias: &'m [f32],
    backbone: [Step<'m>; UNITS],
    /// For each level: neck, shared unit (n variant), head.
    levels: [[Step<'m>; 3]; 3],
    /// Steps used of each level.
    level_steps: usize,
    max_side: usize,
    overlap: f32,
    kernels: &'static dyn Kernels,
}

/// Units of the backbone: one in stage 0, two in each of stages 1 to 5.
const UNITS: usize = 11;

/// The backbone's units whose outputs the neck reads: the ends of stages 3, 4 and 5.
const TAPS: [usize; 3] = [6, 8, 10];

/// Sides of the network's input are multiples of this.
const MULTIPLE: usize = 32;

/// Longest side of the network's input: bounds the arena, and the number of cells.
const MAX_INPUT: usize = 4096;

/// Why a model file is no usable detector. `Display` is one line for the user.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum OpenError {
    /// Not a sound GGUF file.
    File(gguf::Error),
    /// A sound file of another kind, or with metadata out of range.
    Spec(SpecError),
    /// A detector of other strides than 8, 16, 32 and 32-pixel multiples.
    Strides,
    /// A tensor that is missing, or has another shape or type than its neighbours call for.
    Tensor(TensorName),
    /// A tensor that the detector does not have.
    Unknown(TensorName),
    /// A tensor with a value that is infinite or NaN.
    NotFinite(TensorName),
    /// The bytes do not lie at a multiple of 4 in memory (or the machine is big endian).
    Unaligned,
}

/// Why an image was not searched. `Display` is one line for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetectError {
    /// A side of 0 or more than [`MAX_SIDE`] pixels, or pixels that are not width x height.
    Image {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The arena is shorter than [`Detector::arena_len`] says; holds what is needed.
    Arena(usize),
}

impl<'m> Detector<'m> {
    /// Opens a model file of architecture `viseme-yunet`, checking every tensor.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn open(file: &'m [u8]) -> Result<Self, OpenError> {
        load::detector(&Reader::open(file).map_err(OpenError::File)?)
    }

    /// Searches images shrunk so that the longer side is at most `pixels` (320 unless set, 32 to 4096).
    ///
    /// The smallest face found is about 10 pixels wide after shrinking; time and memory grow with the area.
    pub fn with_max_side(mut self, pixels: usize) -> Self {
        self.max_side = pixels.clamp(MULTIPLE, MAX_INPUT);
        self
    }

    /// Takes boxes for the same face when their intersection over union is above this (0.3 unless set).
    pub fn with_overlap(mut self, overlap: f32) -> Self {
        self.overlap = overlap;
        self
    }

    /// Length of the arena for source images of this size, grey or colour; 0 for sizes that are refused.
    pub fn arena_len(&self, width: usize, height: usize) -> usize {
        match [width, height]
            .iter()
            .all(|side| (1..=MAX_SIDE).contains(side))
        {
            true => Plan::new(self, width, height, 3).total(),
            false => 0,
        }
    }

    /// Finds faces that score at least `threshold` (0..=1; 0.6 to 0.9 are usual), best first.
    ///
    /// Fills `out` from the front and returns how many faces it holds. `arena` is scratch; what it holds before and
    /// after means nothing.
    ///
    /// # Errors
    /// [`DetectError`]; `out` is untouched then.
    pub fn detect(
        &self,
        arena: &mut [f32],
        image: &Image<'_>,
        threshold: f32,
        out: &mut [Face],
    ) -> Result<usize, DetectError> {
        let heads = self.run(arena, image)?;
        let fit = Fit::new(image.width(), image.height(), self.max_side, MULTIPLE);
        Ok(faces::find(
            heads,
            fit.padded,
            fit.scale(),
            threshold,
            self.overlap,
            out,
        ))
    }

    /// The network's raw outputs, for checks against other implementations: [cells, 16], the cells of stride 8 in
    /// rows, then those of 16 and 32; class and objectness (before the sigmoid), box (4), points (10).
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub fn heads<'a>(
        &self,
        arena: &'a mut [f32],
        image: &Image<'_>,
    ) -> Result<&'a [f32], DetectError> {
        self.run(arena, image).map(|heads| &*heads)
    }

    fn run<'a>(
        &self,
        arena: &'a mut [f32],
        image: &Image<'_>,
    ) -> Result<&'a mut [f32], DetectError> {
        let (width, height) = (image.width(), image.height());
        if !image.is_whole() {
            return Err(DetectError::Image { width, height });
        }
        let plan = Plan::new(self, width, height, image.channels());
        let arena = arena
            .get_mut(..plan.total())
            .ok_or(DetectError::Arena(plan.total()))?;
        let (heads, arena) = arena.split_at_mut(plan.heads.iter().sum());
        let (coarser, arena) = arena.split_at_mut(plan.maps[1] + plan.maps[2]);
        let (maps, scratch) = arena.split_at_mut(plan.maps.iter().sum());
        self.run_backbone(&plan, image, maps, scratch);
        self.run_levels(&plan, maps, coarser, heads, scratch);
        Ok(heads)
    }

    /// Stem and backbone: fills `maps` with the outputs at strides 8, 16 and 32.
    fn run_backbone(&self, plan: &Plan, image: &Image<'_>, maps: &mut [f32], scratch: &mut [f32]) {
        let [width, height] = plan.fit.padded;
        let (stem_weight, scratch) = scratch.split_at_mut(plan.stem_weight);
        let (columns, scratch) = scratch.split_at_mut(plan.columns);
        let (lines, scratch) = scratch.split_at_mut(3 * plan.line);
        let (row, scratch) = scratch.split_at_mut(plan.stem_row);
        let weight = self.stem_for(image.channels(), stem_weight);
        let mut maps = split(maps, plan.maps);
        let mut store = |step: usize, y: usize, row: &[f32]| {
            if let Some(level) = TAPS.iter().position(|&tap| tap == step) {
                maps[level][y * row.len()..][..row.len()].copy_from_slice(row);
            }
        };
        let mut chain = Chain::new(
            self.kernels,
            &self.backbone,
            width / 2,
            &mut scratch[..plan.backbone],
        );
        // Line y of the image lies in slot y % 3; above the first line, in slot 2, are zeros.
        lines.fill(0.0);
        for y in 0..height {
            read_line(
                image,
                &plan.fit,
                y,
                columns,
                &mut lines[y % 3 * plan.line..][..plan.line],
            );
            if y % 2 == 1 {
                let line = |y: usize| &lines[y % 3 * plan.line..][..plan.line];
                let taps = [line(y + 1), line(y - 1), line(y)];
                (self.kernels).dense_row_stride2(taps, weight, self.stem_bias, row);
                chain.push(row, &mut store);
            }
        }
        chain.finish(&mut store);
    }

    /// Neck, shared units and heads, coarse to fine; `coarser` keeps the neck's outputs at strides 16 and 32.
    fn run_levels(
        &self,
        plan: &Plan,
        maps: &[f32],
        coarser: &mut [f32],
        heads: &mut [f32],
        scratch: &mut [f32],
    ) {
        let heads = split(heads, plan.heads);
        let mut necks = split(coarser, [0, plan.maps[1], plan.maps[2]]);
        let (sums, scratch) =
            scratch.split_at_mut(plan.maps[0] / (plan.fit.padded[1] / STRIDES[0]));
        for level in (0..3).rev() {
            let steps = &self.levels[level][..self.level_steps];
            let [width, height] = plan.fit.padded.map(|side| side / STRIDES[level]);
            let before: usize = plan.maps[..level].iter().sum();
            let map = &maps[before..][..plan.maps[level]];
            let channels = map.len() / (width * height);
            let (fine, coarse) = necks.split_at_mut(level + 1);
            let neck = &mut *fine[level];
            let head = &mut *heads[level];
            let mut store = |step: usize, y: usize, row: &[f32]| {
                let map = match step {
                    0 if level > 0 => &mut *neck,
                    step if step + 1 == steps.len() => &mut *head,
                    _ => return,
                };
                map[y * row.len()..][..row.len()].copy_from_slice(row);
            };
            let mut chain = Chain::new(
                self.kernels,
                steps,
                width,
                &mut scratch[..plan.levels[level]],
            );
            for (y, row) in map.chunks_exact(width * channels).enumerate() {
                match coarse.first() {
                    None => chain.push(row, &mut store),
                    Some(coarse) => {
                        let sums = &mut sums[..row.len()];
                        let len = row.len() / 2;
                        add_upsampled(row, &coarse[y / 2 * len..][..len], channels, sums);
                        chain.push(sums, &mut store);
                    }
                }
            }
            chain.finish(&mut store);
        }
    }

    /// The stem's weights for images of `channels` channels: for grey, whose three channels are the same, their sum.
    fn stem_for<'s>(&'s self, channels: usize, summed: &'s mut [f32]) -> &'s [f32] {
        if channels == 3 {
            return self.stem;
        }
        let cout = self.stem_bias.len();
        for (sum, taps) in summed
            .chunks_exact_mut(cout)
            .zip(self.stem.chunks_exact(3 * cout))
        {
            for (o, sum) in sum.iter_mut().enumerate() {
                *sum = taps[o] + taps[cout + o] + taps[2 * cout + o];
            }
        }
        summed
    }
}

/// y = x + each pixel of `coarse` twice. Rows of [pixels, channels].
fn add_upsampled(x: &[f32], coarse: &[f32], channels: usize, y: &mut [f32]) {
    let pairs = x
        .chunks_exact(2 * channels)
        .zip(y.chunks_exact_mut(2 * channels));
    for (coarse, (x, y)) in coarse.chunks_exact(channels).zip(pairs) {
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for ((y, &x), &c) in y.iter_mut().zip(x).zip(coarse) {
                *y = x + c;
            }
        }
    }
}

/// Lengths of the arena's parts, in f32.
#[derive(Debug, Clone, Copy)]
struct Plan {
    fit: Fit,
    /// Outputs of the heads, each level.
    heads: [usize; 3],
    /// Outputs of the backbone, each level.
    maps: [usize; 3],
    stem_weight: usize,
    /// Sums over columns of the source image, when it is shrunk.
    columns: usize,
    /// A line of the input with its border.
    line: usize,
    stem_row: usize,
    backbone: usize,
    levels: [usize; 3],
}

impl Plan {
    fn new(detector: &Detector<'_>, width: usize, height: usize, channels: usize) -> Self {
        let fit = Fit::new(width, height, detector.max_side, MULTIPLE);
        let cells = STRIDES.map(|stride| fit.padded.map(|side| side / stride));
        let area = |level: usize| cells[level][0] * cells[level][1];
        let tap = |level: usize| detector.backbone[TAPS[level]].unit.cout();
        let stem = detector.stem_bias.len();
        let steps = |level: usize| &detector.levels[level][..detector.level_steps];
        Self {
            fit,
            heads: [0, 1, 2].map(|level| area(level) * HEAD),
            maps: [0, 1, 2].map(|level| area(level) * tap(level)),
            stem_weight: 9 * stem,
            columns: if fit.source == fit.scaled {
                0
            } else {
                width * channels
            },
            line: (fit.padded[0] + 1) * channels,
            stem_row: fit.padded[0] / 2 * stem,
            backbone: chain::memory_len(&detector.backbone, fit.padded[0] / 2),
            levels: [0, 1, 2].map(|level| chain::memory_len(steps(level), cells[level][0])),
        }
    }

    fn total(&self) -> usize {
        let kept: usize = self
            .heads
            .iter()
            .chain(&self.maps)
            .chain(&self.maps[1..])
            .sum();
        let backbone =
            self.stem_weight + self.columns + 3 * self.line + self.stem_row + self.backbone;
        let sums = self.maps[0] / (self.fit.padded[1] / STRIDES[0]);
        let levels = sums + self.levels.iter().max().copied().unwrap_or(0);
        kept + backbone.max(levels)
    }
}

/// Cuts `all` into three parts.
fn split(all: &mut [f32], lens: [usize; 3]) -> [&mut [f32]; 3] {
    let (a, rest) = all.split_at_mut(lens[0]);
    let (b, rest) = rest.split_at_mut(lens[1]);
    [a, b, &mut rest[..lens[2]]]
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Spec(error) => error.fmt(f),
            Self::Strides => {
                f.write_str("the detector has other strides than 8, 16 and 32; import YuNet again")
            }
            Self::Tensor(name) => write!(
                f,
                "the detector lacks {name} in the right shape; import YuNet again"
            ),
            Self::Unknown(name) => write!(
                f,
                "the detector has a tensor {name} that YuNet does not have; import YuNet again"
            ),
            Self::NotFinite(name) => write!(
                f,
                "the detector's {name} holds infinite or NaN values; import YuNet again"
            ),
            Self::Unaligned => f.write_str(
                "the detector's bytes must lie at a multiple of 4 in memory; copy them there",
            ),
        }
    }
}

impl core::error::Error for OpenError {}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { width, height } => write!(
                f,
                "an image of {width}x{height} pixels cannot be searched; give 1 to {MAX_SIDE} pixels a side, all of them"
            ),
            Self::Arena(len) => write!(
                f,
                "the detector needs an arena of {len} values for this image"
            ),
        }
    }
}

impl core::error::Error for DetectError {}
