//! x86-64.
//!
//! A value of each type here exists only where the CPU has its instructions: [`detect`] asks once, and that is why
//! calling code compiled for them is sound.
#![allow(unsafe_code)]

use super::attention::slots::{Heads, ValueSlots, VectorSlots};
use super::attention::{Attended, AttendedInt8, Int8Attention, RelativeAttention};
#[cfg(feature = "alloc")]
use super::convolution::{self, Convolution};
use super::depthwise::{Depthwise, Frames};
use super::elementwise::{self, Activation};
use super::{Kernels, QuantRows, RowQuant, WeightsF32, WeightsI4, WeightsI8};
use super::{conv_f32, norm, panels, portable};

mod eight;
mod tiles;

use eight::Avx;
use tiles::{Avx2Tile, Avx512VnniTile, AvxVnniTile};

/// The best of the kernels below that this CPU can run.
pub fn detect() -> Option<&'static dyn Kernels> {
    all().last()
}

/// Every set of kernels that this CPU can run, slowest first: for tests and benchmarks.
pub fn all() -> impl Iterator<Item = &'static dyn Kernels> {
    let avx2 = Avx2::new().map(|kernels| kernels as &dyn Kernels);
    let avx_vnni = AvxVnni::new().map(|kernels| kernels as &dyn Kernels);
    let avx512 = Avx512Vnni::new().map(|kernels| kernels as &dyn Kernels);
    [avx2, avx_vnni, avx512].into_iter().flatten()
}

/// Whether the CPU has all of these features: asked at run time with the standard library, else known when compiled.
macro_rules! has {
    ($($feature:tt),+) => {{
        #[cfg(feature = "std")]
        { $(std::arch::is_x86_feature_detected!($feature))&&+ }
        #[cfg(not(feature = "std"))]
        { $(cfg!(target_feature = $feature))&&+ }
    }};
}

/// The loops of [`Kernels`], compiled for more features; `pixels` is the tile of a pointwise convolution,
/// `wide` that of a depthwise one in registers of eight.
macro_rules! plain_loops {
    ($features:literal, tile = $tile:expr, pixels = $pixels:literal, wide = $wide:literal) => {
        plain_loops! { $features;
            fn matmul_i8(x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) = |x, w, bias, y| panels::matmul($tile, x, w, bias, y);
            fn matmul_i4(x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) = |x, w, bias, y| panels::matmul($tile, x, w, bias, y);
            fn matmul_f32(x: &[f32], w: WeightsF32<'_>, bias: &[f32], y: &mut [f32]) = portable::matmul_f32::<Avx>;
            fn quantize(x: &[f32], q: &mut [u8]) -> RowQuant = portable::quantize::<Avx>;
            fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) = norm::layer_norm::<Avx>;
            fn activate(activation: Activation, x: &mut [f32]) = Activation::apply;
            fn glu(x: &[f32], channels: usize, y: &mut [f32]) = elementwise::glu;
            fn add_scaled(x: &mut [f32], factor: f32, y: &[f32]) = elementwise::add_scaled;
            fn depthwise(filter: &Depthwise<'_>, x: Frames<'_>, y: &mut [f32]) = Depthwise::run::<Avx, $wide>;
            #[cfg(feature = "alloc")]
            fn convolve_i8(over: &Convolution, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32])
                = |over, x, w, bias, y| convolution::convolve($tile, over, x, w, bias, y);
            fn attend_i8(attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>)
                = |attention: &Int8Attention<'_>, x| attention.run::<_, Avx>($tile, x);
            fn put_vectors(heads: Heads, first: usize, rows: &[f32], to: &mut VectorSlots<'_>)
                = |heads, first, rows, to: &mut VectorSlots<'_>| to.put_rows(heads, first, rows);
            fn put_values(heads: Heads, first: usize, rows: &[f32], to: &mut ValueSlots<'_>)
                = |heads, first, rows, to: &mut ValueSlots<'_>| to.put_rows(heads, first, rows);
            fn attend(attention: &RelativeAttention<'_>, x: Attended<'_>) = RelativeAttention::run::<Avx>;
            fn pointwise_row(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32])
                = conv_f32::pointwise_row::<$pixels>;
            fn depthwise_row(x: [&[f32]; 3], weight: &[f32], bias: &[f32], relu: bool, y: &mut [f32])
                = conv_f32::depthwise_row;
            fn dense_row_stride2(x: [&[f32]; 3], weight: &[f32], bias: &[f32], y: &mut [f32])
                = conv_f32::dense_row_stride2;
        }
    };
    ($features:literal;
     $($(#[$attribute:meta])? fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $plain:expr;)*) => {
        $($(#[$attribute])? fn $name(&self, $($arg: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn compiled($($arg: $type),*) $(-> $result)? {
                ($plain)($($arg),*)
            }
            // SAFETY: a value of this type exists only where the CPU has these features.
            unsafe { compiled($($arg),*) }
        })*
    };
}

/// AVX2 without VNNI: Haswell (2013) and later, Zen.
#[derive(Debug)]
pub struct Avx2(());

impl Avx2 {
    /// `None` where the CPU lacks AVX2.
    pub fn new() -> Option<&'static Self> {
        static KERNELS: Avx2 = Avx2(());
        has!("avx2").then_some(&KERNELS)
    }
}

impl Kernels for Avx2 {
    fn name(&self) -> &'static str {
        "x86-u8s8-avx2"
    }

    plain_loops!("avx2", tile = Avx2Tile, pixels = 4, wide = 2);
}

/// AVX2 with VNNI: Alder Lake (2021) and later, Zen 5.
#[derive(Debug)]
pub struct AvxVnni(());

impl AvxVnni {
    /// `None` where the CPU lacks one of these extensions.
    pub fn new() -> Option<&'static Self> {
        static KERNELS: AvxVnni = AvxVnni(());
        has!("avx2", "avxvnni").then_some(&KERNELS)
    }
}

impl Kernels for AvxVnni {
    fn name(&self) -> &'static str {
        "x86-u8s8-avxvnni"
    }

    plain_loops!("avx2,avxvnni", tile = AvxVnniTile, pixels = 4, wide = 2);
}

/// AVX-512 with VNNI: Ice Lake (2019) and later, Zen 4.
#[derive(Debug)]
pub struct Avx512Vnni(());

impl Avx512Vnni {
    /// `None` where the CPU lacks one of these extensions.
    pub fn new() -> Option<&'static Self> {
        static KERNELS: Avx512Vnni = Avx512Vnni(());
        has!(
            "avx2",
            "avx512f",
            "avx512bw",
            "avx512vl",
            "avx512dq",
            "avx512vnni"
        )
        .then_some(&KERNELS)
    }
}

impl Kernels for Avx512Vnni {
    fn name(&self) -> &'static str {
        "x86-u8s8-avx512vnni"
    }

    plain_loops!(
        "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
        tile = Avx512VnniTile,
        pixels = 8,
        wide = 4
    );
}
