//! A [`Graph`] as a TFLite file: schema version 3 of `tensorflow/lite/schema/schema.fbs`.
//!
//! Only operators that TFLite's CPU library for floats, XNNPACK, takes over as well, so that a file runs there as a whole.

use crate::flatbuffer::{self, Field, Table};
use crate::graph::{Graph, Id, Kind, Op};
use crate::weights::Matrix;

/// `BuiltinOperator`, the first version that does what is asked of it here, and the `BuiltinOptions` that belong to it.
#[derive(Clone, Copy, PartialEq)]
struct Builtin {
    code: u8,
    version: i32,
    options: u8,
}

const fn builtin(code: u8, options: u8) -> Builtin {
    Builtin {
        code,
        version: 1,
        options,
    }
}

const ADD: Builtin = builtin(0, 11);
const CONCATENATION: Builtin = builtin(2, 10);
const CONV_2D: Builtin = builtin(3, 1);
const DEPTHWISE_CONV_2D: Builtin = builtin(4, 2);
const FULLY_CONNECTED: Builtin = builtin(9, 8);
/// With int8 weights, a scale an output, and f32 activations. Libraries that do not know this version would take the
/// first scale for all outputs.
const HYBRID_FULLY_CONNECTED: Builtin = Builtin {
    version: 12,
    ..FULLY_CONNECTED
};
const LOGISTIC: Builtin = builtin(14, 0);
const MUL: Builtin = builtin(18, 21);
const RELU: Builtin = builtin(19, 0);
const RESHAPE: Builtin = builtin(22, 17);
const SOFTMAX: Builtin = builtin(25, 9);
const PAD: Builtin = builtin(34, 22);
const TRANSPOSE: Builtin = builtin(39, 26);
const MEAN: Builtin = builtin(40, 27);
const SUB: Builtin = builtin(41, 28);
const SPLIT: Builtin = builtin(49, 35);
const SLICE: Builtin = builtin(65, 48);
const RSQRT: Builtin = builtin(76, 0);
const BATCH_MATMUL: Builtin = builtin(126, 101);

/// `TensorType`.
const FLOAT32: u8 = 0;
const INT32: u8 = 2;
const INT8: u8 = 9;

/// `Padding`.
const VALID: u8 = 1;

/// The file; with `int8`, fully connected layers have int8 weights.
pub fn write(graph: &Graph, int8: bool) -> Vec<u8> {
    let mut file = Writer {
        graph,
        int8,
        tensors: Vec::new(),
        // The first buffer is empty and belongs to all tensors that are no constants.
        buffers: vec![Table::default()],
        operators: Vec::new(),
        codes: Vec::new(),
    };
    for value in &graph.values {
        match &value.data {
            Some(data) => file.floats(&value.name, &value.shape, data),
            None => file.tensor(&value.name, &value.shape, FLOAT32, None, None),
        };
    }
    for op in &graph.ops {
        file.op(op);
    }
    flatbuffer::write(file.model(), b"TFL3")
}

struct Writer<'g> {
    graph: &'g Graph,
    int8: bool,
    tensors: Vec<Table>,
    buffers: Vec<Table>,
    operators: Vec<Table>,
    codes: Vec<Builtin>,
}

impl Writer<'_> {
    /// The root table. A signature keeps the names of inputs and outputs.
    fn model(self) -> Table {
        let ids = |ids: &[Id]| Field::I32s(ids.iter().map(|id| id.0 as i32).collect());
        let names = |ids: &[Id]| {
            let entry = |id: &Id| {
                let name = self.graph.values[id.0].name.clone();
                Table(vec![(0, Field::Text(name)), (1, Field::U32(id.0 as u32))])
            };
            Field::Tables(ids.iter().map(entry).collect())
        };
        let (inputs, outputs) = (&self.graph.inputs, &self.graph.outputs);
        let signature = Table(vec![
            (0, names(inputs)),
            (1, names(outputs)),
            (2, Field::Text("serving_default".into())),
        ]);
        let codes = self.codes.iter().map(|builtin| {
            Table(vec![
                (0, Field::U8(builtin.code)),
                (2, Field::I32(builtin.version)),
                (3, Field::I32(builtin.code.into())),
            ])
        });
        let codes = codes.collect();
        let subgraph = Table(vec![
            (0, Field::Tables(self.tensors)),
            (1, ids(inputs)),
            (2, ids(outputs)),
            (3, Field::Tables(self.operators)),
            (4, Field::Text("main".into())),
        ]);
        Table(vec![
            (0, Field::U32(3)),
            (1, Field::Tables(codes)),
            (2, Field::Tables(vec![subgraph])),
            (3, Field::Text("viseme-export".into())),
            (4, Field::Tables(self.buffers)),
            (7, Field::Tables(vec![signature])),
        ])
    }

    fn op(&mut self, op: &Op) {
        let (name, graph) = (&*op.name, self.graph);
        let inputs: Vec<i32> = op.inputs.iter().map(|id| id.0 as i32).collect();
        let outputs: Vec<i32> = op.outputs.iter().map(|id| id.0 as i32).collect();
        let (x, y) = (inputs[0], outputs[0]);
        let from = &graph.values[op.inputs[0].0].shape;
        let to = &graph.values[op.outputs[0].0].shape;
        match &op.kind {
            Kind::Linear { weight, bias } => self.linear(name, x, y, weight, bias),
            Kind::Product { transposed } => {
                let options = vec![(1, Field::U8(u8::from(*transposed)))];
                self.operator(BATCH_MATMUL, &inputs, &outputs, options);
            }
            Kind::Add => self.operator(ADD, &inputs, &outputs, vec![]),
            Kind::Mul => self.operator(MUL, &inputs, &outputs, vec![]),
            Kind::LayerNorm { weight, bias, eps } => {
                self.layer_norm(name, [x, y], to, [weight, bias], *eps);
            }
            Kind::Sigmoid => self.operator(LOGISTIC, &inputs, &outputs, vec![]),
            Kind::Relu => self.operator(RELU, &inputs, &outputs, vec![]),
            Kind::Softmax => {
                self.operator(SOFTMAX, &inputs, &outputs, vec![(0, Field::F32(1.0))]);
            }
            Kind::Halves => {
                let last = to.len() as i32 - 1;
                let axis = self.ints(&format!("{name}.axis"), &[], &[last]);
                self.operator(SPLIT, &[axis, x], &outputs, vec![(0, Field::I32(2))]);
            }
            Kind::Reshape => self.reshape(name, x, y, to),
            Kind::Transpose { order } => {
                let order = self.list(&format!("{name}.order"), order);
                self.operator(TRANSPOSE, &[x, order], &outputs, vec![]);
            }
            Kind::Slice { begin } => {
                let begin = self.list(&format!("{name}.begin"), begin);
                let size = self.list(&format!("{name}.size"), to);
                self.operator(SLICE, &[x, begin, size], &outputs, vec![]);
            }
            Kind::Concat { axis } => {
                let options = vec![(0, Field::I32(*axis as i32))];
                self.operator(CONCATENATION, &inputs, &outputs, options);
            }
            Kind::Depthwise {
                weight,
                bias,
                kernel,
                pad,
            } => {
                let (frames, channels, after) = (from[0], from[1], to[0]);
                let shape = [1, 1, *kernel, channels];
                let w = self.floats(&format!("{name}.weight"), &shape, weight);
                let b = self.floats(&format!("{name}.bias"), &[channels], bias);
                let row = self.computed(&format!("{name}.row"), &[1, 1, frames, channels]);
                self.reshape(&format!("{name}.row"), x, row, &[1, 1, frames, channels]);
                let pads = [[0, 0], [0, 0], *pad, [0, 0]];
                let row = self.pad(name, row, &[1, 1, frames, channels], &pads);
                let shape = [1, 1, after, channels];
                let filtered = self.computed(&format!("{name}.filtered"), &shape);
                let options = vec![
                    (0, Field::U8(VALID)),
                    (1, Field::I32(1)),
                    (2, Field::I32(1)),
                    (3, Field::I32(1)),
                    (5, Field::I32(1)),
                    (6, Field::I32(1)),
                ];
                self.operator(DEPTHWISE_CONV_2D, &[row, w, b], &[filtered], options);
                self.reshape(name, filtered, y, to);
            }
            Kind::Convolution {
                weight,
                bias,
                kernel,
                stride,
                pad,
            } => {
                let shape = [bias.len(), kernel[0], kernel[1], from[3]];
                let w = self.floats(&format!("{name}.weight"), &shape, weight);
                let b = self.floats(&format!("{name}.bias"), &[bias.len()], bias);
                let x = self.pad(name, x, from, &[[0, 0], [pad[0]; 2], [pad[1]; 2], [0, 0]]);
                let [rows, columns] = stride.map(|n| n as i32);
                let options = vec![
                    (0, Field::U8(VALID)),
                    (1, Field::I32(columns)),
                    (2, Field::I32(rows)),
                    (4, Field::I32(1)),
                    (5, Field::I32(1)),
                ];
                self.operator(CONV_2D, &[x, w, b], &outputs, options);
            }
            Kind::MaxPool { .. } | Kind::Mean => {
                unreachable!("of Auto-AVSR alone, whose models are written as ONNX only")
            }
        }
    }

    fn linear(&mut self, name: &str, x: i32, y: i32, weight: &Matrix, bias: &[f32]) {
        let shape = [weight.outputs(), weight.inputs];
        let weights = format!("{name}.weight");
        let b = self.floats(&format!("{name}.bias"), &[bias.len()], bias);
        if !self.int8 {
            let w = self.floats(&weights, &shape, &weight.rows);
            return self.operator(FULLY_CONNECTED, &[x, w, b], &[y], vec![]);
        }
        let rows = weight.int8();
        let bytes = rows.codes.iter().map(|&code| code as u8).collect();
        let zeros = vec![0; rows.scale.len()];
        // One scale for each index of dimension 0.
        let quantisation = Table(vec![
            (2, Field::F32s(rows.scale)),
            (3, Field::I64s(zeros)),
            (6, Field::I32(0)),
        ]);
        let w = self.tensor(&weights, &shape, INT8, Some(bytes), Some(quantisation));
        // Asymmetric.
        let options = vec![(3, Field::U8(1))];
        self.operator(HYBRID_FULLY_CONNECTED, &[x, w, b], &[y], options);
    }

    /// Mean, variance and their use, as there is no operator for all of it.
    fn layer_norm(
        &mut self,
        name: &str,
        [x, y]: [i32; 2],
        shape: &[usize],
        [weight, bias]: [&[f32]; 2],
        eps: f32,
    ) {
        let mut one = shape.to_vec();
        let last = one.len() - 1;
        one[last] = 1;
        let w = self.floats(&format!("{name}.weight"), &[weight.len()], weight);
        let b = self.floats(&format!("{name}.bias"), &[bias.len()], bias);
        let eps = self.floats(&format!("{name}.eps"), &[1], &[eps]);
        let axis = self.ints(&format!("{name}.axis"), &[1], &[last as i32]);
        let [mean, variance, above, inverse] = ["mean", "variance", "above", "inverse"]
            .map(|part| self.computed(&format!("{name}.{part}"), &one));
        let [centred, squared, normed, scaled] = ["centred", "squared", "normed", "scaled"]
            .map(|part| self.computed(&format!("{name}.{part}"), shape));
        let keep = || vec![(0, Field::U8(1))];
        self.operator(MEAN, &[x, axis], &[mean], keep());
        self.operator(SUB, &[x, mean], &[centred], vec![]);
        self.operator(MUL, &[centred, centred], &[squared], vec![]);
        self.operator(MEAN, &[squared, axis], &[variance], keep());
        self.operator(ADD, &[variance, eps], &[above], vec![]);
        self.operator(RSQRT, &[above], &[inverse], vec![]);
        self.operator(MUL, &[centred, inverse], &[normed], vec![]);
        self.operator(MUL, &[normed, w], &[scaled], vec![]);
        self.operator(ADD, &[scaled, b], &[y], vec![]);
    }

    /// Zeros around, if there are to be any.
    fn pad(&mut self, name: &str, x: i32, from: &[usize], pads: &[[usize; 2]; 4]) -> i32 {
        if pads.as_flattened().iter().all(|&pad| pad == 0) {
            return x;
        }
        let flat: Vec<i32> = pads.as_flattened().iter().map(|&pad| pad as i32).collect();
        let widths = self.ints(&format!("{name}.pads"), &[4, 2], &flat);
        let to: Vec<usize> = (from.iter().zip(pads))
            .map(|(n, [a, b])| n + a + b)
            .collect();
        let padded = self.computed(&format!("{name}.padded"), &to);
        self.operator(PAD, &[x, widths], &[padded], vec![]);
        padded
    }

    fn reshape(&mut self, name: &str, x: i32, y: i32, to: &[usize]) {
        let shape = self.list(&format!("{name}.shape"), to);
        let options = vec![(0, Field::I32s(to.iter().map(|&n| n as i32).collect()))];
        self.operator(RESHAPE, &[x, shape], &[y], options);
    }

    /// Adds an `Operator`.
    fn operator(
        &mut self,
        builtin: Builtin,
        inputs: &[i32],
        outputs: &[i32],
        options: Vec<(u16, Field)>,
    ) {
        let known = self.codes.iter().position(|code| *code == builtin);
        let code = known.unwrap_or_else(|| {
            self.codes.push(builtin);
            self.codes.len() - 1
        });
        let mut fields = vec![
            (0, Field::U32(code as u32)),
            (1, Field::I32s(inputs.to_vec())),
            (2, Field::I32s(outputs.to_vec())),
        ];
        if builtin.options != 0 {
            fields.push((3, Field::U8(builtin.options)));
            fields.push((4, Field::Table(Table(options))));
        }
        self.operators.push(Table(fields));
    }

    fn computed(&mut self, name: &str, shape: &[usize]) -> i32 {
        self.tensor(name, shape, FLOAT32, None, None)
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> i32 {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, shape, FLOAT32, Some(bytes), None)
    }

    fn list(&mut self, name: &str, values: &[usize]) -> i32 {
        let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
        self.ints(name, &[values.len()], &values)
    }

    fn ints(&mut self, name: &str, shape: &[usize], values: &[i32]) -> i32 {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, shape, INT32, Some(bytes), None)
    }

    /// Adds a `Tensor`, with a `Buffer` if it is a constant; returns its index.
    fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: u8,
        data: Option<Vec<u8>>,
        quantisation: Option<Table>,
    ) -> i32 {
        let mut fields = vec![
            (0, Field::I32s(shape.iter().map(|&n| n as i32).collect())),
            (1, Field::U8(kind)),
        ];
        if let Some(bytes) = data {
            fields.push((2, Field::U32(self.buffers.len() as u32)));
            self.buffers.push(Table(vec![(0, Field::Bytes(bytes))]));
        }
        fields.push((3, Field::Text(name.to_owned())));
        fields.extend(quantisation.map(|table| (4, Field::Table(table))));
        self.tensors.push(Table(fields));
        self.tensors.len() as i32 - 1
    }
}
