//! Cortex-M.
//!
//! What differs is the int8 product. Extensions are known when the program is compiled (`build.rs`); a value of each type here
//! exists only in programs for processors that have its instructions, and that is why using them is sound.
#![allow(unsafe_code)]

#[cfg(any(cortex_m_dsp, cortex_m_helium))]
use super::attention::{AttendedInt8, Int8Attention};
#[cfg(any(cortex_m_dsp, cortex_m_helium))]
use super::eight::Plain;
use super::{Kernels, QuantRows, WeightsI8, panels};

#[cfg(cortex_m_dsp)]
mod dsp;
#[cfg(cortex_m_helium)]
mod helium;

/// The best of the kernels below that this CPU can run.
pub fn detect() -> Option<&'static dyn super::Kernels> {
    all().last()
}

/// Every set of kernels that this CPU can run, slowest first: for tests and benchmarks.
pub fn all() -> impl Iterator<Item = &'static dyn super::Kernels> {
    let none: [Option<&dyn super::Kernels>; 2] = [
        #[cfg(cortex_m_dsp)]
        Some(Dsp::new()),
        #[cfg(not(cortex_m_dsp))]
        None,
        #[cfg(cortex_m_helium)]
        Some(Helium::new()),
        #[cfg(not(cortex_m_helium))]
        None,
    ];
    none.into_iter().flatten()
}

/// SMLAD, two products of 16 bits an instruction: Cortex-M4, M7, and M33 where it has the extension.
#[cfg(cortex_m_dsp)]
#[derive(Debug)]
pub struct Dsp(());

#[cfg(cortex_m_dsp)]
impl Dsp {
    /// Exists only in programs for processors with DSP instructions.
    pub fn new() -> &'static Self {
        static KERNELS: Dsp = Dsp(());
        &KERNELS
    }
}

#[cfg(cortex_m_dsp)]
impl Kernels for Dsp {
    fn name(&self) -> &'static str {
        "cortexm-u8s8-dsp"
    }

    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
        panels::matmul(dsp::DspTile, x, w, bias, y);
    }

    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
        attention.run::<_, Plain>(dsp::DspTile, x);
    }
}

/// Plain loops that LLVM turns into Helium, 16 products an instruction: Cortex-M55 and M85.
#[cfg(cortex_m_helium)]
#[derive(Debug)]
pub struct Helium(());

#[cfg(cortex_m_helium)]
impl Helium {
    /// Exists only in programs for processors with Helium.
    pub fn new() -> &'static Self {
        static KERNELS: Helium = Helium(());
        &KERNELS
    }
}

#[cfg(cortex_m_helium)]
impl Kernels for Helium {
    fn name(&self) -> &'static str {
        "cortexm-s8s8-helium"
    }

    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
        panels::matmul(helium::HeliumTile, x, w, bias, y);
    }

    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
        attention.run::<_, Plain>(helium::HeliumTile, x);
    }
}
