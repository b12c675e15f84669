//! Folding: batch norms into the convolutions before them, pixel scaling into the first one.
//! What is left is exactly what the engine runs.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use viseme_format::spec::{Conformer, ModelSpec};

use crate::checkpoint::{Array, Checkpoint};

/// Added to a batch norm's variance in training.
const BATCH_NORM_EPS: f32 = 1e-5;

/// Consumes the checkpoint's tensors and returns those of the model file, in f32.
///
/// # Errors
/// A tensor that is missing, has another shape than the description says, or is not asked for.
pub fn fold(mut checkpoint: Checkpoint) -> Result<BTreeMap<String, Array>> {
    let json = checkpoint.spec.clone();
    let spec = json.spec()?;
    let net = spec.conformer()?;
    let mut out = BTreeMap::new();
    front_end(&mut checkpoint, &spec, net, &mut out)?;
    let e = &net.encoder;
    let (d, ff, h) = (e.d_model as usize, e.ff as usize, e.heads as usize);
    let kernel = e.conv_kernel as usize;
    let mut keep = |name: String, shape: &[usize]| -> Result<()> {
        let array = checkpoint.take(&name, shape)?;
        out.insert(name, array);
        Ok(())
    };
    for b in 0..e.blocks {
        let at = |s: &str| format!("encoder.{b}.{s}");
        for m in ["ff1", "ff2"] {
            keep(at(&format!("{m}.up.weight")), &[ff, d])?;
            keep(at(&format!("{m}.up.bias")), &[ff])?;
            keep(at(&format!("{m}.down.weight")), &[d, ff])?;
            keep(at(&format!("{m}.down.bias")), &[d])?;
        }
        for norm in ["ff1.norm", "att.norm", "conv.norm", "ff2.norm", "norm"] {
            keep(at(&format!("{norm}.weight")), &[d])?;
            keep(at(&format!("{norm}.bias")), &[d])?;
        }
        for m in ["q", "k", "v", "out"] {
            keep(at(&format!("att.{m}.weight")), &[d, d])?;
            keep(at(&format!("att.{m}.bias")), &[d])?;
        }
        keep(at("att.pos.weight"), &[d, d])?;
        keep(at("att.bias_u"), &[h, d / h])?;
        keep(at("att.bias_v"), &[h, d / h])?;
        keep(at("conv.pointwise1.weight"), &[2 * d, d])?;
        keep(at("conv.pointwise1.bias"), &[2 * d])?;
        keep(at("conv.pointwise2.weight"), &[d, d])?;
        keep(at("conv.pointwise2.bias"), &[d])?;
    }
    keep("encoder.norm.weight".into(), &[d])?;
    keep("encoder.norm.bias".into(), &[d])?;
    keep("ctc.weight".into(), &[net.tokens.len(), d])?;
    keep("ctc.bias".into(), &[net.tokens.len()])?;
    for b in 0..e.blocks {
        let name = format!("encoder.{b}.conv");
        let mut weight = checkpoint.take(&format!("{name}.depthwise.weight"), &[d, kernel])?;
        let mut bias = checkpoint.take(&format!("{name}.depthwise.bias"), &[d])?;
        let (scale, shift) = batch_norm(&mut checkpoint, &format!("{name}.bn"), d)?;
        for c in 0..d {
            weight.data[c * kernel..][..kernel]
                .iter_mut()
                .for_each(|w| *w *= scale[c]);
            bias.data[c] = bias.data[c] * scale[c] + shift[c];
        }
        out.insert(format!("{name}.depthwise.weight"), weight);
        out.insert(format!("{name}.depthwise.bias"), bias);
    }
    let extra: Vec<_> = checkpoint.tensors.keys().take(3).cloned().collect();
    ensure!(
        extra.is_empty(),
        "the checkpoint holds tensors that the description does not ask for: {}",
        extra.join(", ")
    );
    Ok(out)
}

fn front_end(
    checkpoint: &mut Checkpoint,
    spec: &ModelSpec<'_>,
    net: &Conformer<'_>,
    out: &mut BTreeMap<String, Array>,
) -> Result<()> {
    let mut cin = net.frontend.frames as usize;
    for (i, stage) in net.frontend.stages().iter().enumerate() {
        let (cout, k) = (stage.channels as usize, stage.kernel as usize);
        let name = format!("frontend.conv.{i}.weight");
        let mut weight = checkpoint.take(&name, &[cout, k, k, cin])?;
        let (scale, mut bias) = batch_norm(checkpoint, &format!("frontend.bn.{i}"), cout)?;
        let fan_in = k * k * cin;
        for (o, row) in weight.data.chunks_exact_mut(fan_in).enumerate() {
            row.iter_mut().for_each(|w| *w *= scale[o]);
            if i == 0 {
                // Training saw ((q / 255) - mean) / std; the engine hands in q - pad, so that
                // padding is exactly zero. The pad's own value moves into the bias.
                let gain = 1.0 / (255.0 * net.crop.std);
                let pad = (net.frontend.pad_value as f32 / 255.0 - net.crop.mean) / net.crop.std;
                bias[o] += pad * row.iter().map(|&w| f64::from(w)).sum::<f64>() as f32;
                row.iter_mut().for_each(|w| *w *= gain);
            }
        }
        out.insert(name, weight);
        let bias = Array {
            shape: vec![cout],
            data: bias,
        };
        out.insert(format!("frontend.conv.{i}.bias"), bias);
        cin = cout;
    }
    let d = net.encoder.d_model as usize;
    let features = net.frontend.features(net.crop.size);
    let features = features.ok_or_else(|| anyhow::anyhow!("{}: front-end too large", spec.name))?;
    for (name, shape) in [("weight", vec![d, features as usize]), ("bias", vec![d])] {
        let name = format!("frontend.proj.{name}");
        let array = checkpoint.take(&name, &shape)?;
        out.insert(name, array);
    }
    Ok(())
}

/// A batch norm at evaluation as `x * scale + shift`.
fn batch_norm(checkpoint: &mut Checkpoint, name: &str, c: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut part = |p: &str| checkpoint.take(&format!("{name}.{p}"), &[c]);
    let (weight, bias, mean, var) = (part("weight")?, part("bias")?, part("mean")?, part("var")?);
    let scale: Vec<f32> = (0..c)
        .map(|i| weight.data[i] / (var.data[i] + BATCH_NORM_EPS).sqrt())
        .collect();
    let shift = (0..c)
        .map(|i| bias.data[i] - mean.data[i] * scale[i])
        .collect();
    ensure!(
        var.data.iter().all(|&v| v >= 0.0) && scale.iter().all(|s| s.is_finite()),
        "batch norm {name} has a negative variance; the checkpoint is damaged"
    );
    Ok((scale, shift))
}
