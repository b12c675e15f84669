//! Every tensor of a model: its name here, its name and shape in a checkpoint.

use super::sizes::{BranchLayout, Layout};
use super::{Branch, Config, FusionNorm};

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Its name here.
    pub name: String,
    /// Its shape here.
    pub shape: Vec<usize>,
    /// Its name in a checkpoint of today.
    pub source: String,
    /// Its shape there.
    pub source_shape: Vec<usize>,
}

/// All tensors of a model, each once.
pub fn tensors(config: &Config, layout: &Layout) -> Vec<Needed> {
    let mut plan = Plan(Vec::new());
    if let (Some(branch), Some(place)) = (&config.video, &layout.video) {
        plan.branch("video", branch, place, &[5, 7, 7]);
    }
    if let (Some(branch), Some(place)) = (&config.audio, &layout.audio) {
        plan.branch("audio", branch, place, &[80]);
    }
    let d = config.decoder.d_model;
    if let (Some(fusion), Some(video), Some(audio)) = (&config.fusion, &config.video, &config.audio)
    {
        plan.linear(
            "fusion.up",
            "fusion.fc1",
            fusion.hidden,
            video.d_model + audio.d_model,
        );
        match fusion.norm {
            FusionNorm::BatchNorm => plan.batch_norm("fusion.bn", "fusion.bn1", fusion.hidden),
            FusionNorm::LayerNorm => plan.norm("fusion.norm", "fusion.norm1", fusion.hidden),
            FusionNorm::None => {}
        }
        plan.linear("fusion.down", "fusion.fc2", d, fusion.hidden);
    }
    plan.decoder(config);
    plan.linear("ctc", "ctc.ctc_lo", config.vocabulary, d);
    plan.0
}

struct Plan(Vec<Needed>);

impl Plan {
    fn add(&mut self, name: String, source: String, shape: &[usize]) {
        self.add_as(name, shape, source, shape);
    }

    fn add_as(&mut self, name: String, shape: &[usize], source: String, source_shape: &[usize]) {
        self.0.push(Needed {
            name,
            shape: shape.to_vec(),
            source,
            source_shape: source_shape.to_vec(),
        });
    }

    /// Weights and biases of a layer from `inputs` to `outputs`.
    fn linear(&mut self, name: &str, source: &str, outputs: usize, inputs: usize) {
        self.add(
            format!("{name}.weight"),
            format!("{source}.weight"),
            &[outputs, inputs],
        );
        self.add(format!("{name}.bias"), format!("{source}.bias"), &[outputs]);
    }

    fn norm(&mut self, name: &str, source: &str, size: usize) {
        for part in ["weight", "bias"] {
            self.add(
                format!("{name}.{part}"),
                format!("{source}.{part}"),
                &[size],
            );
        }
    }

    fn batch_norm(&mut self, name: &str, source: &str, size: usize) {
        self.norm(name, source, size);
        for part in ["mean", "var"] {
            self.add(
                format!("{name}.{part}"),
                format!("{source}.running_{part}"),
                &[size],
            );
        }
    }

    fn branch(&mut self, modality: &str, branch: &Branch, place: &BranchLayout, stem: &[usize]) {
        self.frontend(&format!("{modality}.frontend"), branch, place, stem);
        let d = branch.d_model;
        self.linear(
            &format!("{modality}.proj"),
            &place.proj,
            d,
            8 * branch.width,
        );
        let encoder = &place.encoder;
        for b in 0..branch.blocks {
            let name = format!("{modality}.encoder.{b}");
            self.conformer(&name, &format!("{encoder}encoders.{b}"), branch);
        }
        self.norm(
            &format!("{modality}.encoder.norm"),
            &format!("{encoder}after_norm"),
            d,
        );
    }

    fn frontend(&mut self, name: &str, branch: &Branch, place: &BranchLayout, stem: &[usize]) {
        let width = branch.width;
        let is_video = stem.len() == 3;
        let trunk = format!("{}trunk", place.frontend);
        let (conv, norm) = match is_video {
            true => (
                format!("{}frontend3D.0", place.frontend),
                format!("{}frontend3D.1", place.frontend),
            ),
            false => (format!("{trunk}.conv1"), format!("{trunk}.bn1")),
        };
        let shape = [&[width, 1], stem].concat();
        self.add(
            format!("{name}.stem.weight"),
            format!("{conv}.weight"),
            &shape,
        );
        self.batch_norm(&format!("{name}.stem.bn"), &norm, width);
        // The video stem has SiLU always.
        if branch.prelu && !is_video {
            self.add(
                format!("{name}.stem.act.weight"),
                format!("{trunk}.relu.weight"),
                &[width],
            );
        }
        let kernel = |size: usize| vec![size; if is_video { 2 } else { 1 }];
        let mut inputs = width;
        for stage in 0..4 {
            let outputs = width << stage;
            for unit in 0..2 {
                let name = format!("{name}.{stage}.{unit}");
                let source = format!("{trunk}.layer{}.{unit}", stage + 1);
                for n in 1..=2 {
                    let shape = [
                        vec![outputs, if n == 1 { inputs } else { outputs }],
                        kernel(3),
                    ]
                    .concat();
                    self.add(
                        format!("{name}.conv{n}.weight"),
                        format!("{source}.conv{n}.weight"),
                        &shape,
                    );
                    self.batch_norm(
                        &format!("{name}.bn{n}"),
                        &format!("{source}.bn{n}"),
                        outputs,
                    );
                    if branch.prelu {
                        self.add(
                            format!("{name}.act{n}.weight"),
                            format!("{source}.relu{n}.weight"),
                            &[outputs],
                        );
                    }
                }
                if stage > 0 && unit == 0 {
                    let shape = [vec![outputs, inputs], kernel(1)].concat();
                    self.add(
                        format!("{name}.down.weight"),
                        format!("{source}.downsample.0.weight"),
                        &shape,
                    );
                    self.batch_norm(
                        &format!("{name}.down.bn"),
                        &format!("{source}.downsample.1"),
                        outputs,
                    );
                }
                inputs = outputs;
            }
        }
    }

    fn conformer(&mut self, name: &str, source: &str, branch: &Branch) {
        let d = branch.d_model;
        for (part, suffix) in [("ff1", "_macaron"), ("ff2", "")] {
            self.norm(
                &format!("{name}.{part}.norm"),
                &format!("{source}.norm_ff{suffix}"),
                d,
            );
            let source = format!("{source}.feed_forward{suffix}");
            self.feed_forward(&format!("{name}.{part}"), &source, d, branch.ff);
        }
        self.norm(
            &format!("{name}.att.norm"),
            &format!("{source}.norm_mha"),
            d,
        );
        self.attention(&format!("{name}.att"), &format!("{source}.self_attn"), d);
        self.add(
            format!("{name}.att.pos.weight"),
            format!("{source}.self_attn.linear_pos.weight"),
            &[d, d],
        );
        for bias in ["bias_u", "bias_v"] {
            let shape = [branch.heads, d / branch.heads];
            self.add(
                format!("{name}.att.{bias}"),
                format!("{source}.self_attn.pos_{bias}"),
                &shape,
            );
        }
        self.norm(
            &format!("{name}.conv.norm"),
            &format!("{source}.norm_conv"),
            d,
        );
        let conv = format!("{source}.conv_module");
        for (n, outputs) in [(1, 2 * d), (2, d)] {
            let (name, source) = (
                format!("{name}.conv.pointwise{n}"),
                format!("{conv}.pointwise_cov{n}"),
            );
            let weight = format!("{source}.weight");
            self.add_as(
                format!("{name}.weight"),
                &[outputs, d],
                weight,
                &[outputs, d, 1],
            );
            self.add(format!("{name}.bias"), format!("{source}.bias"), &[outputs]);
        }
        let (depthwise, kernel) = (format!("{conv}.depthwise_conv"), branch.kernel);
        let weight = format!("{depthwise}.weight");
        self.add_as(
            format!("{name}.conv.depthwise.weight"),
            &[d, kernel],
            weight,
            &[d, 1, kernel],
        );
        self.add(
            format!("{name}.conv.depthwise.bias"),
            format!("{depthwise}.bias"),
            &[d],
        );
        self.batch_norm(&format!("{name}.conv.bn"), &format!("{conv}.norm"), d);
        self.norm(&format!("{name}.norm"), &format!("{source}.norm_final"), d);
    }

    fn decoder(&mut self, config: &Config) {
        let (decoder, vocabulary) = (&config.decoder, config.vocabulary);
        let d = decoder.d_model;
        self.add(
            "decoder.embed.weight".into(),
            "decoder.embed.0.weight".into(),
            &[vocabulary, d],
        );
        for b in 0..decoder.blocks {
            let (name, source) = (format!("decoder.{b}"), format!("decoder.decoders.{b}"));
            for (part, attention, norm) in [
                ("self", "self_attn", "norm1"),
                ("cross", "src_attn", "norm2"),
            ] {
                self.norm(
                    &format!("{name}.{part}.norm"),
                    &format!("{source}.{norm}"),
                    d,
                );
                self.attention(
                    &format!("{name}.{part}"),
                    &format!("{source}.{attention}"),
                    d,
                );
            }
            self.norm(&format!("{name}.ff.norm"), &format!("{source}.norm3"), d);
            self.feed_forward(
                &format!("{name}.ff"),
                &format!("{source}.feed_forward"),
                d,
                decoder.ff,
            );
        }
        self.norm("decoder.norm", "decoder.after_norm", d);
        self.linear("decoder.output", "decoder.output_layer", vocabulary, d);
    }

    fn feed_forward(&mut self, name: &str, source: &str, d: usize, inner: usize) {
        self.linear(&format!("{name}.up"), &format!("{source}.w_1"), inner, d);
        self.linear(&format!("{name}.down"), &format!("{source}.w_2"), d, inner);
    }

    fn attention(&mut self, name: &str, source: &str, d: usize) {
        for part in ["q", "k", "v", "out"] {
            self.linear(
                &format!("{name}.{part}"),
                &format!("{source}.linear_{part}"),
                d,
                d,
            );
        }
    }
}
