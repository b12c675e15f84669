//! The part of the face that only stretches: cheeks, nose, chin, beard, light.

use super::Plane;
use crate::math::{bump, lerp, smooth};
use crate::rng::{Rng, mix64};
use crate::speaker::Look;

/// What differs between clips of one speaker.
pub(crate) struct Scene {
    /// Head turned to the right (+) or left (−), radians.
    pub turn: f32,
    /// Change of the light against the speaker's usual one, grey levels.
    pub light: (f32, f32),
    /// Grey behind the jaw, left and right.
    pub behind: (f32, f32),
}

impl Scene {
    pub fn draw(rng: &mut Rng, look: &Look) -> Self {
        let mut side = || {
            if rng.chance(0.45) {
                look.hair * rng.range(0.6, 1.2)
            } else {
                look.skin * rng.range(0.55, 1.0)
            }
        };
        let behind = (side(), side());
        Self {
            turn: 0.07 * rng.normal(),
            light: (4.0 * rng.normal(), 3.0 * rng.normal()),
            behind,
        }
    }
}

/// Paints the whole face without its mouth.
pub(crate) fn bake(look: &Look, scene: &Scene) -> Plane {
    let mut plane = Plane::new();
    let noise = Noise::new(look.skin_seed);
    let hair = Noise::new(mix64(look.skin_seed ^ 0xbea4d));
    let spots = spots(look);
    for row in 0..Plane::SIDE {
        let v = row as f32 - Plane::ORIGIN;
        for column in 0..Plane::SIDE {
            let u = column as f32 - Plane::ORIGIN;
            plane.pixels[row * Plane::SIDE + column] =
                paint(u, v, look, scene, &noise, &hair, &spots);
        }
    }
    plane
}

fn paint(
    u: f32,
    v: f32,
    look: &Look,
    scene: &Scene,
    noise: &Noise,
    hair: &Noise,
    spots: &[Spot],
) -> f32 {
    let c = look.contrast;
    // A turned head shows the near cheek wider, the nose displaced.
    let uf = u - scene.turn * 34.0;
    let outline = outline(uf, v, look);
    let x = uf / look.jaw_half_width;
    let scale = look.skin / 158.0;
    let light = (look.light.0 + scene.light.0 + scene.turn * 60.0 * scale) * x
        + (look.light.1 + scene.light.1) * (-v / 48.0);
    // Cheeks fall away from the light like a cylinder.
    let round = -13.0 * c * scale * x * x * x * x - 5.0 * c * scale * x * x;
    let chin_fall = -12.0 * c * scale * smooth((v - look.chin + 14.0) / 16.0);
    let mut grey = look.skin + light + round + chin_fall;
    grey += c * scale * relief(u, v, look, scene);
    let fine = noise.fractal(u, v);
    grey += look.texture * scale * (1.6 * fine.0 + 1.1 * fine.1 + 1.2 * fine.2);
    for spot in spots {
        let (du, dv) = ((u - spot.u) / spot.radius, (v - spot.v) / spot.radius);
        grey -= spot.depth * bump(du * du + dv * dv);
    }
    grey = beard(grey, u, v, look, hair);
    // Behind the jaw's edge: neck below, hair or background at the sides.
    let neck = look.skin * 0.74 - 10.0 * c * smooth((v - look.chin) / 12.0);
    let behind = if u < 0.0 {
        scene.behind.0
    } else {
        scene.behind.1
    };
    let sideways = smooth((uf.abs() - 0.72 * look.jaw_half_width) / (0.2 * look.jaw_half_width));
    let outside = lerp(neck, behind, sideways);
    let edge = -9.0 * c * bump((outline - 0.03) * (outline - 0.03) * 90.0);
    lerp(grey + edge, outside, smooth((outline - 0.0) / 0.09 + 0.2))
}

/// 0 on the jaw's edge, negative inside, growing outside (about 1 per jaw width).
fn outline(u: f32, v: f32, look: &Look) -> f32 {
    let x = u / look.jaw_half_width;
    let x2 = x * x;
    // Above the mouth the face runs straight down; below it closes to the chin.
    let y = ((v + 12.0) / (look.chin + 12.0)).max(0.0);
    let y2 = y * y;
    let pointed = x2 + y2;
    let square = (x2 * x2 + y2 * y2).sqrt();
    lerp(pointed, square, 0.35 + 0.5 * look.jaw_square) - 1.0
}

/// Nose, philtrum, folds, chin: grey levels for a skin of 158 at contrast 1.
fn relief(u: f32, v: f32, look: &Look, scene: &Scene) -> f32 {
    let base = -look.nose_height;
    let width = look.nose_half_width;
    // The nose sticks out, so a turned head moves it most.
    let un = u - scene.turn * (52.0 - 10.0 * smooth((v - base) / 10.0));
    let mut sum = 0.0;
    let above = v - base;
    // Bridge and tip, lit from above.
    let bridge = (un / (0.62 * width)) * (un / (0.62 * width));
    if above < 4.0 {
        sum += 13.0 * bump(bridge) * smooth((2.0 - above) / 7.0);
        let tip = (un / (0.5 * width), (above + 9.0) / 7.0);
        sum += 12.0 * bump(tip.0 * tip.0 + tip.1 * tip.1);
    }
    // Creases around the wings, and the shaded sides of the nose.
    let wing = (un.abs() - width) / 2.6;
    let wing_v = (above + 4.5) / 7.5;
    sum -= 26.0 * bump(wing * wing + wing_v * wing_v);
    let flank = (un.abs() - 1.05 * width) / (0.5 * width);
    sum -= 11.0 * bump(flank * flank) * smooth(-(above + 2.0) / 10.0);
    // Underside and nostrils.
    let under = (un / (0.95 * width), (above - 0.6) / 4.2);
    sum -= 16.0 * bump(under.0 * under.0 + under.1 * under.1);
    let tilt = 0.22 * (un.abs() - 0.45 * width);
    let hole = (
        (un.abs() - 0.47 * width) / (0.36 * width),
        (above - tilt) / 2.5,
    );
    sum -= 1.15 * look.nostrils * bump(hole.0 * hole.0 + hole.1 * hole.1);
    // Shadow of the nose on the lip.
    let shadow = (un / (1.1 * width), (above - 4.5) / 8.0);
    sum -= 9.0 * bump(shadow.0 * shadow.0 + shadow.1 * shadow.1);
    // Philtrum: a groove between two ridges.
    let lip_top = -look.upper_lip;
    if v > base && v < lip_top + 2.0 {
        let along = smooth((v - base) / 5.0);
        let groove = un / 2.8;
        let ridge = (un.abs() - 3.6) / 2.0;
        sum += along * look.philtrum * (0.7 * bump(ridge * ridge) - bump(groove * groove));
    }
    sum -= folds(u, v, look);
    // Light edge just above the upper lip, dark corners of the mouth.
    let lip_edge = (v - lip_top + 1.2) / 2.4;
    let across = u / (0.8 * look.half_width);
    sum += 6.0 * bump(lip_edge * lip_edge) * bump(across * across);
    let corner = (
        (u.abs() - look.half_width - 1.5) / 6.0,
        (v - 1.0 - look.corner_drop) / 6.0,
    );
    sum -= 11.0 * bump(corner.0 * corner.0 + corner.1 * corner.1);
    // Furrow under the lower lip, and the ball of the chin.
    let furrow_v = (v - look.lower_lip - 4.0) / 5.0;
    let furrow_u = u / (0.85 * look.half_width);
    sum -= 1.25 * look.chin_furrow * bump(furrow_v * furrow_v) * bump(furrow_u * furrow_u);
    let ball = (u / 15.0, (v - 0.66 * look.chin) / 9.0);
    sum += 9.0 * bump(ball.0 * ball.0 + ball.1 * ball.1);
    sum
}

/// Nasolabial folds: a band along a line from the nose wing past the mouth's corner.
fn folds(u: f32, v: f32, look: &Look) -> f32 {
    let top = -look.nose_height - 2.0;
    let along = (v - top) / (look.nose_height + 10.0);
    if !(0.0..=1.0).contains(&along) {
        return 0.0;
    }
    let middle = lerp(
        look.nose_half_width + 2.5,
        look.half_width + 8.0,
        along * (1.35 - 0.35 * along),
    );
    let away = (u.abs() - middle) / 3.4;
    // The cheek's side of the fold is lit, the lip's side is dark.
    let lit = (u.abs() - middle - 5.0) / 5.0;
    let ends = smooth(along * 6.0) * smooth((1.0 - along) * 2.5);
    look.folds * ends * (bump(away * away) - 0.45 * bump(lit * lit))
}

struct Spot {
    u: f32,
    v: f32,
    radius: f32,
    depth: f32,
}

fn spots(look: &Look) -> Vec<Spot> {
    let mut rng = Rng::stream(look.skin_seed, 7);
    (0..look.spots)
        .map(|_| Spot {
            u: rng.range(-42.0, 42.0),
            v: rng.range(-25.0, 36.0),
            radius: rng.range(1.5, 3.6),
            depth: rng.range(6.0, 30.0) * look.skin / 158.0,
        })
        .collect()
}

fn beard(grey: f32, u: f32, v: f32, look: &Look, hair: &Noise) -> f32 {
    let (moustache, chin) = look.beard;
    if moustache <= 0.0 && chin <= 0.0 {
        return grey;
    }
    let above = -look.nose_height + 4.0;
    let over_lip = smooth((v - above) / 4.0)
        * smooth((2.0 - v) / 4.0)
        * smooth((look.half_width + 5.0 - u.abs()) / 6.0);
    // Chin and jaw: from the corners of the mouth outward and down.
    let down = smooth((v - 2.0 + 0.35 * (u.abs() - look.half_width)) / 9.0);
    let side = smooth((u.abs() - 0.74 * look.jaw_half_width) / 7.0) * smooth((v + 30.0) / 18.0);
    let soul = 1.0 - 0.45 * bump((u / 12.0) * (u / 12.0)) * bump((v - 13.0) * (v - 13.0) / 50.0);
    let cover = (over_lip * moustache).max(chin * soul * down.max(side));
    let strand = 0.62 + 0.38 * hair.strands(u, v);
    let amount = (cover * strand * 1.15).clamp(0.0, 0.95);
    // Stubble darkens skin, a full beard replaces it by hair.
    lerp(
        grey,
        lerp(0.55 * grey, look.hair + 14.0, cover),
        0.75 * amount,
    ) + 9.0 * cover * (hair.strands(u * 1.7, v * 1.3) - 0.5)
}

/// Smooth value noise.
pub(crate) struct Noise {
    seed: u64,
    table: Vec<f32>,
}

impl Noise {
    const SIDE: usize = 32;

    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::stream(seed, 11);
        Self {
            seed,
            table: (0..Self::SIDE * Self::SIDE).map(|_| rng.normal()).collect(),
        }
    }

    /// Value noise with cells of `cell` pixels, mean 0.
    fn value(&self, u: f32, v: f32, cell: f32, layer: u64) -> f32 {
        let offset = (mix64(self.seed ^ layer) & 0xff) as f32;
        let (x, y) = ((u + 200.0) / cell + offset, (v + 200.0) / cell + offset);
        let (column, row) = (x as usize, y as usize);
        let (fx, fy) = (smooth(x - column as f32), smooth(y - row as f32));
        let at = |c: usize, r: usize| self.table[(r % Self::SIDE) * Self::SIDE + c % Self::SIDE];
        lerp(
            lerp(at(column, row), at(column + 1, row), fx),
            lerp(at(column, row + 1), at(column + 1, row + 1), fx),
            fy,
        )
    }

    /// Coarse, middle and fine layers.
    fn fractal(&self, u: f32, v: f32) -> (f32, f32, f32) {
        (
            self.value(u, v, 17.0, 1),
            self.value(u, v, 6.5, 2),
            self.value(u, v, 2.3, 3),
        )
    }

    /// Short near-vertical hairs, 0..1.
    fn strands(&self, u: f32, v: f32) -> f32 {
        let fine = self.value(1.6 * u + 0.2 * v, 0.5 * v, 1.9, 4);
        (0.5 + 0.35 * fine).clamp(0.0, 1.0)
    }
}
