//! Checkpoints of Auto-AVSR to model files: batch norms folded, convolutions turned to channels last, the tokens put in.
//!
//! Tensors are read, folded and packed one after the other, so that no more than the model file and the largest tensor is
//! in memory beside the checkpoint, which is mapped.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use viseme_format::gguf::DType;
use viseme_format::layout;
use viseme_format::spec::auto_avsr::{
    self as spec, Branch, Fusion, FusionNorm, Positions, TransformerDecoder, Trunk,
};
use viseme_format::spec::{BLANK, Family, ModelSpec, Weights};
use viseme_import::auto_avsr::{self as import, AutoAvsr, Tensors};

use crate::checkpoint::Array;
use crate::feedback::Feedback;
use crate::fold::BATCH_NORM_EPS;
use crate::pack::{LayerError, Packer};

/// The last token: it begins and ends a sentence.
const EOS: &str = "<eos>";

/// Longest utterance of the models made here, in frames: a minute. The originals were trained on 24 s at most.
const MAX_FRAMES: u32 = 1500;

/// A model file in two parts, and how its matrices survived.
pub type Converted = ([Vec<u8>; 2], Vec<LayerError>);

/// The tokens of a checkpoint: from `units`, the file that the original ships (`piece id` a line, from 1 on), else those
/// in its model.json, else their numbers.
///
/// # Errors
/// A file that cannot be read, is malformed, or does not have as many tokens as the model.
pub fn tokens(model: &AutoAvsr, units: Option<&Path>) -> Result<Vec<String>> {
    let vocabulary = model.config.vocabulary;
    match (units, &model.char_list) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).with_context(|| {
                format!("{}: no list of tokens; give --units FILE", path.display())
            })?;
            parse_units(&text, vocabulary).with_context(|| path.display().to_string())
        }
        (None, Some(list)) => Ok(list.clone()),
        (None, None) => {
            // A piece that begins a word each, so that the numbers stand apart.
            let numbers = (1..vocabulary - 1).map(|id| format!("\u{2581}{id}"));
            let first = std::iter::once(BLANK.to_owned());
            Ok(first.chain(numbers).chain([EOS.to_owned()]).collect())
        }
    }
}

fn parse_units(text: &str, vocabulary: usize) -> Result<Vec<String>> {
    let mut all = vec![BLANK.to_owned()];
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let (piece, id) = line.rsplit_once(' ').with_context(|| {
            format!("line {number} is no `piece id`; give the units file of the model")
        })?;
        ensure!(
            id.trim().parse() == Ok(all.len()),
            "line {number} has the number {}, not {}; give the units file as it ships",
            id.trim(),
            all.len()
        );
        all.push(piece.to_owned());
    }
    all.push(EOS.to_owned());
    ensure!(
        all.len() == vocabulary,
        "{} units make {} tokens, and the model has {vocabulary}; give the units file that it was trained with",
        all.len() - 2,
        all.len()
    );
    Ok(all)
}

/// Makes a model file. `progress` is told the share of tensors that is done.
///
/// # Errors
/// A tensor that is damaged, or sizes that a model file cannot have.
pub fn convert(
    model: &AutoAvsr,
    name: &str,
    tokens: &[String],
    weights: Weights,
    mut progress: impl FnMut(f64),
) -> Result<Converted> {
    let spec = describe(model, name, tokens, weights)?;
    let of = spec.auto_avsr()?;
    let mut packer = Packer::default();
    spec.write(&mut packer.writer)
        .map_err(|e| anyhow!("{e}"))
        .context("a model of these sizes is not supported")?;
    let mut total = 0;
    layout::auto_avsr::model(of, Weights::F32, |_, _, _| -> Result<()> {
        total += 1;
        Ok(())
    })?;
    let mut folder = Folder {
        tensors: &model.tensors,
        biases: BTreeMap::new(),
    };
    let mut done = 0;
    layout::auto_avsr::model(of, weights, |name, shape, dtype| -> Result<()> {
        let is_derived = name.ends_with(".scale") || name.ends_with(".colsum");
        let array = if is_derived {
            None
        } else {
            done += 1;
            progress(f64::from(done) / f64::from(total));
            let array = folder.take(name)?;
            ensure!(
                array.data.iter().all(|v| v.is_finite()),
                "tensor {name} is too large once its batch norm is folded in; the checkpoint is damaged"
            );
            Some(array)
        };
        if let (Some(array), DType::F32) = (&array, dtype) {
            ensure!(
                array.shape == shape,
                "tensor {name} has the shape {:?} instead of {shape:?}",
                array.shape
            );
        }
        let stored = layout::stored(weights, name);
        let feedback = array
            .as_ref()
            .and_then(|array| feedback(name, &array.shape));
        packer.put(
            stored,
            name,
            shape,
            dtype,
            array.as_ref(),
            feedback.as_ref(),
        )
    })?;
    Ok((packer.writer.finish_parts()?, packer.errors))
}

/// How the matrix of this name is rounded, if not weight by weight: kernels that see neighbouring pixels or samples.
fn feedback(name: &str, shape: &[usize]) -> Option<Feedback> {
    if !name.contains(".frontend.") || !name.ends_with(".weight") {
        return None;
    }
    match *shape {
        [_, _, width, frames] if name.ends_with(".stem.weight") => {
            Some(Feedback::pixels(width, frames))
        }
        [_, height, width, _] => Some(Feedback::taps(height, width)),
        [_, samples, _] => Some(Feedback::taps(1, samples)),
        _ => None,
    }
}

/// What the file will say about itself.
fn describe<'a>(
    model: &AutoAvsr,
    name: &'a str,
    tokens: &'a [String],
    weights: Weights,
) -> Result<ModelSpec<'a>> {
    let config = &model.config;
    let decoder = &config.decoder;
    let family = spec::AutoAvsr {
        crop: spec::CROP,
        video: config.video.as_ref().map(branch).transpose()?,
        audio: config.audio.as_ref().map(branch).transpose()?,
        fusion: match &config.fusion {
            None => None,
            Some(fusion) => Some(Fusion {
                hidden: number(fusion.hidden)?,
                norm: match fusion.norm {
                    import::FusionNorm::None => FusionNorm::None,
                    import::FusionNorm::BatchNorm => FusionNorm::Batch,
                    import::FusionNorm::LayerNorm => FusionNorm::Layer,
                },
            }),
        },
        decoder: TransformerDecoder {
            d_model: number(decoder.d_model)?,
            heads: number(decoder.heads)?,
            ff: number(decoder.ff)?,
            blocks: number(decoder.blocks)?,
        },
        max_frames: MAX_FRAMES,
        tokens: tokens.into(),
    };
    Ok(ModelSpec {
        name,
        license: "that of the checkpoint it was made from",
        training_data: "that of the checkpoint it was made from",
        modality: family.modality(),
        weights,
        arena_bytes: 0,
        family: Family::AutoAvsr(family),
    })
}

fn branch(of: &import::Branch) -> Result<Branch> {
    Ok(Branch {
        width: number(of.width)?,
        trunk: if of.prelu { Trunk::Prelu } else { Trunk::Silu },
        d_model: number(of.d_model)?,
        heads: number(of.heads)?,
        ff: number(of.ff)?,
        blocks: number(of.blocks)?,
        conv_kernel: number(of.kernel)?,
        positions: match of.positions {
            import::Positions::Latest => Positions::Latest,
            import::Positions::Legacy => Positions::Legacy,
        },
    })
}

fn number(of: usize) -> Result<u32> {
    u32::try_from(of).context("a size of the model is out of range")
}

/// Gives the tensors of the model file from those of the checkpoint.
struct Folder<'m> {
    tensors: &'m Tensors,
    /// Biases that folding a batch norm left, until they are asked for.
    biases: BTreeMap<String, Vec<f32>>,
}

/// A batch norm at evaluation: x · scale + shift, a channel each.
struct BatchNorm {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Folder<'_> {
    fn take(&mut self, name: &str) -> Result<Array> {
        if let Some(data) = self.biases.remove(name) {
            let shape = vec![data.len()];
            return Ok(Array { shape, data });
        }
        if let Some(norm) = self.norm_behind(name) {
            return self.folded(name, &norm);
        }
        if let Some(part) = name.strip_prefix("fusion.norm.")
            && self.tensors.shape("fusion.bn.weight").is_some()
        {
            let norm = self.batch_norm("fusion.bn")?;
            let values = match part {
                "weight" => norm.scale,
                _ => norm.shift,
            };
            let data: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            let shape = vec![data.len()];
            return Ok(Array { shape, data });
        }
        self.load(name)
    }

    /// The batch norm that follows the convolution with this weight.
    fn norm_behind(&self, name: &str) -> Option<String> {
        let stem = name.strip_suffix(".weight")?;
        let (module, layer) = stem.rsplit_once('.')?;
        let norm = match layer {
            "stem" | "down" => format!("{stem}.bn"),
            "conv1" => format!("{module}.bn1"),
            "conv2" => format!("{module}.bn2"),
            "depthwise" => format!("{module}.bn"),
            _ => return None,
        };
        // `fusion.down` and others of that name have none.
        let is_there = self.tensors.shape(&format!("{norm}.weight")).is_some();
        is_there.then_some(norm)
    }

    /// The weight with its batch norm in it, channels last; the bias is kept for when it is asked for.
    fn folded(&mut self, name: &str, norm: &str) -> Result<Array> {
        let mut array = self.load(name)?;
        let norm = self.batch_norm(norm)?;
        let outputs = norm.scale.len();
        ensure!(
            array.shape.first() == Some(&outputs),
            "tensor {name} and its batch norm have different widths"
        );
        let width = array.data.len() / outputs;
        for (row, scale) in array.data.chunks_exact_mut(width).zip(&norm.scale) {
            row.iter_mut()
                .for_each(|w| *w = (f64::from(*w) * scale) as f32);
        }
        let bias = name.replace(".weight", ".bias");
        let own = match self.tensors.shape(&bias) {
            Some(_) => self.load(&bias)?.data,
            None => vec![0.0; outputs],
        };
        let bias_of =
            |(own, (scale, shift)): (&f32, (&f64, &f64))| (f64::from(*own) * scale + shift) as f32;
        let data = own.iter().zip(norm.scale.iter().zip(&norm.shift));
        self.biases.insert(bias, data.map(bias_of).collect());
        channels_last(name, array)
    }

    fn batch_norm(&self, name: &str) -> Result<BatchNorm> {
        let part = |part: &str| Ok::<_, anyhow::Error>(self.load(&format!("{name}.{part}"))?.data);
        let (weight, bias) = (part("weight")?, part("bias")?);
        let (mean, var) = (part("mean")?, part("var")?);
        ensure!(
            var.iter().all(|&v| v >= 0.0),
            "batch norm {name} has a negative variance; the checkpoint is damaged"
        );
        let scale: Vec<f64> = (weight.iter().zip(&var))
            .map(|(&w, &v)| f64::from(w) / (f64::from(v) + f64::from(BATCH_NORM_EPS)).sqrt())
            .collect();
        let shift = bias.iter().zip(mean.iter().zip(&scale));
        let shift = shift.map(|(&b, (&m, s))| f64::from(b) - f64::from(m) * s);
        Ok(BatchNorm {
            shift: shift.collect(),
            scale,
        })
    }

    fn load(&self, name: &str) -> Result<Array> {
        let shape = self.tensors.shape(name);
        let shape = shape
            .with_context(|| format!("the checkpoint has no tensor {name}"))?
            .to_vec();
        let data = self.tensors.load(name)?;
        Ok(Array { shape, data })
    }
}

/// Kernels as the engine reads windows: [outputs, height, width, inputs], of the stem that sees [.., frames], of sound
/// [outputs, samples, inputs], of the depthwise convolution [samples, channels].
fn channels_last(name: &str, array: Array) -> Result<Array> {
    let (shape, order): (Vec<usize>, Vec<usize>) = match *array.shape {
        // [outputs, 1, frames, height, width]
        [o, 1, t, h, w] => (vec![o, t, h, w], vec![0, 2, 3, 1]),
        // [outputs, inputs, height, width]
        [o, i, 1, 1] => {
            return Ok(Array {
                shape: vec![o, i],
                ..array
            });
        }
        [o, i, h, w] => (vec![o, i, h, w], vec![0, 2, 3, 1]),
        // Sound: the stem has one input.
        [o, 1, n] => {
            return Ok(Array {
                shape: vec![o, n],
                ..array
            });
        }
        [o, i, 1] => {
            return Ok(Array {
                shape: vec![o, i],
                ..array
            });
        }
        [o, i, n] => (vec![o, i, n], vec![0, 2, 1]),
        [c, n] => (vec![c, n], vec![1, 0]),
        _ => bail!("tensor {name} has {} dimensions", array.shape.len()),
    };
    Ok(permuted(&array.data, &shape, &order))
}

/// The same values with their dimensions in another order.
fn permuted(data: &[f32], shape: &[usize], order: &[usize]) -> Array {
    let strides: Vec<usize> = (0..shape.len())
        .map(|d| shape[d + 1..].iter().product())
        .collect();
    let out: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    let mut at = vec![0; shape.len()];
    let mut values = Vec::with_capacity(data.len());
    for _ in 0..data.len() {
        let place: usize = at.iter().zip(order).map(|(i, &d)| i * strides[d]).sum();
        values.push(data[place]);
        for (i, &len) in at.iter_mut().zip(&out).rev() {
            *i += 1;
            if *i < len {
                break;
            }
            *i = 0;
        }
    }
    Array {
        shape: out,
        data: values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_change_their_order() {
        let data: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let got = permuted(&data, &[2, 3, 4], &[0, 2, 1]);
        assert_eq!(got.shape, [2, 4, 3]);
        assert_eq!(got.data[..6], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        assert_eq!(got.data[12], 12.0);
    }

    #[test]
    fn units_are_numbered_from_one() {
        let good = "<unk> 1\n\u{2581}THE 2\nS 3\n";
        let tokens = parse_units(good, 5).unwrap();
        assert_eq!(tokens, ["<blank>", "<unk>", "\u{2581}THE", "S", "<eos>"]);
        for (text, vocabulary, word) in [
            (good, 6, "3 units"),
            ("<unk> 1\nS 3\n", 4, "line 2"),
            ("<unk>\n", 3, "line 1"),
            ("<unk> 1\nS x\n", 4, "line 2"),
            ("", 5, "0 units"),
        ] {
            let error = parse_units(text, vocabulary).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
