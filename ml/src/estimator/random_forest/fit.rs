//! Fitting a group of candidates: one binning per `max_bins`, and each distinct tree once.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::grow::Task;
use super::sample::Sampler;
use super::target::{Classes, Labels, Numbers, Target};
use super::{RandomForestModel, RandomForestParams};
use crate::estimator::support::random::mix;
use crate::estimator::support::training;
use crate::estimator::support::trees::{Binned, Tree};
use crate::estimator::{FitContext, Model, ProblemType};
use crate::matrix::Matrix;
use crate::{MlError, Result};

type Fitted = Result<Box<dyn Model>>;

/// Trains forests for an estimator of this name.
pub(in crate::estimator) fn fit(
    name: &'static str,
    matrix: &Matrix,
    rows: &[u32],
    parsed: Vec<Result<RandomForestParams>>,
    ctx: &FitContext,
) -> Vec<Fitted> {
    let labels = match labels(name, matrix, rows) {
        Ok(labels) => labels,
        Err(e) => {
            let text = e.to_string();
            return parsed.into_iter().map(|p| p.and(Err(MlError::Invalid(text.clone())))).collect();
        }
    };
    let of = Group { name, matrix, rows, ctx };
    match (matrix.problem, labels.weight.is_some()) {
        (ProblemType::Multiclass, _) => of.fit(&Classes::new(labels), parsed),
        (ProblemType::Binary, false) => of.fit(&Numbers::<2>::of_classes(labels), parsed),
        (ProblemType::Binary, true) => of.fit(&Numbers::<3>::of_classes(labels), parsed),
        (_, false) => of.fit(&Numbers::<2>::of_numbers(labels), parsed),
        (_, true) => of.fit(&Numbers::<3>::of_numbers(labels), parsed),
    }
}

fn labels(name: &str, matrix: &Matrix, rows: &[u32]) -> Result<Labels> {
    training::is_for(name, matrix.problem, &super::PROBLEMS)?;
    let label = match matrix.problem {
        ProblemType::Binary => training::binary_labels(matrix, rows)?,
        ProblemType::Multiclass => training::class_labels(matrix, rows)?.into_iter().map(f64::from).collect(),
        _ => training::number_labels(matrix, rows)?,
    };
    let n_outputs = if matrix.problem == ProblemType::Multiclass { matrix.n_classes } else { 1 };
    Ok(Labels { label, weight: training::weights(matrix, rows)?, n_outputs })
}

/// Candidates with the same trees, up to their number.
struct Run {
    /// The parameters, with the largest `num_trees`.
    params: RandomForestParams,
    /// The candidates' places in the group and their numbers of trees.
    members: Vec<(usize, usize)>,
}

fn group_runs(parsed: &[Result<RandomForestParams>]) -> BTreeMap<usize, Vec<Run>> {
    let mut groups: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    for (i, params) in parsed.iter().enumerate() {
        let Ok(params) = params else { continue };
        let runs = groups.entry(params.tree.max_bins).or_default();
        match runs.iter_mut().find(|run| run.params.same_trees(params)) {
            Some(run) => {
                run.members.push((i, params.num_trees));
                run.params.num_trees = run.params.num_trees.max(params.num_trees);
            }
            None => runs.push(Run { params: params.clone(), members: vec![(i, params.num_trees)] }),
        }
    }
    groups
}

/// What the candidates of a group share.
struct Group<'a> {
    name: &'static str,
    matrix: &'a Matrix,
    rows: &'a [u32],
    ctx: &'a FitContext,
}

impl Group<'_> {
    fn fit<T: Target>(&self, target: &T, parsed: Vec<Result<RandomForestParams>>) -> Vec<Fitted> {
        let mut results: Vec<Option<Fitted>> = parsed.iter().map(|_| None).collect();
        for (max_bins, runs) in group_runs(&parsed) {
            let binned = Binned::new(self.matrix, self.rows, max_bins);
            let mut grown = self.grow(&binned, target, &runs).into_iter();
            for run in &runs {
                let trees = grown.by_ref().take(run.params.num_trees).collect();
                self.place(run, trees, target.labels().n_outputs, &mut results);
            }
        }
        let missing = || Err(MlError::Internal(format!("a candidate of {} was not fitted", self.name)));
        parsed.into_iter().zip(results).map(|(p, r)| p.and_then(|_| r.unwrap_or_else(missing))).collect()
    }

    /// The trees of all runs, one run after the other.
    fn grow<T: Target>(&self, binned: &Binned, target: &T, runs: &[Run]) -> Vec<Result<Tree>> {
        let jobs: Vec<(&Run, usize)> =
            runs.iter().flat_map(|run| (0..run.params.num_trees).map(move |tree| (run, tree))).collect();
        // A thread that waits for parts of its tree may begin another one, so trees are parted only where fewer than
        // threads are to be grown: never more are in memory.
        let is_parallel = jobs.len() < rayon::current_num_threads();
        let grow = |&(run, tree): &(&Run, usize)| {
            let params = &run.params;
            let task = Task { binned, target, params, ctx: self.ctx, is_parallel };
            let seed = mix(mix(self.ctx.seed ^ mix(params.seed)).wrapping_add(tree as u64));
            let counts = Sampler::new(params.bootstrap, params.subsampling_rate).counts(seed, binned.n_rows);
            task.grow(counts, seed).map(|tree| Tree::new(&tree, binned))
        };
        jobs.par_iter().with_max_len(1).map(grow).collect()
    }

    fn place(&self, run: &Run, trees: Vec<Result<Tree>>, n_outputs: usize, results: &mut [Option<Fitted>]) {
        let trees: Result<Vec<Tree>> = trees.into_iter().collect();
        for &(i, num_trees) in &run.members {
            results[i] = Some(match &trees {
                Ok(trees) => {
                    let features = Arc::clone(&self.matrix.x.features);
                    let trees = trees[..num_trees].to_vec();
                    let model = RandomForestModel::new(self.name, features, self.matrix.problem, n_outputs, trees);
                    Ok(Box::new(model))
                }
                Err(MlError::Cancelled) => Err(MlError::Cancelled),
                Err(e) => Err(MlError::Internal(e.to_string())),
            });
        }
    }
}
