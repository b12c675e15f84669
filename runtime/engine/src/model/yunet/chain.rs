//! Units in a row, computed line by line.
//!
//! A pointwise result is kept for three lines only: as soon as a line's neighbours are there, the depthwise convolution
//! over them yields a line of output, and that goes straight to the next unit. Whole feature maps between units never
//! exist, which keeps the work in the cache and the arena small.

use crate::kernels::Kernels;
use crate::kernels::conv_f32::max_pool_row;

/// A YuNet unit: 1x1 convolution, then 3x3 depthwise convolution with zero padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit<'m> {
    /// [cin, cout]
    pub pointwise: &'m [f32],
    /// [cout]
    pub pointwise_bias: &'m [f32],
    /// [3, 3, cout]
    pub depthwise: &'m [f32],
    /// [cout]
    pub depthwise_bias: &'m [f32],
}

/// A unit and what follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'m> {
    pub unit: Unit<'m>,
    /// ReLU on the unit's output.
    pub relu: bool,
    /// Max pool 2x2 between the unit and the next.
    pub pool: bool,
}

/// Receives each line a unit produces (before pooling): index of the step, index of the line, [width, channels].
pub(super) type Sink<'s> = dyn FnMut(usize, usize, &[f32]) + 's;

/// A chain at work: where each step stands, and its lines.
pub(super) struct Chain<'c, 'm> {
    kernels: &'static dyn Kernels,
    steps: &'c [Step<'m>],
    /// Lines received by each step.
    received: [usize; MAX_STEPS],
    width: usize,
    memory: &'c mut [f32],
}

/// Most steps in a chain: the eleven units of the backbone.
pub(super) const MAX_STEPS: usize = 11;

impl Unit<'_> {
    pub fn cout(&self) -> usize {
        self.pointwise_bias.len()
    }
}

impl Step<'_> {
    /// Length of three bordered lines, a line of output, and a pooled line.
    fn lens(&self, width: usize) -> [usize; 3] {
        let c = self.unit.cout();
        [
            3 * (width + 2) * c,
            width * c,
            if self.pool { width / 2 * c } else { 0 },
        ]
    }
}

/// Memory of a chain whose first unit sees lines of `width` pixels; `None` if that overflows.
pub(super) fn memory_len(steps: &[Step<'_>], mut width: usize) -> usize {
    let mut len = 0;
    for step in steps {
        len += step.lens(width).iter().sum::<usize>();
        width >>= usize::from(step.pool);
    }
    len
}

impl<'c, 'm> Chain<'c, 'm> {
    /// A chain of at most [`MAX_STEPS`] steps over lines of `width` pixels, in `memory` of [`memory_len`].
    pub fn new(
        kernels: &'static dyn Kernels,
        steps: &'c [Step<'m>],
        width: usize,
        memory: &'c mut [f32],
    ) -> Self {
        memory.fill(0.0);
        Self {
            kernels,
            steps,
            received: [0; MAX_STEPS],
            width,
            memory,
        }
    }

    /// Takes the next line, [width, cin].
    pub fn push(&mut self, line: &[f32], sink: &mut Sink<'_>) {
        let mut run = Run {
            kernels: self.kernels,
            steps: self.steps,
            index: 0,
            received: &mut self.received,
            width: self.width,
            memory: self.memory,
        };
        run.push(line, sink);
    }

    /// Ends the image: the last line of every unit comes out.
    pub fn finish(self, sink: &mut Sink<'_>) {
        let Self {
            kernels,
            steps,
            mut received,
            mut width,
            mut memory,
        } = self;
        for index in 0..steps.len() {
            let mut run = Run {
                kernels,
                steps: &steps[index..],
                index,
                received: &mut received[index..],
                width,
                memory,
            };
            run.finish(sink);
            let step = &steps[index];
            memory = &mut memory[step.lens(width).iter().sum()..];
            width >>= usize::from(step.pool);
        }
    }
}

/// The rest of a chain from one step on.
struct Run<'r, 'm> {
    kernels: &'static dyn Kernels,
    steps: &'r [Step<'m>],
    index: usize,
    received: &'r mut [usize],
    width: usize,
    memory: &'r mut [f32],
}

impl Run<'_, '_> {
    fn push(&mut self, line: &[f32], sink: &mut Sink<'_>) {
        let Some(step) = self.steps.first() else {
            return;
        };
        let c = step.unit.cout();
        let slot = self.received[0] % 3;
        let len = (self.width + 2) * c;
        // The border pixels at either end stay zero.
        let kept = &mut self.memory[slot * len..][c..][..self.width * c];
        let (weight, bias) = (step.unit.pointwise, step.unit.pointwise_bias);
        self.kernels.pointwise_row(line, weight, bias, kept);
        self.received[0] += 1;
        if self.received[0] >= 2 {
            self.emit(self.received[0] - 2, sink);
        }
    }

    /// The last line, with zeros below it.
    fn finish(&mut self, sink: &mut Sink<'_>) {
        let (Some(step), received @ 1..) = (self.steps.first(), self.received[0]) else {
            return;
        };
        let len = (self.width + 2) * step.unit.cout();
        self.memory[received % 3 * len..][..len].fill(0.0);
        self.emit(received - 1, sink);
    }

    /// Computes output line `y`, whose neighbours are there, and hands it on.
    fn emit(&mut self, y: usize, sink: &mut Sink<'_>) {
        let step = &self.steps[0];
        let unit = &step.unit;
        let c = unit.cout();
        let lens = step.lens(self.width);
        let (kept, rest) = self.memory.split_at_mut(lens[0]);
        let (out, rest) = rest.split_at_mut(lens[1]);
        let (pooled, memory) = rest.split_at_mut(lens[2]);
        // Line y lies in slot y % 3. Above the first line is slot 2, still zero then.
        let len = (self.width + 2) * c;
        let line = |y: usize| &kept[y % 3 * len..][..len];
        let mut next = Run {
            kernels: self.kernels,
            steps: &self.steps[1..],
            index: self.index + 1,
            received: &mut self.received[1..],
            width: self.width >> usize::from(step.pool),
            memory,
        };
        let lines = [line(y + 2), line(y), line(y + 1)];
        let (weight, bias) = (unit.depthwise, unit.depthwise_bias);
        (self.kernels).depthwise_row(lines, weight, bias, step.relu, out);
        sink(self.index, y, out);
        if !step.pool {
            next.push(out, sink);
        } else {
            max_pool_row(out, c, y % 2 == 1, pooled);
            if y % 2 == 1 {
                next.push(pooled, sink);
            }
        }
    }
}
