//! `viseme`: reads lips. Video in, words out, offline.
//!
//! | command | does |
//! |---|---|
//! | `transcribe` | prints what is said in clips |
//! | `eval` | measures error rates over a manifest of clips |
//! | `info` | says what a model file is and what it costs |
//! | `forward` | runs an Auto-AVSR model on a stored input, stage by stage |
//! | `models` | lists the models that the command uses, and fetches those that are not in it |
//!
//! Whatever goes wrong is one line on stderr that begins with `viseme: `, and exit code 2.

mod backend;
mod cli;
mod eval;
mod forward;
mod grammar;
mod info;
mod model;
mod models;
mod output;
mod read;
mod sentences;
mod sys;
mod transcribe;

use std::io;
use std::process::ExitCode;

use viseme_corpus::arguments;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli: Cli = match arguments::parse("viseme") {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = match cli.command {
        Command::Transcribe(arguments) => transcribe::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Forward(arguments) => forward::run(&arguments),
        Command::Models(arguments) => models::run(&arguments),
    };
    match result {
        Ok(code) => code,
        // The reader of our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::from(output::FAILED)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
