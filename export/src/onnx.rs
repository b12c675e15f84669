//! A [`Graph`] as an ONNX file: `onnx.proto3` of the ONNX project, IR version 8, operator set 17.

use crate::graph::{Graph, Id, Kind, Op, Value};
use crate::protobuf::Message;

/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// `AttributeProto.AttributeType`.
const ATTRIBUTE_FLOAT: i64 = 1;
const ATTRIBUTE_INT: i64 = 2;
const ATTRIBUTE_INTS: i64 = 7;

/// The file.
pub fn write(graph: &Graph) -> Vec<u8> {
    let mut file = Writer {
        graph,
        nodes: Vec::new(),
        constants: Vec::new(),
    };
    for value in &graph.values {
        if let Some(data) = &value.data {
            file.floats(&value.name, &value.shape, data);
        }
    }
    for op in &graph.ops {
        file.op(op);
    }
    let info = |id: &Id| value_info(&graph.values[id.0]);
    let body = Message::default()
        .each(&file.nodes, |m, node| m.blob(1, node))
        .blob(2, b"viseme")
        .each(&file.constants, |m, constant| m.blob(5, constant))
        .each(&graph.inputs, |m, id| m.message(11, info(id)))
        .each(&graph.outputs, |m, id| m.message(12, info(id)));
    Message::default()
        .int(1, 8)
        .blob(2, b"viseme-export")
        .message(7, body)
        .message(8, Message::default().blob(1, b"").int(2, 17))
        .bytes()
}

struct Writer<'g> {
    graph: &'g Graph,
    /// `NodeProto`s.
    nodes: Vec<Vec<u8>>,
    /// `TensorProto`s.
    constants: Vec<Vec<u8>>,
}

/// An attribute of a node.
enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [usize]),
    Float(&'a str, f32),
}
use Attribute::{Float, Int, Ints};

impl Writer<'_> {
    fn op(&mut self, op: &Op) {
        let (name, graph) = (&*op.name, self.graph);
        let value = |id: &Id| &graph.values[id.0];
        let inputs: Vec<&str> = op.inputs.iter().map(|id| &*value(id).name).collect();
        let outputs: Vec<&str> = op.outputs.iter().map(|id| &*value(id).name).collect();
        let (x, y) = (inputs[0], outputs[0]);
        let (from, to) = (&value(&op.inputs[0]).shape, &value(&op.outputs[0]).shape);
        let simple = |file: &mut Self, kind: &str| file.node(kind, name, &inputs, &outputs, &[]);
        match &op.kind {
            Kind::Linear { weight, bias } => {
                let columns = (0..weight.inputs).flat_map(|i| {
                    let column = weight.rows.iter().skip(i).step_by(weight.inputs);
                    column.copied()
                });
                let columns: Vec<f32> = columns.collect();
                let shape = [weight.inputs, weight.outputs()];
                let w = self.floats(&format!("{name}.weight"), &shape, &columns);
                let b = self.floats(&format!("{name}.bias"), &[bias.len()], bias);
                let product = format!("{name}.product");
                self.node("MatMul", &product, &[x, &w], &[&product], &[]);
                self.node("Add", name, &[&product, &b], &outputs, &[]);
            }
            Kind::Product { transposed: false } => simple(self, "MatMul"),
            Kind::Product { transposed: true } => {
                let turned = format!("{name}.transposed");
                let order = [Ints("perm", &[0, 2, 1])];
                self.node("Transpose", &turned, &[inputs[1]], &[&turned], &order);
                self.node("MatMul", name, &[x, &turned], &outputs, &[]);
            }
            Kind::Add => simple(self, "Add"),
            Kind::Mul => simple(self, "Mul"),
            Kind::LayerNorm { weight, bias, eps } => {
                let w = self.floats(&format!("{name}.weight"), &[weight.len()], weight);
                let b = self.floats(&format!("{name}.bias"), &[bias.len()], bias);
                let attributes = [Int("axis", -1), Float("epsilon", *eps)];
                self.node(
                    "LayerNormalization",
                    name,
                    &[x, &w, &b],
                    &outputs,
                    &attributes,
                );
            }
            Kind::Sigmoid => simple(self, "Sigmoid"),
            Kind::Relu => simple(self, "Relu"),
            Kind::Softmax => self.node("Softmax", name, &inputs, &outputs, &[Int("axis", -1)]),
            Kind::Halves => self.node("Split", name, &inputs, &outputs, &[Int("axis", -1)]),
            Kind::Reshape => self.reshape(name, x, y, to),
            Kind::Transpose { order } => {
                let order = [Ints("perm", order)];
                self.node("Transpose", name, &inputs, &outputs, &order);
            }
            Kind::Slice { begin } => {
                let ends: Vec<usize> = begin.iter().zip(to).map(|(b, n)| b + n).collect();
                let axes: Vec<usize> = (0..begin.len()).filter(|&i| from[i] != to[i]).collect();
                let of = |values: &[usize]| axes.iter().map(|&i| values[i]).collect::<Vec<_>>();
                let begin = self.ints(&format!("{name}.begin"), &of(begin));
                let ends = self.ints(&format!("{name}.end"), &of(&ends));
                let axes = self.ints(&format!("{name}.axes"), &axes);
                self.node("Slice", name, &[x, &begin, &ends, &axes], &outputs, &[]);
            }
            Kind::Concat { axis } => {
                let axis = [Int("axis", *axis as i64)];
                self.node("Concat", name, &inputs, &outputs, &axis);
            }
            Kind::Depthwise {
                weight,
                bias,
                kernel,
                pad,
            } => {
                let ([frames, channels], [after, _]) = (pair(from), pair(to));
                // From [kernel, channels] to [channels, kernel].
                let turned: Vec<f32> = (0..weight.len())
                    .map(|i| weight[i % kernel * channels + i / kernel])
                    .collect();
                let shape = [channels, 1, *kernel];
                let w = self.floats(&format!("{name}.weight"), &shape, &turned);
                let b = self.floats(&format!("{name}.bias"), &[channels], bias);
                let [by_channel, one, filtered, flat] =
                    ["by_channel", "one", "filtered", "flat"].map(|s| format!("{name}.{s}"));
                let order = [Ints("perm", &[1, 0])];
                self.node("Transpose", &by_channel, &[x], &[&by_channel], &order);
                self.reshape(&one, &by_channel, &one, &[1, channels, frames]);
                let attributes = [
                    Int("group", channels as i64),
                    Ints("kernel_shape", &[*kernel]),
                    Ints("pads", pad),
                ];
                self.node(
                    "Conv",
                    &filtered,
                    &[&one, &w, &b],
                    &[&filtered],
                    &attributes,
                );
                self.reshape(&flat, &filtered, &flat, &[channels, after]);
                self.node("Transpose", name, &[&flat], &outputs, &order);
            }
            Kind::Convolution {
                weight,
                bias,
                kernel,
                stride,
                pad,
            } => {
                // From [outputs, rows, columns, channels] to [outputs, channels, rows, columns].
                let (window, channels) = (kernel[0] * kernel[1], from[3]);
                let at = |i| {
                    let (output, channel, place) =
                        (i / (window * channels), i / window % channels, i % window);
                    weight[(output * window + place) * channels + channel]
                };
                let turned: Vec<f32> = (0..weight.len()).map(at).collect();
                let shape = [bias.len(), channels, kernel[0], kernel[1]];
                let w = self.floats(&format!("{name}.weight"), &shape, &turned);
                let b = self.floats(&format!("{name}.bias"), &[bias.len()], bias);
                let [rows, columns] = *pad;
                let pads = [rows, columns, rows, columns];
                let attributes = [
                    Ints("kernel_shape", kernel),
                    Ints("pads", &pads),
                    Ints("strides", stride),
                ];
                self.channels_first(name, "Conv", x, &[&w, &b], &outputs, &attributes);
            }
            Kind::MaxPool {
                kernel,
                stride,
                pad,
            } => {
                let attributes = [
                    Ints("kernel_shape", &[*kernel; 2]),
                    Ints("pads", &[*pad; 4]),
                    Ints("strides", &[*stride; 2]),
                ];
                self.channels_first(name, "MaxPool", x, &[], &outputs, &attributes);
            }
            Kind::Mean => {
                let attributes = [Ints("axes", &[1]), Int("keepdims", 0)];
                self.node("ReduceMean", name, &inputs, &outputs, &attributes);
            }
        }
    }

    /// An operation of ONNX on [images, channels, rows, columns] for one on [images, rows, columns, channels].
    fn channels_first(
        &mut self,
        name: &str,
        kind: &str,
        x: &str,
        others: &[&str],
        outputs: &[&str],
        attributes: &[Attribute<'_>],
    ) {
        let [first, map] = ["channels_first", "map"].map(|s| format!("{name}.{s}"));
        let order = [Ints("perm", &[0, 3, 1, 2])];
        self.node("Transpose", &first, &[x], &[&first], &order);
        let inputs = [&[&*first], others].concat();
        self.node(kind, &map, &inputs, &[&map], attributes);
        let order = [Ints("perm", &[0, 2, 3, 1])];
        self.node("Transpose", name, &[&map], outputs, &order);
    }

    fn reshape(&mut self, name: &str, x: &str, y: &str, to: &[usize]) {
        let shape = self.ints(&format!("{name}.shape"), to);
        self.node("Reshape", name, &[x, &shape], &[y], &[]);
    }

    /// Adds a `NodeProto`.
    fn node(
        &mut self,
        kind: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[Attribute<'_>],
    ) {
        let node = Message::default()
            .each(inputs, |m, input| m.blob(1, input.as_bytes()))
            .each(outputs, |m, output| m.blob(2, output.as_bytes()))
            .blob(3, name.as_bytes())
            .blob(4, kind.as_bytes())
            .each(attributes, |m, attribute| m.message(5, attribute.message()));
        self.nodes.push(node.bytes());
    }

    /// Adds a constant; returns its name.
    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, shape, FLOAT, raw)
    }

    /// Adds a list of integers; returns its name.
    fn ints(&mut self, name: &str, values: &[usize]) -> String {
        let raw = values.iter().flat_map(|&v| (v as i64).to_le_bytes());
        self.constant(name, &[values.len()], INT64, raw.collect())
    }

    fn constant(&mut self, name: &str, shape: &[usize], kind: i64, raw: Vec<u8>) -> String {
        let tensor = Message::default()
            .each(shape, |m, &dim| m.int(1, dim as i64))
            .int(2, kind)
            .blob(8, name.as_bytes())
            .blob(9, &raw);
        self.constants.push(tensor.bytes());
        name.to_owned()
    }
}

impl Attribute<'_> {
    /// The `AttributeProto`.
    fn message(&self) -> Message {
        let named = |name: &str| Message::default().blob(1, name.as_bytes());
        match self {
            Int(name, value) => named(name).int(3, *value).int(20, ATTRIBUTE_INT),
            Float(name, value) => named(name).float(2, *value).int(20, ATTRIBUTE_FLOAT),
            Ints(name, values) => named(name)
                .each(values, |m, &value| m.int(8, value as i64))
                .int(20, ATTRIBUTE_INTS),
        }
    }
}

/// A `ValueInfoProto`.
fn value_info(value: &Value) -> Message {
    let dim = |m: Message, &dim: &usize| m.message(1, Message::default().int(1, dim as i64));
    let shape = Message::default().each(&value.shape, dim);
    let tensor = Message::default().int(1, FLOAT).message(2, shape);
    Message::default()
        .blob(1, value.name.as_bytes())
        .message(2, Message::default().message(1, tensor))
}

fn pair(shape: &[usize]) -> [usize; 2] {
    [shape[0], shape[1]]
}
