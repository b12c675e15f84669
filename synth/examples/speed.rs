//! How fast clips are made: `cargo run --release -p viseme-synth --example speed`.

use std::time::Instant;

use viseme_synth::{Options, Rng, Speaker, grid_sentence, render};

fn main() {
    for audio in [false, true] {
        let options = Options {
            audio,
            ..Options::default()
        };
        let mut rng = Rng::from_seed(1);
        let begin = Instant::now();
        let mut frames = 0;
        for i in 0..100 {
            let text = grid_sentence(&mut rng);
            frames += render(&text, &Speaker::train(i), i, options).frames.len();
        }
        let seconds = begin.elapsed().as_secs_f64();
        let with = if audio { "with" } else { "without" };
        println!(
            "{:.0} frames/s {with} sound, one core",
            frames as f64 / seconds
        );
    }
}
