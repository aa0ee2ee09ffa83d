//! An intercept and a weight for each number and each indicator, by feature.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Columns;
use crate::Result;
use crate::codec::exact;
use crate::estimator::support::training;
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features};

/// The weights of one feature: one for a number, one per indicator for a category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FeatureWeights {
    name: String,
    #[serde(with = "exact::list")]
    coefficients: Vec<f64>,
    /// The training rows' deviations of the columns: coefficients times these compare with each other.
    #[serde(with = "exact::list")]
    deviations: Vec<f64>,
}

/// What a margin is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinearWeights {
    features: Arc<[Feature]>,
    weights: Vec<FeatureWeights>,
    intercept: f64,
}

impl LinearWeights {
    /// The weights at a point of the optimiser.
    pub(crate) fn new(features: Arc<[Feature]>, columns: &Columns, point: &[f64]) -> Self {
        let (coefficients, intercept) = columns.raw_coefficients(point);
        // The fit's columns are all numbers, then all indicators.
        let mut number = 0;
        let mut indicator = features.iter().filter(|f| f.kind == FeatureKind::Number).count();
        let weights = features
            .iter()
            .map(|feature| {
                let place = if feature.kind == FeatureKind::Number { &mut number } else { &mut indicator };
                let range = *place..*place + n_columns(feature);
                *place = range.end;
                FeatureWeights {
                    name: feature.name.clone(),
                    coefficients: coefficients[range.clone()].to_vec(),
                    deviations: columns.deviation[range].to_vec(),
                }
            })
            .collect();
        Self { features, weights, intercept }
    }

    /// Weights that were saved in `file`.
    ///
    /// # Errors
    /// [`crate::MlError::Corrupt`] for weights of other features.
    pub(crate) fn load(
        file: &str,
        features: Arc<[Feature]>,
        weights: Vec<FeatureWeights>,
        intercept: f64,
    ) -> Result<Self> {
        let fits = weights.len() == features.len()
            && weights.iter().zip(features.iter()).all(|(w, f)| {
                w.name == f.name && w.coefficients.len() == n_columns(f) && w.deviations.len() == n_columns(f)
            });
        if !fits {
            return Err(training::corrupt(file, "its weights are not those of the model's features"));
        }
        Ok(Self { features, weights, intercept })
    }

    /// The weights by feature, to be saved.
    pub(crate) fn by_feature(&self) -> &[FeatureWeights] {
        &self.weights
    }

    /// The intercept.
    pub(crate) fn intercept(&self) -> f64 {
        self.intercept
    }

    /// The coefficient of each column of the one-hot view, by name, in order.
    pub(crate) fn coefficients(&self) -> Vec<(String, f64)> {
        let weights = self.weights.iter().flat_map(|w| w.coefficients.iter().copied());
        self.features.iter().flat_map(Feature::expanded_names).zip(weights).collect()
    }

    /// The absolute coefficient of each column times its deviation.
    pub(crate) fn importances(&self) -> Vec<(String, f64)> {
        let sizes = self.weights.iter().flat_map(|w| w.coefficients.iter().zip(&w.deviations));
        self.features.iter().flat_map(Feature::expanded_names).zip(sizes.map(|(c, d)| (c * d).abs())).collect()
    }

    /// The margin of each row; NaN where a number is missing.
    ///
    /// # Errors
    /// Features that are not those of the fit.
    pub(crate) fn margins(&self, x: &Features) -> Result<Vec<f64>> {
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
        Ok(margins)
    }
}

/// How many columns a feature has in the one-hot view.
fn n_columns(feature: &Feature) -> usize {
    match &feature.kind {
        FeatureKind::Category { indicators, .. } => *indicators,
        _ => 1,
    }
}
