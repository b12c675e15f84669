//! Networks: the conformer lip reader and the YuNet face detector.

pub mod conformer;
pub mod yunet;
