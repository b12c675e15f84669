//! Tests that need several crates, other programs, or the shared data.

mod export;
mod log_mel;
mod published;
mod python;
mod shared;
mod tidy;
mod tracking;
mod trained_is_run;
mod yunet;
