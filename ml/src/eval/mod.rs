//! Evaluation: of probabilities, classes and numbers against labels; in SQL by aggregates ([`multiclass`], [`regression`]).
//!
//! Areas are exact: they are computed from counts of rows. Means of losses are fixed-point sums, so no result depends
//! on the order of the rows.

mod aggregate;
mod calibration_error;
mod curve;
mod f_measure;
mod fixed;
mod log_loss;
mod metric;
pub mod multiclass;
mod permutation;
mod probability;
mod ranking;
pub mod regression;
mod report;
mod silhouette;
mod threshold;

pub use aggregate::aggregate_udfs;
pub use calibration_error::{calibration_error, multiclass_calibration_error};
pub use curve::{RocPoint, area_under_pr, area_under_roc, roc_curve};
pub use metric::Metric;
pub use permutation::{MOST_ROWS, N_REPEATS, PermutationImportance, permutation_importances};
pub use probability::{accuracy, brier, f1, log_loss, multiclass_log_loss};
pub use report::{CalibrationBin, Evaluation, calibration};
pub use silhouette::silhouette;
pub use threshold::{BestThreshold, ThresholdRule, best_threshold};

use crate::estimator::ProblemType;
use crate::matrix::Features;
use crate::{MlError, Result};

/// What a model gave for rows, with what was true of them.
#[derive(Debug, Clone, Copy)]
pub struct Predicted<'a> {
    /// What was learnt.
    pub problem: ProblemType,
    /// How many classes there are.
    pub n_classes: usize,
    /// What [`crate::estimator::Model::predict`] gave.
    pub predictions: &'a [f64],
    /// The labels, `[n_rows]`.
    pub labels: &'a [f64],
    /// The score from which a row of a binary problem is predicted to be of class 1.
    pub threshold: f64,
    /// What the model read: clusters are judged by it.
    pub x: Option<&'a Features>,
}

/// Checks scores and labels: as many of each, at least one, no NaN, labels 0 or 1.
///
/// # Errors
/// What is wrong with the first bad row.
fn check(scores: &[f64], labels: &[f64]) -> Result<()> {
    if scores.len() != labels.len() || scores.is_empty() {
        return Err(MlError::Invalid(format!(
            "evaluation needs a label for each score and at least one row, got {} scores and {} labels",
            scores.len(),
            labels.len()
        )));
    }
    if let Some(row) = scores.iter().position(|s| s.is_nan()) {
        return Err(MlError::Invalid(format!("the score of row {row} is not a number")));
    }
    match labels.iter().position(|l| *l != 0.0 && *l != 1.0) {
        Some(row) => Err(MlError::Invalid(format!("the label must be 0 or 1, got {} in row {row}", labels[row]))),
        None => Ok(()),
    }
}

/// The rows of each class.
///
/// # Errors
/// Those of [`check`], and one class only.
fn both_classes(scores: &[f64], labels: &[f64]) -> Result<(u64, u64)> {
    check(scores, labels)?;
    let positives = labels.iter().filter(|l| **l == 1.0).count();
    if positives == 0 || positives == labels.len() {
        let class = u8::from(positives > 0);
        return Err(MlError::Invalid(format!(
            "the label has one class only: all {} rows are {class}; both 0 and 1 are needed",
            labels.len()
        )));
    }
    Ok((positives as u64, (labels.len() - positives) as u64))
}

#[cfg(test)]
mod tests;
