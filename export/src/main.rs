//! The exporter's command line.

fn main() {}
