//! Frames to mouth crops at the source's times: by following a face, or from a region that stays where it is.

use std::collections::VecDeque;
use std::sync::Arc;

use viseme_engine::preprocess::crop::{PATCH, Placement};
use viseme_engine::preprocess::mean_face::FOUR_POINTS;
use viseme_engine::preprocess::smooth::Smoother;

use crate::sampling::render;
use crate::tracker::{Landmarks, Located, Tracker};
use crate::{Error, Frame};

/// Grey values of one mouth crop, row by row.
pub type Patch = [u8; PATCH * PATCH];

/// Frames that wait for landmarks to interpolate to. In longer gaps the last ones are held.
const LONGEST_GAP: usize = 25;

/// A mouth crop of one frame of the source.
#[derive(Clone)]
pub(crate) struct SourceCrop {
    pub pixels: Box<Patch>,
    pub tracked: bool,
}

/// Cuts mouths out of frames. Every frame that goes in comes out once, in order, as a crop or as `None` if nothing is
/// known of its mouth.
pub(crate) enum Cropper<'m> {
    Tracked(Box<TrackedCropper<'m>>),
    Fixed(Region),
}

impl Cropper<'_> {
    pub fn push(
        &mut self,
        frame: Arc<Frame>,
        out: &mut VecDeque<Option<SourceCrop>>,
    ) -> Result<(), Error> {
        match self {
            Cropper::Tracked(cropper) => cropper.push(frame, out),
            Cropper::Fixed(region) => out.push_back(Some(region.crop(&frame)?)),
        }
        Ok(())
    }

    pub fn finish(&mut self, out: &mut VecDeque<Option<SourceCrop>>) {
        if let Cropper::Tracked(cropper) = self {
            cropper.finish(out);
        }
    }

    pub fn faces_seen(&self) -> usize {
        match self {
            Cropper::Tracked(cropper) => cropper.tracker.faces_seen(),
            Cropper::Fixed(_) => 0,
        }
    }
}

/// A fixed mouth region: x, y, width, height in pixels of the picture as it was before it was averaged down.
pub(crate) struct Region([f32; 4]);

impl Region {
    /// Checks that the region is one.
    pub fn new(bounds: [f32; 4]) -> Result<Self, Error> {
        let [x, y, w, h] = bounds.map(f64::from);
        match Placement::of_box(x, y, w, h) {
            Ok(_) => Ok(Region(bounds)),
            Err(error) => Err(Error::Region(error.to_string())),
        }
    }

    fn crop(&self, frame: &Frame) -> Result<SourceCrop, Error> {
        let [x, y, w, h] = self.0.map(f64::from);
        let shown = (frame.shown.0 as f64, frame.shown.1 as f64);
        if x < 0.0 || y < 0.0 || x + w > shown.0 || y + h > shown.1 {
            return Err(Error::Region(format!(
                "the mouth region {x},{y},{w},{h} reaches outside the {}x{} picture; give x,y,width,height inside it",
                frame.shown.0, frame.shown.1
            )));
        }
        let scale = (frame.width as f64 / shown.0, frame.height as f64 / shown.1);
        let placement = Placement::of_box(x * scale.0, y * scale.1, w * scale.0, h * scale.1)
            .map_err(|e| Error::Region(e.to_string()))?;
        Ok(SourceCrop {
            pixels: cut(&placement, frame),
            tracked: true,
        })
    }
}

/// Crops by the landmarks of a followed face.
pub(crate) struct TrackedCropper<'m> {
    tracker: Tracker<'m>,
    smoother: Smoother<4>,
    located: VecDeque<Located>,
    /// Frames whose landmarks are not smoothed yet, and whether they were found rather than guessed.
    waiting: VecDeque<(Arc<Frame>, bool)>,
    last: Option<Landmarks>,
    gap: usize,
    placement: Option<Placement>,
}

impl<'m> TrackedCropper<'m> {
    pub fn new(tracker: Tracker<'m>, smooth: usize) -> Result<Self, Error> {
        Ok(TrackedCropper {
            tracker,
            smoother: Smoother::new(smooth).map_err(|e| Error::Setting(e.to_string()))?,
            located: VecDeque::new(),
            waiting: VecDeque::new(),
            last: None,
            gap: 0,
            placement: None,
        })
    }

    fn push(&mut self, frame: Arc<Frame>, out: &mut VecDeque<Option<SourceCrop>>) {
        self.tracker.push(frame, &mut self.located);
        self.crop_located(out);
    }

    fn finish(&mut self, out: &mut VecDeque<Option<SourceCrop>>) {
        self.tracker.finish(&mut self.located);
        self.crop_located(out);
        let mut smoothed = Vec::new();
        self.smoother
            .finish(|_, landmarks| smoothed.push(*landmarks));
        self.crop_smoothed(&smoothed, out);
        out.extend(self.waiting.drain(..).map(|_| None));
    }

    fn crop_located(&mut self, out: &mut VecDeque<Option<SourceCrop>>) {
        let mut smoothed = Vec::new();
        while let Some(Located { frame, landmarks }) = self.located.pop_front() {
            self.waiting.push_back((frame, landmarks.is_some()));
            let mut keep = |_, landmarks: &Landmarks| smoothed.push(*landmarks);
            match (landmarks, &self.last) {
                (Some(landmarks), last) => {
                    if last.is_none() {
                        // The frames before the first face join only now, when it is sure that one comes.
                        (1..self.waiting.len()).for_each(|_| self.smoother.push(None, &mut keep));
                    }
                    self.smoother.push(Some(&landmarks), &mut keep);
                    (self.last, self.gap) = (Some(landmarks), 0);
                }
                (None, None) => {
                    if self.waiting.len() > LONGEST_GAP {
                        self.waiting.pop_front();
                        out.push_back(None);
                    }
                }
                (None, Some(last)) => {
                    self.gap += 1;
                    let held = (self.gap > LONGEST_GAP).then_some(last);
                    self.smoother.push(held, &mut keep);
                }
            }
            self.crop_smoothed(&smoothed, out);
            smoothed.clear();
        }
    }

    fn crop_smoothed(&mut self, smoothed: &[Landmarks], out: &mut VecDeque<Option<SourceCrop>>) {
        for landmarks in smoothed {
            let Some((frame, mut tracked)) = self.waiting.pop_front() else {
                return;
            };
            match Placement::new(&FOUR_POINTS, landmarks) {
                Ok(placement) => self.placement = Some(placement),
                Err(_) => tracked = false,
            }
            out.push_back(self.placement.map(|p| SourceCrop {
                pixels: cut(&p, &frame),
                tracked,
            }));
        }
    }
}

fn cut(placement: &Placement, frame: &Frame) -> Box<Patch> {
    let mut out: Box<Patch> = vec![0; PATCH * PATCH]
        .try_into()
        .expect("the length is that of a patch");
    render(frame, &placement.transform, placement.window, &mut out[..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grey rises by one a pixel to the right, so a crop's values tell where it was sampled.
    fn ramp(width: usize, height: usize) -> Frame {
        let pixels = (0..height)
            .flat_map(|_| (0..width).map(|x| (x / 2) as u8))
            .collect();
        Frame {
            width,
            height,
            shown: (width, height),
            timestamp_us: 0,
            pixels,
        }
    }

    #[test]
    fn a_large_region_is_averaged_not_skipped() {
        let frame = ramp(480, 480);
        let crop = Region::new([48.0, 48.0, 384.0, 384.0])
            .and_then(|r| r.crop(&frame))
            .expect("inside");
        // Column c covers pixels 48 + 4c ..= 51 + 4c, whose values are 24 + 2c twice and 25 + 2c twice.
        for (c, &value) in crop.pixels[..PATCH].iter().enumerate() {
            assert!(
                value.abs_diff((24 + 2 * c) as u8) <= 1,
                "column {c}: {value}"
            );
        }
    }

    #[test]
    fn a_region_is_in_pixels_of_the_picture_before_it_was_averaged_down() {
        // Stripes of black and white, 24 pixels wide.
        let (width, height) = (2560, 1440);
        let line: Vec<u8> = (0..width).map(|x| 255 * (x / 24 % 2) as u8).collect();
        let mut frame = Frame::default();
        frame.set(width, height, &line.repeat(height));
        assert_eq!((frame.width, frame.height), (1280, 720));
        let crop = Region::new([1920.0, 1000.0, 192.0, 192.0])
            .and_then(|r| r.crop(&frame))
            .expect("inside");
        // Two pixels of the picture to one of the crop: stripes of 12, the first one black.
        for (c, &value) in crop.pixels[..PATCH].iter().enumerate() {
            assert_eq!(value, 255 * (c / 12 % 2) as u8, "column {c}");
        }
        let error = Region::new([2400.0, 0.0, 192.0, 192.0])
            .and_then(|r| r.crop(&frame))
            .err()
            .expect("outside");
        assert!(error.to_string().contains("2560x1440"), "{error}");
    }

    #[test]
    fn a_region_outside_is_refused() {
        let frame = ramp(100, 50);
        for bounds in [
            [10.0, 10.0, 96.0, 20.0],
            [10.0, 40.0, 20.0, 11.0],
            [-1.0, 0.0, 20.0, 20.0],
        ] {
            let error = Region::new(bounds)
                .and_then(|r| r.crop(&frame))
                .err()
                .expect("outside");
            assert!(error.to_string().contains("100x50"), "{error}");
        }
        assert!(Region::new([0.0, 0.0, 0.0, 5.0]).is_err());
        assert!(Region::new([0.0, 0.0, f32::NAN, 5.0]).is_err());
    }
}
