//! Clips with references: what was said in which video, the mouth crops of it, and how well it was read.
//!
//! [`manifest`] lists clips with their words and splits, [`grid`] makes such a list from the GRID corpus as it ships,
//! [`crops`] runs the capture pipeline over a list once and keeps the result on disk, [`recognise`] turns crops into
//! text and measures a model, [`backend`] is what computes in between, [`score`] counts errors.

pub mod arguments;
pub mod backend;
pub mod crops;
pub mod degrade;
pub mod detector;
pub mod disk;
pub mod error;
pub mod grid;
pub mod manifest;
pub mod recognise;
pub mod score;
pub mod sentence;
pub mod team;

pub use error::Error;
pub use manifest::{Clip, Manifest, SplitField, Word};
