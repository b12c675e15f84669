//! Command lines, with one line for whatever is wrong in them.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

/// The arguments of this program.
///
/// # Errors
/// How to end: help was printed, or one line says what is wrong.
pub fn parse<C: Parser>(program: &str) -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nothing can be done about a stdout that is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{program}: {}", complaint(&error, program));
            ExitCode::from(2)
        }
    })
}

fn complaint(error: &clap::Error, program: &str) -> String {
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command given".into(),
        _ => {
            let text = error.to_string();
            let what = text.split("\n\n").next().unwrap_or("bad arguments");
            let words: Vec<&str> = what.split_whitespace().collect();
            let what = words.join(" ");
            what.strip_prefix("error: ").unwrap_or(&what).to_owned()
        }
    };
    let what: String = what.chars().filter(|c| !c.is_control()).collect();
    format!("{what}; see `{program} --help`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[arg(long)]
        bits: u8,
        file: String,
    }

    #[test]
    fn what_is_wrong_fits_one_line() {
        for (arguments, words) in [
            (&["p"][..], "required arguments were not provided"),
            (&["p", "--bits", "x", "f"], "invalid value 'x'"),
            (
                &["p", "--bits", "8", "f", "--fast\nmore"],
                "unexpected argument",
            ),
        ] {
            let Err(error) = Cli::try_parse_from(arguments) else {
                panic!("{words}");
            };
            let line = complaint(&error, "p");
            assert!(
                line.contains(words) && line.ends_with("see `p --help`"),
                "{line}"
            );
            assert!(!line.contains('\n'), "{line}");
        }
        let cli = Cli::try_parse_from(["p", "--bits", "8", "f"]).ok();
        assert!(cli.is_some_and(|cli| cli.bits == 8 && cli.file == "f"));
    }
}
