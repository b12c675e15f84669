//! The arena plan: how much memory a session needs, and which part of the caller's slice is what.

use bytemuck::Pod;

use super::dims::Dims;
use super::encoder::{self, ROWS};
use super::frontend;
use super::linear::QuantBuffer;
use crate::kernels::code_stride;

/// Alignment of every region: a cache line.
const ALIGN: usize = 64;

/// Regions in the order they lie in the arena; numbers of elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    crops: usize,
    times: usize,
    features: usize,
    positions: usize,
    logits: usize,
    input_codes: usize,
    input_values: usize,
    band_codes: usize,
    band_values: usize,
    map: usize,
    stream: usize,
    queries: usize,
    values: usize,
    keys: usize,
    normed: usize,
    wide: usize,
    query: usize,
    scores: usize,
    taps: usize,
    codes: usize,
    scale: usize,
    zero: usize,
}

/// The arena, carved.
#[derive(Debug)]
pub(crate) struct Buffers<'s> {
    /// The last `stack` crops, crop t at t mod stack.
    pub crops: &'s mut [u8],
    /// Timestamp of every frame, in microseconds.
    pub times: &'s mut [u64],
    /// What the front-end made, [frames, d].
    pub features: &'s mut [f32],
    /// Position tables, one a block.
    pub positions: &'s mut [f32],
    /// [frames, vocabulary].
    pub logits: &'s mut [f32],
    /// The residual stream, [frames, d].
    pub stream: &'s mut [f32],
    pub frontend: frontend::Scratch<'s>,
    pub encoder: encoder::Scratch<'s>,
    pub quant: QuantBuffer<'s>,
}

impl Plan {
    /// The plan for utterances of at most `frames` frames; `None` if a size overflows.
    pub fn new(dims: &Dims, frames: usize) -> Option<Self> {
        let Dims { d, ff, .. } = *dims;
        let span = dims.reach(frames).span();
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
        let by_precision = |len| if dims.int8 { (len, 0) } else { (0, len) };
        let (input_codes, input_values) = by_precision(input);
        let (band_codes, band_values) = by_precision(band);
        let (codes, _) = by_precision(ROWS.checked_mul(code_stride(ff.max(d)))?);
        let (params, _) = by_precision(windows.max(ROWS));
        let stream = frames.checked_mul(d)?;
        Some(Plan {
            crops: dims.stack.checked_mul(dims.crop_len())?,
            times: frames,
            features: stream,
            positions: dims.blocks.checked_mul(d)?.checked_mul(span)?,
            logits: frames.checked_mul(dims.vocab)?,
            input_codes,
            input_values,
            band_codes,
            band_values,
            map,
            stream,
            queries: stream,
            values: stream,
            keys: stream,
            normed: ROWS.checked_mul(d)?,
            wide: ROWS.checked_mul(ff.max(d.checked_mul(2)?))?,
            query: d.checked_mul(2)?,
            scores: frames,
            taps: dims.kernel.checked_mul(d)?,
            codes,
            scale: params,
            zero: params,
        })
    }

    /// Bytes of an arena at any address; `None` if that overflows.
    pub fn bytes(&self) -> Option<usize> {
        // One exhaustive pattern: a region that is not counted does not compile.
        let Plan {
            crops,
            times,
            features,
            positions,
            logits,
            input_codes,
            input_values,
            band_codes,
            band_values,
            map,
            stream,
            queries,
            values,
            keys,
            normed,
            wide,
            query,
            scores,
            taps,
            codes,
            scale,
            zero,
        } = *self;
        let bytes = [crops, input_codes, band_codes, codes]
            .into_iter()
            .map(region::<u8>);
        let floats = [
            features,
            positions,
            logits,
            input_values,
            band_values,
            map,
            stream,
            queries,
            values,
            keys,
            normed,
            wide,
            query,
            scores,
            taps,
            scale,
        ];
        let floats = floats.into_iter().map(region::<f32>);
        let others = [region::<u64>(times), region::<i32>(zero)];
        (bytes.chain(floats).chain(others)).try_fold(ALIGN - 1, |sum, len| sum.checked_add(len?))
    }

    /// Divides an arena; `None` if it is smaller than [`Self::bytes`].
    pub fn carve<'s>(&self, arena: &'s mut [u8]) -> Option<Buffers<'s>> {
        if arena.len() < self.bytes()? {
            return None;
        }
        let skip = arena.as_ptr().addr().wrapping_neg() % ALIGN;
        let rest = &mut arena.get_mut(skip..)?;
        Some(Buffers {
            crops: take(rest, self.crops)?,
            times: take(rest, self.times)?,
            features: take(rest, self.features)?,
            positions: take(rest, self.positions)?,
            logits: take(rest, self.logits)?,
            stream: take(rest, self.stream)?,
            frontend: frontend::Scratch {
                input_codes: take(rest, self.input_codes)?,
                input_values: take(rest, self.input_values)?,
                band_codes: take(rest, self.band_codes)?,
                band_values: take(rest, self.band_values)?,
                map: take(rest, self.map)?,
            },
            encoder: encoder::Scratch {
                q: take(rest, self.queries)?,
                v: take(rest, self.values)?,
                keys: take(rest, self.keys)?,
                normed: take(rest, self.normed)?,
                wide: take(rest, self.wide)?,
                queries: take(rest, self.query)?,
                scores: take(rest, self.scores)?,
                taps: take(rest, self.taps)?,
            },
            quant: QuantBuffer {
                codes: take(rest, self.codes)?,
                scale: take(rest, self.scale)?,
                zero: take(rest, self.zero)?,
            },
        })
    }
}

/// Bytes that `len` elements take up, filled to whole cache lines.
fn region<T: Pod>(len: usize) -> Option<usize> {
    len.checked_mul(size_of::<T>())?
        .checked_next_multiple_of(ALIGN)
}

/// Takes a region from the front of what is left.
fn take<'s, T: Pod>(rest: &mut &'s mut [u8], len: usize) -> Option<&'s mut [T]> {
    let (front, back) = core::mem::take(rest).split_at_mut_checked(region::<T>(len)?)?;
    *rest = back;
    bytemuck::try_cast_slice_mut(front).ok()?.get_mut(..len)
}
