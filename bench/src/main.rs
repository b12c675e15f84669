//! What the engine costs on this machine, by itself and beside other engines.

fn main() {}
