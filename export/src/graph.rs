//! A network as a list of operations on tensors of known shapes: what both writers write.
//!
//! There are just the operations that our models need, each with one meaning; a writer says how its format spells
//! them. Tensors are f32, row-major, outermost dimension first.

use crate::weights::Matrix;

/// A tensor, by its place in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub usize);

/// A network.
#[derive(Debug, Default)]
pub struct Graph {
    /// All tensors that operations read and write.
    pub values: Vec<Value>,
    /// The operations, in an order in which they can be run.
    pub ops: Vec<Op>,
    /// What the caller supplies.
    pub inputs: Vec<Id>,
    /// What the caller gets.
    pub outputs: Vec<Id>,
}

/// A tensor.
#[derive(Debug)]
pub struct Value {
    /// Its name, unique in the graph.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, if it is a constant.
    pub data: Option<Vec<f32>>,
}

/// An operation.
#[derive(Debug)]
pub struct Op {
    /// Its name, unique in the graph.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// What it reads.
    pub inputs: Vec<Id>,
    /// What it writes.
    pub outputs: Vec<Id>,
}

/// What an operation does.
#[derive(Debug)]
pub enum Kind {
    /// y = x Wᵀ + b for x of [rows, inputs].
    Linear {
        /// [outputs, inputs].
        weight: Matrix,
        /// [outputs].
        bias: Vec<f32>,
    },
    /// The matrix products of a batch, [n, a, b] by [n, b, c], or by [n, c, b] transposed.
    Product {
        /// Whether the second factor is transposed.
        transposed: bool,
    },
    /// x + y, with broadcasting.
    Add,
    /// x · y, with broadcasting.
    Mul,
    /// Over the last dimension, with weight, bias and epsilon.
    LayerNorm {
        /// [width].
        weight: Vec<f32>,
        /// [width].
        bias: Vec<f32>,
        /// Added to the variance.
        eps: f32,
    },
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// max(0, x).
    Relu,
    /// Over the last dimension.
    Softmax,
    /// The two halves of the last dimension: two outputs.
    Halves,
    /// The same elements in another shape.
    Reshape,
    /// Dimension i of the output is dimension `order[i]` of the input.
    Transpose {
        /// A permutation.
        order: Vec<usize>,
    },
    /// A block of the output's shape out of the input.
    Slice {
        /// Where it begins, in each dimension.
        begin: Vec<usize>,
    },
    /// One after the other along a dimension.
    Concat {
        /// The dimension.
        axis: usize,
    },
    /// Convolution of [frames, channels] along the frames, each channel by itself, with zeros around.
    Depthwise {
        /// [kernel, channels].
        weight: Vec<f32>,
        /// [channels].
        bias: Vec<f32>,
        /// Width.
        kernel: usize,
        /// Zeros before the first frame and after the last.
        pad: [usize; 2],
    },
    /// Convolution of [images, rows, columns, channels] with zeros around.
    Convolution {
        /// [outputs, kernel rows, kernel columns, channels].
        weight: Vec<f32>,
        /// [outputs].
        bias: Vec<f32>,
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// Step in both directions.
        stride: [usize; 2],
        /// Zeros above and below, and on either side.
        pad: [usize; 2],
    },
    /// The largest of windows of [images, rows, columns, channels]; what is around is never the largest.
    MaxPool {
        /// Side of a window.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// What is added on all four sides.
        pad: usize,
    },
    /// The mean over dimension 1 of three.
    Mean,
}

impl Graph {
    /// A tensor that the caller supplies.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Id {
        let id = self.value(name, shape, None);
        self.inputs.push(id);
        id
    }

    /// A tensor that does not change.
    pub fn constant(&mut self, name: &str, shape: &[usize], data: Vec<f32>) -> Id {
        debug_assert_eq!(data.len(), shape.iter().product::<usize>(), "{name}");
        self.value(name, shape, Some(data))
    }

    /// Hands a computed tensor to the caller under a name.
    pub fn output(&mut self, name: &str, id: Id) {
        name.clone_into(&mut self.values[id.0].name);
        self.outputs.push(id);
    }

    /// Adds an operation with one output.
    pub fn op(&mut self, name: &str, kind: Kind, inputs: &[Id], shape: &[usize]) -> Id {
        let output = self.value(name, shape, None);
        self.push(name, kind, inputs, vec![output]);
        output
    }

    /// Adds an operation with two outputs of one shape.
    pub fn op2(&mut self, name: &str, kind: Kind, input: Id, shape: &[usize]) -> [Id; 2] {
        let outputs = ["a", "b"].map(|half| self.value(&format!("{name}.{half}"), shape, None));
        self.push(name, kind, &[input], outputs.to_vec());
        outputs
    }

    /// Shape of a tensor.
    pub fn shape(&self, id: Id) -> &[usize] {
        &self.values[id.0].shape
    }

    fn push(&mut self, name: &str, kind: Kind, inputs: &[Id], outputs: Vec<Id>) {
        self.ops.push(Op {
            name: name.to_owned(),
            kind,
            inputs: inputs.to_vec(),
            outputs,
        });
    }

    fn value(&mut self, name: &str, shape: &[usize], data: Option<Vec<f32>>) -> Id {
        self.values.push(Value {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data,
        });
        Id(self.values.len() - 1)
    }
}
