//! Random forests for classes and numbers: trees over at most 255 bins, each on its own sample of rows.
//!
//! Columns are binned once for all candidates of a group. What a row adds to its node is whole numbers, so the sums
//! in the histograms are exact and do not depend on order or threads. Trees are grown in parallel; everything random
//! comes from the seed, the tree, and the row or the path to the node. Candidates that differ in `num_trees` only
//! share their trees.

mod fit;
mod grow;
mod model;
mod node;
mod params;
mod sample;
mod sharded;
mod side;
mod split;
mod target;

use std::sync::Arc;

pub(super) use fit::fit;
pub use model::RandomForestModel;
pub use params::{FeatureSubset, RandomForestParams};
pub(super) use sharded::{fit_shards, pass, sum};

use super::sharded::{Shard, ShardedEstimator, Shards};
use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "random_forest";

/// The problems that forests and trees are for.
pub(super) const PROBLEMS: [ProblemType; 3] = [ProblemType::Binary, ProblemType::Multiclass, ProblemType::Regression];

/// A random forest (Breiman 2001) for classes and numbers, as Spark ML's.
///
/// A leaf has the distribution of its training rows' classes, or the mean of their numbers; a forest gives the mean of
/// its trees. Weights multiply how often a row counts.
///
/// Parameters are those of [`RandomForestParams`]. Missing numbers go the way that gained most in training, or with
/// most rows where training had none; missing and rare categories go right, and so do those that the node never saw.
#[derive(Debug, Default)]
pub struct RandomForest;

impl Estimator for RandomForest {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &PROBLEMS)?;
        RandomForestParams::parse(params, problem).map(|_| ())
    }

    fn fit(
        &self,
        matrix: &Matrix,
        rows: &[u32],
        candidates: &[Params],
        ctx: &FitContext,
    ) -> Vec<Result<Box<dyn Model>>> {
        let parse = |params| RandomForestParams::parse(params, matrix.problem);
        fit(NAME, matrix, rows, candidates.iter().map(parse).collect(), ctx)
    }

    fn sharded(&self) -> Option<&dyn ShardedEstimator> {
        Some(self)
    }

    fn load(&self, features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Box<dyn Model>> {
        Ok(Box::new(RandomForestModel::load(NAME, features, artifacts)?))
    }
}

impl ShardedEstimator for RandomForest {
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        let parse = |params| RandomForestParams::parse(params, shards.outline().problem);
        fit_shards(NAME, shards, candidates.iter().map(parse).collect(), ctx)
    }

    fn pass(&self, shard: &dyn Shard, request: &str, _ctx: &FitContext) -> Result<Vec<f64>> {
        pass(shard, request)
    }

    fn sum(&self, shard: &dyn Shard, request: &str, into: &mut Vec<i64>, _ctx: &FitContext) -> Result<()> {
        sum(shard, request, into)
    }
}

#[cfg(test)]
mod tests;
