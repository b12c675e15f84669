//! Connectionist temporal classification (Graves et al. 2006) plus frame cross-entropy on the word
//! alignments, with their exact gradient with respect to the logits.

/// What one clip should say.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Tokens in order, never 0 (blank).
    pub tokens: Vec<usize>,
    /// The token being spoken in each frame; 0 is silence.
    pub frames: Vec<usize>,
}

/// Loss of a batch and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// CTC part: mean over the clips of `-ln p(tokens)` per token.
    pub ctc: f32,
    /// Frame part: mean cross-entropy.
    pub frame: f32,
    /// Gradient of `ctc + weight * frame` with respect to the logits, `[clips * frames, tokens]`.
    pub gradient: Vec<f32>,
}

/// Loss of `logits [clips * frames, tokens]` where clip `i` should say `targets[i]`.
///
/// A clip whose tokens cannot fit into its frames contributes only its frame part.
pub fn loss(logits: &[f32], vocabulary: usize, targets: &[Target], weight: f32) -> Loss {
    let mut out = Loss {
        ctc: 0.0,
        frame: 0.0,
        gradient: Vec::with_capacity(logits.len()),
    };
    let frames = logits.len() / vocabulary / targets.len();
    let clips = targets.len() as f32;
    for (logits, target) in logits.chunks_exact(frames * vocabulary).zip(targets) {
        let logp = log_softmax(logits, vocabulary);
        let (nll, occupancy) = forward_backward(&logp, vocabulary, &target.tokens);
        let per_token = 1.0 / target.tokens.len().max(1) as f32;
        let possible = nll.is_finite();
        if possible {
            out.ctc += nll as f32 * per_token / clips;
        }
        let frame_share = weight / (frames as f32 * clips);
        for (t, logp) in logp.chunks_exact(vocabulary).enumerate() {
            out.frame -= logp[target.frames[t]] as f32 / (frames as f32 * clips);
            for (v, logp) in logp.iter().enumerate() {
                let p = logp.exp() as f32;
                let mut g = frame_share * (p - f32::from(v == target.frames[t]));
                if possible {
                    let gamma = occupancy[t * vocabulary + v] as f32;
                    g += (p - gamma) * per_token / clips;
                }
                out.gradient.push(g);
            }
        }
    }
    out
}

fn log_softmax(logits: &[f32], vocabulary: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(vocabulary) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let sum: f64 = row.iter().map(|&x| (x as f64 - top).exp()).sum();
        out.extend(row.iter().map(|&x| x as f64 - top - sum.ln()));
    }
    out
}

/// `-ln p(tokens)` and the posterior probability of every token in every frame.
fn forward_backward(logp: &[f64], vocabulary: usize, tokens: &[usize]) -> (f64, Vec<f64>) {
    let frames = logp.len() / vocabulary;
    let states = 2 * tokens.len() + 1;
    let token = |s: usize| if s % 2 == 1 { tokens[s / 2] } else { 0 };
    // A label may be entered from two states back unless that is the same label or a blank.
    let skips = |s: usize| s >= 2 && s % 2 == 1 && token(s) != token(s - 2);
    let none = f64::NEG_INFINITY;
    let mut alpha = vec![none; frames * states];
    alpha[0] = logp[0];
    if states > 1 {
        alpha[1] = logp[token(1)];
    }
    for t in 1..frames {
        let (before, now) = alpha.split_at_mut(t * states);
        let before = &before[(t - 1) * states..];
        for s in 0..states {
            let mut sum = before[s];
            if s >= 1 {
                sum = log_add(sum, before[s - 1]);
            }
            if skips(s) {
                sum = log_add(sum, before[s - 2]);
            }
            now[s] = sum + logp[t * vocabulary + token(s)];
        }
    }
    // beta excludes the frame's own probability, so alpha + beta counts it once.
    let mut beta = vec![none; frames * states];
    let end = (frames - 1) * states;
    beta[end + states - 1] = 0.0;
    if states > 1 {
        beta[end + states - 2] = 0.0;
    }
    for t in (0..frames - 1).rev() {
        for s in 0..states {
            let next =
                |s: usize| beta[(t + 1) * states + s] + logp[(t + 1) * vocabulary + token(s)];
            let mut sum = next(s);
            if s + 1 < states {
                sum = log_add(sum, next(s + 1));
            }
            if s + 2 < states && skips(s + 2) {
                sum = log_add(sum, next(s + 2));
            }
            beta[t * states + s] = sum;
        }
    }
    let total = log_add(
        alpha[end + states - 1],
        if states > 1 {
            alpha[end + states - 2]
        } else {
            none
        },
    );
    let mut occupancy = vec![0.0; frames * vocabulary];
    for t in 0..frames {
        for s in 0..states {
            let p = (alpha[t * states + s] + beta[t * states + s] - total).exp();
            occupancy[t * vocabulary + token(s)] += p;
        }
    }
    (-total, occupancy)
}

fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::activation::log_softmax as burn_log_softmax;
    use burn::tensor::{Device, Int, Tensor, TensorData};
    use rand::RngExt;

    type B = Autodiff<Flex>;

    /// burn's own CTC loss is the referee, for the value and for the gradient.
    #[test]
    fn agrees_with_burns_ctc() {
        let (frames, vocabulary) = (12, 7);
        let mut rng = crate::rng::rng(3, &[]);
        for tokens in [vec![1, 2, 3], vec![4, 4, 4], vec![6], vec![5, 1, 5, 2, 2]] {
            let logits: Vec<f32> = (0..frames * vocabulary)
                .map(|_| rng.random_range(-2.0..2.0))
                .collect();
            let target = Target {
                tokens: tokens.clone(),
                frames: vec![0; frames],
            };
            let ours = loss(&logits, vocabulary, &[target], 0.0);

            let device = Device::<B>::default();
            let x = Tensor::<B, 3>::from_data(
                TensorData::new(logits, [frames, 1, vocabulary]),
                &device,
            )
            .require_grad();
            let ints = |v: Vec<i64>| {
                let n = v.len();
                Tensor::<B, 1, Int>::from_data(TensorData::new(v, [n]), &device)
            };
            let n = tokens.len();
            let theirs = burn::tensor::module::ctc_loss(
                burn_log_softmax(x.clone(), 2),
                ints(tokens.iter().map(|&t| t as i64).collect()).reshape([1, n]),
                ints(vec![frames as i64]),
                ints(vec![n as i64]),
                0,
            );
            let value = theirs.clone().into_scalar() / n as f32;
            assert!(
                (value - ours.ctc).abs() < 1e-5,
                "{tokens:?}: {value} {}",
                ours.ctc
            );
            let grads = theirs.backward();
            let grad: Vec<f32> = x
                .grad(&grads)
                .expect("leaf")
                .into_data()
                .to_vec()
                .expect("f32");
            for (a, b) in grad.iter().zip(&ours.gradient) {
                assert!((a / n as f32 - b).abs() < 1e-5, "{tokens:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn frame_part_is_cross_entropy() {
        // Two frames, two tokens: softmax(0, ln 3) = (1/4, 3/4).
        let logits = [0.0, 3f32.ln(), 0.0, 3f32.ln()];
        let target = Target {
            tokens: vec![1],
            frames: vec![1, 0],
        };
        let l = loss(&logits, 2, &[target], 1.0);
        let expected = -(0.75f32.ln() + 0.25f32.ln()) / 2.0;
        assert!((l.frame - expected).abs() < 1e-6);
    }

    #[test]
    fn too_many_tokens_for_the_frames_leave_the_frame_part() {
        let target = Target {
            tokens: vec![1, 1],
            frames: vec![1, 1],
        };
        let l = loss(&[0.0; 4], 2, &[target], 1.0);
        assert_eq!(l.ctc, 0.0);
        assert!(l.gradient.iter().all(|g| g.is_finite()));
    }
}
