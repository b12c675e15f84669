//! Sources and the pipeline on real files, against ffprobe and against each other.
//!
//! The files are made by ffmpeg on the spot; where it is not installed the tests say so and pass.

mod common;
mod faults;
mod sources;
mod time;
