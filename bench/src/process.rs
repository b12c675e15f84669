//! An engine in a process of its own, asked by the protocol of `bench/peers/protocol/`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::cases::LEFT;

/// The process. It ends when this is dropped.
pub struct Process {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts an engine, loads a model and sets its inputs: the first of the frames in `input`, all of these shapes.
    ///
    /// # Errors
    /// One line: what the engine said.
    pub fn start(
        command: &mut Command,
        model: &Path,
        input: &Path,
        shapes: &[Vec<usize>],
    ) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start it: {e}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (questions, answers) = pipes.ok_or("it has no pipes")?;
        let mut process = Process {
            child,
            questions,
            answers: BufReader::new(answers),
        };
        process.ask("ready", &format!("load\t{}", model.display()))?;
        let shape = |shape: &Vec<usize>| {
            shape
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join("x")
        };
        let shapes: Vec<String> = shapes.iter().map(shape).collect();
        let input = input.display();
        let question = format!("prepare\t{input}\t{LEFT}\t{}", shapes.join("\t"));
        process.ask("ready", &question)?;
        Ok(process)
    }

    /// Milliseconds of each of `count` runs.
    ///
    /// # Errors
    /// What the engine said.
    pub fn run(&mut self, count: usize) -> Result<Vec<f64>, String> {
        let times: Vec<f64> = self.numbers("times", &format!("run\t{count}"))?;
        Ok(times.into_iter().map(|ns| ns / 1e6).collect())
    }

    /// The logits.
    ///
    /// # Errors
    /// What the engine said.
    pub fn output(&mut self) -> Result<Vec<f64>, String> {
        self.numbers("output", "output")
    }

    /// What the encoder gives, before the head.
    ///
    /// # Errors
    /// What the engine said.
    pub fn encoded(&mut self) -> Result<Vec<f64>, String> {
        self.numbers("output", "encoded")
    }

    /// The most memory that it has had, in kB.
    ///
    /// # Errors
    /// What the engine said.
    pub fn rss(&mut self) -> Result<f64, String> {
        let numbers = self.numbers("rss", "rss")?;
        numbers.first().copied().ok_or_else(|| "no number".into())
    }

    fn numbers(&mut self, kind: &str, question: &str) -> Result<Vec<f64>, String> {
        let answer = self.ask(kind, question)?;
        let number = |word: &str| word.parse().map_err(|_| format!("it answered `{word}`"));
        answer.split_whitespace().map(number).collect()
    }

    /// What follows the word that the answer should begin with.
    fn ask(&mut self, kind: &str, question: &str) -> Result<String, String> {
        let mut answer = String::new();
        let asked = writeln!(self.questions, "{question}").and_then(|()| self.questions.flush());
        // LiteRT prints messages of its own on standard output.
        while asked.is_ok() {
            answer.clear();
            match self.answers.read_line(&mut answer) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let (word, rest) = answer
                .trim_end()
                .split_once(' ')
                .unwrap_or((answer.trim_end(), ""));
            if word == kind {
                return Ok(rest.to_owned());
            }
            if word == "error" {
                return Err(rest.to_owned());
            }
        }
        let status = self.child.wait().map(|status| status.to_string());
        Err(format!("it ended: {}", status.unwrap_or_default()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
