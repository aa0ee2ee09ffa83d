//! What boosting lowers: losses with their gradients, where scores start, and how scores become predictions.

use serde::{Deserialize, Serialize};

use crate::codec::exact;
use crate::estimator::support::math::{exp, ln, sigmoid, softmax};

/// Added to the score in the Hessian of the Poisson loss, as LightGBM's `poisson_max_delta_step`: it keeps steps small.
const POISSON_STEP: f64 = 0.7;

/// A loss of one score, or for classes of one score each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Loss {
    /// Of a label 0 or 1: `ln(1 + e^-s)` or `ln(1 + e^s)`.
    Logistic,
    /// Of a class: the logarithm of its softmax, negated.
    Softmax,
    /// `(s - y)² / 2`.
    Squared,
    /// `|s - y|`.
    Absolute,
    /// Squared within `delta`, absolute beyond it (Huber 1964).
    Huber {
        #[serde(with = "exact")]
        delta: f64,
    },
    /// `alpha` times what the score is below the label, or `1 - alpha` times what it is above (Koenker, Bassett 1978).
    Quantile {
        #[serde(with = "exact")]
        alpha: f64,
    },
    /// `e^s - y s`, of a label of at least 0.
    Poisson,
}

/// How scores become predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Link {
    /// `1 / (1 + e^-s)`.
    Logistic,
    /// The shares of `e^s`.
    Softmax,
    /// The score itself.
    Identity,
    /// `e^s`.
    Exp,
}

impl Loss {
    /// How its scores become predictions.
    pub(super) fn link(self) -> Link {
        match self {
            Self::Logistic => Link::Logistic,
            Self::Softmax => Link::Softmax,
            Self::Poisson => Link::Exp,
            Self::Squared | Self::Absolute | Self::Huber { .. } | Self::Quantile { .. } => Link::Identity,
        }
    }

    /// The gradient and the Hessian at a score; `softmax` is the logarithm of the sum of the row's `e^s`, and for classes
    /// the label is whether the row has this one.
    #[inline(always)]
    pub(super) fn derivatives(self, score: f64, label: f64, softmax: Option<(f64, f64)>) -> (f64, f64) {
        match self {
            Self::Logistic => {
                let p = sigmoid(score);
                (p - label, p * (1.0 - p))
            }
            Self::Softmax => {
                let (log_sum, n_classes) = softmax.unwrap_or((0.0, 2.0));
                let p = exp(score - log_sum);
                // The factor of LightGBM and of Friedman (2001), which makes up for the scores' one degree of freedom.
                (p - label, p * (1.0 - p) * n_classes / (n_classes - 1.0))
            }
            Self::Squared => (score - label, 1.0),
            Self::Absolute => (sign(score - label), 1.0),
            Self::Huber { delta } => ((score - label).clamp(-delta, delta), 1.0),
            Self::Quantile { alpha } => (if score >= label { 1.0 - alpha } else { -alpha }, 1.0),
            Self::Poisson => {
                let mean = exp(score);
                (mean - label, mean * exp(POISSON_STEP))
            }
        }
    }

    /// Bounds of the derivatives that hold for every row; none where they depend on the labels.
    pub(super) fn bounds(self) -> Option<(f64, f64)> {
        match self {
            Self::Logistic => Some((1.0, 0.25)),
            Self::Softmax => Some((1.0, 0.5)),
            Self::Absolute | Self::Quantile { .. } => Some((1.0, 1.0)),
            Self::Squared | Self::Huber { .. } | Self::Poisson => None,
        }
    }

    /// Where a leaf's value is a quantile of what its rows lack, not the ratio of gradient and Hessian: which one.
    pub(super) fn leaf_quantile(self) -> Option<f64> {
        match self {
            Self::Absolute => Some(0.5),
            Self::Quantile { alpha } => Some(alpha),
            _ => None,
        }
    }

    /// The score from which boosting starts: the best that is the same for all rows. Of classes, that of a share.
    pub(super) fn base(self, label: &[f64], weight: Option<&[f64]>) -> f64 {
        match self.leaf_quantile() {
            Some(alpha) => quantile(label.to_vec(), weight.map(<[f64]>::to_vec), alpha),
            None => self.base_of(weighted_mean(label, weight)),
        }
    }

    /// The same where it follows from the labels' mean.
    pub(super) fn base_of(self, mean: f64) -> f64 {
        match self {
            Self::Logistic => ln(mean / (1.0 - mean)),
            // A class that no row has, and labels that are all 0, start where they are all but impossible.
            Self::Softmax | Self::Poisson => ln(mean.max(1e-15)),
            _ => mean,
        }
    }

    /// The loss of a row, by its scores.
    pub(super) fn of_row(self, scores: &[f64], label: f64) -> f64 {
        let score = scores[0];
        match self {
            Self::Logistic => {
                let z = if label == 1.0 { -score } else { score };
                crate::estimator::support::math::softplus(z)
            }
            Self::Softmax => log_sum_exp(scores) - scores[label as usize],
            Self::Squared => (score - label) * (score - label) / 2.0,
            Self::Absolute => (score - label).abs(),
            Self::Huber { delta } => {
                let off = (score - label).abs();
                if off <= delta { off * off / 2.0 } else { delta * (off - delta / 2.0) }
            }
            Self::Quantile { alpha } => {
                if score >= label {
                    (1.0 - alpha) * (score - label)
                } else {
                    alpha * (label - score)
                }
            }
            Self::Poisson => exp(score) - label * score,
        }
    }
}

impl Link {
    /// Makes predictions of a row's scores.
    #[inline]
    pub(super) fn apply(self, scores: &mut [f64]) {
        match self {
            Self::Logistic => scores.iter_mut().for_each(|s| *s = sigmoid(*s)),
            Self::Exp => scores.iter_mut().for_each(|s| *s = exp(*s)),
            Self::Identity => {}
            Self::Softmax => softmax(scores),
        }
    }
}

/// `ln(Σ e^s)`, without overflow.
pub(super) fn log_sum_exp(scores: &[f64]) -> f64 {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + ln(scores.iter().map(|s| exp(s - largest)).sum())
}

fn sign(v: f64) -> f64 {
    if v == 0.0 { 0.0 } else { v.signum() }
}

fn weighted_mean(values: &[f64], weight: Option<&[f64]>) -> f64 {
    match weight {
        None => values.iter().sum::<f64>() / values.len() as f64,
        Some(w) => values.iter().zip(w).map(|(v, w)| v * w).sum::<f64>() / w.iter().sum::<f64>(),
    }
}

/// The value with a share `alpha` of the weight below it, between the two nearest where it falls between them: a value stands
/// as far from the one before as half the weight of both, so that of equal weights the `i`th of `n` is at `i / (n - 1)`.
/// Values of weight 0 are as absent. 0 of no values.
pub(super) fn quantile(values: Vec<f64>, weight: Option<Vec<f64>>, alpha: f64) -> f64 {
    match weight {
        None => plain_quantile(values, alpha),
        Some(weight) => weighted_quantile(values.into_iter().zip(weight).filter(|pair| pair.1 > 0.0).collect(), alpha),
    }
}

fn plain_quantile(mut values: Vec<f64>, alpha: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let at = alpha * (values.len() - 1) as f64;
    let (below, share) = (at.floor() as usize, at.fract());
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if share == 0.0 { low } else { low + share * (high - low) }
}

fn weighted_quantile(mut pairs: Vec<(f64, f64)>, alpha: f64) -> f64 {
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let step = |pair: &[(f64, f64)]| (pair[0].1 + pair[1].1) / 2.0;
    let goal = alpha * pairs.windows(2).map(step).sum::<f64>();
    let mut at = 0.0;
    for pair in pairs.windows(2) {
        let next = at + step(pair);
        if next >= goal {
            return pair[0].0 + (goal - at) / (next - at) * (pair[1].0 - pair[0].0);
        }
        at = next;
    }
    pairs.last().map_or(0.0, |pair| pair.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [Loss; 6] = [
        Loss::Logistic,
        Loss::Squared,
        Loss::Absolute,
        Loss::Huber { delta: 0.9 },
        Loss::Quantile { alpha: 0.8 },
        Loss::Poisson,
    ];

    #[test]
    fn gradients_are_slopes_of_the_losses() {
        for loss in LOSSES {
            for (score, label) in [(0.3, 1.0), (-1.2, 0.0), (2.5, 1.0), (0.1, 0.0)] {
                let slope = (loss.of_row(&[score + 1e-6], label) - loss.of_row(&[score - 1e-6], label)) / 2e-6;
                let (gradient, hessian) = loss.derivatives(score, label, None);
                assert!((gradient - slope).abs() < 1e-5 && hessian > 0.0, "{loss:?} at {score}: {gradient}, {slope}");
            }
        }
        let scores = [0.2, -0.4, 1.1];
        for class in 0..3 {
            let mut up = scores;
            up[class] += 1e-6;
            let slope = (Loss::Softmax.of_row(&up, 1.0) - Loss::Softmax.of_row(&scores, 1.0)) / 1e-6;
            let label = f64::from(u8::from(class == 1));
            let (gradient, _) = Loss::Softmax.derivatives(scores[class], label, Some((log_sum_exp(&scores), 3.0)));
            assert!((gradient - slope).abs() < 1e-5, "class {class}: {gradient}, {slope}");
        }
    }

    #[test]
    fn no_other_start_has_a_lower_loss() {
        let label = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
        let weight = [1.0, 2.0, 1.0, 0.5, 0.0, 1.0, 3.0, 1.0, 1.0];
        for loss in LOSSES {
            for weight in [None, Some(&weight[..])] {
                // Between a label and the next a weighted quantile is no label: the loss is flat there only without weights.
                if weight.is_some() && loss.leaf_quantile().is_some() {
                    continue;
                }
                let total = |score: f64| -> f64 {
                    let of = |(i, y): (usize, &f64)| weight.map_or(1.0, |w| w[i]) * loss.of_row(&[score], *y);
                    label.iter().enumerate().map(of).sum()
                };
                let base = loss.base(&label, weight);
                // The mean is where LightGBM starts the Huber loss too; it is the best within delta.
                let best = total(base);
                assert!(best <= total(base + 0.01) + 1e-9 && best <= total(base - 0.01) + 1e-9, "{loss:?} {weight:?}");
            }
        }
    }

    #[test]
    fn quantiles_count_weights() {
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], None, 0.5), 2.0);
        assert_eq!(quantile(vec![4.0, 1.0, 2.0, 3.0], None, 0.5), 2.5);
        assert_eq!(quantile(vec![4.0, 1.0, 2.0, 3.0], None, 1.0), 4.0);
        for alpha in [0.0, 0.3, 0.5, 0.9, 1.0] {
            let values = vec![4.0, 1.0, 7.0, 3.0];
            let weighted = quantile(values.clone(), Some(vec![2.0; 4]), alpha);
            assert!((weighted - quantile(values, None, alpha)).abs() < 1e-12);
        }
        assert_eq!(quantile(vec![1.0, 2.0, 3.0], Some(vec![0.0, 1.0, 1.0]), 0.0), 2.0);
        // Of the way from 1 to 3 the heavy end takes 3 of 4 parts.
        assert_eq!(quantile(vec![1.0, 2.0, 3.0], Some(vec![1.0, 1.0, 5.0]), 0.5), 2.0 + 1.0 / 3.0);
        assert_eq!(quantile(Vec::new(), None, 0.5), 0.0);
    }
}
