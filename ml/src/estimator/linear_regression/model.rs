//! The fitted model: an intercept and a weight for each number and each indicator.
//!
//! Saved as `model.json`: format, intercept and, per feature in order, its weights and its columns' deviations.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::codec::exact;
use crate::estimator::support::linear::{FeatureWeights, LinearWeights};
use crate::estimator::support::training;
use crate::estimator::{Artifacts, Model};
use crate::matrix::{Feature, Features};

/// The artifact's name.
const FILE: &str = "model.json";
/// The artifact's format.
const FORMAT: u32 = 1;

/// A fitted linear regression.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRegressionModel {
    weights: LinearWeights,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    #[serde(with = "exact")]
    intercept: f64,
    features: Vec<FeatureWeights>,
}

impl LinearRegressionModel {
    pub(super) fn new(weights: LinearWeights) -> Self {
        Self { weights }
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let saved: Saved = training::from_json(artifacts, FILE)?;
        training::known_format(FILE, saved.format, FORMAT)?;
        Ok(Self { weights: LinearWeights::load(FILE, features, saved.features, saved.intercept)? })
    }

    /// The intercept.
    pub fn intercept(&self) -> f64 {
        self.weights.intercept()
    }

    /// The coefficient of each column of the one-hot view, by name, in order.
    pub fn coefficients(&self) -> Vec<(String, f64)> {
        self.weights.coefficients()
    }
}

impl Model for LinearRegressionModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    /// Predicts rows; a missing number (NaN) gives NaN.
    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        self.weights.margins(x)
    }

    fn save(&self) -> Result<Artifacts> {
        let features = self.weights.by_feature().to_vec();
        let saved = Saved { format: FORMAT, intercept: self.weights.intercept(), features };
        Ok(Artifacts::from([(FILE.to_owned(), training::to_json(&saved)?)]))
    }

    /// The absolute coefficient of each column times its deviation.
    fn importances(&self) -> Vec<(String, f64)> {
        self.weights.importances()
    }
}
