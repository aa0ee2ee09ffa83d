//! Gradient-boosted trees for classes and numbers: histograms over at most 255 bins, categories and missing values natively.
//!
//! Columns are binned once for all candidates of a group. Gradients are fixed-point integers, so the sums in the
//! histograms are exact and do not depend on order or threads. Trees grow the leaf with the most gain first, bounded
//! by leaves and depth; the smaller child's histogram is summed and the other's is the difference. Candidates that
//! differ in `max_iter` only are one boosting run, cut where each ends.

mod boost;
mod fit;
mod grow;
mod histogram;
mod loss;
mod model;
mod params;
mod rows;
mod sharded;
mod split;

use std::sync::Arc;

pub use model::GradientBoostedTreesModel;
pub use params::{GradientBoostedTreesParams, Growth};

use super::sharded::{Shard, ShardedEstimator, Shards};
use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "gradient_boosted_trees";

/// The problems that it is for.
const PROBLEMS: [ProblemType; 3] = [ProblemType::Binary, ProblemType::Multiclass, ProblemType::Regression];

/// Gradient-boosted trees (Friedman 2001) for classes and numbers.
///
/// Classes have a tree each in every iteration. Weights multiply a row's loss.
///
/// Parameters are those of [`GradientBoostedTreesParams`]. Missing numbers go the way that lowered the loss most in
/// training, or with most rows where training had none; missing and rare categories go right.
#[derive(Debug, Default)]
pub struct GradientBoostedTrees;

impl Estimator for GradientBoostedTrees {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &PROBLEMS)?;
        GradientBoostedTreesParams::parse(params, problem).map(|_| ())
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
        Ok(Box::new(GradientBoostedTreesModel::load(features, artifacts)?))
    }
}

impl ShardedEstimator for GradientBoostedTrees {
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        training::boxed(sharded::fit_shards(shards, candidates, ctx))
    }

    fn pass(&self, shard: &dyn Shard, request: &str, _ctx: &FitContext) -> Result<Vec<f64>> {
        sharded::pass(shard, request)
    }

    fn sum(&self, shard: &dyn Shard, request: &str, into: &mut Vec<i64>, _ctx: &FitContext) -> Result<()> {
        sharded::sum(shard, request, into)
    }

    fn validate_sharded(&self, params: &Params, problem: ProblemType) -> Result<()> {
        sharded::validate(params, problem)
    }
}

#[cfg(test)]
mod tests;
