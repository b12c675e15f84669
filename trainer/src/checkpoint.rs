//! Files of a run: the resumable checkpoint and the exported model, both safetensors.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::model::ops::Moments;
use crate::model::{Array, Params};
use crate::optim::State;
use crate::recipe::Recipe;

/// A run at a step boundary: everything the next step depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Weights and optimiser.
    pub state: State,
    /// Running moments of the batch norms.
    pub moments: BTreeMap<String, Moments>,
}

/// File name of the resumable checkpoint in a run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// File name of the exported weights.
pub const MODEL: &str = "model.safetensors";
/// File name of the exported description.
pub const SPEC: &str = "spec.json";

impl Checkpoint {
    /// Writes the checkpoint in one piece: a reader sees the old file or the new one.
    pub fn save(&self, path: &Path, recipe: &Recipe, clips: &str) -> Result<()> {
        let mut all = BTreeMap::new();
        let parts = [
            ("weights", &self.state.weights),
            ("average", &self.state.average),
            ("first", &self.state.first),
            ("second", &self.state.second),
        ];
        for (part, params) in parts {
            for (name, array) in &params.0 {
                all.insert(format!("{part}/{name}"), array.clone());
            }
        }
        for (name, array) in moment_arrays(&self.moments) {
            all.insert(format!("moments/{name}"), array);
        }
        let info = HashMap::from([
            ("step".to_owned(), self.state.step.to_string()),
            ("recipe".to_owned(), serde_json::to_string(recipe)?),
            ("clips".to_owned(), clips.to_owned()),
        ]);
        write(path, &all, Some(info))
    }

    /// Reads a checkpoint written for the same recipe and the same clips.
    pub fn load(path: &Path, recipe: &Recipe, clips: &str) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .with_context(|| format!("{} is damaged; delete it to start again", path.display()))?;
        let info = header.metadata().clone().unwrap_or_default();
        let same = |key: &str, value: &str| info.get(key).is_some_and(|v| v == value);
        if !same("recipe", &serde_json::to_string(recipe)?) || !same("clips", clips) {
            bail!(
                "{} belongs to another recipe or other clips; choose another --out or delete it",
                path.display()
            );
        }
        let all = read(&bytes, path)?;
        let part = |part: &str| {
            let own = |(name, a): (&String, &Array)| {
                Some((name.strip_prefix(part)?.to_owned(), a.clone()))
            };
            Params(all.iter().filter_map(own).collect())
        };
        let step = info.get("step").and_then(|s| s.parse().ok());
        let state = State {
            weights: part("weights/"),
            average: part("average/"),
            first: part("first/"),
            second: part("second/"),
            step: step.with_context(|| format!("{} has no step", path.display()))?,
        };
        ensure!(
            state.weights.0.keys().eq(state.average.0.keys()),
            "{} is incomplete; delete it to start again",
            path.display()
        );
        Ok(Self {
            state,
            moments: moments_from(&part("moments/"))?,
        })
    }
}

/// Writes the averaged weights and the moments under their canonical names.
pub fn export(path: &Path, weights: &Params, moments: &BTreeMap<String, Moments>) -> Result<()> {
    let mut all = weights.0.clone();
    all.extend(moment_arrays(moments));
    write(path, &all, None)
}

/// Reads what [`export`] wrote.
pub fn import(path: &Path) -> Result<(Params, BTreeMap<String, Moments>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let all = read(&bytes, path)?;
    let is_moment = |n: &str| n.ends_with(".mean") || n.ends_with(".var");
    let (moments, weights) = all.into_iter().partition(|(n, _)| is_moment(n));
    Ok((Params(weights), moments_from(&Params(moments))?))
}

/// Names the weights of a finished run, so that a run which goes on from them is not continued from others.
pub fn digest(run: &Path) -> Result<String> {
    let path = run.join(MODEL);
    let bytes = std::fs::read(&path).with_context(|| {
        format!(
            "cannot read {}; give the folder of a finished run",
            path.display()
        )
    })?;
    // FNV-1a.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Ok(format!("{hash:016x}"))
}

/// Replaces a file in one step.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let written = std::fs::File::create(&part)
        .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn moment_arrays(moments: &BTreeMap<String, Moments>) -> impl Iterator<Item = (String, Array)> {
    let array = |data: &Vec<f32>| Array {
        shape: vec![data.len()],
        data: data.clone(),
    };
    moments.iter().flat_map(move |(name, m)| {
        [
            (format!("{name}.mean"), array(&m.mean)),
            (format!("{name}.var"), array(&m.var)),
        ]
    })
}

fn moments_from(arrays: &Params) -> Result<BTreeMap<String, Moments>> {
    let mut out = BTreeMap::new();
    for (name, mean) in &arrays.0 {
        if let Some(name) = name.strip_suffix(".mean") {
            let var = arrays.0.get(&format!("{name}.var"));
            let var = var.with_context(|| format!("{name}.var is missing"))?;
            out.insert(
                name.to_owned(),
                Moments {
                    mean: mean.data.clone(),
                    var: var.data.clone(),
                },
            );
        }
    }
    Ok(out)
}

fn write(
    path: &Path,
    arrays: &BTreeMap<String, Array>,
    info: Option<HashMap<String, String>>,
) -> Result<()> {
    let bytes: Vec<(&String, &Array, Vec<u8>)> = arrays
        .iter()
        .map(|(n, a)| (n, a, a.data.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, array, bytes) in &bytes {
        views.push((
            name.as_str(),
            TensorView::new(Dtype::F32, array.shape.clone(), bytes)?,
        ));
    }
    write_atomically(path, &safetensors::serialize(views, info)?)
}

fn read(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Array>> {
    let file = SafeTensors::deserialize(bytes)
        .with_context(|| format!("{} is no safetensors file", path.display()))?;
    let mut out = BTreeMap::new();
    for (name, view) in file.iter() {
        ensure!(
            view.dtype() == Dtype::F32,
            "{name} in {} is not f32",
            path.display()
        );
        let floats = view.data().chunks_exact(4);
        let data = floats
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
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
