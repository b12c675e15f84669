//! The part of the face that only stretches: cheeks, nose, chin, beard, light.

use super::Plane;
use super::light::Light;
use crate::math::{bump, lerp, smooth};
use crate::rng::{Rng, mix64};
use crate::speaker::Look;

/// What differs between clips of one speaker.
pub(crate) struct Scene {
    /// Head turned to the right (+) or left (−), radians.
    pub turn: f32,
    /// Where the light comes from.
    pub light: Light,
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
            turn: 0.06 * rng.normal(),
            light: Light::draw(rng, look),
            behind,
        }
    }
}

/// Paints the whole face without its mouth.
pub(crate) fn bake(look: &Look, scene: &Scene) -> Plane {
    let mut height = Plane::new();
    fill(&mut height, |u, v| relief(u, v, look, scene));
    let noise = Noise::new(look.skin_seed);
    let hair = Noise::new(mix64(look.skin_seed ^ 0xbea4d));
    let spots = spots(look);
    let mut plane = Plane::new();
    let last = Plane::SIDE - 1;
    for row in 0..Plane::SIDE {
        let v = row as f32 - Plane::ORIGIN;
        let (above, below) = (row.max(1) - 1, (row + 1).min(last));
        for column in 0..Plane::SIDE {
            let u = column as f32 - Plane::ORIGIN;
            let (left, right) = (column.max(1) - 1, (column + 1).min(last));
            let at = |r: usize, c: usize| height.pixels[r * Plane::SIDE + c];
            let slope_u = 0.5 * (at(row, right) - at(row, left));
            let slope_v = 0.5 * (at(below, column) - at(above, column));
            let shade = scene.light.shade(slope_u, slope_v);
            let mut grey = look.skin * shade * pigment(u, v, look, scene);
            let (coarse, middle, fine) = noise.fractal(u, v);
            grey += look.texture * look.skin / 158.0 * (2.0 * coarse + 1.2 * middle + fine);
            for spot in &spots {
                let (du, dv) = ((u - spot.u) / spot.radius, (v - spot.v) / spot.radius);
                grey -= spot.depth * bump(du * du + dv * dv);
            }
            grey = beard(grey, u, v, look, &hair);
            plane.pixels[row * Plane::SIDE + column] = surround(grey, u, v, look, scene);
        }
    }
    plane
}

fn fill(plane: &mut Plane, value: impl Fn(f32, f32) -> f32) {
    for row in 0..Plane::SIDE {
        for column in 0..Plane::SIDE {
            let (u, v) = (column as f32 - Plane::ORIGIN, row as f32 - Plane::ORIGIN);
            plane.pixels[row * Plane::SIDE + column] = value(u, v);
        }
    }
}

/// Neck below the jaw's edge, hair or background beside it.
fn surround(grey: f32, u: f32, v: f32, look: &Look, scene: &Scene) -> f32 {
    let uf = u - scene.turn * 34.0;
    let outline = outline(uf, v, look);
    if outline < -0.12 {
        return grey;
    }
    let neck = look.skin * (0.8 - 0.1 * look.contrast * smooth((v - look.chin) / 14.0));
    let behind = if u < 0.0 {
        scene.behind.0
    } else {
        scene.behind.1
    };
    let sideways = smooth((uf.abs() - 0.74 * look.jaw_half_width) / (0.18 * look.jaw_half_width));
    let outside = lerp(neck, behind, sideways);
    let edge = 1.0 - 0.09 * look.contrast * bump(outline * outline * 80.0);
    lerp(grey * edge, outside, smooth(outline / 0.1 + 0.3))
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

/// The nose's own horizontal coordinate: it sticks out, so a turned head moves it most.
fn nose_u(u: f32, v: f32, look: &Look, scene: &Scene) -> f32 {
    let below = smooth((v + look.nose_height) / 9.0);
    u - scene.turn * lerp(46.0, 26.0, below)
}

/// Height of the face towards the camera, pixels.
fn relief(u: f32, v: f32, look: &Look, scene: &Scene) -> f32 {
    let uf = u - scene.turn * 20.0;
    let x = uf / look.jaw_half_width;
    let x2 = x * x;
    // Cheeks and jaw curve backwards; the chin's underside most.
    let mut h = -look.jaw_half_width * (0.2 * x2 + 0.24 * x2 * x2);
    let down = (v / look.chin).max(0.0);
    h -= 7.0 * down * down * down * down + 2.0 * smooth((v - look.chin + 6.0) / 10.0);
    // The muzzle over the teeth, and the ball of the chin.
    h += 6.0 * bump(sq(u / 38.0) + sq((v + 1.0) / 31.0));
    h += look.chin_ball * bump(sq(u / 17.0) + sq((v - 0.69 * look.chin) / 12.5));
    // The furrow under the lower lip.
    let furrow = sq((v - look.lower_lip - 4.5) / 6.5);
    h -= look.chin_furrow * bump(furrow) * bump(sq(u / (0.95 * look.half_width)));
    // Folds from the nose past the corners, cheeks swelling outside of them.
    h -= folds(u, v, look);
    h += 1.5 * bump(sq((u.abs() - 0.78 * look.jaw_half_width) / 20.0) + sq((v + 24.0) / 24.0));
    h -= 1.1 * bump(sq((u.abs() - look.half_width - 2.5) / 6.0) + sq((v - 1.0) / 6.5));
    h + nose(nose_u(u, v, look, scene), v, look) + philtrum(u, v, look)
}

fn nose(u: f32, v: f32, look: &Look) -> f32 {
    let above = -look.nose_height - v;
    let width = look.nose_half_width;
    // Ridge: highest at the tip, about half of the nose's width above its base.
    let tip = 0.52 * width;
    // Its tip hangs lower than its sides.
    let hang = 2.2 * bump(sq(u / (0.5 * width)));
    let under = smooth((above + 1.2 + hang) / (tip + 2.0));
    let bridge = lerp(1.0, 0.5, smooth((above - tip) / 26.0));
    let spread = width * lerp(1.12, 0.95, smooth((above - tip) / 16.0));
    let mut h = look.nose_length * under * bridge * bump(sq(u / spread) * 0.8);
    h += 2.0 * bump(sq(u / (0.62 * width)) + sq((above - 0.9 * tip) / (0.62 * width)));
    // Wings.
    let wing = sq((u.abs() - 0.7 * width) / (0.46 * width)) + sq((above - 4.4) / 7.0);
    h + 0.32 * look.nose_length * bump(wing * 0.75)
}

fn philtrum(u: f32, v: f32, look: &Look) -> f32 {
    let top = -look.nose_height + 1.0;
    let bottom = -look.upper_lip + 1.0;
    let along = smooth((v - top) / 7.0) * smooth((bottom + 4.0 - v) / 5.0);
    // The groove widens downwards.
    let wide = lerp(0.8, 1.25, ((v - top) / (bottom - top)).clamp(0.0, 1.0));
    let ridge = sq((u.abs() - 4.6 * wide) / 3.6);
    along * look.philtrum * (0.5 * bump(ridge) - 0.9 * bump(sq(u / (4.4 * wide))))
}

/// What shading does not give: nostrils, shadows, darker creases. Factor on the skin.
fn pigment(u: f32, v: f32, look: &Look, scene: &Scene) -> f32 {
    let above = -look.nose_height - v;
    let un = nose_u(u, v, look, scene);
    let width = look.nose_half_width;
    let tilt = 0.2 * (un.abs() - 0.42 * width);
    let hole = sq((un.abs() - 0.43 * width) / (0.31 * width)) + sq((above - 0.8 + tilt) / 2.8);
    let mut factor = 1.0 - look.nostrils * bump(hole * 0.8);
    // Underside of the nose.
    let under = sq(un / (0.8 * width)) + sq((above - 0.2) / 4.2);
    factor -= look.nose_shade * bump(under);
    // The crease where a wing meets the cheek.
    let crease = sq((un.abs() - 1.1 * width) / 3.0) + sq((above - 4.2) / 7.5);
    factor -= 0.17 * look.contrast * bump(crease);
    // Shadow of the nose on the lip, of the lower lip on the chin.
    let shadow = sq(un / (1.0 * width)) + sq((above + 3.5) / 6.0);
    factor -= 0.09 * look.contrast * bump(shadow);
    // A pale rim around the upper lip.
    let rim = sq((v + look.upper_lip + 1.4) / 2.6) + sq(u / (0.9 * look.half_width));
    factor + 0.035 * bump(rim)
}

fn sq(x: f32) -> f32 {
    x * x
}

/// Nasolabial folds: a band along a line from the nose wing past the mouth's corner.
fn folds(u: f32, v: f32, look: &Look) -> f32 {
    let top = -look.nose_height - 4.0;
    let along = (v - top) / (look.nose_height + 12.0);
    if !(0.0..=1.0).contains(&along) {
        return 0.0;
    }
    let middle = lerp(
        look.nose_half_width + 2.5,
        look.half_width + 9.0,
        along * (1.3 - 0.3 * along),
    );
    let away = sq((u.abs() - middle) / 7.0);
    let ends = smooth(along * 4.0) * smooth((1.0 - along) * 2.2);
    look.folds * ends * bump(away)
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
    let above = -look.nose_height + 2.5;
    let over_lip = smooth((v - above) / 7.0)
        * smooth((2.0 - v) / 4.0)
        * smooth((look.half_width + 4.0 + 0.4 * v - u.abs()) / 11.0);
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
