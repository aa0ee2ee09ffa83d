//! Fitting a group of candidates: those that share an intercept choice share the standardised rows and the Hessian.

use std::sync::Arc;

use super::{LinearRegressionModel, LinearRegressionParams};
use crate::Result;
use crate::estimator::sharded::Shards;
use crate::estimator::support::linear::{
    Columns, Design, ElasticNet, LinearWeights, Members, Passes, Penalty, Reached, Rows, ShardedRows, Solver, Squared,
    Stop, fit_groups, solve_paths,
};
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params, ProblemType};
use crate::matrix::{Feature, Matrix};

/// Squared errors below this share of the label's variance are rounding.
const ROUNDING: f64 = 1e-16;

type Fitted = Result<LinearRegressionModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed = parse(candidates);
    let (rows, label) = match labelled(matrix, rows) {
        Ok(labelled) => labelled,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Design::new(matrix, &rows, &label, has_intercept);
    let fit = |design: &_, members| fit_members(&matrix.x.features, design, members, ctx);
    fit_groups(super::NAME, parsed, |p| p.fit_intercept, design, fit)
}

pub(super) fn fit_shards(shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed = parse(candidates);
    let outline = shards.outline();
    let is_known = training::is_for(super::NAME, outline.problem, &[ProblemType::Regression]);
    let rows = match is_known.and_then(|()| ShardedRows::new(shards)) {
        Ok(rows) => rows,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Ok(rows.design(has_intercept));
    let fit = |design: &_, members| fit_members(&outline.features, design, members, ctx);
    fit_groups(super::NAME, parsed, |p| p.fit_intercept, design, fit)
}

fn parse(candidates: &[Params]) -> Vec<Result<ElasticNet>> {
    let parse = |params| LinearRegressionParams::parse(params).map(LinearRegressionParams::elastic_net);
    candidates.iter().map(parse).collect()
}

fn labelled(matrix: &Matrix, rows: &[u32]) -> Result<(Rows, Arc<[f64]>)> {
    training::is_for(super::NAME, matrix.problem, &[ProblemType::Regression])?;
    let rows = Rows::new(matrix, rows)?;
    let label = training::number_labels(matrix, &rows.numbers)?;
    Ok((rows, label.into()))
}

fn fit_members(
    features: &Arc<[Feature]>,
    rows: &impl Passes,
    members: Members<ElasticNet>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let (columns, labels) = (rows.columns(), rows.labels());
    // As Spark does for a constant label.
    let deviation = if labels.deviation > 0.0 { labels.deviation } else { labels.mean.abs() };
    let solve = async |solver: &mut Solver<'_, _, _>, params: &ElasticNet, start: Option<Reached>| {
        let start = match start {
            Some(start) => start,
            None => solver.start(labels.mean).await?,
        };
        let penalty = penalty(columns, deviation, params);
        let stop = Stop { max_iter: params.max_iter, tol: params.tol, floor: ROUNDING * deviation * deviation };
        let reached = solver.solve(&penalty, stop, start, ctx).await?;
        if params.l1() == 0.0 { solver.refine(&penalty, reached).await } else { Ok(reached) }
    };
    solve_paths(rows, Squared, members, solve, |point| {
        LinearRegressionModel::new(LinearWeights::new(Arc::clone(features), columns, point))
    })
}

/// Spark divides columns and label by their deviations, which leaves the label's one in the squares' part.
fn penalty(columns: &Columns, deviation: f64, params: &ElasticNet) -> Penalty {
    let l2 = if deviation > 0.0 { params.l2() / deviation } else { params.l2() };
    if params.standardization {
        Penalty::scaled(columns, params.l1(), l2, columns.population_unit())
    } else {
        Penalty::raw(columns, params.l1(), l2)
    }
}
