//! Tests of the model file, one module per property.

mod common;
mod hostile;
mod layout;
mod peer;
mod round_trip;
mod seeds;
mod spec;
