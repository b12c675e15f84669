//! Decoding against brute force, against values from elsewhere, and against bad input.

mod ctc;
mod decoder;
mod grammar;
mod peer;
mod reference;
