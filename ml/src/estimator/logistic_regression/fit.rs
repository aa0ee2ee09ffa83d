//! Fitting a group of candidates: those that share an intercept choice share the standardised rows.

use std::sync::Arc;

use super::multinomial::{MultinomialSolver, Points};
use super::{LogisticRegressionModel, LogisticRegressionParams};
use crate::estimator::sharded::Shards;
use crate::estimator::support::linear::{
    Bounds, Columns, Design, ElasticNet, LinearWeights, Logistic, Members, Passes, Penalty, RawBounds, Reached, Rows,
    ShardedRows, Solver, Stop, fit_groups, path, solve_paths,
};
use crate::estimator::support::math::ln;
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params, ProblemType};
use crate::matrix::{Feature, Matrix};
use crate::{MlError, Result};

type Fitted = Result<LogisticRegressionModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed = parse(candidates, matrix.problem, &matrix.x.features);
    let Target { rows, label, classes } = match Target::new(matrix, rows) {
        Ok(target) => target,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Design::new(matrix, &rows, &label, has_intercept);
    fit_all(parsed, &matrix.x.features, classes.as_ref(), design, ctx)
}

pub(super) fn fit_shards(shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let outline = shards.outline();
    let parsed = parse(candidates, outline.problem, &outline.features);
    let is_known = training::is_for(super::NAME, outline.problem, &super::PROBLEMS);
    let rows = match is_known.and_then(|()| ShardedRows::new(shards)) {
        Ok(rows) => rows,
        Err(e) => return training::failed(parsed, &e),
    };
    let classes = (outline.problem == ProblemType::Multiclass).then(|| Classes::new(rows.class_weights()));
    let design = |has_intercept| Ok(rows.design(has_intercept));
    fit_all(parsed, &outline.features, classes.as_ref(), design, ctx)
}

/// Fits candidates on rows wherever they are; classes are those of a multiclass problem.
fn fit_all<P: Passes>(
    parsed: Vec<Result<Candidate>>,
    features: &Arc<[Feature]>,
    classes: Option<&Classes>,
    design: impl Fn(bool) -> Result<P>,
    ctx: &FitContext,
) -> Vec<Fitted> {
    let fit = |rows: &P, members| match classes {
        None => fit_binary(features, rows, members, ctx),
        Some(classes) => fit_multiclass(features, classes, rows, members, ctx),
    };
    fit_groups(super::NAME, parsed, |p| p.net.fit_intercept, design, fit)
}

/// One candidate, for the columns of the fit.
struct Candidate {
    net: ElasticNet,
    bounds: Option<RawBounds>,
}

impl AsRef<ElasticNet> for Candidate {
    fn as_ref(&self) -> &ElasticNet {
        &self.net
    }
}

fn parse(candidates: &[Params], problem: ProblemType, features: &[Feature]) -> Vec<Result<Candidate>> {
    let parse = |params| {
        let params = LogisticRegressionParams::parse(params)?;
        params.is_for(problem)?;
        Ok(Candidate { net: params.elastic_net(), bounds: params.raw_bounds(features)? })
    };
    candidates.iter().map(parse).collect()
}

/// The rows and their labels.
struct Target {
    rows: Rows,
    /// 0 or 1, or the number of the class.
    label: Arc<[f64]>,
    /// The classes of a multiclass problem.
    classes: Option<Classes>,
}

/// The classes of a multiclass problem, some of which training rows may not have.
struct Classes {
    /// The numbers of those that rows have, ascending.
    present: Vec<usize>,
    /// By class, its place in `present`; 0 for an absent one.
    places: Vec<u32>,
    /// The logarithm of the weight of each present class.
    log_weights: Vec<f64>,
}

impl Target {
    fn new(matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        training::is_for(super::NAME, matrix.problem, &super::PROBLEMS)?;
        let rows = Rows::new(matrix, rows)?;
        if matrix.problem != ProblemType::Multiclass {
            let label = training::binary_labels(matrix, &rows.numbers)?.into();
            return Ok(Self { rows, label, classes: None });
        }
        let label = training::class_labels(matrix, &rows.numbers)?;
        let mut weights = vec![0.0; matrix.n_classes];
        label.iter().enumerate().for_each(|(i, class)| weights[*class as usize] += rows.weight(i));
        let label = label.into_iter().map(f64::from).collect();
        Ok(Self { rows, label, classes: Some(Classes::new(&weights)) })
    }
}

impl Classes {
    /// Those of these weights; absent ones have the weight 0.
    fn new(weights: &[f64]) -> Self {
        let present: Vec<usize> = (0..weights.len()).filter(|class| weights[*class] > 0.0).collect();
        let mut places = vec![0; weights.len()];
        present.iter().zip(0..).for_each(|(class, place)| places[*class] = place);
        Self { log_weights: present.iter().map(|class| ln(weights[*class])).collect(), present, places }
    }

    /// A model of all classes from the points of the present ones.
    fn model(&self, features: &Arc<[Feature]>, columns: &Columns, points: &Points) -> LogisticRegressionModel {
        let points = centred(columns, points);
        let mut absent = vec![0.0; columns.n_coordinates()];
        absent[columns.intercept()] = f64::NEG_INFINITY;
        let weights = |class| {
            let point = self.present.iter().position(|present| *present == class).map_or(&absent, |i| &points[i]);
            LinearWeights::new(Arc::clone(features), columns, point)
        };
        LogisticRegressionModel::new((0..self.places.len()).map(weights).collect())
    }
}

/// Points whose intercepts of raw columns have the mean 0.
fn centred(columns: &Columns, points: &Points) -> Points {
    let mut centred = points.clone();
    if columns.is_free(columns.intercept()) {
        let sum: f64 = points.iter().map(|point| columns.raw_coefficients(point).1).sum();
        let mean = sum / points.len() as f64;
        centred.iter_mut().for_each(|point| point[columns.intercept()] -= mean);
    }
    centred
}

fn fit_binary(
    features: &Arc<[Feature]>,
    rows: &impl Passes,
    members: Members<Candidate>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let (columns, share) = (rows.columns(), rows.labels().mean);
    let solve = async |solver: &mut Solver<'_, _, _>, candidate: &Candidate, start: Option<Reached>| {
        let penalty = penalty(columns, candidate);
        let start = match start.filter(|reached| penalty.allows(&reached.point)) {
            Some(start) => start,
            None => solver.start(ln(share / (1.0 - share))).await?,
        };
        solver.solve(&penalty, stop(&candidate.net), start, ctx).await
    };
    solve_paths(rows, Logistic, members, solve, |point| {
        LogisticRegressionModel::new(vec![LinearWeights::new(Arc::clone(features), columns, point)])
    })
}

fn fit_multiclass(
    features: &Arc<[Feature]>,
    classes: &Classes,
    rows: &impl Passes,
    members: Members<Candidate>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let columns = rows.columns();
    let mut solver = match MultinomialSolver::new(rows, &classes.places, classes.present.len()) {
        Ok(solver) => solver,
        Err(e) => {
            let text = e.to_string();
            return members.into_iter().map(|(i, _)| (i, Err(MlError::Invalid(text.clone())))).collect();
        }
    };
    let solve = |candidate: &Candidate, start: Option<Points>| {
        let penalty = penalty(columns, candidate);
        let start = start.filter(|points| points.iter().all(|point| penalty.allows(point)));
        let start = start.unwrap_or_else(|| solver.start(&classes.log_weights));
        solver.solve(&penalty, stop(&candidate.net), start, ctx)
    };
    path(members, solve, |points| classes.model(features, columns, points))
}

fn penalty(columns: &Columns, candidate: &Candidate) -> Penalty {
    let net = &candidate.net;
    let penalty = if net.standardization {
        Penalty::scaled(columns, net.l1(), net.l2(), 1.0)
    } else {
        Penalty::raw(columns, net.l1(), net.l2())
    };
    penalty.within(candidate.bounds.as_ref().map(|raw| Bounds::new(columns, raw)))
}

/// Classes that columns tell apart let the loss fall to nothing: no value of it is rounding.
fn stop(params: &ElasticNet) -> Stop {
    Stop { max_iter: params.max_iter, tol: params.tol, floor: f64::MIN_POSITIVE }
}
