//! The convolutional front-end: a few neighbouring mouth crops to one vector.
//!
//! Three convolutions with stride, each with its batch norm folded in and followed by SiLU, then a
//! linear layer over the flattened map: a small 2-D stand-in for the 3-D stem and ResNet of
//! Auto-AVSR (Ma, Petridis and Pantic, "End-to-End Audio-Visual Speech Recognition with
//! Conformers", 2021).

use viseme_format::spec::MAX_STAGES;

use super::dims::{Dims, Stage};
use super::linear::{Activations, Linear, QuantBuffer, Weight};
use super::load::{LoadError, Tensors};
use crate::kernels::elementwise::Activation;
use crate::kernels::im2row::im2row;
use crate::kernels::{Kernels, QuantRows, RowQuant, code_stride};
use crate::parts::{first, first_mut};

/// The front-end's layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frontend<'a> {
    convolutions: [Option<Linear<'a>>; MAX_STAGES],
    projection: Linear<'a>,
}

/// The front-end's working memory.
#[derive(Debug)]
pub(crate) struct Scratch<'s> {
    /// Input map of the stage at work, int8 models.
    pub input_codes: &'s mut [u8],
    /// Input map of the stage at work, f32 models.
    pub input_values: &'s mut [f32],
    /// Windows of a band, int8 models.
    pub band_codes: &'s mut [u8],
    /// Windows of a band, f32 models.
    pub band_values: &'s mut [f32],
    /// Output map of the stage at work.
    pub map: &'s mut [f32],
}

impl<'a> Frontend<'a> {
    pub fn load(tensors: &Tensors<'_, 'a>, dims: &Dims) -> Result<Self, LoadError> {
        let mut convolutions = [None; MAX_STAGES];
        for (i, (layer, stage)) in convolutions.iter_mut().zip(dims.stages()).enumerate() {
            let Stage {
                windows: w,
                channels,
                ..
            } = stage;
            let shape = [*channels, w.kernel[0], w.kernel[1], w.channels];
            *layer = Some(tensors.linear(format_args!("frontend.conv.{i}"), &shape)?);
        }
        let projection = tensors.linear(format_args!("frontend.proj"), &[dims.d, dims.features])?;
        Ok(Frontend {
            convolutions,
            projection,
        })
    }

    /// Writes the vector ([d]) of the frame in the middle of `crops` (each [crop, crop], grey) to `y`.
    ///
    /// Outside of the crops the picture has the grey value `pad_value`. f32 weights act on grey
    /// values minus `pad_value`, int8 weights on the grey values themselves with that zero point.
    pub fn run<'c>(
        &self,
        dims: &Dims,
        kernels: &dyn Kernels,
        crops: impl Iterator<Item = &'c [u8]>,
        s: &mut Scratch<'_>,
        q: &mut QuantBuffer<'_>,
        y: &mut [f32],
    ) {
        let Some(stem) = dims.stages().first() else {
            return;
        };
        let pad = dims.pad_value;
        let mut quant = RowQuant {
            scale: 1.0,
            zero: i32::from(pad),
        };
        if dims.int8 {
            let image = first_mut(s.input_codes, stem.input_len());
            stack(dims, stem, crops, image, pad, |grey| grey);
        } else {
            let image = first_mut(s.input_values, stem.input_len());
            stack(dims, stem, crops, image, 0.0, |grey| {
                f32::from(grey) - f32::from(pad)
            });
        }
        for (stage, layer) in dims.stages().iter().zip(self.convolutions.iter().flatten()) {
            let map = first_mut(s.map, stage.output_len());
            match layer.weight {
                Weight::I8(_) | Weight::I4(_) => {
                    let stride = code_stride(stage.inputs);
                    let band = first_mut(s.band_codes, stage.band_windows() * stride);
                    first_mut(q.scale, stage.band_windows()).fill(quant.scale);
                    first_mut(q.zero, stage.band_windows()).fill(quant.zero);
                    let input = first(s.input_codes, stage.input_len());
                    convolve(stage, input, stride, band, map, |codes, y| {
                        let rows = codes.len() / stride.max(1);
                        let (scale, zero) = (first(q.scale, rows), first(q.zero, rows));
                        let x = Activations::quantised(QuantRows { codes, scale, zero });
                        layer.run(kernels, x, y);
                    });
                }
                Weight::F32(_) => {
                    let input = first(s.input_values, stage.input_len());
                    let band = first_mut(s.band_values, stage.band_windows() * stage.inputs);
                    convolve(stage, input, stage.inputs, band, map, |rows, y| {
                        layer.run(kernels, Activations::floats(rows), y);
                    });
                }
            }
            kernels.activate(Activation::Silu, map);
            // The map becomes the next layer's input; later stages do not pad.
            if dims.int8 {
                quant = kernels.quantize(map, first_mut(s.input_codes, code_stride(map.len())));
            } else {
                (s.input_values.iter_mut().zip(&*map)).for_each(|(to, from)| *to = *from);
            }
        }
        let (scale, zero) = ([quant.scale], [quant.zero]);
        let x = if dims.int8 {
            Activations::quantised(QuantRows {
                codes: first(s.input_codes, code_stride(dims.features)),
                scale: &scale,
                zero: &zero,
            })
        } else {
            Activations::floats(first(s.input_values, dims.features))
        };
        self.projection.run(kernels, x, y);
    }
}

/// Interleaves the crops as channels of one image [size, size, stack] with a border of `pad`.
fn stack<'c, T: Copy>(
    dims: &Dims,
    stage: &Stage,
    crops: impl Iterator<Item = &'c [u8]>,
    image: &mut [T],
    pad: T,
    convert: impl Fn(u8) -> T,
) {
    let line = (stage.windows.size[1] * dims.stack).max(1);
    if stage.pad > 0 {
        image.fill(pad);
    }
    for (channel, crop) in crops.take(dims.stack).enumerate() {
        let lines = image.chunks_exact_mut(line).skip(stage.pad);
        for (to, from) in lines.zip(crop.chunks_exact(dims.crop.max(1))) {
            let pixels = to.chunks_exact_mut(dims.stack.max(1)).skip(stage.pad);
            for (to, &grey) in pixels.zip(from) {
                if let Some(to) = to.get_mut(channel) {
                    *to = convert(grey);
                }
            }
        }
    }
}

/// Hands the windows of `input` to `matmul`, band by band, one every `stride` elements, with the part of `map` they
/// fill.
fn convolve<T: Copy>(
    stage: &Stage,
    input: &[T],
    stride: usize,
    rows: &mut [T],
    map: &mut [f32],
    mut matmul: impl FnMut(&[T], &mut [f32]),
) {
    let band_len = (stage.band_windows() * stage.channels).max(1);
    for (i, y) in map.chunks_mut(band_len).enumerate() {
        let windows = y.len() / stage.channels.max(1);
        let rows = first_mut(rows, windows * stride);
        im2row(
            input,
            &stage.windows,
            i * stage.band_windows(),
            stride,
            rows,
        );
        matmul(rows, y);
    }
}
