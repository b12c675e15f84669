//! Looking at what a model computes on the way, to compare it with the original.

use crate::model::conformer::encoder::Watcher;

/// Somebody who looks.
pub trait Observer: Sync {
    /// Rows of shape `row`, from row `first` on, of what is called `name`:
    ///
    /// | name | row |
    /// |---|---|
    /// | `B.frontend.stem_bn`, `B.frontend.stem`, `B.frontend.0` to `.3` | [height, width, channels] of a frame; sound: [samples, channels] of all |
    /// | `B.frontend`, `B.proj`, `B.scaled` | vector of a frame |
    /// | `B.pos_emb` | sinusoid of a distance, from the largest on |
    /// | `B.encoder.N.{norm_ff_macaron, ff_macaron, self_attn, conv_module, ff}` | vector of a frame, before it is scaled and added |
    /// | `B.encoder.N.attn_weights` | weights of a head, [frames, frames] |
    /// | `B.encoder.N`, `B.encoder` | vector of a frame |
    /// | `fusion.up`, `memory` | vector of a frame |
    /// | `decoder.embed`, `decoder.N` | vector of a token |
    ///
    /// B is `video` or `audio`, N the index of a block.
    fn see(&self, name: &str, first: usize, row: &[usize], values: &[f32]);
}

/// An observer of one branch, or nobody.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watched<'o> {
    observer: Option<&'o dyn Observer>,
    name: &'static str,
}

impl<'o> Watched<'o> {
    pub fn new(observer: Option<&'o dyn Observer>, name: &'static str) -> Self {
        Watched { observer, name }
    }

    pub fn is_watched(&self) -> bool {
        self.observer.is_some()
    }

    pub fn see(&self, part: &str, first: usize, row: &[usize], values: &[f32]) {
        if let Some(observer) = self.observer {
            let dot = if part.is_empty() { "" } else { "." };
            let name = alloc::format!("{}{dot}{part}", self.name);
            observer.see(&name, first, row, values);
        }
    }

    /// What is seen of block `index` of the encoder, whose vectors have `d` values.
    pub fn block(self, index: usize, d: usize, frames: usize) -> WatchedBlock<'o> {
        WatchedBlock {
            watched: self,
            index,
            d,
            frames,
        }
    }
}

/// An observer of one block.
pub(crate) struct WatchedBlock<'o> {
    watched: Watched<'o>,
    index: usize,
    d: usize,
    frames: usize,
}

impl Watcher for WatchedBlock<'_> {
    fn see(&self, part: &'static str, first: usize, values: &[f32]) {
        let row: &[usize] = match part {
            "attn_weights" => &[self.frames, self.frames],
            _ => &[self.d],
        };
        let name = match part {
            "pos_emb" => alloc::string::String::from(part),
            _ => alloc::format!("encoder.{}.{part}", self.index),
        };
        self.watched.see(&name, first, row, values);
    }
}
