//! Tests of the model file, one module per property. Run with `--all-features`.

mod common;
mod round_trip;
