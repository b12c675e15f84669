//! Models of `viseme-auto-avsr`: `SPEC.md`, section 5. From what is seen and heard to the vectors that a decoder attends
//! to, and their CTC logits.

use viseme_format::gguf::Reader;
use viseme_format::layout::auto_avsr::{AUDIO_STEM, STAGES, UNITS, VIDEO_STEM, unit};
use viseme_format::spec::Activation;
use viseme_format::spec::auto_avsr::{
    self, AUDIO_POOL, AutoAvsr, Branch, FRAME_SAMPLES, FUSION_EPS, FusionNorm, LEGACY_LENGTH,
    NORM_EPS, Trunk,
};

use super::{Encoder, Network, Positions, Span};
use crate::ExportError;
use crate::graph::{Graph, Id, Kind};
use crate::weights;

/// The network for utterances of so many frames.
///
/// # Errors
/// A tensor that is missing.
pub fn build(file: &Reader<'_>, spec: &AutoAvsr<'_>, frames: usize) -> Result<Graph, ExportError> {
    let net = Network {
        file,
        graph: Graph::default(),
    };
    let mut model = Model { net, spec, frames };
    let mut branches = Vec::new();
    if let Some(branch) = &spec.video {
        let features = model.see(branch)?;
        branches.push(model.encode("video.", branch, features)?);
    }
    if let Some(branch) = &spec.audio {
        let features = model.hear(branch)?;
        branches.push(model.encode("audio.", branch, features)?);
    }
    let memory = match branches[..] {
        [memory] => memory,
        _ => model.fuse(&branches)?,
    };
    let (d, vocabulary) = (spec.decoder.d_model as usize, spec.tokens.len());
    let logits = model.net.linear("ctc", memory, vocabulary, d, 1.0)?;
    model.net.graph.output("memory", memory);
    model.net.graph.output("logits", logits);
    Ok(model.net.graph)
}

struct Model<'n> {
    net: Network<'n>,
    spec: &'n AutoAvsr<'n>,
    frames: usize,
}

impl Model<'_> {
    /// Grey crops to [frames, 8 · width].
    fn see(&mut self, of: &Branch) -> Result<Id, ExportError> {
        let (crop, frames) = (self.spec.crop, self.frames);
        let (side, width) = (crop.size as usize, of.width as usize);
        let net = &mut self.net;
        let crops = net.graph.input("crops", &[frames, side, side]);
        let scale = vec![1.0 / (255.0 * crop.std)];
        let scale = net.graph.constant("video.frontend.scale", &[1], scale);
        let shift = vec![-crop.mean / crop.std];
        let shift = net.graph.constant("video.frontend.shift", &[1], shift);
        let x = net.mul("video.frontend.scaled", crops, scale);
        let x = net.add("video.frontend.normal", x, shift);
        // Frames as channels, with frames of zeros before the first one and after the last.
        let [rows, columns, stack] = VIDEO_STEM;
        let zeros = net.graph.constant(
            "video.frontend.zeros",
            &[stack / 2, side, side],
            vec![0.0; stack / 2 * side * side],
        );
        let padded = [frames + 2 * (stack / 2), side, side];
        let x = net.graph.op(
            "video.frontend.padded",
            Kind::Concat { axis: 0 },
            &[zeros, x, zeros],
            &padded,
        );
        let shape = [padded[0], side, side, 1];
        let x = net.reshape("video.frontend.pixels", x, &shape);
        let shape = [frames, side, side, 1];
        let shifted = (0..stack).map(|t| {
            let name = format!("video.frontend.shift.{t}");
            net.slice(&name, x, &[t, 0, 0, 0], &shape)
        });
        let shifted: Vec<Id> = shifted.collect();
        let shape = [frames, side, side, stack];
        let x = net.graph.op(
            "video.frontend.stack",
            Kind::Concat { axis: 3 },
            &shifted,
            &shape,
        );
        let stem = Conv {
            kernel: [rows, columns],
            stride: [2, 2],
            pad: [rows / 2, columns / 2],
        };
        let x = self.convolve("video.frontend.stem", x, width, &stem, 4)?;
        let x = self.net.silu("video.frontend.stem.silu", x);
        let [_, rows, columns, _] = self.map(x);
        let half = |n: usize| n.div_ceil(2);
        let pool = Kind::MaxPool {
            kernel: 3,
            stride: 2,
            pad: 1,
        };
        let shape = [frames, half(rows), half(columns), width];
        let x = (self.net.graph).op("video.frontend.pool", pool, &[x], &shape);
        let x = self.trunk("video", of, x)?;
        let [_, rows, columns, channels] = self.map(x);
        self.average("video", x, rows * columns, channels)
    }

    /// Samples to [frames, 8 · width].
    fn hear(&mut self, of: &Branch) -> Result<Id, ExportError> {
        let samples = self.frames * FRAME_SAMPLES as usize;
        let width = of.width as usize;
        let x = self.net.graph.input("samples", &[samples]);
        let shape = [1, 1, samples, 1];
        let x = self.net.reshape("audio.frontend.samples", x, &shape);
        let stem = Conv {
            kernel: [1, AUDIO_STEM],
            stride: [1, 4],
            pad: [0, AUDIO_STEM / 2 - 2],
        };
        let x = self.convolve("audio.frontend.stem", x, width, &stem, 2)?;
        let x = match of.trunk {
            Trunk::Silu => self.net.silu("audio.frontend.stem.silu", x),
            Trunk::Prelu => self.prelu("audio.frontend.stem.act", x)?,
        };
        let x = self.trunk("audio", of, x)?;
        let channels = self.map(x)[3];
        self.average("audio", x, AUDIO_POOL, channels)
    }

    /// The residual blocks.
    fn trunk(&mut self, prefix: &str, of: &Branch, mut x: Id) -> Result<Id, ExportError> {
        let rows = if prefix == "video" { 3 } else { 1 };
        // Dimensions of the kernels in the file: those of sound have no rows.
        let dims = if prefix == "video" { 4 } else { 3 };
        for stage in 0..STAGES {
            for u in 0..UNITS {
                let (_, outputs, step) = unit(of.width as usize, stage, u);
                let at = |part: &str| format!("{prefix}.frontend.{stage}.{u}.{part}");
                let stride = if rows == 1 { [1, step] } else { [step; 2] };
                let conv = |stride| Conv {
                    kernel: [rows, 3],
                    stride,
                    pad: [rows / 2, 1],
                };
                let y = self.convolve(&at("conv1"), x, outputs, &conv(stride), dims)?;
                let y = self.activate(of, &at("act1"), y)?;
                let y = self.convolve(&at("conv2"), y, outputs, &conv([1, 1]), dims)?;
                let skip = if step > 1 {
                    let down = Conv {
                        kernel: [1, 1],
                        stride,
                        pad: [0, 0],
                    };
                    self.convolve(&at("down"), x, outputs, &down, 2)?
                } else {
                    x
                };
                let y = self.net.add(&at("sum"), y, skip);
                x = self.activate(of, &at("act2"), y)?;
            }
        }
        Ok(x)
    }

    fn activate(&mut self, of: &Branch, name: &str, x: Id) -> Result<Id, ExportError> {
        match of.trunk {
            Trunk::Silu => Ok(self.net.silu(name, x)),
            Trunk::Prelu => self.prelu(name, x),
        }
    }

    /// s · x + (1 - s) · max(0, x) for a factor s of each channel.
    fn prelu(&mut self, name: &str, x: Id) -> Result<Id, ExportError> {
        let channels = self.map(x)[3];
        let net = &mut self.net;
        let slopes = weights::floats(net.file, &format!("{name}.weight"), &[channels])?;
        let rest = slopes.iter().map(|s| 1.0 - s).collect();
        let at = |part: &str| format!("{name}.{part}");
        let slopes = net.graph.constant(&at("slopes"), &[channels], slopes);
        let rest = net.graph.constant(&at("rest"), &[channels], rest);
        let sloped = net.mul(&at("sloped"), x, slopes);
        let positive = net.same(&at("positive"), Kind::Relu, x);
        let positive = net.mul(&at("kept"), positive, rest);
        Ok(net.add(name, sloped, positive))
    }

    fn convolve(
        &mut self,
        name: &str,
        x: Id,
        outputs: usize,
        conv: &Conv,
        dims: usize,
    ) -> Result<Id, ExportError> {
        let [frames, rows, columns, channels] = self.map(x);
        let [height, width] = conv.kernel;
        let shape = match dims {
            2 => vec![outputs, height * width * channels],
            3 => vec![outputs, height * width, channels],
            _ => vec![outputs, height, width, channels],
        };
        let inputs = height * width * channels;
        let weight = format!("{name}.weight");
        let weight = weights::matrix(self.net.file, &weight, [outputs, inputs], &shape)?;
        let convolution = Kind::Convolution {
            weight: weight.rows,
            bias: weights::floats(self.net.file, &format!("{name}.bias"), &[outputs])?,
            kernel: conv.kernel,
            stride: conv.stride,
            pad: conv.pad,
        };
        let shape = [frames, conv.count(0, rows), conv.count(1, columns), outputs];
        Ok((self.net.graph).op(name, convolution, &[x], &shape))
    }

    /// Averages so many neighbouring pixels.
    fn average(
        &mut self,
        prefix: &str,
        x: Id,
        pixels: usize,
        channels: usize,
    ) -> Result<Id, ExportError> {
        let name = format!("{prefix}.frontend.maps");
        let x = self.net.reshape(&name, x, &[self.frames, pixels, channels]);
        let (name, shape) = (format!("{prefix}.frontend.mean"), [self.frames, channels]);
        Ok(self.net.graph.op(&name, Kind::Mean, &[x], &shape))
    }

    /// `proj`, the conformer blocks, and their norm.
    fn encode(
        &mut self,
        prefix: &'static str,
        of: &Branch,
        features: Id,
    ) -> Result<Id, ExportError> {
        let (d, frames) = (of.d_model as usize, self.frames);
        let e = Encoder {
            prefix,
            d,
            heads: of.heads as usize,
            ff: of.ff as usize,
            activation: Activation::Relu,
            kernel: of.conv_kernel as usize,
            conv_left: of.conv_kernel as usize / 2,
            eps: NORM_EPS,
            positions: match of.positions {
                auto_avsr::Positions::Latest => Positions::Latest,
                auto_avsr::Positions::Legacy => Positions::Legacy(LEGACY_LENGTH.max(frames) - 1),
            },
        };
        let net = &mut self.net;
        let inputs = net.graph.shape(features)[1];
        let scale = (d as f32).sqrt();
        let mut x = net.linear(&format!("{prefix}proj"), features, d, inputs, scale)?;
        let span = Span {
            frames,
            left: 0,
            mask: None,
        };
        for block in 0..of.blocks as usize {
            x = net.block(&e, block, x, &span, None)?.0;
        }
        net.norm(&format!("{prefix}encoder.norm"), x, NORM_EPS)
    }

    /// The perceptron over the vectors of both branches.
    fn fuse(&mut self, branches: &[Id]) -> Result<Id, ExportError> {
        let net = &mut self.net;
        let inputs = branches.iter().map(|&id| net.graph.shape(id)[1]).sum();
        let shape = [self.frames, inputs];
        let both = Kind::Concat { axis: 1 };
        let both = net.graph.op("fusion.both", both, branches, &shape);
        let (hidden, norm) = match &self.spec.fusion {
            Some(fusion) => (fusion.hidden as usize, fusion.norm),
            None => (0, FusionNorm::None),
        };
        let x = net.linear("fusion.up", both, hidden, inputs, 1.0)?;
        let x = match norm {
            FusionNorm::None => x,
            FusionNorm::Layer => net.norm("fusion.norm", x, FUSION_EPS)?,
            FusionNorm::Batch => {
                let part = |net: &mut Network<'_>, part: &str| {
                    let name = format!("fusion.norm.{part}");
                    let values = weights::floats(net.file, &name, &[hidden])?;
                    Ok::<Id, ExportError>(net.graph.constant(&name, &[hidden], values))
                };
                let (weight, bias) = (part(net, "weight")?, part(net, "bias")?);
                let scaled = net.mul("fusion.scaled", x, weight);
                net.add("fusion.shifted", scaled, bias)
            }
        };
        let x = net.same("fusion.relu", Kind::Relu, x);
        let d = self.spec.decoder.d_model as usize;
        net.linear("fusion.down", x, d, hidden, 1.0)
    }

    /// Sizes of [images, rows, columns, channels].
    fn map(&self, x: Id) -> [usize; 4] {
        let shape = self.net.graph.shape(x);
        core::array::from_fn(|i| shape.get(i).copied().unwrap_or(1))
    }
}

/// Sizes of a convolution, in rows and columns.
struct Conv {
    kernel: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
}

impl Conv {
    /// Places of the kernel along a dimension.
    fn count(&self, dim: usize, size: usize) -> usize {
        (size + 2 * self.pad[dim] - self.kernel[dim]) / self.stride[dim] + 1
    }
}
