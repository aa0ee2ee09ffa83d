//! One decision tree for classes and numbers: a random forest's growing and model, without chance.

mod params;

use std::sync::Arc;

pub(super) use params::KNOWN;
pub use params::{DecisionTreeParams, Impurity};

use super::random_forest::{self, RandomForestModel, RandomForestParams};
use super::sharded::{Shard, ShardedEstimator, Shards};
use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "decision_tree";

/// A decision tree (Breiman, Friedman, Olshen and Stone 1984) for classes and numbers.
///
/// It is a [`RandomForest`](super::RandomForest) of one tree that sees all rows and all features: the seed changes
/// nothing. Parameters are those of [`DecisionTreeParams`].
#[derive(Debug, Default)]
pub struct DecisionTree;

impl Estimator for DecisionTree {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &random_forest::PROBLEMS)?;
        DecisionTreeParams::parse(params, problem).map(|_| ())
    }

    fn fit(
        &self,
        matrix: &Matrix,
        rows: &[u32],
        candidates: &[Params],
        ctx: &FitContext,
    ) -> Vec<Result<Box<dyn Model>>> {
        let parse = |params| DecisionTreeParams::parse(params, matrix.problem).map(RandomForestParams::one_tree);
        random_forest::fit(NAME, matrix, rows, candidates.iter().map(parse).collect(), ctx)
    }

    fn sharded(&self) -> Option<&dyn ShardedEstimator> {
        Some(self)
    }

    fn load(&self, features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Box<dyn Model>> {
        Ok(Box::new(RandomForestModel::load(NAME, features, artifacts)?))
    }
}

impl ShardedEstimator for DecisionTree {
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        let problem = shards.outline().problem;
        let parse = |params| DecisionTreeParams::parse(params, problem).map(RandomForestParams::one_tree);
        random_forest::fit_shards(NAME, shards, candidates.iter().map(parse).collect(), ctx)
    }

    fn pass(&self, shard: &dyn Shard, request: &str, _ctx: &FitContext) -> Result<Vec<f64>> {
        random_forest::pass(shard, request)
    }

    fn sum(&self, shard: &dyn Shard, request: &str, into: &mut Vec<i64>, _ctx: &FitContext) -> Result<()> {
        random_forest::sum(shard, request, into)
    }
}
