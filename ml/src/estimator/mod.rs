//! Estimators: each trains one model for each candidate of a group on one shared matrix.
//!
//! An algorithm is always `params.rs`, `fit.rs`, `model.rs` in a folder of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::matrix::{Feature, Features, Matrix};
use crate::{MlError, Result};

pub mod decision_tree;
mod fold;
pub mod generalized_linear_regression;
pub mod gradient_boosted_trees;
pub mod k_means;
pub mod linear_regression;
pub mod logistic_regression;
pub mod multilayer_perceptron;
mod problem;
pub mod random_forest;
mod registry;
mod search;
pub mod sharded;
mod support;

pub use decision_tree::DecisionTree;
pub use fold::{FoldKey, fold_hash, fold_hash_of, fold_of, is_fold_key, scalar_udfs};
pub use generalized_linear_regression::GeneralizedLinearRegression;
pub use gradient_boosted_trees::GradientBoostedTrees;
pub use k_means::KMeans;
pub use linear_regression::LinearRegression;
pub use logistic_regression::LogisticRegression;
pub use multilayer_perceptron::MultilayerPerceptron;
pub use problem::{MAX_CLASSES, ProblemType};
pub use random_forest::RandomForest;
pub use registry::EstimatorRegistry;
pub use search::{Candidate, ParamGrid};
pub(crate) use support::chunks::{add_into, fold_chunks};
pub(crate) use support::math::ln;
#[cfg(test)]
pub(crate) use support::testing;

/// Parameters of one candidate, by Spark ML's names in snake_case; what is left out has its default.
pub type Params = BTreeMap<String, Value>;

/// What a fit is told beside its data.
#[derive(Debug, Clone)]
pub struct FitContext {
    /// The seed of everything random.
    pub seed: u64,
    /// Set when the work is to stop; estimators look at it at least every 100 ms.
    pub cancel: Arc<AtomicBool>,
}

impl FitContext {
    /// A context that is never cancelled.
    pub fn new(seed: u64) -> Self {
        Self { seed, cancel: Arc::new(AtomicBool::new(false)) }
    }

    /// An error once the work was cancelled.
    ///
    /// # Errors
    /// [`MlError::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(MlError::Cancelled) } else { Ok(()) }
    }
}

/// An algorithm that trains models. Users plug in their own by implementing it.
pub trait Estimator: Debug + Send + Sync {
    /// The name in job files and manifests, e.g. `logistic_regression`.
    fn name(&self) -> &str;

    /// Checks a candidate's parameters before anything runs: unknown names get a suggestion, values their range.
    ///
    /// # Errors
    /// [`MlError::Invalid`] naming the parameter, what was expected and what came, or the problems that the estimator
    /// is for when this one is not among them.
    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()>;

    /// Trains one model of the matrix's problem for each candidate on the rows in `rows` (ascending row numbers), sharing
    /// what they can.
    ///
    /// The same matrix, rows, candidates and seed give the same models to the bit, on any machine of one
    /// architecture and with any number of threads. One result per candidate, in their order.
    fn fit(
        &self,
        matrix: &Matrix,
        rows: &[u32],
        candidates: &[Params],
        ctx: &FitContext,
    ) -> Vec<Result<Box<dyn Model>>>;

    /// The same by passes over shards, for rows that no process holds at once; none where it has to see all rows.
    fn sharded(&self) -> Option<&dyn sharded::ShardedEstimator> {
        None
    }

    /// Reads back a model of this estimator from what [`Model::save`] gave.
    ///
    /// # Errors
    /// [`MlError::Corrupt`] for missing or damaged artifacts.
    fn load(&self, features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Box<dyn Model>>;
}

/// A model's files by name.
pub type Artifacts = BTreeMap<String, Vec<u8>>;

/// A trained model.
pub trait Model: Debug + Send + Sync {
    /// The name of the estimator that reads it back.
    fn estimator(&self) -> &str;

    /// How many numbers [`Self::predict`] gives for a row: one but for multiclass models, which give one for each class.
    fn n_outputs(&self) -> usize {
        1
    }

    /// Scores rows, `[n_rows, n_outputs]`, row-major: the probability of class 1 (binary), of each class (multiclass), a
    /// number (regression) or the number of the cluster (clustering). A row's scores do not depend on the rows beside it.
    ///
    /// # Errors
    /// Features that are not those of the fit.
    fn predict(&self, x: &Features) -> Result<Vec<f64>>;

    /// The model's files. Equal models give equal bytes.
    ///
    /// # Errors
    /// What cannot be written.
    fn save(&self) -> Result<Artifacts>;

    /// How much each feature of the one-hot view (linear) or each feature (trees) matters, by name; may be empty.
    fn importances(&self) -> Vec<(String, f64)> {
        Vec::new()
    }

    /// How many splits each feature has in a model of trees, by name in the features' order; empty for other models.
    fn split_counts(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
