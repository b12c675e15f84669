//! Maps of a ResNet, and how they are convolved.

use alloc::vec::Vec;

use super::aligned::Aligned;
use super::watch::Watched;
use crate::kernels::convolution::Convolution;
use crate::kernels::elementwise::Activation;
use crate::kernels::im2row::{Windows, im2row};
use crate::kernels::{Kernels, QuantRows, RowQuant, code_stride};
use crate::model::conformer::linear::{Activations, Linear, Weight};

/// Values of the windows that are multiplied at a time, and the fewest windows: enough for each weight that is read.
const BAND_VALUES: usize = 128 << 10;
const BAND_WINDOWS: usize = 96;

/// Maps of some frames, one after the other.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub frames: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub values: Aligned,
}

/// PReLU by these slopes, or SiLU, of pixels.
pub(super) fn activate(
    slopes: Option<&[f32]>,
    channels: usize,
    values: &mut [f32],
    kernels: &dyn Kernels,
) {
    match slopes {
        None => kernels.activate(Activation::Silu, values),
        Some(slopes) => {
            for pixel in values.chunks_exact_mut(channels.max(1)) {
                for (v, slope) in pixel.iter_mut().zip(slopes) {
                    *v *= if *v < 0.0 { *slope } else { 1.0 };
                }
            }
        }
    }
}

impl Maps {
    /// Values of one frame.
    pub fn len(&self) -> usize {
        (self.height * self.width * self.channels).max(1)
    }

    pub fn show(&self, first: usize, name: &str, watched: Watched<'_>) {
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
pub(super) struct Source {
    pub values: Vec<f32>,
    pub codes: Vec<u8>,
}

/// Working memory.
pub(super) struct Work<'k> {
    pub kernels: &'k dyn Kernels,
    int8: bool,
    /// Of each frame of the maps that were quantised last.
    pub quant: Quants,
    /// Their codes, without a border.
    codes: Vec<u8>,
    padded: Source,
    pub stacked: Source,
    band: Source,
    /// Memory of maps that are no longer needed.
    spare: Vec<Aligned>,
    band_quant: Quants,
}

/// Scales and zero points.
#[derive(Debug, Default)]
pub(super) struct Quants {
    scale: Vec<f32>,
    zero: Vec<i32>,
}

impl<'k> Work<'k> {
    pub fn new(kernels: &'k dyn Kernels, int8: bool) -> Self {
        Work {
            kernels,
            int8,
            quant: Quants::default(),
            codes: Vec::new(),
            padded: Source::default(),
            stacked: Source::default(),
            band: Source::default(),
            spare: Vec::new(),
            band_quant: Quants::default(),
        }
    }

    /// So many maps of so many lines, columns and channels, which hold anything.
    pub fn maps(&mut self, [frames, height, width, channels]: [usize; 4]) -> Maps {
        let mut values = self.spare.pop().unwrap_or_default();
        values.resize(frames * height * width * channels);
        Maps {
            frames,
            height,
            width,
            channels,
            values,
        }
    }

    pub fn reuse(&mut self, maps: Maps) {
        self.spare.push(maps.values);
    }

    /// Adds `skip` to maps, activates and quantises them: frame by frame, which the caches hold.
    pub fn settle(&mut self, x: &mut Maps, skip: Option<&Maps>, slopes: Option<&[f32]>) {
        let (len, channels) = (x.len(), x.channels);
        self.clear(x);
        for (i, values) in x.values.chunks_exact_mut(len).enumerate() {
            if let Some(skip) = skip {
                let skip = &skip.values[i * len..][..len];
                self.kernels.add_scaled(values, 1.0, skip);
            }
            activate(slopes, channels, values, self.kernels);
            self.quantise_frame(i, values);
        }
    }

    /// A convolution of 3 by 3, or of 1 by 3 where nothing is added above and below, on the maps that were quantised last.
    pub fn convolution(
        &mut self,
        x: &Maps,
        border: [usize; 2],
        stride: usize,
        layer: &Linear<'_>,
    ) -> Maps {
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
        let mut y = self.maps([x.frames, height, width, layer.outputs()]);
        self.convolve(&padded, frame, &windows, layer, &mut y.values);
        self.padded = padded;
        y
    }

    /// A convolution of 1 by 1 on the maps that were quantised last.
    pub fn pointwise(&mut self, x: &Maps, stride: usize, layer: &Linear<'_>) -> Maps {
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
        let mut y = self.maps([x.frames, height, width, layer.outputs()]);
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
            source.values = x.values.to_vec();
            self.convolve(&source, x.len(), &windows, layer, &mut y.values);
        }
        y
    }

    /// A convolution of the maps that were quantised last, where they need no copies: those of sound are a single one, the
    /// windows of which are better dealt out to threads.
    fn in_place(
        &mut self,
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
        let mut y = self.maps([x.frames, height, width, layer.outputs()]);
        let x = self.quant.rows(&self.codes);
        self.kernels
            .convolve_i8(&over, x, weight, layer.bias, &mut y.values);
        Some(y)
    }

    /// Quantises maps frame by frame, in int8 models.
    pub fn quantise(&mut self, x: &Maps) {
        self.clear(x);
        for (i, frame) in x.values.chunks_exact(x.len()).enumerate() {
            self.quantise_frame(i, frame);
        }
    }

    /// Makes room for the codes of maps.
    fn clear(&mut self, x: &Maps) {
        self.quant.clear();
        if self.int8 {
            self.codes.resize(x.frames * code_stride(x.len()), 0);
        }
    }

    /// Quantises frame `i`, if those before it are.
    fn quantise_frame(&mut self, i: usize, values: &[f32]) {
        if self.int8 {
            let stride = code_stride(values.len());
            let codes = &mut self.codes[i * stride..][..stride];
            self.quant.push(self.kernels.quantize(values, codes), 1);
        }
    }

    /// Multiplies the windows of all frames in `x`, which lie `apart`, with the layer's weights: `y` is
    /// [frames, windows, outputs].
    pub fn convolve(
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
    pub fn clear(&mut self) {
        self.scale.clear();
        self.zero.clear();
    }

    /// Adds `quant` so many times.
    pub fn push(&mut self, quant: RowQuant, count: usize) {
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

/// Max-pooling of one map, of 3 by 3 with stride 2 and a border of one pixel that is never the largest.
pub(super) fn pool(x: &Maps, y: &mut [f32]) {
    // Channels whose largest values stay in registers.
    const CHUNK: usize = 16;
    let (line, c) = (x.width * x.channels, x.channels.max(1));
    let y_line = (x.width.div_ceil(2) * c).max(1);
    for (row, to) in y.chunks_exact_mut(y_line).enumerate() {
        for (column, to) in to.chunks_exact_mut(c).enumerate() {
            let lines = (2 * row).saturating_sub(1)..(2 * row + 2).min(x.height);
            let columns = (2 * column).saturating_sub(1)..(2 * column + 2).min(x.width);
            let pixels = lines.flat_map(|y| columns.clone().map(move |x| y * line + x * c));
            let (chunks, rest) = to.as_chunks_mut::<CHUNK>();
            for (i, to) in chunks.iter_mut().enumerate() {
                let mut most = [f32::NEG_INFINITY; CHUNK];
                for pixel in pixels.clone() {
                    larger(&mut most, &x.values[pixel + i * CHUNK..][..CHUNK]);
                }
                *to = most;
            }
            rest.fill(f32::NEG_INFINITY);
            for pixel in pixels {
                larger(rest, &x.values[pixel + c - rest.len()..]);
            }
        }
    }
}

/// Replaces what is smaller.
#[inline(always)]
fn larger(most: &mut [f32], values: &[f32]) {
    for (most, &v) in most.iter_mut().zip(values) {
        *most = if v > *most { v } else { *most };
    }
}

/// Averages so many neighbouring pixels, all frames one after the other: `y` is [.., channels].
pub(super) fn average(x: &Maps, pixels: usize, y: &mut [f32]) {
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
