//! K-means: rows go to the nearest of k centres, centres to the means of their rows, until neither moves.
//!
//! Starts as Spark ML does, by k-means|| (Bahmani et al. 2012) or from random rows, and goes on by Lloyd's steps. Bounds
//! on distances (Ding et al. 2015, "Yinyang k-means") leave out what cannot change a row's cluster, so a step gives what
//! Lloyd's gives and costs a fraction of it. Candidates of a group share the rows.

mod fit;
mod init;
mod lloyd;
mod model;
mod panels;
mod params;
mod rows;
mod sharded;

use std::sync::Arc;

pub use model::KMeansModel;
pub use params::{DistanceMeasure, InitMode, KMeansParams};

use super::sharded::{Shard, ShardedEstimator, Shards};
use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "k_means";

/// K-means.
///
/// Parameters are those of [`KMeansParams`]. A number that is missing (NaN) in training is an error; a category counts as
/// its indicators, and a missing one, or one without an indicator, has the all-zero vector. Where fewer than `k` rows
/// differ there are fewer clusters, as in Spark ML. A cluster that loses all its rows keeps its centre.
#[derive(Debug, Default)]
pub struct KMeans;

impl Estimator for KMeans {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &[ProblemType::Clustering])?;
        KMeansParams::parse(params).map(|_| ())
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
        Ok(Box::new(KMeansModel::load(features, artifacts)?))
    }
}

impl ShardedEstimator for KMeans {
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        training::boxed(sharded::fit_shards(shards, candidates, ctx))
    }

    fn pass(&self, shard: &dyn Shard, request: &str, ctx: &FitContext) -> Result<Vec<f64>> {
        sharded::pass(shard, request, ctx)
    }
}

#[cfg(test)]
mod tests;
