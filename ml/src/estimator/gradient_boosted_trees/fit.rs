//! Fitting a group of candidates: one binning per `max_bins`, one boosting run per set of other parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::boost::{Boosted, Target, boost};
use super::histogram::MOST_ROWS;
use super::loss::Loss;
use super::{GradientBoostedTreesModel, GradientBoostedTreesParams};
use crate::estimator::support::training;
use crate::estimator::support::trees::Binned;
use crate::estimator::{FitContext, Params, ProblemType};
use crate::matrix::Matrix;
use crate::{MlError, Result};

type Fitted = Result<GradientBoostedTreesModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed: Vec<Result<GradientBoostedTreesParams>> =
        candidates.iter().map(|params| GradientBoostedTreesParams::parse(params, matrix.problem)).collect();
    let target = match target(matrix, rows) {
        Ok(target) => target,
        Err(e) => {
            let text = e.to_string();
            return parsed.into_iter().map(|p| p.and(Err(MlError::Invalid(text.clone())))).collect();
        }
    };
    let mut results: Vec<Option<Fitted>> = parsed.iter().map(|_| None).collect();
    for (max_bins, runs) in group_runs(&parsed) {
        let binned = Binned::new(matrix, rows, max_bins);
        let boosted: Vec<Result<Boosted>> = runs
            .par_iter()
            .map(|run| run.check(&target).and_then(|()| boost(&binned, &target, &run.params, ctx)))
            .collect();
        for (run, boosted) in runs.iter().zip(boosted) {
            place(matrix, &binned, run, boosted, &mut results);
        }
    }
    let missing = || Err(MlError::Internal("a candidate of gradient_boosted_trees was not fitted".into()));
    parsed.into_iter().zip(results).map(|(p, r)| p.and_then(|_| r.unwrap_or_else(missing))).collect()
}

fn target(matrix: &Matrix, rows: &[u32]) -> Result<Target> {
    training::is_for(super::NAME, matrix.problem, &super::PROBLEMS)?;
    if rows.len() > MOST_ROWS {
        return Err(MlError::Invalid(format!(
            "{} training rows: gradient_boosted_trees takes at most {MOST_ROWS}; sample them",
            rows.len()
        )));
    }
    let label = match matrix.problem {
        ProblemType::Binary => training::binary_labels(matrix, rows)?,
        ProblemType::Multiclass => training::class_labels(matrix, rows)?.into_iter().map(f64::from).collect(),
        _ => training::number_labels(matrix, rows)?,
    };
    let n_outputs = if matrix.problem == ProblemType::Multiclass { matrix.n_classes } else { 1 };
    Ok(Target { label, weight: training::weights(matrix, rows)?, n_outputs })
}

/// Candidates that are one boosting run.
struct Run {
    /// The parameters, with the largest `max_iter`.
    params: GradientBoostedTreesParams,
    /// The candidates' places in the group and their numbers of trees.
    members: Vec<(usize, usize)>,
}

impl Run {
    /// Checks that the labels are those of the loss.
    fn check(&self, target: &Target) -> Result<()> {
        let negative = target.label.iter().filter(|label| **label < 0.0).count();
        if self.params.loss != Loss::Poisson || negative == 0 {
            return Ok(());
        }
        Err(MlError::Invalid(format!(
            "the poisson loss is for labels of at least 0; {negative} of {} training rows have less",
            target.label.len()
        )))
    }
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
            for &(i, max_iter) in &run.members {
                let features = Arc::clone(&matrix.x.features);
                let (base, link) = (boosted.base.clone(), run.params.loss.link());
                let model = GradientBoostedTreesModel::new(features, binned, base, link, boosted.first(max_iter));
                results[i] = Some(Ok(model));
            }
        }
        Err(MlError::Cancelled) => run.members.iter().for_each(|&(i, _)| results[i] = Some(Err(MlError::Cancelled))),
        Err(e) => run.members.iter().for_each(|&(i, _)| results[i] = Some(Err(MlError::Invalid(e.to_string())))),
    }
}
