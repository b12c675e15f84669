//! Whole clips, from crops to logits, in two sizes of model: what is mapped, planned and computed, and how long it takes.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_engine::testing::{self, REFERENCE, SMALL, Size};
use viseme_format::spec::Weights;

/// Three seconds at 25 frames a second.
const FRAMES: usize = 75;
/// Side of the crops that random models take.
const SIDE: usize = 88;

/// Prints the table; returns it.
///
/// # Errors
/// What the engine says of a model.
pub fn measure(quiet: bool) -> Result<Vec<Value>, String> {
    if !quiet {
        println!("\nclips of {FRAMES} frames, milliseconds, one thread");
        println!(
            "{:<10} {:<7} {:>8} {:>9} {:>8} {:>8} {:>10} {:>8} {:>9}",
            "model",
            "weights",
            "file kB",
            "arena kB",
            "open",
            "session",
            "front-end",
            "encoder",
            "real time"
        );
    }
    let mut rows = Vec::new();
    for (name, size) in [("small", SMALL), ("reference", REFERENCE)] {
        for (bits, weights) in [("f32", Weights::F32), ("int8", Weights::Int8)] {
            let row = clip(&size, weights)?;
            let [file, arena, open, session, front, encoder] = row;
            // Work by the second of video.
            let factor = (front + encoder) / 1e3 * 25.0 / FRAMES as f64;
            if !quiet {
                println!(
                    "{name:<10} {bits:<7} {:>8.0} {:>9.0} {open:>8.2} {session:>8.2} {front:>10.2} {encoder:>8.2} {factor:>9.4}",
                    file / 1024.0,
                    arena / 1024.0
                );
            }
            rows.push(json!({
                "model": name, "weights": bits, "frames": FRAMES, "file_bytes": file as u64,
                "arena_bytes": arena as u64, "open_ms": open, "session_ms": session, "frontend_ms": front,
                "encoder_ms": encoder, "real_time_factor": factor,
            }));
        }
    }
    Ok(rows)
}

/// Bytes of the file and of the arena; milliseconds to open the model, to make a session, for the front-end and for the
/// encoder: the best of some.
fn clip(size: &Size, weights: Weights) -> Result<[f64; 6], String> {
    let file = testing::model(&testing::spec(size, weights), 1).map_err(|e| e.to_string())?;
    let model = Model::open(&file).map_err(|e| e.to_string())?;
    let options = Options {
        max_frames: Some(FRAMES),
        ..Options::default()
    };
    let mut arena = vec![0; model.arena_bytes(FRAMES)];
    let crops = testing::crops(1, FRAMES, SIDE);
    let mut best = [f64::MAX; 4];
    for _ in 0..20 {
        let mut lap = Instant::now();
        let mut took = [0.0; 4];
        let mut stop = |at: usize| {
            took[at] = lap.elapsed().as_secs_f64() * 1e3;
            lap = Instant::now();
        };
        black_box(Model::open(black_box(&file))).map_err(|e| e.to_string())?;
        stop(0);
        let session = Session::new(&model, &mut arena, options);
        let mut session = session.map_err(|e| e.to_string())?;
        stop(1);
        for (t, crop) in crops.chunks(SIDE * SIDE).enumerate() {
            session
                .push_crop(crop, t as u64)
                .map_err(|e| e.to_string())?;
        }
        session.finish();
        stop(2);
        black_box(session.logits());
        stop(3);
        for (best, took) in best.iter_mut().zip(took) {
            *best = best.min(took);
        }
    }
    let [open, start, front, encoder] = best;
    let arena = model.arena_bytes(FRAMES);
    Ok([file.len() as f64, arena as f64, open, start, front, encoder])
}
