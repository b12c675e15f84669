//! The least program around the engine: a model file and mouth crops in, words out.
//!
//! `cargo run --release -p viseme-engine --features std --example read -- MODEL.gguf CROPS`, where CROPS holds one picture of
//! grey bytes after the other, of the side that `viseme info` names, at the model's frame rate.

use std::error::Error;
use std::process::ExitCode;

use viseme_engine::decode::{Decoder, FrameTimes, Options, Vocabulary};
use viseme_engine::model::conformer::Model;
use viseme_engine::session::{self, Session};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, crops] = arguments.as_slice() else {
        eprintln!("read: give a model file and a file of crops");
        return ExitCode::from(2);
    };
    match read(model, crops) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("read: {error}");
            ExitCode::from(2)
        }
    }
}

fn read(model: &str, crops: &str) -> Result<String, Box<dyn Error>> {
    let file = |path: &str| std::fs::read(path).map_err(|e| format!("{path}: {e}"));
    let (bytes, crops) = (file(model)?, file(crops)?);
    let model = Model::open(&bytes)?;
    let conformer = model.spec().conformer()?;
    let period_us = (1e6 / conformer.fps) as u64;
    let mut arena = vec![0; model.arena_bytes(model.max_frames())];
    let mut session = Session::new(&model, &mut arena, session::Options::default())?;
    for (frame, crop) in (0..).zip(crops.chunks_exact(model.crop_side().pow(2))) {
        session.push_crop(crop, frame * period_us)?;
    }
    session.finish();
    let decoder = Decoder::new(Vocabulary::of_model(conformer)?, Options::default())?;
    let (frames, times) = (
        session.frames(),
        FrameTimes::Regular {
            start_us: 0,
            period_us,
        },
    );
    let transcript = decoder.decode(session.logits(), frames, model.vocabulary(), &times)?;
    Ok(transcript.text)
}
