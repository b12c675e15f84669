//! The loss of a run: `loss.csv`, and a picture of it, `loss.svg`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkpoint::write_atomically;
use crate::train::Report;

/// Rows of the curve so far.
pub struct Curve {
    folder: PathBuf,
    rows: Vec<Row>,
}

#[derive(Clone, Copy)]
struct Row {
    step: usize,
    ctc: f32,
    frame: f32,
    norm: f32,
    rate: f32,
}

const HEADER: &str = "step,ctc,frame,gradient_norm,learning_rate";
/// Steps averaged for the progress bar and the picture.
const WINDOW: usize = 50;

impl Curve {
    /// The rows up to `step` of the run in `folder`; later ones were not part of its checkpoint.
    pub fn resume(folder: &Path, step: usize) -> Result<Self> {
        let path = folder.join("loss.csv");
        let text = if step > 0 && path.exists() {
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?
        } else {
            String::new()
        };
        let parse = |line: &str| {
            let mut parts = line.split(',');
            let row_step: usize = parts.next()?.parse().ok()?;
            let mut number = || parts.next()?.parse().ok();
            Some(Row {
                step: row_step,
                ctc: number()?,
                frame: number()?,
                norm: number()?,
                rate: number()?,
            })
        };
        let rows = text
            .lines()
            .filter_map(parse)
            .filter(|r| r.step <= step)
            .collect();
        Ok(Self {
            folder: folder.to_owned(),
            rows,
        })
    }

    /// Adds a step.
    pub fn push(&mut self, step: usize, r: &Report, rate: f32) {
        self.rows.push(Row {
            step,
            ctc: r.ctc,
            frame: r.frame,
            norm: r.norm,
            rate,
        });
    }

    /// Loss averaged over the last steps, for the progress bar.
    pub fn recent(&self) -> String {
        let last = &self.rows[self.rows.len().saturating_sub(WINDOW)..];
        let mean = |f: fn(&Row) -> f32| last.iter().map(f).sum::<f32>() / last.len().max(1) as f32;
        format!("ctc {:.3} frame {:.3}", mean(|r| r.ctc), mean(|r| r.frame))
    }

    /// Writes both files.
    pub fn save(&self) -> Result<()> {
        let mut csv = format!("{HEADER}\n");
        for r in &self.rows {
            writeln!(
                csv,
                "{},{},{},{},{}",
                r.step, r.ctc, r.frame, r.norm, r.rate
            )?;
        }
        write_atomically(&self.folder.join("loss.csv"), csv.as_bytes())?;
        write_atomically(&self.folder.join("loss.svg"), self.picture().as_bytes())
    }

    fn picture(&self) -> String {
        const W: f32 = 720.0;
        const H: f32 = 360.0;
        let steps = self.rows.last().map_or(1, |r| r.step).max(1) as f32;
        let mean =
            |rows: &[Row], f: fn(&Row) -> f32| rows.iter().map(f).sum::<f32>() / rows.len() as f32;
        let top = self
            .rows
            .chunks(WINDOW)
            .map(|rows| mean(rows, |r| r.ctc).max(mean(rows, |r| r.frame)))
            .fold(0.1, f32::max);
        let line = |f: fn(&Row) -> f32, colour: &str| {
            let points: Vec<String> = self
                .rows
                .chunks(WINDOW)
                .map(|rows| {
                    let x = 50.0 + W * rows[rows.len() / 2].step as f32 / steps;
                    format!("{x:.1},{:.1}", 20.0 + H * (1.0 - mean(rows, f) / top))
                })
                .collect();
            let points = points.join(" ");
            format!(
                "<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{points}'/>"
            )
        };
        let text = |x: f32, y: f32, colour: &str, s: &str| {
            format!(
                "<text x='{x}' y='{y}' fill='{colour}' font-size='13' font-family='sans-serif'>{s}</text>"
            )
        };
        [
            format!("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 800 420' width='800' height='420'><rect width='800' height='420' fill='white'/><path d='M50 20V{0}H{1}' fill='none' stroke='#888'/>", 20.0 + H, 50.0 + W),
            line(|r| r.ctc, "#1565c0"),
            line(|r| r.frame, "#c62828"),
            text(560.0, 40.0, "#1565c0", "CTC loss per token"),
            text(560.0, 60.0, "#c62828", "frame cross-entropy"),
            text(5.0, 30.0, "#444", &format!("{top:.2}")),
            text(5.0, 380.0, "#444", "0"),
            text(700.0, 400.0, "#444", &format!("step {steps}")),
            "</svg>\n".to_owned(),
        ]
        .concat()
    }
}
