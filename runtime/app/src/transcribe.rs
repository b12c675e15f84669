//! `viseme transcribe`: clips to text, frame by frame; no clip is ever held as a whole.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use viseme_capture::pipeline::{PipelineOptions, Summary};
use viseme_capture::tracker::DetectorFile;
use viseme_corpus::detector;
use viseme_corpus::recognise::{self, Recogniser};
use viseme_corpus::sentence::{SentenceReader, Utterance};
use viseme_engine::decode::{Options, Transcript};
use viseme_engine::model::auto_avsr;
use viseme_engine::preprocess::crop::PATCH;

use crate::cli::{Backend, Transcribe};
use crate::model::ModelFile;
use crate::output::{self, about, complain, rounded};
use crate::{backend, grammar, read, sentences};

/// Runs the command.
///
/// # Errors
/// If the model, the detector or the grammar is not usable. Clips that fail are reported, and the others still run.
pub fn run(arguments: &Transcribe) -> Result<ExitCode> {
    let grammar = grammar::load(&arguments.grammar)?;
    let file = ModelFile::load(arguments.model.as_deref())?;
    if let Some(model) = file.auto_avsr()? {
        sentences::refuse(grammar.is_some(), arguments.backend != Backend::Engine)?;
        return with_auto_avsr(arguments, &model);
    }
    sentences::refuse_search(&arguments.sentences)?;
    let model = file.open()?;
    let options = Options {
        grammar: grammar.as_ref(),
        ..Options::default()
    };
    let mut memory = Vec::new();
    let mut recogniser =
        backend::recogniser(arguments.backend, &file, &model, &mut memory, options)?;
    let detector = match arguments.roi {
        Some(_) => None,
        None => Some(detector::load(arguments.detector.as_deref())?),
    };
    let reader = Reader {
        detector: detector.as_ref(),
        roi: arguments.roi,
        image_fps: arguments.fps,
        pipeline: recognise::pipeline_options(&model)?,
    };
    report(arguments, |clip| reader.read(&mut recogniser, clip))
}

/// Transcribes with a model of Auto-AVSR: an utterance a clip, as a whole.
fn with_auto_avsr(arguments: &Transcribe, model: &auto_avsr::Model<'_>) -> Result<ExitCode> {
    let of = model.auto_avsr()?;
    let detector = match (arguments.roi, &of.video) {
        (None, Some(_)) => Some(detector::load(arguments.detector.as_deref())?),
        _ => None,
    };
    let reader = Reader {
        detector: detector.as_ref(),
        roi: arguments.roi,
        image_fps: arguments.fps,
        pipeline: sentences::pipeline(of),
    };
    let team = sentences::team(&arguments.sentences)?;
    let options = sentences::options(&arguments.sentences);
    let sentence_reader = SentenceReader::new(model, sentences::kernels(team.as_ref()), options)?;
    let most = of.max_frames as usize;
    let (sees, hears) = (of.video.is_some(), of.audio.is_some());
    report(arguments, |clip| {
        let start = Instant::now();
        let mut utterance = Utterance::default();
        let (mut summary, mut damage) = (Summary::default(), None);
        let reading = read::Stopwatch::default();
        if sees {
            let mouth = read::mouth(reader.roi, reader.detector)?;
            let mut pipeline =
                read::open(clip, mouth, reader.image_fps, &reader.pipeline, &reading)?;
            for crop in &mut pipeline {
                let crop = crop?;
                if utterance.crops.is_empty() {
                    utterance.start_us = crop.timestamp_us;
                }
                utterance.crops.extend_from_slice(&crop.pixels[..]);
                if pipeline_is_full(&utterance, most) {
                    bail!(read::too_long(most));
                }
            }
            summary = pipeline.summary();
            damage = pipeline.damage().map(Into::into);
        }
        if hears {
            utterance.samples = read::sound(clip, most, &reading)?;
            if !sees {
                summary.frames = (utterance.samples.len() / 640) as u64;
                summary.end_us = summary.frames * 40_000;
            }
        }
        let began = Instant::now();
        let transcript = sentences::read(&sentence_reader, team.as_ref(), &utterance)?;
        Ok(Read {
            transcript,
            summary,
            damage,
            video_s: summary.end_us as f64 / 1e6,
            total_s: start.elapsed().as_secs_f64(),
            reading_s: reading.seconds(),
            computing_s: began.elapsed().as_secs_f64(),
        })
    })
}

/// Whether an utterance has more frames than the model reads.
fn pipeline_is_full(utterance: &Utterance, most: usize) -> bool {
    utterance.crops.len() > most * PATCH * PATCH
}

/// Reads all clips and prints what came of them.
fn report(arguments: &Transcribe, mut read: impl FnMut(&Path) -> Result<Read>) -> Result<ExitCode> {
    let (mut failed, mut printed) = (false, Ok(()));
    for clip in &arguments.clips {
        let result = read(clip);
        failed |= result.is_err();
        let line = match (&result, arguments.json) {
            (Ok(read), true) => Some(read.json(clip)?),
            (Ok(read), false) if arguments.clips.len() == 1 => Some(read.transcript.text.clone()),
            (Ok(read), false) => Some(format!("{}: {}", output::show(clip), read.transcript.text)),
            (Err(error), true) => Some(serde_json::to_string(&Failed {
                file: &clip.to_string_lossy(),
                error: &about(clip, &format!("{error:#}")),
            })?),
            (Err(_), false) => None,
        };
        printed = line.map_or(Ok(()), |line| output::print(&line));
        match result {
            Ok(read) => read.remark(clip),
            Err(error) => complain(&about(clip, &format!("{error:#}"))),
        }
        if printed.is_err() {
            break;
        }
    }
    Ok(output::exit_code(failed, printed)?)
}

/// How clips are read.
struct Reader<'m> {
    detector: Option<&'m DetectorFile>,
    roi: Option<[f32; 4]>,
    image_fps: f64,
    pipeline: PipelineOptions,
}

impl Reader<'_> {
    fn read(&self, recogniser: &mut Recogniser<'_>, clip: &Path) -> Result<Read> {
        let start = Instant::now();
        let reading = read::Stopwatch::default();
        let mouth = read::mouth(self.roi, self.detector)?;
        recogniser.reset();
        let mut pipeline = read::open(clip, mouth, self.image_fps, &self.pipeline, &reading)?;
        let mut computing = 0.0;
        for crop in &mut pipeline {
            let crop = crop?;
            let began = Instant::now();
            recogniser.push(&crop.pixels[..], crop.timestamp_us)?;
            computing += began.elapsed().as_secs_f64();
        }
        let began = Instant::now();
        let transcript = recogniser.finish()?;
        computing += began.elapsed().as_secs_f64();
        Ok(Read {
            transcript,
            summary: pipeline.summary(),
            damage: pipeline.damage().map(Into::into),
            video_s: pipeline.summary().end_us as f64 / 1e6,
            total_s: start.elapsed().as_secs_f64(),
            reading_s: reading.seconds(),
            computing_s: computing,
        })
    }
}

/// What came of a clip, and how long it took.
struct Read {
    transcript: Transcript,
    summary: Summary,
    damage: Option<String>,
    /// Seconds from the source's time 0 to the end of the last crop.
    video_s: f64,
    total_s: f64,
    reading_s: f64,
    computing_s: f64,
}

impl Read {
    fn json(&self, clip: &Path) -> Result<String> {
        let words = self.transcript.words.iter().map(|word| Word {
            word: &word.text,
            start: rounded(word.start_s, 3),
            end: rounded(word.end_s, 3),
            confidence: rounded(f64::from(word.confidence), 3),
        });
        let rtf = |seconds: f64| rounded(seconds / self.video_s, 4);
        Ok(serde_json::to_string(&Line {
            file: &clip.to_string_lossy(),
            text: &self.transcript.text,
            words: words.collect(),
            complete: self.transcript.complete,
            frames: self.summary.frames,
            seconds: rounded(self.video_s, 3),
            rtf: rtf(self.total_s),
            rtf_parts: Parts {
                video: rtf(self.reading_s),
                tracking: rtf((self.total_s - self.reading_s - self.computing_s).max(0.0)),
                recognition: rtf(self.computing_s),
            },
            tracked_frames: self.summary.tracked_frames,
            faces: self.summary.faces_seen,
            damaged: self.damage.is_some(),
        })?)
    }

    /// Says what the user should know about the clip.
    fn remark(&self, clip: &Path) {
        let faces = self.summary.faces_seen;
        if faces > 1 {
            let what = format!(
                "note: {faces} faces; the larger, steadier one was read (--roi x,y,w,h picks another)"
            );
            complain(&about(clip, &what));
        }
        if let Some(how) = &self.damage {
            complain(&about(clip, &read::damaged(Some(how))));
        }
        if !self.transcript.complete {
            complain(&about(
                clip,
                "note: no sentence of the grammar fits; try --grammar none",
            ));
        }
    }
}

/// A clip, for programs.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    text: &'a str,
    words: Vec<Word<'a>>,
    /// Whether the text is a sentence of the grammar; true without one.
    complete: bool,
    /// Crops read, at the model's rate.
    frames: u64,
    /// Where the last crop ends on the clock of the file, which the words' times are on too.
    seconds: f64,
    /// Seconds of work per second of video, from opening the file to the text.
    rtf: f64,
    rtf_parts: Parts,
    /// Crops in which the face was found.
    tracked_frames: u64,
    /// The most faces at the same time; 0 where none was looked for.
    faces: usize,
    /// Whether the video is damaged or cut off, so that words may be wrong.
    damaged: bool,
}

#[derive(Serialize)]
struct Word<'a> {
    word: &'a str,
    start: f64,
    end: f64,
    confidence: f64,
}

/// The parts of the real-time factor.
#[derive(Serialize)]
struct Parts {
    /// Waiting for frames of the file.
    video: f64,
    /// Finding and following the face, cutting out the mouth.
    tracking: f64,
    /// Front-end, encoder and decoder.
    recognition: f64,
}

#[derive(Serialize)]
struct Failed<'a> {
    file: &'a str,
    error: &'a str,
}
