//! The arena plan: how much memory a session or a stream needs, and which part of the caller's slice is what.

use bytemuck::Pod;

use super::dims::Dims;
use super::encoder::{self, Memory, ROWS};
use super::frontend;
use super::linear::QuantBuffer;
use crate::kernels::attention::slots::{
    ValueSlots, VectorSlots, slots_for, value_sizes, vector_sizes,
};
use crate::kernels::attention::{Int8Scratch, Mask};
use crate::kernels::code_stride;
use crate::kernels::panels::Group;

/// Alignment of every region: a cache line.
const ALIGN: usize = 64;

/// What the arena has to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'d> {
    dims: &'d Dims,
    mask: Mask,
    /// Frames run at a time.
    frames: usize,
    /// Frames whose keys and values are kept.
    slots: usize,
    /// Frames that the depthwise convolution's ring holds.
    ring: usize,
    /// Memories: one that all blocks share, or one a block.
    memories: usize,
}

/// The arena, carved.
#[derive(Debug)]
pub(crate) struct Buffers<'s> {
    pub memories: Memories<'s>,
    /// The last `stack` crops, crop t at t mod stack.
    pub crops: &'s mut [u8],
    /// Timestamp of every frame, in microseconds.
    pub times: &'s mut [u64],
    /// What the front-end made, [frames, d].
    pub features: &'s mut [f32],
    /// [frames, vocabulary].
    pub logits: &'s mut [f32],
    /// The residual stream, [frames, d].
    pub stream: &'s mut [f32],
    pub frontend: frontend::Scratch<'s>,
    pub encoder: encoder::Scratch<'s>,
    pub quant: QuantBuffer<'s>,
}

/// The memories of all blocks.
#[derive(Debug)]
pub(crate) struct Memories<'s> {
    state: State<'s>,
    tables: Tables<'s>,
}

/// What blocks remember, part by part.
#[derive(Debug)]
struct State<'s> {
    count: usize,
    key_panels: &'s mut [Group],
    key_scale: &'s mut [f32],
    key_sum: &'s mut [i32],
    value_panels: &'s mut [Group],
    value_scale: &'s mut [f32],
    gated: &'s mut [f32],
}

/// Their tables of positions, part by part.
#[derive(Debug)]
struct Tables<'s> {
    count: usize,
    floats: &'s mut [f32],
    panels: &'s mut [Group],
    scale: &'s mut [f32],
    sum: &'s mut [i32],
}

impl<'d> Plan<'d> {
    /// The plan for utterances of at most `frames` frames, each run as a whole.
    pub fn utterance(dims: &'d Dims, mask: Mask, frames: usize) -> Self {
        Plan {
            dims,
            mask,
            frames,
            slots: slots_for(frames),
            ring: frames,
            memories: 1,
        }
    }

    /// The plan for a stream in chunks of `size` frames that sees `left` frames before each.
    pub fn stream(dims: &'d Dims, size: usize, left: usize) -> Self {
        Plan {
            dims,
            mask: Mask::Chunks { size, left },
            frames: size,
            slots: slots_for(left + size),
            ring: dims.kernel - 1 + size,
            memories: dims.blocks,
        }
    }

    /// Bytes of an arena at any address; `None` if that overflows.
    pub fn bytes(&self) -> Option<usize> {
        let mut measure = Carver {
            rest: None,
            used: ALIGN - 1,
        };
        self.lay_out(&mut measure)?;
        Some(measure.used)
    }

    /// Divides an arena; `None` if it is smaller than [`Self::bytes`].
    pub fn carve<'s>(&self, arena: &'s mut [u8]) -> Option<Buffers<'s>> {
        if arena.len() < self.bytes()? {
            return None;
        }
        let skip = aligned(arena);
        let mut carver = Carver {
            rest: Some(arena.get_mut(skip..)?),
            used: 0,
        };
        self.lay_out(&mut carver)
    }

    /// Every region in the order they lie in the arena.
    fn lay_out<'s>(&self, a: &mut Carver<'s>) -> Option<Buffers<'s>> {
        let dims = self.dims;
        let Dims { d, ff, heads, .. } = *dims;
        let [mut input, mut band, mut map, mut windows] = [0; 4];
        for stage in dims.stages() {
            input = input
                .max(stage.input_len())
                .max(code_stride(stage.output_len()));
            band = band.max(
                stage
                    .band_windows()
                    .checked_mul(code_stride(stage.inputs))?,
            );
            map = map.max(stage.output_len());
            windows = windows.max(stage.band_windows());
        }
        let int8 = |len| if dims.int8 { len } else { 0 };
        let float = |len| if dims.int8 { 0 } else { len };
        let stream = self.frames.checked_mul(d)?;
        let rows = ROWS.min(self.frames);
        let [query, codes, scores, places, weights, offsets] =
            Int8Scratch::sizes(heads, self.slots)?.map(int8);
        Some(Buffers {
            memories: Memories {
                state: self.state(a)?,
                tables: self.tables(a)?,
            },
            crops: a.take(dims.stack.checked_mul(dims.crop_len())?)?,
            times: a.take(self.frames.checked_add(dims.stack / 2)?)?,
            features: a.take(stream)?,
            logits: a.take(self.frames.checked_mul(dims.vocab)?)?,
            stream: a.take(stream)?,
            frontend: frontend::Scratch {
                input_codes: a.take(int8(input))?,
                input_values: a.take(float(input))?,
                band_codes: a.take(int8(band))?,
                band_values: a.take(float(band))?,
                map: a.take(map)?,
            },
            encoder: encoder::Scratch {
                q: a.take(stream)?,
                v: a.take(stream)?,
                keys: a.take(float(stream))?,
                // The position tables are filled ROWS at a time, however few frames are run.
                normed: a.take(ROWS.checked_mul(d)?)?,
                wide: a.take(
                    (ROWS.checked_mul(d)?).max(rows.checked_mul(ff.max(d.checked_mul(2)?))?),
                )?,
                queries: a.take(float(2 * heads.width))?,
                scores: a.take(float(self.frames))?,
                weights: &mut [],
                attention: Int8Scratch {
                    query: a.take(query)?,
                    codes: a.take(codes)?,
                    scores: a.take(scores)?,
                    places: a.take(places)?,
                    weights: a.take(weights)?,
                    offsets: a.take(offsets)?,
                },
            },
            quant: QuantBuffer {
                codes: a.take(int8(rows.checked_mul(code_stride(ff.max(d)))?))?,
                scale: a.take(int8(windows.max(rows)))?,
                zero: a.take(int8(windows.max(rows)))?,
            },
        })
    }

    /// What blocks remember: at the front, so that it can be saved as it lies there.
    fn state<'s>(&self, a: &mut Carver<'s>) -> Option<State<'s>> {
        let Dims { d, heads, int8, .. } = *self.dims;
        let kept = |len: usize| {
            if int8 {
                len.checked_mul(self.memories)
            } else {
                Some(0)
            }
        };
        let [key_panels, key_scale, key_sum] = vector_sizes(heads, self.slots)?;
        let [value_panels, value_scale] = value_sizes(heads, self.slots)?;
        Some(State {
            count: self.memories,
            key_panels: a.take(kept(key_panels)?)?,
            key_scale: a.take(kept(key_scale)?)?,
            key_sum: a.take(kept(key_sum)?)?,
            value_panels: a.take(kept(value_panels)?)?,
            value_scale: a.take(kept(value_scale)?)?,
            gated: a.take(self.ring.checked_mul(d)?.checked_mul(self.memories)?)?,
        })
    }

    fn tables<'s>(&self, a: &mut Carver<'s>) -> Option<Tables<'s>> {
        let Dims {
            d,
            heads,
            blocks,
            int8,
            ..
        } = *self.dims;
        let span = self.mask.reach().span();
        let [panels, scale, sum] = vector_sizes(heads, slots_for(span))?;
        let of = |quantised: bool, len: usize| match quantised == int8 {
            true => len.checked_mul(blocks),
            false => Some(0),
        };
        Some(Tables {
            count: blocks,
            floats: a.take(of(false, d.checked_mul(span)?)?)?,
            panels: a.take(of(true, panels)?)?,
            scale: a.take(of(true, scale)?)?,
            sum: a.take(of(true, sum)?)?,
        })
    }
}

impl Buffers<'_> {
    /// All that a stream needs to go on later, in parts.
    pub fn state(&self) -> impl Iterator<Item = &[u8]> {
        let state = &self.memories.state;
        [
            bytemuck::cast_slice(state.key_panels),
            bytemuck::cast_slice(state.key_scale),
            bytemuck::cast_slice(state.key_sum),
            bytemuck::cast_slice(state.value_panels),
            bytemuck::cast_slice(state.value_scale),
            bytemuck::cast_slice(state.gated),
            bytemuck::cast_slice(self.features),
            bytemuck::cast_slice(self.logits),
            bytemuck::cast_slice(self.times),
            &*self.crops,
        ]
        .into_iter()
    }

    /// [`Self::state`], to write.
    pub fn state_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let state = &mut self.memories.state;
        [
            bytemuck::cast_slice_mut(state.key_panels),
            bytemuck::cast_slice_mut(state.key_scale),
            bytemuck::cast_slice_mut(state.key_sum),
            bytemuck::cast_slice_mut(state.value_panels),
            bytemuck::cast_slice_mut(state.value_scale),
            bytemuck::cast_slice_mut(state.gated),
            bytemuck::cast_slice_mut(self.features),
            bytemuck::cast_slice_mut(self.logits),
            bytemuck::cast_slice_mut(self.times),
            &mut *self.crops,
        ]
        .into_iter()
    }
}

impl Memories<'_> {
    /// The memory of block `b`.
    pub fn block(&mut self, b: usize) -> Memory<'_> {
        let Memories { state, tables } = self;
        Memory {
            positions: share(tables.floats, b, tables.count),
            places: VectorSlots {
                panels: share(tables.panels, b, tables.count),
                scale: share(tables.scale, b, tables.count),
                sum: share(tables.sum, b, tables.count),
            },
            keys: VectorSlots {
                panels: share(state.key_panels, b, state.count),
                scale: share(state.key_scale, b, state.count),
                sum: share(state.key_sum, b, state.count),
            },
            values: ValueSlots {
                panels: share(state.value_panels, b, state.count),
                scale: share(state.value_scale, b, state.count),
            },
            gated: share(state.gated, b, state.count),
        }
    }
}

/// The part of block `b` in memory for `count` blocks; all of it where blocks share it.
fn share<T>(all: &mut [T], b: usize, count: usize) -> &mut [T] {
    let len = all.len() / count.max(1);
    let at = if count > 1 { b * len } else { 0 };
    all.get_mut(at..at + len).unwrap_or(&mut [])
}

/// Hands out regions one after the other; without memory it measures.
struct Carver<'s> {
    rest: Option<&'s mut [u8]>,
    used: usize,
}

impl<'s> Carver<'s> {
    /// The next region, filled to whole cache lines; empty when measuring. `None` if it does not fit.
    fn take<T: Pod>(&mut self, len: usize) -> Option<&'s mut [T]> {
        let bytes = len
            .checked_mul(size_of::<T>())?
            .checked_next_multiple_of(ALIGN)?;
        self.used = self.used.checked_add(bytes)?;
        let Some(rest) = self.rest.take() else {
            return Some(&mut []);
        };
        let (front, back) = rest.split_at_mut_checked(bytes)?;
        self.rest = Some(back);
        bytemuck::try_cast_slice_mut(front).ok()?.get_mut(..len)
    }
}

/// Bytes before the first cache line of a slice.
pub(crate) fn aligned(arena: &[u8]) -> usize {
    arena.as_ptr().addr().wrapping_neg() % ALIGN
}
