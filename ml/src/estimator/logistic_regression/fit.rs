//! Fitting a group of candidates: one design per intercept choice, one warm-started path per mix of penalties.

use std::sync::Arc;

use super::design::Design;
use super::newton::Solver;
use super::{LogisticRegressionModel, LogisticRegressionParams};
use crate::estimator::{FitContext, Params};
use crate::matrix::Matrix;
use crate::{MlError, Result};

/// Candidates of one design, by their place in the group.
type Members = Vec<(usize, LogisticRegressionParams)>;

pub(super) fn fit(
    matrix: &Matrix,
    rows: &[u32],
    candidates: &[Params],
    ctx: &FitContext,
) -> Vec<Result<LogisticRegressionModel>> {
    let mut results: Vec<Option<Result<LogisticRegressionModel>>> = candidates.iter().map(|_| None).collect();
    let mut groups: [Members; 2] = [Vec::new(), Vec::new()];
    for (i, candidate) in candidates.iter().enumerate() {
        match LogisticRegressionParams::parse(candidate) {
            Ok(params) => groups[usize::from(params.fit_intercept)].push((i, params)),
            Err(e) => results[i] = Some(Err(e)),
        }
    }
    for (has_intercept, members) in [false, true].into_iter().zip(groups) {
        if !members.is_empty() {
            fit_members(matrix, rows, has_intercept, members, ctx, &mut results);
        }
    }
    let missing = || Err(MlError::Internal("a candidate of logistic_regression was not fitted".into()));
    results.into_iter().map(|r| r.unwrap_or_else(missing)).collect()
}

fn fit_members(
    matrix: &Matrix,
    rows: &[u32],
    has_intercept: bool,
    mut members: Members,
    ctx: &FitContext,
    results: &mut [Option<Result<LogisticRegressionModel>>],
) {
    // An error of the data is each member's error, in the same words.
    let design = match Design::new(matrix, rows, has_intercept) {
        Ok(design) => design,
        Err(e) => {
            let text = e.to_string();
            for (i, _) in members {
                results[i] = Some(Err(MlError::Invalid(text.clone())));
            }
            return;
        }
    };
    members.sort_by(|(i, a), (j, b)| {
        a.standardization
            .cmp(&b.standardization)
            .then(a.elastic_net_param.total_cmp(&b.elastic_net_param))
            .then(b.reg_param.total_cmp(&a.reg_param))
            .then(i.cmp(j))
    });
    let mut solver = Solver::new(&design);
    let mut path: Option<((bool, u64), Vec<f64>)> = None;
    for (i, params) in members {
        let key = (params.standardization, params.elastic_net_param.to_bits());
        let start = match path.take() {
            Some((last, point)) if last == key => point,
            _ => solver.start(),
        };
        let solved = solver.solve(&params, start, ctx);
        results[i] = Some(solved.map(|point| {
            path = Some((key, point.clone()));
            let (coefficients, intercept) = design.raw_coefficients(&point);
            LogisticRegressionModel::new(Arc::clone(&matrix.x.features), &coefficients, &design.deviation, intercept)
        }));
    }
}
