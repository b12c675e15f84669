//! The mouth crops of a corpus, made once and kept on disk.
//!
//! One file a clip, named by what it depends on: the video's content, the detector's, the version of the preprocessing
//! and its settings. So nothing is ever stale, a folder can be shared by corpora, and a build that was killed goes on
//! where it was. Files are written beside their place and renamed: they are complete or absent.
//!
//! Layout, little-endian: `VISCROPS`, u32 layout version (1), u32 frames T, u32 tracked frames, u32 faces seen, u32
//! frames of the source, f32 frames a second, u32 side (96), u32 1 if the video is damaged, else 0; then T x 96 x 96
//! grey bytes.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use viseme_capture::pipeline::{self, Mouth, Pipeline, PipelineOptions};
use viseme_capture::source;
use viseme_capture::source::faults::{Faults, Faulty};
use viseme_capture::tracker::DetectorFile;
use viseme_engine::preprocess::crop::PATCH;

use crate::degrade::seed;
use crate::{Clip, Error, Manifest, Word, disk};

const MAGIC: [u8; 8] = *b"VISCROPS";
const LAYOUT: u32 = 1;
const HEADER: usize = 40;
/// Longest clip that is kept, in crops: an hour at 25 a second. It has to fit into memory.
const MOST_FRAMES: usize = 90_000;

/// How crops are made and where they are kept.
#[derive(Clone)]
pub struct CropOptions<'a> {
    /// Finds the faces; needed unless every clip has a fixed region.
    pub detector: Option<&'a DetectorFile>,
    /// Folder of the cache; created if it is not there.
    pub cache: &'a Path,
    /// Rate and smoothing.
    pub pipeline: PipelineOptions,
    /// Clips that are worked on at the same time.
    pub threads: usize,
    /// Whether to draw a progress bar on stderr (only where that is a terminal).
    pub progress: bool,
}

impl<'a> CropOptions<'a> {
    /// The defaults: 25 frames a second, smoothing over 2 frames on each side, 2 threads, with progress.
    pub fn new(detector: Option<&'a DetectorFile>, cache: &'a Path) -> Self {
        CropOptions {
            detector,
            cache,
            pipeline: PipelineOptions::default(),
            threads: 2,
            progress: true,
        }
    }
}

/// A clip as a model reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipCrops {
    /// `speaker/code`.
    pub id: String,
    /// Who speaks.
    pub speaker: String,
    /// What is said.
    pub text: String,
    /// When each word is said, silences included.
    pub words: Vec<Word>,
    /// Which part of the corpus it belongs to.
    pub split: String,
    /// Its side in the pair-disjoint split.
    pub pair_split: Option<String>,
    /// Grey crops, [T, 96, 96].
    pub crops: Vec<u8>,
    /// Crops a second.
    pub fps: f32,
    /// Crops in which the face was found rather than guessed.
    pub tracked_frames: usize,
    /// The most faces that were there at the same time.
    pub faces_seen: usize,
    /// Whether the video is damaged or cut off, so that some crops may be wrong or missing.
    pub damaged: bool,
}

impl ClipCrops {
    /// A clip of which no pictures are wanted.
    pub fn unseen(clip: &Clip) -> Self {
        let none = Entry {
            tracked: 0,
            faces: 0,
            source_frames: 0,
            fps: PipelineOptions::default().fps,
            damaged: false,
            crops: Vec::new(),
        };
        none.with(clip)
    }

    /// Number of crops.
    pub fn frames(&self) -> usize {
        self.crops.len() / (PATCH * PATCH)
    }
}

/// The clips of a corpus with their crops, in the manifest's order.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What could be read.
    pub clips: Vec<ClipCrops>,
    /// What could not: `speaker/code` and the reason.
    pub failed: Vec<(String, String)>,
    /// How many clips were made anew rather than found in the cache.
    pub made: usize,
}

/// Loads the crops of the clips that `keep` wants, making those that are not in the cache.
///
/// # Errors
/// If the cache cannot be written or no clip at all could be read. Single clips that fail are listed in the result.
pub fn crops(
    manifest: &Manifest,
    keep: impl Fn(&Clip) -> bool,
    options: &CropOptions<'_>,
) -> Result<Loaded, Error> {
    let maker = CropMaker::new(options.detector, &options.pipeline, Some(options.cache))?;
    let clips: Vec<&Clip> = manifest.clips.iter().filter(|clip| keep(clip)).collect();
    let bar = progress_bar(clips.len() as u64, options.progress);
    let mut results = in_parallel(&clips, options.threads, |clip| {
        let result = maker.load(manifest, clip);
        bar.inc(1);
        result
    });
    bar.finish_and_clear();

    let mut loaded = Loaded::default();
    for (clip, result) in clips.iter().zip(results.drain(..)) {
        match result {
            Ok(crops) => loaded.clips.push(crops),
            Err(Failure::Clip(reason)) => loaded.failed.push((clip.id(), reason)),
            Err(Failure::Cache(error)) => return Err(error),
        }
    }
    loaded.made = maker.made();
    match loaded.failed.first() {
        Some((id, reason)) if loaded.clips.is_empty() => {
            Err(Error::AllFailed(format!("{id}: {reason}")))
        }
        _ => Ok(loaded),
    }
}

/// Why a clip has no crops.
#[derive(Debug)]
pub enum Failure {
    /// The clip is at fault; others may do. The reason does not name the clip.
    Clip(String),
    /// The cache is at fault; none will do.
    Cache(Error),
}

/// Makes the crops of one clip after the other, by way of a cache if there is one.
pub struct CropMaker<'a> {
    detector: Option<&'a DetectorFile>,
    digest: Option<[u8; 32]>,
    pipeline: PipelineOptions,
    cache: Option<&'a Path>,
    faults: Faults,
    made: AtomicUsize,
}

impl<'a> CropMaker<'a> {
    /// Finds faces with `detector`, which is needed for clips without a fixed region, and keeps crops in the folder
    /// `cache`, which is created if it is not there. Without one nothing is kept.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn new(
        detector: Option<&'a DetectorFile>,
        pipeline: &PipelineOptions,
        cache: Option<&'a Path>,
    ) -> Result<Self, Error> {
        if let Some(folder) = cache {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
            disk::sweep(folder);
        }
        Ok(CropMaker {
            detector,
            digest: detector.map(|d| sha256(d.bytes())),
            pipeline: pipeline.clone(),
            cache,
            faults: Faults::default(),
            made: AtomicUsize::new(0),
        })
    }

    /// Takes the pictures with a worse camera. Such crops are not kept.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        let cache = self.cache.filter(|_| faults.is_none());
        CropMaker {
            faults,
            cache,
            ..self
        }
    }

    /// The crops of a clip of `manifest`.
    ///
    /// # Errors
    /// If the video cannot be read, or the cache not written.
    pub fn load(&self, manifest: &Manifest, clip: &Clip) -> Result<ClipCrops, Failure> {
        let video = manifest.path_of(clip);
        let Some(folder) = self.cache else {
            return Ok(self.make(clip, &video)?.with(clip));
        };
        let entry = folder.join(format!("{}.crops", self.key(clip, &video)?));
        if let Some(kept) = read_entry(&entry, self.pipeline.fps) {
            return Ok(kept.with(clip));
        }
        let fresh = self.make(clip, &video)?;
        disk::write_atomic(&entry, &[&fresh.header(), &fresh.crops]).map_err(Failure::Cache)?;
        Ok(fresh.with(clip))
    }

    /// How many clips were made anew rather than found in the cache.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Names everything the crops of `clip` depend on.
    fn key(&self, clip: &Clip, video: &Path) -> Result<String, Failure> {
        let mut hash = Sha256::new();
        hash.update(
            sha256_of_file(video)
                .map_err(|e| Failure::Clip(viseme_capture::Error::io(video, e).to_string()))?,
        );
        let options = &self.pipeline;
        hash.update(pipeline::VERSION.to_le_bytes());
        hash.update(options.fps.to_le_bytes());
        hash.update((options.smooth as u64).to_le_bytes());
        match (clip.roi, self.digest) {
            (Some(roi), _) => roi.iter().for_each(|v| hash.update(v.to_le_bytes())),
            (None, Some(detector)) => {
                hash.update((options.tracker.every as u64).to_le_bytes());
                hash.update(detector);
                if options.tracker.looks > 0 {
                    hash.update((options.tracker.looks as u64).to_le_bytes());
                }
            }
            (None, None) => return Err(no_mouth()),
        }
        Ok(hash
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }

    fn make(&self, clip: &Clip, video: &Path) -> Result<Entry, Failure> {
        let fault = |e: viseme_capture::Error| Failure::Clip(e.to_string());
        let mouth = match (clip.roi, self.detector) {
            (Some(roi), _) => Mouth::Region(roi),
            (None, Some(detector)) => Mouth::Detect(detector),
            (None, None) => return Err(no_mouth()),
        };
        let frames = source::open(video, &source::OpenOptions::default()).map_err(fault)?;
        let seed = seed(&clip.id());
        let frames = Faulty::new(frames, self.faults, seed).map_err(fault)?;
        let mut pipeline = Pipeline::new(Box::new(frames), mouth, &self.pipeline).map_err(fault)?;
        let mut crops = Vec::new();
        for crop in &mut pipeline {
            crops.extend_from_slice(&crop.map_err(fault)?.pixels[..]);
            if crops.len() > MOST_FRAMES * PATCH * PATCH {
                let reason = format!("longer than {MOST_FRAMES} frames; cut it into clips");
                return Err(Failure::Clip(reason));
            }
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let summary = pipeline.summary();
        Ok(Entry {
            tracked: summary.tracked_frames as u32,
            faces: summary.faces_seen as u32,
            source_frames: summary.source_frames.min(u64::from(u32::MAX)) as u32,
            fps: self.pipeline.fps,
            damaged: pipeline.damage().is_some(),
            crops,
        })
    }
}

fn no_mouth() -> Failure {
    let reason = "needs a face detector or a roi; give --detector, or a roi for the clip";
    Failure::Clip(reason.into())
}

/// A file of the cache.
struct Entry {
    tracked: u32,
    faces: u32,
    source_frames: u32,
    fps: f32,
    damaged: bool,
    crops: Vec<u8>,
}

impl Entry {
    fn header(&self) -> [u8; HEADER] {
        let frames = (self.crops.len() / (PATCH * PATCH)) as u32;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        let fields = [
            LAYOUT,
            frames,
            self.tracked,
            self.faces,
            self.source_frames,
            self.fps.to_bits(),
            PATCH as u32,
            u32::from(self.damaged),
        ];
        for (bytes, field) in header[8..].chunks_exact_mut(4).zip(fields) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        header
    }

    fn with(self, clip: &Clip) -> ClipCrops {
        ClipCrops {
            id: clip.id(),
            speaker: clip.speaker.clone(),
            text: clip.text.clone(),
            words: clip.words.clone(),
            split: clip.split.clone(),
            pair_split: clip.pair_split.clone(),
            crops: self.crops,
            fps: self.fps,
            tracked_frames: self.tracked as usize,
            faces_seen: self.faces as usize,
            damaged: self.damaged,
        }
    }
}

/// Reads a file of the cache; `None` if it is not there, not sound or of another rate, so that it is made anew.
fn read_entry(path: &Path, fps: f32) -> Option<Entry> {
    let mut file = fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    let mut header = [0; HEADER];
    file.read_exact(&mut header).ok()?;
    let field = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|b| header[8 + 4 * i + b]));
    let frames = field(1) as usize;
    let size = frames.min(MOST_FRAMES) * PATCH * PATCH;
    let sound = header[..8] == MAGIC
        && field(0) == LAYOUT
        && field(6) == PATCH as u32
        && (1..=MOST_FRAMES).contains(&frames)
        && field(2) as usize <= frames
        && field(7) <= 1
        && f32::from_bits(field(5)) == fps
        && len == (HEADER + size) as u64;
    if !sound {
        return None;
    }
    let mut crops = vec![0; size];
    file.read_exact(&mut crops).ok()?;
    Some(Entry {
        tracked: field(2),
        faces: field(3),
        source_frames: field(4),
        fps,
        damaged: field(7) == 1,
        crops,
    })
}

/// Applies `work` to all items on some threads; results in the items' order.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else {
                return done;
            };
            done.push((i, work(item)));
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|w| {
                w.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

fn progress_bar(clips: u64, shown: bool) -> ProgressBar {
    let target = if shown {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("mouth crops {bar:32} {pos}/{len} clips, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(clips), target).with_style(style)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Hash of a video file, or of the names and contents of a folder of images.
fn sha256_of_file(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    if path.is_dir() {
        let mut files: Vec<_> = fs::read_dir(path)?
            .map(|e| e.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(sha256_of_file(file)?);
        }
        return Ok(hash.finalize().into());
    }
    let mut file = viseme_capture::file::open(path)?;
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&block[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A corpus of three clips, folders of 10 flat pictures each with a fixed region, and one that is not there.
    fn corpus(name: &str) -> Manifest {
        let root = std::env::temp_dir().join(format!("viseme-crops-{name}-{}", std::process::id()));
        let mut manifest = Manifest {
            root: root.clone(),
            ..Manifest::default()
        };
        for clip in 0..4_u8 {
            let folder = root.join(format!("clip{clip}"));
            for frame in 0..if clip == 2 { 0 } else { 10_u8 } {
                fs::create_dir_all(&folder).expect("a folder");
                let mut image = b"P5 128 96 255\n".to_vec();
                image.extend([50 * clip + frame; 128 * 96]);
                fs::write(folder.join(format!("{frame}.pgm")), image).expect("writable");
            }
            manifest.clips.push(Clip {
                speaker: "s".into(),
                code: format!("c{clip}"),
                file: format!("clip{clip}").into(),
                roi: Some([16.0, 0.0, 96.0, 96.0]),
                ..Clip::default()
            });
        }
        manifest
    }

    fn entries(cache: &Path) -> Vec<std::path::PathBuf> {
        let mut all: Vec<_> = fs::read_dir(cache)
            .expect("a folder")
            .map(|e| e.expect("an entry").path())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn clips_are_made_once_and_faults_are_listed() {
        let manifest = corpus("once");
        let cache = manifest.root.join("cache");
        let options = CropOptions {
            progress: false,
            ..CropOptions::new(None, &cache)
        };
        let first = crops(&manifest, |_| true, &options).expect("three sound clips");
        assert_eq!(
            (first.made, first.clips.len(), first.failed.len()),
            (3, 3, 1)
        );
        assert_eq!(first.failed[0].0, "s/c2");
        assert!(first.failed[0].1.contains("clip2"), "{}", first.failed[0].1);
        let ids: Vec<&str> = first.clips.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["s/c0", "s/c1", "s/c3"]);
        for (clip, grey) in first.clips.iter().zip([0, 50, 150]) {
            assert_eq!((clip.frames(), clip.tracked_frames), (10, 10));
            let expected: Vec<u8> = (0..10)
                .flat_map(|frame| [grey + frame; PATCH * PATCH])
                .collect();
            assert!(clip.crops == expected, "{} holds its own pictures", clip.id);
        }
        let again = crops(&manifest, |_| true, &options).expect("cached");
        assert_eq!((again.made, &again.clips), (0, &first.clips));
        assert_eq!(
            crops(&manifest, |c| c.code == "c1", &options)
                .expect("cached")
                .clips,
            first.clips[1..2]
        );
        assert!(
            crops(&manifest, |c| c.code == "c2", &options).is_err(),
            "nothing could be read"
        );
        fs::remove_dir_all(&manifest.root).expect("removable");
    }

    #[test]
    fn spoilt_and_outdated_files_are_made_anew() {
        let manifest = corpus("anew");
        let cache = manifest.root.join("cache");
        let mut options = CropOptions {
            progress: false,
            ..CropOptions::new(None, &cache)
        };
        let first = crops(&manifest, |_| true, &options).expect("three sound clips");
        // Cut off, of another kind, and a file that a killed build left behind.
        let files = entries(&cache);
        assert_eq!(files.len(), 3);
        let whole = fs::read(&files[0]).expect("readable");
        fs::write(&files[0], &whole[..whole.len() - 1]).expect("writable");
        fs::write(&files[1], b"something else altogether").expect("writable");
        let left = fs::File::create(files[2].with_extension("crops.1-1.tmp")).expect("writable");
        left.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .expect("set");
        let again = crops(&manifest, |_| true, &options).expect("three sound clips");
        assert_eq!((again.made, &again.clips), (2, &first.clips));
        assert_eq!(fs::read(&files[0]).expect("readable"), whole);
        assert_eq!(entries(&cache), files);
        // No frames at all, more that were tracked than there are, another rate: sound in form only.
        let altered = |field: usize, value: u32, length: usize| {
            let mut entry = whole[..length].to_vec();
            entry[8 + 4 * field..][..4].copy_from_slice(&value.to_le_bytes());
            fs::write(&files[0], entry).expect("writable");
            let again = crops(&manifest, |_| true, &options).expect("three sound clips");
            assert_eq!((again.made, &again.clips), (1, &first.clips), "{field}");
        };
        altered(1, 0, HEADER);
        altered(2, 11, whole.len());
        altered(5, 30.0_f32.to_bits(), whole.len());
        // Another setting has its own files; a changed picture too.
        options.pipeline.fps = 50.0;
        assert_eq!(crops(&manifest, |_| true, &options).expect("made").made, 3);
        options.pipeline.fps = 25.0;
        fs::copy(
            manifest.root.join("clip1/3.pgm"),
            manifest.root.join("clip0/3.pgm"),
        )
        .expect("copied");
        let changed = crops(&manifest, |_| true, &options).expect("made");
        assert_eq!(
            (changed.made, changed.clips[0].crops[3 * PATCH * PATCH]),
            (1, 53)
        );
        fs::remove_dir_all(&manifest.root).expect("removable");
    }
}
