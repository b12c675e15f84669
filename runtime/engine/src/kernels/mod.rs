//! Kernels: the inner loops. The portable ones are the truth.
//!
//! All loops over activations sit behind [`Kernels`], so that an instruction set can bring its own;
//! [`detect`] is the one place that chooses. Every implementation gives the bits of [`portable`]:
//! integer sums are exact, and floating-point sums have one order, written down in [`dot_f32`].
//!
//! An instruction set writes matrix products by hand. For the rest (norms, attention, convolutions) it
//! compiles the same loops once more with its wider vectors: they do the same operations in the
//! same order at any vector width. Those that sum in registers are generic over [`eight::Eight`].

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub mod aarch64;
pub mod attention;
#[cfg(feature = "testing")]
pub mod cases;
pub mod conv_f32;
#[cfg(feature = "alloc")]
pub mod convolution;
#[cfg(all(target_arch = "arm", target_os = "none", target_endian = "little"))]
pub mod cortex_m;
pub mod depthwise;
pub mod eight;
pub mod elementwise;
pub mod im2row;
pub mod norm;
pub mod packed;
pub mod panels;
pub mod portable;
#[cfg(target_arch = "x86_64")]
pub mod x86;

use core::fmt::Debug;

use attention::slots::{Heads, ValueSlots, VectorSlots};
use attention::{Attended, AttendedInt8, Int8Attention, RelativeAttention};
#[cfg(feature = "alloc")]
use convolution::Convolution;
use depthwise::{Depthwise, Frames};
use eight::Plain;
use elementwise::Activation;
pub use packed::{Packed, WeightsI4, WeightsI8};
pub use portable::{Portable, dot_f32};
use viseme_format::panels as layout;

/// The kernels of one instruction set. What has a body here is the plain loop.
pub trait Kernels: Debug + Sync {
    /// Name, `{arch}-{variant}`, as benchmarks and `viseme info` print it.
    fn name(&self) -> &'static str;

    /// y\[m\]\[n\] = Σ_k x\[m\]\[k\] · w\[n\]\[k\] + bias\[n\], each sum in the order of [`dot_f32`].
    ///
    /// `x` is [rows, inputs], `y` is [rows, outputs], `bias` has `outputs` elements or is empty
    /// (no bias). Rows that either `x` or `y` lacks are not computed.
    fn matmul_f32(&self, x: &[f32], w: WeightsF32<'_>, bias: &[f32], y: &mut [f32]) {
        portable::matmul_f32::<Plain>(x, w, bias, y);
    }

    /// The same with int8 weights: y\[m\]\[n\] = s\[m\] · scale\[n\] · (acc − zero\[m\] · colsum\[n\]) + bias\[n\]
    /// with acc = Σ_k q\[m\]\[k\] · w\[n\]\[k\] in 32 bits.
    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]);

    /// The same with int4 weights.
    fn matmul_i4(&self, x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
        portable::matmul_i4(x, w, bias, y);
    }

    /// Convolves int8 maps, each a row of `x`: the windows of `over`, whose border has the value zero, times `w`. `y` is
    /// [maps, windows, outputs], each value as if the windows were rows of [`Self::matmul_i8`].
    #[cfg(feature = "alloc")]
    fn convolve_i8(
        &self,
        over: &Convolution,
        x: QuantRows<'_>,
        w: WeightsI8<'_>,
        bias: &[f32],
        y: &mut [f32],
    ) {
        portable::convolve_i8(over, x, w, bias, y);
    }

    /// Threads to share out work to, where a host has them.
    fn crew(&self) -> Option<&dyn Crew> {
        None
    }

    /// Quantises one row of activations to 8 bits, see [`portable::quantize`]; sets what `q` holds more to 0.
    fn quantize(&self, x: &[f32], q: &mut [u8]) -> RowQuant {
        portable::quantize::<Plain>(x, q)
    }

    /// See [`norm::layer_norm`].
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
        norm::layer_norm::<Plain>(x, weight, bias, eps, y);
    }

    /// Applies `activation` in place.
    fn activate(&self, activation: Activation, x: &mut [f32]) {
        activation.apply(x);
    }

    /// See [`elementwise::glu`].
    fn glu(&self, x: &[f32], channels: usize, y: &mut [f32]) {
        elementwise::glu(x, channels, y);
    }

    /// See [`elementwise::add_scaled`].
    fn add_scaled(&self, x: &mut [f32], factor: f32, y: &[f32]) {
        elementwise::add_scaled(x, factor, y);
    }

    /// See [`depthwise::Depthwise::run`].
    fn depthwise(&self, filter: &Depthwise<'_>, x: Frames<'_>, y: &mut [f32]) {
        filter.run::<Plain, 1>(x, y);
    }

    /// See [`Int8Attention::run`].
    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>);

    /// Puts rows of [d] into the slots from `first` on, round the ring; see [`VectorSlots::put`].
    fn put_vectors(&self, heads: Heads, first: usize, rows: &[f32], to: &mut VectorSlots<'_>) {
        to.put_rows(heads, first, rows);
    }

    /// See [`Self::put_vectors`].
    fn put_values(&self, heads: Heads, first: usize, rows: &[f32], to: &mut ValueSlots<'_>) {
        to.put_rows(heads, first, rows);
    }

    /// See [`RelativeAttention::run`].
    fn attend(&self, attention: &RelativeAttention<'_>, x: Attended<'_>) {
        attention.run::<Plain>(x);
    }

    /// See [`conv_f32::pointwise_row`].
    fn pointwise_row(&self, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
        conv_f32::pointwise_row::<2>(x, weight, bias, y);
    }

    /// See [`conv_f32::depthwise_row`].
    fn depthwise_row(
        &self,
        x: [&[f32]; 3],
        weight: &[f32],
        bias: &[f32],
        relu: bool,
        y: &mut [f32],
    ) {
        conv_f32::depthwise_row(x, weight, bias, relu, y);
    }

    /// See [`conv_f32::dense_row_stride2`].
    fn dense_row_stride2(&self, x: [&[f32]; 3], weight: &[f32], bias: &[f32], y: &mut [f32]) {
        conv_f32::dense_row_stride2(x, weight, bias, y);
    }
}

/// Some threads, which the engine does not start: a host brings them with its [`Kernels`].
pub trait Crew: Sync {
    /// Calls `work` for every part of `y`, `len` values each, in any order, with kernels to compute it by and the number
    /// of the part.
    fn share_out(&self, len: usize, y: &mut [f32], work: &Share<'_>);
}

/// Work on a part.
pub type Share<'w> = dyn Fn(&dyn Kernels, usize, &mut [f32]) + Sync + 'w;

/// The fastest kernels for this machine. All give the same bits.
pub fn detect() -> &'static dyn Kernels {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernels) = x86::detect() {
        return kernels;
    }
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    if let Some(kernels) = aarch64::detect() {
        return kernels;
    }
    #[cfg(all(target_arch = "arm", target_os = "none", target_endian = "little"))]
    if let Some(kernels) = cortex_m::detect() {
        return kernels;
    }
    &Portable
}

/// Every set of kernels that this machine can run, the portable ones first: for tests and benchmarks.
pub fn all() -> impl Iterator<Item = &'static dyn Kernels> {
    let portable = core::iter::once(&Portable as &dyn Kernels);
    #[cfg(target_arch = "x86_64")]
    let portable = portable.chain(x86::all());
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    let portable = portable.chain(aarch64::all());
    #[cfg(all(target_arch = "arm", target_os = "none", target_endian = "little"))]
    let portable = portable.chain(cortex_m::all());
    portable
}

/// Largest number of inputs of a matrix: 255 · 127 · `MAX_INPUTS` twice over fits 32 bits, so that
/// no accumulator and no zero-point correction can overflow.
pub const MAX_INPUTS: usize = 32_768;

/// f32 weights, row-major [outputs, inputs].
#[derive(Clone, Copy, Debug)]
pub struct WeightsF32<'a> {
    rows: &'a [f32],
    inputs: usize,
}

impl<'a> WeightsF32<'a> {
    /// `None` unless `rows` is a whole, non-zero number of rows of 1 to [`MAX_INPUTS`] elements.
    pub fn new(rows: &'a [f32], inputs: usize) -> Option<Self> {
        whole_rows(rows.len(), inputs).then_some(WeightsF32 { rows, inputs })
    }

    /// Elements of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of rows.
    pub fn outputs(&self) -> usize {
        // Never 0; so written, the compiler knows.
        self.rows.len() / self.inputs.max(1)
    }

    /// All elements.
    pub fn rows(&self) -> &'a [f32] {
        self.rows
    }
}

fn whole_rows(len: usize, inputs: usize) -> bool {
    (1..=MAX_INPUTS).contains(&inputs) && len >= inputs && len.is_multiple_of(inputs)
}

/// Scale and zero point of one quantised row: x ≈ scale · (q − zero).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowQuant {
    /// Step between two codes; 0 for a row of zeros.
    pub scale: f32,
    /// The code of 0, in 0..=255.
    pub zero: i32,
}

/// Codes that a quantised row of `inputs` values takes up: whole groups, as the panels of the weights have them.
pub fn code_stride(inputs: usize) -> usize {
    inputs.next_multiple_of(layout::INPUTS)
}

/// Quantised activations: rows of codes, and scale and zero point of each.
#[derive(Clone, Copy, Debug)]
pub struct QuantRows<'a> {
    /// Codes, [rows, [`code_stride`] of the inputs]; those beyond the inputs meet weights of 0.
    pub codes: &'a [u8],
    /// Scale of each row.
    pub scale: &'a [f32],
    /// Zero point of each row, in 0..=255.
    pub zero: &'a [i32],
}
