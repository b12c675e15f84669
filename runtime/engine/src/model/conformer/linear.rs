//! A linear layer and the activations that go into it.

use crate::kernels::{Kernels, QuantRows, WeightsF32, WeightsI4, WeightsI8, code_stride};
use crate::parts::first;

/// y = W x + b, with the weights as they lie in the model file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear<'a> {
    pub weight: Weight<'a>,
    /// One value an output, or empty.
    pub bias: &'a [f32],
}

/// Weights of any precision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weight<'a> {
    F32(WeightsF32<'a>),
    I8(WeightsI8<'a>),
    I4(WeightsI4<'a>),
}

/// Rows of activations in the precision that the weights they meet ask for; the other is empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activations<'x> {
    pub values: &'x [f32],
    pub codes: QuantRows<'x>,
}

/// Where activations are quantised to.
#[derive(Debug)]
pub(crate) struct QuantBuffer<'s> {
    pub codes: &'s mut [u8],
    pub scale: &'s mut [f32],
    pub zero: &'s mut [i32],
}

impl Linear<'_> {
    /// Number of outputs.
    #[cfg(feature = "alloc")]
    pub fn outputs(&self) -> usize {
        match &self.weight {
            Weight::F32(w) => w.outputs(),
            Weight::I8(w) => w.outputs(),
            Weight::I4(w) => w.outputs(),
        }
    }

    /// Writes [rows, outputs] to `y` for rows of activations.
    pub fn run(&self, kernels: &dyn Kernels, x: Activations<'_>, y: &mut [f32]) {
        let empty = match self.weight {
            Weight::F32(_) => x.values.is_empty(),
            Weight::I8(_) | Weight::I4(_) => x.codes.codes.is_empty(),
        };
        debug_assert!(y.is_empty() || !empty, "activations of another precision");
        match self.weight {
            Weight::F32(w) => kernels.matmul_f32(x.values, w, self.bias, y),
            Weight::I8(w) => kernels.matmul_i8(x.codes, w, self.bias, y),
            Weight::I4(w) => kernels.matmul_i4(x.codes, w, self.bias, y),
        }
    }
}

impl<'x> Activations<'x> {
    pub fn floats(values: &'x [f32]) -> Self {
        let codes = QuantRows {
            codes: &[],
            scale: &[],
            zero: &[],
        };
        Activations { values, codes }
    }

    pub fn quantised(codes: QuantRows<'x>) -> Self {
        Activations { values: &[], codes }
    }
}

impl QuantBuffer<'_> {
    /// Rows of `width` values, quantised row by row if the model's weights are.
    pub fn load<'x>(
        &'x mut self,
        kernels: &dyn Kernels,
        int8: bool,
        values: &'x [f32],
        width: usize,
    ) -> Activations<'x> {
        if !int8 {
            return Activations::floats(values);
        }
        let rows = self.quantise(kernels, values, width);
        Activations::quantised(QuantRows {
            codes: first(self.codes, rows * code_stride(width)),
            scale: first(self.scale, rows),
            zero: first(self.zero, rows),
        })
    }

    /// Quantises rows of `width` values, and says how many there are.
    pub fn quantise(&mut self, kernels: &dyn Kernels, values: &[f32], width: usize) -> usize {
        // Never 0; so written, the compiler knows.
        let (width, stride) = (width.max(1), code_stride(width).max(1));
        let params = self.scale.iter_mut().zip(self.zero.iter_mut());
        let rows = values
            .chunks_exact(width)
            .zip(self.codes.chunks_exact_mut(stride));
        for ((x, q), (scale, zero)) in rows.zip(params) {
            let row = kernels.quantize(x, q);
            (*scale, *zero) = (row.scale, row.zero);
        }
        values.len() / width
    }
}
