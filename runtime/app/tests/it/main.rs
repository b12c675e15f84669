//! The command as its users meet it: the real binary, its output, its exit code.

mod auto_avsr;
mod bad_clips;
mod bad_models;
mod common;
mod evaluate;
mod faces;
mod harder;
mod pull;
mod referee;
mod transcribe;
