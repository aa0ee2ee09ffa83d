//! The fitted model: an intercept and a weight for each number and each indicator; of a multiclass problem, for each
//! class.
//!
//! Saved as `model.json`. Format 1, of binary problems: the intercept and, per feature in order, its weights and its
//! columns' deviations. Format 2, of multiclass problems: a list of these, one for each class.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::codec::exact;
use crate::estimator::support::linear::{FeatureWeights, LinearWeights};
use crate::estimator::support::math::{sigmoid, softmax};
use crate::estimator::support::training;
use crate::estimator::{Artifacts, Model};
use crate::matrix::{Feature, Features};

/// The artifact's name.
const FILE: &str = "model.json";
/// The artifact's format, of binary problems.
const BINARY_FORMAT: u32 = 1;
/// The artifact's format, of multiclass problems.
const MULTICLASS_FORMAT: u32 = 2;

/// A fitted logistic regression.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticRegressionModel {
    /// The weights of class 1, or of each class where there are more outputs than one.
    outputs: Vec<LinearWeights>,
}

#[derive(Serialize, Deserialize)]
struct SavedBinary {
    format: u32,
    #[serde(flatten)]
    weights: SavedWeights,
}

#[derive(Serialize, Deserialize)]
struct SavedMulticlass {
    format: u32,
    classes: Vec<SavedWeights>,
}

#[derive(Serialize, Deserialize)]
struct SavedWeights {
    #[serde(with = "exact")]
    intercept: f64,
    features: Vec<FeatureWeights>,
}

impl LogisticRegressionModel {
    /// A model of one output, the probability of class 1, or of one for each class.
    pub(super) fn new(outputs: Vec<LinearWeights>) -> Self {
        Self { outputs }
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: &Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let format = training::format_of(artifacts, FILE)?;
        let saved = if format == BINARY_FORMAT {
            vec![training::from_json::<SavedBinary>(artifacts, FILE)?.weights]
        } else {
            training::known_format(FILE, format, MULTICLASS_FORMAT)?;
            let classes = training::from_json::<SavedMulticlass>(artifacts, FILE)?.classes;
            if classes.len() < 2 {
                return Err(training::corrupt(FILE, format!("it has {} classes", classes.len())));
            }
            classes
        };
        let load =
            |saved: SavedWeights| LinearWeights::load(FILE, Arc::clone(features), saved.features, saved.intercept);
        Ok(Self { outputs: saved.into_iter().map(load).collect::<Result<_>>()? })
    }

    /// The intercept of each output: of class 1 (binary), or of each class.
    pub fn intercepts(&self) -> Vec<f64> {
        self.outputs.iter().map(LinearWeights::intercept).collect()
    }

    /// By output, the coefficient of each column of the one-hot view, by name, in order.
    pub fn coefficients(&self) -> Vec<Vec<(String, f64)>> {
        self.outputs.iter().map(LinearWeights::coefficients).collect()
    }
}

impl SavedWeights {
    fn new(weights: &LinearWeights) -> Self {
        Self { intercept: weights.intercept(), features: weights.by_feature().to_vec() }
    }
}

impl Model for LogisticRegressionModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    fn n_outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Scores rows; a missing number (NaN) gives scores of NaN.
    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        if let [weights] = self.outputs.as_slice() {
            let mut margins = weights.margins(x)?;
            margins.iter_mut().for_each(|z| *z = sigmoid(*z));
            return Ok(margins);
        }
        let n_outputs = self.outputs.len();
        let mut scores = vec![0.0; x.n_rows * n_outputs];
        for (output, weights) in self.outputs.iter().enumerate() {
            let into = scores.iter_mut().skip(output).step_by(n_outputs);
            into.zip(weights.margins(x)?).for_each(|(score, margin)| *score = margin);
        }
        scores.chunks_exact_mut(n_outputs).for_each(softmax);
        Ok(scores)
    }

    fn save(&self) -> Result<Artifacts> {
        let json = if let [weights] = self.outputs.as_slice() {
            training::to_json(&SavedBinary { format: BINARY_FORMAT, weights: SavedWeights::new(weights) })
        } else {
            let classes = self.outputs.iter().map(SavedWeights::new).collect();
            training::to_json(&SavedMulticlass { format: MULTICLASS_FORMAT, classes })
        };
        Ok(Artifacts::from([(FILE.to_owned(), json?)]))
    }

    /// The absolute coefficient of each column times its deviation; of a multiclass problem, their mean over the classes.
    fn importances(&self) -> Vec<(String, f64)> {
        let mut by_class = self.outputs.iter().map(LinearWeights::importances);
        let mut sums = by_class.next().unwrap_or_default();
        for class in by_class {
            sums.iter_mut().zip(class).for_each(|(sum, (_, size))| sum.1 += size);
        }
        sums.iter_mut().for_each(|(_, sum)| *sum /= self.outputs.len() as f64);
        sums
    }
}
