//! Log-mel energies against Kaldi's own filter banks.

use std::fs;
use std::path::Path;

use viseme_engine::preprocess::log_mel::LogMel;
use viseme_format::spec::Mel;
use viseme_synth::{Options, Speaker, render};

use crate::python;

const MEL: Mel = Mel {
    sample_rate: 16_000,
    bins: 80,
    window: 400,
    hop: 160,
    low_hz: 20.0,
    high_hz: 8000.0,
};

/// Sums in f32, in another order, of powers that differ by ten magnitudes.
const TOLERANCE: f32 = 2e-3;

#[test]
fn log_mel_is_that_of_kaldi() {
    let python = match python::with("fbank", &["kaldi-native-fbank==1.23.0", "numpy"]) {
        Ok(python) => python,
        Err(why) => return println!("skipped: {why}"),
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("log-mel");
    fs::create_dir_all(&folder).expect("a folder below target");
    let speaker = Speaker::train(3);
    let mut samples = render("bin blue at f two now", &speaker, 5, Options::default()).audio;
    // Full scale, and noise of one bit.
    samples.extend((0..4000).map(|i| if i % 37 < 18 { i16::MAX } else { i16::MIN }));
    samples.extend((0..4000).map(|i: i32| (i.wrapping_mul(i).wrapping_mul(7919) >> 9) as i16 & 1));
    let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    let (input, output) = (folder.join("samples"), folder.join("energies"));
    fs::write(&input, bytes).expect("a written file");
    python::run_script(
        &python,
        include_str!("log_mel_reference.py"),
        &[&input, &output],
    );
    let bytes = fs::read(&output).expect("the energies of Kaldi");
    let (values, _) = bytes.as_chunks();
    let want: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();

    let mut memory = vec![0.0; LogMel::memory(&MEL).expect("a size")];
    let mut mel = LogMel::new(&MEL, &mut memory).expect("log-mel");
    let mut got = Vec::new();
    mel.push(&samples, |row| got.extend_from_slice(row));
    assert_eq!(got.len(), want.len());
    assert!(got.len() > 200 * mel.bins());
    let error = |(got, want): (&f32, &f32)| (got - want).abs();
    let largest = got.iter().zip(&want).map(error).fold(0.0, f32::max);
    println!("log-mel: differs from Kaldi's by {largest:.1e} at most");
    assert!(largest <= TOLERANCE, "{largest}");
}
