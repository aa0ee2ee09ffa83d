//! All metrics of one set of scores.

use serde::{Deserialize, Serialize};

use super::{accuracy, area_under_pr, area_under_roc, both_classes, brier, check, log_loss};
use crate::Result;

/// How a model does on some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Rows.
    pub n_rows: u64,
    /// Rows of class 1.
    pub n_positives: u64,
    /// See [`area_under_roc`].
    pub area_under_roc: f64,
    /// See [`area_under_pr`].
    pub area_under_pr: f64,
    /// See [`log_loss`].
    pub log_loss: f64,
    /// See [`brier`].
    pub brier: f64,
    /// The threshold of `accuracy`.
    pub threshold: f64,
    /// See [`accuracy`].
    pub accuracy: f64,
    /// Ten bins by score.
    pub calibration: Vec<CalibrationBin>,
}

/// Rows of similar scores, expected against actual.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// The bin's place, from 0 for the lowest scores.
    pub bin: u32,
    /// Rows.
    pub n_rows: u64,
    /// The lowest score.
    pub min_score: f64,
    /// The highest score.
    pub max_score: f64,
    /// The mean score: the rate that is expected.
    pub mean_score: f64,
    /// The share of class 1: the rate that came.
    pub positive_rate: f64,
}

/// Computes all metrics.
///
/// # Errors
/// No rows, NaN scores, labels other than 0 and 1, or one class only.
pub fn evaluate(scores: &[f64], labels: &[f64], threshold: f64) -> Result<Evaluation> {
    let (n_positives, n_negatives) = both_classes(scores, labels)?;
    Ok(Evaluation {
        n_rows: n_positives + n_negatives,
        n_positives,
        area_under_roc: area_under_roc(scores, labels)?,
        area_under_pr: area_under_pr(scores, labels)?,
        log_loss: log_loss(scores, labels)?,
        brier: brier(scores, labels)?,
        threshold,
        accuracy: accuracy(scores, labels, threshold)?,
        calibration: calibration(scores, labels, 10)?,
    })
}

/// Cuts the rows into bins of about equally many by score, each with its mean score and rate of class 1.
///
/// Equal scores share a bin, that of the lowest of their ranks; bins without rows are left out.
///
/// # Errors
/// No rows, NaN scores, or labels other than 0 and 1.
pub fn calibration(scores: &[f64], labels: &[f64], n_bins: u32) -> Result<Vec<CalibrationBin>> {
    check(scores, labels)?;
    let mut rows: Vec<(f64, f64)> = scores.iter().zip(labels).map(|(s, l)| (s + 0.0, *l)).collect();
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
        bin.mean_score /= bin.n_rows as f64;
        bin.positive_rate /= bin.n_rows as f64;
    }
    Ok(bins)
}

/// Adds rows of one score to a bin, whose means are sums until all rows are in.
fn add(bins: &mut Vec<CalibrationBin>, bin: u32, ties: &[(f64, f64)]) {
    let score = ties[0].0;
    if bins.last().is_none_or(|last| last.bin != bin) {
        bins.push(CalibrationBin {
            bin,
            n_rows: 0,
            min_score: score,
            max_score: score,
            mean_score: 0.0,
            positive_rate: 0.0,
        });
    }
    if let Some(last) = bins.last_mut() {
        last.n_rows += ties.len() as u64;
        last.max_score = score;
        last.mean_score += score * ties.len() as f64;
        last.positive_rate += ties.iter().map(|row| row.1).sum::<f64>();
    }
}
