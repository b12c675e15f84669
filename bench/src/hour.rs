//! An hour of a stream: that a step costs the same at its end as at its beginning, and no more memory.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use viseme_engine::stream::{Chunks, Options, Stream};
use viseme_engine::testing;

use crate::cases::{LEFT, WIDTH};
use crate::{own, protocol};

/// Frames of an hour at 25 a second.
const HOUR: usize = 60 * MINUTE;
const MINUTE: usize = 60 * 25;
/// Frames of a chunk.
const CHUNK: usize = 8;

/// Runs the model of a file over an hour of frames, prints what it cost, and returns it.
///
/// # Errors
/// A file that cannot be read, or what the engine says of it.
pub fn measure(model: &Path, quiet: bool) -> Result<Value, String> {
    let model = own::open(model)?;
    let chunks = Chunks {
        look_ahead: CHUNK,
        left: Some(LEFT),
    };
    let options = Options {
        chunks,
        ..Options::default()
    };
    let bytes = Stream::arena_bytes(model, &options).map_err(|e| e.to_string())?;
    let mut arena = vec![0; bytes];
    let mut stream = Stream::new(model, &mut arena, options).map_err(|e| e.to_string())?;
    let frames = testing::features(1, MINUTE, WIDTH);
    let mut minutes = Vec::new();
    let mut rss = Vec::new();
    for _ in 0..HOUR / MINUTE {
        let start = Instant::now();
        for frame in frames.chunks(WIDTH) {
            stream.push_features(frame, 0).map_err(|e| e.to_string())?;
        }
        minutes.push(start.elapsed().as_secs_f64() * 1e3 / MINUTE as f64);
        rss.push(protocol::peak_rss()?);
    }
    // The fastest of five minutes: what else the machine does only ever adds.
    let fastest = |minutes: &[f64]| minutes.iter().copied().fold(f64::MAX, f64::min);
    let (first, last) = (
        fastest(&minutes[..5]),
        fastest(&minutes[minutes.len() - 5..]),
    );
    let grown = rss[rss.len() - 1] - rss[0];
    if !quiet {
        println!(
            "\nan hour of a stream, {HOUR} frames in chunks of {CHUNK}: {first:.4} ms a frame in the first five minutes, {last:.4} in the last; \
             {grown} kB more memory after the hour than after its first minute"
        );
    }
    Ok(json!({
        "frames": HOUR, "chunk": CHUNK, "first_ms_a_frame": first, "last_ms_a_frame": last, "rss_growth_kb": grown,
    }))
}
