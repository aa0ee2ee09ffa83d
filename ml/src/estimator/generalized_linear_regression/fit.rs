//! Fitting a group of candidates: those that share an intercept choice share the standardised rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::family::Deviance;
use super::{Family, GeneralizedLinearRegressionModel, GeneralizedLinearRegressionParams, Link};
use crate::codec::exact;
use crate::estimator::sharded::Shards;
use crate::estimator::support::linear::{
    Design, LabelMoments, LinearWeights, Members, Passes, Penalty, Reached, RowLoss, Rows, ShardedRows, Solver,
    Squared, Stop, Together, fit_groups,
};
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params, ProblemType};
use crate::matrix::{Feature, Matrix};
use crate::{MlError, Result};

/// Deviances below this share of the first one are rounding.
const ROUNDING: f64 = 1e-16;
/// The least mean to start from, as a share of the labels' mean: 0 has no margin.
const LEAST_START: f64 = 0.1;
/// The least mean of all labels to start from, where they are all 0.
const LEAST_MEAN: f64 = 1e-10;

type Fitted = Result<GeneralizedLinearRegressionModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed = parse(candidates, matrix.problem);
    let (rows, label) = match labelled(matrix, rows) {
        Ok(labelled) => labelled,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Design::new(matrix, &rows, &label, has_intercept);
    let fit = |design: &_, members| fit_members(&matrix.x.features, design, members, ctx);
    fit_groups(super::NAME, parsed, |p| p.fit_intercept, design, fit)
}

pub(super) fn fit_shards(shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let outline = shards.outline();
    let parsed = parse(candidates, outline.problem);
    let is_known = training::is_for(super::NAME, outline.problem, &super::PROBLEMS);
    let rows = match is_known.and_then(|()| ShardedRows::new(shards)) {
        Ok(rows) => rows,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Ok(rows.design(has_intercept));
    let fit = |design: &_, members| fit_members(&outline.features, design, members, ctx);
    fit_groups(super::NAME, parsed, |p| p.fit_intercept, design, fit)
}

fn parse(candidates: &[Params], problem: ProblemType) -> Vec<Result<GeneralizedLinearRegressionParams>> {
    candidates.iter().map(|params| GeneralizedLinearRegressionParams::parse(params, problem)).collect()
}

fn labelled(matrix: &Matrix, rows: &[u32]) -> Result<(Rows, Arc<[f64]>)> {
    training::is_for(super::NAME, matrix.problem, &super::PROBLEMS)?;
    let rows = Rows::new(matrix, rows)?;
    let label = match matrix.problem {
        ProblemType::Binary => training::binary_labels(matrix, &rows.numbers)?,
        _ => training::number_labels(matrix, &rows.numbers)?,
    };
    Ok((rows, label.into()))
}

/// What is minimised of a row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Loss {
    /// Half its deviance.
    Deviance(Deviance),
    /// Half the squared distance of its margin from that of its label, which is at least `least`.
    Margin {
        /// The link.
        link: Link,
        /// The least label.
        #[serde(with = "exact")]
        least: f64,
    },
}

impl RowLoss for Loss {
    #[inline]
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64) {
        match self {
            Self::Deviance(deviance) => deviance.loss_and_slope(margin, label),
            Self::Margin { link, least } => Squared.loss_and_slope(margin, link.margin(label.max(*least))),
        }
    }

    #[inline]
    fn curvature(&self, margin: f64, label: f64) -> f64 {
        match self {
            Self::Deviance(deviance) => deviance.curvature(margin, label),
            Self::Margin { .. } => 1.0,
        }
    }

    fn is_quadratic(&self) -> bool {
        matches!(self, Self::Margin { .. })
    }
}

fn fit_members(
    features: &Arc<[Feature]>,
    rows: &impl Passes,
    members: Members<GeneralizedLinearRegressionParams>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let mut by_loss: Vec<(Deviance, Members<GeneralizedLinearRegressionParams>)> = Vec::new();
    for (i, params) in members {
        let deviance = Deviance { family: params.family, link: params.link };
        match by_loss.iter_mut().find(|(other, _)| *other == deviance) {
            Some((_, alike)) => alike.push((i, params)),
            None => by_loss.push((deviance, vec![(i, params)])),
        }
    }
    let fit_alike = |(deviance, alike)| {
        let together = Together::new(rows, Loss::Deviance(deviance));
        let fit = async |(i, params): (usize, GeneralizedLinearRegressionParams)| {
            let reached = solve(&mut Solver::new(&together), rows, &params, ctx).await;
            let weights = reached.map(|at| LinearWeights::new(Arc::clone(features), rows.columns(), at.minimum()));
            (i, weights.map(|weights| GeneralizedLinearRegressionModel::new(weights, params.family, params.link)))
        };
        together.run(Members::into_iter(alike).map(fit))
    };
    by_loss.into_iter().flat_map(fit_alike).collect()
}

async fn solve<P: Passes>(
    solver: &mut Solver<'_, P, Loss>,
    rows: &P,
    params: &GeneralizedLinearRegressionParams,
    ctx: &FitContext,
) -> Result<Reached> {
    let GeneralizedLinearRegressionParams { family, link, .. } = *params;
    check(rows.labels(), family)?;
    let penalty = Penalty::raw(rows.columns(), 0.0, params.reg_param);
    let mut start = solver.start(link.margin(start_mean(rows, family))).await?;
    if !start.loss().is_finite() {
        start = solver.reach(least_squares(rows, params, ctx)?).await?;
    }
    if !start.loss().is_finite() {
        return Err(MlError::Invalid(format!(
            "no coefficients were found whose means are all {}, as the {} family needs with the {} link; take the log \
             link, or fit_intercept = true",
            family.range(),
            family.name(),
            link.name()
        )));
    }
    let stop = Stop { max_iter: params.max_iter, tol: params.tol, floor: ROUNDING * start.loss() };
    solver.solve(&penalty, stop, start, ctx).await
}

/// Checks that the labels are those of a family: each allows an interval.
fn check(labels: LabelMoments, family: Family) -> Result<()> {
    let LabelMoments { least, largest, .. } = labels;
    if family.allows(least) && family.allows(largest) {
        return Ok(());
    }
    Err(MlError::Invalid(format!(
        "labels of the {} family must be {}; those of the training rows are from {least} to {largest}",
        family.name(),
        family.range()
    )))
}

/// The mean of the labels, as far as it has a margin.
fn start_mean(rows: &impl Passes, family: Family) -> f64 {
    let mean = rows.labels().mean;
    if family == Family::Gaussian { mean } else { mean.max(LEAST_MEAN) }
}

/// The coefficients whose margins are next to those of the labels: a start where no coefficients have no mean.
fn least_squares(rows: &impl Passes, params: &GeneralizedLinearRegressionParams, ctx: &FitContext) -> Result<Vec<f64>> {
    let least = LEAST_START * start_mean(rows, params.family);
    let stop = Stop { max_iter: params.max_iter, tol: params.tol, floor: f64::MIN_POSITIVE };
    let together = Together::new(rows, Loss::Margin { link: params.link, least });
    let solve = async {
        let mut solver = Solver::new(&together);
        let start = solver.start(0.0).await?;
        solver.solve(&Penalty::raw(rows.columns(), 0.0, params.reg_param), stop, start, ctx).await
    };
    together.run([solve]).remove(0).map(|reached| reached.point)
}
