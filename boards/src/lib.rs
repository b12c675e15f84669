//! The boards: one TOML file each in `data/`, this crate is their schema.
//!
//! Nothing in the engine depends on a board; tools ask this crate what a model may cost there. To add a board, add a
//! file: it is found, compiled in, and validated by a test. A figure goes in only when there is a source for it, so
//! most are optional; what a board is *allowed* to cost ([`Budget`]) is our own decision.
//!
//! ```
//! let board = viseme_boards::find("rpi-5").unwrap();
//! assert!(board.cpu.has("dotprod"));
//! ```

mod validate;

use std::fmt;

use serde::Deserialize;

/// A board.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The name of its file, without `.toml`: lower-case letters, digits and dashes.
    #[serde(skip)]
    pub id: String,
    /// The name its maker gives it.
    pub name: String,
    /// Rust target triple of the programs that run on it.
    pub target: String,
    /// The processor.
    pub cpu: Cpu,
    /// Memory, as far as known.
    #[serde(default)]
    pub memory: Memory,
    /// Where frames come from; absent on boards without a camera.
    pub camera: Option<Camera>,
    /// Where sound comes from; absent on boards without a microphone.
    pub mic: Option<Mic>,
    /// What recognition may cost.
    pub budget: Budget,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Core, by its maker's name in lower case: `cortex-a76`.
    pub core: String,
    /// Clock, in MHz.
    pub clock_mhz: u32,
    /// What it can do beyond its architecture's baseline, in Rust's target feature names: `dotprod`, `i8mm`.
    pub features: Vec<String>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Smallest RAM the board is sold with, in KiB.
    pub ram_kib: Option<u32>,
    /// Program flash of a microcontroller, in KiB. Boards with a file system have none.
    pub flash_kib: Option<u32>,
    /// Bytes that one core copies in a second, in MB/s: the bound on reading weights. The lowest figure measured.
    pub copy_mb_s: Option<u32>,
}

/// A source of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// How programs reach it.
    pub interface: CameraInterface,
}

/// How programs reach a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraInterface {
    /// Video4Linux 2: USB cameras, and camera connectors with a Linux driver.
    V4l2,
    /// Wired to the pins of a microcontroller.
    Parallel,
}

/// A source of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mic {
    /// How programs reach it.
    pub interface: MicInterface,
}

/// How programs reach a microphone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MicInterface {
    /// The Linux sound system: USB microphones, sound cards.
    Alsa,
    /// Wired to the pins of a microcontroller.
    I2s,
}

/// What recognition may cost on a board. Decisions, not measurements: a test that exceeds one fails.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Largest model file, in KiB.
    pub model_kib: u32,
    /// Largest working memory of a session, in KiB.
    pub arena_kib: u32,
    /// Longest computing time per second of video on one core, in seconds.
    pub real_time_factor: f32,
}

/// All boards, in the order of their ids.
///
/// # Panics
/// Never with the files of this repository: a test parses each.
pub fn all() -> Vec<Board> {
    let parse = |&(id, text): &(&str, &str)| Board::parse(id, text).expect("a test has parsed it");
    FILES.iter().map(parse).collect()
}

/// The board with this id.
pub fn find(id: &str) -> Option<Board> {
    all().into_iter().find(|board| board.id == id)
}

impl Board {
    /// Parses and validates the file `<id>.toml`.
    ///
    /// # Errors
    /// [`BoardError`], which names the file and the field.
    pub fn parse(id: &str, text: &str) -> Result<Self, BoardError> {
        let error = |why: String| BoardError { id: id.into(), why };
        let mut board: Self = toml::from_str(text).map_err(|parse| {
            let start = parse.span().map_or(0, |span| span.start);
            let line = 1 + text[..start].matches('\n').count();
            error(format!("line {line}: {}", parse.message()))
        })?;
        board.id = id.into();
        validate::board(&board).map_err(error)?;
        Ok(board)
    }
}

impl Cpu {
    /// Whether the processor has a feature, named as Rust names it.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|has| has == feature)
    }
}

/// Why a board file was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardError {
    id: String,
    why: String,
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boards/data/{}.toml: {}", self.id, self.why)
    }
}

impl std::error::Error for BoardError {}

/// Id and content of every file in `data/`.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

#[cfg(test)]
mod tests;
