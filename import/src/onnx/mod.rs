//! A checked reader for ONNX models: the graph, its weights and its attributes, borrowed from the file's bytes.
//!
//! ONNX files are protobuf messages (`onnx.proto3` of the ONNX project, IR version 3 and later). Only the messages that
//! describe a plain network are decoded; everything else (subgraphs, functions, training info, quantisation notes) is
//! stepped over without being read. Strings and tensor data stay in the input; nothing is copied but small lists, whose
//! lengths are bounded by [`Limits`], so a hostile file costs little memory. There is no recursion.

mod wire;

use std::collections::HashSet;

use crate::ImportError;
use wire::{Field, Fields};

/// Bounds on what a file may hold. The defaults are far above any small network and far below trouble.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest file, in bytes. What is read takes at most about thirty times that in memory.
    pub file_bytes: usize,
    /// Most nodes, initializers, inputs, outputs (each).
    pub items: usize,
    /// Most inputs, outputs, attributes of one node, and values of one list attribute (each).
    pub per_node: usize,
    /// Most dimensions of a tensor.
    pub rank: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            items: 1 << 13,
            per_node: 64,
            rank: 8,
        }
    }
}

/// An ONNX model.
#[derive(Debug, Clone, Default)]
pub struct Model<'a> {
    /// Version of the standard operators' meaning.
    pub opset: i64,
    /// The tool that wrote it, e.g. `pytorch`.
    pub producer: &'a str,
    /// The network.
    pub graph: Graph<'a>,
}

/// A network: nodes in topological order, and the weights they refer to by name.
#[derive(Debug, Clone, Default)]
pub struct Graph<'a> {
    /// Name given by the producer.
    pub name: &'a str,
    /// Nodes, in file order.
    pub nodes: Vec<Node<'a>>,
    /// Weights and other constants.
    pub initializers: Vec<Tensor<'a>>,
    /// Names of the graph's inputs (old files list the initializers among them).
    pub inputs: Vec<&'a str>,
    /// Names of the graph's outputs.
    pub outputs: Vec<&'a str>,
}

/// One operation.
#[derive(Debug, Clone, Default)]
pub struct Node<'a> {
    /// Operator, e.g. `Conv`.
    pub op: &'a str,
    /// Operator set, empty for the standard one.
    pub domain: &'a str,
    /// Names of the tensors read; an empty name stands for an optional input left out.
    pub inputs: Vec<&'a str>,
    /// Names of the tensors written.
    pub outputs: Vec<&'a str>,
    /// Attributes, those of kinds not known here left out.
    pub attributes: Vec<Attribute<'a>>,
}

/// A named constant of a node.
#[derive(Debug, Clone)]
pub struct Attribute<'a> {
    /// Name, e.g. `strides`.
    pub name: &'a str,
    /// Value.
    pub value: AttributeValue<'a>,
}

/// The value of an [`Attribute`].
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue<'a> {
    /// A whole number.
    Int(i64),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// A real number.
    Float(f32),
    /// Bytes, UTF-8 by custom.
    Text(&'a [u8]),
    /// Anything else (tensors, graphs, lists of them): not decoded.
    Other,
}

/// A constant tensor, row-major.
#[derive(Debug, Clone, Default)]
pub struct Tensor<'a> {
    /// Name, as nodes refer to it.
    pub name: &'a str,
    /// Shape, outermost first; each in `0..=i32::MAX`.
    pub dims: Vec<usize>,
    /// `TensorProto.DataType`: 1 = f32, 6 = i32, 7 = i64, 10 = f16, ...
    pub data_type: i32,
    /// Little-endian values in one piece (`raw_data`), when the file stores them so.
    raw: Option<&'a [u8]>,
    /// Packed `float_data`, when the file stores them so.
    floats: Option<&'a [u8]>,
    /// The values lie in another file.
    external: bool,
}

/// `TensorProto.DataType.FLOAT`.
pub const FLOAT: i32 = 1;

impl<'a> Model<'a> {
    /// Reads a model with the default [`Limits`].
    ///
    /// # Errors
    /// [`ImportError::Malformed`] when the bytes are no ONNX model, end early, or exceed the limits.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ImportError> {
        Self::open_with(bytes, &Limits::default())
    }

    /// Reads a model within `limits`.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImportError> {
        if bytes.len() > limits.file_bytes {
            return Err(malformed(format!(
                "{} bytes, more than the {} allowed",
                bytes.len(),
                limits.file_bytes
            )));
        }
        if bytes.is_empty() {
            return Err(malformed("it is empty"));
        }
        let mut model = Self::default();
        let (mut graphs, mut last) = (0, &[][..]);
        for field in Fields::new(bytes) {
            match field? {
                (2, Field::Bytes(b)) => model.producer = text(b)?,
                (7, Field::Bytes(b)) => (graphs, last) = (graphs + 1, b),
                (8, Field::Bytes(b)) => model.opset = opset(b)?.unwrap_or(model.opset),
                _ => {}
            }
        }
        match graphs {
            1 => {}
            0 => return Err(malformed("it holds no graph")),
            _ => return Err(malformed(format!("it holds {graphs} graphs"))),
        }
        if model.opset < 1 {
            return Err(malformed("it states no operator set, as if it ended early"));
        }
        model.graph = Graph::read(last, limits)?;
        Ok(model)
    }
}

impl<'a> Graph<'a> {
    /// The constant called `name`.
    pub fn initializer(&self, name: &str) -> Option<&Tensor<'a>> {
        self.initializers.iter().find(|t| t.name == name)
    }

    /// One line that names the network for people: producer's name for it, size, real inputs and outputs.
    pub fn describe(&self) -> String {
        let constants: HashSet<&str> = self.initializers.iter().map(|t| t.name).collect();
        let real: Vec<&str> = (self.inputs.iter().copied())
            .filter(|name| !constants.contains(name))
            .collect();
        format!(
            "\"{}\": {} nodes, inputs {}, outputs {}",
            short(self.name),
            self.nodes.len(),
            list(&real),
            list(&self.outputs)
        )
    }

    fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImportError> {
        let mut graph = Self::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, Field::Bytes(b)) => push(
                    &mut graph.nodes,
                    Node::read(b, limits)?,
                    limits.items,
                    "nodes",
                )?,
                (2, Field::Bytes(b)) => graph.name = text(b)?,
                (5, Field::Bytes(b)) => {
                    let tensor = Tensor::read(b, limits)?;
                    push(
                        &mut graph.initializers,
                        tensor,
                        limits.items,
                        "initializers",
                    )?;
                }
                (11, Field::Bytes(b)) => {
                    push(&mut graph.inputs, value_name(b)?, limits.items, "inputs")?
                }
                (12, Field::Bytes(b)) => {
                    push(&mut graph.outputs, value_name(b)?, limits.items, "outputs")?
                }
                _ => {}
            }
        }
        Ok(graph)
    }
}

impl<'a> Node<'a> {
    /// The attribute called `name`.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue<'a>> {
        let found = self.attributes.iter().find(|a| a.name == name)?;
        Some(&found.value)
    }

    fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImportError> {
        let mut node = Self::default();
        let most = limits.per_node;
        for field in Fields::new(bytes) {
            match field? {
                (1, Field::Bytes(b)) => push(&mut node.inputs, text(b)?, most, "inputs of a node")?,
                (2, Field::Bytes(b)) => {
                    push(&mut node.outputs, text(b)?, most, "outputs of a node")?
                }
                (4, Field::Bytes(b)) => node.op = text(b)?,
                (5, Field::Bytes(b)) => {
                    let attribute = Attribute::read(b, limits)?;
                    push(
                        &mut node.attributes,
                        attribute,
                        most,
                        "attributes of a node",
                    )?;
                }
                (7, Field::Bytes(b)) => node.domain = text(b)?,
                _ => {}
            }
        }
        Ok(node)
    }
}

impl<'a> Attribute<'a> {
    fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImportError> {
        let (mut name, mut value, mut ints) = ("", AttributeValue::Other, Vec::new());
        let mut listed = false;
        for field in Fields::new(bytes) {
            match field? {
                (1, Field::Bytes(b)) => name = text(b)?,
                (2, Field::Fixed32(v)) => value = AttributeValue::Float(f32::from_bits(v)),
                (3, Field::Varint(v)) => value = AttributeValue::Int(v as i64),
                (4, Field::Bytes(b)) => value = AttributeValue::Text(b),
                (8, field) => {
                    listed = true;
                    integers(field, &mut ints, limits.per_node, "values of an attribute")?;
                }
                _ => {}
            }
        }
        if listed {
            value = AttributeValue::Ints(ints);
        }
        Ok(Self { name, value })
    }
}

impl Tensor<'_> {
    /// Number of values the shape calls for.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] when the product overflows.
    pub fn len(&self) -> Result<usize, ImportError> {
        (self.dims.iter())
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .ok_or_else(|| {
                malformed(format!(
                    "tensor \"{}\" has impossible dimensions",
                    short(self.name)
                ))
            })
    }

    /// Whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// The values as f32.
    ///
    /// # Errors
    /// [`ImportError::Unsupported`] when they are of another type or lie in another file, [`ImportError::Malformed`]
    /// when their number does not fit the shape or one is not finite.
    pub fn f32s(&self) -> Result<Vec<f32>, ImportError> {
        let name = short(self.name);
        if self.external {
            return Err(ImportError::Unsupported(format!(
                "the values of tensor \"{name}\" lie in another file; save the model as a single file"
            )));
        }
        if self.data_type != FLOAT {
            return Err(ImportError::Unsupported(format!(
                "tensor \"{name}\" is not float32 (ONNX type {}); use the float32 file of this model",
                self.data_type
            )));
        }
        let data = self.raw.or(self.floats).unwrap_or_default();
        let len = self.len()?;
        if len.checked_mul(4) != Some(data.len()) {
            return Err(malformed(format!(
                "tensor \"{name}\" should have {len} values, has {} bytes",
                data.len()
            )));
        }
        let (values, _) = data.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(malformed(format!(
                "tensor \"{name}\" holds a value that is not finite"
            )));
        }
        Ok(values)
    }
}

impl<'a> Tensor<'a> {
    fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImportError> {
        let mut tensor = Self::default();
        let mut dims = Vec::new();
        for field in Fields::new(bytes) {
            match field? {
                (1, field) => integers(field, &mut dims, limits.rank, "dimensions of a tensor")?,
                (2, Field::Varint(v)) => {
                    tensor.data_type =
                        i32::try_from(v).map_err(|_| malformed("a tensor has no valid type"))?;
                }
                (4, Field::Bytes(b)) => tensor.floats = Some(b),
                (8, Field::Bytes(b)) => tensor.name = text(b)?,
                (9, Field::Bytes(b)) => tensor.raw = Some(b),
                (14, Field::Varint(v)) => tensor.external = v == 1,
                _ => {}
            }
        }
        tensor.dims = (dims.into_iter())
            .map(|d| i32::try_from(d).ok().and_then(|d| usize::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                malformed(format!(
                    "tensor \"{}\" has impossible dimensions",
                    short(tensor.name)
                ))
            })?;
        Ok(tensor)
    }
}

/// Version in an `OperatorSetIdProto`, if it is about the standard operators.
fn opset(bytes: &[u8]) -> Result<Option<i64>, ImportError> {
    let (mut standard, mut version) = (true, 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, Field::Bytes(b)) => standard = matches!(text(b)?, "" | "ai.onnx"),
            (2, Field::Varint(v)) => version = v as i64,
            _ => {}
        }
    }
    Ok(standard.then_some(version))
}

/// Name of a `ValueInfoProto`.
fn value_name(bytes: &[u8]) -> Result<&str, ImportError> {
    let mut name = "";
    for field in Fields::new(bytes) {
        if let (1, Field::Bytes(b)) = field? {
            name = text(b)?;
        }
    }
    Ok(name)
}

/// A repeated integer field: packed or one by one.
fn integers(
    field: Field<'_>,
    into: &mut Vec<i64>,
    most: usize,
    what: &str,
) -> Result<(), ImportError> {
    match field {
        Field::Varint(v) => push(into, v as i64, most, what),
        Field::Bytes(mut packed) => {
            while !packed.is_empty() {
                push(into, wire::varint(&mut packed)? as i64, most, what)?;
            }
            Ok(())
        }
        _ => Err(malformed(format!(
            "the {what} are stored in an unknown way"
        ))),
    }
}

fn push<T>(list: &mut Vec<T>, item: T, most: usize, what: &str) -> Result<(), ImportError> {
    if list.len() >= most {
        return Err(malformed(format!("more than {most} {what}")));
    }
    list.push(item);
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, ImportError> {
    core::str::from_utf8(bytes).map_err(|_| malformed("a name in it is not UTF-8"))
}

/// A foreign name made fit for one line of a message.
pub(crate) fn short(name: &str) -> String {
    let mut clean: String = (name.chars().take(40))
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if name.chars().nth(40).is_some() {
        clean.push_str("...");
    }
    clean
}

fn list(names: &[&str]) -> String {
    let mut line = (names.iter().take(4))
        .map(|n| short(n))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > 4 {
        line.push_str(&format!(" and {} more", names.len() - 4));
    }
    line
}

pub(crate) fn malformed(what: impl Into<String>) -> ImportError {
    ImportError::Malformed(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(number < 16 && content.len() < 128);
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    /// A model of these graph fields, operator set 11.
    fn model(graph: &[Vec<u8>]) -> Vec<u8> {
        [field(7, &graph.concat()), field(8, b"\x10\x0b")].concat()
    }

    fn tensor(parts: &[Vec<u8>]) -> Vec<u8> {
        model(&[field(5, &parts.concat())])
    }

    #[test]
    fn nodes_and_attributes_are_read() {
        let strides = [field(1, b"strides"), vec![0x40, 2, 0x40, 3]].concat();
        let pads = [field(1, b"pads"), field(8, &[1, 0, 4])].concat();
        let axis = [
            field(1, b"axis"),
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(),
        ]
        .concat();
        let ratio = [field(1, b"ratio"), vec![0x15, 0, 0, 0x80, 0x3f]].concat();
        let node = [
            field(1, b"x"),
            field(1, b""),
            field(2, b"y"),
            field(4, b"Conv"),
            field(5, &strides),
            field(5, &pads),
            field(5, &axis),
            field(5, &ratio),
        ];
        let file = model(&[
            field(1, &node.concat()),
            field(11, &field(1, b"x")),
            field(12, &field(1, b"y")),
        ]);
        let model = Model::open(&file).expect("a model");
        assert_eq!(model.opset, 11);
        assert_eq!(
            (&model.graph.inputs[..], &model.graph.outputs[..]),
            (&["x"][..], &["y"][..])
        );
        let node = &model.graph.nodes[0];
        assert_eq!(
            (node.op, &node.inputs[..], &node.outputs[..]),
            ("Conv", &["x", ""][..], &["y"][..])
        );
        // Lists one by one and packed.
        assert_eq!(
            node.attribute("strides"),
            Some(&AttributeValue::Ints(vec![2, 3]))
        );
        assert_eq!(
            node.attribute("pads"),
            Some(&AttributeValue::Ints(vec![1, 0, 4]))
        );
        assert_eq!(node.attribute("axis"), Some(&AttributeValue::Int(-1)));
        assert_eq!(node.attribute("ratio"), Some(&AttributeValue::Float(1.0)));
        assert_eq!(node.attribute("absent"), None);
    }

    #[test]
    fn tensors_are_read_from_either_field() {
        let values = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
        for data in [4, 9] {
            let file = tensor(&[
                field(1, &[1, 2]),
                vec![0x10, 1],
                field(8, b"w"),
                field(data, &values),
            ]);
            let model = Model::open(&file).expect("a model");
            let tensor = model.graph.initializer("w").expect("the tensor");
            assert_eq!(
                (&tensor.dims[..], tensor.len(), tensor.f32s()),
                (&[1, 2][..], Ok(2), Ok(vec![1.5, -2.0]))
            );
        }
    }

    #[test]
    fn wrong_tensors_are_refused() {
        let four = 1f32.to_le_bytes();
        let (one, float, raw) = (field(1, &[1]), vec![0x10, 1], field(9, &four));
        let f32s = |parts: &[Vec<u8>]| {
            let file = tensor(parts);
            let model = Model::open(&file)?;
            model.graph.initializers[0].f32s()
        };
        assert_eq!(
            f32s(&[one.clone(), float.clone(), raw.clone()]),
            Ok(vec![1.0])
        );
        let malformed = |parts: &[Vec<u8>]| {
            assert!(
                matches!(f32s(parts), Err(ImportError::Malformed(_))),
                "{parts:?}"
            )
        };
        // Two values promised, one there; none there; not finite.
        malformed(&[field(1, &[2]), float.clone(), raw.clone()]);
        malformed(&[one.clone(), float.clone()]);
        malformed(&[
            one.clone(),
            float.clone(),
            field(9, &f32::NAN.to_le_bytes()),
        ]);
        // A dimension of -1; dimensions whose product overflows; nine dimensions.
        malformed(&[field(1, &[0xff; 9]), float.clone(), raw.clone()]);
        malformed(&[
            field(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            float.clone(),
            raw.clone(),
        ]);
        malformed(&[
            field(1, &[0xff, 0xff, 0xff, 0xff, 0x07].repeat(3)),
            float.clone(),
            raw.clone(),
        ]);
        malformed(&[field(1, &[1; 9]), float.clone(), raw.clone()]);
        let unsupported = |parts: &[Vec<u8>]| {
            assert!(
                matches!(f32s(parts), Err(ImportError::Unsupported(_))),
                "{parts:?}"
            )
        };
        // Half precision; values in another file.
        unsupported(&[one.clone(), vec![0x10, 10], raw.clone()]);
        unsupported(&[one, float, vec![0x70, 1]]);
    }

    #[test]
    fn files_beyond_the_limits_are_refused() {
        let limits = Limits {
            items: 2,
            ..Limits::default()
        };
        let node = field(1, &field(4, b"Relu"));
        let open =
            |count| Model::open_with(&model(&vec![node.clone(); count]), &limits).map(|_| ());
        assert_eq!(open(2), Ok(()));
        assert!(matches!(open(3), Err(ImportError::Malformed(_))));
        let two_graphs = [model(&[]), model(&[])].concat();
        assert!(matches!(
            Model::open(&two_graphs),
            Err(ImportError::Malformed(_))
        ));
        let foreign_operators = [
            field(7, b""),
            field(8, &[field(1, b"com.example"), vec![0x10, 1]].concat()),
        ]
        .concat();
        assert!(matches!(
            Model::open(&foreign_operators),
            Err(ImportError::Malformed(_))
        ));
    }
}
