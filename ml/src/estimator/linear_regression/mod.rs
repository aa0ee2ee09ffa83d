//! Linear regression with elastic net, over numbers and one-hot categories that are never materialised.
//!
//! Minimises Spark ML's objective, the weighted mean of half the squared errors plus a penalty:
//! `sum w (y - x b)^2 / (2 W) + reg_param * (elastic_net_param * sum |s b| + (1 - elastic_net_param) / 2 * sum (s b)^2 / d)`.
//! `W` is the sum of the weights, `d` the label's deviation, and `s` each column's deviation, or 1 without
//! `standardization`; all are population deviations, as in Spark's `normal` solver, its choice up to 4096 columns. So
//! a label of deviation 1 has scikit-learn's `ElasticNet(alpha=reg_param, l1_ratio=elastic_net_param)` on columns
//! divided by `s`; in general the L1 part is that of `Lasso(alpha=reg_param)`, and the squares' part that of
//! `Ridge(alpha=n * reg_param / d)`.
//!
//! One Hessian pass serves all candidates of a design. Spark's Huber loss is not there.

mod fit;
mod model;
mod params;

use std::sync::Arc;

pub use model::LinearRegressionModel;
pub use params::LinearRegressionParams;

use super::sharded::{Shard, ShardedEstimator, Shards};
use super::support::linear::{Squared, pass_of_shard};
use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "linear_regression";

/// Linear regression.
///
/// Parameters are those of [`LinearRegressionParams`]. Weights multiply a row's loss. A number that is missing (NaN) in
/// training is an error; a missing category, or one without an indicator, has the all-zero vector. Columns that are
/// constant or depend on those before them have the coefficient 0 when there is no penalty.
#[derive(Debug, Default)]
pub struct LinearRegression;

impl Estimator for LinearRegression {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &[ProblemType::Regression])?;
        LinearRegressionParams::parse(params).map(|_| ())
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
        Ok(Box::new(LinearRegressionModel::load(features, artifacts)?))
    }
}

impl ShardedEstimator for LinearRegression {
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        training::boxed(fit::fit_shards(shards, candidates, ctx))
    }

    fn pass(&self, shard: &dyn Shard, request: &str, _ctx: &FitContext) -> Result<Vec<f64>> {
        pass_of_shard::<Squared>(shard, request)
    }
}

#[cfg(test)]
mod tests;
