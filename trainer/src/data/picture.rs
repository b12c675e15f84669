//! Pictures of a timeline: moved, lit and disturbed at random, cut to the model's input.

use rand::RngExt;

use super::{PATCH, Timeline, normalised};
use crate::model::SIDE;
use crate::recipe::Augment;
use crate::rng::Rng;

/// Appends the frames of `line` to `out`, varied as one clip (the variation does not flicker).
pub fn render(line: &Timeline<'_>, how: &Augment, rng: &mut Rng, out: &mut Vec<f32>) {
    let both = |rng: &mut Rng, x: f32| {
        if x > 0.0 {
            rng.random_range(-x..x)
        } else {
            0.0
        }
    };
    let view = View {
        shift: [both(rng, how.shift), both(rng, how.shift)],
        scale: 1.0 + both(rng, how.scale),
        angle: both(rng, how.rotate).to_radians(),
        mirror: how.flip && rng.random(),
    };
    let gain = both(rng, how.contrast).exp();
    let bias = both(rng, how.brightness);
    let noise = if how.noise > 0.0 {
        rng.random_range(0.0..how.noise)
    } else {
        0.0
    };
    let hidden = (rng.random::<f32>() < how.cutout).then(|| {
        let side = |rng: &mut Rng| rng.random_range(how.cutout_side / 3..=how.cutout_side);
        let (w, h) = (side(rng), side(rng));
        (
            rng.random_range(0..SIDE - w / 2),
            rng.random_range(0..SIDE - h / 2),
            w,
            h,
        )
    });
    let frozen = frozen_frames(line.frames.len(), how, rng);
    let grid = view.grid();
    for &source in &frozen {
        let begin = out.len();
        let (clip, place) = line.frames[source];
        let (t, blend) = (place as usize, place.fract());
        let a = clip.frame(t);
        let b = clip.frame((t + 1).min(clip.frames() - 1));
        for at in &grid {
            let mut grey = at.sample(a);
            if blend > 0.0 {
                grey += blend * (at.sample(b) - grey);
            }
            out.push(normalised(grey) * gain + bias);
        }
        let frame = &mut out[begin..];
        if noise > 0.0 {
            disturb(frame, noise, rng);
        }
        if let Some((x, y, w, h)) = hidden {
            for row in frame.chunks_exact_mut(SIDE).skip(y).take(h) {
                let end = (x + w).min(SIDE);
                row[x..end].fill(bias);
            }
        }
    }
}

/// Appends the centre of every frame of `line`, unvaried.
pub fn render_plain(line: &Timeline<'_>, out: &mut Vec<f32>) {
    let margin = (PATCH - SIDE) / 2;
    for &(clip, place) in &line.frames {
        for row in clip
            .frame(place as usize)
            .chunks_exact(PATCH)
            .skip(margin)
            .take(SIDE)
        {
            out.extend(
                row[margin..margin + SIDE]
                    .iter()
                    .map(|&g| normalised(f32::from(g))),
            );
        }
    }
}

/// For each frame, the frame shown in its place.
fn frozen_frames(frames: usize, how: &Augment, rng: &mut Rng) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..frames).collect();
    for _ in 0..rng.random_range(0..=how.freeze) {
        let len = rng
            .random_range(1..=how.freeze_frames.max(1))
            .min(frames - 1);
        let start = rng.random_range(0..frames - len);
        for t in start + 1..=start + len {
            shown[t] = shown[start];
        }
    }
    shown
}

/// Noise that is nearly Gaussian: the sum of four bytes of one draw.
fn disturb(frame: &mut [f32], deviation: f32, rng: &mut Rng) {
    // Each byte has variance (256^2 - 1) / 12.
    let scale = deviation / (4.0 * (65535.0 / 12.0f32)).sqrt();
    for px in frame {
        let bytes = rng.random::<u32>().to_le_bytes();
        let sum: u32 = bytes.iter().map(|&b| u32::from(b)).sum();
        *px += (sum as f32 - 510.0) * scale;
    }
}

struct View {
    shift: [f32; 2],
    scale: f32,
    angle: f32,
    mirror: bool,
}

/// Where a pixel of the picture lies in the crop: four neighbours and their weights.
struct Sample {
    at: [usize; 4],
    weight: [f32; 4],
}

impl Sample {
    fn sample(&self, crop: &[u8]) -> f32 {
        (0..4)
            .map(|i| f32::from(crop[self.at[i]]) * self.weight[i])
            .sum()
    }
}

impl View {
    fn grid(&self) -> Vec<Sample> {
        let (sin, cos) = (self.angle.sin() * self.scale, self.angle.cos() * self.scale);
        let middle = (PATCH as f32 - 1.0) / 2.0;
        let centre = (SIDE as f32 - 1.0) / 2.0;
        let mut out = Vec::with_capacity(SIDE * SIDE);
        for y in 0..SIDE {
            for x in 0..SIDE {
                let dx = if self.mirror {
                    centre - x as f32
                } else {
                    x as f32 - centre
                };
                let dy = y as f32 - centre;
                let limit = PATCH as f32 - 1.001;
                let sx = (middle + self.shift[0] + cos * dx - sin * dy).clamp(0.0, limit);
                let sy = (middle + self.shift[1] + sin * dx + cos * dy).clamp(0.0, limit);
                let (x0, y0) = (sx as usize, sy as usize);
                let (fx, fy) = (sx - x0 as f32, sy - y0 as f32);
                let at = y0 * PATCH + x0;
                out.push(Sample {
                    at: [at, at + 1, at + PATCH, at + PATCH + 1],
                    weight: [
                        (1.0 - fx) * (1.0 - fy),
                        fx * (1.0 - fy),
                        (1.0 - fx) * fy,
                        fx * fy,
                    ],
                });
            }
        }
        out
    }
}
