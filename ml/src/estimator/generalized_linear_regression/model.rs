//! The fitted model: an intercept and a weight for each number and each indicator, and the link to the mean.
//!
//! Saved as `model.json`: format, family, link, intercept and, per feature in order, its weights and its columns' deviations.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Family, Link};
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

/// A fitted generalized linear regression.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneralizedLinearRegressionModel {
    weights: LinearWeights,
    family: Family,
    link: Link,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    family: Family,
    link: Link,
    #[serde(with = "exact")]
    intercept: f64,
    features: Vec<FeatureWeights>,
}

impl GeneralizedLinearRegressionModel {
    pub(super) fn new(weights: LinearWeights, family: Family, link: Link) -> Self {
        Self { weights, family, link }
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let saved: Saved = training::from_json(artifacts, FILE)?;
        training::known_format(FILE, saved.format, FORMAT)?;
        let (family, link) = (saved.family, saved.link);
        if !family.links().contains(&link) {
            let why = format!("the {} family has no {} link", family.name(), link.name());
            return Err(training::corrupt(FILE, why));
        }
        Ok(Self { weights: LinearWeights::load(FILE, features, saved.features, saved.intercept)?, family, link })
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

impl Model for GeneralizedLinearRegressionModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    /// The mean of each row; a missing number (NaN) gives NaN.
    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        let mut means = self.weights.margins(x)?;
        means.iter_mut().for_each(|z| *z = self.link.mean(*z));
        Ok(means)
    }

    fn save(&self) -> Result<Artifacts> {
        let features = self.weights.by_feature().to_vec();
        let (family, link, intercept) = (self.family, self.link, self.weights.intercept());
        let saved = Saved { format: FORMAT, family, link, intercept, features };
        Ok(Artifacts::from([(FILE.to_owned(), training::to_json(&saved)?)]))
    }

    /// The absolute coefficient of each column times its deviation.
    fn importances(&self) -> Vec<(String, f64)> {
        self.weights.importances()
    }
}
