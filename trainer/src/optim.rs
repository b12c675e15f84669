//! AdamW (Loshchilov & Hutter 2019) with global-norm clipping, the one-cycle schedule (Smith &
//! Topin 2019) and an exponential moving average of the weights.
//!
//! Written over plain named arrays, so that the whole state is one flat checkpoint and a resumed
//! run continues bit for bit.

use crate::model::Params;
use crate::recipe::Train;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.98;
const EPS: f32 = 1e-8;

/// Weights and the optimiser's memory of them.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The weights being trained.
    pub weights: Params,
    /// Their moving average: what is exported.
    pub average: Params,
    /// First moment of the gradient.
    pub first: Params,
    /// Second moment of the gradient.
    pub second: Params,
    /// Steps taken.
    pub step: usize,
}

impl State {
    /// The start of a run.
    pub fn new(weights: Params) -> Self {
        Self {
            average: weights.clone(),
            first: weights.zeros_like(),
            second: weights.zeros_like(),
            weights,
            step: 0,
        }
    }

    /// One update. `gradient` is clipped to the recipe's norm. Returns the norm before clipping.
    pub fn update(&mut self, gradient: &Params, recipe: &Train, total_steps: usize) -> f32 {
        self.step += 1;
        let lr = learning_rate(recipe, self.step, total_steps);
        let norm = gradient
            .0
            .values()
            .flat_map(|a| &a.data)
            .map(|&g| f64::from(g) * f64::from(g))
            .sum::<f64>()
            .sqrt() as f32;
        let clip = if norm > recipe.clip_norm {
            recipe.clip_norm / norm
        } else {
            1.0
        };
        let correct1 = 1.0 - BETA1.powi(self.step as i32);
        let correct2 = 1.0 - BETA2.powi(self.step as i32);
        // A short average at first, so that the random start is forgotten.
        let keep = recipe
            .ema
            .min((1.0 + self.step as f32) / (10.0 + self.step as f32));
        for (name, g) in &gradient.0 {
            let [w, e, m, v] = [
                &mut self.weights,
                &mut self.average,
                &mut self.first,
                &mut self.second,
            ]
            .map(|p| {
                p.0.get_mut(name)
                    .expect("gradients have the weights' names")
            });
            // Norms, biases and other vectors are not decayed.
            let decay = if w.shape.len() > 1 {
                lr * recipe.weight_decay
            } else {
                0.0
            };
            for i in 0..g.data.len() {
                let g = g.data[i] * clip;
                m.data[i] = BETA1 * m.data[i] + (1.0 - BETA1) * g;
                v.data[i] = BETA2 * v.data[i] + (1.0 - BETA2) * g * g;
                let step = (m.data[i] / correct1) / ((v.data[i] / correct2).sqrt() + EPS);
                w.data[i] -= lr * step + decay * w.data[i];
                e.data[i] = keep * e.data[i] + (1.0 - keep) * w.data[i];
            }
        }
        norm
    }
}

/// One cycle: linear up over the warm-up, then half a cosine down to nothing.
pub fn learning_rate(recipe: &Train, step: usize, total: usize) -> f32 {
    let done = step as f32 / total as f32;
    if done < recipe.warmup {
        recipe.learning_rate * done / recipe.warmup
    } else {
        let t = ((done - recipe.warmup) / (1.0 - recipe.warmup)).min(1.0);
        recipe.learning_rate * 0.5 * (1.0 + (std::f32::consts::PI * t).cos())
    }
}
