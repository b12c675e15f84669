//! From the source's frames to the model's, by time.
//!
//! A model reads, say, 25 frames a second. The source may give 16 or 240, with jitter, stall, or set
//! its clock back. [`FrameClock`] lays ticks at k / fps seconds after the first frame and says for
//! each which source frames to use: the nearest one where the source is as fast as the model, a
//! blend of the two neighbours where it is slower. Frames are never merely counted, since that
//! would change the speed of the lips.

use core::fmt;

/// Says for every tick of a fixed rate which source frames make it. Streams; a tick comes with the
/// first source frame that is not before it.
#[derive(Clone, Debug)]
pub struct FrameClock {
    /// Microseconds between ticks.
    period: f64,
    /// Frames pushed so far, refused ones included.
    pushed: u64,
    /// The next tick to come.
    next: u64,
    first: Option<u64>,
    last: Frame,
    intervals: [u64; INTERVALS],
    measured: usize,
    /// A gap came, and no tick with a frame after it yet.
    gap: bool,
}

/// One frame of the model, made of one or two frames of the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// Its number: the model's frame at `index / fps` seconds after the first source frame.
    pub index: u64,
    /// Its time on the source's clock, in microseconds.
    pub time_us: u64,
    /// The source frame at or before it, as the number of the push, from 0.
    pub before: u64,
    /// The source frame at or after it: the one just pushed (the last one, at the end).
    pub after: u64,
    /// How much of `after` to use; the rest is of `before`. Exactly 0 or 1 where one frame does.
    pub weight: f32,
    /// Whether the source paused or restarted before this tick: what was said is over.
    pub after_gap: bool,
}

impl FrameClock {
    /// A clock of `fps` ticks a second.
    ///
    /// # Errors
    /// When `fps` is not within 1 to 1000.
    pub fn new(fps: f32) -> Result<Self, RateError> {
        if !(1.0..=1000.0).contains(&fps) {
            return Err(RateError { fps });
        }
        Ok(Self {
            period: 1e6 / f64::from(fps),
            pushed: 0,
            next: 0,
            first: None,
            last: Frame::default(),
            intervals: [0; INTERVALS],
            measured: 0,
            gap: false,
        })
    }

    /// Takes the next source frame's timestamp in microseconds and gives the ticks up to it. All of
    /// them are made of this frame and the last accepted one, so a caller keeps two frames.
    ///
    /// A timestamp a second or more in the past restarts the source's clock: the frame counts as
    /// one ordinary interval after the last one. After a pause of more than half a second (or four
    /// ordinary intervals, if that is longer, but never more than two seconds, which the first
    /// interval may be), the ticks within the pause are left out.
    ///
    /// # Errors
    /// When the timestamp is not after the last one: the frame is to be dropped.
    pub fn push(&mut self, timestamp_us: u64) -> Result<Ticks, OutOfOrder> {
        let number = self.pushed;
        self.pushed += 1;
        let Some(first) = self.first else {
            self.first = Some(timestamp_us);
            self.last = Frame {
                number,
                timestamp: timestamp_us,
                time: 0,
            };
            return Ok(self.hold(0.0));
        };

        let before = self.last;
        let restart = timestamp_us <= before.timestamp;
        if restart && before.timestamp - timestamp_us < RESTART_US {
            return Err(OutOfOrder {
                timestamp_us,
                last_us: before.timestamp,
            });
        }
        let ordinary = self.interval();
        let interval = if restart {
            ordinary.unwrap_or(self.period as u64)
        } else {
            timestamp_us - before.timestamp
        };
        let time = before.time.saturating_add(interval);
        self.last = Frame {
            number,
            timestamp: timestamp_us,
            time,
        };
        if !restart {
            self.intervals[self.measured % INTERVALS] = interval;
            self.measured += 1;
        }

        // The first interval has no others to be longer than: it may be the source's rate.
        let usual = ordinary.map_or(LONGEST_PAUSE_US, |usual| usual.saturating_mul(4));
        let pause = interval > usual.clamp(PAUSE_US, LONGEST_PAUSE_US);
        let slow = self
            .interval()
            .is_some_and(|i| i as f64 * SLOW > self.period);
        let (start, end) = (self.next, self.ticks_until(time as f64));
        // In a pause only ticks within half a period of a frame are made.
        let (skip_from, skip_to) = if pause {
            let from = self.ticks_until(before.time as f64 + self.period / 2.0);
            let to = self.ticks_until(time as f64 - self.period / 2.0);
            (from.clamp(start, end), to.clamp(start, end))
        } else {
            (end, end)
        };
        let mut flagged = None;
        if pause || restart {
            let middle = (before.time as f64 + time as f64) / 2.0;
            let new = self.ticks_until(middle).max(start);
            let new = if pause { new.max(skip_to) } else { new };
            self.gap = new >= end;
            flagged = (new < end).then_some(new);
        } else if self.gap && start < end {
            self.gap = false;
            flagged = Some(start);
        }
        self.next = end;
        Ok(Ticks {
            next: start,
            end,
            skip_from,
            skip_to,
            flagged,
            period: self.period,
            zero: first,
            before,
            after: self.last,
            blend: slow && !pause && !restart,
        })
    }

    /// Ends the source: gives the tick that remains where the last frame came less than half an
    /// interval early, and starts again.
    pub fn finish(&mut self) -> Ticks {
        // The last frame lasts half an interval more: its own, or the model's if that is shorter.
        let interval = self.interval().map_or(self.period, |i| i as f64);
        let ticks = self.hold(interval.min(self.period) / 2.0);
        self.reset();
        ticks
    }

    /// Forgets everything: the next frame is frame 0, at tick 0.
    pub fn reset(&mut self) {
        (self.pushed, self.next, self.first) = (0, 0, None);
        (self.last, self.measured, self.gap) = (Frame::default(), 0, false);
    }

    /// Ticks up to the last frame and less than `extra` microseconds later, all made of that frame.
    fn hold(&mut self, extra: f64) -> Ticks {
        let start = self.next;
        let end = match self.first {
            Some(_) => {
                let time = self.last.time as f64;
                let until = self.ticks_until((time + extra - 1.0).max(time));
                until.max(start)
            }
            None => start,
        };
        self.next = end;
        Ticks {
            next: start,
            end,
            skip_from: end,
            skip_to: end,
            flagged: (self.gap && start < end).then_some(start),
            period: self.period,
            zero: self.first.unwrap_or(0),
            before: self.last,
            after: self.last,
            blend: false,
        }
    }

    /// How many ticks there are from the first one to `time`, that included.
    fn ticks_until(&self, time: f64) -> u64 {
        if time < 0.0 {
            return 0;
        }
        let mut k = (time / self.period) as u64;
        // The division may round to either side of a tick.
        while k > 0 && k as f64 * self.period > time {
            k -= 1;
        }
        while k as f64 * self.period <= time {
            k += 1;
        }
        k
    }

    /// The source's ordinary interval: the mean of the recent ones but for the pauses among them.
    fn interval(&self) -> Option<u64> {
        let n = self.measured.min(INTERVALS);
        if n == 0 {
            return None;
        }
        let mut sorted = self.intervals;
        let sorted = &mut sorted[..n];
        sorted.sort_unstable();
        let limit = sorted[n / 2].saturating_mul(3);
        let (mut sum, mut count) = (0u64, 0);
        for &interval in sorted.iter().filter(|&&i| i <= limit) {
            sum = sum.saturating_add(interval);
            count += 1;
        }
        Some(sum / count)
    }
}

/// The ticks that a source frame completes; an iterator.
#[derive(Clone, Debug)]
pub struct Ticks {
    next: u64,
    end: u64,
    skip_from: u64,
    skip_to: u64,
    flagged: Option<u64>,
    period: f64,
    zero: u64,
    before: Frame,
    after: Frame,
    blend: bool,
}

impl Iterator for Ticks {
    type Item = Tick;

    fn next(&mut self) -> Option<Tick> {
        if self.next == self.skip_from {
            self.next = self.skip_to;
        }
        if self.next >= self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let time = index as f64 * self.period;
        let since = time - self.before.time as f64;
        let until = self.after.time as f64 - time;
        let weight = if self.before.number == self.after.number {
            1.0
        } else if self.blend {
            (since / (since + until)).clamp(0.0, 1.0) as f32
        } else if since <= until {
            0.0
        } else {
            1.0
        };
        Some(Tick {
            index,
            time_us: self.zero.saturating_add((time + 0.5) as u64),
            before: self.before.number,
            after: self.after.number,
            weight,
            after_gap: self.flagged == Some(index),
        })
    }
}

/// A frame rate that no clock has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateError {
    /// The rate asked for.
    pub fps: f32,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames a second cannot be kept; use 1 to 1000",
            self.fps
        )
    }
}

impl core::error::Error for RateError {}

/// A frame whose timestamp is not after the last one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// The frame's timestamp.
    pub timestamp_us: u64,
    /// The timestamp of the last accepted frame.
    pub last_us: u64,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the frame at {} µs comes after the one at {} µs; drop it",
            self.timestamp_us, self.last_us
        )
    }
}

impl core::error::Error for OutOfOrder {}

/// How many intervals the source's rate is measured over.
const INTERVALS: usize = 16;

/// A source slower than this part of the model's rate is blended.
const SLOW: f64 = 0.95;

/// A longer interval, in microseconds, is a pause.
const PAUSE_US: u64 = 500_000;
/// A longer interval is a pause however slow the source is, which bounds the ticks of one interval.
const LONGEST_PAUSE_US: u64 = 2_000_000;

/// A jump back this far, in microseconds, is a new start and not a frame out of order.
const RESTART_US: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    number: u64,
    /// On the source's clock, in microseconds.
    timestamp: u64,
    /// Microseconds since the first frame, never going back.
    time: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn run(fps: f32, timestamps: impl IntoIterator<Item = u64>) -> Vec<Tick> {
        let mut clock = FrameClock::new(fps).unwrap();
        let mut ticks = Vec::new();
        for timestamp in timestamps {
            ticks.extend(clock.push(timestamp).into_iter().flatten());
        }
        ticks.extend(clock.finish());
        ticks
    }

    /// The source's time that a tick shows, for a source with these timestamps.
    fn shown(tick: &Tick, timestamps: &[u64]) -> f64 {
        let at = |n: u64| timestamps[n as usize] as f64;
        let w = f64::from(tick.weight);
        at(tick.before) * (1.0 - w) + at(tick.after) * w
    }

    #[test]
    fn the_same_rate_passes_every_frame_once() {
        let ticks = run(25.0, (0..75).map(|i| 1_400_000 + i * 40_000));
        assert_eq!(ticks.len(), 75);
        for (i, tick) in ticks.iter().enumerate() {
            let i = i as u64;
            assert_eq!((tick.index, tick.time_us), (i, 1_400_000 + i * 40_000));
            assert_eq!((tick.after, tick.weight), (i, 1.0));
            assert!(!tick.after_gap);
        }
    }

    #[test]
    fn jitter_below_half_a_period_passes_every_frame_once() {
        let jitter = [
            0, 9_000, 3_000, 15_000, 1_000, 12_000, 19_000, 8_000, 11_000,
        ];
        let timestamps: Vec<u64> = (0..100u64)
            .map(|i| 50_000 + i * 40_000 - if i == 0 { 0 } else { 9_500 } + jitter[i as usize % 9])
            .collect();
        let ticks = run(25.0, timestamps.iter().copied());
        assert_eq!(ticks.len(), 100);
        for (i, tick) in ticks.iter().enumerate() {
            assert_eq!(shown(tick, &timestamps), timestamps[i] as f64, "{tick:?}");
        }
    }

    #[test]
    fn faster_sources_give_the_nearest_frame() {
        for rate in [24u64, 30, 50, 60, 240] {
            let timestamps: Vec<u64> = (0..rate * 4).map(|i| i * 1_000_000 / rate).collect();
            let ticks = run(25.0, timestamps.iter().copied());
            assert!((99..=100).contains(&ticks.len()), "{rate}: {}", ticks.len());
            for tick in &ticks {
                assert!(tick.weight == 0.0 || tick.weight == 1.0);
                let off = (shown(tick, &timestamps) - tick.time_us as f64).abs();
                assert!(off <= 500_000.0 / rate as f64 + 1.0, "{rate}: {tick:?}");
            }
        }
    }

    #[test]
    fn slower_sources_are_blended_to_the_exact_time() {
        for rate in [1u64, 2, 10, 15, 16, 20] {
            let timestamps: Vec<u64> = (0..rate * 4).map(|i| i * 1_000_000 / rate).collect();
            let ticks = run(25.0, timestamps.iter().copied());
            let last = *timestamps.last().unwrap();
            assert_eq!(ticks.len() as u64, (last + 19_999) / 40_000 + 1, "{rate}");
            for tick in ticks.iter().filter(|t| t.time_us <= last) {
                let off = (shown(tick, &timestamps) - tick.time_us as f64).abs();
                assert!(off < 1.0, "{rate}: {tick:?}");
            }
        }
    }

    #[test]
    fn a_rate_that_is_no_integer_does_not_drift() {
        let timestamps: Vec<u64> = (0..30_000u64).map(|i| i * 1_001_000 / 30).collect();
        let ticks = run(29.97, timestamps.iter().copied());
        assert!(ticks.len().abs_diff(30_000) <= 1, "{}", ticks.len());
    }

    #[test]
    fn frames_out_of_order_are_refused_and_change_nothing() {
        let mut clock = FrameClock::new(25.0).unwrap();
        assert_eq!(clock.push(100_000).unwrap().count(), 1);
        assert_eq!(clock.push(180_000).unwrap().count(), 2);
        let late = OutOfOrder {
            timestamp_us: 140_000,
            last_us: 180_000,
        };
        assert_eq!(clock.push(140_000).unwrap_err(), late);
        assert!(clock.push(180_000).is_err());
        let next: Vec<Tick> = clock.push(220_000).unwrap().collect();
        assert_eq!(next.len(), 1);
        assert_eq!((next[0].index, next[0].before, next[0].after), (3, 1, 4));
    }

    #[test]
    fn a_frame_an_hour_does_not_make_an_hour_of_ticks() {
        let hours = [0, 1, 2, 3].map(|hour| hour * 3_600_000_000);
        let ticks = run(25.0, hours);
        assert!((4..=8).contains(&ticks.len()), "{} ticks", ticks.len());
    }

    #[test]
    fn a_pause_leaves_its_ticks_out_and_is_flagged() {
        let timestamps = [0, 40_000, 80_000, 3_085_000, 3_125_000, 3_165_000];
        let ticks = run(25.0, timestamps);
        let indices: Vec<u64> = ticks.iter().map(|t| t.index).collect();
        assert_eq!(indices, [0, 1, 2, 77, 78, 79]);
        let gaps: Vec<bool> = ticks.iter().map(|t| t.after_gap).collect();
        assert_eq!(gaps, [false, false, false, true, false, false]);
        let frames: Vec<f64> = ticks.iter().map(|t| shown(t, &timestamps)).collect();
        assert_eq!(frames, timestamps.map(|t| t as f64));
    }

    #[test]
    fn a_pause_is_flagged_even_when_its_first_tick_comes_later() {
        // Tick 50 is 25 ms before the frame at 2.025 s, more than half a period.
        let ticks = run(25.0, [0, 40_000, 2_025_000, 2_065_000]);
        let seen: Vec<(u64, bool)> = ticks.iter().map(|t| (t.index, t.after_gap)).collect();
        assert_eq!(seen, [(0, false), (1, false), (51, true), (52, false)]);
    }

    #[test]
    fn a_clock_set_back_goes_on_where_it_was() {
        let timestamps = [5_000_000, 5_040_000, 5_080_000, 1_000, 41_000, 81_000];
        let ticks = run(25.0, timestamps);
        let indices: Vec<u64> = ticks.iter().map(|t| t.index).collect();
        assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
        assert_eq!(ticks[3].time_us, 5_120_000);
        assert!(ticks[3].after_gap && !ticks[4].after_gap);
        assert_eq!(shown(&ticks[3], &timestamps), 1_000.0);
    }

    #[test]
    fn extreme_timestamps_give_few_ticks() {
        let mut clock = FrameClock::new(1000.0).unwrap();
        for timestamp in [0, u64::MAX, 0, u64::MAX, 1, u64::MAX / 2, u64::MAX - 1] {
            let count = clock.push(timestamp).map_or(0, Iterator::count);
            assert!(count < 2_100, "{timestamp}: {count}");
        }
        assert!(clock.finish().count() < 10);
    }

    #[test]
    fn streams_end_and_start_again() {
        let mut clock = FrameClock::new(25.0).unwrap();
        assert_eq!(clock.finish().count(), 0);
        assert_eq!(clock.push(7).unwrap().count(), 1);
        // The last frame came a little early, so its tick is still to come.
        assert_eq!(clock.push(39_990).unwrap().count(), 0);
        assert_eq!(clock.finish().count(), 1);
        assert_eq!(clock.push(0).unwrap().next().unwrap().index, 0);
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        for fps in [0.0, -25.0, f32::NAN, f32::INFINITY, 1001.0] {
            assert!(FrameClock::new(fps).is_err());
        }
    }
}
