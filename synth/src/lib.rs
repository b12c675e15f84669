//! viseme-synth: a synthetic talking mouth with a matching simple voice.
//!
//! Text becomes phonemes ([`pronounce`]), phonemes get times ([`timing`]), times become
//! lip, jaw and tongue movements ([`articulation`]), and those are painted as the grey
//! 96x96 mouth crops that the tracker cuts from real video (`render`), with speech from a
//! formant synthesiser ([`voice`]). Training, tests and the demo use it where there is no
//! data.
//!
//! Everything follows from the speaker's seed and the clip's seed, bit for bit, on every
//! machine: random numbers are our own ([`rng`]), and pixels and samples come from
//! `+ - * /`, `sqrt` and the polynomials of [`math`] alone.
//!
//! ```
//! use viseme_synth::{Options, Speaker, render};
//!
//! let clip = render("bin blue at f two now", &Speaker::train(7), 1, Options::default());
//! assert_eq!(clip.frames.len(), 75);
//! assert_eq!(clip.words.len(), 6);
//! ```

pub mod articulation;
pub mod clip;
pub mod export;
pub mod math;
pub mod phoneme;
pub mod pronounce;
mod render;
pub mod rng;
pub mod speaker;
pub mod timing;
pub mod voice;

pub use articulation::Mouth;
pub use clip::{Clip, Options, Plan, render};
pub use phoneme::Phoneme;
pub use pronounce::{Sentence, grid_sentence};
pub use render::CROP;
pub use rng::Rng;
pub use speaker::Speaker;
pub use voice::SAMPLE_RATE;
