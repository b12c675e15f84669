//! Every pullback against central differences of its own forward pass, and forwards against burn's
//! own layers.

use std::sync::Arc;

use burn::tensor::module::conv2d;
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

use super::*;
use crate::rng::rng;

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut r = rng(seed, &[]);
    (0..n).map(|_| r.random_range(-1.0..1.0)).collect()
}

fn leaf(data: &[f32]) -> Tensor<Train, 1> {
    let data = TensorData::new(data.to_vec(), [data.len()]);
    Tensor::from_data(data, &Device::<Train>::default()).require_grad()
}

fn vec<const D: usize>(t: Tensor<Train, D>) -> Vec<f32> {
    t.into_data().to_vec().unwrap()
}

/// Compares the gradient of `sum(weights * f(inputs))` with central differences.
fn check(inputs: &[Vec<f32>], f: impl Fn(&[Tensor<Train, 1>]) -> Tensor<Train, 2>) {
    let leaves: Vec<_> = inputs.iter().map(|x| leaf(x)).collect();
    let out = f(&leaves);
    let weights = random(out.dims().iter().product(), 99);
    let value = |inputs: &[Vec<f32>]| -> f64 {
        let leaves: Vec<_> = inputs.iter().map(|x| leaf(x)).collect();
        let pairs = vec(f(&leaves)).into_iter().zip(&weights);
        pairs.map(|(y, w)| f64::from(y) * f64::from(*w)).sum()
    };
    let dims = out.dims();
    let w = Tensor::<Train, 2>::from_data(
        TensorData::new(weights.clone(), dims),
        &Device::<Train>::default(),
    );
    let grads = (out * w).sum().backward();
    let mut r = rng(7, &[]);
    for (i, x) in inputs.iter().enumerate() {
        let grad: Vec<f32> = leaves[i]
            .grad(&grads)
            .unwrap()
            .into_data()
            .to_vec()
            .unwrap();
        for _ in 0..12 {
            let j = r.random_range(0..x.len());
            let h = 1e-2;
            let moved = |by: f32| {
                let mut all = inputs.to_vec();
                all[i][j] += by;
                value(&all)
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * f64::from(h));
            let error = (slope - f64::from(grad[j])).abs();
            assert!(
                error < 2e-3 * (1.0 + slope.abs()),
                "input {i}[{j}]: {slope} {}",
                grad[j]
            );
        }
    }
}

const SHAPE: ConvShape = ConvShape {
    side: 7,
    cin: 3,
    cout: 4,
    kernel: 4,
    stride: 2,
    pad: 1,
};

#[test]
fn convolution_gradients() {
    let x = random(2 * 49 * 3, 1);
    let w = random(4 * SHAPE.fan_in(), 2);
    check(&[x, w], |l| {
        conv(
            l[0].clone().reshape([98, 3]),
            SHAPE,
            l[1].clone().reshape([4, SHAPE.fan_in()]),
        )
    });
}

#[test]
fn convolution_is_burns() {
    let x = leaf(&random(2 * 49 * 3, 1));
    let w = leaf(&random(4 * SHAPE.fan_in(), 2));
    let ours = conv(
        x.clone().reshape([98, 3]),
        SHAPE,
        w.clone().reshape([4, SHAPE.fan_in()]),
    );
    let nchw = x.reshape([2, 7, 7, 3]).permute([0, 3, 1, 2]);
    let oihw = w.reshape([4, 4, 4, 3]).permute([0, 3, 1, 2]);
    let options = PaddedConvOptions::from(burn::tensor::ops::ConvOptions::new(
        [2, 2],
        [1, 1],
        [1, 1],
        1,
    ));
    let theirs = conv2d(nchw, oihw, None, options).permute([0, 2, 3, 1]);
    let (ours, theirs) = (vec(ours), vec(theirs));
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn stem_stacks_neighbouring_frames() {
    // Two clips of three frames; the stem must equal a plain convolution of explicitly stacked
    // frames whose outside is the given value.
    let frames = random(6 * 49, 5);
    let w = leaf(&random(4 * SHAPE.fan_in(), 2));
    let outside = 0.3;
    let mut stacked = Vec::new();
    for clip in 0..2usize {
        for t in 0..3usize {
            let at = |t: usize| &frames[(clip * 3 + t) * 49..][..49];
            let (a, b, c) = (at(t.saturating_sub(1)), at(t), at((t + 1).min(2)));
            for y in -1..8i32 {
                for x in -1..8i32 {
                    if (0..7).contains(&y) && (0..7).contains(&x) {
                        let i = (y * 7 + x) as usize;
                        stacked.extend([a[i], b[i], c[i]]);
                    } else {
                        stacked.extend([outside; 3]);
                    }
                }
            }
        }
    }
    let padded = ConvShape {
        side: 9,
        pad: 0,
        ..SHAPE
    };
    let weight = w.clone().reshape([4, SHAPE.fan_in()]);
    let plain = conv(leaf(&stacked).reshape([6 * 81, 3]), padded, weight.clone());
    let stem = conv_pixels(Arc::new(frames.clone()), 3, SHAPE, outside, weight);
    assert_eq!(vec(plain), vec(stem));
    let frames = Arc::new(frames);
    check(&[random(4 * SHAPE.fan_in(), 2)], move |l| {
        let weight = l[0].clone().reshape([4, SHAPE.fan_in()]);
        conv_pixels(frames.clone(), 3, SHAPE, outside, weight)
    });
}

#[test]
fn batch_norm_gradients_with_own_and_with_fixed_moments() {
    let inputs = [random(60, 1), random(5, 2), random(5, 3)];
    let fixed = Moments {
        mean: random(5, 4),
        var: vec![0.5, 1.0, 2.0, 0.1, 3.0],
    };
    for moments in [None, Some(&fixed)] {
        check(&inputs, |l| {
            let x = l[0].clone().reshape([12, 5]);
            batch_norm_silu(x, l[1].clone(), l[2].clone(), moments).0
        });
    }
}

#[test]
fn layer_norm_gradients() {
    let inputs = [random(60, 1), random(10, 2), random(10, 3)];
    check(&inputs, |l| {
        layer_norm(l[0].clone().reshape([6, 10]), l[1].clone(), l[2].clone())
    });
}

#[test]
fn depthwise_gradients_and_clip_borders() {
    let inputs = [random(2 * 6 * 4, 1), random(4 * 5, 2), random(4, 3)];
    check(&inputs, |l| {
        let x = l[0].clone().reshape([12, 4]);
        depthwise(x, 6, l[1].clone().reshape([4, 5]), l[2].clone(), 1)
    });
    // A pulse in the last frame of the first clip never reaches the second clip.
    let mut x = vec![0.0; 12];
    x[5] = 1.0;
    let y = depthwise(
        leaf(&x).reshape([12, 1]),
        6,
        leaf(&[1.0; 5]).reshape([1, 5]),
        leaf(&[0.0]),
        4,
    );
    assert_eq!(vec(y), [0., 0., 0., 0., 0., 1., 0., 0., 0., 0., 0., 0.]);
}

#[test]
fn silu_gradients() {
    check(&[random(24, 1)], |l| silu(l[0].clone().reshape([4, 6])));
}

#[test]
fn a_known_gradient_is_passed_on() {
    let x = leaf(&[1.0, 2.0]);
    let y = with_gradient(x.clone().reshape([1, 2]), 5.0, vec![3.0, -4.0]);
    let grads = (y * 2.0).backward();
    let g: Vec<f32> = x.grad(&grads).unwrap().into_data().to_vec().unwrap();
    assert_eq!(g, [6.0, -8.0]);
}
