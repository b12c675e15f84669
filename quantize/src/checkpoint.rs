//! A trained model as the trainer leaves it: `model.safetensors` beside `spec.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors};
use viseme_format::spec::json::JsonSpec;

/// A row-major f32 tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Array {
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<f32>,
}

/// Weights by name, with the description of the model.
pub struct Checkpoint {
    /// What `spec.json` says.
    pub spec: JsonSpec,
    /// Tensors by their canonical names.
    pub tensors: BTreeMap<String, Array>,
}

impl Checkpoint {
    /// Reads a run's folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let spec_path = folder.join("spec.json");
        let text = std::fs::read_to_string(&spec_path).with_context(|| {
            format!(
                "cannot read {}; give the folder of a finished training run",
                spec_path.display()
            )
        })?;
        let spec =
            JsonSpec::parse(&text).map_err(|e| anyhow::anyhow!("{}: {e}", spec_path.display()))?;
        let path = folder.join("model.safetensors");
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            spec,
            tensors: tensors(&bytes, &path)?,
        })
    }

    /// A tensor of exactly this shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Array> {
        let array = self
            .tensors
            .remove(name)
            .with_context(|| format!("the checkpoint has no tensor {name}"))?;
        ensure!(
            array.shape == shape,
            "tensor {name} of the checkpoint has shape {:?}, the description asks for {shape:?}",
            array.shape
        );
        Ok(array)
    }
}

fn tensors(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Array>> {
    let file = SafeTensors::deserialize(bytes)
        .with_context(|| format!("{} is damaged or no safetensors file", path.display()))?;
    let mut out = BTreeMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            bail!("tensor {name} in {} is not f32", path.display());
        }
        let floats = view.data().chunks_exact(4);
        let data: Vec<f32> = floats
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        ensure!(
            data.iter().all(|x| x.is_finite()),
            "tensor {name} in {} holds values that are no numbers; the training diverged",
            path.display()
        );
        out.insert(
            name.to_owned(),
            Array {
                shape: view.shape().to_vec(),
                data,
            },
        );
    }
    Ok(out)
}
