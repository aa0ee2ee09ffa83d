//! Metrics of scores as probabilities.

use super::check;
use super::fixed::{LossSum, log_loss_of};
use crate::Result;

/// The mean log loss; scores are kept within 2.2e-16 of 0 and 1, as scikit-learn's `log_loss` does.
///
/// # Errors
/// No rows, NaN scores, or labels other than 0 and 1.
pub fn log_loss(scores: &[f64], labels: &[f64]) -> Result<f64> {
    mean(scores, labels, |score, label| log_loss_of(score, label == 1.0))
}

/// The mean squared difference of score and label (Brier 1950).
///
/// # Errors
/// Those of [`log_loss`].
pub fn brier(scores: &[f64], labels: &[f64]) -> Result<f64> {
    mean(scores, labels, |score, label| {
        let difference = score.clamp(0.0, 1.0) - label;
        difference * difference
    })
}

/// The share of rows on the right side of a threshold: scores of at least `threshold` predict 1.
///
/// # Errors
/// Those of [`log_loss`].
pub fn accuracy(scores: &[f64], labels: &[f64], threshold: f64) -> Result<f64> {
    check(scores, labels)?;
    let right = scores.iter().zip(labels).filter(|(s, l)| (**s >= threshold) == (**l == 1.0)).count();
    Ok(right as f64 / scores.len() as f64)
}

fn mean(scores: &[f64], labels: &[f64], loss: impl Fn(f64, f64) -> f64) -> Result<f64> {
    check(scores, labels)?;
    let mut sum = LossSum::default();
    scores.iter().zip(labels).for_each(|(s, l)| sum.add(loss(*s, *l)));
    Ok(sum.mean())
}
