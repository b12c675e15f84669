//! AArch64.
//!
//! Every AArch64 CPU has NEON, for which the plain loops are compiled anyway; what differs is the int8 or int4 product. A value
//! of each type here exists only where the CPU has its instructions, and that is why calling code compiled for them
//! is sound.
#![allow(unsafe_code)]

use super::attention::{AttendedInt8, Int8Attention};
use super::{Kernels, QuantRows, WeightsI4, WeightsI8, panels};

mod tiles;

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

/// NEON without dot products: Cortex-A53 and A72 (Raspberry Pi Zero 2, 3 and 4, Jetson Nano).
#[derive(Debug)]
pub struct Neon;

impl Kernels for Neon {
    fn name(&self) -> &'static str {
        "aarch64-s8s8-neon"
    }

    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
        panels::matmul(NeonTile, x, w, bias, y);
    }

    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
        attention.run(NeonTile, x);
    }

    fn matmul_i4(&self, x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
        panels::matmul(NeonTile, x, w, bias, y);
    }
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

    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
        #[target_feature(enable = "dotprod")]
        fn compiled(x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
            panels::matmul(DotTile, x, w, bias, y);
        }
        // SAFETY: a value of this type exists only where the CPU has SDOT.
        unsafe { compiled(x, w, bias, y) }
    }

    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
        #[target_feature(enable = "dotprod")]
        fn compiled(attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
            attention.run(DotTile, x);
        }
        // SAFETY: a value of this type exists only where the CPU has SDOT.
        unsafe { compiled(attention, x) }
    }

    fn matmul_i4(&self, x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
        #[target_feature(enable = "dotprod")]
        fn compiled(x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
            panels::matmul(DotTile, x, w, bias, y);
        }
        // SAFETY: a value of this type exists only where the CPU has SDOT.
        unsafe { compiled(x, w, bias, y) }
    }
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

    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
        #[target_feature(enable = "dotprod,i8mm")]
        fn compiled(x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
            panels::matmul(MatrixTile, x, w, bias, y);
        }
        // SAFETY: a value of this type exists only where the CPU has SDOT and SMMLA.
        unsafe { compiled(x, w, bias, y) }
    }

    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
        #[target_feature(enable = "dotprod,i8mm")]
        fn compiled(attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
            attention.run(MatrixTile, x);
        }
        // SAFETY: a value of this type exists only where the CPU has SDOT and SMMLA.
        unsafe { compiled(attention, x) }
    }

    fn matmul_i4(&self, x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
        #[target_feature(enable = "dotprod,i8mm")]
        fn compiled(x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
            panels::matmul(MatrixTile, x, w, bias, y);
        }
        // SAFETY: a value of this type exists only where the CPU has SDOT and SMMLA.
        unsafe { compiled(x, w, bias, y) }
    }
}
