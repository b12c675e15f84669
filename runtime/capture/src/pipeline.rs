//! From a source of frames to mouth crops at the model's rate, one at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use viseme_engine::preprocess::clock::{FrameClock, Ticks};
use viseme_engine::preprocess::warp::blend;

use crate::cropper::{Cropper, Patch, Region, SourceCrop, TrackedCropper};
use crate::source::FrameSource;
use crate::tracker::{DetectorFile, Tracker, TrackerOptions};
use crate::{Error, Frame};

/// Number of the preprocessing: crops made by different versions may differ. Caches are keyed by it.
pub const VERSION: u32 = 2;

/// What crops are wanted.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Crops a second: the rate of the model.
    pub fps: f32,
    /// Half window of the landmark smoothing, in frames.
    pub smooth: usize,
    /// How the face is followed.
    pub tracker: TrackerOptions,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        PipelineOptions {
            fps: 25.0,
            smooth: 2,
            tracker: TrackerOptions::default(),
        }
    }
}

/// Where the mouth is to be looked for.
#[derive(Clone, Copy)]
pub enum Mouth<'m> {
    /// In a face that this detector finds.
    Detect(&'m DetectorFile),
    /// In the region x, y, width, height, in pixels of the source's pictures as they are, before any averaging down.
    Region([f32; 4]),
}

/// A mouth as the models read it: 96x96 grey values around the mouth of a face turned upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MouthCrop {
    /// When, in microseconds of the source's time.
    pub timestamp_us: u64,
    /// Grey values, row by row.
    pub pixels: Box<Patch>,
    /// Whether the face was found, rather than guessed from earlier and later frames.
    pub tracked: bool,
    /// Whether the source paused before this crop.
    pub after_gap: bool,
}

/// What a pipeline has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames read from the source.
    pub source_frames: u64,
    /// Crops handed out.
    pub frames: u64,
    /// Of these, with a face that was found.
    pub tracked_frames: u64,
    /// When the last crop ends, in microseconds of the source's time; 0 before the first.
    pub end_us: u64,
    /// The most faces that were there at the same time; 0 where none was looked for.
    pub faces_seen: usize,
}

/// Turns a source into mouth crops.
///
/// An iterator: each step reads as many frames as it takes to settle the next crop, at most a few seconds of them.
/// Only frames that end in a crop are tracked: one in ten at 240 frames a second. After an error it ends.
pub struct Pipeline<'m> {
    source: Box<dyn FrameSource + 'm>,
    clock: FrameClock,
    /// How long a crop lasts.
    period_us: u64,
    cropper: Cropper<'m>,
    last: Option<Taken>,
    /// Crops to be made, in order.
    planned: VecDeque<Planned>,
    sent: u64,
    /// What the cropper has made of the frames from number `first_crop` on.
    crops: VecDeque<Option<SourceCrop>>,
    first_crop: u64,
    /// Whether the source is at its end.
    ended: bool,
    /// Whether there is nothing more to hand out, the last word having been said.
    done: bool,
    summary: Summary,
}

/// A frame of the source, with its number among the frames that were sent to the cropper, if it was.
struct Taken {
    frame: Arc<Frame>,
    sent_as: Option<u64>,
}

/// A crop to be made of one or two frames, named by their numbers at the cropper.
struct Planned {
    timestamp_us: u64,
    before: u64,
    after: u64,
    weight: f32,
    after_gap: bool,
}

impl<'m> Pipeline<'m> {
    /// Crops of the mouth in `source`.
    ///
    /// # Errors
    /// If the detector, the region or an option is not usable.
    pub fn new(
        source: Box<dyn FrameSource + 'm>,
        mouth: Mouth<'m>,
        options: &PipelineOptions,
    ) -> Result<Self, Error> {
        let cropper = match mouth {
            Mouth::Region(bounds) => Cropper::Fixed(Region::new(bounds)?),
            Mouth::Detect(file) => {
                let tracker = Tracker::new(file, &options.tracker)?;
                Cropper::Tracked(Box::new(TrackedCropper::new(tracker, options.smooth)?))
            }
        };
        Ok(Pipeline {
            source,
            clock: FrameClock::new(options.fps).map_err(|e| Error::Setting(e.to_string()))?,
            period_us: (1e6 / f64::from(options.fps)).round() as u64,
            cropper,
            last: None,
            planned: VecDeque::new(),
            sent: 0,
            crops: VecDeque::new(),
            first_crop: 0,
            ended: false,
            done: false,
            summary: Summary::default(),
        })
    }

    /// What was seen so far.
    pub fn summary(&self) -> Summary {
        Summary {
            faces_seen: self.cropper.faces_seen(),
            ..self.summary
        }
    }

    /// What is wrong with the source though it was read, in a few words; known at its end.
    pub fn damage(&self) -> Option<&str> {
        self.source.damage()
    }

    fn advance(&mut self) -> Result<Option<MouthCrop>, Error> {
        loop {
            if let Some(crop) = self.make_planned() {
                self.summary.frames += 1;
                self.summary.tracked_frames += u64::from(crop.tracked);
                self.summary.end_us = crop.timestamp_us.saturating_add(self.period_us);
                return Ok(Some(crop));
            }
            if self.ended {
                return match self.summary.frames {
                    0 => Err(Error::NoFace(
                        self.source.name().into(),
                        self.summary.source_frames,
                    )),
                    _ => Ok(None),
                };
            }
            self.read_frame()?;
        }
    }

    fn read_frame(&mut self) -> Result<(), Error> {
        let mut frame = Frame::default();
        if !self.source.read(&mut frame)? {
            let ticks = self.clock.finish();
            self.plan(ticks, None)?;
            self.cropper.finish(&mut self.crops);
            self.ended = true;
            return Ok(());
        }
        self.summary.source_frames += 1;
        // A frame that comes out of order says nothing about now.
        let Ok(ticks) = self.clock.push(frame.timestamp_us) else {
            return Ok(());
        };
        self.plan(ticks, Some(frame))
    }

    /// Sends the frames that `ticks` need to the cropper and notes the crops to be made of them. Without a new frame
    /// the ticks are made of the last one.
    fn plan(&mut self, ticks: Ticks, frame: Option<Frame>) -> Result<(), Error> {
        let mut before = self.last.take();
        let mut after = match frame {
            Some(frame) => Taken {
                frame: Arc::new(frame),
                sent_as: None,
            },
            None => match before.take() {
                Some(last) => last,
                None => return Ok(()),
            },
        };
        for tick in ticks {
            let mut numbers = [None; 2];
            // In the order of time: the one before goes first.
            if tick.weight < 1.0
                && let Some(before) = &mut before
            {
                numbers[0] = Some(self.send(before)?);
            }
            if tick.weight > 0.0 || numbers[0].is_none() {
                numbers[1] = Some(self.send(&mut after)?);
            }
            let [first, second] = numbers;
            let (Some(first), Some(second)) = (first.or(second), second.or(first)) else {
                continue;
            };
            self.planned.push_back(Planned {
                timestamp_us: tick.time_us,
                before: first,
                after: second,
                weight: tick.weight,
                after_gap: tick.after_gap,
            });
        }
        self.last = Some(after);
        Ok(())
    }

    fn send(&mut self, taken: &mut Taken) -> Result<u64, Error> {
        if let Some(number) = taken.sent_as {
            return Ok(number);
        }
        let number = self.sent;
        self.sent += 1;
        taken.sent_as = Some(number);
        self.cropper.push(taken.frame.clone(), &mut self.crops)?;
        Ok(number)
    }

    /// Makes the next planned crop, if its frames have come out of the cropper.
    fn make_planned(&mut self) -> Option<MouthCrop> {
        loop {
            let plan = self.planned.front()?;
            if plan.after >= self.first_crop + self.crops.len() as u64 {
                return None;
            }
            let plan = self.planned.pop_front()?;
            // Frames before those of this crop are not needed again.
            let done = (plan.before - self.first_crop) as usize;
            self.crops.drain(..done);
            self.first_crop = plan.before;
            let after = (plan.after - plan.before) as usize;
            let (Some(before), Some(after)) = (&self.crops[0], &self.crops[after]) else {
                // Nothing is known of this mouth: the stream starts later.
                continue;
            };
            let mut pixels = before.pixels.clone();
            if plan.before != plan.after {
                blend(
                    &before.pixels[..],
                    &after.pixels[..],
                    plan.weight,
                    &mut pixels[..],
                );
            }
            let nearest = if plan.weight < 0.5 { before } else { after };
            return Some(MouthCrop {
                timestamp_us: plan.timestamp_us,
                pixels,
                tracked: nearest.tracked,
                after_gap: plan.after_gap,
            });
        }
    }
}

impl Iterator for Pipeline<'_> {
    type Item = Result<MouthCrop, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.advance().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}
