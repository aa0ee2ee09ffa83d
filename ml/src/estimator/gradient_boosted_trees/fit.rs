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
        Ok(labels) => labels,
        Err(e) => return training::failed(parsed, &e),
    };
    let grow = |max_bins, runs: &[Run<GradientBoostedTreesParams>]| {
        let binned = Arc::new(Binned::new(matrix, rows, max_bins));
        let row_bins = RowBins::new(&binned);
        let boosted = |run: &Run<GradientBoostedTreesParams>| {
            check(&labels, run.params.loss)?;
            Ok((Arc::clone(&binned), boost(&binned, &row_bins, &labels, &run.params, ctx)?))
        };
        runs.par_iter().map(boosted).collect()
    };
    let model = |params: &GradientBoostedTreesParams, (binned, boosted): &(Arc<Binned>, Boosted), max_iter| {
        let (features, base) = (Arc::clone(&matrix.x.features), boosted.base.clone());
        GradientBoostedTreesModel::new(features, binned, base, params.loss.link(), boosted.first(max_iter))
    };
    fit_runs(super::NAME, parsed, grow, model)
}

fn labels(matrix: &Matrix, rows: &[u32]) -> Result<Labels> {
    if rows.len() > MOST_ROWS {
        return Err(MlError::Invalid(format!(
            "{} training rows: gradient_boosted_trees takes at most {MOST_ROWS}; sample them",
            rows.len()
        )));
    }
    Labels::new(super::NAME, &super::PROBLEMS, matrix, rows)
}

/// Checks that the labels are those of a loss.
fn check(labels: &Labels, loss: Loss) -> Result<()> {
    let negative = labels.label.iter().filter(|label| **label < 0.0).count();
    if loss != Loss::Poisson || negative == 0 {
        return Ok(());
    }
    Err(MlError::Invalid(format!(
        "the poisson loss is for labels of at least 0; {negative} of {} training rows have less",
        labels.label.len()
    )))
}
