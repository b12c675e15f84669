//! `cargo xtask demo`: the main job with nothing but the clone.

use std::fs;
use std::path::Path;

use crate::picture::{self, Caption};
use crate::run::{Failure, cargo, output, root, step};

/// What the synthetic speaker says; `cargo xtask demo "set white by p four soon"` says that.
const TEXT: &str = "place red at g nine now";
/// A speaker that training never saw.
const SPEAKER: &str = "7";

/// Renders a clip, reads its lips, prints both texts and draws the frames with the words.
pub fn demo(rest: &[String]) -> Result<(), Failure> {
    let text = if rest.is_empty() {
        TEXT.to_owned()
    } else {
        rest.join(" ")
    };
    let folder = root().join("target/demo");
    step(
        "building",
        cargo().args(["build", "--release", "-p", "viseme", "-p", "viseme-synth"]),
    )?;
    let mut synth = cargo();
    synth.args([
        "run",
        "--quiet",
        "--release",
        "-p",
        "viseme-synth",
        "--",
        "clip",
        "--unseen",
    ]);
    synth
        .args(["--speaker", SPEAKER, "--text", &text, "--out"])
        .arg(&folder);
    output("render the clip", &mut synth)?;
    let clip = folder.join("clip.y4m");
    let mut viseme = cargo();
    viseme
        .args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "viseme",
            "--",
            "transcribe",
        ])
        .arg(&clip);
    viseme.args(["--roi", "0,0,96,96", "--grammar", "grid", "--json"]);
    let json = output("read the clip", &mut viseme)?;
    let read = string_field(&json, "text")
        .ok_or_else(|| Failure::usage(format!("no text in the command's output: {json}")))?;
    let drawing = folder.join("demo.png");
    draw(&clip, &captions(&json), &drawing)?;
    println!("said: {text}");
    println!("read: {read}");
    println!(
        "the mouth, frame by frame, with the words under it: {}",
        drawing.display()
    );
    Ok(())
}

fn draw(clip: &Path, captions: &[Caption], to: &Path) -> Result<(), Failure> {
    let fail = |e: String| Failure::usage(format!("cannot draw {}: {e}", to.display()));
    let video = fs::read(clip).map_err(|e| fail(e.to_string()))?;
    let frames = picture::y4m_frames(&video).map_err(|e| fail(e.to_owned()))?;
    let png = picture::sheet(&frames, captions).map_err(fail)?;
    fs::write(to, png).map_err(|e| fail(e.to_string()))
}

/// The words of the JSON that `viseme transcribe --json` prints, with their times.
///
/// The output is our own and flat, so three small readers do instead of a JSON library.
fn captions(json: &str) -> Vec<Caption> {
    let Some((_, words)) = json.split_once("\"words\"") else {
        return Vec::new();
    };
    let words = words.split(']').next().unwrap_or_default();
    words
        .split('}')
        .filter_map(|word| {
            Some(Caption {
                text: string_field(word, "text").or_else(|| string_field(word, "word"))?,
                start_s: number_field(word, "start")?,
                end_s: number_field(word, "end")?,
            })
        })
        .collect()
}

fn string_field(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let rest = rest
        .trim_start()
        .strip_prefix(':')?
        .trim_start()
        .strip_prefix('"')?;
    Some(rest.split('"').next()?.to_owned())
}

fn number_field(json: &str, name: &str) -> Option<f32> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = rest.find(|c: char| !(c.is_ascii_digit() || ".-+eE".contains(c)));
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_command_s_own_output() {
        let json = r#"{"file":"a.y4m","text":"bin blue","words":[{"text":"bin","start":0.4,"end":0.64},{"text":"blue","start":0.64,"end":1}],"frames":75}"#;
        assert_eq!(string_field(json, "text").as_deref(), Some("bin blue"));
        let captions = captions(json);
        assert_eq!(captions.len(), 2);
        assert_eq!(
            (captions[1].text.as_str(), captions[1].end_s),
            ("blue", 1.0)
        );
    }
}
