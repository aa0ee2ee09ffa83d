//! Logistic regression with elastic net, over numbers and one-hot categories that are never materialised.
//!
//! Minimises the weighted mean log loss, `sum w loss / sum w`, plus `reg_param * (elastic_net_param * |b|_1 + (1 - elastic_net_param) / 2 * |b|^2)`,
//! Spark ML's objective, by proximal Newton steps. Candidates of a group share the standardised rows and, while it
//! serves, the Hessian; those that differ in `reg_param` only start from their neighbour's solution.
//!
//! Of a multiclass problem it is the multinomial model: a vector of coefficients and an intercept for each class, and
//! the softmax of their margins. Without a penalty coefficients have the mean 0 over the classes, as Spark has them;
//! intercepts always do.
//!
//! Coefficients and the intercept may have bounds, those of the columns as they are: the model then is the optimum within
//! them. Bounds of a multiclass problem are those of each class; between them the mean is as near 0 as they let it be.

mod fit;
mod model;
mod multinomial;
mod params;

use std::sync::Arc;

pub use model::LogisticRegressionModel;
pub use params::{CoefficientBounds, LogisticRegressionParams};

use super::sharded::{Shard, ShardedEstimator, Shards};
use super::support::linear::{Logistic, pass_of_shard};
use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "logistic_regression";

/// The problems that it is for.
const PROBLEMS: [ProblemType; 2] = [ProblemType::Binary, ProblemType::Multiclass];

/// Logistic regression for two classes and more.
///
/// Parameters are those of [`LogisticRegressionParams`]. Weights multiply a row's loss, and count in the deviations
/// that `standardization` divides by. A class that no training row has gets the intercept -inf. A number that is missing (NaN) in training is an error; a
/// missing category, or one without an indicator, has the all-zero vector.
#[derive(Debug, Default)]
pub struct LogisticRegression;

impl Estimator for LogisticRegression {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &PROBLEMS)?;
        LogisticRegressionParams::parse(params)?.is_for(problem)
    }

    fn fit(
        &self,
        matrix: &Matrix,
        rows: &[u32],
        candidates: &[Params],
        ctx: &FitContext,
    ) -> Vec<Result<Box<dyn Model>>> {
        training::boxed(fit::fit(matrix, rows, candidates, ctx))
    }

    fn sharded(&self) -> Option<&dyn ShardedEstimator> {
        Some(self)
    }

    fn load(&self, features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Box<dyn Model>> {
        Ok(Box::new(LogisticRegressionModel::load(&features, artifacts)?))
    }
}

impl ShardedEstimator for LogisticRegression {
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        training::boxed(fit::fit_shards(shards, candidates, ctx))
    }

    fn pass(&self, shard: &dyn Shard, request: &str, _ctx: &FitContext) -> Result<Vec<f64>> {
        pass_of_shard::<Logistic>(shard, request)
    }
}

#[cfg(test)]
mod tests;
