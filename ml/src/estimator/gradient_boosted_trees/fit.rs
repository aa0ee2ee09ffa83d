//! Fitting a group of candidates: one binning per `max_bins`, one boosting run per set of other parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::bins::Binned;
use super::boost::{Boosted, boost};
use super::histogram::MOST_ROWS;
use super::{GradientBoostedTreesModel, GradientBoostedTreesParams};
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params};
use crate::matrix::Matrix;
use crate::{MlError, Result};

type Fitted = Result<GradientBoostedTreesModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed: Vec<Result<GradientBoostedTreesParams>> =
        candidates.iter().map(GradientBoostedTreesParams::parse).collect();
    let label = match labels(matrix, rows) {
        Ok(label) => label,
        Err(e) => {
            let text = e.to_string();
            return parsed.into_iter().map(|p| p.and(Err(MlError::Invalid(text.clone())))).collect();
        }
    };
    let mut results: Vec<Option<Fitted>> = parsed.iter().map(|_| None).collect();
    for (max_bins, runs) in group_runs(&parsed) {
        let binned = Binned::new(matrix, rows, max_bins);
        let boosted: Vec<Result<Boosted>> =
            runs.par_iter().map(|run| boost(&binned, &label, &run.params, ctx)).collect();
        for (run, boosted) in runs.iter().zip(boosted) {
            place(matrix, &binned, run, boosted, &mut results);
        }
    }
    let missing = || Err(MlError::Internal("a candidate of gradient_boosted_trees was not fitted".into()));
    parsed.into_iter().zip(results).map(|(p, r)| p.and_then(|_| r.unwrap_or_else(missing))).collect()
}

fn labels(matrix: &Matrix, rows: &[u32]) -> Result<Vec<f64>> {
    if rows.len() > MOST_ROWS {
        return Err(MlError::Invalid(format!(
            "{} training rows: gradient_boosted_trees takes at most {MOST_ROWS}; sample them",
            rows.len()
        )));
    }
    training::binary_labels(matrix, rows)
}

/// Candidates that are one boosting run.
struct Run {
    /// The parameters, with the largest `max_iter`.
    params: GradientBoostedTreesParams,
    /// The candidates' places in the group and their numbers of trees.
    members: Vec<(usize, usize)>,
}

fn group_runs(parsed: &[Result<GradientBoostedTreesParams>]) -> BTreeMap<usize, Vec<Run>> {
    let mut groups: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    for (i, params) in parsed.iter().enumerate() {
        let Ok(params) = params else { continue };
        let runs = groups.entry(params.max_bins).or_default();
        match runs.iter_mut().find(|run| run.params.same_run(params)) {
            Some(run) => {
                run.members.push((i, params.max_iter));
                run.params.max_iter = run.params.max_iter.max(params.max_iter);
            }
            None => runs.push(Run { params: params.clone(), members: vec![(i, params.max_iter)] }),
        }
    }
    groups
}

fn place(matrix: &Matrix, binned: &Binned, run: &Run, boosted: Result<Boosted>, results: &mut [Option<Fitted>]) {
    match boosted {
        Ok(boosted) => {
            for &(i, n_trees) in &run.members {
                let trees = &boosted.trees[..n_trees.min(boosted.trees.len())];
                let features = Arc::clone(&matrix.x.features);
                results[i] = Some(Ok(GradientBoostedTreesModel::new(features, binned, boosted.base, trees)));
            }
        }
        // A run fails by cancellation only.
        Err(_) => run.members.iter().for_each(|&(i, _)| results[i] = Some(Err(MlError::Cancelled))),
    }
}
