//! The YuNet face detector, from its ONNX file to a `viseme-yunet` model file.
//!
//! YuNet (Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023;
//! github.com/ShiqiYu/libfacedetection.train) is recognised by its graph, not by its file name: a 3x3 stem with stride
//! 2, six stages of units (1x1 convolution, then 3x3 depthwise), a top-down neck over the last three, and four
//! branches (class, objectness, box, key points) on each of three strides. The `n` variant has one more unit before
//! the branches (`share` here), the `s` variant has none; sizes come from the weights' shapes, and inputs of fixed
//! and of free size are both accepted.
//!
//! ## Tensors of the model file
//! All F32, row-major, outermost first, output channels innermost, as the engine's kernels read them:
//!
//! | name | shape |
//! |---|---|
//! | `stem.weight`, `stem.bias` | \[3, 3, 3 (B, G, R), C\], \[C\] |
//! | `UNIT.pointwise.weight`, `.bias` | \[Cin, Cout\], \[Cout\] |
//! | `UNIT.depthwise.weight`, `.bias` | \[3, 3, Cout\], \[Cout\] |
//!
//! with UNIT = `stage.0.0`, `stage.{1..5}.{0,1}`, `neck.{0..2}`, `share.{0..2}` (n only), `head.{0..2}`. Level 0, 1, 2
//! is stride 8, 16, 32. A head's 16 channels are the four branches side by side: class, objectness, box (4), points
//! (10); its class and objectness lack their final sigmoid, which belongs to decoding.

use std::collections::HashMap;

use viseme_format::gguf::Writer;
use viseme_format::spec::{Family, Modality, ModelSpec, SpecWriteError, Weights, Yunet};

use crate::ImportError;
use crate::onnx::{AttributeValue, Graph, Model, Node, Tensor, malformed, short};

/// Converts YuNet's ONNX file to a model file of architecture `viseme-yunet` called `name`.
///
/// # Errors
/// [`ImportError::Malformed`] when `onnx` is no ONNX file, [`ImportError::WrongModel`] (naming what it is) when it
/// holds another network, [`ImportError::Unsupported`] when its weights are not float32.
pub fn import(onnx: &[u8], name: &str) -> Result<Vec<u8>, ImportError> {
    if onnx.len() > MAX_FILE_BYTES {
        return Err(ImportError::WrongModel(format!(
            "this file of {} MB is not YuNet's ONNX file, which has less than 1 MB; `viseme models pull yunet` fetches it",
            onnx.len() / 1_000_000
        )));
    }
    let model = Model::open(onnx)?;
    let tensors = Walk::new(&model.graph).yunet()?;
    write(&tensors, name)
}

/// Longest file looked into, in bytes: some ten times YuNet.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Strides of the three levels, in pixels.
const STRIDES: [u32; 3] = [8, 16, 32];

/// The engine computes channels in blocks of this many.
const CHANNEL_BLOCK: usize = 16;

/// A tensor of the model file: name, row-major shape (outermost first), values.
struct Named {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A convolution found in the graph.
struct Conv {
    /// [Cout, Cin / groups, ky, kx]
    shape: [usize; 4],
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// What a convolution should be like.
#[derive(Clone, Copy)]
struct Form {
    kernel: usize,
    stride: i64,
    depthwise: bool,
}

const STEM: Form = Form {
    kernel: 3,
    stride: 2,
    depthwise: false,
};
const POINTWISE: Form = Form {
    kernel: 1,
    stride: 1,
    depthwise: false,
};
const DEPTHWISE: Form = Form {
    kernel: 3,
    stride: 1,
    depthwise: true,
};

/// A tensor that flows through the graph.
#[derive(Clone, Copy)]
struct Map<'a> {
    name: &'a str,
    channels: usize,
}

/// Steps through the graph from its input, checking that each step is what YuNet has there.
struct Walk<'g, 'a> {
    graph: &'g Graph<'a>,
    consumers: HashMap<&'a str, Vec<&'g Node<'a>>>,
    constants: HashMap<&'a str, &'g Tensor<'a>>,
    tensors: Vec<Named>,
}

impl<'g, 'a> Walk<'g, 'a> {
    fn new(graph: &'g Graph<'a>) -> Self {
        let mut consumers: HashMap<_, Vec<_>> = HashMap::new();
        for node in &graph.nodes {
            for &input in &node.inputs {
                consumers.entry(input).or_default().push(node);
            }
        }
        let constants = graph.initializers.iter().map(|t| (t.name, t)).collect();
        Self {
            graph,
            consumers,
            constants,
            tensors: Vec::new(),
        }
    }

    /// The whole network: the model file's tensors in their order.
    fn yunet(mut self) -> Result<Vec<Named>, ImportError> {
        let quantised = |n: &&Node<'_>| n.op.contains("Quantize") || n.op.starts_with("QLinear");
        if let Some(node) = self.graph.nodes.iter().find(quantised) {
            return Err(ImportError::Unsupported(format!(
                "this ONNX file is quantised ({}): {}; use the float32 file of YuNet",
                short(node.op),
                self.graph.describe()
            )));
        }
        let mut x = self.input()?;
        x = self.stem(x)?;
        let mut scales = Vec::new();
        for stage in 0..6 {
            for unit in 0..if stage == 0 { 1 } else { 2 } {
                x = self.unit(x, &format!("stage.{stage}.{unit}"))?;
            }
            if stage >= 3 {
                scales.push(x);
            }
            if matches!(stage, 0 | 2 | 3 | 4) {
                x = self.pool(x)?;
            }
        }
        // Top-down: the coarsest level first, each upsampled and added to the next finer one.
        let mut levels = [x; 3];
        for level in (0..3).rev() {
            if level < 2 {
                x = self.upsample_add(x, scales[level])?;
            }
            x = self.unit(x, &format!("neck.{level}"))?;
            levels[level] = x;
        }
        if levels
            .iter()
            .chain(&scales)
            .any(|map| map.channels != x.channels)
        {
            return Err(self.wrong("the levels of its neck have different channels"));
        }
        let shared = self.is_shared(levels[0]);
        for (level, &x) in levels.iter().enumerate() {
            if self.is_shared(x) != shared {
                return Err(self.wrong("its levels have different branches"));
            }
            self.head(x, level)?;
        }
        Ok(self.tensors)
    }

    /// The one input that is no weight.
    fn input(&self) -> Result<Map<'a>, ImportError> {
        let mut real = self.graph.inputs.iter();
        let mut real = real
            .by_ref()
            .filter(|name| !self.constants.contains_key(*name));
        match (real.next(), real.next()) {
            (Some(&name), None) => Ok(Map { name, channels: 3 }),
            _ => Err(self.wrong("it should have one input")),
        }
    }

    /// Conv 3x3, stride 2, then ReLU.
    fn stem(&mut self, x: Map<'a>) -> Result<Map<'a>, ImportError> {
        let (conv, y) = self.conv(x, self.one(x, "Conv")?, STEM)?;
        let cout = self.in_blocks(y.channels)?;
        let mut weight = vec![0.0; cout * 27];
        for o in 0..cout {
            for c in 0..3 {
                for k in 0..9 {
                    weight[(k * 3 + c) * cout + o] = conv.weight[(o * 3 + c) * 9 + k];
                }
            }
        }
        self.add("stem.weight", &[3, 3, 3, cout], weight);
        self.add("stem.bias", &[cout], conv.bias);
        self.follow(y, "Relu")
    }

    /// Pointwise and depthwise convolution, then ReLU.
    fn unit(&mut self, x: Map<'a>, name: &str) -> Result<Map<'a>, ImportError> {
        let (pointwise, y) = self.conv(x, self.one(x, "Conv")?, POINTWISE)?;
        let (depthwise, y) = self.conv(y, self.one(y, "Conv")?, DEPTHWISE)?;
        self.add_unit(name, x, &[(pointwise, depthwise)])?;
        self.follow(y, "Relu")
    }

    /// Whether a shared unit stands before the branches of the level that `x` feeds.
    fn is_shared(&self, x: Map<'a>) -> bool {
        self.nodes(x, "Conv").count() == 1
    }

    /// The four branches of a level, with the shared unit before them if there is one.
    fn head(&mut self, mut x: Map<'a>, level: usize) -> Result<(), ImportError> {
        if self.is_shared(x) {
            x = self.unit(x, &format!("share.{level}"))?;
        }
        let stride = STRIDES[level];
        let starts: Vec<_> = self.nodes(x, "Conv").collect();
        let mut branches: [Option<(Conv, Conv)>; 4] = [const { None }; 4];
        for start in starts {
            let (pointwise, y) = self.conv(x, start, POINTWISE)?;
            let (depthwise, y) = self.conv(y, self.one(y, "Conv")?, DEPTHWISE)?;
            let mut y = self.follow(self.follow(y, "Transpose")?, "Reshape")?;
            if self.consumers.contains_key(y.name) {
                y = self.follow(y, "Sigmoid")?;
            }
            let which = (["cls", "obj", "bbox", "kps"].iter())
                .position(|kind| y.name == format!("{kind}_{stride}"))
                .ok_or_else(|| {
                    let name = short(y.name);
                    self.wrong(&format!("it has an output \"{name}\" at stride {stride}"))
                })?;
            branches[which] = Some((pointwise, depthwise));
        }
        let branches: Vec<_> = branches.into_iter().flatten().collect();
        let channels: Vec<usize> = branches.iter().map(|(p, _)| p.shape[0]).collect();
        if channels != [1, 1, 4, 10] {
            return Err(self.wrong(&format!(
                "stride {stride} has branches of {channels:?} channels instead of [1, 1, 4, 10]"
            )));
        }
        self.add_unit(&format!("head.{level}"), x, &branches)
    }

    /// Max pool 2x2.
    fn pool(&self, x: Map<'a>) -> Result<Map<'a>, ImportError> {
        let node = self.one(x, "MaxPool")?;
        let fits = ints(node, "kernel_shape", &[1, 1]) == [2, 2]
            && ints(node, "strides", &[1, 1]) == [2, 2]
            && ints(node, "pads", &[0; 4]) == [0; 4];
        if !fits {
            return Err(self.wrong("a pool is not 2x2"));
        }
        self.output(node, x.channels)
    }

    /// Nearest-neighbour upsampling to twice the size, added to `finer`.
    fn upsample_add(&self, x: Map<'a>, finer: Map<'a>) -> Result<Map<'a>, ImportError> {
        let node = (self.one(x, "Resize")).or_else(|e| self.one(x, "Upsample").map_err(|_| e))?;
        let nearest = matches!(
            node.attribute("mode"),
            None | Some(AttributeValue::Text(b"nearest"))
        );
        // Resize takes (x, roi, scales), Upsample (x, scales). Sizes in place of scales are left to the addition,
        // which only fits twice the size.
        let scales = (node.inputs.iter().skip(1))
            .filter_map(|name| self.constants.get(name))
            .find(|constant| constant.dims == [4]);
        let doubled = match scales {
            Some(scales) if scales.data_type == crate::onnx::FLOAT => {
                scales.f32s()? == [1.0, 1.0, 2.0, 2.0]
            }
            _ => true,
        };
        if !nearest || !doubled {
            return Err(
                self.wrong("its neck does not upsample to twice the size by nearest neighbour")
            );
        }
        let up = self.output(node, x.channels)?;
        let add = self.one(up, "Add")?;
        if !add.inputs.contains(&finer.name) {
            return Err(self.wrong("its neck joins other layers"));
        }
        self.output(add, x.channels)
    }

    /// Reads a convolution of `x`, checking its form; its weights and what it makes.
    fn conv(
        &self,
        x: Map<'a>,
        node: &Node<'a>,
        form: Form,
    ) -> Result<(Conv, Map<'a>), ImportError> {
        let pad = (form.kernel as i64 - 1) / 2;
        let constant = |i: usize| {
            let name = node.inputs.get(i).copied().unwrap_or("");
            let found = self.constants.get(name).copied();
            found.ok_or_else(|| self.wrong("a convolution has no constant weights and bias"))
        };
        let (weight, bias) = (constant(1)?, constant(2)?);
        let groups = match node.attribute("group") {
            Some(&AttributeValue::Int(groups)) => groups,
            _ => 1,
        };
        let fits = |&[cout, cin, ky, kx]: &[usize; 4]| {
            let grouped = match form.depthwise {
                true => cin == 1 && cout == x.channels && usize::try_from(groups) == Ok(cout),
                false => cin == x.channels && groups == 1,
            };
            grouped
                && [ky, kx] == [form.kernel; 2]
                && bias.dims == [cout]
                && ints(node, "strides", &[1, 1]) == [form.stride; 2]
                && ints(node, "pads", &[0; 4]) == [pad; 4]
                && ints(node, "dilations", &[1, 1]) == [1, 1]
                && !node
                    .attributes
                    .iter()
                    .any(|a| a.name == "auto_pad" && a.value != AttributeValue::Text(b"NOTSET"))
        };
        let shape = <[usize; 4]>::try_from(weight.dims.as_slice())
            .ok()
            .filter(fits);
        let shape = shape.ok_or_else(|| {
            let (dims, kernel) = (&weight.dims, form.kernel);
            self.wrong(&format!(
                "a convolution of shape {dims:?} and {groups} groups stands where a {}{kernel}x{kernel} one of {} \
                 channels belongs",
                if form.depthwise { "depthwise " } else { "" },
                x.channels
            ))
        })?;
        let conv = Conv {
            shape,
            weight: weight.f32s()?,
            bias: bias.f32s()?,
        };
        Ok((conv, self.output(node, shape[0])?))
    }

    /// Adds the tensors of a unit made of branches side by side, all reading `x`.
    fn add_unit(
        &mut self,
        name: &str,
        x: Map<'a>,
        branches: &[(Conv, Conv)],
    ) -> Result<(), ImportError> {
        let cin = x.channels;
        let cout = self.in_blocks(branches.iter().map(|(p, _)| p.shape[0]).sum())?;
        let (mut pointwise, mut depthwise) = (vec![0.0; cin * cout], vec![0.0; 9 * cout]);
        let (mut pointwise_bias, mut depthwise_bias) = (Vec::new(), Vec::new());
        for (p, d) in branches {
            let first = pointwise_bias.len();
            for o in 0..p.shape[0] {
                for c in 0..cin {
                    pointwise[c * cout + first + o] = p.weight[o * cin + c];
                }
                for k in 0..9 {
                    depthwise[k * cout + first + o] = d.weight[o * 9 + k];
                }
            }
            pointwise_bias.extend_from_slice(&p.bias);
            depthwise_bias.extend_from_slice(&d.bias);
        }
        self.add(&format!("{name}.pointwise.weight"), &[cin, cout], pointwise);
        self.add(&format!("{name}.pointwise.bias"), &[cout], pointwise_bias);
        self.add(
            &format!("{name}.depthwise.weight"),
            &[3, 3, cout],
            depthwise,
        );
        self.add(&format!("{name}.depthwise.bias"), &[cout], depthwise_bias);
        Ok(())
    }

    fn add(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.tensors.push(Named {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values,
        });
    }

    fn in_blocks(&self, channels: usize) -> Result<usize, ImportError> {
        match channels.is_multiple_of(CHANNEL_BLOCK) && channels > 0 {
            true => Ok(channels),
            false => Err(ImportError::Unsupported(format!(
                "this YuNet has a layer of {channels} channels, only multiples of {CHANNEL_BLOCK} are run; use the \
                 published n or s variant"
            ))),
        }
    }

    /// The nodes of kind `op` that read `x`.
    fn nodes(
        &self,
        x: Map<'a>,
        op: &'static str,
    ) -> impl Iterator<Item = &'g Node<'a>> + use<'_, 'g, 'a> {
        let all = self.consumers.get(x.name).map_or(&[][..], Vec::as_slice);
        let standard = |n: &Node<'_>| matches!(n.domain, "" | "ai.onnx");
        (all.iter().copied()).filter(move |n| n.op == op && standard(n))
    }

    /// The only node of kind `op` that reads `x`.
    fn one(&self, x: Map<'a>, op: &'static str) -> Result<&'g Node<'a>, ImportError> {
        let mut found = self.nodes(x, op);
        match (found.next(), found.next()) {
            (Some(node), None) => Ok(node),
            (None, _) => Err(self.wrong(&format!("no {op} follows \"{}\"", short(x.name)))),
            _ => Err(self.wrong(&format!("several {op} follow \"{}\"", short(x.name)))),
        }
    }

    /// What [`Self::one`] makes of `x`, for operations that keep the channels.
    fn follow(&self, x: Map<'a>, op: &'static str) -> Result<Map<'a>, ImportError> {
        self.output(self.one(x, op)?, x.channels)
    }

    fn output(&self, node: &Node<'a>, channels: usize) -> Result<Map<'a>, ImportError> {
        let name = node
            .outputs
            .first()
            .copied()
            .filter(|name| !name.is_empty());
        let name =
            name.ok_or_else(|| malformed(format!("a {} node has no output", short(node.op))))?;
        Ok(Map { name, channels })
    }

    fn wrong(&self, why: &str) -> ImportError {
        ImportError::WrongModel(format!(
            "this ONNX file is not YuNet ({why}); it holds {}; `viseme models pull yunet` fetches YuNet",
            self.graph.describe()
        ))
    }
}

fn ints<'n>(node: &'n Node<'_>, name: &str, default: &'n [i64]) -> &'n [i64] {
    match node.attribute(name) {
        Some(AttributeValue::Ints(values)) => values,
        _ => default,
    }
}

fn write(tensors: &[Named], name: &str) -> Result<Vec<u8>, ImportError> {
    let refused = |why: SpecWriteError| {
        ImportError::Unsupported(format!(
            "the detector's model file cannot be written: {why}"
        ))
    };
    let spec = ModelSpec {
        name,
        license: "Apache-2.0",
        training_data: "WIDER FACE (Yang et al. 2016), by YuNet's authors",
        modality: Modality::Video,
        weights: Weights::F32,
        arena_bytes: 0,
        family: Family::Yunet(Yunet::new(32, &STRIDES).expect("three strides")),
    };
    let mut writer = Writer::new();
    spec.write(&mut writer).map_err(refused)?;
    for tensor in tensors {
        let added = writer.tensor_f32(&tensor.name, &tensor.shape, &tensor.values);
        added.map_err(|e| refused(e.into()))?;
    }
    writer.finish().map_err(|e| refused(e.into()))
}
