//! The protocol between `viseme-bench` and an engine in a process of its own: lines of text, a question on standard
//! input, an answer on standard output.
//!
//! ```text
//! load MODEL                      ready
//! prepare FILE LEFT SHAPE SHAPE … ready         FILE: f32, all frames; SHAPE: of each input, such as 8x256
//! run N                           times NS NS … of each of N runs
//! output                          output V V …  of the last run
//! encoded                         output V V …  the last output of the last run
//! rss                             rss KB        the most memory that the process has had so far
//! ```
//!
//! Words of a question are separated by tabs, those of an answer by spaces. Anything that goes wrong is answered by `error` and a line that says why.
//!
//! A model has one input, or those of a step of a stream: the frames of a chunk, caches, and a mask of the keys as the
//! last. Its first output are the logits, then come the next caches, in the same order, and the last one is what the encoder gives. `prepare` runs all chunks
//! but the last, so that what is timed is a step in the middle of a stream.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

/// A tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Vec<f32>,
}

/// An engine with a model.
pub trait Engine: Sized {
    /// Loads a model.
    ///
    /// # Errors
    /// Why it cannot be run.
    fn load(model: &Path) -> Result<Self, String>;

    /// Sets all inputs, in the model's order.
    ///
    /// # Errors
    /// What the engine says.
    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String>;

    /// Runs the model on the inputs: what is timed.
    ///
    /// # Errors
    /// What the engine says.
    fn run(&mut self) -> Result<(), String>;

    /// All outputs of the last run, in the model's order.
    ///
    /// # Errors
    /// What the engine says.
    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String>;

    /// Brings the stream of `frames` to its last chunk, the inputs of which are set and not run yet.
    ///
    /// # Errors
    /// What the engine says.
    fn prepare(
        &mut self,
        frames: &[f32],
        left: usize,
        shapes: &[Vec<usize>],
    ) -> Result<(), String> {
        let mut inputs: Vec<Tensor> = shapes.iter().map(|shape| Tensor::zeros(shape)).collect();
        let first = inputs.first().ok_or("a model without inputs")?;
        let (chunk, values) = (first.shape[0], first.data.len());
        if values == 0 || !frames.len().is_multiple_of(values) {
            return Err("the frames are no whole number of chunks".into());
        }
        let count = frames.len() / values;
        for (number, features) in frames.chunks(values).enumerate() {
            inputs[0].data.copy_from_slice(features);
            if inputs.len() > 1 {
                let hidden = left - (number * chunk).min(left);
                let mask = inputs.last_mut().expect("more than one");
                mask.data.fill(0.0);
                mask.data[..hidden].fill(-1e9);
            }
            self.set(&inputs)?;
            if number + 1 < count {
                self.run()?;
                let next = self.outputs()?;
                let last = inputs.len() - 1;
                for (cache, next) in inputs[1..last].iter_mut().zip(next.into_iter().skip(1)) {
                    cache.data = next;
                }
            }
        }
        Ok(())
    }
}

impl Tensor {
    fn zeros(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            data: vec![0.0; shape.iter().product()],
        }
    }
}

/// Answers questions until there are no more.
pub fn serve<E: Engine>() {
    let mut engine = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let answer = answer::<E>(&mut engine, &line).unwrap_or_else(|why| {
            let why: Vec<&str> = why.split_whitespace().collect();
            format!("error {}", why.join(" "))
        });
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .is_err()
        {
            return;
        }
    }
}

fn answer<E: Engine>(engine: &mut Option<E>, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split('\t').collect();
    if let ["load", model] = words[..] {
        *engine = Some(E::load(Path::new(model))?);
        return Ok("ready".into());
    }
    let engine = engine.as_mut().ok_or("no model is loaded")?;
    match words[..] {
        ["prepare", file, left, ref shapes @ ..] => {
            let bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
            let (values, _) = bytes.as_chunks();
            let frames: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
            let shape = |text: &&str| text.split('x').map(number).collect();
            let shapes: Result<Vec<Vec<usize>>, String> = shapes.iter().map(shape).collect();
            engine.prepare(&frames, number(left)?, &shapes?)?;
            Ok("ready".into())
        }
        ["run", count] => {
            let mut times = String::from("times");
            for _ in 0..number(count)? {
                let start = Instant::now();
                engine.run()?;
                times += &format!(" {}", start.elapsed().as_nanos());
            }
            Ok(times)
        }
        [which @ ("output" | "encoded")] => {
            let outputs = engine.outputs()?;
            let values = match which {
                "output" => outputs.first(),
                _ => outputs.last(),
            };
            let values = values.ok_or("a model without outputs")?;
            let values: Vec<String> = values.iter().map(f32::to_string).collect();
            Ok(format!("output {}", values.join(" ")))
        }
        ["rss"] => Ok(format!("rss {}", peak_rss()?)),
        _ => Err(format!("`{line}` is no question")),
    }
}

/// The most memory that this process has had, in kB.
pub fn peak_rss() -> Result<usize, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.ok_or("/proc/self/status has no VmHWM")?;
    number(words.trim_end_matches("kB").trim())
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the last three frames, and says which of them and of the chunk are to be seen.
    struct Toy(Vec<Tensor>);

    impl Engine for Toy {
        fn load(_: &Path) -> Result<Self, String> {
            Ok(Toy(Vec::new()))
        }

        fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
            self.0 = inputs.to_vec();
            Ok(())
        }

        fn run(&mut self) -> Result<(), String> {
            Ok(())
        }

        fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
            let [features, cache, mask] = &self.0[..] else {
                return Err("three\ninputs".into());
            };
            let all = [&cache.data[..], &features.data].concat();
            let seen = all.iter().zip(&mask.data).filter(|(_, m)| **m == 0.0);
            let seen = seen.map(|(frame, _)| *frame).collect();
            Ok(vec![seen, all[features.data.len()..].to_vec()])
        }
    }

    #[test]
    fn streams_come_to_their_last_chunk() {
        let folder = std::env::temp_dir().join(format!("peer-protocol-{}", std::process::id()));
        let frames: Vec<u8> = (1..=8u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
        std::fs::write(&folder, frames).unwrap();
        let mut toy = None;
        let mut ask = |line: &str| answer::<Toy>(&mut toy, line);
        assert!(ask("output").unwrap_err().contains("no model"));
        assert_eq!(ask("load\tmodel").unwrap(), "ready");
        let cases = [(2, "output 4 5 6 7 8"), (4, "output 2 3 4 5 6 7 8")];
        for (chunk, wanted) in cases {
            let (left, shape) = (3, format!("{chunk}x1"));
            let keys = left + chunk;
            let file = folder.display();
            let question = format!("prepare\t{file}\t{left}\t{shape}\t{left}x1\t1x1x{keys}");
            assert_eq!(ask(&question).unwrap(), "ready");
            assert_eq!(ask("output").unwrap(), wanted);
        }
        // The first chunk sees no cache.
        let question = format!("prepare\t{}\t3\t8x1\t3x1\t1x1x11", folder.display());
        assert_eq!(ask(&question).unwrap(), "ready");
        assert_eq!(ask("output").unwrap(), "output 1 2 3 4 5 6 7 8");
        assert_eq!(ask("run\t3").unwrap().split(' ').count(), 4);
        let question = format!("prepare\t{}\t3\t8x1", folder.display());
        assert!(ask(&question).is_ok() && ask("output").is_err());
        let question = format!("prepare\t{}\t3\t3x1", folder.display());
        assert!(ask(&question).unwrap_err().contains("whole number"));
        assert!(ask("rss").unwrap().starts_with("rss "));
        std::fs::remove_file(&folder).unwrap();
    }
}
