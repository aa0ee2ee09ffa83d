//! All metrics of one set of predictions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Metric, Predicted, check, roc_curve};
use crate::estimator::ProblemType;
use crate::model::largest;
use crate::{MlError, Result};

/// How many points of an ROC curve are kept.
const ROC_POINTS: usize = 200;
/// How many bins predictions are compared with labels in.
const BINS: u32 = 10;

/// How a model does on some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evaluation {
    /// What was learnt.
    pub problem_type: ProblemType,
    /// Rows.
    pub n_rows: u64,
    /// The problem's metrics by name, but those that these rows do not define.
    pub metrics: BTreeMap<String, f64>,
    /// The mean of labels that are numbers: of 0 and 1, the share of 1.
    pub mean_label: Option<f64>,
    /// Points (false positive rate, true positive rate) of a binary problem's ROC curve.
    pub roc_curve: Vec<(f64, f64)>,
    /// Ten bins by prediction, of binary problems and regression.
    pub calibration: Vec<CalibrationBin>,
    /// Rows by class of the label and then by class predicted, of multiclass problems.
    pub confusion: Vec<Vec<u64>>,
}

/// Rows of similar predictions, expected against actual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CalibrationBin {
    /// The bin's place, from 0 for the lowest predictions.
    pub bin: u32,
    /// Rows.
    pub n_rows: u64,
    /// The lowest prediction.
    pub min_prediction: f64,
    /// The highest prediction.
    pub max_prediction: f64,
    /// The mean prediction: what is expected.
    pub mean_prediction: f64,
    /// The mean label: what came. Of 0 and 1, the share of 1.
    pub mean_label: f64,
}

impl Evaluation {
    /// Computes all metrics of the problem.
    ///
    /// # Errors
    /// No rows, predictions that are NaN, labels that are not the problem's, or, for a binary problem, one class only.
    pub fn of(rows: &Predicted<'_>) -> Result<Self> {
        let mut evaluation = Self { problem_type: rows.problem, n_rows: rows.labels.len() as u64, ..Self::default() };
        for metric in Metric::of(rows.problem) {
            let value = metric.compute(rows)?;
            if value.is_finite() {
                evaluation.metrics.insert(metric.name().to_owned(), value);
            }
        }
        match rows.problem {
            ProblemType::Binary => {
                let curve = roc_curve(rows.predictions, rows.labels, ROC_POINTS)?;
                evaluation.roc_curve = curve.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect();
                evaluation.calibration = calibration(rows.predictions, rows.labels, BINS)?;
            }
            ProblemType::Regression => evaluation.calibration = bins(rows.predictions, rows.labels, BINS),
            ProblemType::Multiclass => {
                evaluation.confusion = confusion(rows.predictions, rows.labels, rows.n_classes)?;
            }
            ProblemType::Clustering => {}
        }
        if !evaluation.calibration.is_empty() {
            let sum: f64 = evaluation.calibration.iter().map(|bin| bin.mean_label * bin.n_rows as f64).sum();
            evaluation.mean_label = Some(sum / evaluation.n_rows as f64);
        }
        Ok(evaluation)
    }

    /// One metric's figure; NaN where these rows do not define it.
    pub fn get(&self, metric: Metric) -> f64 {
        self.metrics.get(metric.name()).copied().unwrap_or(f64::NAN)
    }
}

/// Rows by class of the label and then by the most probable class.
///
/// # Errors
/// Other than one probability for each class, and labels that are no class.
pub(super) fn confusion(probabilities: &[f64], labels: &[f64], n_classes: usize) -> Result<Vec<Vec<u64>>> {
    check_classes(probabilities, labels, n_classes)?;
    let mut counts = vec![vec![0; n_classes]; n_classes];
    for (row, label) in probabilities.chunks_exact(n_classes).zip(labels) {
        counts[*label as usize][largest(row) as usize] += 1;
    }
    Ok(counts)
}

pub(super) fn check_classes(probabilities: &[f64], labels: &[f64], n_classes: usize) -> Result<()> {
    if labels.is_empty() || probabilities.len() != labels.len() * n_classes {
        return Err(MlError::Invalid(format!(
            "evaluation needs {n_classes} probabilities for each label and at least one row, got {} and {} labels",
            probabilities.len(),
            labels.len()
        )));
    }
    if let Some(at) = probabilities.iter().position(|p| p.is_nan()) {
        return Err(MlError::Invalid(format!("a probability of row {} is not a number", at / n_classes)));
    }
    match labels.iter().position(|l| l.fract() != 0.0 || !(0.0..n_classes as f64).contains(l)) {
        Some(row) => Err(MlError::Invalid(format!(
            "the label must be a whole number from 0, below {n_classes}, got {} in row {row}",
            labels[row]
        ))),
        None => Ok(()),
    }
}

/// Cuts the rows into bins of about equally many by score, each with its mean score and rate of class 1.
///
/// Equal scores share a bin, that of the lowest of their ranks; bins without rows are left out.
///
/// # Errors
/// No rows, NaN scores, or labels other than 0 and 1.
pub fn calibration(scores: &[f64], labels: &[f64], n_bins: u32) -> Result<Vec<CalibrationBin>> {
    check(scores, labels)?;
    Ok(bins(scores, labels, n_bins))
}

fn bins(predictions: &[f64], labels: &[f64], n_bins: u32) -> Vec<CalibrationBin> {
    let mut rows: Vec<(f64, f64)> = predictions.iter().zip(labels).map(|(s, l)| (s + 0.0, *l)).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let n_rows = rows.len() as u64;
    let mut bins: Vec<CalibrationBin> = Vec::new();
    let mut rank = 0u64;
    for ties in rows.chunk_by(|a, b| a.0 == b.0) {
        let bin = (rank * u64::from(n_bins) / n_rows) as u32;
        add(&mut bins, bin, ties);
        rank += ties.len() as u64;
    }
    for bin in &mut bins {
        bin.mean_prediction /= bin.n_rows as f64;
        bin.mean_label /= bin.n_rows as f64;
    }
    bins
}

/// Adds rows of one prediction to a bin, whose means are sums until all rows are in.
fn add(bins: &mut Vec<CalibrationBin>, bin: u32, ties: &[(f64, f64)]) {
    let prediction = ties[0].0;
    if bins.last().is_none_or(|last| last.bin != bin) {
        bins.push(CalibrationBin { bin, min_prediction: prediction, ..CalibrationBin::default() });
    }
    if let Some(last) = bins.last_mut() {
        last.n_rows += ties.len() as u64;
        last.max_prediction = prediction;
        last.mean_prediction += prediction * ties.len() as f64;
        last.mean_label += ties.iter().map(|row| row.1).sum::<f64>();
    }
}
