//! Metrics of scores as probabilities.

use super::check;
use super::fixed::{LossSum, log_loss_of};
use super::report::check_classes;
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

/// The harmonic mean of precision and recall of class 1; scores of at least `threshold` predict 1. 0 where there is neither.
///
/// # Errors
/// Those of [`log_loss`].
pub fn f1(scores: &[f64], labels: &[f64], threshold: f64) -> Result<f64> {
    check(scores, labels)?;
    let count = |keep: &dyn Fn(f64, f64) -> bool| scores.iter().zip(labels).filter(|(s, l)| keep(**s, **l)).count();
    let right = count(&|score, label| score >= threshold && label == 1.0);
    let either = count(&|score, _| score >= threshold) + count(&|_, label| label == 1.0);
    Ok(if either == 0 { 0.0 } else { 2.0 * right as f64 / either as f64 })
}

/// The mean log loss of the label's class; probabilities are `[n_rows, n_classes]`, row-major, and kept within 2.2e-16 of 0
/// and 1, as scikit-learn's `log_loss` does.
///
/// # Errors
/// Other than one probability for each class, NaN, and labels that are no class.
pub fn multiclass_log_loss(probabilities: &[f64], labels: &[f64], n_classes: usize) -> Result<f64> {
    check_classes(probabilities, labels, n_classes)?;
    let mut sum = LossSum::default();
    for (row, label) in probabilities.chunks_exact(n_classes).zip(labels) {
        sum.add(log_loss_of(row[*label as usize], true));
    }
    Ok(sum.mean())
}

fn mean(scores: &[f64], labels: &[f64], loss: impl Fn(f64, f64) -> f64) -> Result<f64> {
    check(scores, labels)?;
    let mut sum = LossSum::default();
    scores.iter().zip(labels).for_each(|(s, l)| sum.add(loss(*s, *l)));
    Ok(sum.mean())
}
