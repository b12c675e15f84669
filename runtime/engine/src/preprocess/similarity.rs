//! Similarity transforms (rotation, uniform scale, shift) and their robust estimation.

use core::fmt;

use crate::math::sqrt_f64;

/// A point in pixels: x to the right, y down, the centre of the first pixel at (0, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Pixels to the right.
    pub x: f64,
    /// Pixels down.
    pub y: f64,
}

impl Point {
    /// The point (x, y).
    pub const fn new(x: f64, y: f64) -> Self {
        Self { x, y }
    }

    /// The mean of some points, summed in order; (NaN, NaN) for none.
    pub fn mean(points: &[Self]) -> Self {
        let (x, y) = points
            .iter()
            .fold((0.0, 0.0), |(x, y), p| (x + p.x, y + p.y));
        let n = points.len() as f64;
        Self::new(x / n, y / n)
    }

    /// The distance to another point.
    pub fn distance(self, other: Self) -> f64 {
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        sqrt_f64(dx * dx + dy * dy)
    }
}

/// The transform x' = a·x - b·y + tx, y' = b·x + a·y + ty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    /// Scale times the cosine of the rotation.
    pub a: f64,
    /// Scale times the sine of the rotation.
    pub b: f64,
    /// Shift to the right.
    pub tx: f64,
    /// Shift down.
    pub ty: f64,
}

impl Similarity {
    /// The transform that changes nothing.
    pub const IDENTITY: Self = Self::new(1.0, 0.0, 0.0, 0.0);

    /// The transform with these coefficients.
    pub const fn new(a: f64, b: f64, tx: f64, ty: f64) -> Self {
        Self { a, b, tx, ty }
    }

    /// The transform onto `to` from `from` with OpenCV's least median of squares
    /// (`estimateAffinePartial2D(from, to, LMEDS)` with its default confidence 0.99): the same
    /// random pairs, the same inliers, then least squares over the inliers.
    ///
    /// At most [`MAX_POINTS`] pairs of points; like OpenCV it sees them in single precision.
    ///
    /// # Errors
    /// When the points cannot carry a similarity transform; see [`FitError`].
    pub fn least_median(from: &[Point], to: &[Point]) -> Result<Self, FitError> {
        check(from, to)?;
        let n = from.len();
        let mut pairs = [Pair::default(); MAX_POINTS];
        for ((pair, f), t) in pairs.iter_mut().zip(from).zip(to) {
            *pair = Pair {
                from: [f.x as f32, f.y as f32],
                to: [t.x as f32, t.y as f32],
            };
        }
        let pairs = &mut pairs[..n];
        if n == 2 {
            return Self::through(pairs[0], pairs[1]).checked();
        }

        let mut rng = OpencvRng::default();
        let mut best = None;
        let mut least = f32::INFINITY;
        for _ in 0..LMEDS_ROUNDS {
            let first = rng.below(n);
            let second = loop {
                let index = rng.below(n);
                if index != first {
                    break index;
                }
            };
            let candidate = Self::through(pairs[first], pairs[second]);
            let median = candidate.median_error(pairs);
            // Coincident points give NaN, which is never less.
            if median < least {
                least = median;
                best = Some(candidate);
            }
        }
        let best = best.ok_or(FitError::Coincident)?;

        let sigma = 2.5 * 1.4826 * (1.0 + 5.0 / (n as f64 - 2.0)) * sqrt_f64(f64::from(least));
        let sigma = sigma.max(0.001);
        let limit = (sigma * sigma) as f32;
        let mut inliers = 0;
        for i in 0..n {
            if best.squared_error(&pairs[i]) <= limit {
                pairs[inliers] = pairs[i];
                inliers += 1;
            }
        }
        if inliers < 2 {
            return Err(FitError::Coincident);
        }
        least_squares(pairs[..inliers].iter().map(Pair::as_f64)).checked()
    }

    /// The transform onto `to` from `from` with the least sum of squared distances.
    ///
    /// # Errors
    /// When the points cannot carry a similarity transform; see [`FitError`].
    pub fn least_squares(from: &[Point], to: &[Point]) -> Result<Self, FitError> {
        check(from, to)?;
        least_squares(from.iter().copied().zip(to.iter().copied())).checked()
    }

    /// Where a point goes.
    pub fn apply(&self, p: Point) -> Point {
        Point::new(
            self.a * p.x - self.b * p.y + self.tx,
            self.b * p.x + self.a * p.y + self.ty,
        )
    }

    /// Where some points go.
    pub fn apply_all<const N: usize>(&self, points: &[Point; N]) -> [Point; N] {
        points.map(|p| self.apply(p))
    }

    /// This transform, then another.
    pub fn then(&self, next: &Self) -> Self {
        let shift = next.apply(Point::new(self.tx, self.ty));
        Self {
            a: next.a * self.a - next.b * self.b,
            b: next.b * self.a + next.a * self.b,
            tx: shift.x,
            ty: shift.y,
        }
    }

    /// The transform back; coefficients are not finite where the scale is 0.
    pub fn inverse(&self) -> Self {
        let d = 1.0 / (self.a * self.a + self.b * self.b);
        let (a, b) = (self.a * d, -self.b * d);
        Self {
            a,
            b,
            tx: -(a * self.tx - b * self.ty),
            ty: -(b * self.tx + a * self.ty),
        }
    }

    /// The factor by which lengths grow.
    pub fn scale(&self) -> f64 {
        sqrt_f64(self.a * self.a + self.b * self.b)
    }

    /// The 2x3 matrix, row by row, as OpenCV has it.
    pub const fn matrix(&self) -> [[f64; 3]; 2] {
        [[self.a, -self.b, self.tx], [self.b, self.a, self.ty]]
    }

    /// The exact transform through two pairs (OpenCV's `AffinePartial2DEstimatorCallback`); not
    /// finite where the two source points coincide.
    fn through(p: Pair, q: Pair) -> Self {
        let (Point { x: x1, y: y1 }, Point { x: u1, y: v1 }) = p.as_f64();
        let (Point { x: x2, y: y2 }, Point { x: u2, y: v2 }) = q.as_f64();
        let (dx, dy, du, dv) = (x1 - x2, y1 - y2, u1 - u2, v1 - v2);
        let cross = x1 * y2 - x2 * y1;
        let d = 1.0 / (dx * dx + dy * dy);
        Self {
            a: d * (du * dx + dv * dy),
            b: d * (dv * dx - du * dy),
            tx: d * (dv * cross - (u1 * y2 - u2 * y1) * dy - (u1 * x2 - u2 * x1) * dx),
            ty: d * (-du * cross - (v1 * x2 - v2 * x1) * dx - (v1 * y2 - v2 * y1) * dy),
        }
    }

    /// The squared distance by which a pair is missed, in single precision as OpenCV computes it.
    fn squared_error(&self, pair: &Pair) -> f32 {
        let [[m0, m1, m2], [m3, m4, m5]] = self.matrix().map(|row| row.map(|m| m as f32));
        let ([x, y], [u, v]) = (pair.from, pair.to);
        let dx = m0 * x + m1 * y + m2 - u;
        let dy = m3 * x + m4 * y + m5 - v;
        dx * dx + dy * dy
    }

    /// The element of rank n/2 of the squared errors; NaN where any of them is.
    fn median_error(&self, pairs: &[Pair]) -> f32 {
        let mut errors = [0.0; MAX_POINTS];
        let errors = &mut errors[..pairs.len()];
        for (error, pair) in errors.iter_mut().zip(pairs) {
            *error = self.squared_error(pair);
            if error.is_nan() {
                return f32::NAN;
            }
        }
        errors.sort_unstable_by(f32::total_cmp);
        errors[pairs.len() / 2]
    }

    fn checked(self) -> Result<Self, FitError> {
        let s = self.a * self.a + self.b * self.b;
        let finite = s.is_finite() && self.tx.is_finite() && self.ty.is_finite();
        if finite && s > 0.0 {
            Ok(self)
        } else {
            Err(FitError::Coincident)
        }
    }
}

/// The most pairs of points that [`Similarity::least_median`] takes.
pub const MAX_POINTS: usize = 68;

/// Why no similarity transform fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FitError {
    /// Fewer than 2 pairs, more than [`MAX_POINTS`], or lists of different lengths.
    Count,
    /// A coordinate is infinite or NaN.
    NotFinite,
    /// The points lie on one spot, or so do their targets.
    Coincident,
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "a similarity needs 2 to 68 pairs of points; give as many of each",
            Self::NotFinite => "a landmark is not a finite number; run the face detector again",
            Self::Coincident => "the landmarks lie on one spot; run the face detector again",
        })
    }
}

impl core::error::Error for FitError {}

/// Rounds for 99 % confidence with 45 % outliers and 2 points a model:
/// round(ln(1 - 0.99) / ln(1 - (1 - 0.45)²)), OpenCV's `RANSACUpdateNumIters`.
const LMEDS_ROUNDS: usize = 13;

#[derive(Clone, Copy, Default)]
struct Pair {
    from: [f32; 2],
    to: [f32; 2],
}

impl Pair {
    fn as_f64(&self) -> (Point, Point) {
        let point = |[x, y]: [f32; 2]| Point::new(f64::from(x), f64::from(y));
        (point(self.from), point(self.to))
    }
}

/// `cv::RNG((uint64)-1)`: multiply with carry.
struct OpencvRng(u64);

impl Default for OpencvRng {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl OpencvRng {
    fn below(&mut self, n: usize) -> usize {
        const FACTOR: u64 = 4_164_903_690;
        self.0 = (self.0 & 0xffff_ffff) * FACTOR + (self.0 >> 32);
        (self.0 as u32 as usize) % n
    }
}

fn check(from: &[Point], to: &[Point]) -> Result<(), FitError> {
    if from.len() != to.len() || !(2..=MAX_POINTS).contains(&from.len()) {
        return Err(FitError::Count);
    }
    let finite = |p: &Point| p.x.is_finite() && p.y.is_finite();
    if from.iter().chain(to).all(finite) {
        Ok(())
    } else {
        Err(FitError::NotFinite)
    }
}

/// The closed form about the means; not finite where the source points coincide.
fn least_squares(pairs: impl Iterator<Item = (Point, Point)> + Clone) -> Similarity {
    let mut n = 0.0;
    let (mut from, mut to) = (Point::default(), Point::default());
    for (f, t) in pairs.clone() {
        n += 1.0;
        from = Point::new(from.x + f.x, from.y + f.y);
        to = Point::new(to.x + t.x, to.y + t.y);
    }
    let from = Point::new(from.x / n, from.y / n);
    let to = Point::new(to.x / n, to.y / n);
    let (mut along, mut across, mut spread) = (0.0, 0.0, 0.0);
    for (f, t) in pairs {
        let (x, y, u, v) = (f.x - from.x, f.y - from.y, t.x - to.x, t.y - to.y);
        along += x * u + y * v;
        across += x * v - y * u;
        spread += x * x + y * y;
    }
    let (a, b) = (along / spread, across / spread);
    Similarity {
        a,
        b,
        tx: to.x - (a * from.x - b * from.y),
        ty: to.y - (b * from.x + a * from.y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [Point; 4] = [
        Point::new(10.0, 20.0),
        Point::new(60.0, 18.0),
        Point::new(36.0, 50.0),
        Point::new(34.0, 77.0),
    ];

    fn close(a: Similarity, b: Similarity) -> bool {
        let d = [a.a - b.a, a.b - b.b, a.tx - b.tx, a.ty - b.ty];
        d.iter().all(|d| d.abs() < 1e-5)
    }

    #[test]
    fn both_estimators_find_an_exact_transform() {
        let truth = Similarity::new(1.25, -0.5, 30.0, -12.5);
        let to = truth.apply_all(&POINTS);
        assert!(close(
            Similarity::least_squares(&POINTS, &to).unwrap(),
            truth
        ));
        assert!(close(
            Similarity::least_median(&POINTS, &to).unwrap(),
            truth
        ));
        let two = Similarity::least_median(&POINTS[..2], &to[..2]).unwrap();
        assert!(close(two, truth));
    }

    #[test]
    fn least_median_ignores_one_outlier() {
        let truth = Similarity::new(0.75, 0.25, -4.0, 8.0);
        let mut to = truth.apply_all(&POINTS);
        to[2].x += 40.0;
        assert!(close(
            Similarity::least_median(&POINTS, &to).unwrap(),
            truth
        ));
        assert!(!close(
            Similarity::least_squares(&POINTS, &to).unwrap(),
            truth
        ));
    }

    #[test]
    fn the_round_count_is_opencvs() {
        let rounds = (0.01f64).ln() / (1.0 - 0.55f64 * 0.55).ln();
        assert_eq!(rounds.round_ties_even() as usize, LMEDS_ROUNDS);
    }

    #[test]
    fn composition_and_inverse_agree() {
        let s = Similarity::new(0.9, 0.3, 5.0, -7.0);
        let t = Similarity::new(2.0, -1.0, 1.0, 4.0);
        let p = Point::new(3.0, 11.0);
        let (q, r) = (s.then(&t).apply(p), t.apply(s.apply(p)));
        assert!(q.distance(r) < 1e-12);
        assert!(close(s.then(&s.inverse()), Similarity::IDENTITY));
        assert!((t.scale() - 5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn unusable_points_are_refused() {
        let spot = [Point::new(3.0, 3.0); 4];
        for fit in [Similarity::least_median, Similarity::least_squares] {
            assert_eq!(fit(&spot, &POINTS), Err(FitError::Coincident));
            assert_eq!(fit(&POINTS, &spot), Err(FitError::Coincident));
            assert_eq!(fit(&POINTS[..1], &POINTS[..1]), Err(FitError::Count));
            assert_eq!(fit(&POINTS, &POINTS[..3]), Err(FitError::Count));
            let mut bad = POINTS;
            bad[1].y = f64::NAN;
            assert_eq!(fit(&bad, &POINTS), Err(FitError::NotFinite));
        }
    }
}
