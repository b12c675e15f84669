//! From the painted face to the crop a tracker would deliver: head pose, blur, exposure,
//! sensor noise and the traces of video compression.

use super::{CROP, Plane};
use crate::math::{Wander, cos_turns, sin_turns};
use crate::rng::Rng;
use crate::speaker::{Look, Style};

/// Pixels of one crop.
pub(crate) const PIXELS: usize = CROP * CROP;

/// The camera and tracker of one clip.
pub(crate) struct Camera {
    shift_u: Wander,
    shift_v: Wander,
    roll: Wander,
    zoom: Wander,
    turn: Wander,
    gain: Wander,
    /// Place and size of the mouth in the crop, constant over the clip.
    base: (f32, f32),
    scale: f32,
    angle: f32,
    blur: f32,
    /// Standard deviation of the tracker's error from frame to frame, pixels.
    jitter: f32,
    noise: f32,
    exposure: f32,
    /// Contrast around the grey value `pivot`.
    contrast: f32,
    pivot: f32,
    /// Dead zone of the finest detail, grey levels.
    dead_zone: f32,
    /// How much a block must change before it is coded anew.
    skip: f32,
    /// Frames between complete refreshes.
    refresh: usize,
    /// Place of the coding grid.
    grid: (usize, usize),
    rng: Rng,
    now: Vec<f32>,
    row: Vec<f32>,
    held: Vec<f32>,
}

impl Camera {
    pub fn new(look: &Look, style: &Style, rng: &mut Rng) -> Self {
        let sway = style.sway;
        Self {
            shift_u: Wander::new(rng, 0.7 * sway, 1.2),
            shift_v: Wander::new(rng, 0.7 * sway, 1.2),
            roll: Wander::new(rng, 0.0035 * sway, 0.8),
            zoom: Wander::new(rng, 0.012 * sway, 0.6),
            turn: Wander::new(rng, 0.02 * sway, 0.7),
            gain: Wander::new(rng, 0.008, 0.5),
            base: (1.2 * rng.normal(), look.mouth_offset + 1.2 * rng.normal()),
            scale: (1.02 + 0.05 * rng.normal()).clamp(0.87, 1.18),
            angle: 0.006 * rng.normal(),
            blur: rng.range(0.06, 0.24),
            jitter: rng.range(0.02, 0.4),
            noise: rng.range(0.2, 1.8),
            exposure: 1.0 + 0.05 * rng.normal(),
            contrast: rng.range(0.85, 1.5),
            pivot: 0.93 * look.skin,
            dead_zone: rng.range(0.3, 3.5),
            skip: if rng.chance(0.75) {
                rng.range(0.4, 2.2)
            } else {
                0.0
            },
            refresh: 10 + rng.below(30),
            grid: (rng.below(8), rng.below(8)),
            rng: Rng::from_seed(rng.next_u64()),
            now: vec![0.0; PIXELS],
            row: vec![0.0; PIXELS],
            held: vec![0.0; PIXELS],
        }
    }

    /// The crop of frame `index`, taken at `t` seconds. `sink` is how far the mouth's middle
    /// is below its resting place, pixels: a tracker follows part of it.
    pub fn shoot(&mut self, face: &Plane, index: usize, t: f64, sink: f32) -> [u8; PIXELS] {
        self.project(face, t, sink);
        self.defocus();
        self.expose();
        self.core();
        self.compress(index);
        let mut frame = [0_u8; PIXELS];
        for (pixel, value) in frame.iter_mut().zip(&self.held) {
            *pixel = (value + 0.5).clamp(0.0, 255.0) as u8;
        }
        frame
    }

    fn project(&mut self, face: &Plane, t: f64, sink: f32) {
        let scale = 1.0 / (self.scale * (1.0 + self.zoom.at(t)));
        let turns = f64::from(self.angle + self.roll.at(t));
        let (sine, cosine) = (sin_turns(turns) as f32, cos_turns(turns) as f32);
        let centre = CROP as f32 / 2.0;
        // Trackers follow part of the lips' movement, cut at whole pixels, and tremble.
        let x0 = centre + self.base.0 + self.shift_u.at(t) + self.jitter * self.rng.normal();
        let y0 = centre + self.base.1 + self.shift_v.at(t) + self.jitter * self.rng.normal()
            - (0.35 * sink + 0.5).floor();
        let shear = self.turn.at(t);
        let brightness = (1.0 + self.gain.at(t)) * self.exposure;
        let gain = brightness * self.contrast;
        let offset = brightness * self.pivot * (1.0 - self.contrast);
        for y in 0..CROP {
            let dy = (y as f32 - y0) * scale;
            let line = &mut self.now[y * CROP..(y + 1) * CROP];
            for (x, pixel) in line.iter_mut().enumerate() {
                let dx = (x as f32 - x0) * scale;
                let v = cosine * dy - sine * dx;
                let u = cosine * dx + sine * dy + shear * v;
                *pixel = offset + gain * face.sample(u + Plane::ORIGIN, v + Plane::ORIGIN);
            }
        }
    }

    /// A separable three-tap blur.
    fn defocus(&mut self) {
        let side = self.blur;
        let middle = 1.0 - 2.0 * side;
        for (line, out) in self
            .now
            .chunks_exact(CROP)
            .zip(self.row.chunks_exact_mut(CROP))
        {
            out[0] = line[0];
            out[CROP - 1] = line[CROP - 1];
            for x in 1..CROP - 1 {
                out[x] = middle * line[x] + side * (line[x - 1] + line[x + 1]);
            }
        }
        for y in 0..CROP {
            let above = y.saturating_sub(1) * CROP;
            let below = (y + 1).min(CROP - 1) * CROP;
            for x in 0..CROP {
                self.now[y * CROP + x] = middle * self.row[y * CROP + x]
                    + side * (self.row[above + x] + self.row[below + x]);
            }
        }
    }

    /// Sensor noise: four bytes of one random word make one bell-shaped number.
    fn expose(&mut self) {
        // Standard deviation of the sum of four uniform bytes is 147.8.
        let scale = self.noise / 147.8;
        let mut word = self.rng.next_u32() | 1;
        for pixel in &mut self.now {
            word ^= word << 13;
            word ^= word >> 17;
            word ^= word << 5;
            let [a, b, c, d] = word.to_le_bytes();
            let sum = i32::from(a) + i32::from(b) + i32::from(c) + i32::from(d) - 510;
            *pixel += scale * sum as f32;
        }
    }

    /// Small detail shrinks towards its surroundings, as a coder's quantiser does to it.
    fn core(&mut self) {
        self.row.copy_from_slice(&self.now);
        for y in 1..CROP - 1 {
            let above = &self.row[(y - 1) * CROP..y * CROP];
            let line = &self.row[y * CROP..(y + 1) * CROP];
            let below = &self.row[(y + 1) * CROP..(y + 2) * CROP];
            let out = &mut self.now[y * CROP..(y + 1) * CROP];
            for x in 1..CROP - 1 {
                let around = 0.25 * (above[x] + below[x] + line[x - 1] + line[x + 1]);
                let detail = line[x] - around;
                let size = detail.abs();
                out[x] = around + detail * size / (size + self.dead_zone);
            }
        }
    }

    /// Blocks that hardly changed repeat, as an encoder would have it; others lose some of
    /// their finest detail.
    fn compress(&mut self, index: usize) {
        let fresh = index.is_multiple_of(self.refresh) || self.skip == 0.0;
        if fresh {
            self.held.copy_from_slice(&self.now);
            return;
        }
        let (grid_x, grid_y) = self.grid;
        let mut top = 0;
        while top < CROP {
            let bottom = (top + 8 - if top == 0 { grid_y } else { 0 }).min(CROP);
            let mut left = 0;
            while left < CROP {
                let right = (left + 8 - if left == 0 { grid_x } else { 0 }).min(CROP);
                self.code_block(left, right, top, bottom);
                left = right;
            }
            top = bottom;
        }
    }

    fn code_block(&mut self, left: usize, right: usize, top: usize, bottom: usize) {
        let (mut change, mut worst) = (0.0_f32, 0.0_f32);
        for y in top..bottom {
            let span = y * CROP + left..y * CROP + right;
            for (new, old) in self.now[span.clone()].iter().zip(&self.held[span]) {
                let difference = (new - old).abs();
                change += difference;
                worst = worst.max(difference);
            }
        }
        let pixels = ((right - left) * (bottom - top)) as f32;
        // Noise alone changes a block by about 1.1 times its deviation.
        if change < (self.skip + 1.1 * self.noise) * pixels && worst < 9.0 + 4.0 * self.noise {
            return;
        }
        for y in top..bottom {
            let span = y * CROP + left..y * CROP + right;
            for (new, old) in self.now[span.clone()].iter().zip(&mut self.held[span]) {
                *old = new + 0.12 * (*old - new);
            }
        }
    }
}
