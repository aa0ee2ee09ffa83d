//! Fitting a group of candidates: those that share an intercept choice share the standardised rows and the Hessian.

use std::sync::Arc;

use super::{LinearRegressionModel, LinearRegressionParams};
use crate::Result;
use crate::estimator::support::linear::{
    Design, ElasticNet, LinearWeights, Members, Penalty, Rows, Solver, Squared, Stop, fit_groups, path,
};
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params};
use crate::matrix::Matrix;

/// Squared errors below this share of the label's variance are rounding.
const ROUNDING: f64 = 1e-16;

type Fitted = Result<LinearRegressionModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parse = |params| LinearRegressionParams::parse(params).map(LinearRegressionParams::elastic_net);
    let parsed: Vec<Result<ElasticNet>> = candidates.iter().map(parse).collect();
    let target = match Target::new(matrix, rows) {
        Ok(target) => target,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Design::new(matrix, &target.rows, has_intercept);
    fit_groups(
        super::NAME,
        parsed,
        |p| p.fit_intercept,
        design,
        |design, members| fit_members(matrix, &target, design, members, ctx),
    )
}

/// The rows and their labels, with their mean and population deviation.
struct Target {
    rows: Rows,
    label: Vec<f64>,
    mean: f64,
    deviation: f64,
}

impl Target {
    fn new(matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        training::is_for(super::NAME, matrix.problem, &[crate::estimator::ProblemType::Regression])?;
        let rows = Rows::new(matrix, rows)?;
        let label = training::number_labels(matrix, &rows.numbers)?;
        let mean = rows.mean(&label);
        let squares: Vec<f64> = label.iter().map(|y| (y - mean) * (y - mean)).collect();
        let deviation = rows.mean(&squares).sqrt();
        // As Spark does for a constant label.
        let deviation = if deviation > 0.0 { deviation } else { mean.abs() };
        Ok(Self { rows, label, mean, deviation })
    }
}

fn fit_members(
    matrix: &Matrix,
    target: &Target,
    design: &Design,
    members: Members<ElasticNet>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let mut solver = Solver::new(design, Squared, &target.label);
    let solve = |params: &ElasticNet, start: Option<Vec<f64>>| {
        let start = start.unwrap_or_else(|| solver.start(target.mean));
        let penalty = penalty(design, target, params);
        let floor = ROUNDING * target.deviation * target.deviation;
        let stop = Stop { max_iter: params.max_iter, tol: params.tol, floor };
        let point = solver.solve(&penalty, stop, start, ctx)?;
        Ok(if params.l1() == 0.0 { solver.refine(&penalty, point) } else { point })
    };
    path(members, solve, |point| {
        LinearRegressionModel::new(LinearWeights::new(Arc::clone(&matrix.x.features), design, point))
    })
}

/// Spark divides columns and label by their deviations, which leaves the label's one in the squares' part.
fn penalty(design: &Design, target: &Target, params: &ElasticNet) -> Penalty {
    let l2 = if target.deviation > 0.0 { params.l2() / target.deviation } else { params.l2() };
    if params.standardization {
        Penalty::scaled(design, params.l1(), l2, design.population_unit())
    } else {
        Penalty::raw(design, params.l1(), l2)
    }
}
