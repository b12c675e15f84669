//! From a frame and face landmarks to the mouth crop a model reads.
//!
//! The geometry is Auto-AVSR's (P. Ma et al., "Auto-AVSR: Audio-Visual Speech Recognition with
//! Automatic Labels", ICASSP 2023, `preparation/detectors` in github.com/mpc001/auto_avsr), so that
//! models trained here and imported ones share one preprocessing:
//!
//! 1. [`smooth`]: fill frames without landmarks, then average each frame with its neighbours;
//! 2. [`mean_face`] and [`similarity`]: the similarity transform onto a 256x256 mean face;
//! 3. [`crop`] and [`warp`]: the 96x96 patch around the mouth, rendered as OpenCV would, and the
//!    88x88 centre of it, normalised;
//! 4. [`clock`]: the model's frame rate by time, whatever the source's.
//!
//! [`log_mel`] does for sound what these do for pictures.
//!
//! [`align`] follows the head between two runs of the face detector.
//!
//! Nothing here allocates; buffers belong to the caller or have a fixed size.

pub mod align;
pub mod clock;
pub mod crop;
pub mod log_mel;
pub mod mean_face;
pub mod similarity;
pub mod smooth;
pub mod warp;

#[cfg(test)]
mod parity;

pub use similarity::{Point, Similarity};
pub use warp::Image;
