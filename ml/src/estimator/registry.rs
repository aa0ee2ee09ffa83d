//! Estimators by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    DecisionTree, Estimator, GeneralizedLinearRegression, GradientBoostedTrees, KMeans, LinearRegression,
    LogisticRegression, MultilayerPerceptron, RandomForest,
};
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

/// The estimators that job files may name and models are read back with.
#[derive(Debug, Clone)]
pub struct EstimatorRegistry {
    estimators: BTreeMap<String, Arc<dyn Estimator>>,
}

impl EstimatorRegistry {
    /// A registry without any estimator.
    pub fn empty() -> Self {
        Self { estimators: BTreeMap::new() }
    }

    /// Adds an estimator under its name, or replaces the one of that name.
    pub fn register(&mut self, estimator: Arc<dyn Estimator>) -> &mut Self {
        self.estimators.insert(estimator.name().to_owned(), estimator);
        self
    }

    /// The names of all estimators.
    pub fn names(&self) -> Vec<&str> {
        self.estimators.keys().map(String::as_str).collect()
    }

    /// An estimator by its name.
    ///
    /// # Errors
    /// A name that is not known, with the nearest one that is.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Estimator>> {
        self.estimators.get(name).map(Arc::clone).ok_or_else(|| {
            let names = self.names();
            MlError::Invalid(format!(
                "unknown estimator {name:?}{}; there are {}",
                did_you_mean(name, names.iter().copied()),
                names.join(", ")
            ))
        })
    }
}

impl Default for EstimatorRegistry {
    /// Ours: `decision_tree`, `generalized_linear_regression`, `gradient_boosted_trees`, `k_means`, `linear_regression`,
    /// `logistic_regression`, `multilayer_perceptron`, `random_forest`.
    fn default() -> Self {
        let mut registry = Self::empty();
        registry
            .register(Arc::new(LogisticRegression))
            .register(Arc::new(LinearRegression))
            .register(Arc::new(GeneralizedLinearRegression))
            .register(Arc::new(GradientBoostedTrees))
            .register(Arc::new(MultilayerPerceptron))
            .register(Arc::new(DecisionTree))
            .register(Arc::new(RandomForest))
            .register(Arc::new(KMeans));
        registry
    }
}
