//! Trained checkpoints to Viseme model files.
//!
//! `checkpoint` reads what the trainer wrote, `fold` merges what is linear, `pack` rounds to int8 or
//! int4 and writes the file, `gate` refuses a file whose word error rate suffered. `auto_avsr` does all of that for
//! checkpoints of Auto-AVSR.

pub mod auto_avsr;
pub mod checkpoint;
pub mod feedback;
pub mod fold;
pub mod gate;
pub mod pack;
