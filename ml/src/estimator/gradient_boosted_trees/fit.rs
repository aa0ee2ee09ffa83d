//! Fitting a group of candidates: one binning per `max_bins`, one boosting run per set of other parameters.

use std::sync::Arc;

use rayon::prelude::*;

use super::boost::{Boosted, boost};
use super::histogram::MOST_ROWS;
use super::loss::Loss;
use super::{GradientBoostedTreesModel, GradientBoostedTreesParams};
use crate::estimator::support::training::{self, Labels};
use crate::estimator::support::trees::{Binned, RowBins, Run, fit_runs};
use crate::estimator::{FitContext, Params};
use crate::matrix::Matrix;
use crate::{MlError, Result};

pub(super) fn fit(
    matrix: &Matrix,
    rows: &[u32],
    candidates: &[Params],
    ctx: &FitContext,
) -> Vec<Result<GradientBoostedTreesModel>> {
    let parse = |params| GradientBoostedTreesParams::parse(params, matrix.problem);
    let parsed: Vec<Result<GradientBoostedTreesParams>> = candidates.iter().map(parse).collect();
    let labels = match labels(matrix, rows) {
        Ok(labels) => Arc::new(labels),
        Err(e) => return training::failed(parsed, &e),
    };
    let grow = |max_bins, runs: &[Run<GradientBoostedTreesParams>]| {
        let binned = Arc::new(Binned::new(matrix, rows, max_bins));
        let row_bins = Arc::new(RowBins::new(&binned));
        let boosted = |run: &Run<GradientBoostedTreesParams>| {
            let negative = labels.label.iter().filter(|label| **label < 0.0).count();
            check(negative, labels.label.len(), run.params.loss)?;
            Ok((Arc::clone(&binned), boost(&binned, &row_bins, &labels, &run.params, ctx)?))
        };
        runs.par_iter().map(boosted).collect()
    };
    let model = |params: &GradientBoostedTreesParams, (binned, boosted): &(Arc<Binned>, Boosted), max_iter| {
        let (features, base) = (Arc::clone(&matrix.x.features), boosted.base.clone());
        GradientBoostedTreesModel::new(features, &binned.meanings, base, params.loss.link(), boosted.first(max_iter))
    };
    fit_runs(super::NAME, parsed, grow, model)
}

fn labels(matrix: &Matrix, rows: &[u32]) -> Result<Labels> {
    if rows.len() > MOST_ROWS {
        return Err(too_many(rows.len()));
    }
    Labels::new(super::NAME, &super::PROBLEMS, matrix, rows)
}

/// More rows than a fit takes.
pub(super) fn too_many(n_rows: usize) -> MlError {
    MlError::Invalid(format!("{n_rows} training rows: gradient_boosted_trees takes at most {MOST_ROWS}; sample them"))
}

/// Checks that the labels, of which so many are below 0, are those of a loss.
pub(super) fn check(negative: usize, n_rows: usize, loss: Loss) -> Result<()> {
    if loss != Loss::Poisson || negative == 0 {
        return Ok(());
    }
    Err(MlError::Invalid(format!(
        "the poisson loss is for labels of at least 0; {negative} of {n_rows} training rows have less"
    )))
}
