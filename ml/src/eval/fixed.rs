//! Sums of losses in fixed point: exact, so they do not depend on the order of the rows.

use crate::estimator::ln;

/// The unit of the sums: 2^-64. A loss is below 40, so that 2^57 rows fit 128 bits.
const UNIT: f64 = 18_446_744_073_709_551_616.0;
/// Probabilities are kept this far from 0 and 1 when logarithms are taken, as scikit-learn does for doubles.
const CLIP: f64 = f64::EPSILON;

/// A sum of losses and how many they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LossSum {
    pub(super) sum: u128,
    pub(super) count: u64,
}

impl LossSum {
    /// Adds a loss: not negative, not NaN, below 2^40.
    pub(super) fn add(&mut self, loss: f64) {
        self.sum += (loss * UNIT) as u128;
        self.count += 1;
    }

    /// The mean; NaN of none.
    pub(super) fn mean(&self) -> f64 {
        self.sum as f64 / UNIT / self.count as f64
    }
}

/// The log loss of one row.
pub(super) fn log_loss_of(score: f64, is_positive: bool) -> f64 {
    let p = score.clamp(CLIP, 1.0 - CLIP);
    -ln(if is_positive { p } else { 1.0 - p }).min(0.0)
}
