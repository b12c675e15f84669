//! Matrix products of the shapes that the models have, by every set of kernels that this machine can run.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use viseme_engine::kernels::depthwise::{Depthwise, Frames};
use viseme_engine::kernels::elementwise::Activation;
use viseme_engine::kernels::{
    self, Kernels, QuantRows, WeightsF32, WeightsI4, WeightsI8, code_stride,
};
use viseme_format::panels;

use crate::sys;

/// Rows, inputs and outputs: the feed-forward and attention matrices of the reference encoder for a file, a chunk and a
/// frame; convolutions of the front-end as matrix products.
const SHAPES: [[usize; 3]; 10] = [
    [64, 256, 1024],
    [64, 1024, 256],
    [64, 256, 256],
    [8, 256, 1024],
    [8, 1024, 256],
    [8, 256, 256],
    [1, 256, 1024],
    [1, 1024, 256],
    [22, 192, 24],
    [16, 768, 96],
];

/// Prints the table; returns it.
pub fn measure(quiet: bool) -> Vec<Value> {
    let peak = sys::peak_int8();
    if !quiet {
        match peak {
            Some(peak) => println!(
                "matrix products; what one core adds up in registers: {:.0} int8 GMAC/s",
                peak / 1e9
            ),
            None => println!("matrix products"),
        }
        println!(
            "{:<22} {:>4} {:>5} {:>5} {:>10} {:>11} {:>11} {:>7} {:>12}",
            "kernels",
            "rows",
            "in",
            "out",
            "f32 GMAC/s",
            "int4 GMAC/s",
            "int8 GMAC/s",
            "peak",
            "int8 GB/s"
        );
    }
    let mut rows = Vec::new();
    for kernels in kernels::all() {
        for shape in SHAPES {
            let [f32s, int8, int4] = rates(kernels, shape);
            let [m, k, n] = shape;
            // The weights are read once for all rows that a kernel takes at a time.
            let bytes = int8 / m as f64;
            let share = peak.map(|peak| int8 / peak);
            if !quiet {
                let share = share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
                println!(
                    "{:<22} {m:>4} {k:>5} {n:>5} {:>10.1} {:>11.1} {:>11.1} {share:>7} {:>12.1}",
                    kernels.name(),
                    f32s / 1e9,
                    int4 / 1e9,
                    int8 / 1e9,
                    bytes / 1e9
                );
            }
            rows.push(json!({
                "kernels": kernels.name(), "rows": m, "inputs": k, "outputs": n,
                "f32_gmac_s": f32s / 1e9, "int8_gmac_s": int8 / 1e9, "int4_gmac_s": int4 / 1e9, "weights_gb_s": bytes / 1e9,
                "int8_share_of_peak": share,
            }));
        }
    }
    rows
}

/// Products a second, in f32, int8 and int4.
fn rates(kernels: &dyn Kernels, [m, k, n]: [usize; 3]) -> [f64; 3] {
    let (x, w, mut y) = (vec![0.5f32; m * k], vec![0.25f32; n * k], vec![0f32; m * n]);
    let codes = vec![3u8; m * code_stride(k)];
    let w8 = panels::pack(&vec![5i8; n * k], k);
    let (scale, zero) = (vec![1f32; m], vec![7i32; m]);
    let (row_scale, colsum) = (vec![1f32; n], vec![5 * k as i32; n]);
    let w = WeightsF32::new(&w, k).expect("whole rows");
    let w4 = panels::int4::pack(&vec![5i8; n * k], k);
    let w4 = WeightsI4::new(&w4, &row_scale, &colsum, k).expect("whole panels");
    let w8 = WeightsI8::new(&w8, &row_scale, &colsum, k).expect("whole panels");
    let rows = QuantRows {
        codes: &codes,
        scale: &scale,
        zero: &zero,
    };
    let products = (m * k * n) as f64;
    let f32s = seconds(|| kernels.matmul_f32(black_box(&x), w, &[], black_box(&mut y)));
    let int8 = seconds(|| kernels.matmul_i8(black_box(rows), w8, &[], black_box(&mut y)));
    let int4 = seconds(|| kernels.matmul_i4(black_box(rows), w4, &[], black_box(&mut y)));
    [products / f32s, products / int8, products / int4]
}

/// What lies between the products, at the width of the reference encoder: how long 64 frames of it take.
pub fn between(quiet: bool) -> Vec<Value> {
    if !quiet {
        println!("\nbetween the products, 64 frames, microseconds");
        println!(
            "{:<22} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "kernels", "LayerNorm", "quantise", "SiLU", "GLU", "depthwise"
        );
    }
    let mut rows = Vec::new();
    for kernels in kernels::all() {
        let [layer_norm, quantize, silu, glu, depthwise] = times(kernels).map(|s| s * 1e6);
        if !quiet {
            println!(
                "{:<22} {layer_norm:>10.1} {quantize:>10.1} {silu:>10.1} {glu:>10.1} {depthwise:>10.1}",
                kernels.name()
            );
        }
        rows.push(json!({
            "kernels": kernels.name(), "layer_norm_us": layer_norm, "quantize_us": quantize, "silu_us": silu,
            "glu_us": glu, "depthwise_us": depthwise,
        }));
    }
    rows
}

/// Seconds that 64 frames take: LayerNorm, quantising and SiLU of 256 values each, the gate of 512, a filter of 31 taps.
fn times(kernels: &dyn Kernels) -> [f64; 5] {
    const FRAMES: usize = 64;
    const D: usize = 256;
    let wave =
        |len: usize| -> Vec<f32> { (0..len).map(|i| (i as f32 * 0.7).sin() * 3.0).collect() };
    let (x, weight, bias) = (wave(FRAMES * D), wave(D), wave(D));
    let (twice, taps) = (wave(2 * FRAMES * D), wave(31 * D));
    let (mut y, mut codes) = (wave(FRAMES * D), vec![0; code_stride(D)]);
    let filter = Depthwise {
        taps: &taps,
        bias: &bias,
        left: 30,
    };
    let frames = Frames {
        pieces: [&x, &[]],
        before: 0,
    };
    [
        seconds(|| kernels.layer_norm(black_box(&x), &weight, &bias, 1e-5, black_box(&mut y))),
        seconds(|| {
            for row in black_box(&x).chunks_exact(D) {
                black_box(kernels.quantize(row, black_box(&mut codes)));
            }
        }),
        // In place, again and again: the values go to zero, and the time does not depend on them.
        seconds(|| kernels.activate(Activation::Silu, black_box(&mut y))),
        seconds(|| kernels.glu(black_box(&twice), D, black_box(&mut y))),
        seconds(|| kernels.depthwise(&filter, black_box(frames), black_box(&mut y))),
    ]
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
        calls = ((0.005 / each) as u32).clamp(1, 100_000);
    }
    best
}
