//! Checkpoints that the original's PyTorch code wrote: small models in all formats, and the names of full-size ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use viseme_import::auto_avsr::*;
use viseme_import::checkpoint::{Checkpoint, DType, TensorInfo};

/// A file or folder of the shared data; prints why a test is skipped without it.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VISEME_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let found = root.join("fixtures/auto_avsr").join(path);
    if !found.exists() {
        println!("skipped: no fixtures/auto_avsr/{path} in the shared data (set VISEME_SHARED)");
        return None;
    }
    Some(found)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap() as usize
}

#[test]
fn every_format_of_a_model_has_the_same_bits() {
    for (model, formats) in [
        ("video_small", &["model.pth"][..]),
        ("audio_small", &["model.pth", "model.ckpt"]),
        ("av_small", &["model.pth"]),
        ("video_legacy_relpos", &["model.pth"]),
    ] {
        let Some(folder) = shared(model) else { return };
        let options = Options::default();
        let plain = read(&folder.join("model.safetensors"), &options).unwrap();
        for format in formats {
            let other = read(&folder.join(format), &options).unwrap();
            assert_eq!(other.config, plain.config);
            assert!(other.tensors.iter().eq(plain.tensors.iter()));
            for (name, shape) in plain.tensors.iter() {
                let (a, b) = (
                    plain.tensors.load(name).unwrap(),
                    other.tensors.load(name).unwrap(),
                );
                assert_eq!(a.len(), shape.iter().product::<usize>());
                let same = a
                    .iter()
                    .map(|x| x.to_bits())
                    .eq(b.iter().map(|x| x.to_bits()));
                assert!(same, "{model}: {name} of {format}");
            }
        }
        // And the bits are those that another reader of safetensors finds.
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let peer = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, _) in plain.tensors.iter() {
            let tensor = peer.tensor(plain.tensors.source(name).unwrap()).unwrap();
            let values = plain.tensors.load(name).unwrap();
            let values: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            assert!(values == tensor.data(), "{model}: {name}");
        }
    }
}

#[test]
fn sizes_are_those_that_the_models_were_made_with() {
    for model in [
        "video_small",
        "audio_small",
        "av_small",
        "video_legacy_relpos",
    ] {
        let Some(folder) = shared(model) else { return };
        let expected = json(&folder.join("expected.json"));
        let made = &expected["config"];
        let branch = |sizes: &Value| Branch {
            width: number(made, "resnet_width"),
            d_model: number(sizes, "adim"),
            heads: number(sizes, "aheads"),
            ff: number(sizes, "eunits"),
            blocks: number(sizes, "elayers"),
            kernel: number(made, "cnn_kernel"),
            prelu: made["relu_type"] == "prelu",
            positions: match model {
                "video_legacy_relpos" => Positions::Legacy,
                _ => Positions::Latest,
            },
        };
        let (video, audio) = match made["modality"].as_str().unwrap() {
            "video" => (Some(branch(made)), None),
            "audio" => (None, Some(branch(made))),
            _ => (Some(branch(made)), Some(branch(&made["aux"]))),
        };
        let fusion = made.get("fusion_hdim").map(|_| Fusion {
            hidden: number(made, "fusion_hdim"),
            norm: FusionNorm::BatchNorm,
        });
        let config = Config {
            video,
            audio,
            fusion,
            decoder: Decoder {
                blocks: number(made, "dlayers"),
                ff: number(made, "dunits"),
                d_model: number(made, "adim"),
                heads: number(made, "aheads"),
            },
            vocabulary: number(made, "odim"),
        };
        let found = read(&folder.join("model.pth"), &Options::default()).unwrap();
        assert_eq!(found.config, config, "{model}");
        if let Some(tokens) = &found.char_list {
            let listed = expected["token_list"].as_array().unwrap();
            assert!(
                listed
                    .iter()
                    .map(|t| t.as_str().unwrap())
                    .eq(tokens.iter().map(String::as_str))
            );
        } else {
            assert!(!folder.join("model.json").exists());
        }
        check_names(&expected["keys"], &found, number(&expected, "n_params"));
    }
}

#[test]
fn checkpoints_list_every_key() {
    for (model, format) in [
        ("audio_small", "model.pth"),
        ("av_small", "model.pth"),
        ("av_small", "model.safetensors"),
    ] {
        let Some(folder) = shared(model) else { return };
        let keys = infos(&json(&folder.join("expected.json"))["keys"]);
        let file = Checkpoint::open(&folder.join(format)).unwrap();
        let listed = file
            .tensors()
            .map(|(name, info)| (name.to_owned(), info.clone()));
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), keys, "{model}/{format}");
    }
}

#[test]
fn full_size_models_map_completely() {
    for (list, positions, branches) in [
        ("fullsize_video_keys.json", None, (true, false)),
        ("fullsize_audio_keys.json", None, (false, true)),
        (
            "fullsize_av_modelzoo_keys.json",
            Some(Positions::Latest),
            (true, true),
        ),
    ] {
        let Some(path) = shared(list) else { return };
        let list = json(&path);
        let checkpoint = Checkpoint::from_list(infos(&list["keys"]));
        let model = from_checkpoint(checkpoint, None, positions).unwrap();
        let branch = Branch {
            width: 64,
            d_model: 768,
            heads: 12,
            ff: 3072,
            blocks: 12,
            kernel: 31,
            prelu: false,
            positions: Positions::Latest,
        };
        let config = Config {
            video: branches.0.then(|| branch.clone()),
            audio: branches.1.then_some(branch),
            fusion: (branches == (true, true)).then_some(Fusion {
                hidden: 8192,
                norm: FusionNorm::BatchNorm,
            }),
            decoder: Decoder {
                blocks: 6,
                ff: 3072,
                d_model: 768,
                heads: 12,
            },
            vocabulary: 5049,
        };
        assert_eq!(model.config, config);
        check_names(&list["keys"], &model, number(&list, "n_params"));
        assert!(model.tensors.load("ctc.bias").is_err());
    }
}

#[test]
fn positions_of_the_zoo_are_asked_for() {
    let Some(folder) = shared("av_small") else {
        return;
    };
    let bytes = std::fs::read(folder.join("model.pth")).unwrap();
    let without = from_checkpoint(Checkpoint::from_bytes(bytes).unwrap(), None, None);
    assert!(
        without
            .unwrap_err()
            .to_string()
            .contains("--config model.json")
    );
    // The model.json of another model.
    let Some(other) = shared("video_legacy_relpos/model.json") else {
        return;
    };
    let options = Options {
        config: Some(other),
        positions: Some(Positions::Latest),
    };
    let error = read(&folder.join("model.pth"), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("model.json says"), "{error}");
}

/// Every key has one name here, and parameters are as many as PyTorch counts.
fn check_names(keys: &Value, model: &AutoAvsr, parameters: usize) {
    let mut sources: Vec<&str> = model
        .tensors
        .iter()
        .map(|(name, _)| model.tensors.source(name).unwrap())
        .collect();
    sources.sort_unstable();
    let keys = infos(keys);
    let weights = keys
        .keys()
        .filter(|key| !key.ends_with("num_batches_tracked"));
    assert!(sources.iter().copied().eq(weights.map(String::as_str)));
    let is_parameter = |name: &str| !name.ends_with(".mean") && !name.ends_with(".var");
    let found = model.tensors.iter().filter(|(name, _)| is_parameter(name));
    assert_eq!(
        found
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum::<usize>(),
        parameters
    );
}

fn infos(keys: &Value) -> BTreeMap<String, TensorInfo> {
    let info = |(name, value): (&String, &Value)| {
        let dtype = match value[0].as_str().unwrap() {
            "float32" => DType::F32,
            "int64" => DType::I64,
            other => panic!("{other}"),
        };
        let shape = value[1].as_array().unwrap().iter();
        let shape = shape.map(|size| size.as_u64().unwrap() as usize).collect();
        (name.clone(), TensorInfo { dtype, shape })
    };
    keys.as_object().unwrap().iter().map(info).collect()
}
