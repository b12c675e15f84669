//! Mouth tracking on real faces: originals, shrunk, enlarged, side by side, hidden for a while.

use std::path::{Path, PathBuf};
use std::process::Command;

use viseme_capture::Error;
use viseme_capture::pipeline::{Mouth, MouthCrop, Pipeline, PipelineOptions, Summary};
use viseme_capture::source::{self, OpenOptions};
use viseme_capture::tracker::DetectorFile;
use viseme_import::yunet::import;

use crate::shared;

/// What the tests need of the machine.
struct Bench {
    detector: DetectorFile,
    folder: PathBuf,
    looks: usize,
}

impl Bench {
    /// # Errors
    /// Why the test is to be skipped.
    fn new(name: &str, looks: usize) -> Result<Self, String> {
        let onnx = shared::find("data/models/yunet/yunet_n_320_320.onnx")?;
        Command::new("ffmpeg")
            .arg("-version")
            .output()
            .map_err(|e| format!("no ffmpeg: {e}"))?;
        let model = import(&std::fs::read(&onnx).expect("readable"), "yunet").expect("YuNet");
        let detector = DetectorFile::from_bytes(&onnx, &model).expect("a detector");
        let folder =
            std::env::temp_dir().join(format!("viseme-tracking-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Ok(Bench {
            detector,
            folder,
            looks,
        })
    }

    /// Makes a clip of `inputs` (below `data/grid`) by ffmpeg's `filter`.
    fn make(&self, inputs: &[&str], filter: &str, name: &str) -> Result<PathBuf, String> {
        let out = self.folder.join(name);
        let mut command = Command::new("ffmpeg");
        command.args(["-y", "-nostdin", "-v", "error"]);
        for input in inputs {
            command
                .arg("-i")
                .arg(shared::find(&format!("data/grid/{input}"))?);
        }
        let status = command
            .args([
                "-filter_complex",
                filter,
                "-an",
                "-c:v",
                "libx264",
                "-crf",
                "12",
                "-preset",
                "ultrafast",
            ])
            .args(["-vsync", "passthrough"])
            .arg(&out)
            .status();
        assert!(status.expect("ffmpeg runs").success(), "{filter}");
        Ok(out)
    }

    fn track(&self, video: &Path) -> (Vec<MouthCrop>, Summary, Option<Error>) {
        let frames = source::open(video, &OpenOptions::default()).expect("a video");
        let mut options = PipelineOptions::default();
        options.tracker.looks = self.looks;
        let mut pipeline =
            Pipeline::new(frames, Mouth::Detect(&self.detector), &options).expect("sound options");
        let (mut crops, mut error) = (Vec::new(), None);
        for crop in &mut pipeline {
            match crop {
                Ok(crop) => crops.push(crop),
                Err(e) => error = Some(e),
            }
        }
        (crops, pipeline.summary(), error)
    }

    /// The crops of a clip that has to be tracked on all of `frames` frames.
    fn track_all(&self, video: &Path, frames: usize) -> Vec<MouthCrop> {
        let (crops, summary, error) = self.track(video);
        assert!(error.is_none(), "{}: {error:?}", video.display());
        assert_eq!(
            (crops.len(), summary.tracked_frames),
            (frames, frames as u64),
            "{}",
            video.display()
        );
        assert_eq!(summary.faces_seen, 1, "{}", video.display());
        crops
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn unless_skipped(run: impl FnOnce() -> Result<(), String>) {
    if let Err(why) = run() {
        println!("skipped: {why}");
    }
}

/// Mean difference in grey levels over all crops of two clips.
fn apart(a: &[MouthCrop], b: &[MouthCrop]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a
        .iter()
        .zip(b)
        .flat_map(|(a, b)| a.pixels.iter().zip(b.pixels.iter()))
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / (a.len() * a[0].pixels.len()) as f64
}

#[test]
fn full_frames_are_tracked_throughout_and_like_their_cutouts() {
    unless_skipped(|| {
        let bench = Bench::new("full", 2)?;
        let originals = shared::find("data/grid/original")?;
        let mut count = 0;
        for entry in std::fs::read_dir(originals).expect("a folder") {
            let original = entry.expect("an entry").path();
            let crops = bench.track_all(&original, 75);
            // The corpus beside it holds the same clip, cut to 216x232 and compressed again.
            let name = original
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let cut = shared::find(&format!("data/grid/{}.mp4", name.replace('_', "/")))?;
            let distance = apart(&crops, &bench.track_all(&cut, 75));
            // A crop one pixel to the side is 2.5 grey levels off, one pixel higher 3; the compression adds 1 to 1.5.
            assert!(
                distance < 5.0,
                "{name}: {distance:.2} grey levels from its cutout"
            );
            count += 1;
        }
        assert!(count >= 14, "{count} originals");
        Ok(())
    });
}

#[test]
fn full_frames_are_tracked_throughout_without_second_looks() {
    unless_skipped(|| {
        let bench = Bench::new("plain", 0)?;
        for entry in std::fs::read_dir(shared::find("data/grid/original")?).expect("a folder") {
            bench.track_all(&entry.expect("an entry").path(), 75);
        }
        Ok(())
    });
}

#[test]
fn size_and_place_do_not_matter() {
    unless_skipped(|| {
        let bench = Bench::new("size", 2)?;
        let expected = bench.track_all(&shared::find("data/grid/s1/bbaf2n.mp4")?, 75);
        for (filter, limit) in [
            ("pad=640:480:400:200:color=gray", 3.0),
            ("scale=3840:-2:flags=bicubic", 3.0),
            ("pad=1920:1080:1500:700,scale=1280:720", 6.0),
        ] {
            let crops = bench.track_all(&bench.make(&["s1/bbaf2n.mp4"], filter, "sized.mp4")?, 75);
            let distance = apart(&crops, &expected);
            assert!(distance < limit, "{filter}: {distance:.2} grey levels");
        }
        Ok(())
    });
}

#[test]
fn a_tilted_head_is_turned_upright() {
    unless_skipped(|| {
        let bench = Bench::new("tilt", 2)?;
        let expected = bench.track_all(&shared::find("data/grid/s1/bbaf2n.mp4")?, 75);
        let tilted = bench.make(
            &["s1/bbaf2n.mp4"],
            "pad=320:320:52:44,rotate=0.25:fillcolor=gray",
            "tilted.mp4",
        )?;
        let distance = apart(&bench.track_all(&tilted, 75), &expected);
        assert!(distance < 6.0, "{distance:.2} grey levels");
        Ok(())
    });
}

#[test]
fn the_larger_of_two_faces_is_read() {
    unless_skipped(|| {
        let bench = Bench::new("two", 2)?;
        let large = first_of("s3")?;
        let expected = bench.track_all(&large, 75);
        let large = large
            .strip_prefix(shared::find("data/grid")?)
            .expect("below grid")
            .to_string_lossy()
            .into_owned();
        for layout in ["[small][0]hstack", "[0][small]hstack"] {
            let filter = format!("[1]scale=144:-2,pad=216:232:30:30[small];{layout}");
            let both = bench.make(&[&large, "s1/bbaf2n.mp4"], &filter, "both.mp4")?;
            let (crops, summary, error) = bench.track(&both);
            assert!(error.is_none(), "{error:?}");
            assert_eq!((summary.faces_seen, summary.tracked_frames), (2, 75));
            let distance = apart(&crops, &expected);
            assert!(
                distance < 3.0,
                "{layout}: {distance:.2} grey levels from the larger face"
            );
        }
        Ok(())
    });
}

/// The first clip of a speaker.
fn first_of(speaker: &str) -> Result<PathBuf, String> {
    let folder = shared::find(&format!("data/grid/{speaker}"))?;
    let mut clips: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    clips.sort();
    clips
        .into_iter()
        .next()
        .ok_or_else(|| format!("no clip of {speaker}"))
}

#[test]
fn hidden_faces_are_bridged_and_said_so() {
    unless_skipped(|| {
        let bench = Bench::new("hidden", 0)?;
        let hide = |frames: &str| format!("drawbox=t=fill:c=gray:enable='{frames}'");
        let whole = bench.track_all(&shared::find("data/grid/s1/bbaf2n.mp4")?, 75);
        for (frames, hidden) in [
            ("between(n,30,41)", 30..42),
            ("lt(n,9)", 0..9),
            ("gt(n,60)", 61..75),
        ] {
            let clip = bench.make(&["s1/bbaf2n.mp4"], &hide(frames), "hidden.mp4")?;
            let (crops, summary, error) = bench.track(&clip);
            assert!(error.is_none(), "{error:?}");
            assert_eq!(crops.len(), 75, "{frames}");
            let untracked: Vec<usize> = (0..75).filter(|&i| !crops[i].tracked).collect();
            assert_eq!(untracked, hidden.clone().collect::<Vec<_>>(), "{frames}");
            assert_eq!(summary.tracked_frames, 75 - untracked.len() as u64);
            // Where the face is seen, hiding it elsewhere changes little.
            let seen = |crops: &[MouthCrop]| {
                crops
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| !hidden.contains(i))
                    .map(|(_, c)| c.clone())
                    .collect::<Vec<_>>()
            };
            let distance = apart(&seen(&crops), &seen(&whole));
            assert!(distance < 3.0, "{frames}: {distance:.2} grey levels");
        }
        // A face that comes late: the crops start with it, at its time.
        let late = bench.make(&["s1/bbaf2n.mp4"], &hide("lt(t,2.4)"), "late.mp4")?;
        let (crops, _, error) = bench.track(&late);
        assert!(error.is_none() && crops.len() < 75);
        assert_eq!(crops.last().map(|c| c.timestamp_us), Some(2_960_000));
        assert_eq!(crops.iter().filter(|c| c.tracked).count(), 15);
        Ok(())
    });
}

#[test]
fn clips_without_faces_are_errors() {
    unless_skipped(|| {
        let bench = Bench::new("none", 0)?;
        let (crops, summary, error) =
            bench.track(&bench.make(&[], "testsrc=s=320x240:d=1", "none.mp4")?);
        assert_eq!((crops.len(), summary.source_frames), (0, 25));
        let error = error.expect("no face").to_string();
        assert!(error.contains("no face in any of 25 frames"), "{error}");
        Ok(())
    });
}

#[test]
fn the_sources_rate_does_not_matter() {
    unless_skipped(|| {
        let bench = Bench::new("rate", 0)?;
        let expected = bench.track_all(&shared::find("data/grid/s1/bbaf2n.mp4")?, 75);
        let crops = bench.track_all(&bench.make(&["s1/bbaf2n.mp4"], "fps=200", "fast.mp4")?, 75);
        let distance = apart(&crops, &expected);
        assert!(distance < 3.0, "200 fps: {distance:.2} grey levels");
        let (crops, summary, error) =
            bench.track(&bench.make(&["s1/bbaf2n.mp4"], "fps=12.5", "slow.mp4")?);
        assert!(error.is_none() && summary.tracked_frames == crops.len() as u64);
        assert!((73..=75).contains(&crops.len()), "{} crops", crops.len());
        Ok(())
    });
}

#[test]
fn tracking_twice_gives_the_same_bits() {
    unless_skipped(|| {
        let bench = Bench::new("twice", 0)?;
        let clip = shared::find("data/grid/s1/bbaf2n.mp4")?;
        assert_eq!(bench.track_all(&clip, 75), bench.track_all(&clip, 75));
        Ok(())
    });
}
