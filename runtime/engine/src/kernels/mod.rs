//! Kernels: the inner loops. The portable ones are the truth.
//!
//! All loops over activations sit behind [`Kernels`], so that an instruction set can bring its own;
//! [`detect`] is the one place that chooses. Every implementation gives the bits of [`portable`]:
//! integer sums are exact, and floating-point sums have one order, written down in [`dot_f32`].
//!
//! An instruction set writes matrix products by hand. For the rest (norms, attention, convolutions) it
//! compiles the same plain loops once more with its wider vectors: they do the same operations in the
//! same order at any vector width.

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub mod aarch64;
pub mod attention;
#[cfg(feature = "testing")]
pub mod cases;
pub mod conv_f32;
#[cfg(all(target_arch = "arm", target_os = "none", target_endian = "little"))]
pub mod cortex_m;
pub mod depthwise;
pub mod elementwise;
pub mod im2row;
pub mod norm;
pub mod panels;
pub mod portable;
#[cfg(target_arch = "x86_64")]
pub mod x86;

use core::fmt::Debug;

use self::panels::Group;
use attention::{Attended, RelativeAttention};
use elementwise::Activation;
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
        portable::matmul_f32(x, w, bias, y);
    }

    /// The same with int8 weights: y\[m\]\[n\] = s\[m\] · scale\[n\] · (acc − zero\[m\] · colsum\[n\]) + bias\[n\]
    /// with acc = Σ_k q\[m\]\[k\] · w\[n\]\[k\] in 32 bits.
    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]);

    /// Quantises one row of activations to 8 bits, see [`portable::quantize`]; sets what `q` holds more to 0.
    fn quantize(&self, x: &[f32], q: &mut [u8]) -> RowQuant {
        portable::quantize(x, q)
    }

    /// See [`norm::layer_norm`].
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
        norm::layer_norm(x, weight, bias, eps, y);
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

    /// See [`depthwise::depthwise`].
    fn depthwise(&self, x: &[f32], taps: &[f32], bias: &[f32], left: usize, y: &mut [f32]) {
        depthwise::depthwise(x, taps, bias, left, y);
    }

    /// See [`RelativeAttention::run`].
    fn attend(&self, attention: &RelativeAttention<'_>, x: Attended<'_>) {
        attention.run(x);
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
        self.rows.len() / self.inputs
    }

    /// All elements.
    pub fn rows(&self) -> &'a [f32] {
        self.rows
    }
}

/// int8 weights in packed panels ([`viseme_format::panels`]), each output with its scale and the sum of its weights.
#[derive(Clone, Copy, Debug)]
pub struct WeightsI8<'a> {
    panels: &'a [Group],
    scale: &'a [f32],
    colsum: &'a [i32],
    inputs: usize,
}

impl<'a> WeightsI8<'a> {
    /// `None` unless there are 1 to [`MAX_INPUTS`] inputs and at least one output, `scale` and `colsum` have one element
    /// an output, and `panels` is as long as they call for.
    pub fn new(
        panels: &'a [i8],
        scale: &'a [f32],
        colsum: &'a [i32],
        inputs: usize,
    ) -> Option<Self> {
        let fits = (1..=MAX_INPUTS).contains(&inputs)
            && !scale.is_empty()
            && colsum.len() == scale.len()
            && layout::len(scale.len(), inputs) == Some(panels.len());
        let (panels, _) = panels.as_chunks::<4>().0.as_chunks();
        fits.then_some(WeightsI8 {
            panels,
            scale,
            colsum,
            inputs,
        })
    }

    /// Elements of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of rows.
    pub fn outputs(&self) -> usize {
        self.scale.len()
    }

    /// Groups of inputs of a panel.
    pub fn groups(&self) -> usize {
        self.inputs.div_ceil(layout::INPUTS)
    }

    /// Whether what the panels hold beyond the outputs and inputs is 0.
    pub fn padding_is_zero(&self) -> bool {
        let (spare_inputs, groups) = (self.inputs % layout::INPUTS, self.groups());
        let spare_outputs = self.outputs() % layout::OUTPUTS;
        let last_groups = self.panels.chunks_exact(groups).filter_map(<[Group]>::last);
        let last_panel = self.panels.len() - groups;
        (spare_inputs == 0
            || last_groups
                .flatten()
                .all(|four| four[spare_inputs..].iter().all(|&w| w == 0)))
            && (spare_outputs == 0
                || (self.panels[last_panel..].iter())
                    .all(|group| group[spare_outputs..].iter().flatten().all(|&w| w == 0)))
    }

    /// Whether `colsum` is what it says.
    pub fn sums_hold(&self) -> bool {
        let panels = self.panels.chunks_exact(self.groups());
        panels
            .zip(self.colsum.chunks(layout::OUTPUTS))
            .all(|(panel, want)| {
                let mut sums = [0i32; layout::OUTPUTS];
                for group in panel {
                    for (sum, four) in sums.iter_mut().zip(group) {
                        *sum += four.iter().map(|&w| i32::from(w)).sum::<i32>();
                    }
                }
                sums[..want.len()] == *want
            })
    }

    /// All panels, group by group.
    pub fn panels(&self) -> &'a [Group] {
        self.panels
    }

    /// Scale of each output.
    pub fn scale(&self) -> &'a [f32] {
        self.scale
    }

    /// Sum of the weights of each output.
    pub fn colsum(&self) -> &'a [i32] {
        self.colsum
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
