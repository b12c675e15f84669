//! Networks: the conformer lip reader, models of Auto-AVSR, and the YuNet face detector.

#[cfg(feature = "alloc")]
pub mod auto_avsr;
pub mod conformer;
pub mod yunet;
