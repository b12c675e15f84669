//! Lips, teeth and tongue over the stretched skin, one frame at a time.

use super::Plane;
use super::light::Light;
use crate::articulation::Mouth;
use crate::math::{bump, lerp, smooth};
use crate::rng::Rng;
use crate::speaker::Look;

/// Pixels the jaw moves at `Mouth::jaw` 1.
const JAW: f32 = 15.0;
/// Pixels the upper lip rises at `Mouth::raise` 1.
const RAISE: f32 = 6.4;
/// Pixels the lower lip falls at `Mouth::drop` 1.
const DROP: f32 = 7.6;

/// Heights of the lips' four edges in one column.
#[derive(Clone, Copy, Default)]
struct Edges {
    upper_outer: f32,
    upper_inner: f32,
    lower_inner: f32,
    lower_outer: f32,
    /// Position between the corners, −1..1.
    p: f32,
    /// Whether this column crosses the lips at all.
    inside: bool,
}

/// The mouth's shape in pixels.
struct Shape {
    half_width: f32,
    /// How far the corners have moved outward from rest.
    corner_shift: f32,
    open_up: f32,
    open_down: f32,
    upper: f32,
    lower: f32,
    /// 0: almond-shaped opening, 1: flat with steep ends.
    flat: f32,
    round: f32,
    stretch: f32,
    jaw: f32,
    tuck: f32,
    press: f32,
}

impl Shape {
    fn new(mouth: &Mouth, look: &Look) -> Self {
        let open = 1.0 - mouth.closure;
        let round = mouth.round.min(1.2);
        let narrow = if mouth.spread < 0.0 { 0.13 } else { 0.15 };
        let half_width = look.half_width
            * (1.0 + narrow * mouth.spread - 0.2 * round - 0.03 * mouth.jaw - 0.03 * mouth.press);
        let stretch = mouth.spread.max(0.0);
        let jaw = mouth.jaw * JAW;
        let open_up = mouth.raise * RAISE * open * (1.0 - 0.3 * round);
        let open_down =
            (jaw + mouth.drop * DROP) * open * (1.0 - 0.15 * round) * (1.0 - 0.85 * mouth.tuck);
        Self {
            half_width,
            corner_shift: half_width - look.half_width,
            open_up,
            open_down: open_down - 1.2 * mouth.tuck,
            upper: look.upper_lip
                * (1.0 + 0.28 * round - 0.14 * stretch - 0.28 * mouth.press - 0.08 * mouth.raise),
            lower: look.lower_lip
                * (1.0 + 0.26 * round - 0.12 * stretch - 0.25 * mouth.press - 0.5 * mouth.tuck),
            flat: (0.55 + 0.4 * stretch - 0.5 * round).clamp(0.0, 1.0),
            round,
            stretch,
            jaw,
            tuck: mouth.tuck,
            press: mouth.press,
        }
    }

    fn edges(&self, u: f32, look: &Look) -> Edges {
        let p = u / self.half_width;
        let p2 = p * p;
        if p2 >= 1.0 {
            return Edges {
                p,
                ..Edges::default()
            };
        }
        let q = 1.0 - p2;
        // The line where closed lips meet.
        let line = look.corner_drop * p2 * (1.0 - 0.4 * self.round)
            + look.tilt * p
            + look.tubercle * bump(p2 * 9.0)
            - 0.4 * look.tubercle * bump((p.abs() - 0.42) * (p.abs() - 0.42) * 16.0);
        let side = 1.0 + look.skew * p;
        // Rounded lips open only in the middle.
        let r = p * (1.0 + 0.35 * self.round);
        let gap = (1.0 - r * r).max(0.0);
        let gap = (gap * (1.0 + self.flat * r * r) + 0.25 * (gap.sqrt() - gap)) * side;
        let thick = q * (1.0 + 0.35 * p2);
        let bow = 1.0 - look.bow / look.upper_lip.max(3.0) * bump(p2 * 22.0)
            + 0.12 * look.bow * bump((p.abs() - 0.24) * (p.abs() - 0.24) * 30.0);
        let upper_inner = line - self.open_up * gap;
        let lower_inner = line + self.open_down * gap;
        // The outer edges span the whole width even where the opening does not.
        let upper_thick = self.upper * thick * bow.max(0.2);
        let lower_thick = self.lower * (0.35 * q + 0.65 * q.sqrt()) * smooth(q * 3.5);
        let upper_outer = line - 0.92 * self.open_up * q * side - upper_thick;
        let lower_outer = line + 0.92 * self.open_down * (0.6 * q + 0.4 * q.sqrt()) + lower_thick;
        Edges {
            upper_outer: upper_outer.min(upper_inner - 0.55 * upper_thick),
            upper_inner,
            lower_inner,
            lower_outer: lower_outer.max(lower_inner + 0.55 * lower_thick),
            p,
            inside: true,
        }
    }
}

/// Draws frames of one clip; keeps its tables between frames.
pub(crate) struct Painter {
    columns: Vec<Edges>,
    rows: Vec<f32>,
    /// Vertical wrinkles across the lips, by position between the corners.
    wrinkles: Vec<f32>,
    /// Brightness of the tooth rows by column (upper, lower).
    teeth: Vec<(f32, f32)>,
}

impl Painter {
    pub fn new(look: &Look) -> Self {
        let mut rng = Rng::stream(look.skin_seed, 21);
        let mut wrinkles: Vec<f32> = (0..97).map(|_| rng.normal()).collect();
        for i in 1..wrinkles.len() {
            wrinkles[i] = 0.55 * wrinkles[i] + 0.45 * wrinkles[i - 1];
        }
        Self {
            columns: vec![Edges::default(); Plane::SIDE],
            rows: vec![0.0; Plane::SIDE],
            wrinkles,
            teeth: teeth_rows(look, &mut rng),
        }
    }

    /// Paints the face with this `mouth` into `out`.
    pub fn paint(
        &mut self,
        mouth: &Mouth,
        look: &Look,
        light: &Light,
        skin: &Plane,
        out: &mut Plane,
    ) {
        let shape = Shape::new(mouth, look);
        for (column, edges) in self.columns.iter_mut().enumerate() {
            *edges = shape.edges(column as f32 - Plane::ORIGIN, look);
        }
        self.stretch(&shape, look, skin, out);
        self.lips(&shape, mouth, look, light, out);
    }

    /// Copies the skin, moved along with lips and jaw.
    fn stretch(&mut self, shape: &Shape, look: &Look, skin: &Plane, out: &mut Plane) {
        let nose = -look.nose_height + 2.0;
        let upper_edge = -shape.open_up - shape.upper;
        let upper_shift = upper_edge + look.upper_lip;
        let lower_edge = shape.open_down + shape.lower;
        let lower_shift = lower_edge - look.lower_lip;
        for (row, shift) in self.rows.iter_mut().enumerate() {
            let v = row as f32 - Plane::ORIGIN;
            *shift = if v < upper_edge {
                upper_shift * smooth((v - nose) / (upper_edge - nose).max(1.0))
            } else if v < lower_edge {
                lerp(
                    upper_shift,
                    lower_shift,
                    (v - upper_edge) / (lower_edge - upper_edge).max(1.0),
                )
            } else {
                // From the lip's shift to the jaw's at the chin, fading down the neck.
                let chin = look.chin + 0.85 * shape.jaw;
                let down = smooth((v - lower_edge) / (chin - lower_edge).max(1.0));
                let neck = 1.0 - smooth((v - chin - 2.0) / 16.0);
                lerp(lower_shift, 0.85 * shape.jaw, down) * neck
            };
        }
        let mut across = [0.0_f32; Plane::SIDE];
        let mut pull = [0.0_f32; Plane::SIDE];
        for column in 0..Plane::SIDE {
            let u = column as f32 - Plane::ORIGIN;
            let away = u.abs() / (1.35 * look.jaw_half_width);
            across[column] = 1.0 - 0.75 * smooth(away);
            let from_corner = (u.abs() - shape.half_width) / 19.0;
            pull[column] = shape.corner_shift * bump(from_corner * from_corner) * u.signum();
        }
        for row in 0..Plane::SIDE {
            let y = row as f32;
            let v = y - Plane::ORIGIN;
            let reach = bump((v / 26.0) * (v / 26.0));
            let shift = self.rows[row];
            let line = &mut out.pixels[row * Plane::SIDE..(row + 1) * Plane::SIDE];
            for (column, pixel) in line.iter_mut().enumerate() {
                *pixel = skin.sample(
                    column as f32 - pull[column] * reach,
                    y - shift * across[column],
                );
            }
        }
    }

    fn lips(&self, shape: &Shape, mouth: &Mouth, look: &Look, light: &Light, out: &mut Plane) {
        let reach = shape.half_width as usize + 5;
        let middle = Plane::ORIGIN as usize;
        // Pursed lips bulge, stretched ones are flat.
        let bulge = 0.85 + 0.35 * shape.round - 0.25 * shape.stretch;
        let mouth_inside = Inside::new(shape, mouth, look);
        for column in middle - reach..=middle + reach {
            let edges = self.columns[column];
            if !edges.inside {
                continue;
            }
            let u = column as f32 - Plane::ORIGIN;
            let p = edges.p;
            let top = (edges.upper_outer + Plane::ORIGIN - 2.0) as usize;
            let bottom = ((edges.lower_outer + Plane::ORIGIN + 8.0) as usize).min(Plane::SIDE - 1);
            let at = ((p + 1.0) * 48.0) as usize;
            let wrinkle = self.wrinkles[at.min(96)];
            let upper_height = (edges.upper_inner - edges.upper_outer).max(0.3);
            let lower_height = (edges.lower_outer - edges.lower_inner).max(0.3);
            // Even touching lips leave a dark line, thinner when pressed.
            let seam = (0.95 - 0.35 * shape.press) * (1.0 - 0.25 * p * p);
            let gap_top = edges.upper_inner - 0.5 * seam;
            let gap_bottom = edges.lower_inner + 0.5 * seam;
            let tooth = self.teeth[column];
            let slope_u = -0.35 * p * (0.6 + p * p);
            let corner = bump((1.0 - p.abs()) * (1.0 - p.abs()) * 40.0);
            for row in top..=bottom {
                let v = row as f32 - Plane::ORIGIN;
                let pixel = &mut out.pixels[row * Plane::SIDE + column];
                let skin = *pixel;
                let mut value = skin;
                // Shadow under the lower lip.
                let below = (v - edges.lower_outer - 1.5) / 5.0;
                value *= 1.0
                    - look.lip_shadow
                        * (0.8 + 0.4 * shape.round)
                        * bump(below * below)
                        * (1.0 - p * p);
                // Lips are half-cylinders: the upper faces down, the lower first up, then
                // down.
                let upper = cover(v - edges.upper_outer) * cover(edges.upper_inner - v);
                if upper > 0.0 {
                    let s = ((v - edges.upper_outer) / upper_height).clamp(0.0, 1.0);
                    let slope = bulge * (0.35 - 1.3 * s);
                    let tone = (look.skin - look.upper_tone + 2.2 * look.contrast * wrinkle)
                        * light.shade(slope_u, slope)
                        + 0.3 * look.gloss * shape.round * bump((s - 0.4) * (s - 0.4) * 12.0);
                    value = lerp(value, tone, upper * (1.0 - 0.45 * corner));
                }
                let lower = cover(v - edges.lower_inner) * cover(edges.lower_outer - v);
                if lower > 0.0 {
                    let s = ((v - edges.lower_inner) / lower_height).clamp(0.0, 1.0);
                    let slope = bulge * (0.75 - 1.5 * s);
                    let shine = bump((s - 0.3) * (s - 0.3) * 10.0) * bump(p * p * 1.6);
                    let tone = (look.skin - look.lower_tone + 2.6 * look.contrast * wrinkle)
                        * light.shade(slope_u, slope)
                        + look.gloss * (1.0 + 0.5 * shape.round) * shine;
                    // Its lower edge is a soft transition to the chin.
                    let rim = 1.0 - look.soft_rim * smooth((s - 0.5) * 2.0);
                    value = lerp(value, tone, lower * rim * (1.0 - 0.45 * corner));
                }
                let gap = cover(v - gap_top) * cover(gap_bottom - v);
                if gap > 0.0 {
                    let tone = mouth_inside.tone(u, v, &edges, tooth, look);
                    value = lerp(value, tone, gap);
                }
                *pixel = value;
            }
        }
        self.corners(shape, look, out);
    }

    /// The dark dimples where the lips end.
    fn corners(&self, shape: &Shape, look: &Look, out: &mut Plane) {
        let depth = 24.0 * look.contrast * look.skin / 158.0;
        for side in [-1.0_f32, 1.0] {
            let centre_u = side * (shape.half_width - 0.6);
            let centre_v = look.corner_drop * (1.0 - 0.4 * shape.round) + look.tilt * side;
            let left = (centre_u + Plane::ORIGIN - 4.0) as usize;
            let top = (centre_v + Plane::ORIGIN - 3.0) as usize;
            for row in top..top + 8 {
                for column in left..left + 10 {
                    let du = (column as f32 - Plane::ORIGIN - centre_u) / 3.9;
                    let dv = (row as f32 - Plane::ORIGIN - centre_v) / 2.4;
                    out.pixels[row * Plane::SIDE + column] -= depth * bump(du * du + dv * dv);
                }
            }
        }
    }
}

/// Coverage of a pixel whose centre is `distance` inside an edge.
#[inline]
fn cover(distance: f32) -> f32 {
    (distance * 0.8 + 0.5).clamp(0.0, 1.0)
}

/// What shows between the lips.
struct Inside {
    upper_teeth: f32,
    lower_teeth: f32,
    tongue_up: f32,
    tip: f32,
    tip_v: f32,
    half_width: f32,
    round: f32,
}

impl Inside {
    fn new(shape: &Shape, mouth: &Mouth, look: &Look) -> Self {
        let upper_teeth = look.teeth_length;
        let lower_teeth = look.teeth_length - look.overbite + 1.5 + 0.94 * shape.jaw;
        Self {
            upper_teeth,
            lower_teeth: lower_teeth + 6.0 * shape.tuck,
            tongue_up: mouth.body,
            tip: smooth((mouth.tip - 0.35) / 0.6),
            tip_v: upper_teeth + if mouth.tip > 0.9 { 0.6 } else { 1.6 },
            half_width: shape.half_width,
            round: shape.round,
        }
    }

    fn tone(&self, u: f32, v: f32, edges: &Edges, tooth: (f32, f32), look: &Look) -> f32 {
        let height = (edges.lower_inner - edges.upper_inner).max(0.0);
        let p2 = edges.p * edges.p;
        let side = 1.0 - 0.65 * smooth((edges.p.abs() - 0.45) / 0.5);
        let mut value = look.cavity;
        // Tongue: rises from the floor of the mouth, brightest in the middle.
        let tongue_top = edges.lower_inner - (0.25 + 0.65 * self.tongue_up) * height;
        let tongue = cover((v - tongue_top) * 0.5) * (1.0 - p2) * (1.0 - 0.5 * self.round);
        let depth = ((v - tongue_top) / (height + 1.0)).clamp(0.0, 1.0);
        value = lerp(value, lerp(0.75, 1.0, depth) * look.tongue, 0.85 * tongue);
        // Lower teeth ride on the jaw, the row curves up at its sides.
        let lower_edge = self.lower_teeth - 1.6 * (u / 17.0) * (u / 17.0);
        let lower = cover(v - lower_edge) * cover(edges.lower_inner + 1.0 - v);
        value = lerp(
            value,
            tooth.1 * look.teeth * 0.9 * side,
            lower * bump((u / 26.0) * (u / 26.0)),
        );
        // Upper teeth hang from the skull, whatever the lip does.
        let upper_edge = self.upper_teeth - 1.5 * (u / 18.0) * (u / 18.0);
        let upper = cover(upper_edge - v);
        let shade = 1.0 - 0.3 * bump((v - edges.upper_inner) * (v - edges.upper_inner) / 6.0);
        let arch = bump((u / 34.0) * (u / 34.0));
        value = lerp(
            value,
            tooth.0 * look.teeth * side * shade,
            upper * smooth(2.0 * arch),
        );
        // The tip of the tongue at or between the teeth.
        if self.tip > 0.0 {
            let du = u / (0.52 * self.half_width);
            let dv = (v - self.tip_v) / 3.0;
            let blob = (1.6 * bump(du * du + dv * dv)).min(1.0) * self.tip;
            value = lerp(value, 1.08 * look.tongue, blob);
        }
        // Lips shade what is right behind them.
        let near = (height / 3.5).min(1.0);
        value * lerp(0.72, 1.0, near)
    }
}

/// Brightness of upper and lower tooth rows per column: gaps, and slightly different teeth.
fn teeth_rows(look: &Look, rng: &mut Rng) -> Vec<(f32, f32)> {
    let mut rows = vec![(1.0, 1.0); Plane::SIDE];
    let offset = rng.range(-0.8, 0.8);
    for (row, width) in [(0, look.tooth_width), (1, 0.68 * look.tooth_width)] {
        let shades: Vec<f32> = (0..24).map(|_| 1.0 - 0.09 * rng.unit()).collect();
        for (column, pair) in rows.iter_mut().enumerate() {
            let u = column as f32 - Plane::ORIGIN - offset;
            // Teeth look narrower towards the sides of the arch.
            let along = u * (1.0 + 0.012 * u.abs()) / width + if row == 0 { 12.0 } else { 12.5 };
            let index = along.clamp(0.0, 23.0) as usize;
            let within = along - index as f32;
            let from_gap = within.min(1.0 - within) * width;
            let gap = look.tooth_gaps * bump(from_gap * from_gap / 1.1);
            let value = shades[index] * (1.0 - 0.5 * gap);
            if row == 0 {
                pair.0 = value;
            } else {
                pair.1 = value;
            }
        }
    }
    rows
}
