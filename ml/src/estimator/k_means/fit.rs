//! Fitting a group of candidates: the rows are gathered once for each distance measure.

use std::sync::Arc;

use rayon::prelude::*;

use super::lloyd::{Clustering, InMemory, Limits, lloyd};
use super::model::Fitted;
use super::rows::{Layout, Rows, number_columns};
use super::{DistanceMeasure, KMeansModel, KMeansParams, init};
use crate::estimator::support::random::mix;
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params};
use crate::matrix::{Feature, Matrix};
use crate::{MlError, Result};

/// Candidates are fitted side by side up to this many rows. Beyond, each has work for all threads, and the bounds of one
/// at a time are held.
const ROWS_SIDE_BY_SIDE: usize = 100_000;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Result<KMeansModel>> {
    let parsed: Vec<Result<KMeansParams>> = candidates.iter().map(KMeansParams::parse).collect();
    let data = |measure: DistanceMeasure| {
        let is_used = parsed.iter().flatten().any(|params| params.distance_measure == measure);
        is_used.then(|| Data::new(matrix, rows, measure).map_err(|e| e.to_string()))
    };
    let data = [DistanceMeasure::Euclidean, DistanceMeasure::Cosine].map(data);
    let train = |params: Result<KMeansParams>| {
        let params = params?;
        match &data[usize::from(params.distance_measure == DistanceMeasure::Cosine)] {
            Some(Ok(data)) => data.train(matrix, &params, ctx),
            // An error of the data is each candidate's error, in the same words.
            Some(Err(text)) => Err(MlError::Invalid(text.clone())),
            None => Err(MlError::Internal("rows of a candidate of k_means were not gathered".into())),
        }
    };
    if rows.len() > ROWS_SIDE_BY_SIDE {
        parsed.into_iter().map(train).collect()
    } else {
        parsed.into_par_iter().map(train).collect()
    }
}

/// The rows of a fit and what was taken off their numbers.
struct Data {
    rows: Rows,
    shift: Vec<f64>,
}

impl Data {
    /// Gathers and checks rows.
    ///
    /// # Errors
    /// No rows or columns, missing or huge numbers, wrong weights; for cosines, a row of zeros.
    fn new(matrix: &Matrix, rows: &[u32], measure: DistanceMeasure) -> Result<Self> {
        let weights = training::weights(matrix, rows)?.unwrap_or_default();
        training::numbers_are_present(matrix, rows)?;
        let layout = Layout::new(&matrix.x.features);
        if rows.is_empty() || layout.columns().next().is_none() {
            return Err(MlError::Invalid("k_means needs at least one row and one column".into()));
        }
        let shift = match measure {
            DistanceMeasure::Euclidean => number_columns(&matrix.x).par_iter().map(|v| mean(v, rows)).collect(),
            DistanceMeasure::Cosine => vec![0.0; layout.n_numbers],
        };
        let mut gathered = Rows::gather(&layout, &matrix.x, rows, &shift, measure);
        let wrong = gathered.norms.iter().filter(|norm| !norm.is_finite()).count();
        if wrong > 0 {
            return Err(wrong_lengths(measure, wrong, rows.len()));
        }
        gathered.weights = weights;
        Ok(Self { rows: gathered, shift })
    }

    fn train(&self, matrix: &Matrix, params: &KMeansParams, ctx: &FitContext) -> Result<KMeansModel> {
        let measure = params.distance_measure;
        let first = init::centres(&self.rows, params, mix(ctx.seed ^ mix(params.seed)), ctx)?;
        let limits = Limits { max_iter: params.max_iter, tol: params.tol, measure };
        let layout = &self.rows.layout;
        let found = lloyd(&mut InMemory::new(&self.rows, ctx), &first, layout.width(), limits)?;
        Ok(model(&matrix.x.features, layout, &self.shift, measure, found))
    }
}

/// Rows without a usable length.
pub(super) fn wrong_lengths(measure: DistanceMeasure, wrong: usize, n_rows: usize) -> MlError {
    let why = match measure {
        DistanceMeasure::Euclidean => "numbers whose squares are too large",
        DistanceMeasure::Cosine => "zeros only, which have no direction, or numbers whose squares are too large",
    };
    MlError::Invalid(format!("{wrong} of {n_rows} training rows have {why}"))
}

/// The model of centres from which `shift` was taken off.
pub(super) fn model(
    features: &Arc<[Feature]>,
    layout: &Layout,
    shift: &[f64],
    measure: DistanceMeasure,
    found: Clustering,
) -> KMeansModel {
    let centre = |centre: &[f64]| -> Vec<f64> {
        let shifted = |column: usize| centre[column] + shift.get(column).copied().unwrap_or(0.0);
        layout.columns().map(shifted).collect()
    };
    let centres = found.centres.chunks_exact(layout.width()).map(centre).collect();
    let Clustering { sizes, cost: training_cost, iterations, .. } = found;
    KMeansModel::new(Arc::clone(features), Fitted { measure, centres, sizes, training_cost, iterations })
}

fn mean(column: &[f64], rows: &[u32]) -> f64 {
    rows.iter().map(|&r| column[r as usize]).sum::<f64>() / rows.len() as f64
}
