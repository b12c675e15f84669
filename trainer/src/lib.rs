//! Training of Viseme's lip readers on the host.
//!
//! `recipe` says what is computed, `data` what a step sees, `model` and `loss` the gradient,
//! `optim` the update, `train` the loop, `checkpoint` what is kept.

pub mod checkpoint;
pub mod curve;
pub mod data;
pub mod loss;
pub mod model;
pub mod optim;
pub mod recipe;
pub mod rng;
pub mod rounding;
pub mod spec;
pub mod sys;
pub mod train;
