//! Fitting a group of candidates: those that share an intercept choice share the standardised rows.

use std::sync::Arc;

use super::family::Deviance;
use super::{Family, GeneralizedLinearRegressionModel, GeneralizedLinearRegressionParams};
use crate::estimator::support::linear::{
    Design, LinearWeights, Members, Penalty, Rows, Solver, Squared, Stop, fit_groups,
};
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params, ProblemType};
use crate::matrix::Matrix;
use crate::{MlError, Result};

/// Deviances below this share of the first one are rounding.
const ROUNDING: f64 = 1e-16;
/// The least mean to start from, as a share of the labels' mean: 0 has no margin.
const LEAST_START: f64 = 0.1;
/// The least mean of all labels to start from, where they are all 0.
const LEAST_MEAN: f64 = 1e-10;

type Fitted = Result<GeneralizedLinearRegressionModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parse = |params| GeneralizedLinearRegressionParams::parse(params, matrix.problem);
    let parsed: Vec<Result<GeneralizedLinearRegressionParams>> = candidates.iter().map(parse).collect();
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

/// The rows and their labels.
struct Target {
    rows: Rows,
    label: Vec<f64>,
}

impl Target {
    fn new(matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        training::is_for(super::NAME, matrix.problem, &super::PROBLEMS)?;
        let rows = Rows::new(matrix, rows)?;
        let label = match matrix.problem {
            ProblemType::Binary => training::binary_labels(matrix, &rows.numbers)?,
            _ => training::number_labels(matrix, &rows.numbers)?,
        };
        Ok(Self { rows, label })
    }

    /// Checks that the labels are those of a family.
    fn check(&self, family: Family) -> Result<()> {
        let wrong = self.label.iter().filter(|y| !family.allows(**y)).count();
        if wrong == 0 {
            return Ok(());
        }
        Err(MlError::Invalid(format!(
            "labels of the {} family must be {}; {wrong} of {} training rows have others",
            family.name(),
            family.range(),
            self.label.len()
        )))
    }
}

fn fit_members(
    matrix: &Matrix,
    target: &Target,
    design: &Design,
    members: Members<GeneralizedLinearRegressionParams>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let fit = |params: &GeneralizedLinearRegressionParams| {
        let point = solve(target, design, params, ctx)?;
        let weights = LinearWeights::new(Arc::clone(&matrix.x.features), design, &point);
        Ok(GeneralizedLinearRegressionModel::new(weights, params.family, params.link))
    };
    members.into_iter().map(|(i, params)| (i, fit(&params))).collect()
}

fn solve(
    target: &Target,
    design: &Design,
    params: &GeneralizedLinearRegressionParams,
    ctx: &FitContext,
) -> Result<Vec<f64>> {
    target.check(params.family)?;
    let deviance = Deviance { family: params.family, link: params.link };
    let penalty = Penalty::raw(design, 0.0, params.reg_param);
    let mut solver = Solver::new(design, deviance, &target.label);
    let mut start = solver.start(params.link.margin(start_mean(target, params.family)));
    if !solver.loss(&start).is_finite() {
        start = least_squares(target, design, params, ctx)?;
    }
    let first = solver.loss(&start);
    if !first.is_finite() {
        return Err(MlError::Invalid(format!(
            "no coefficients were found whose means are all {}, as the {} family needs with the {} link; take the log \
             link, or fit_intercept = true",
            params.family.range(),
            params.family.name(),
            params.link.name()
        )));
    }
    let stop = Stop { max_iter: params.max_iter, tol: params.tol, floor: ROUNDING * first };
    solver.solve(&penalty, stop, start, ctx)
}

/// The mean of the labels, as far as it has a margin.
fn start_mean(target: &Target, family: Family) -> f64 {
    let mean = target.rows.mean(&target.label);
    if family == Family::Gaussian { mean } else { mean.max(LEAST_MEAN) }
}

/// The coefficients whose margins are next to those of the labels: a start where no coefficients have no mean.
fn least_squares(
    target: &Target,
    design: &Design,
    params: &GeneralizedLinearRegressionParams,
    ctx: &FitContext,
) -> Result<Vec<f64>> {
    let least = LEAST_START * start_mean(target, params.family);
    let margins: Vec<f64> = target.label.iter().map(|y| params.link.margin(y.max(least))).collect();
    let mut solver = Solver::new(design, Squared, &margins);
    let start = solver.start(0.0);
    let stop = Stop { max_iter: params.max_iter, tol: params.tol, floor: f64::MIN_POSITIVE };
    solver.solve(&Penalty::raw(design, 0.0, params.reg_param), stop, start, ctx)
}
