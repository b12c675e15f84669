//! One distant lamp plus light from everywhere: enough to make noses and lips look solid.

use crate::rng::Rng;
use crate::speaker::Look;

/// Brightness of a surface by its slope (Lambert's law, relative to a surface that faces
/// the camera).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Light {
    x: f32,
    y: f32,
    z: f32,
    ambient: f32,
    flat: f32,
}

impl Light {
    /// The speaker's usual light, a little different in every clip.
    pub fn draw(rng: &mut Rng, look: &Look) -> Self {
        let x = look.light.0 + 0.1 * rng.normal();
        let y = look.light.1 + 0.08 * rng.normal();
        Self::new(x, y, look.ambient)
    }

    /// Light from the direction (x right, y down, 1 towards the camera), `ambient` of it
    /// from everywhere.
    pub fn new(x: f32, y: f32, ambient: f32) -> Self {
        let length = (x * x + y * y + 1.0).sqrt();
        let z = 1.0 / length;
        Self {
            x: x / length,
            y: y / length,
            z,
            ambient,
            flat: ambient + (1.0 - ambient) * z,
        }
    }

    /// Brightness where the surface rises by `slope_u` per pixel to the right and `slope_v`
    /// per pixel downward; 1 on flat ground.
    #[inline]
    pub fn shade(&self, slope_u: f32, slope_v: f32) -> f32 {
        let length = (1.0 + slope_u * slope_u + slope_v * slope_v).sqrt();
        let facing = (self.z - slope_u * self.x - slope_v * self.y) / length;
        (self.ambient + (1.0 - self.ambient) * facing.max(0.0)) / self.flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A surface square to the lamp gets all of its light, one seen edge-on none.
    #[test]
    fn follows_lamberts_law() {
        let light = Light::new(0.5, -0.4, 0.4);
        let flat = 0.4 + 0.6 / 1.41_f32.sqrt();
        assert!((light.shade(0.0, 0.0) - 1.0).abs() < 1e-6);
        assert!((light.shade(-0.5, 0.4) - 1.0 / flat).abs() < 1e-5);
        // Normal (2, 0, -1)·(0.5, ., 1) = 0 has slope 2 away from the lamp.
        assert!((light.shade(2.0, 0.0) - 0.4 / flat).abs() < 1e-5);
        assert!(light.shade(0.0, 0.3) > 1.0, "the lamp is above");
    }
}
