//! A source as a worse camera would have it, for measuring what that costs.

use viseme_engine::preprocess::warp::blend;

use super::FrameSource;
use crate::{Error, Frame};

/// What is wrong with a camera.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Frames a second instead of the source's own, between the lowest and the highest; each is a mix of the source's
    /// frames around its moment.
    pub fps: Option<[f64; 2]>,
    /// Share of the frames that are lost, from 0 to 1.
    pub lost: f64,
    /// Seconds from second 1 on in which the picture stands still while time goes on.
    pub frozen_s: f64,
}

impl Faults {
    /// Whether a camera can be like that.
    ///
    /// # Errors
    /// One line: what no camera has.
    pub fn check(&self) -> Result<(), Error> {
        if let Some([low, high]) = self.fps
            && !(1.0..=1000.0).contains(&low.min(high))
        {
            return Err(Error::Setting(
                "a camera gives 1 to 1000 frames a second; give others".into(),
            ));
        }
        if !(0.0..1.0).contains(&self.lost) || !(0.0..=3600.0).contains(&self.frozen_s) {
            return Err(Error::Setting(
                "less than all frames can be lost, and a picture stand still for up to an hour; give less".into(),
            ));
        }
        Ok(())
    }

    /// Whether nothing is wrong.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// When a picture begins to stand still.
const FREEZE_AT_US: u64 = 1_000_000;

/// A source with [`Faults`]. The same seed gives the same faults.
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
    random: fastrand::Rng,
    /// The source's last two frames, the later one last.
    before: Frame,
    after: Frame,
    /// When the next frame is taken, with [`Faults::fps`].
    next_us: Option<f64>,
    ended: bool,
    frozen: Option<Vec<u8>>,
    given: u64,
}

impl<S: FrameSource> Faulty<S> {
    /// `inner` with these faults.
    ///
    /// # Errors
    /// Faults that no camera has.
    pub fn new(inner: S, faults: Faults, seed: u64) -> Result<Self, Error> {
        faults.check()?;
        Ok(Faulty {
            inner,
            faults,
            random: fastrand::Rng::with_seed(seed),
            before: Frame::default(),
            after: Frame::default(),
            next_us: None,
            ended: false,
            frozen: None,
            given: 0,
        })
    }

    /// The next frame at the rate that is asked for.
    fn resampled(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        let Some([low, high]) = self.faults.fps else {
            return self.inner.read(frame);
        };
        let next = match self.next_us {
            Some(next) => next,
            None => {
                if !self.inner.read(&mut self.after)? {
                    return Ok(false);
                }
                self.before.clone_from(&self.after);
                self.after.timestamp_us as f64
            }
        };
        while (self.after.timestamp_us as f64) < next {
            if self.ended {
                return Ok(false);
            }
            std::mem::swap(&mut self.before, &mut self.after);
            if !self.inner.read(&mut self.after)? {
                self.after.clone_from(&self.before);
                self.ended = true;
            }
        }
        let from = self.before.timestamp_us as f64;
        let length = self.after.timestamp_us as f64 - from;
        let weight = if length > 0.0 {
            (next - from) / length
        } else {
            1.0
        };
        frame.clone_from(&self.after);
        frame.timestamp_us = next as u64;
        if self.before.pixels.len() == self.after.pixels.len() {
            blend(
                &self.before.pixels,
                &self.after.pixels,
                weight as f32,
                &mut frame.pixels,
            );
        }
        let fps = low + (high - low) * self.random.f64();
        self.next_us = Some(next + 1e6 / fps);
        Ok(true)
    }
}

impl<S: FrameSource> FrameSource for Faulty<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        loop {
            if !self.resampled(frame)? {
                return Ok(false);
            }
            self.given += 1;
            // The first one stays, so that there is one.
            if self.given == 1 || self.random.f64() >= self.faults.lost {
                break;
            }
        }
        let end = FREEZE_AT_US + (1e6 * self.faults.frozen_s) as u64;
        if (FREEZE_AT_US..end).contains(&frame.timestamp_us) {
            match &self.frozen {
                Some(picture) if picture.len() == frame.pixels.len() => {
                    frame.pixels.clone_from(picture);
                }
                _ => self.frozen = Some(frame.pixels.clone()),
            }
        }
        Ok(true)
    }

    fn damage(&self) -> Option<&str> {
        self.inner.damage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flat pictures at 25 frames a second, each as grey as it is late: 1 every 40 ms.
    struct Ramp(u64);

    impl FrameSource for Ramp {
        fn name(&self) -> &str {
            "ramp"
        }

        fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
            frame.set(2, 2, &[self.0 as u8; 4]);
            frame.timestamp_us = 40_000 * self.0;
            self.0 += 1;
            Ok(self.0 <= 100)
        }
    }

    fn read(faults: Faults) -> Vec<(u64, u8)> {
        let mut source = Faulty::new(Ramp(0), faults, 7).unwrap();
        let (mut frame, mut all) = (Frame::default(), Vec::new());
        while source.read(&mut frame).unwrap() {
            assert_eq!((frame.width, frame.height), (2, 2));
            all.push((frame.timestamp_us, frame.pixels[0]));
        }
        all
    }

    #[test]
    fn without_faults_nothing_changes() {
        let all = read(Faults::default());
        assert!(
            all.iter()
                .zip(0..)
                .all(|(f, i)| *f == (40_000 * i, i as u8))
        );
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn another_rate_shows_what_is_there_at_its_moments() {
        for (fps, count) in [
            (10.0, 40),
            (16.0, 64),
            (25.0, 100),
            (30.0, 119),
            (60.0, 238),
        ] {
            let all = read(Faults {
                fps: Some([fps, fps]),
                ..Faults::default()
            });
            assert!(all.len().abs_diff(count) <= 1, "{fps}: {}", all.len());
            for (i, (time, grey)) in all.iter().enumerate() {
                let at = i as f64 * 1e6 / fps;
                assert!((*time as f64 - at).abs() < 2.0);
                assert!(
                    (f64::from(*grey) - at / 40_000.0).abs() <= 0.51,
                    "{fps} {i} {grey}"
                );
            }
        }
    }

    #[test]
    fn a_variable_rate_stays_within_its_bounds() {
        let all = read(Faults {
            fps: Some([12.0, 30.0]),
            ..Faults::default()
        });
        let gaps: Vec<u64> = all.windows(2).map(|w| w[1].0 - w[0].0).collect();
        assert!(gaps.iter().all(|gap| (33_332..=83_334).contains(gap)));
        assert!(gaps.iter().any(|gap| *gap < 40_000) && gaps.iter().any(|gap| *gap > 60_000));
    }

    #[test]
    fn frames_are_lost_and_the_picture_stands_still() {
        let all = read(Faults {
            lost: 0.3,
            ..Faults::default()
        });
        assert!((60..80).contains(&all.len()) && all[0].0 == 0);
        assert!(
            all.iter()
                .all(|(time, grey)| *time == 40_000 * u64::from(*grey))
        );
        let all = read(Faults {
            frozen_s: 0.5,
            ..Faults::default()
        });
        for (i, (time, grey)) in all.iter().enumerate() {
            let still = (25..38).contains(&i);
            assert_eq!(
                (*time, *grey),
                (40_000 * i as u64, if still { 25 } else { i as u8 })
            );
        }
    }

    #[test]
    fn impossible_faults_are_refused() {
        for faults in [
            Faults {
                fps: Some([0.0, 10.0]),
                ..Faults::default()
            },
            Faults {
                fps: Some([f64::NAN; 2]),
                ..Faults::default()
            },
            Faults {
                lost: 1.0,
                ..Faults::default()
            },
            Faults {
                frozen_s: -1.0,
                ..Faults::default()
            },
        ] {
            assert!(Faulty::new(Ramp(0), faults, 1).is_err(), "{faults:?}");
        }
    }
}
