//! Crops come at the model's rate by the source's clock. The mouth is a fixed region here, so no detector is needed.

use viseme_capture::pipeline::{Mouth, MouthCrop, Pipeline, PipelineOptions, Summary};
use viseme_capture::source::FrameSource;
use viseme_capture::{Error, Frame};

/// A flat picture whose grey tells the time: one level every 4 ms.
struct Clock {
    times: std::vec::IntoIter<u64>,
}

impl FrameSource for Clock {
    fn name(&self) -> &str {
        "clock"
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        let Some(at) = self.times.next() else {
            return Ok(false);
        };
        frame.set(96, 96, &[(at / 4_000) as u8; 96 * 96]);
        frame.timestamp_us = at;
        Ok(true)
    }
}

fn crops(times: Vec<u64>) -> (Vec<MouthCrop>, Summary) {
    let source = Box::new(Clock {
        times: times.into_iter(),
    });
    let mouth = Mouth::Region([0.0, 0.0, 96.0, 96.0]);
    let mut pipeline =
        Pipeline::new(source, mouth, &PipelineOptions::default()).expect("sound options");
    let all: Result<Vec<_>, _> = (&mut pipeline).collect();
    (all.expect("crops"), pipeline.summary())
}

/// Times of `count` frames at `fps`.
fn steady(fps: f64, count: usize) -> Vec<u64> {
    (0..count)
        .map(|i| (i as f64 * 1e6 / fps).round() as u64)
        .collect()
}

#[test]
fn the_models_rate_passes_through() {
    let (crops, summary) = crops(steady(25.0, 25));
    let greys: Vec<u8> = crops.iter().map(|c| c.pixels[5000]).collect();
    assert_eq!(greys, (0..25).map(|i| i * 10).collect::<Vec<u8>>());
    assert_eq!(
        (
            summary.source_frames,
            summary.frames,
            summary.tracked_frames
        ),
        (25, 25, 25)
    );
}

#[test]
fn any_rate_becomes_the_models_rate_without_changing_speed() {
    for fps in [12.5, 15.0, 24.0, 29.97, 30.0, 50.0, 60.0, 240.0] {
        let (crops, summary) = crops(steady(fps, fps.round() as usize));
        assert!(
            (24..=25).contains(&crops.len()),
            "{fps} fps: {} crops",
            crops.len()
        );
        assert_eq!(summary.source_frames, fps.round() as u64);
        for (i, crop) in crops.iter().enumerate() {
            assert_eq!(crop.timestamp_us, i as u64 * 40_000, "{fps} fps");
            // Much slower sources are blended; from others the nearest frame is picked, at most half of one off.
            let shown = f64::from(crop.pixels[0]) * 4.0;
            let off = (shown - i as f64 * 40.0).abs();
            let allowed = if fps < 20.0 { 4.0 } else { 500.0 / fps + 4.0 };
            assert!(off <= allowed + 0.1, "{fps} fps, crop {i}: {shown} ms");
        }
    }
}

#[test]
fn jitter_and_pauses_keep_their_time() {
    // Every other frame 15 ms late, then a pause of two seconds.
    let mut times: Vec<u64> = (0..12).map(|i| i * 40_000 + (i % 2) * 15_000).collect();
    times.extend((0..5).map(|i| 2_480_000 + i * 40_000));
    let (crops, summary) = crops(times);
    assert_eq!(summary.end_us, 2_480_000 + 5 * 40_000);
    let gaps: Vec<u64> = crops
        .iter()
        .filter(|c| c.after_gap)
        .map(|c| c.timestamp_us)
        .collect();
    assert_eq!(gaps, [2_480_000]);
    assert!(
        crops
            .windows(2)
            .all(|w| w[0].timestamp_us < w[1].timestamp_us)
    );
    assert!(
        crops.len() < 20,
        "{} crops: the pause is not filled",
        crops.len()
    );
}

#[test]
fn a_source_that_starts_late_ends_late() {
    let times = steady(25.0, 10).into_iter().map(|at| at + 3_000_000);
    let (crops, summary) = crops(times.collect());
    assert_eq!((crops.len(), crops[0].timestamp_us), (10, 3_000_000));
    assert_eq!(summary.end_us, 3_400_000);
}

#[test]
fn a_source_without_frames_is_an_error() {
    let source = Box::new(Clock {
        times: Vec::new().into_iter(),
    });
    let mouth = Mouth::Region([0.0, 0.0, 96.0, 96.0]);
    let mut pipeline =
        Pipeline::new(source, mouth, &PipelineOptions::default()).expect("sound options");
    assert!(pipeline.next().expect("one word").is_err());
    assert!(pipeline.next().is_none());
}
