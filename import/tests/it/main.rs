//! Checkpoints: those of the original against each other, and files made by hand to do harm.

mod checkpoint;
mod hostile;
mod seeds;
mod write;
