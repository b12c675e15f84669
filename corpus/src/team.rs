//! Kernels on several threads, for models whose matrices are worth it. The engine starts no threads; here rows of products
//! are dealt out, each computed by the kernels of one thread, so the bits are those of one thread.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use viseme_engine::kernels::attention::slots::{Heads, ValueSlots, VectorSlots};
use viseme_engine::kernels::attention::{
    Attended, AttendedInt8, Int8Attention, RelativeAttention, Shift,
};
use viseme_engine::kernels::convolution::Convolution;
use viseme_engine::kernels::depthwise::{Depthwise, Frames};
use viseme_engine::kernels::elementwise::Activation;
use viseme_engine::kernels::{
    Crew, Kernels, QuantRows, RowQuant, Share, WeightsF32, WeightsI4, WeightsI8, code_stride,
    detect,
};

/// Rows that kernels take at a time, and the fewest that are worth another thread.
const TILE: usize = 8;

/// Values that are worth another thread, where each costs a few operations.
const VALUES: usize = 16 << 10;

/// Threads that share the work of each kernel.
#[derive(Debug)]
pub struct Team {
    each: &'static dyn Kernels,
    pool: ThreadPool,
    threads: usize,
}

impl Team {
    /// So many threads, each with the fastest kernels of this machine.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let threads = threads.max(1);
        Ok(Team {
            each: detect(),
            pool: ThreadPoolBuilder::new().num_threads(threads).build()?,
            threads,
        })
    }

    /// Calls `work` on one of the threads: from there the others are reached sooner than from outside.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Rows of a part, when `rows` rows are dealt out.
    fn share(&self, rows: usize) -> usize {
        rows.div_ceil(self.threads).next_multiple_of(TILE).max(TILE)
    }

    /// Calls `work` with the parts of `y`, rows of `outputs` values, and the first row of each.
    fn rows(&self, outputs: usize, y: &mut [f32], work: impl Fn(usize, &mut [f32]) + Sync) {
        let outputs = outputs.max(1);
        let share = self.share(y.len() / outputs);
        if y.len() <= share * outputs {
            return work(0, y);
        }
        self.pool.scope(|scope| {
            for (i, y) in y.chunks_mut(share * outputs).enumerate() {
                let work = &work;
                scope.spawn(move |_| work(i * share, y));
            }
        });
    }

    /// [`Self::rows`] with the rows of codes that belong to each part.
    fn code_rows(
        &self,
        x: QuantRows<'_>,
        [inputs, outputs]: [usize; 2],
        y: &mut [f32],
        work: impl Fn(QuantRows<'_>, &mut [f32]) + Sync,
    ) {
        let stride = code_stride(inputs);
        self.rows(outputs, y, |first, y| {
            let rows = first..first + y.len() / outputs.max(1);
            let x = QuantRows {
                codes: &x.codes[rows.start * stride..rows.end * stride],
                scale: &x.scale[rows.clone()],
                zero: &x.zero[rows],
            };
            work(x, y);
        });
    }
}

impl Crew for Team {
    fn share_out(&self, len: usize, y: &mut [f32], work: &Share<'_>) {
        self.pool.scope(|scope| {
            for (part, y) in y.chunks_mut(len.max(1)).enumerate() {
                scope.spawn(move |_| work(self.each, part, y));
            }
        });
    }
}

impl Kernels for Team {
    fn name(&self) -> &'static str {
        self.each.name()
    }

    fn crew(&self) -> Option<&dyn Crew> {
        Some(self)
    }

    /// On one thread: pictures are dealt out in groups ([`Crew`]), and sound is convolved by products.
    fn convolve_i8(
        &self,
        over: &Convolution,
        x: QuantRows<'_>,
        w: WeightsI8<'_>,
        bias: &[f32],
        y: &mut [f32],
    ) {
        self.each.convolve_i8(over, x, w, bias, y);
    }

    fn matmul_f32(&self, x: &[f32], w: WeightsF32<'_>, bias: &[f32], y: &mut [f32]) {
        let (inputs, outputs) = (w.inputs(), w.outputs());
        let rows = (x.len() / inputs).min(y.len() / outputs);
        self.rows(outputs, &mut y[..rows * outputs], |first, y| {
            let rows = y.len() / outputs;
            let x = &x[first * inputs..(first + rows) * inputs];
            self.each.matmul_f32(x, w, bias, y);
        });
    }

    fn matmul_i8(&self, x: QuantRows<'_>, w: WeightsI8<'_>, bias: &[f32], y: &mut [f32]) {
        let sizes = [w.inputs(), w.outputs()];
        let y = whole(x, sizes, y);
        self.code_rows(x, sizes, y, |x, y| self.each.matmul_i8(x, w, bias, y));
    }

    fn matmul_i4(&self, x: QuantRows<'_>, w: WeightsI4<'_>, bias: &[f32], y: &mut [f32]) {
        let sizes = [w.inputs(), w.outputs()];
        let y = whole(x, sizes, y);
        self.code_rows(x, sizes, y, |x, y| self.each.matmul_i4(x, w, bias, y));
    }

    fn quantize(&self, x: &[f32], q: &mut [u8]) -> RowQuant {
        self.each.quantize(x, q)
    }

    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
        self.each.layer_norm(x, weight, bias, eps, y);
    }

    fn activate(&self, activation: Activation, x: &mut [f32]) {
        if x.len() < VALUES {
            return self.each.activate(activation, x);
        }
        self.rows(64, x, |_, x| self.each.activate(activation, x));
    }

    fn glu(&self, x: &[f32], channels: usize, y: &mut [f32]) {
        self.each.glu(x, channels, y);
    }

    fn add_scaled(&self, x: &mut [f32], factor: f32, y: &[f32]) {
        self.each.add_scaled(x, factor, y);
    }

    fn depthwise(&self, filter: &Depthwise<'_>, x: Frames<'_>, y: &mut [f32]) {
        self.each.depthwise(filter, x, y);
    }

    fn attend_i8(&self, attention: &Int8Attention<'_>, x: AttendedInt8<'_, '_>) {
        self.each.attend_i8(attention, x);
    }

    fn put_vectors(&self, heads: Heads, first: usize, rows: &[f32], to: &mut VectorSlots<'_>) {
        self.each.put_vectors(heads, first, rows, to);
    }

    fn put_values(&self, heads: Heads, first: usize, rows: &[f32], to: &mut ValueSlots<'_>) {
        self.each.put_values(heads, first, rows, to);
    }

    fn attend(&self, attention: &RelativeAttention<'_>, x: Attended<'_>) {
        let d = attention.bias_u.len().max(1);
        // Legacy positions make a query meet the next one's, and weights are asked for by observers only.
        let share = self.share(x.q.len() / d);
        if attention.shift == Shift::Legacy || !x.weights.is_empty() || x.q.len() <= share * d {
            return self.each.attend(attention, x);
        }
        let (first, keys, key_stride, v) = (x.first, x.keys, x.key_stride, x.v);
        let (queries, scores) = (x.queries.len(), x.scores.len());
        self.pool.scope(|scope| {
            for (i, q) in x.q.chunks_mut(share * d).enumerate() {
                scope.spawn(move |_| {
                    let (mut queries, mut scores) = (vec![0.0; queries], vec![0.0; scores]);
                    let part = Attended {
                        q,
                        first: first + i * share,
                        keys,
                        key_stride,
                        v,
                        queries: &mut queries,
                        scores: &mut scores,
                        weights: &mut [],
                    };
                    self.each.attend(attention, part);
                });
            }
        });
    }

    fn pointwise_row(&self, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
        self.each.pointwise_row(x, weight, bias, y);
    }

    fn depthwise_row(
        &self,
        x: [&[f32]; 3],
        weight: &[f32],
        bias: &[f32],
        relu: bool,
        y: &mut [f32],
    ) {
        self.each.depthwise_row(x, weight, bias, relu, y);
    }

    fn dense_row_stride2(&self, x: [&[f32]; 3], weight: &[f32], bias: &[f32], y: &mut [f32]) {
        self.each.dense_row_stride2(x, weight, bias, y);
    }
}

/// The rows of `y` that `x` has, too.
fn whole<'y>(x: QuantRows<'_>, [inputs, outputs]: [usize; 2], y: &'y mut [f32]) -> &'y mut [f32] {
    let rows = (x.codes.len() / code_stride(inputs))
        .min(x.scale.len())
        .min(x.zero.len())
        .min(y.len() / outputs);
    &mut y[..rows * outputs]
}

#[cfg(test)]
mod tests {
    use super::*;
    use viseme_engine::kernels::cases;

    #[test]
    fn any_number_of_threads_gives_the_portable_bits() {
        for threads in [1, 2, 3, 5] {
            let team = Team::new(threads).unwrap();
            cases::check(&team).unwrap();
        }
    }

    #[test]
    fn every_part_is_shared_out_once() {
        for threads in [1, 2, 3] {
            let team = Team::new(threads).unwrap();
            let mut y = vec![0.0; 50];
            let work = |_: &dyn Kernels, part: usize, y: &mut [f32]| {
                y.iter_mut().for_each(|y| *y += 1.0 + part as f32);
            };
            let crew = team.crew().unwrap();
            team.run(|| crew.share_out(7, &mut y, &work));
            let want: Vec<f32> = (0..50).map(|i| 1.0 + (i / 7) as f32).collect();
            assert_eq!(y, want, "{threads}");
        }
    }
}
