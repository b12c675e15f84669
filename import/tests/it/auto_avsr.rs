//! Auto-AVSR models by names and shapes: complete, old, incomplete, misspelt, others; and what `model.json` says.

use viseme_import::ImportError;
use viseme_import::auto_avsr::*;
use viseme_import::checkpoint::{Checkpoint, DType, TensorInfo};

type List = Vec<(String, Vec<usize>)>;

// Small sizes, all different.
const WIDTH: usize = 3;
const D: usize = 8;
const HEADS: usize = 2;
const FF: usize = 10;
const KERNEL: usize = 5;
const VOCABULARY: usize = 7;
const HIDDEN: usize = 11;

#[test]
fn both_layouts_of_one_model_are_one() {
    let training = read(training(), None, None).unwrap();
    let zoo = read(zoo(), None, Some(Positions::Latest)).unwrap();
    let branch = Branch {
        width: WIDTH,
        d_model: D,
        heads: HEADS,
        ff: FF,
        blocks: 2,
        kernel: KERNEL,
        prelu: false,
        positions: Positions::Latest,
    };
    let config = Config {
        video: Some(branch),
        audio: None,
        fusion: None,
        decoder: Decoder {
            blocks: 1,
            ff: FF,
            d_model: D,
            heads: HEADS,
        },
        vocabulary: VOCABULARY,
    };
    assert_eq!(training.config, config);
    assert_eq!(zoo.config, config);
    assert!(training.tensors.iter().eq(zoo.tensors.iter()));
    let sources = [
        (
            "video.frontend.stem.weight",
            "frontend.frontend3D.0.weight",
            vec![3, 1, 5, 7, 7],
        ),
        (
            "video.frontend.stem.bn.var",
            "frontend.frontend3D.1.running_var",
            vec![3],
        ),
        (
            "video.frontend.0.1.conv2.weight",
            "frontend.trunk.layer1.1.conv2.weight",
            vec![3, 3, 3, 3],
        ),
        (
            "video.frontend.3.0.bn1.mean",
            "frontend.trunk.layer4.0.bn1.running_mean",
            vec![24],
        ),
        (
            "video.frontend.2.0.down.weight",
            "frontend.trunk.layer3.0.downsample.0.weight",
            vec![12, 6, 1, 1],
        ),
        (
            "video.frontend.2.0.down.bn.bias",
            "frontend.trunk.layer3.0.downsample.1.bias",
            vec![12],
        ),
        ("video.proj.weight", "proj_encoder.weight", vec![8, 24]),
        (
            "video.encoder.1.ff1.norm.weight",
            "encoder.encoders.1.norm_ff_macaron.weight",
            vec![8],
        ),
        (
            "video.encoder.0.ff1.up.weight",
            "encoder.encoders.0.feed_forward_macaron.w_1.weight",
            vec![10, 8],
        ),
        (
            "video.encoder.0.ff2.down.bias",
            "encoder.encoders.0.feed_forward.w_2.bias",
            vec![8],
        ),
        (
            "video.encoder.0.ff2.norm.bias",
            "encoder.encoders.0.norm_ff.bias",
            vec![8],
        ),
        (
            "video.encoder.0.att.norm.weight",
            "encoder.encoders.0.norm_mha.weight",
            vec![8],
        ),
        (
            "video.encoder.0.att.out.weight",
            "encoder.encoders.0.self_attn.linear_out.weight",
            vec![8, 8],
        ),
        (
            "video.encoder.0.att.pos.weight",
            "encoder.encoders.0.self_attn.linear_pos.weight",
            vec![8, 8],
        ),
        (
            "video.encoder.0.att.bias_v",
            "encoder.encoders.0.self_attn.pos_bias_v",
            vec![2, 4],
        ),
        (
            "video.encoder.0.conv.norm.bias",
            "encoder.encoders.0.norm_conv.bias",
            vec![8],
        ),
        (
            "video.encoder.0.conv.pointwise1.weight",
            "encoder.encoders.0.conv_module.pointwise_cov1.weight",
            vec![16, 8],
        ),
        (
            "video.encoder.0.conv.depthwise.weight",
            "encoder.encoders.0.conv_module.depthwise_conv.weight",
            vec![8, 5],
        ),
        (
            "video.encoder.0.conv.bn.mean",
            "encoder.encoders.0.conv_module.norm.running_mean",
            vec![8],
        ),
        (
            "video.encoder.0.conv.pointwise2.bias",
            "encoder.encoders.0.conv_module.pointwise_cov2.bias",
            vec![8],
        ),
        (
            "video.encoder.0.norm.weight",
            "encoder.encoders.0.norm_final.weight",
            vec![8],
        ),
        (
            "video.encoder.norm.bias",
            "encoder.after_norm.bias",
            vec![8],
        ),
        ("decoder.embed.weight", "decoder.embed.0.weight", vec![7, 8]),
        (
            "decoder.0.self.norm.weight",
            "decoder.decoders.0.norm1.weight",
            vec![8],
        ),
        (
            "decoder.0.self.k.weight",
            "decoder.decoders.0.self_attn.linear_k.weight",
            vec![8, 8],
        ),
        (
            "decoder.0.cross.norm.weight",
            "decoder.decoders.0.norm2.weight",
            vec![8],
        ),
        (
            "decoder.0.cross.q.bias",
            "decoder.decoders.0.src_attn.linear_q.bias",
            vec![8],
        ),
        (
            "decoder.0.ff.norm.weight",
            "decoder.decoders.0.norm3.weight",
            vec![8],
        ),
        (
            "decoder.0.ff.down.weight",
            "decoder.decoders.0.feed_forward.w_2.weight",
            vec![8, 10],
        ),
        ("decoder.norm.weight", "decoder.after_norm.weight", vec![8]),
        ("decoder.output.bias", "decoder.output_layer.bias", vec![7]),
        ("ctc.weight", "ctc.ctc_lo.weight", vec![7, 8]),
    ];
    for (name, source, shape) in sources {
        assert_eq!(training.tensors.source(name), Some(source), "{name}");
        assert_eq!(training.tensors.shape(name), Some(&shape[..]), "{name}");
    }
    let first = zoo.tensors.source("video.proj.bias");
    assert_eq!(first, Some("encoder.embed.0.bias"));
}

#[test]
fn audio_and_both_have_their_own_names() {
    let audio = read(audio_training(), None, None).unwrap();
    assert!(audio.config.video.is_none() && audio.config.audio.is_some());
    assert_eq!(
        audio.tensors.shape("audio.frontend.stem.weight"),
        Some(&[3, 1, 80][..])
    );
    assert_eq!(
        audio.tensors.shape("audio.frontend.1.0.down.weight"),
        Some(&[6, 3, 1][..])
    );
    for (part, norm, name) in [
        ("bn1", FusionNorm::BatchNorm, "fusion.bn.weight"),
        ("norm1", FusionNorm::LayerNorm, "fusion.norm.weight"),
        ("", FusionNorm::None, "fusion.up.weight"),
    ] {
        let both = read(both(part), None, Some(Positions::Latest)).unwrap();
        assert_eq!(
            both.config.fusion,
            Some(Fusion {
                hidden: HIDDEN,
                norm
            })
        );
        assert_eq!(both.tensors.shape("fusion.up.weight"), Some(&[11, 16][..]));
        assert!(both.tensors.shape(name).is_some());
        assert_eq!(
            both.tensors.source("audio.encoder.1.norm.bias"),
            Some("aux_encoder.encoders.1.norm_final.bias")
        );
    }
    // PReLU has weights, the stem of audio too.
    let mut list = audio_training();
    list.push(("frontend.trunk.relu.weight".into(), vec![WIDTH]));
    for stage in 0..4 {
        for (unit, n) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            let name = format!("frontend.trunk.layer{}.{unit}.relu{n}.weight", stage + 1);
            list.push((name, vec![WIDTH << stage]));
        }
    }
    let prelu = read(list, None, None).unwrap();
    assert!(prelu.config.audio.as_ref().unwrap().prelu);
    assert_eq!(
        prelu.tensors.shape("audio.frontend.3.1.act2.weight"),
        Some(&[24][..])
    );
    assert_eq!(
        prelu.tensors.shape("audio.frontend.stem.act.weight"),
        Some(&[3][..])
    );
}

#[test]
fn old_names_and_wrappers_are_understood() {
    let expected = read(zoo(), None, Some(Positions::Latest)).unwrap();
    for wrapper in ["", "model.", "module.", "module.model.", "model.module."] {
        let rename = |name: &str| {
            let old = name.replace("encoder.embed.", "encoder.input_layer.");
            let old = old.replace("encoder.after_norm.", "encoder.norm.");
            let old = old.replace("decoder.after_norm.", "decoder.output_norm.");
            format!("{wrapper}{old}")
        };
        let mut list: List = zoo()
            .into_iter()
            .map(|(name, shape)| (rename(&name), shape))
            .collect();
        for table in ["encoder.embed.1.pe", "decoder.embed.1.pe"] {
            list.push((format!("{wrapper}{table}"), vec![1, 5000, D]));
        }
        let old = read(list, None, Some(Positions::Latest)).unwrap();
        assert_eq!(old.config, expected.config);
        assert!(old.tensors.iter().eq(expected.tensors.iter()));
    }
    let mut twice = zoo();
    twice.push(("encoder.norm.weight".into(), vec![D]));
    assert!(error(twice).contains("two names"));
}

#[test]
fn what_is_missing_wrong_or_too_much_is_listed() {
    let mut short = training();
    short.retain(|(name, _)| !name.starts_with("encoder.encoders.1.self_attn."));
    let line = error(short);
    assert!(
        line.contains("it lacks encoder.encoders.1.self_attn.") && line.contains("and 8 more"),
        "{line}"
    );
    let mut more = training();
    more.push(("encoder.extra\n.weight".into(), vec![1]));
    let line = error(more);
    assert!(
        line.contains("no Auto-AVSR model of its kind has encoder.extra"),
        "{line}"
    );
    let misspelt = [
        ("ctc.ctc_lo.bias", "ctc.ctc_l0.bias"),
        (
            "encoder.encoders.1.conv_module.pointwise_cov1.weight",
            "encoder.encoders.1.conv_module.pointwise_conv1.weight",
        ),
        ("decoder.embed.0.weight", "decoder.embed.o.weight"),
    ];
    for (right, misspelling) in misspelt {
        let mut list = training();
        let entry = list.iter_mut().find(|(name, _)| name == right).unwrap();
        entry.0 = misspelling.into();
        let line = error(list);
        assert!(
            line.contains(right) && line.contains(misspelling) && line.contains("meant"),
            "{line}"
        );
    }
    for (name, shape) in training() {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        for change in [
            |s: &mut Vec<usize>| s[0] += 1,
            |s: &mut Vec<usize>| s.push(1),
        ] {
            let mut list = training();
            let entry = list.iter_mut().find(|(other, _)| *other == name).unwrap();
            change(&mut entry.1);
            let changed = entry.1.clone();
            let result = read(list, None, None);
            assert!(result.is_err(), "{name} {shape:?} as {changed:?}");
        }
        let mut list = training();
        list.retain(|(other, _)| *other != name);
        let line = error(list);
        assert!(line.contains(&name), "{name}: {line}");
    }
    let integers = training().into_iter().map(|(name, shape)| {
        let dtype = if name == "ctc.ctc_lo.bias" {
            DType::I64
        } else {
            DType::F16
        };
        (name, TensorInfo { dtype, shape })
    });
    let integers = from_checkpoint(Checkpoint::from_list(integers), None, None);
    assert!(
        integers
            .unwrap_err()
            .to_string()
            .contains("ctc.ctc_lo.bias")
    );
}

#[test]
fn other_models_are_named() {
    let cases: [(&[&str], &str); 9] = [
        (
            &["encoder.conv1.weight", "decoder.token_embedding.weight"],
            "Whisper",
        ),
        (
            &[
                "model.encoder.conv1.weight",
                "model.decoder.embed_tokens.weight",
            ],
            "Whisper",
        ),
        (
            &["conv1.weight", "gru1.weight_ih_l0", "FC.weight"],
            "LipNet",
        ),
        (
            &["trunk.layer1.0.conv1.weight", "frontend3D.0.weight"],
            "LRW",
        ),
        (
            &[
                "trunk.layer1.0.conv1.weight",
                "frontend3D.0.weight",
                "tcn.mb_ms_tcn.x",
            ],
            "LRW",
        ),
        (
            &[
                "frontend.conv.0.weight",
                "frontend.proj.weight",
                "encoder.norm.bias",
            ],
            "Viseme's own trainer",
        ),
        (&["encoder.w2v_model.mask_emb"], "AV-HuBERT"),
        (
            &[
                "encoder.encoders.0.norm1.weight",
                "decoder.weight",
                "embed.weight",
            ],
            "language model",
        ),
        (&["fc.weight"], "another model"),
    ];
    for (names, says) in cases {
        let line = error(
            names
                .iter()
                .map(|&name| (name.to_owned(), vec![1]))
                .collect(),
        );
        assert!(
            line.contains(says) && line.contains("not an Auto-AVSR"),
            "{line}"
        );
    }
    assert!(error(Vec::new()).contains("without tensors"));
}

#[test]
fn positions_come_from_model_json_or_the_caller() {
    let with = |json: &str, positions| read(zoo(), Some(json), positions);
    let of = |model: AutoAvsr| model.config.video.unwrap().positions;
    let json = |more: &str| {
        format!(r#"{{"adim": 8, "transformer_encoder_attn_layer_type": "rel_mha"{more}}}"#)
    };
    let line = error(zoo());
    assert!(
        line.contains("--config model.json") && line.contains("--positions latest|legacy"),
        "{line}"
    );
    for (more, expected) in [
        (r#", "rel_pos_type": "latest""#, Positions::Latest),
        (r#", "rel_pos_type": null"#, Positions::Legacy),
        ("", Positions::Legacy),
    ] {
        assert_eq!(of(with(&json(more), None).unwrap()), expected, "{more}");
        assert_eq!(
            of(with(&json(more), Some(Positions::Latest)).unwrap()),
            Positions::Latest
        );
    }
    assert_eq!(
        of(with(&format!("[80, 7, {}]", json("")), None).unwrap()),
        Positions::Legacy
    );
    let unclear = json(r#", "rel_pos_type": "legacy""#);
    assert!(
        with(&unclear, None)
            .unwrap_err()
            .to_string()
            .contains("--positions")
    );
    assert!(
        with(r#"{"adim": 8}"#, None)
            .unwrap_err()
            .to_string()
            .contains("--positions")
    );
    let plain = r#"{"adim": 8, "transformer_encoder_attn_layer_type": "mha"}"#;
    assert!(with(plain, None).unwrap_err().to_string().contains("mha"));
    // The training repository has one kind only.
    assert!(read(training(), None, Some(Positions::Latest)).is_ok());
    assert!(read(training(), None, Some(Positions::Legacy)).is_err());
    // The option decides about the first encoder only.
    let both_json = format!(
        r#"{{"adim": 8, "transformer_encoder_attn_layer_type": "rel_mha", {}}}"#,
        r#""aux_transformer_encoder_attn_layer_type": "rel_mha""#
    );
    let model = read(both("bn1"), Some(&both_json), None).unwrap();
    assert_eq!(model.config.audio.unwrap().positions, Positions::Latest);
    assert_eq!(model.config.video.unwrap().positions, Positions::Legacy);
}

#[test]
fn model_json_has_to_agree_with_the_weights() {
    let with = |json: &str| read(zoo(), Some(json), Some(Positions::Latest));
    let good = r#"{"adim": 8, "aheads": 2, "eunits": 10, "elayers": 2, "cnn_module_kernel": 5, "dunits": 10, "dlayers": 1,
        "macaron_style": true, "use_cnn_module": 1, "zero_triu": false, "a_upsample_ratio": 1, "relu_type": "swish",
        "transformer_input_layer": "conv3d", "char_list": ["<blank>", "<unk>", "A", "B", "C", "D", "<eos>"]}"#;
    let tokens = with(good).unwrap().char_list.unwrap();
    assert_eq!(tokens, ["<blank>", "<unk>", "A", "B", "C", "D", "<eos>"]);
    for (right, wrong) in [
        (r#""adim": 8"#, r#""adim": 16"#),
        (r#""adim": 8"#, r#""adim": "8""#),
        (r#""adim": 8"#, r#""odim": 8"#),
        (r#""aheads": 2"#, r#""aheads": 4"#),
        (r#""eunits": 10"#, r#""eunits": 12"#),
        (r#""elayers": 2"#, r#""elayers": 12"#),
        (r#""cnn_module_kernel": 5"#, r#""cnn_module_kernel": 31"#),
        (r#""dunits": 10"#, r#""dunits": -10"#),
        (r#""dlayers": 1"#, r#""dlayers": 1.5"#),
        (r#""macaron_style": true"#, r#""macaron_style": false"#),
        (r#""use_cnn_module": 1"#, r#""use_cnn_module": 0"#),
        (r#""zero_triu": false"#, r#""zero_triu": true"#),
        (r#""a_upsample_ratio": 1"#, r#""a_upsample_ratio": 2"#),
        (r#""swish""#, r#""prelu""#),
        (r#""swish""#, r#""relu""#),
        (r#""conv3d""#, r#""conv1d""#),
        (r#""C", "D", "#, r#""C", "#),
        (r#""C", "D", "#, r#"3, "D", "#),
        (r#""dlayers": 1"#, r#""dheads": 3"#),
        (r#""dlayers": 1"#, r#""ddim": 16"#),
        ("}", ""),
    ] {
        assert!(good.contains(right));
        let line = with(&good.replace(right, wrong)).err();
        let line = line
            .unwrap_or_else(|| panic!("{wrong} is accepted"))
            .to_string();
        assert!(!line.contains('\n'), "{line}");
    }
    for junk in ["", "[]", "null", "[1, 2, 3]", "{}", &"[".repeat(100_000)] {
        assert!(with(junk).is_err());
    }
}

fn read(
    list: List,
    json: Option<&str>,
    positions: Option<Positions>,
) -> Result<AutoAvsr, ImportError> {
    let info = |(name, shape): (String, Vec<usize>)| {
        let dtype = match name.ends_with("num_batches_tracked") {
            true => DType::I64,
            false => DType::F32,
        };
        (name, TensorInfo { dtype, shape })
    };
    from_checkpoint(
        Checkpoint::from_list(list.into_iter().map(info)),
        json,
        positions,
    )
}

fn error(list: List) -> String {
    let line = read(list, None, None).unwrap_err().to_string();
    assert!(!line.contains('\n') && line.len() < 900, "{line}");
    line
}

/// Names as the original's modules give them.
fn training() -> List {
    let mut list = frontend("frontend.", true);
    linear(&mut list, "proj_encoder", D, 8 * WIDTH);
    encoder(&mut list, "encoder.");
    decoder(&mut list);
    list
}

fn audio_training() -> List {
    let mut list = frontend("frontend.", false);
    linear(&mut list, "proj_encoder", D, 8 * WIDTH);
    encoder(&mut list, "encoder.");
    decoder(&mut list);
    list
}

fn zoo() -> List {
    let mut list = frontend("encoder.frontend.", true);
    linear(&mut list, "encoder.embed.0", D, 8 * WIDTH);
    encoder(&mut list, "encoder.");
    decoder(&mut list);
    list
}

fn both(norm: &str) -> List {
    let mut list = zoo();
    list.extend(frontend("aux_encoder.frontend.", false));
    linear(&mut list, "aux_encoder.embed.0", D, 8 * WIDTH);
    encoder(&mut list, "aux_encoder.");
    linear(&mut list, "fusion.fc1", HIDDEN, 2 * D);
    match norm {
        "bn1" => batch_norm(&mut list, "fusion.bn1", HIDDEN),
        "norm1" => layer_norm(&mut list, "fusion.norm1", HIDDEN),
        _ => {}
    }
    linear(&mut list, "fusion.fc2", D, HIDDEN);
    list
}

fn frontend(prefix: &str, is_video: bool) -> List {
    let mut list = List::new();
    let kernel = |n: usize| if is_video { vec![n, n] } else { vec![n] };
    if is_video {
        list.push((
            format!("{prefix}frontend3D.0.weight"),
            vec![WIDTH, 1, 5, 7, 7],
        ));
        batch_norm(&mut list, &format!("{prefix}frontend3D.1"), WIDTH);
    } else {
        list.push((format!("{prefix}trunk.conv1.weight"), vec![WIDTH, 1, 80]));
        batch_norm(&mut list, &format!("{prefix}trunk.bn1"), WIDTH);
    }
    let mut before = WIDTH;
    for (layer, channels) in [(1, WIDTH), (2, 2 * WIDTH), (3, 4 * WIDTH), (4, 8 * WIDTH)] {
        for unit in 0..2 {
            let name = format!("{prefix}trunk.layer{layer}.{unit}");
            list.push((
                format!("{name}.conv1.weight"),
                [vec![channels, before], kernel(3)].concat(),
            ));
            batch_norm(&mut list, &format!("{name}.bn1"), channels);
            list.push((
                format!("{name}.conv2.weight"),
                [vec![channels, channels], kernel(3)].concat(),
            ));
            batch_norm(&mut list, &format!("{name}.bn2"), channels);
            if layer > 1 && unit == 0 {
                list.push((
                    format!("{name}.downsample.0.weight"),
                    [vec![channels, before], kernel(1)].concat(),
                ));
                batch_norm(&mut list, &format!("{name}.downsample.1"), channels);
            }
            before = channels;
        }
    }
    list
}

fn encoder(list: &mut List, prefix: &str) {
    for block in 0..2 {
        let name = format!("{prefix}encoders.{block}");
        for part in ["linear_q", "linear_k", "linear_v", "linear_out"] {
            linear(list, &format!("{name}.self_attn.{part}"), D, D);
        }
        list.push((format!("{name}.self_attn.linear_pos.weight"), vec![D, D]));
        for bias in ["pos_bias_u", "pos_bias_v"] {
            list.push((format!("{name}.self_attn.{bias}"), vec![HEADS, D / HEADS]));
        }
        for part in ["feed_forward", "feed_forward_macaron"] {
            linear(list, &format!("{name}.{part}.w_1"), FF, D);
            linear(list, &format!("{name}.{part}.w_2"), D, FF);
        }
        for (part, shape) in [
            ("pointwise_cov1", vec![2 * D, D, 1]),
            ("depthwise_conv", vec![D, 1, KERNEL]),
            ("pointwise_cov2", vec![D, D, 1]),
        ] {
            list.push((format!("{name}.conv_module.{part}.bias"), vec![shape[0]]));
            list.push((format!("{name}.conv_module.{part}.weight"), shape));
        }
        batch_norm(list, &format!("{name}.conv_module.norm"), D);
        for norm in [
            "norm_ff",
            "norm_mha",
            "norm_ff_macaron",
            "norm_conv",
            "norm_final",
        ] {
            layer_norm(list, &format!("{name}.{norm}"), D);
        }
    }
    layer_norm(list, &format!("{prefix}after_norm"), D);
}

fn decoder(list: &mut List) {
    list.push(("decoder.embed.0.weight".into(), vec![VOCABULARY, D]));
    for attention in ["self_attn", "src_attn"] {
        for part in ["linear_q", "linear_k", "linear_v", "linear_out"] {
            linear(
                list,
                &format!("decoder.decoders.0.{attention}.{part}"),
                D,
                D,
            );
        }
    }
    linear(list, "decoder.decoders.0.feed_forward.w_1", FF, D);
    linear(list, "decoder.decoders.0.feed_forward.w_2", D, FF);
    for n in 1..=3 {
        layer_norm(list, &format!("decoder.decoders.0.norm{n}"), D);
    }
    layer_norm(list, "decoder.after_norm", D);
    linear(list, "decoder.output_layer", VOCABULARY, D);
    linear(list, "ctc.ctc_lo", VOCABULARY, D);
}

fn linear(list: &mut List, name: &str, outputs: usize, inputs: usize) {
    list.push((format!("{name}.weight"), vec![outputs, inputs]));
    list.push((format!("{name}.bias"), vec![outputs]));
}

fn layer_norm(list: &mut List, name: &str, size: usize) {
    list.push((format!("{name}.weight"), vec![size]));
    list.push((format!("{name}.bias"), vec![size]));
}

fn batch_norm(list: &mut List, name: &str, size: usize) {
    layer_norm(list, name, size);
    list.push((format!("{name}.running_mean"), vec![size]));
    list.push((format!("{name}.running_var"), vec![size]));
    list.push((format!("{name}.num_batches_tracked"), vec![]));
}
