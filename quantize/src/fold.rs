//! Folding: batch norms into the convolutions before them, pixel scaling into the first one.
//! What is left is exactly what the engine runs.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use viseme_format::layout;
use viseme_format::spec::Conformer;

use crate::checkpoint::{Array, Checkpoint};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Array>;

/// Added to a batch norm's variance in training.
pub(crate) const BATCH_NORM_EPS: f32 = 1e-5;

/// Consumes the checkpoint's tensors and returns those of the model file, in f32.
///
/// # Errors
/// A tensor that is missing, has another shape than the description says, or is not asked for.
pub fn fold(mut checkpoint: Checkpoint) -> Result<Tensors> {
    let json = checkpoint.spec.clone();
    let spec = json.spec()?;
    let net = spec.conformer()?;
    let mut tensors = Tensors::new();
    layout::checkpoint(net, |name, shape| -> Result<()> {
        tensors.insert(name.to_owned(), checkpoint.take(name, shape)?);
        Ok(())
    })?;
    let extra: Vec<_> = checkpoint.tensors.keys().take(3).cloned().collect();
    ensure!(
        extra.is_empty(),
        "the checkpoint holds tensors that the description does not ask for: {}",
        extra.join(", ")
    );
    for stage in 0..net.frontend.stages().len() {
        let conv = format!("frontend.conv.{stage}");
        fold_batch_norm(&mut tensors, &format!("frontend.bn.{stage}"), &conv)?;
    }
    for block in 0..net.encoder.blocks {
        let conv = format!("encoder.{block}.conv");
        fold_batch_norm(
            &mut tensors,
            &format!("{conv}.bn"),
            &format!("{conv}.depthwise"),
        )?;
        transpose(
            tensors
                .entry(format!("{conv}.depthwise.weight"))
                .or_default(),
        );
    }
    fold_pixels(&mut tensors, net);
    Ok(tensors)
}

/// A batch norm at evaluation is `x * scale + shift` per channel: row by row into the weights of
/// the convolution before it, the rest into its bias (which is made if there was none).
fn fold_batch_norm(tensors: &mut Tensors, norm: &str, conv: &str) -> Result<()> {
    let [weight, bias, mean, var] = ["weight", "bias", "mean", "var"].map(|part| {
        let array = tensors.remove(&format!("{norm}.{part}"));
        array.map(|a| a.data).unwrap_or_default()
    });
    let channels = weight.len();
    let scale: Vec<f32> = (0..channels)
        .map(|i| weight[i] / (var[i] + BATCH_NORM_EPS).sqrt())
        .collect();
    ensure!(
        var.iter().all(|&v| v >= 0.0) && scale.iter().all(|s| s.is_finite()),
        "batch norm {norm} has a negative variance; the checkpoint is damaged"
    );
    let rows = &mut tensors.entry(format!("{conv}.weight")).or_default().data;
    let width = rows.len() / channels;
    for (row, scale) in rows.chunks_exact_mut(width).zip(&scale) {
        row.iter_mut().for_each(|w| *w *= scale);
    }
    let own = tensors
        .entry(format!("{conv}.bias"))
        .or_insert_with(|| Array {
            shape: vec![channels],
            data: vec![0.0; channels],
        });
    for (i, b) in own.data.iter_mut().enumerate() {
        *b = *b * scale[i] + (bias[i] - mean[i] * scale[i]);
    }
    Ok(())
}

/// Rows to columns: the engine wants the channels of a tap beside each other.
fn transpose(array: &mut Array) {
    if let [rows, columns] = array.shape[..] {
        let at = |i: usize| array.data[i % rows * columns + i / rows];
        array.data = (0..rows * columns).map(at).collect();
        array.shape = vec![columns, rows];
    }
}

/// Training saw `((q / 255) - mean) / std`; the engine hands in `q - pad`, so that padding is
/// exactly zero. The pad's own value moves into the bias.
fn fold_pixels(tensors: &mut Tensors, net: &Conformer<'_>) {
    let gain = 1.0 / (255.0 * net.crop.std);
    let pad = (net.frontend.pad_value as f32 / 255.0 - net.crop.mean) / net.crop.std;
    let mut sums = Vec::new();
    let weight = tensors
        .entry("frontend.conv.0.weight".to_owned())
        .or_default();
    let width: usize = weight.shape[1..].iter().product();
    for row in weight.data.chunks_exact_mut(width) {
        sums.push(row.iter().map(|&w| f64::from(w)).sum::<f64>() as f32);
        row.iter_mut().for_each(|w| *w *= gain);
    }
    let bias = tensors
        .entry("frontend.conv.0.bias".to_owned())
        .or_default();
    for (b, sum) in bias.data.iter_mut().zip(sums) {
        *b += pad * sum;
    }
}
