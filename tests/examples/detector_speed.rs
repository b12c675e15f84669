//! Milliseconds per face detection, one thread: `cargo run --release -p viseme-tests --example detector_speed -- YUNET.onnx`.

use std::time::Instant;

use viseme_engine::model::yunet::{Detector, Face, Image};

fn main() {
    let path = std::env::args()
        .nth(1)
        .expect("usage: detector_speed YUNET.onnx");
    let onnx = std::fs::read(&path).expect("a readable file");
    let file = viseme_import::yunet::import(&onnx, "YuNet").expect("YuNet's ONNX file");
    let detector = Detector::open(&file).expect("a detector");
    for (width, height) in [(216, 232), (320, 320), (360, 288), (640, 480), (1920, 1080)] {
        let pixels: Vec<u8> = (0..width * height).map(|i| (i * 7 % 251) as u8).collect();
        let image = Image::grey(&pixels, width, height);
        let mut arena = vec![0.0; detector.arena_len(width, height)];
        let mut faces = [Face::default(); 4];
        // The fastest of many runs: the rest is noise of the machine.
        let best = (0..50)
            .map(|_| {
                let start = Instant::now();
                (detector.detect(&mut arena, &image, 0.6, &mut faces)).expect("a searchable image");
                start.elapsed()
            })
            .min();
        println!(
            "{width}x{height}: {:.2} ms, arena {} KiB",
            best.unwrap_or_default().as_secs_f64() * 1e3,
            arena.len() / 256
        );
    }
}
