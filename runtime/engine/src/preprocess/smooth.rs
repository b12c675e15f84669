//! Landmarks over time: frames without a face filled in, and jitter averaged away.
//!
//! Auto-AVSR's rules (`preparation/detectors/*/video_process.py`): missing frames between two known
//! ones are interpolated linearly, leading and trailing ones are copies; each frame's landmarks
//! become the mean over the frames within `min(half, i, T-1-i)` of it, moved back to that frame's
//! own mean, so that smoothing steadies the shape and not the position.
//!
//! [`fill_missing`] and [`smoothed`] work on a whole clip, [`Smoother`] on a stream with a delay of
//! `half` frames, to the same bits.

use core::fmt;

use super::similarity::Point;

/// The largest half window of a [`Smoother`], in frames.
pub const MAX_HALF: usize = 12;

/// Fills frames without landmarks, in place. False, and nothing changed, where no frame has any.
pub fn fill_missing<const N: usize>(clip: &mut [Option<[Point; N]>]) -> bool {
    let Some(first) = clip.iter().position(Option::is_some) else {
        return false;
    };
    let start = clip[first];
    clip[..first].fill(start);
    let mut known = first;
    for i in first + 1..clip.len() {
        let (Some(from), Some(to)) = (clip[known], clip[i]) else {
            continue;
        };
        for (step, missing) in clip[known + 1..i].iter_mut().enumerate() {
            *missing = Some(between(&from, &to, step + 1, i - known));
        }
        known = i;
    }
    let end = clip[known];
    clip[known..].fill(end);
    true
}

/// The landmarks of frame `i`, smoothed over up to `half` frames on each side.
///
/// # Panics
/// When the clip has no frame `i`.
pub fn smoothed<const N: usize>(clip: &[[Point; N]], i: usize, half: usize) -> [Point; N] {
    let margin = half.min(i).min(clip.len() - 1 - i);
    recentred_mean(clip[i - margin..=i + margin].iter(), &clip[i])
}

/// Smooths a stream of landmarks with a delay of `half` frames.
///
/// Frames come back in order, each exactly once: frame `i` with the push of frame
/// `i + min(half, i)`, or at [`finish`](Self::finish). Where landmarks are missing, the frames wait
/// for the next known ones, however long that takes ([`pending`](Self::pending) tells), in constant
/// memory.
#[derive(Clone, Debug)]
pub struct Smoother<const N: usize> {
    half: usize,
    ring: [[Point; N]; RING],
    /// Frames with landmarks so far, given or filled in.
    filled: usize,
    /// Frames after those, still without.
    missing: usize,
    /// Frames handed out.
    emitted: usize,
}

const RING: usize = 2 * MAX_HALF + 1;

impl<const N: usize> Smoother<N> {
    /// A smoother over up to `half` frames on each side; 0 passes landmarks through.
    ///
    /// # Errors
    /// When `half` is above [`MAX_HALF`].
    pub fn new(half: usize) -> Result<Self, WindowError> {
        if half > MAX_HALF {
            return Err(WindowError { half });
        }
        Ok(Self {
            half,
            ring: [[Point::default(); N]; RING],
            filled: 0,
            missing: 0,
            emitted: 0,
        })
    }

    /// Takes the next frame's landmarks, or `None` where no face was found, and hands every frame
    /// that is now ready to `ready`: its number from 0 and its smoothed landmarks.
    pub fn push(
        &mut self,
        landmarks: Option<&[Point; N]>,
        mut ready: impl FnMut(usize, &[Point; N]),
    ) {
        let Some(landmarks) = landmarks else {
            self.missing += 1;
            return;
        };
        let missing = core::mem::take(&mut self.missing);
        // Before the first known frame, all frames are copies of it.
        let from = match self.filled {
            0 => *landmarks,
            n => self.ring[(n - 1) % RING],
        };
        for step in 1..=missing {
            self.append(&between(&from, landmarks, step, missing + 1), &mut ready);
        }
        self.append(landmarks, &mut ready);
    }

    /// Ends the stream: hands out the frames that remain and starts again from frame 0. Hands out
    /// nothing where no frame had landmarks.
    pub fn finish(&mut self, mut ready: impl FnMut(usize, &[Point; N])) {
        if self.filled > 0 {
            let last = self.ring[(self.filled - 1) % RING];
            for _ in 0..core::mem::take(&mut self.missing) {
                self.append(&last, &mut ready);
            }
            while self.emitted < self.filled {
                let margin = self.half.min(self.emitted);
                self.emit(margin.min(self.filled - 1 - self.emitted), &mut ready);
            }
        }
        self.reset();
    }

    /// Forgets everything: the next frame is frame 0.
    pub fn reset(&mut self) {
        (self.filled, self.missing, self.emitted) = (0, 0, 0);
    }

    /// How many frames were pushed and not handed out yet.
    pub fn pending(&self) -> usize {
        self.filled + self.missing - self.emitted
    }

    fn append(&mut self, landmarks: &[Point; N], ready: &mut impl FnMut(usize, &[Point; N])) {
        self.ring[self.filled % RING] = *landmarks;
        self.filled += 1;
        let margin = self.half.min(self.emitted);
        if self.emitted + margin < self.filled {
            self.emit(margin, ready);
        }
    }

    fn emit(&mut self, margin: usize, ready: &mut impl FnMut(usize, &[Point; N])) {
        let i = self.emitted;
        let window = (i - margin..=i + margin).map(|k| &self.ring[k % RING]);
        let landmarks = recentred_mean(window, &self.ring[i % RING]);
        self.emitted += 1;
        ready(i, &landmarks);
    }
}

/// A smoothing window above [`MAX_HALF`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowError {
    /// The half window asked for, in frames.
    pub half: usize,
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "smoothing over {} frames on each side is too much; use at most {MAX_HALF}",
            self.half
        )
    }
}

impl core::error::Error for WindowError {}

fn between<const N: usize>(
    from: &[Point; N],
    to: &[Point; N],
    step: usize,
    steps: usize,
) -> [Point; N] {
    let part = step as f64 / steps as f64;
    core::array::from_fn(|p| {
        Point::new(
            from[p].x + part * (to[p].x - from[p].x),
            from[p].y + part * (to[p].y - from[p].y),
        )
    })
}

/// The mean of a window, moved so that its centre is that of the frame in the middle.
fn recentred_mean<'a, const N: usize>(
    window: impl Iterator<Item = &'a [Point; N]>,
    frame: &[Point; N],
) -> [Point; N] {
    let mut n = 0.0;
    let mut mean = [Point::default(); N];
    for landmarks in window {
        n += 1.0;
        for (sum, p) in mean.iter_mut().zip(landmarks) {
            *sum = Point::new(sum.x + p.x, sum.y + p.y);
        }
    }
    let mean = mean.map(|sum| Point::new(sum.x / n, sum.y / n));
    let (own, other) = (Point::mean(frame), Point::mean(&mean));
    let (dx, dy) = (own.x - other.x, own.y - other.y);
    mean.map(|p| Point::new(p.x + dx, p.y + dy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    type Landmarks = [Point; 2];

    /// Something that wiggles, two points a frame.
    fn clip(frames: usize) -> Vec<Landmarks> {
        (0..frames as u32)
            .map(|t| {
                let wiggle = f64::from((t * 7919) % 13) / 3.0;
                let x = f64::from(t) * 1.1 + wiggle;
                [Point::new(x, wiggle), Point::new(x + 30.0 - wiggle, 4.0)]
            })
            .collect()
    }

    fn stream(clip: &[Option<Landmarks>], half: usize) -> Vec<Landmarks> {
        let mut out = Vec::new();
        let mut smoother = Smoother::new(half).unwrap();
        let mut keep = |i, l: &Landmarks| {
            assert_eq!(i, out.len());
            out.push(*l);
        };
        for landmarks in clip {
            smoother.push(landmarks.as_ref(), &mut keep);
        }
        smoother.finish(&mut keep);
        assert_eq!(smoother.pending(), 0);
        out
    }

    fn offline(clip: &[Option<Landmarks>], half: usize) -> Vec<Landmarks> {
        let mut clip = clip.to_vec();
        if !fill_missing(&mut clip) {
            return Vec::new();
        }
        let clip: Vec<_> = clip.into_iter().map(Option::unwrap).collect();
        (0..clip.len()).map(|i| smoothed(&clip, i, half)).collect()
    }

    #[test]
    fn streaming_equals_offline_to_the_bit() {
        for frames in [0, 1, 2, 3, 12, 13, 14, 60] {
            for half in [0, 1, 6, MAX_HALF] {
                let full: Vec<_> = clip(frames).into_iter().map(Some).collect();
                assert_eq!(stream(&full, half), offline(&full, half));
                let mut gaps = full.clone();
                for (i, landmarks) in gaps.iter_mut().enumerate() {
                    if i < 2 || i % 5 == 3 || (20..50).contains(&i) || i + 2 > frames {
                        *landmarks = None;
                    }
                }
                assert_eq!(stream(&gaps, half), offline(&gaps, half), "{frames} {half}");
            }
        }
    }

    #[test]
    fn the_delay_is_the_half_window() {
        let mut smoother = Smoother::new(3).unwrap();
        let mut done = 0;
        for (i, landmarks) in clip(20).iter().enumerate() {
            smoother.push(Some(landmarks), |_, _| done += 1);
            assert_eq!(done, if i < 6 { i / 2 + 1 } else { i - 2 });
        }
        smoother.reset();
        assert_eq!(smoother.pending(), 0);
    }

    #[test]
    fn straight_motion_is_not_changed() {
        let line: Vec<Landmarks> = (0..9)
            .map(|t| {
                [
                    Point::new(f64::from(t), 1.0),
                    Point::new(f64::from(t) + 4.0, 1.0),
                ]
            })
            .collect();
        for i in 0..9 {
            assert_eq!(smoothed(&line, i, 3), line[i]);
        }
    }

    #[test]
    fn gaps_are_straight_and_ends_are_copies() {
        let at = |x: f64| [Point::new(x, 2.0 * x); 1];
        let mut clip = [None, Some(at(1.0)), None, None, None, Some(at(5.0)), None];
        assert!(fill_missing(&mut clip));
        let filled = [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0].map(|x| Some(at(x)));
        assert_eq!(clip, filled);
        assert!(!fill_missing::<1>(&mut [None, None]));
        assert!(!fill_missing::<1>(&mut []));
    }

    #[test]
    fn too_wide_a_window_is_refused() {
        assert_eq!(
            Smoother::<4>::new(13).unwrap_err(),
            WindowError { half: 13 }
        );
    }
}
