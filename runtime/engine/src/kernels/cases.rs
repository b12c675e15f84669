//! One table of cases for every set of kernels: each must give the bits of [`Portable`] (feature
//! `testing`, so that emulators and boards can run it too).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;

use viseme_format::panels;

use super::attention::slots::{
    Heads, ValueSlots, VectorSlots, slots_for, value_sizes, vector_sizes,
};
use super::attention::{
    Attended, AttendedInt8, Int8Attention, Int8Scratch, Mask, Reach, RelativeAttention, Shift,
};
use super::convolution::Convolution;
use super::depthwise::{Depthwise, Frames};
use super::elementwise::Activation;
use super::im2row::{Windows, im2row};
use super::{
    Kernels, MAX_INPUTS, Portable, QuantRows, WeightsF32, WeightsI4, WeightsI8, code_stride,
};

/// Rows, inputs and outputs of matrix products: around every tile, panel and remainder there is.
pub const PRODUCTS: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (2, 3, 2),
    (1, 8, 5),
    (3, 36, 7),
    (4, 144, 2),
    (5, 17, 16),
    (8, 64, 33),
    (17, 23, 9),
    (33, 64, 3),
    (7, 260, 48),
    (9, 1024, 20),
    (1, 256, 80),
    (37, 144, 11),
    (75, 192, 24),
];

/// Lengths of rows that are normalised, quantised or activated.
pub const LENGTHS: [usize; 9] = [1, 3, 8, 15, 16, 31, 144, 145, 1024];

/// Runs every case on `kernels` and on [`Portable`].
///
/// # Errors
/// The first case whose bits differ.
pub fn check(kernels: &dyn Kernels) -> Result<(), String> {
    for (rows, inputs, outputs) in PRODUCTS {
        products_f32(kernels, rows, inputs, outputs)?;
        for top in [127.9, 7.9] {
            products(kernels, (rows, inputs, outputs), top)?;
        }
    }
    worst_sums(kernels)?;
    convolutions(kernels)?;
    for len in LENGTHS {
        rows(kernels, len)?;
    }
    depthwise(kernels)?;
    attention(kernels)?;
    image_rows(kernels)?;
    subnormals(kernels)
}

/// Numbers in [-1, 1) from a linear congruential generator (Knuth's MMIX constants).
pub fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// `y` as both sets of kernels fill it; `what` names the case.
fn same<T: Clone + PartialEq + Debug>(
    kernels: &dyn Kernels,
    what: &dyn Debug,
    blank: T,
    run: impl Fn(&dyn Kernels, &mut T),
) -> Result<(), String> {
    let (mut got, mut want) = (blank.clone(), blank);
    run(kernels, &mut got);
    run(&Portable, &mut want);
    if got == want {
        Ok(())
    } else {
        Err(format!(
            "{}: {what:?} differs from the portable kernels",
            kernels.name()
        ))
    }
}

/// Runs `run` on `len` values that were NaN, and gives their bits to [`same`].
fn same_floats(
    kernels: &dyn Kernels,
    what: &dyn Debug,
    len: usize,
    run: impl Fn(&dyn Kernels, &mut [f32]),
) -> Result<(), String> {
    same(kernels, what, vec![0u32; len], |kernels, bits| {
        let mut y = vec![f32::NAN; len];
        run(kernels, &mut y);
        bits.iter_mut().zip(y).for_each(|(b, y)| *b = y.to_bits());
    })
}

fn products_f32(k: &dyn Kernels, rows: usize, inputs: usize, outputs: usize) -> Result<(), String> {
    let (x, weights) = (noise(1, rows * inputs), noise(2, outputs * inputs));
    let Some(w) = WeightsF32::new(&weights, inputs) else {
        return Err("a case without weights".into());
    };
    for bias in [noise(3, outputs), Vec::new()] {
        let what = ("f32 product", rows, inputs, outputs, bias.len());
        same_floats(k, &what, rows * outputs, |k, y| {
            k.matmul_f32(&x, w, &bias, y)
        })?;
    }
    Ok(())
}

/// A matrix of integer weights with its scales and sums, in panels of int8 and, if they fit, of int4.
struct Matrix {
    int8: Vec<i8>,
    int4: Option<Vec<i8>>,
    scale: Vec<f32>,
    colsum: Vec<i32>,
    inputs: usize,
}

impl Matrix {
    fn new(rows: &[i8], inputs: usize) -> Self {
        let sum = |row: &[i8]| row.iter().map(|&w| i32::from(w)).sum();
        let four_bits = rows.iter().all(|w| w.abs() <= panels::int4::MAX);
        Matrix {
            int8: panels::pack(rows, inputs),
            int4: four_bits.then(|| panels::int4::pack(rows, inputs)),
            scale: (0..rows.len() / inputs)
                .map(|o| 0.01 + o as f32 * 1e-4)
                .collect(),
            colsum: rows.chunks(inputs).map(sum).collect(),
            inputs,
        }
    }

    /// The bits of the product with `x` are those of the portable kernels, and with int4 weights those of the same
    /// weights in int8.
    fn check(
        &self,
        k: &dyn Kernels,
        what: &dyn Debug,
        x: QuantRows<'_>,
        bias: &[f32],
    ) -> Result<(), String> {
        let none = || String::from("a case without weights");
        let (scale, colsum) = (&self.scale, &self.colsum);
        let len = x.scale.len() * scale.len();
        let w = WeightsI8::new(&self.int8, scale, colsum, self.inputs).ok_or_else(none)?;
        same_floats(k, &("int8", what), len, |k, y| k.matmul_i8(x, w, bias, y))?;
        let Some(int4) = &self.int4 else {
            return Ok(());
        };
        let w4 = WeightsI4::new(int4, scale, colsum, self.inputs).ok_or_else(none)?;
        same_floats(k, &("int4", what), len, |k, y| k.matmul_i4(x, w4, bias, y))?;
        let (mut got, mut want) = (vec![0.0; len], vec![0.0; len]);
        k.matmul_i4(x, w4, bias, &mut got);
        k.matmul_i8(x, w, bias, &mut want);
        match got
            .iter()
            .zip(&want)
            .all(|(a, b)| a.to_bits() == b.to_bits())
        {
            true => Ok(()),
            false => Err(format!("{}: {what:?}: int4 differs from int8", k.name())),
        }
    }
}

/// Products with weights of up to `top`.
fn products(
    k: &dyn Kernels,
    (rows, inputs, outputs): (usize, usize, usize),
    top: f32,
) -> Result<(), String> {
    let weights: Vec<i8> = noise(7, outputs * inputs)
        .iter()
        .map(|v| (v * top) as i8)
        .collect();
    let codes: Vec<u8> = noise(6, rows * code_stride(inputs))
        .iter()
        .map(|v| ((v + 1.0) * 127.9) as u8)
        .collect();
    let scale: Vec<f32> = (0..rows).map(|m| 0.5 + m as f32 / 64.0).collect();
    let zero: Vec<i32> = (0..rows).map(|m| (m * 37 % 256) as i32).collect();
    let x = QuantRows {
        codes: &codes,
        scale: &scale,
        zero: &zero,
    };
    for bias in [noise(3, outputs), Vec::new()] {
        let what = ("product", rows, inputs, outputs, bias.len(), top);
        Matrix::new(&weights, inputs).check(k, &what, x, &bias)?;
    }
    Ok(())
}

/// The largest sums that the bounds of the format allow, where an accumulator could overflow or a
/// multiplication saturate.
fn worst_sums(k: &dyn Kernels) -> Result<(), String> {
    // The longest sums with one output: emulators take their time. Some have an odd number of groups.
    for (inputs, outputs) in [(64, 17), (252, 3), (MAX_INPUTS - 4, 1), (MAX_INPUTS, 1)] {
        for weight in [127, -127, 7, -7] {
            let matrix = Matrix::new(&vec![weight; outputs * inputs], inputs);
            for code in [0, 127, 128, 255] {
                // Thirteen rows: tiles of eight, four and one.
                for rows in if inputs < 1000 { 1..14 } else { 2..3 } {
                    let codes = vec![code; rows * inputs];
                    let scale: Vec<f32> = (0..rows).map(|m| 1.0 + m as f32).collect();
                    let zero: Vec<i32> = (0..rows).map(|m| [0, 255, 128][m % 3]).collect();
                    let x = QuantRows {
                        codes: &codes,
                        scale: &scale,
                        zero: &zero,
                    };
                    let what = ("worst sum", inputs, weight, code, rows);
                    matrix.check(k, &what, x, &[])?;
                }
            }
        }
    }
    Ok(())
}

/// Maps with a border are convolved as if their windows, with the code of zero in the border, were rows of a product.
fn convolutions(k: &dyn Kernels) -> Result<(), String> {
    for (maps, size, channels, kernel, border, stride, outputs) in [
        (1, [1, 1], 4, [3, 3], [1, 1], 1, 1),
        (8, [3, 3], 8, [3, 3], [1, 1], 1, 80),
        (3, [2, 5], 12, [3, 3], [1, 1], 1, 17),
        (5, [6, 7], 8, [3, 3], [1, 1], 2, 33),
        (2, [5, 4], 4, [1, 1], [0, 0], 2, 16),
        (1, [1, 9], 260, [1, 3], [0, 1], 2, 3),
        (2, [3, 4], 8, [3, 2], [3, 0], 1, 5),
    ] {
        let [height, width] = size;
        let windows = Windows {
            size: [height + 2 * border[0], width + 2 * border[1]],
            channels,
            kernel,
            stride,
        };
        let none = || String::from("a convolution without windows");
        let over = Convolution::new(windows, border).ok_or_else(none)?;
        let [lines, columns] = windows.count().ok_or_else(none)?;
        let (inputs, len) = (kernel[0] * kernel[1] * channels, height * width * channels);
        let weights: Vec<i8> = (noise(7, outputs * inputs).iter())
            .map(|v| (v * 127.9) as i8)
            .collect();
        let matrix = Matrix::new(&weights, inputs);
        let w = WeightsI8::new(&matrix.int8, &matrix.scale, &matrix.colsum, inputs);
        let (w, bias) = (w.ok_or_else(none)?, noise(3, outputs));
        let codes: Vec<u8> = (noise(6, maps * len).iter())
            .map(|v| ((v + 1.0) * 127.9) as u8)
            .collect();
        let scale: Vec<f32> = (0..maps).map(|m| 0.5 + m as f32 / 64.0).collect();
        let zero: Vec<i32> = (0..maps).map(|m| (m * 37 % 256) as i32).collect();
        let x = QuantRows {
            codes: &codes,
            scale: &scale,
            zero: &zero,
        };
        let mut got = vec![f32::NAN; maps * lines * columns * outputs];
        k.convolve_i8(&over, x, w, &bias, &mut got);
        let mut want = got.clone();
        let of_map = want.chunks_mut(lines * columns * outputs);
        for (m, want) in of_map.enumerate() {
            let mut padded = vec![zero[m] as u8; windows.size[0] * windows.size[1] * channels];
            let to = padded.chunks_mut(windows.size[1] * channels);
            let from = codes[m * len..][..len].chunks(width * channels);
            for (to, from) in to.skip(border[0]).zip(from) {
                to[border[1] * channels..][..from.len()].copy_from_slice(from);
            }
            let mut rows = vec![0; lines * columns * inputs];
            im2row(&padded, &windows, 0, inputs, &mut rows);
            let x = QuantRows {
                codes: &rows,
                scale: &vec![scale[m]; lines * columns],
                zero: &vec![zero[m]; lines * columns],
            };
            Portable.matmul_i8(x, w, &bias, want);
        }
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        if bits(&got) != bits(&want) {
            let what = ("convolution", maps, size, channels, kernel, border, stride);
            return Err(format!(
                "{}: {what:?} differs from the portable product of its windows",
                k.name()
            ));
        }
    }
    Ok(())
}

fn rows(k: &dyn Kernels, len: usize) -> Result<(), String> {
    for (seed, size) in [(8, 1.0), (9, 30.0), (10, 0.0)] {
        let x: Vec<f32> = noise(seed, 2 * len)
            .iter()
            .map(|v| size * v + 0.1 * size)
            .collect();
        same(
            k,
            &("quantise", len, size),
            (vec![0u8; len], 0, 0),
            |k, (q, scale, zero)| {
                let row = k.quantize(&x[..len], q);
                (*scale, *zero) = (row.scale.to_bits(), row.zero);
            },
        )?;
        let (weight, bias) = (noise(11, len), noise(12, len));
        same_floats(k, &("layer norm", len, size), 2 * len, |k, y| {
            k.layer_norm(&x, &weight, &bias, 1e-5, y);
        })?;
        for activation in [Activation::Silu, Activation::Relu] {
            same_floats(k, &(activation, len, size), len, |k, y| {
                y.copy_from_slice(&x[..len]);
                k.activate(activation, y);
            })?;
        }
        same_floats(k, &("gate", len, size), len, |k, y| k.glu(&x, len, y))?;
        same_floats(k, &("scaled sum", len, size), len, |k, y| {
            y.copy_from_slice(&x[len..]);
            k.add_scaled(y, 0.5, &x[..len]);
        })?;
    }
    Ok(())
}

fn depthwise(k: &dyn Kernels) -> Result<(), String> {
    for (frames, d, kernel, left, before) in [
        (1, 1, 1, 0, 0),
        (3, 24, 5, 2, 0),
        (9, 17, 15, 7, 0),
        (20, 35, 31, 30, 4),
        (31, 256, 31, 30, 30),
        (12, 43, 7, 6, 6),
    ] {
        let (x, taps, bias) = (noise(1, frames * d), noise(2, kernel * d), noise(3, d));
        let filter = Depthwise {
            taps: &taps,
            bias: &bias,
            left,
        };
        for split in [0, frames / 3, frames] {
            let (a, b) = x.split_at(split * d);
            let pieces = [a, b];
            let what = ("depthwise", frames, d, kernel, left, before, split);
            same_floats(k, &what, (frames - before) * d, |k, y| {
                k.depthwise(&filter, Frames { pieces, before }, y);
            })?;
        }
    }
    Ok(())
}

fn attention(k: &dyn Kernels) -> Result<(), String> {
    for (frames, heads, d_k, mask) in [
        (1, 1, 2, Mask::Reach(Reach { left: 0, right: 0 })),
        (5, 2, 3, Mask::Reach(Reach { left: 9, right: 9 })),
        (9, 1, 36, Mask::Reach(Reach { left: 2, right: 0 })),
        (
            40,
            3,
            8,
            Mask::Reach(Reach {
                left: 39,
                right: 39,
            }),
        ),
        (20, 2, 64, Mask::Reach(Reach { left: 4, right: 2 })),
        (23, 2, 7, Mask::Chunks { size: 4, left: 6 }),
    ] {
        let (d, span) = (heads * d_k, mask.reach().span());
        let (bias_u, bias_v) = (noise(4, d), noise(5, d));
        let positions = noise(6, d * span);
        let layer = RelativeAttention {
            heads,
            bias_u: &bias_u,
            bias_v: &bias_v,
            positions: &positions,
            mask,
            shift: Shift::Latest,
            scale: 0.7,
        };
        let [q, keys, v] = [1, 2, 3].map(|seed| noise(seed, frames * d));
        let whole = mask.seen(0, frames) == (0..frames) && mask.reach().left + 1 == frames;
        let shifts = [Shift::Latest, Shift::Legacy].into_iter();
        for shift in shifts.take(if whole { 2 } else { 1 }) {
            let what = ("attention", frames, heads, d_k, mask, shift);
            same_floats(k, &what, frames * d, |k, y| {
                y.copy_from_slice(&q);
                let (mut queries, mut scores) = (vec![0.0; 2 * d_k], vec![0.0; frames]);
                let x = Attended {
                    q: y,
                    first: 0,
                    keys: &keys,
                    key_stride: frames,
                    v: &v,
                    queries: &mut queries,
                    scores: &mut scores,
                    weights: &mut [],
                };
                k.attend(&RelativeAttention { shift, ..layer }, x);
            })?;
        }
        let case = Int8Case::new(heads, d_k, mask, frames, 1);
        for (rows, slots) in [(frames, frames), (frames.min(4), frames + 5)] {
            let what = ("int8 attention", frames, heads, d_k, mask, rows);
            same_floats(k, &what, frames * d, |k, y| {
                y.copy_from_slice(&case.run(k, rows, slots));
            })?;
        }
    }
    Ok(())
}

/// Attention of int8 models on random vectors.
pub(crate) struct Int8Case {
    pub heads: Heads,
    pub mask: Mask,
    /// Queries, keys and values, [frames, d].
    pub vectors: [Vec<f32>; 3],
    /// [d].
    pub biases: [Vec<f32>; 2],
    /// [span, d].
    pub positions: Vec<f32>,
}

impl Int8Case {
    pub fn new(count: usize, width: usize, mask: Mask, frames: usize, seed: u64) -> Self {
        let d = count * width;
        Int8Case {
            heads: Heads { count, width },
            mask,
            vectors: [1, 2, 3].map(|s| noise(s + 10 * seed, frames * d)),
            biases: [4, 5].map(|s| noise(s + 10 * seed, d)),
            positions: noise(6 + 10 * seed, mask.reach().span() * d),
        }
    }

    /// The contexts, `rows` queries at a time, with as many keys kept as go into `kept` slots (rounded up).
    pub fn run(&self, k: &dyn Kernels, rows: usize, kept: usize) -> Vec<f32> {
        let (heads, d) = (self.heads, self.heads.count * self.heads.width);
        let slots = slots_for(kept);
        let fill = |slots| {
            let [panels, scales, sums] = vector_sizes(heads, slots).unwrap_or_default();
            // What the memory held before does not matter.
            (
                vec![[[55i8; 4]; 16]; panels],
                vec![f32::NAN; scales],
                vec![99i32; sums],
            )
        };
        let (mut panels, mut scale, mut sum) = fill(slots_for(self.mask.reach().span()));
        let mut positions = VectorSlots {
            panels: &mut panels,
            scale: &mut scale,
            sum: &mut sum,
        };
        k.put_vectors(heads, 0, &self.positions, &mut positions);
        let (mut panels, mut scale, mut sum) = fill(slots);
        let mut keys = VectorSlots {
            panels: &mut panels,
            scale: &mut scale,
            sum: &mut sum,
        };
        let [panels, scales] = value_sizes(heads, slots).unwrap_or_default();
        let (mut panels, mut scale) = (vec![[[55i8; 4]; 16]; panels], vec![f32::NAN; scales]);
        let mut values = ValueSlots {
            panels: &mut panels,
            scale: &mut scale,
        };
        let [query, codes, scores, places, weights, offsets] =
            Int8Scratch::sizes(heads, slots).unwrap_or_default();
        let mut scratch = (
            [query, scores, places].map(|len| vec![f32::NAN; len]),
            [codes, weights].map(|len| vec![7u8; len]),
            vec![7i32; offsets],
        );
        let [q, key_rows, value_rows] = &self.vectors;
        let mut all = q.clone();
        for (i, q) in all.chunks_mut(rows * d).enumerate() {
            let (first, at) = (i * rows, i * rows * d..i * rows * d + q.len());
            k.put_vectors(heads, first, &key_rows[at.clone()], &mut keys);
            k.put_values(heads, first, &value_rows[at], &mut values);
            let ([query, scores, places], [codes, weights], offsets) = &mut scratch;
            let attention = Int8Attention {
                heads,
                bias_u: &self.biases[0],
                bias_v: &self.biases[1],
                positions: &positions,
                mask: self.mask,
                scale: 0.7,
            };
            let x = AttendedInt8 {
                q,
                first,
                keys: &keys,
                values: &values,
                scratch: Int8Scratch {
                    query,
                    codes,
                    scores,
                    places,
                    weights,
                    offsets,
                },
            };
            k.attend_i8(&attention, x);
        }
        all
    }
}

/// Rows of images, as the face detector convolves them.
fn image_rows(k: &dyn Kernels) -> Result<(), String> {
    for (pixels, cin, cout) in [(1, 16, 16), (2, 3, 48), (7, 64, 32), (19, 16, 64)] {
        let (weight, bias) = (noise(2, cin * cout), noise(3, cout));
        let x = noise(1, pixels * cin);
        same_floats(
            k,
            &("pointwise", pixels, cin, cout),
            pixels * cout,
            |k, y| {
                k.pointwise_row(&x, &weight, &bias, y);
            },
        )?;
        let (weight, x) = (noise(4, 9 * cout), noise(5, (pixels + 2) * cout));
        same_floats(
            k,
            &("depthwise row", pixels, cout),
            pixels * cout,
            |k, y| {
                k.depthwise_row([&x, &x[..], &x[..]], &weight, &bias, true, y);
            },
        )?;
        let (weight, x) = (noise(6, 9 * cin * cout), noise(7, (2 * pixels + 1) * cin));
        same_floats(
            k,
            &("dense row", pixels, cin, cout),
            pixels * cout,
            |k, y| {
                k.dense_row_stride2([&x, &x[..], &x[..]], &weight, &bias, y);
            },
        )?;
    }
    Ok(())
}

/// Numbers below the smallest normal one are computed with as all others: some vector units round them to zero.
fn subnormals(k: &dyn Kernels) -> Result<(), String> {
    // Every product is 2^-140, a multiple of the smallest number, 2^-149; so are sums, whatever their order.
    let (factor, product) = (f32::from_bits(57 << 23), f32::from_bits(1 << 9));
    let many = [factor; 256];
    let mut y = [0.0; 64];
    let mut check = |what: &str, want: f32, run: &dyn Fn(&mut [f32])| {
        y.fill(product);
        run(&mut y);
        let right = y.iter().all(|y| y.to_bits() == want.to_bits());
        (right.then_some(())).ok_or_else(|| format!("{}: {what} of subnormal numbers", k.name()))
    };
    let w = WeightsF32::new(&many, 16).ok_or("a case without weights")?;
    check("product", 16.0 * product, &|y| {
        k.matmul_f32(&many[..64], w, &[], y);
    })?;
    check("convolution", product, &|y| {
        let filter = Depthwise {
            taps: &many[..16],
            bias: &[0.0; 16],
            left: 0,
        };
        let pieces = [&many[..64], &[]];
        k.depthwise(&filter, Frames { pieces, before: 0 }, y);
    })?;
    check("image row", 4.0 * product, &|y| {
        k.pointwise_row(&many[..16], &many[..64], &[0.0; 16], y);
    })?;
    check("sum", 1.5 * product, &|y| {
        k.add_scaled(y, 0.5, &[product; 64])
    })
}

#[cfg(test)]
mod tests {
    /// On an emulator of another CPU this runs that CPU's kernels.
    #[test]
    fn every_set_of_kernels_gives_the_portable_bits() {
        for kernels in crate::kernels::all() {
            super::check(kernels).unwrap();
            std::println!("{}: same bits", kernels.name());
        }
    }
}
