//! Checkpoints: those of the original against each other, and files made by hand to do harm.

mod auto_avsr;
mod checkpoint;
mod fixtures;
mod hostile;
mod seeds;
mod write;
