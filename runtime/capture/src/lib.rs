//! Sources of frames and sound, and the mouth tracker that turns them into crops in time.
//!
//! ```text
//! file, folder ─► source: grey frames + timestamps ─► tracker: landmarks ─► 96x96 crops ─► the model's fps
//! ```
//!
//! [`source`] reads; [`tracker`] finds and follows the mouth; [`pipeline`] joins the two and hands out
//! [`pipeline::MouthCrop`]s one at a time, so that a camera can stand where a file stands. Every stage holds a few
//! frames at most, whatever the length of the input. Time is the source's timestamp everywhere, never a frame count.

mod cropper;
pub mod error;
pub mod file;
pub mod frame;
pub mod pipeline;
mod sampling;
pub mod source;
pub mod tracker;

pub use error::Error;
pub use frame::Frame;
