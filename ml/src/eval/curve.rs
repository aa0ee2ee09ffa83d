//! Curves over all thresholds, and the areas under them.

use serde::{Deserialize, Serialize};

use super::both_classes;
use crate::Result;

/// One threshold of a ROC curve: rows with at least this score are predicted positive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// The lowest score that counts as positive; for the curve's first point, above all scores, the highest one.
    pub threshold: f64,
    /// The share of negatives predicted positive.
    pub false_positive_rate: f64,
    /// The share of positives predicted positive.
    pub true_positive_rate: f64,
}

/// Rows of each class at or above a score, for each distinct score from the highest down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counts {
    pub(super) score: f64,
    pub(super) true_positives: u64,
    pub(super) false_positives: u64,
}

/// The cumulative counts of all distinct scores.
pub(super) fn cumulative(scores: &[f64], labels: &[f64]) -> Vec<Counts> {
    // Adding 0 makes one zero of both.
    let mut rows: Vec<(f64, bool)> = scores.iter().zip(labels).map(|(s, l)| (s + 0.0, *l == 1.0)).collect();
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut true_positives, mut false_positives) = (0, 0);
    rows.chunk_by(|a, b| a.0 == b.0)
        .map(|ties| {
            let positives = ties.iter().filter(|row| row.1).count() as u64;
            true_positives += positives;
            false_positives += ties.len() as u64 - positives;
            Counts { score: ties[0].0, true_positives, false_positives }
        })
        .collect()
}

/// The area under the ROC curve, exact; tied scores count half, as by the trapezoid rule.
///
/// Equals scikit-learn's `roc_auc_score` and Spark's `areaUnderROC`.
///
/// # Errors
/// No rows, NaN scores, labels other than 0 and 1, or one class only.
pub fn area_under_roc(scores: &[f64], labels: &[f64]) -> Result<f64> {
    both_classes(scores, labels)?;
    Ok(roc_area(&cumulative(scores, labels)))
}

/// The area from cumulative counts with both classes.
pub(super) fn roc_area(counts: &[Counts]) -> f64 {
    let (mut before, mut twice_area) = ((0, 0), 0u128);
    for c in counts {
        let width = u128::from(c.false_positives - before.1);
        twice_area += width * (u128::from(c.true_positives) + u128::from(before.0));
        before = (c.true_positives, c.false_positives);
    }
    twice_area as f64 / (2.0 * before.0 as f64 * before.1 as f64)
}

/// A row with a weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    score: f64,
    is_positive: bool,
    weight: f64,
}

impl Ranked {
    /// A row; -0 and 0 are one score.
    pub(super) fn new(score: f64, is_positive: bool, weight: f64) -> Self {
        Self { score: score + 0.0, is_positive, weight }
    }
}

/// The weights of class 1 and of class 0 among rows of equal scores, from the highest score down. Sums do not depend on
/// the order in which the rows came.
fn weights_of_ties(rows: &mut [Ranked]) -> impl Iterator<Item = (f64, f64)> {
    rows.sort_unstable_by(|a, b| {
        let ties = || a.is_positive.cmp(&b.is_positive).then(a.weight.total_cmp(&b.weight));
        b.score.total_cmp(&a.score).then_with(ties)
    });
    rows.chunk_by(|a, b| a.score == b.score).map(|ties| {
        let of = |class| ties.iter().filter(|row| row.is_positive == class).map(|row| row.weight).sum();
        (of(true), of(false))
    })
}

/// The area under the ROC curve of rows with weights, both classes among them.
pub(super) fn weighted_roc_area(rows: &mut [Ranked]) -> f64 {
    let (mut positives, mut negatives, mut area) = (0.0, 0.0, 0.0);
    for (more_positives, more_negatives) in weights_of_ties(rows) {
        area += more_negatives * (positives + more_positives / 2.0);
        positives += more_positives;
        negatives += more_negatives;
    }
    area / positives / negatives
}

/// The rate of class 1 in the `share` of the rows with the highest scores over that in all rows; none where there is no
/// class 1. Of rows with equal scores that are not all within the share, as large a part of each counts.
pub(super) fn lift_of(rows: &mut [Ranked], share: f64) -> Option<f64> {
    let ties: Vec<(f64, f64)> = weights_of_ties(rows).collect();
    let (positives, negatives) = ties.iter().fold((0.0, 0.0), |sum, ties| (sum.0 + ties.0, sum.1 + ties.1));
    if positives == 0.0 {
        return None;
    }
    let most = share * (positives + negatives);
    let (mut taken, mut found) = (0.0, 0.0);
    for (positives, negatives) in ties {
        let weight = positives + negatives;
        let part = ((most - taken) / weight).clamp(0.0, 1.0);
        taken += weight * part;
        found += positives * part;
    }
    Some(found / positives / share)
}

/// The area under the precision-recall curve by the trapezoid rule, as Spark's `areaUnderPR`: the curve starts at
/// recall 0 with the precision of the highest score.
///
/// # Errors
/// Those of [`area_under_roc`].
pub fn area_under_pr(scores: &[f64], labels: &[f64]) -> Result<f64> {
    let (positives, _) = both_classes(scores, labels)?;
    let counts = cumulative(scores, labels);
    let precision = |c: &Counts| c.true_positives as f64 / (c.true_positives + c.false_positives) as f64;
    let mut before = (0, counts.first().map_or(0.0, precision));
    let mut area = 0.0;
    for c in &counts {
        let here = precision(c);
        area += (c.true_positives - before.0) as f64 * (here + before.1) / 2.0;
        before = (c.true_positives, here);
    }
    Ok(area / positives as f64)
}

/// The ROC curve from (0, 0) to (1, 1), thinned evenly to at most `most_points` (at least 2).
///
/// # Errors
/// Those of [`area_under_roc`].
pub fn roc_curve(scores: &[f64], labels: &[f64], most_points: usize) -> Result<Vec<RocPoint>> {
    let (positives, negatives) = both_classes(scores, labels)?;
    let counts = cumulative(scores, labels);
    let point = |c: &Counts| RocPoint {
        threshold: c.score,
        false_positive_rate: c.false_positives as f64 / negatives as f64,
        true_positive_rate: c.true_positives as f64 / positives as f64,
    };
    let highest = counts.first().map_or(0.0, |c| c.score);
    let start = RocPoint { threshold: highest, false_positive_rate: 0.0, true_positive_rate: 0.0 };
    let points: Vec<RocPoint> = [start].into_iter().chain(counts.iter().map(point)).collect();
    Ok(thin(points, most_points.max(2)))
}

/// Keeps `most` points at even places, the first and the last among them.
fn thin(points: Vec<RocPoint>, most: usize) -> Vec<RocPoint> {
    if points.len() <= most {
        return points;
    }
    let last = points.len() - 1;
    (0..most).map(|i| points[i * last / (most - 1)]).collect()
}
