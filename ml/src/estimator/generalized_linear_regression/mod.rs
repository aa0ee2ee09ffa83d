//! Generalized linear regression: a family of distributions, and a link from its mean to a linear margin.
//!
//! Minimises the weighted mean of half the rows' deviances plus `reg_param / 2 * |b|^2` of the raw coefficients,
//! scikit-learn's objective for its `PoissonRegressor` and `GammaRegressor` (with `alpha = reg_param`), by steps of
//! Fisher scoring that never raise it. Without a penalty these are Spark ML's coefficients. Spark divides by the
//! weights of its last reweighted least squares, not by the rows' number: its `reg_param` is ours over the mean of
//! these weights, which for the Poisson family with its log link is the label's mean. For the gaussian family with
//! its identity link Spark penalises as `linear_regression` does.
//!
//! Where a link lets means leave the family's range (identity, inverse), steps stop at its edge; Spark clips means there.
//!
//! Spark's `offsetCol`, `variancePower` and `linkPower` (the Tweedie family) are not there.

mod family;
mod fit;
mod model;
mod params;

use std::sync::Arc;

pub use family::{Family, Link};
pub use model::GeneralizedLinearRegressionModel;
pub use params::GeneralizedLinearRegressionParams;

use super::sharded::{Shard, ShardedEstimator, Shards};
use super::support::linear::pass_of_shard;
use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "generalized_linear_regression";

/// The problems that it is for.
const PROBLEMS: [ProblemType; 2] = [ProblemType::Binary, ProblemType::Regression];

/// Generalized linear regression (Nelder, Wedderburn 1972).
///
/// Parameters are those of [`GeneralizedLinearRegressionParams`]. Models give the mean of a row's distribution. Weights
/// multiply a row's deviance. A number that is missing (NaN) in training is an error; a missing category, or one
/// without an indicator, has the all-zero vector.
#[derive(Debug, Default)]
pub struct GeneralizedLinearRegression;

impl Estimator for GeneralizedLinearRegression {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &PROBLEMS)?;
        GeneralizedLinearRegressionParams::parse(params, problem).map(|_| ())
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
        Ok(Box::new(GeneralizedLinearRegressionModel::load(features, artifacts)?))
    }
}

impl ShardedEstimator for GeneralizedLinearRegression {
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        training::boxed(fit::fit_shards(shards, candidates, ctx))
    }

    fn pass(&self, shard: &dyn Shard, request: &str, _ctx: &FitContext) -> Result<Vec<f64>> {
        pass_of_shard::<fit::Loss>(shard, request)
    }
}

#[cfg(test)]
mod tests;
