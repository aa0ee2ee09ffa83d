//! The fitted model: an intercept and a weight for each number and each indicator.
//!
//! Saved as `model.json`: format, intercept and, per feature in order, its weights and its columns' deviations.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::codec::exact;
use crate::estimator::support::math::sigmoid;
use crate::estimator::support::training;
use crate::estimator::{Artifacts, Model};
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features};

/// The artifact's name.
const FILE: &str = "model.json";
/// The artifact's format.
const FORMAT: u32 = 1;

/// A fitted logistic regression.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticRegressionModel {
    features: Arc<[Feature]>,
    weights: Vec<FeatureWeights>,
    intercept: f64,
}

/// The weights of one feature: one for a number, one per indicator for a category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FeatureWeights {
    name: String,
    #[serde(with = "exact::list")]
    coefficients: Vec<f64>,
    /// The training rows' deviations of the columns: coefficients times these compare with each other.
    #[serde(with = "exact::list")]
    deviations: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    #[serde(with = "exact")]
    intercept: f64,
    features: Vec<FeatureWeights>,
}

impl LogisticRegressionModel {
    /// A model from columns in the fit's order: all numbers, then all indicators.
    pub(super) fn new(features: Arc<[Feature]>, coefficients: &[f64], deviations: &[f64], intercept: f64) -> Self {
        let mut number = 0;
        let mut indicator = features.iter().filter(|f| f.kind == FeatureKind::Number).count();
        let weights = features
            .iter()
            .map(|feature| {
                let size = n_columns(feature);
                let place = if feature.kind == FeatureKind::Number { &mut number } else { &mut indicator };
                let range = *place..*place + size;
                *place += size;
                FeatureWeights {
                    name: feature.name.clone(),
                    coefficients: coefficients[range.clone()].to_vec(),
                    deviations: deviations[range].to_vec(),
                }
            })
            .collect();
        Self { features, weights, intercept }
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let saved: Saved = training::from_json(artifacts, FILE)?;
        training::known_format(FILE, saved.format, FORMAT)?;
        let fits = saved.features.len() == features.len()
            && saved.features.iter().zip(features.iter()).all(|(w, f)| {
                w.name == f.name && w.coefficients.len() == n_columns(f) && w.deviations.len() == n_columns(f)
            });
        if !fits {
            return Err(training::corrupt(FILE, "its weights are not those of the model's features"));
        }
        Ok(Self { features, weights: saved.features, intercept: saved.intercept })
    }

    /// The intercept.
    pub fn intercept(&self) -> f64 {
        self.intercept
    }

    /// The coefficient of each column of the one-hot view, by name, in order.
    pub fn coefficients(&self) -> Vec<(String, f64)> {
        let weights = self.weights.iter().flat_map(|w| w.coefficients.iter().copied());
        self.features.iter().flat_map(Feature::expanded_names).zip(weights).collect()
    }
}

impl Model for LogisticRegressionModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    /// Scores rows; a missing number (NaN) gives a score of NaN.
    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        training::same_columns(&self.features, x)?;
        let mut margins = vec![self.intercept; x.n_rows];
        for (weights, values) in self.weights.iter().zip(&x.values) {
            match values {
                FeatureValues::Number(values) => {
                    let weight = weights.coefficients[0];
                    margins.iter_mut().zip(values.iter()).for_each(|(z, v)| *z += weight * v);
                }
                FeatureValues::Category(values) => {
                    let weight = |index: u32| weights.coefficients.get(index as usize).copied().unwrap_or(0.0);
                    margins.iter_mut().zip(values.iter()).for_each(|(z, v)| *z += weight(*v));
                }
            }
        }
        margins.iter_mut().for_each(|z| *z = sigmoid(*z));
        Ok(margins)
    }

    fn save(&self) -> Result<Artifacts> {
        let saved = Saved { format: FORMAT, intercept: self.intercept, features: self.weights.clone() };
        Ok(Artifacts::from([(FILE.to_owned(), training::to_json(&saved)?)]))
    }

    /// The absolute coefficient of each column times its deviation.
    fn importances(&self) -> Vec<(String, f64)> {
        let sizes = self.weights.iter().flat_map(|w| w.coefficients.iter().zip(&w.deviations));
        self.features.iter().flat_map(Feature::expanded_names).zip(sizes.map(|(c, d)| (c * d).abs())).collect()
    }
}

/// How many columns a feature has in the one-hot view.
fn n_columns(feature: &Feature) -> usize {
    match &feature.kind {
        FeatureKind::Category { indicators, .. } => *indicators,
        _ => 1,
    }
}
