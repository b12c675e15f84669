//! From a clip to mouth crops, and what there is to say of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use viseme_capture::pipeline::{Mouth, Pipeline, PipelineOptions};
use viseme_capture::source::{self, FrameSource, OpenOptions};
use viseme_capture::tracker::DetectorFile;
use viseme_capture::{Error, Frame};

/// Where the mouth of a clip is: in a region if there is one, else wherever the detector finds a face.
///
/// # Errors
/// One line, if there is neither.
pub fn mouth<'m>(
    roi: Option<[f32; 4]>,
    detector: Option<&'m DetectorFile>,
) -> Result<Mouth<'m>, Error> {
    match (roi, detector) {
        (Some(roi), _) => Ok(Mouth::Region(roi)),
        (None, Some(detector)) => Ok(Mouth::Detect(detector)),
        (None, None) => Err(Error::Setting(
            "no face detector and no mouth region; give --detector FILE or a region".into(),
        )),
    }
}

/// Time spent in a source, readable while a pipeline owns it.
#[derive(Clone, Default)]
pub struct Stopwatch(Arc<AtomicU64>);

impl Stopwatch {
    fn add(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        Duration::from_nanos(self.0.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// Opens a clip; `reading` counts the time that its frames take to arrive.
///
/// # Errors
/// If there is no readable video or image folder, or the region or an option is not usable.
pub fn open<'m>(
    path: &Path,
    mouth: Mouth<'m>,
    image_fps: f64,
    options: &PipelineOptions,
    reading: &Stopwatch,
) -> Result<Pipeline<'m>, Error> {
    let inner = source::open(path, &OpenOptions { image_fps })?;
    let timed = Timed {
        inner,
        reading: reading.clone(),
    };
    Pipeline::new(Box::new(timed), mouth, options)
}

/// The sound of a clip, 16 kHz, up to a little more than `most` frames of 640 samples.
///
/// # Errors
/// If there is none, it cannot be read, or it is longer.
pub fn sound(path: &Path, most: usize, reading: &Stopwatch) -> Result<Vec<i16>, Error> {
    let start = Instant::now();
    let mut sound = source::open_sound(path)?;
    let mut samples = Vec::new();
    let mut block = [0; 4096];
    loop {
        let count = sound.read(&mut block)?;
        samples.extend_from_slice(&block[..count]);
        if count == 0 {
            break;
        }
        if samples.len() > (most + 1) * 640 {
            return Err(Error::Setting(too_long(most)));
        }
    }
    reading.add(start.elapsed());
    Ok(samples)
}

/// What to say of a clip that has more frames than a model reads at once.
pub fn too_long(most: usize) -> String {
    format!("longer than the {most} frames that the model reads; cut the clip")
}

/// What to say of a clip that was read although it is damaged, and how, if that is known.
pub fn damaged(how: Option<&str>) -> String {
    let how = how.map_or(String::new(), |how| format!(" ({how})"));
    format!("note: damaged or cut off{how}, words near that may be wrong; copy or record it again")
}

struct Timed {
    inner: Box<dyn FrameSource>,
    reading: Stopwatch,
}

impl FrameSource for Timed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        let start = Instant::now();
        let result = self.inner.read(frame);
        self.reading.add(start.elapsed());
        result
    }

    fn damage(&self) -> Option<&str> {
        self.inner.damage()
    }
}
