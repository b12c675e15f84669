//! What commands that run models of Auto-AVSR have in common.

use anyhow::{Result, anyhow, bail};
use viseme_capture::pipeline::PipelineOptions;
use viseme_corpus::sentence::{self, SentenceReader, Utterance};
use viseme_corpus::team::Team;
use viseme_engine::decode::{Transcript, attention};
use viseme_engine::kernels::{Kernels, detect};
use viseme_format::spec::auto_avsr::AutoAvsr;

use crate::cli::Sentences;

/// The threads that the command line asks for, if more than one.
///
/// # Errors
/// If the system does not give them.
pub fn team(sentences: &Sentences) -> Result<Option<Team>> {
    match sentences.threads {
        None | Some(1) => Ok(None),
        Some(threads) => Team::new(threads.into()).map(Some).map_err(|e| {
            anyhow!("{threads} threads cannot be started ({e}); give a smaller --threads")
        }),
    }
}

/// The kernels of these threads, or of this one.
pub fn kernels(team: Option<&Team>) -> &dyn Kernels {
    match team {
        Some(team) => team,
        None => detect(),
    }
}

/// What was said, computed by these threads or this one.
///
/// # Errors
/// If the utterance is empty, too long, or lacks what the model perceives.
pub fn read(
    reader: &SentenceReader<'_>,
    team: Option<&Team>,
    utterance: &Utterance,
) -> Result<Transcript> {
    Ok(match team {
        Some(team) => team.run(|| reader.read(utterance))?,
        None => reader.read(utterance)?,
    })
}

/// How crops are made for such a model.
pub fn pipeline(of: &AutoAvsr<'_>) -> PipelineOptions {
    PipelineOptions {
        fps: sentence::FPS,
        smooth: of.crop.smooth as usize,
        ..PipelineOptions::default()
    }
}

/// Refuses what models of Auto-AVSR do not take.
///
/// # Errors
/// One line.
pub fn refuse(grammar: bool, backend: bool) -> Result<()> {
    if grammar {
        bail!(
            "a model of Auto-AVSR has a decoder of its own, which takes no grammar; leave --grammar out"
        );
    }
    if backend {
        bail!("a model of Auto-AVSR runs in our engine only; leave --backend out");
    }
    Ok(())
}

/// Refuses what only models of Auto-AVSR take.
///
/// # Errors
/// One line.
pub fn refuse_search(given: &Sentences) -> Result<()> {
    let search = given.beam.is_some() || given.ctc_weight.is_some() || given.penalty.is_some();
    if search || given.threads.is_some() {
        bail!(
            "--beam, --ctc-weight, --penalty and --threads are for models made from Auto-AVSR checkpoints; leave them out"
        );
    }
    Ok(())
}

/// The search that the command line asks for.
pub fn options(search: &Sentences) -> attention::Options {
    let default = attention::Options::default();
    attention::Options {
        beam: search.beam.unwrap_or(default.beam),
        ctc_weight: search.ctc_weight.unwrap_or(default.ctc_weight),
        penalty: search.penalty.unwrap_or(default.penalty),
    }
}
