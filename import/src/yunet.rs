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
//! All F32, row-major, outermost first, in the order in which the engine reads them (output channels innermost):
//!
//! | name | shape |
//! |---|---|
//! | `stem.weight`, `stem.bias` | [3, 3, 3 (B, G, R), C], [C] |
//! | `UNIT.pointwise.weight`, `.bias` | [Cin, Cout], [Cout] |
//! | `UNIT.depthwise.weight`, `.bias` | [3, 3, Cout], [Cout] |
//!
//! with UNIT = `stage.0.0`, `stage.{1..5}.{0,1}`, `neck.{0..2}`, `share.{0..2}` (n only), `head.{0..2}`. Level 0, 1, 2
//! is stride 8, 16, 32. A head's 16 channels are the four branches side by side: class, objectness, box (4), points (10).

use std::collections::HashMap;

use viseme_format::gguf::Writer;
use viseme_format::spec::{Family, Modality, ModelSpec, SpecWriteError, Weights, Yunet};

use crate::ImportError;
use crate::onnx::{AttributeValue, Graph, Model, Node, Tensor, malformed, short};

/// Strides of the three levels, in pixels.
const STRIDES: [u32; 3] = [8, 16, 32];

/// Converts YuNet's ONNX file to a model file of architecture `viseme-yunet` called `name`.
///
/// # Errors
/// [`ImportError::Malformed`] when `onnx` is no ONNX file, [`ImportError::WrongModel`] (naming what it is) when it
/// holds another network, [`ImportError::Unsupported`] when its weights are not float32.
pub fn import(onnx: &[u8], name: &str) -> Result<Vec<u8>, ImportError> {
    let model = Model::open(onnx)?;
    let tensors = Walk::new(&model.graph).yunet()?;
    write(&tensors, name)
}

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

    /// The whole network; the file's tensors in their order.
    fn yunet(mut self) -> Result<Vec<Named>, ImportError> {
        if let Some(node) = self
            .graph
            .nodes
            .iter()
            .find(|n| n.op.contains("Quantize") || n.op.starts_with("QLinear"))
        {
            return Err(ImportError::Unsupported(format!(
                "this network is quantised ({}): {}; use the float32 file of YuNet",
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
        let mut levels = [""; 3];
        for level in (0..3).rev() {
            if level < 2 {
                x = self.upsample_add(x, scales[level])?;
            }
            x = self.unit(x, &format!("neck.{level}"))?;
            levels[level] = x;
        }
        for (level, &x) in levels.iter().enumerate() {
            self.head(x, level)?;
        }
        // In the order the engine walks the levels: fine to coarse.
        Ok(self.tensors)
    }

    /// The one input that is no weight.
    fn input(&self) -> Result<&'a str, ImportError> {
        let mut real =
            (self.graph.inputs.iter()).filter(|name| !self.constants.contains_key(*name));
        match (real.next(), real.next()) {
            (Some(&name), None) => Ok(name),
            _ => Err(self.wrong("it should have one input")),
        }
    }

    /// Conv 3x3, stride 2, then ReLU.
    fn stem(&mut self, x: &'a str) -> Result<&'a str, ImportError> {
        let (conv, y) = self.conv(x, "Conv", 3, 2, false)?;
        let [cout, cin, ..] = conv.shape;
        if cin != 3 {
            return Err(self.wrong(&format!("its input has {cin} channels instead of 3")));
        }
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
        self.only(y, "Relu")
    }

    /// Pointwise and depthwise convolution, then ReLU.
    fn unit(&mut self, x: &'a str, name: &str) -> Result<&'a str, ImportError> {
        let (pointwise, y) = self.conv(x, "Conv", 1, 1, false)?;
        let (depthwise, y) = self.conv(y, "Conv", 3, 1, true)?;
        self.add_unit(name, &[(pointwise, depthwise)])?;
        self.only(y, "Relu")
    }

    /// The four branches of a level, with the shared unit before them if there is one.
    fn head(&mut self, x: &'a str, level: usize) -> Result<(), ImportError> {
        let convs = |walk: &Self, x: &str| walk.nodes(x).iter().filter(|n| n.op == "Conv").count();
        let x = match convs(self, x) {
            1 => self.unit(x, &format!("share.{level}"))?,
            _ => x,
        };
        let starts: Vec<&'g Node<'a>> = self
            .nodes(x)
            .iter()
            .copied()
            .filter(|n| n.op == "Conv")
            .collect();
        let stride = STRIDES[level];
        let mut branches: [Option<(Conv, Conv)>; 4] = [const { None }; 4];
        for start in starts {
            let (pointwise, y) = self.read_conv(start, 1, 1, false)?;
            let (depthwise, y) = self.conv(y, "Conv", 3, 1, true)?;
            let y = self.only(y, "Transpose")?;
            let mut y = self.only(y, "Reshape")?;
            if !self.nodes(y).is_empty() {
                y = self.only(y, "Sigmoid")?;
            }
            let which = (["cls", "obj", "bbox", "kps"].iter())
                .position(|kind| y == format!("{kind}_{stride}"))
                .ok_or_else(|| {
                    self.wrong(&format!(
                        "it has an output \"{}\" for stride {stride}",
                        short(y)
                    ))
                })?;
            branches[which] = Some((pointwise, depthwise));
        }
        let branches: Option<Vec<_>> = branches.into_iter().collect();
        let branches =
            branches.ok_or_else(|| self.wrong(&format!("stride {stride} lacks a branch")))?;
        let channels: Vec<usize> = branches.iter().map(|(p, _)| p.shape[0]).collect();
        if channels != [1, 1, 4, 10] {
            return Err(self.wrong(&format!(
                "stride {stride} has branches of {channels:?} channels"
            )));
        }
        self.add_unit(&format!("head.{level}"), &branches)
    }

    /// Max pool 2x2.
    fn pool(&self, x: &'a str) -> Result<&'a str, ImportError> {
        let node = self.one(x, "MaxPool")?;
        let fits = self.ints(node, "kernel_shape", &[1, 1]) == [2, 2]
            && self.ints(node, "strides", &[1, 1]) == [2, 2]
            && self.ints(node, "pads", &[0; 4]) == [0; 4];
        if !fits {
            return Err(self.wrong("a pool is not 2x2"));
        }
        self.output(node)
    }

    /// Nearest-neighbour upsampling to twice the size, added to `finer`.
    fn upsample_add(&self, x: &'a str, finer: &'a str) -> Result<&'a str, ImportError> {
        let node = self
            .one(x, "Resize")
            .or_else(|e| self.one(x, "Upsample").map_err(|_| e))?;
        if !matches!(
            node.attribute("mode"),
            None | Some(AttributeValue::Text(b"nearest"))
        ) {
            return Err(self.wrong("its neck does not upsample by nearest neighbour"));
        }
        let up = self.output(node)?;
        let add = self.one(up, "Add")?;
        if !add.inputs.contains(&finer) {
            return Err(self.wrong("its neck joins other layers"));
        }
        self.output(add)
    }

    fn conv(
        &self,
        x: &'a str,
        op: &str,
        kernel: usize,
        stride: i64,
        depthwise: bool,
    ) -> Result<(Conv, &'a str), ImportError> {
        let node = self.one(x, op)?;
        self.read_conv(node, kernel, stride, depthwise)
    }

    /// Reads a convolution node, checking its form; its weights and its output's name.
    fn read_conv(
        &self,
        node: &Node<'a>,
        kernel: usize,
        stride: i64,
        depthwise: bool,
    ) -> Result<(Conv, &'a str), ImportError> {
        let pad = (kernel as i64 - 1) / 2;
        let constant = |i: usize| {
            let name = node.inputs.get(i).copied().unwrap_or("");
            let found = self.constants.get(name).copied();
            found.ok_or_else(|| self.wrong("a convolution has no constant weights"))
        };
        let (weight, bias) = (constant(1)?, constant(2)?);
        let Ok(shape) = <[usize; 4]>::try_from(weight.dims.as_slice()) else {
            return Err(self.wrong("a convolution is not two-dimensional"));
        };
        let groups = match node.attribute("group") {
            Some(&AttributeValue::Int(groups)) => groups,
            _ => 1,
        };
        let fits = shape[2] == kernel
            && shape[3] == kernel
            && self.ints(node, "strides", &[1, 1]) == [stride; 2]
            && self.ints(node, "pads", &[0; 4]) == [pad; 4]
            && self.ints(node, "dilations", &[1, 1]) == [1, 1]
            && if depthwise {
                shape[1] == 1 && usize::try_from(groups) == Ok(shape[0])
            } else {
                groups == 1
            };
        if !fits || bias.dims != [shape[0]] {
            return Err(self.wrong(&format!(
                "a convolution has shape {shape:?}, {groups} groups, where another belongs"
            )));
        }
        let conv = Conv {
            shape,
            weight: weight.f32s()?,
            bias: bias.f32s()?,
        };
        Ok((conv, self.output(node)?))
    }

    /// Adds a unit made of branches side by side, all reading the same input.
    fn add_unit(&mut self, name: &str, branches: &[(Conv, Conv)]) -> Result<(), ImportError> {
        let cin = branches[0].0.shape[1];
        let cout: usize = branches.iter().map(|(p, _)| p.shape[0]).sum();
        let (mut pointwise, mut depthwise) = (vec![0.0; cin * cout], vec![0.0; 9 * cout]);
        let (mut pointwise_bias, mut depthwise_bias) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (p, d) in branches {
            let channels = p.shape[0];
            if p.shape[1] != cin || d.shape[0] != channels {
                return Err(self.wrong(&format!("the channels of {name} do not fit together")));
            }
            for o in 0..channels {
                for c in 0..cin {
                    pointwise[c * cout + first + o] = p.weight[o * cin + c];
                }
                for k in 0..9 {
                    depthwise[k * cout + first + o] = d.weight[o * 9 + k];
                }
            }
            pointwise_bias.extend_from_slice(&p.bias);
            depthwise_bias.extend_from_slice(&d.bias);
            first += channels;
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

    fn nodes(&self, x: &str) -> &[&'g Node<'a>] {
        self.consumers.get(x).map_or(&[], Vec::as_slice)
    }

    /// The only node of kind `op` that reads `x`.
    fn one(&self, x: &str, op: &str) -> Result<&'g Node<'a>, ImportError> {
        let mut found = self
            .nodes(x)
            .iter()
            .filter(|n| n.op == op && n.domain.is_empty());
        match (found.next(), found.next()) {
            (Some(node), None) => Ok(node),
            (None, _) => Err(self.wrong(&format!("no {op} follows \"{}\"", short(x)))),
            _ => Err(self.wrong(&format!("several {op} follow \"{}\"", short(x)))),
        }
    }

    /// The output of [`Self::one`].
    fn only(&self, x: &str, op: &str) -> Result<&'a str, ImportError> {
        self.output(self.one(x, op)?)
    }

    fn output(&self, node: &Node<'a>) -> Result<&'a str, ImportError> {
        let output = node.outputs.first().copied().filter(|o| !o.is_empty());
        output.ok_or_else(|| malformed(format!("a {} node has no output", short(node.op))))
    }

    fn ints<'n>(&self, node: &'n Node<'a>, name: &str, default: &'n [i64]) -> &'n [i64] {
        match node.attribute(name) {
            Some(AttributeValue::Ints(values)) => values,
            _ => default,
        }
    }

    fn wrong(&self, why: &str) -> ImportError {
        ImportError::WrongModel(format!(
            "this ONNX file is not YuNet: {why}; it holds {}. Get YuNet with `viseme models pull yunet`",
            self.graph.describe()
        ))
    }
}

fn write(tensors: &[Named], name: &str) -> Result<Vec<u8>, ImportError> {
    let refused = |why: SpecWriteError| {
        ImportError::Unsupported(format!("the model file cannot be written: {why}"))
    };
    let mut writer = Writer::new();
    let spec = ModelSpec {
        name,
        license: "Apache-2.0",
        training_data: "WIDER FACE (Yang et al. 2016); YuNet by Wu, Peng and Yu, ONNX file of their repository",
        modality: Modality::Video,
        weights: Weights::F32,
        arena_bytes: 0,
        family: Family::Yunet(Yunet::new(32, &STRIDES).expect("three strides")),
    };
    spec.write(&mut writer).map_err(refused)?;
    for tensor in tensors {
        (writer.tensor_f32(&tensor.name, &tensor.shape, &tensor.values))
            .map_err(|e| refused(e.into()))?;
    }
    writer.finish().map_err(|e| refused(e.into()))
}
