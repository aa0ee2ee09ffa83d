//! Losses of a margin, row by row.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::estimator::support::math::{sigmoid, softplus};

/// A loss of one margin and a label, convex in the margin or bounded by its curvature nearby.
pub(crate) trait RowLoss: Debug + Clone + Sync + Serialize + DeserializeOwned {
    /// The loss and its derivative by the margin. An infinite loss marks a margin that the model does not allow.
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64);

    /// The second derivative by the margin, or its expectation; at least 0.
    fn curvature(&self, margin: f64, label: f64) -> f64;
}

/// The log loss of a label 0 or 1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Logistic;

impl RowLoss for Logistic {
    #[inline]
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64) {
        (softplus(margin) - label * margin, sigmoid(margin) - label)
    }

    #[inline]
    fn curvature(&self, margin: f64, _label: f64) -> f64 {
        let p = sigmoid(margin);
        p * (1.0 - p)
    }
}

/// Half the squared error.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Squared;

impl RowLoss for Squared {
    #[inline]
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64) {
        let off = margin - label;
        (0.5 * off * off, off)
    }

    #[inline]
    fn curvature(&self, _margin: f64, _label: f64) -> f64 {
        1.0
    }
}
