//! Tests of the model file, one module per property. Run with `--all-features`.

mod common;
mod hostile;
mod layout;
mod round_trip;
