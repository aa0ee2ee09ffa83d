//! Fitting a group of candidates: one binning per `max_bins`, and each distinct tree once.

use std::sync::Arc;

use rayon::prelude::*;

use super::grow::Task;
use super::sample::Sampler;
use super::target::{Classes, Numbers, Target, Units};
use super::{RandomForestModel, RandomForestParams};
use crate::Result;
use crate::estimator::support::random::mix;
use crate::estimator::support::training::{self, Labels};
use crate::estimator::support::trees::{Binned, Run, Tree, fit_runs};
use crate::estimator::{FitContext, Model, ProblemType};
use crate::matrix::Matrix;

/// Trains forests for an estimator of this name.
pub(in crate::estimator) fn fit(
    name: &'static str,
    matrix: &Matrix,
    rows: &[u32],
    parsed: Vec<Result<RandomForestParams>>,
    ctx: &FitContext,
) -> Vec<Result<Box<dyn Model>>> {
    let labels = match Labels::new(name, &super::PROBLEMS, matrix, rows) {
        Ok(labels) => labels,
        Err(e) => return training::failed(parsed, &e),
    };
    let of = Group { name, matrix, rows, ctx };
    let units = Units::new(&labels, matrix.problem);
    training::boxed(match (matrix.problem, labels.weight.is_some()) {
        (ProblemType::Multiclass, _) => of.fit(&Classes::new(labels, units), parsed),
        (_, false) => of.fit(&Numbers::<2>::new(labels, units), parsed),
        (_, true) => of.fit(&Numbers::<3>::new(labels, units), parsed),
    })
}

/// What the candidates of a group share.
struct Group<'a> {
    name: &'static str,
    matrix: &'a Matrix,
    rows: &'a [u32],
    ctx: &'a FitContext,
}

impl Group<'_> {
    fn fit<T: Target>(&self, target: &T, parsed: Vec<Result<RandomForestParams>>) -> Vec<Result<RandomForestModel>> {
        let (problem, n_outputs) = (self.matrix.problem, target.labels().n_outputs);
        let grow = |max_bins, runs: &[Run<RandomForestParams>]| {
            let binned = Binned::new(self.matrix, self.rows, max_bins);
            let mut grown = self.grow(&binned, target, runs).into_iter();
            runs.iter().map(|run| grown.by_ref().take(run.params.num_trees).collect()).collect()
        };
        let model = |_: &RandomForestParams, trees: &Vec<Tree>, num_trees: usize| {
            let features = Arc::clone(&self.matrix.x.features);
            RandomForestModel::new(self.name, features, problem, n_outputs, trees[..num_trees].to_vec())
        };
        fit_runs(self.name, parsed, grow, model)
    }

    /// The trees of all runs, one run after the other.
    fn grow<T: Target>(&self, binned: &Binned, target: &T, runs: &[Run<RandomForestParams>]) -> Vec<Result<Tree>> {
        let of_run = |run| {
            let Run { params, .. }: &Run<RandomForestParams> = run;
            (0..params.num_trees).map(move |tree| (params, tree))
        };
        let jobs: Vec<(&RandomForestParams, usize)> = runs.iter().flat_map(of_run).collect();
        // A thread that waits for parts of its tree may begin another one, so trees are parted only where fewer than
        // threads are to be grown: never more are in memory.
        let is_parallel = jobs.len() < rayon::current_num_threads();
        let grow = |&(params, tree): &(&RandomForestParams, usize)| {
            let task = Task { binned, target, params, ctx: self.ctx, is_parallel };
            let seed = seed_of(params, tree, self.ctx);
            let counts = Sampler::new(params.bootstrap, params.subsampling_rate).counts(seed, 0..binned.n_rows as u64);
            task.grow(counts, seed).map(|tree| Tree::new(&tree, &binned.meanings))
        };
        jobs.par_iter().with_max_len(1).map(grow).collect()
    }
}

/// The seed of one of a forest's trees.
pub(super) fn seed_of(params: &RandomForestParams, tree: usize, ctx: &FitContext) -> u64 {
    mix(mix(ctx.seed ^ mix(params.seed)).wrapping_add(tree as u64))
}
