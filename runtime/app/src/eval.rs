//! `viseme eval`: error rates over the clips of a manifest, one clip in memory at a time.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use viseme_capture::pipeline::PipelineOptions;
use viseme_capture::tracker::DetectorFile;
use viseme_corpus::crops::{self, ClipCrops, CropOptions};
use viseme_corpus::detector;
use viseme_corpus::recognise::{self, Evaluation, RecogniseError, Recogniser};
use viseme_corpus::score::{Edits, Score};
use viseme_corpus::{Clip, Error, Manifest, grid};
use viseme_engine::decode::Options;
use viseme_engine::preprocess::crop::PATCH;

use crate::cli::{Eval, Modality};
use crate::model::ModelFile;
use crate::output::{self, complain, one_line, rounded};
use crate::{grammar, model, read};

/// Longest clip, in crops: ten minutes at 25 a second. It is held in memory.
const MOST_FRAMES: usize = 15_000;

/// Runs the command.
///
/// # Errors
/// If the manifest, the model, the detector or the grammar is not usable, or no clip could be read.
pub fn run(arguments: &Eval) -> Result<ExitCode> {
    let manifest = if arguments.manifest.is_dir() {
        grid::read(&arguments.manifest)?
    } else {
        Manifest::read(&arguments.manifest)?
    };
    let clips = choose(&manifest, arguments)?;
    let grammar = grammar::load(&arguments.grammar)?;
    let file = ModelFile::load(arguments.model.as_deref())?;
    check_modality(&file, arguments.modality)?;
    let model = file.open()?;
    let needs_detector = clips.iter().any(|clip| clip.roi.is_none());
    let detector = needs_detector
        .then(|| detector::load(arguments.detector.as_deref()))
        .transpose()?;
    let options = Options {
        grammar: grammar.as_ref(),
        ..Options::default()
    };
    let mut memory = Vec::new();
    let mut recogniser = Recogniser::new(&model, &mut memory, options)?;
    let cropper = Cropper {
        manifest: &manifest,
        detector: detector.as_ref(),
        cache: arguments.cache.as_deref(),
        pipeline: recognise::pipeline_options(&model)?,
        failed: RefCell::default(),
        stopped: Cell::new(None),
    };

    let bar = progress_bar(clips.len());
    let mut running = Score::default();
    let mut closed = Ok(());
    let crops = clips
        .iter()
        .map_while(|clip| cropper.next(clip, &bar))
        .flatten();
    let result = recognise::evaluate(&mut recogniser, crops, |clip, transcript| {
        running.add(&clip.text, &transcript.text);
        bar.set_message(format!("WER {:.1} %", running.wer()));
        if arguments.per_clip && closed.is_ok() {
            closed = bar.suspend(|| per_clip(clip, &transcript.text));
        }
    });
    bar.finish_and_clear();
    closed?;
    if let Some(error) = cropper.stopped.take() {
        return Err(error.into());
    }
    let failed = cropper.failed.into_inner();
    for (clip, reason) in &failed {
        complain(&format!("{clip}: {reason}"));
    }
    match result {
        Ok(evaluation) => report(&evaluation, failed.len(), arguments.json)?,
        Err(RecogniseError::NoClips) => {
            bail!("none of {} clips could be read; see above", failed.len())
        }
        Err(error) => return Err(error.into()),
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::FAILED)
    })
}

/// The clips that were asked for.
fn choose<'m>(manifest: &'m Manifest, arguments: &Eval) -> Result<Vec<&'m Clip>> {
    let field = |clip: &'m Clip| arguments.split_field.side(clip);
    let wanted = arguments.split.as_deref();
    let chosen: Vec<&Clip> = manifest
        .clips
        .iter()
        .filter(|clip| wanted.is_none_or(|wanted| field(clip) == Some(wanted)))
        .collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let name = output::show(&arguments.manifest);
    let Some(wanted) = wanted else {
        bail!("{name}: lists no clips; give a manifest with some");
    };
    let mut there: Vec<&str> = manifest
        .clips
        .iter()
        .filter_map(field)
        .filter(|s| !s.is_empty())
        .collect();
    there.sort_unstable();
    there.dedup();
    there.truncate(20);
    bail!(
        "{name}: no clip is in split `{wanted}`; there is: {}",
        there.join(", ")
    );
}

/// Refuses a model that does not perceive what is to be measured.
fn check_modality(file: &ModelFile, wanted: Option<Modality>) -> Result<()> {
    let (_, spec) = file.inspect()?;
    let wanted = match wanted {
        None => return Ok(()),
        Some(Modality::Video) => "video",
        Some(Modality::Audio) => "audio",
        Some(Modality::Av) => "av",
    };
    let has = model::modality(spec.modality);
    if has != wanted {
        bail!(
            "{}: the model's modality is {has}, not {wanted}; use --modality {has}, or a model for {wanted}",
            file.name()
        );
    }
    Ok(())
}

/// Makes the crops of one clip after the other, and remembers what went wrong.
struct Cropper<'a> {
    manifest: &'a Manifest,
    detector: Option<&'a DetectorFile>,
    cache: Option<&'a Path>,
    pipeline: PipelineOptions,
    failed: RefCell<Vec<(String, String)>>,
    stopped: Cell<Option<Error>>,
}

impl Cropper<'_> {
    /// The crops of the next clip, `Some(None)` if it failed, `None` if there is no use in going on.
    fn next(&self, clip: &Clip, bar: &ProgressBar) -> Option<Option<ClipCrops>> {
        let made = match self.cache {
            Some(cache) => self.load(clip, cache),
            None => self
                .make(clip)
                .map_err(|e| Error::AllFailed(one_line(&format!("{e:#}")))),
        };
        bar.inc(1);
        match made {
            Ok(crops) => Some(Some(crops)),
            Err(Error::AllFailed(reason)) => {
                self.failed.borrow_mut().push((clip.id(), reason));
                Some(None)
            }
            Err(error) => {
                self.stopped.set(Some(error));
                None
            }
        }
    }

    /// By way of the cache.
    fn load(&self, clip: &Clip, cache: &Path) -> Result<ClipCrops, Error> {
        let mut options = CropOptions::new(self.detector, cache);
        options.pipeline = self.pipeline.clone();
        options.threads = 1;
        options.progress = false;
        let loaded = crops::crops(self.manifest, |other| std::ptr::eq(other, clip), &options)?;
        let gone = || Error::AllFailed("no crops".into());
        loaded.clips.into_iter().next().ok_or_else(gone)
    }

    /// In memory only.
    fn make(&self, clip: &Clip) -> Result<ClipCrops> {
        let mouth = read::mouth(clip.roi, self.detector)?;
        let path = self.manifest.path_of(clip);
        let mut pipeline = read::open(
            &path,
            mouth,
            f64::from(self.pipeline.fps),
            &self.pipeline,
            &read::Stopwatch::default(),
        )?;
        let mut crops = Vec::new();
        for crop in &mut pipeline {
            crops.extend_from_slice(&crop?.pixels[..]);
            if crops.len() > MOST_FRAMES * PATCH * PATCH {
                return Err(anyhow!(
                    "longer than {MOST_FRAMES} frames; cut it into clips"
                ))
                .with_context(|| output::show(&path));
            }
        }
        let summary = pipeline.summary();
        Ok(ClipCrops {
            id: clip.id(),
            speaker: clip.speaker.clone(),
            text: clip.text.clone(),
            words: clip.words.clone(),
            split: clip.split.clone(),
            pair_split: clip.pair_split.clone(),
            crops,
            fps: self.pipeline.fps,
            tracked_frames: summary.tracked_frames as usize,
            faces_seen: summary.faces_seen,
        })
    }
}

fn progress_bar(clips: usize) -> ProgressBar {
    // Draws on stderr, and only where that is a terminal.
    let bar = ProgressBar::new(clips as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} clips, {msg}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

fn per_clip(clip: &ClipCrops, read: &str) -> io::Result<()> {
    let errors = Edits::of_words(&clip.text, read).errors();
    output::print(&one_line_but_tabs(&[
        &clip.id,
        &errors.to_string(),
        &clip.text,
        read,
    ]))
}

fn one_line_but_tabs(fields: &[&str]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| one_line(field)).collect();
    fields.join("\t")
}

fn report(evaluation: &Evaluation, failed: usize, json: bool) -> Result<()> {
    let &Evaluation {
        wer,
        cer,
        clips,
        words,
        rtf,
    } = evaluation;
    if json {
        let result = Measured {
            wer: rounded(wer, 3),
            cer: rounded(cer, 3),
            clips,
            words,
            rtf: rounded(rtf, 4),
            failed,
        };
        output::print(&serde_json::to_string(&result)?)?;
    } else {
        output::print(&format!(
            "WER {wer:.2} %, CER {cer:.2} %, {clips} clips, {words} words, {failed} clips failed, real-time factor {rtf:.4}"
        ))?;
    }
    Ok(())
}

/// The result, for programs.
#[derive(Serialize)]
struct Measured {
    /// Percent.
    wer: f64,
    /// Percent.
    cer: f64,
    clips: usize,
    words: usize,
    /// Seconds of computing per second of video, without tracking.
    rtf: f64,
    /// Clips that could not be read; they are not in the rates.
    failed: usize,
}
