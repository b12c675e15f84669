//! The mean face that landmarks are aligned to, and which landmarks do so.
//!
//! The coordinates are those of the mean face of Auto-AVSR
//! (`preparation/detectors/*/20words_mean_face.npy` in github.com/mpc001/auto_avsr, Apache-2.0): 68
//! points of the iBUG 300-W markup on a 256x256 canvas, of which only the needed ones are kept.

use super::similarity::{FitError, Point, Similarity};

/// Width and height of the canvas the mean face lies on, in pixels.
pub const CANVAS: usize = 256;

/// A set of landmarks: which of them stay put while a face talks, where the mean face has those,
/// and which mark the mouth.
#[derive(Clone, Copy, Debug)]
pub struct Layout<const N: usize> {
    stable: &'static [usize],
    targets: &'static [Point],
    mouth: (usize, usize),
}

/// Four points, as MediaPipe's face detector has them and [`four_of_five`] makes them: right eye,
/// left eye, nose tip, mouth centre. Right is the person's right, thus left in the picture.
pub const FOUR_POINTS: Layout<4> = Layout {
    stable: &[0, 1, 2, 3],
    // Means of the mean face's points 36..42, 42..48, 31..36 and 48..68.
    targets: &[
        Point::new(102.073_943_057_065_9, 94.272_303_523_897_12),
        Point::new(156.361_305_416_213_1, 93.578_156_051_869_66),
        Point::new(129.003_737_870_237_33, 135.903_430_286_031_27),
        Point::new(129.313_373_225_879_25, 157.822_996_349_188_54),
    ],
    mouth: (3, 4),
};

/// The 68 points of the iBUG 300-W markup.
pub const SIXTY_EIGHT_POINTS: Layout<68> = Layout {
    stable: &[28, 33, 36, 39, 42, 45, 48, 54],
    targets: &[
        Point::new(128.488_544_732_719_05, 106.924_595_056_142_99),
        Point::new(128.870_179_609_748_02, 137.302_533_555_847_08),
        Point::new(92.522_455_529_479_52, 94.368_760_139_258_71),
        Point::new(112.772_417_241_380_6, 94.943_608_698_701_15),
        Point::new(145.525_115_091_580_18, 94.534_998_624_837_7),
        Point::new(166.677_100_713_434_56, 93.565_622_957_177_96),
        Point::new(107.167_606_140_900_83, 157.196_067_642_422_43),
        Point::new(152.192_840_053_770_82, 156.987_111_162_079_43),
    ],
    mouth: (48, 68),
};

impl<const N: usize> Layout<N> {
    /// Where the mean face has the stable landmarks, on the canvas.
    pub const fn targets(&self) -> &'static [Point] {
        self.targets
    }

    /// The transform from the picture to the mean face, by Auto-AVSR's robust fit, which drops
    /// points that disagree with the rest.
    ///
    /// # Errors
    /// When the landmarks cannot be those of a face; see [`FitError`].
    pub fn fit(&self, landmarks: &[Point; N]) -> Result<Similarity, FitError> {
        self.fit_by(landmarks, Similarity::least_median)
    }

    /// The transform from the picture to the mean face, by plain least squares: steadier over time
    /// where no landmark is an outlier, since no landmark is in on one frame and out on the next.
    ///
    /// # Errors
    /// When the landmarks cannot be those of a face; see [`FitError`].
    pub fn fit_least_squares(&self, landmarks: &[Point; N]) -> Result<Similarity, FitError> {
        self.fit_by(landmarks, Similarity::least_squares)
    }

    /// The middle of the mouth: the mean of the mouth's landmarks after a transform.
    pub fn mouth_centre(&self, landmarks: &[Point; N], transform: &Similarity) -> Point {
        let (start, end) = self.mouth;
        Point::mean(&transform.apply_all(landmarks)[start..end])
    }

    fn fit_by(
        &self,
        landmarks: &[Point; N],
        fit: fn(&[Point], &[Point]) -> Result<Similarity, FitError>,
    ) -> Result<Similarity, FitError> {
        let mut stable = [Point::default(); 8];
        for (point, &index) in stable.iter_mut().zip(self.stable) {
            *point = landmarks[index];
        }
        fit(&stable[..self.stable.len()], self.targets)
    }
}

/// [`FOUR_POINTS`] from the five that YuNet and most face detectors give: right eye, left eye, nose
/// tip, right and left corner of the mouth.
pub fn four_of_five(points: &[Point; 5]) -> [Point; 4] {
    let [right_eye, left_eye, nose, ..] = *points;
    [right_eye, left_eye, nose, Point::mean(&points[3..])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_face_maps_to_itself() {
        let mut face = [Point::default(); 68];
        for (&index, &target) in SIXTY_EIGHT_POINTS
            .stable
            .iter()
            .zip(SIXTY_EIGHT_POINTS.targets)
        {
            face[index] = target;
        }
        for fit in [
            SIXTY_EIGHT_POINTS.fit(&face).unwrap(),
            SIXTY_EIGHT_POINTS.fit_least_squares(&face).unwrap(),
        ] {
            assert!((fit.a - 1.0).abs() < 1e-6 && fit.b.abs() < 1e-6, "{fit:?}");
            assert!(fit.tx.abs() < 1e-4 && fit.ty.abs() < 1e-4, "{fit:?}");
        }
    }

    #[test]
    fn the_mouth_of_five_points_is_between_its_corners() {
        let at = |x, y| Point::new(x, y);
        let five = [
            at(1.0, 2.0),
            at(9.0, 2.0),
            at(5.0, 6.0),
            at(3.0, 9.0),
            at(7.0, 10.0),
        ];
        let four = four_of_five(&five);
        assert_eq!(four[..3], five[..3]);
        assert_eq!(four[3], at(5.0, 9.5));
    }
}
