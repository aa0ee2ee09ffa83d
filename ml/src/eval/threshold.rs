//! Choosing the threshold from which a score predicts 1.

use serde::{Deserialize, Serialize};

use super::both_classes;
use super::curve::{Counts, cumulative};
use crate::Result;

/// What a threshold is to maximise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdRule {
    /// The harmonic mean of precision and recall.
    F1,
    /// True positive rate less false positive rate (Youden 1950).
    Youden,
}

/// A threshold and what it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestThreshold {
    /// The lowest score that predicts 1.
    pub threshold: f64,
    /// The rule's value there.
    pub value: f64,
}

/// The score that is the best threshold; the highest of equals.
///
/// # Errors
/// No rows, NaN scores, labels other than 0 and 1, or one class only.
pub fn best_threshold(scores: &[f64], labels: &[f64], rule: ThresholdRule) -> Result<BestThreshold> {
    let (positives, negatives) = both_classes(scores, labels)?;
    let value = |c: &Counts| match rule {
        ThresholdRule::F1 => 2.0 * c.true_positives as f64 / (c.true_positives + c.false_positives + positives) as f64,
        ThresholdRule::Youden => {
            c.true_positives as f64 / positives as f64 - c.false_positives as f64 / negatives as f64
        }
    };
    let start = BestThreshold { threshold: f64::INFINITY, value: f64::NEG_INFINITY };
    Ok(cumulative(scores, labels).iter().fold(start, |best, c| {
        let here = value(c);
        if here > best.value { BestThreshold { threshold: c.score, value: here } } else { best }
    }))
}
