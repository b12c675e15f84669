//! The reader of foreign checkpoints on bytes of any kind: no panic, nothing outside of the file, no memory without end.

#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use viseme_import::auto_avsr::{self, Positions};
use viseme_import::checkpoint::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    let file = match Checkpoint::from_bytes(bytes.to_vec()) {
        Ok(file) => file,
        Err(e) => return one_line(&e.to_string()),
    };

    // What was accepted is there, and not larger than the file.
    for (name, info) in file.tensors() {
        match file.load(name) {
            Ok(values) => {
                assert_eq!(values.len(), info.shape.iter().product::<usize>());
                assert!(values.len() <= bytes.len());
            }
            Err(e) => one_line(&e.to_string()),
        }
    }
    match auto_avsr::from_checkpoint(file, None, Some(Positions::Latest)) {
        Ok(model) => drop(black_box(model)),
        Err(e) => one_line(&e.to_string()),
    }
});

fn one_line(error: &str) {
    assert!(!error.contains('\n') && error.len() < 4096, "{error}");
}
