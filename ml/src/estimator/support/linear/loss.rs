//! Losses of a margin, row by row.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::estimator::support::math::{sigmoid, softplus_and_sigmoid};

/// A loss of one margin and a label, convex in the margin or bounded by its curvature nearby.
pub(crate) trait RowLoss: Debug + Clone + Sync + Serialize + DeserializeOwned {
    /// The loss and its derivative by the margin. An infinite loss marks a margin that the model does not allow.
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64);

    /// The second derivative by the margin, or its expectation; at least 0.
    fn curvature(&self, margin: f64, label: f64) -> f64;

    /// Whether the curvature is the same everywhere.
    fn is_quadratic(&self) -> bool {
        false
    }
}

/// The log loss of a label 0 or 1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Logistic;

impl RowLoss for Logistic {
    #[inline(always)]
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64) {
        let (softplus, sigmoid) = softplus_and_sigmoid(margin);
        (softplus - label * margin, sigmoid - label)
    }

    #[inline(always)]
    fn curvature(&self, margin: f64, _label: f64) -> f64 {
        let p = sigmoid(margin);
        p * (1.0 - p)
    }
}

/// Half the squared error.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Squared;

impl RowLoss for Squared {
    #[inline(always)]
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64) {
        let off = margin - label;
        (0.5 * off * off, off)
    }

    #[inline(always)]
    fn curvature(&self, _margin: f64, _label: f64) -> f64 {
        1.0
    }

    fn is_quadratic(&self) -> bool {
        true
    }
}
