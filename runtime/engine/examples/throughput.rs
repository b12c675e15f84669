//! Times the engine on this machine: matrix kernels, front-end and encoder.
//!
//! `cargo run --release -p viseme-engine --example throughput`

use std::hint::black_box;
use std::time::Instant;

use viseme_engine::kernels::{
    self, Kernels, QuantRows, WeightsF32, WeightsI4, WeightsI8, code_stride,
};
use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_engine::testing::{self, Size};
use viseme_format::panels;
use viseme_format::spec::Weights;

fn main() {
    for kernels in kernels::all() {
        products(kernels);
    }
    for (name, size) in [("small", testing::SMALL), ("reference", testing::REFERENCE)] {
        for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
            clip(name, &size, weights);
        }
    }
}

fn products(kernels: &dyn Kernels) {
    println!("kernels: {}", kernels.name());
    println!(
        "{:>4} {:>5} {:>5}  {:>12} {:>12} {:>12}",
        "rows", "in", "out", "f32 GMAC/s", "int8 GMAC/s", "int4 GMAC/s"
    );
    for (m, k, n) in [
        (75, 144, 576),
        (75, 576, 144),
        (64, 256, 1024),
        (64, 1024, 256),
        (8, 256, 1024),
        (8, 1024, 256),
        (4, 256, 1024),
        (4, 1024, 256),
        (2, 256, 1024),
        (2, 1024, 256),
        (1, 256, 1024),
        (1, 1024, 256),
        (22, 192, 24),
        (16, 768, 96),
    ] {
        let (x, w, mut y) = (vec![0.5f32; m * k], vec![0.25f32; n * k], vec![0f32; m * n]);
        let (q, w8) = (
            vec![3u8; m * code_stride(k)],
            panels::pack(&vec![5i8; n * k], k),
        );
        let (scale, zero) = (vec![1f32; m], vec![7i32; m]);
        let (row_scale, colsum, bias) = (vec![1f32; n], vec![5 * k as i32; n], vec![0.5f32; n]);
        let w = WeightsF32::new(&w, k).unwrap();
        let w4 = panels::int4::pack(&vec![5i8; n * k], k);
        let w4 = WeightsI4::new(&w4, &row_scale, &colsum, k).unwrap();
        let w8 = WeightsI8::new(&w8, &row_scale, &colsum, k).unwrap();
        let rows = QuantRows {
            codes: &q,
            scale: &scale,
            zero: &zero,
        };
        let macs = (m * k * n) as f64 / 1e9;
        let f32s = macs
            / seconds(|| kernels.matmul_f32(black_box(&x), w, black_box(&bias), black_box(&mut y)));
        let int8 = macs
            / seconds(|| {
                kernels.matmul_i8(black_box(rows), w8, black_box(&bias), black_box(&mut y))
            });
        let int4 = macs
            / seconds(|| {
                kernels.matmul_i4(black_box(rows), w4, black_box(&bias), black_box(&mut y))
            });
        println!("{m:>4} {k:>5} {n:>5}  {f32s:>12.1} {int8:>12.1} {int4:>12.1}");
    }
}

/// Seconds of one call: the best of some rounds, each long enough for the clock.
fn seconds(mut f: impl FnMut()) -> f64 {
    let mut calls = 1;
    let mut best = f64::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        (0..calls).for_each(|_| f());
        let each = start.elapsed().as_secs_f64() / f64::from(calls);
        best = best.min(each);
        calls = ((0.01 / each) as u32).clamp(1, 100_000);
    }
    best
}

fn clip(name: &str, size: &Size, weights: Weights) {
    const FRAMES: usize = 75;
    let file = testing::model(&testing::spec(size, weights), 1).unwrap();
    let open = seconds(|| drop(black_box(Model::open(black_box(&file)))));
    let model = Model::open(&file).unwrap();
    let options = Options {
        max_frames: Some(FRAMES),
        ..Options::default()
    };
    let mut arena = vec![0; model.arena_bytes(FRAMES)];
    let start = seconds(|| assert!(Session::new(&model, &mut arena, options).is_ok()));
    let mut session = Session::new(&model, &mut arena, options).unwrap();
    let crops = testing::crops(1, FRAMES, 88);
    let [mut front, mut encoder] = [f64::MAX; 2];
    for _ in 0..20 {
        session.reset();
        let start = Instant::now();
        for (t, crop) in crops.chunks(88 * 88).enumerate() {
            session.push_crop(crop, t as u64).unwrap();
        }
        session.finish();
        let middle = Instant::now();
        black_box(session.logits());
        front = front.min((middle - start).as_secs_f64());
        encoder = encoder.min(middle.elapsed().as_secs_f64());
    }
    println!(
        "{name} {weights:?}: file {} kB, arena {} kB, open {:.2} ms, session {:.2} ms, {FRAMES} frames: front-end {:.2} ms, encoder {:.2} ms, real-time factor {:.4}",
        file.len() / 1024,
        model.arena_bytes(FRAMES) / 1024,
        open * 1e3,
        start * 1e3,
        front * 1e3,
        encoder * 1e3,
        (front + encoder) * 25.0 / FRAMES as f64,
    );
}
