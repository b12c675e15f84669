//! `viseme eval`: error rates over the clips of a manifest, one clip in memory at a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use viseme_capture::source::faults::Faults;
use viseme_corpus::crops::{ClipCrops, CropMaker, Failure};
use viseme_corpus::degrade::{self, Noise, NoiseKind};
use viseme_corpus::detector;
use viseme_corpus::recognise::{self, Evaluation, Measured, RecogniseError, Recogniser};
use viseme_corpus::score::{Edits, Score};
use viseme_corpus::sentence::{SentenceReader, Utterance};
use viseme_corpus::{Clip, Error, Manifest, grid};
use viseme_engine::decode::{Options, Transcript};
use viseme_format::spec::auto_avsr::{AutoAvsr, SAMPLE_RATE};

use crate::cli::{Eval, Harder, Modality};
use crate::model::ModelFile;
use crate::output::{self, complain, one_line, rounded};
use crate::{grammar, model, read, sentences};

/// Longest sound that noise is made of, in frames: ten minutes.
const MOST_NOISE: usize = 15_000;

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
    let auto_avsr = file.auto_avsr()?;
    let (pipeline, perceives) = match &auto_avsr {
        Some(model) => {
            sentences::refuse(grammar.is_some(), false)?;
            let of = model.auto_avsr()?;
            (sentences::pipeline(of), Perceives::of(of))
        }
        None => {
            sentences::refuse_search(&arguments.sentences)?;
            (
                recognise::pipeline_options(&file.open()?)?,
                Perceives::PICTURES,
            )
        }
    };
    let needs_detector = perceives.pictures && clips.iter().any(|clip| clip.roi.is_none());
    let detector = needs_detector
        .then(|| detector::load(arguments.detector.as_deref()))
        .transpose()?;
    let faults = faults(&arguments.harder);
    faults.check()?;
    let source = Clips {
        manifest: &manifest,
        maker: CropMaker::new(detector.as_ref(), &pipeline, arguments.cache.as_deref())?
            .with_faults(faults),
        perceives,
        harder: &arguments.harder,
        noise: Voices::load(&manifest, &arguments.harder, perceives)?,
        failed: RefCell::default(),
        damaged: RefCell::default(),
        stopped: Cell::new(None),
    };
    if let Some(model) = &auto_avsr {
        let team = sentences::team(&arguments.sentences)?;
        let options = sentences::options(&arguments.sentences);
        let reader = SentenceReader::new(model, sentences::kernels(team.as_ref()), options)?;
        return measure(arguments, &clips, source, |clip| {
            let utterance = Utterance {
                crops: clip.seen.crops.clone(),
                start_us: 0,
                samples: clip.heard.clone(),
            };
            let mut transcript = sentences::read(&reader, team.as_ref(), &utterance)?;
            // References are in lower case, the tokens of the originals in upper case.
            transcript.text = transcript.text.to_lowercase();
            Ok(transcript)
        });
    }
    let model = file.open()?;
    let options = Options {
        grammar: grammar.as_ref(),
        ..Options::default()
    };
    let mut memory = Vec::new();
    let mut recogniser = Recogniser::new(&model, &mut memory, options)?;
    measure(arguments, &clips, source, |clip| {
        Ok(recogniser.recognise(&clip.seen)?)
    })
}

/// What is wrong with the camera.
fn faults(harder: &Harder) -> Faults {
    Faults {
        fps: harder.fps,
        lost: harder.drop / 100.0,
        frozen_s: harder.freeze,
    }
}

/// Reads the clips and reports what came of it.
fn measure(
    arguments: &Eval,
    clips: &[&Clip],
    source: Clips<'_>,
    read: impl FnMut(&Perceived) -> Result<Transcript>,
) -> Result<ExitCode> {
    let bar = progress_bar(clips.len());
    let mut running = Score::default();
    let printed = RefCell::new(Ok(()));
    let perceived = clips
        .iter()
        .take_while(|_| printed.borrow().is_ok())
        .map_while(|clip| source.next(clip).inspect(|_| bar.inc(1)))
        .flatten();
    let result = recognise::evaluate(perceived, read, |clip, transcript| {
        running.add(&clip.seen.text, &transcript.text);
        bar.set_message(format!("WER {:.1} %", running.wer()));
        if arguments.per_clip {
            *printed.borrow_mut() = bar.suspend(|| per_clip(&clip.seen, &transcript.text));
        }
    });
    bar.finish_and_clear();
    let failed = source.complain()?;
    let mut printed = printed.into_inner();
    if printed.is_ok() {
        printed = match result {
            Ok(evaluation) => report(&evaluation, failed, arguments.json),
            Err(error) if running.clips == 0 && error.is::<RecogniseError>() => {
                bail!("none of {failed} clips could be read; see above")
            }
            Err(error) => return Err(error),
        };
    }
    Ok(output::exit_code(failed > 0, printed)?)
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
    let name = output::show(&arguments.manifest);
    if !chosen.is_empty() {
        if chosen.iter().all(|clip| clip.text.trim().is_empty()) {
            bail!("{name}: {}", RecogniseError::NoWords);
        }
        return Ok(chosen);
    }
    let Some(wanted) = wanted.filter(|_| !manifest.clips.is_empty()) else {
        bail!("{name}: lists no clips; give a manifest with some");
    };
    let there: BTreeSet<&str> = manifest
        .clips
        .iter()
        .filter_map(field)
        .filter(|side| !side.is_empty())
        .collect();
    if there.is_empty() {
        bail!(
            "{name}: no clip is in split `{wanted}`, nor in any other; leave --split away, or give another --split-field"
        );
    }
    let there: Vec<&str> = there.into_iter().take(20).collect();
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

/// What a model perceives.
#[derive(Clone, Copy)]
struct Perceives {
    pictures: bool,
    sound: bool,
    /// Frames of the longest clip, of those that are read as a whole.
    most: usize,
}

impl Perceives {
    const PICTURES: Self = Perceives {
        pictures: true,
        sound: false,
        most: usize::MAX,
    };

    fn of(model: &AutoAvsr<'_>) -> Self {
        Perceives {
            pictures: model.video.is_some(),
            sound: model.audio.is_some(),
            most: model.max_frames as usize,
        }
    }
}

/// A clip as it was perceived.
struct Perceived {
    seen: ClipCrops,
    /// 16 kHz; empty for models that only see.
    heard: Vec<i16>,
}

impl Measured for Perceived {
    fn text(&self) -> &str {
        &self.seen.text
    }

    fn seconds(&self) -> f64 {
        match self.seen.frames() {
            0 => self.heard.len() as f64 / f64::from(SAMPLE_RATE),
            _ => self.seen.seconds(),
        }
    }
}

/// The noise to be heard over clips.
#[derive(Default)]
struct Voices {
    noise: Option<Noise>,
    /// Names and sounds that it is made of.
    sounds: Vec<(String, Vec<i16>)>,
}

impl Voices {
    /// Clips of which babble is made.
    const CLIPS: usize = 4 * degrade::VOICES;

    fn load(manifest: &Manifest, harder: &Harder, perceives: Perceives) -> Result<Self> {
        let of_sound = harder.noise.is_some() || harder.desync != 0;
        if of_sound && !perceives.sound {
            bail!("the model does not hear; leave --noise and --desync out, or give another model");
        }
        let of_pictures = harder.occlude || !faults(harder).is_none();
        if of_pictures && !perceives.pictures {
            bail!(
                "the model does not see; leave --fps, --drop, --freeze and --occlude out, or give another model"
            );
        }
        let Some(noise) = harder.noise.clone() else {
            return Ok(Self::default());
        };
        let sound = |path: &Path| read::sound(path, MOST_NOISE, &read::Stopwatch::default());
        let sounds = match &noise.kind {
            NoiseKind::White | NoiseKind::Pink => Vec::new(),
            NoiseKind::File(path) => vec![(String::new(), sound(path)?)],
            NoiseKind::Babble => {
                // From all over the manifest: many speakers.
                let step = (manifest.clips.len() / Self::CLIPS).max(1);
                let some = manifest.clips.iter().step_by(step).take(Self::CLIPS);
                some.map(|clip| Ok((clip.id(), sound(&manifest.path_of(clip))?)))
                    .collect::<Result<_>>()?
            }
        };
        let is_silent = |sound: &[i16]| sound.iter().all(|&sample| sample == 0);
        match &noise.kind {
            NoiseKind::File(path) if sounds.iter().all(|(_, sound)| is_silent(sound)) => bail!(
                "{}: is silent, and no noise; give another file",
                output::show(path)
            ),
            NoiseKind::Babble if sounds.len() < 2 => {
                bail!("babble is made of other clips, and the manifest has one; give another noise")
            }
            _ => {}
        }
        Ok(Voices {
            noise: Some(noise),
            sounds,
        })
    }

    /// Lays the noise over the sound of a clip.
    fn over(&self, samples: &mut [i16], id: &str) {
        let Some(noise) = &self.noise else { return };
        let (len, seed) = (samples.len(), degrade::seed(id));
        let made = match noise.kind {
            NoiseKind::White => degrade::white(len, seed),
            NoiseKind::Pink => degrade::pink(len, seed),
            NoiseKind::Babble => {
                let others = self.sounds.iter().filter(|(other, _)| other != id);
                let others: Vec<&[i16]> = others.map(|(_, sound)| &sound[..]).collect();
                degrade::babble(&others, len, seed)
            }
            NoiseKind::File(_) => {
                let all: Vec<&[i16]> = self.sounds.iter().map(|(_, sound)| &sound[..]).collect();
                degrade::babble(&all, len, seed)
            }
        };
        degrade::mix(samples, &made, noise.snr_db);
    }
}

/// Hands out one clip after the other, and remembers what there is to say of them.
struct Clips<'a> {
    manifest: &'a Manifest,
    maker: CropMaker<'a>,
    perceives: Perceives,
    harder: &'a Harder,
    noise: Voices,
    /// Names and reasons of the clips that could not be read.
    failed: RefCell<Vec<(String, String)>>,
    /// Names of the clips that were read though they are damaged.
    damaged: RefCell<Vec<String>>,
    stopped: Cell<Option<Error>>,
}

impl Clips<'_> {
    /// The next clip, `Some(None)` if it failed, `None` if there is no use in going on.
    fn next(&self, clip: &Clip) -> Option<Option<Perceived>> {
        match self.perceive(clip) {
            Ok(perceived) => {
                if perceived.seen.damaged {
                    self.damaged.borrow_mut().push(perceived.seen.id.clone());
                }
                Some(Some(perceived))
            }
            Err(Failure::Clip(reason)) => {
                self.failed.borrow_mut().push((clip.id(), reason));
                Some(None)
            }
            Err(Failure::Cache(error)) => {
                self.stopped.set(Some(error));
                None
            }
        }
    }

    fn perceive(&self, clip: &Clip) -> Result<Perceived, Failure> {
        let most = self.perceives.most;
        let mut seen = match self.perceives.pictures {
            true => self.maker.load(self.manifest, clip)?,
            false => ClipCrops::unseen(clip),
        };
        if seen.frames() > most {
            return Err(Failure::Clip(read::too_long(most)));
        }
        if self.harder.occlude {
            degrade::cover(&mut seen.crops);
        }
        let mut heard = match self.perceives.sound {
            true => read::sound(
                &self.manifest.path_of(clip),
                most,
                &read::Stopwatch::default(),
            )
            .map_err(|e| Failure::Clip(e.to_string()))?,
            false => Vec::new(),
        };
        self.noise.over(&mut heard, &clip.id());
        degrade::shift(&mut heard, self.harder.desync, SAMPLE_RATE);
        Ok(Perceived { seen, heard })
    }

    /// Prints what there is to say; how many clips failed.
    ///
    /// # Errors
    /// What made it useless to go on.
    fn complain(self) -> Result<usize> {
        if let Some(error) = self.stopped.take() {
            return Err(error.into());
        }
        for clip in self.damaged.into_inner() {
            complain(&format!("{clip}: {}", read::damaged(None)));
        }
        let failed = self.failed.into_inner();
        for (clip, reason) in &failed {
            complain(&format!("{clip}: {reason}"));
        }
        Ok(failed.len())
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

fn report(evaluation: &Evaluation, failed: usize, json: bool) -> io::Result<()> {
    let &Evaluation {
        wer,
        cer,
        clips,
        words,
        rtf,
    } = evaluation;
    if json {
        let result = Report {
            wer: rounded(wer, 3),
            cer: rounded(cer, 3),
            clips,
            words,
            rtf: rounded(rtf, 4),
            failed,
        };
        output::print(&serde_json::to_string(&result)?)
    } else {
        output::print(&format!(
            "WER {wer:.2} %, CER {cer:.2} %, {clips} clips, {words} words, {failed} clips failed, real-time factor {rtf:.4}"
        ))
    }
}

/// The result, for programs.
#[derive(Serialize)]
struct Report {
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
