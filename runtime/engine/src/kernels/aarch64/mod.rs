//! AArch64.
//!
//! Every AArch64 CPU has NEON, for which elementwise loops are compiled anyway; what differs between CPUs is the int8 or
//! int4 product. A value of each type here exists only where the CPU has its instructions, and that is why calling code
//! compiled for them is sound.
#![allow(unsafe_code)]

use super::attention::{Attended, AttendedInt8, Int8Attention, RelativeAttention};
#[cfg(feature = "alloc")]
use super::convolution::{self, Convolution};
use super::depthwise::{Depthwise, Frames};
use super::{Kernels, QuantRows, RowQuant, WeightsF32, WeightsI4, WeightsI8};
use super::{norm, panels, portable};

mod eight;
mod tiles;

use eight::Quads;
use tiles::{DotTile, MatrixTile, NeonTile};

/// The best of the kernels below that this CPU can run.
pub fn detect() -> Option<&'static dyn Kernels> {
    all().last()
}

/// Every set of kernels that this CPU can run, slowest first: for tests and benchmarks.
pub fn all() -> impl Iterator<Item = &'static dyn Kernels> {
    let neon = Some(&Neon as &dyn Kernels);
    let dot = NeonDot::new().map(|kernels| kernels as &dyn Kernels);
    let matrix = NeonI8mm::new().map(|kernels| kernels as &dyn Kernels);
    [neon, dot, matrix].into_iter().flatten()
}

/// Whether the CPU has this feature: asked at run time with the standard library, else known when compiled.
macro_rules! has {
    ($feature:tt) => {{
        #[cfg(feature = "std")]
        {
            std::arch::is_aarch64_feature_detected!($feature)
        }
        #[cfg(not(feature = "std"))]
        {
            cfg!(target_feature = $feature)
        }
    }};
}

/// The loops whose sums stay in registers, compiled for more features than NEON, with the tile that needs them.
macro_rules! loops {
    ($features:literal, tile = $tile:expr) => {
        loops! { $features;
            fn matmul_i8(x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32])
                = |x, w, bias, y| panels::matmul($tile, x, w, bias, y);
            fn matmul_i4(x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32])
                = |x, w, bias, y| panels::matmul($tile, x, w, bias, y);
            #[cfg(feature = "alloc")]
            fn convolve_i8(over: &Convolution, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32])
                = |over, x, w, bias, y| convolution::convolve($tile, over, x, w, bias, y);
            fn attend_i8(attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>)
                = |attention: &Int8Attention<'_>, x| attention.run::<_, Quads>($tile, x);
            fn matmul_f32(x: &[f32], w: WeightsF32<'_>, bias: &[f32], y: &mut [f32]) = portable::matmul_f32::<Quads>;
            fn quantize(x: &[f32], q: &mut [u8]) -> RowQuant = portable::quantize::<Quads>;
            fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) = norm::layer_norm::<Quads>;
            fn depthwise(filter: &Depthwise<'_>, x: Frames<'_>, y: &mut [f32]) = Depthwise::run::<Quads, 2>;
            fn attend(attention: &RelativeAttention<'_>, x: Attended<'_>) = RelativeAttention::run::<Quads>;
        }
    };
    ($features:literal;
     $($(#[$attribute:meta])? fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $loop:expr;)*) => {
        $($(#[$attribute])? fn $name(&self, $($arg: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn compiled($($arg: $type),*) $(-> $result)? {
                ($loop)($($arg),*)
            }
            // SAFETY: a value of this type exists only where the CPU has these features.
            unsafe { compiled($($arg),*) }
        })*
    };
}

/// NEON without dot products: Cortex-A53 and A72 (Raspberry Pi Zero 2, 3 and 4, Jetson Nano).
#[derive(Debug)]
pub struct Neon;

impl Kernels for Neon {
    fn name(&self) -> &'static str {
        "aarch64-s8s8-neon"
    }

    loops!("neon", tile = NeonTile);
}

/// SDOT: Cortex-A55, A76 and A78 (Raspberry Pi 5, Jetson Orin).
#[derive(Debug)]
pub struct NeonDot(());

impl NeonDot {
    /// `None` where the CPU lacks SDOT.
    pub fn new() -> Option<&'static Self> {
        static KERNELS: NeonDot = NeonDot(());
        has!("dotprod").then_some(&KERNELS)
    }
}

impl Kernels for NeonDot {
    fn name(&self) -> &'static str {
        "aarch64-s8s8-dotprod"
    }

    loops!("neon,dotprod", tile = DotTile);
}

/// SMMLA: Cortex-A510, A710, X2, Neoverse V1 and later.
#[derive(Debug)]
pub struct NeonI8mm(());

impl NeonI8mm {
    /// `None` where the CPU lacks SDOT or SMMLA.
    pub fn new() -> Option<&'static Self> {
        static KERNELS: NeonI8mm = NeonI8mm(());
        (has!("dotprod") && has!("i8mm")).then_some(&KERNELS)
    }
}

impl Kernels for NeonI8mm {
    fn name(&self) -> &'static str {
        "aarch64-s8s8-i8mm"
    }

    loops!("neon,dotprod,i8mm", tile = MatrixTile);
}
