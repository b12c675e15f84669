//! Memory that begins where a line of the caches does: wide loads and stores over two lines cost several times as much, and
//! the heap begins in the middle of one.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// Bytes of a line.
const LINE: usize = 64;

/// So many values, all of them anything that was there before or zero.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    memory: Vec<f32>,
    first: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize) -> Self {
        let mut values = Aligned::default();
        values.resize(len);
        values
    }

    pub fn resize(&mut self, len: usize) {
        let room = len + LINE / size_of::<f32>();
        if self.memory.len() < room {
            // Not grown: that would copy.
            self.memory = alloc::vec![0.0; room];
        }
        // Where the machine does not tell, it begins anywhere.
        let first = self.memory.as_ptr().align_offset(LINE);
        self.first = if first <= room - len { first } else { 0 };
        self.len = len;
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.first..self.first + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.first..self.first + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_a_line_and_are_as_many_as_asked() {
        let mut values = Aligned::new(3);
        for len in [3, 0, 1000, 17, 1000] {
            values.resize(len);
            values.fill(1.0);
            assert_eq!(values.len(), len);
            assert_eq!(values.as_ptr().align_offset(LINE), 0);
        }
    }
}
