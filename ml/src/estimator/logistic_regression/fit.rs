//! Fitting a group of candidates: those that share an intercept choice share the standardised rows.

use std::sync::Arc;

use super::multinomial::{MultinomialSolver, Points};
use super::{LogisticRegressionModel, LogisticRegressionParams};
use crate::estimator::sharded::Shards;
use crate::estimator::support::linear::{
    Columns, Design, ElasticNet, LinearWeights, Logistic, Members, Passes, Penalty, Rows, ShardedRows, Solver, Stop,
    fit_groups, path,
};
use crate::estimator::support::math::ln;
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params, ProblemType};
use crate::matrix::{Feature, Matrix};
use crate::{MlError, Result};

type Fitted = Result<LogisticRegressionModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed = parse(candidates);
    let target = match Target::new(matrix, rows) {
        Ok(target) => target,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Design::new(matrix, &target.rows, &target.label, has_intercept);
    fit_groups(
        super::NAME,
        parsed,
        |p| p.fit_intercept,
        design,
        |design, members| match &target.classes {
            None => fit_binary(&matrix.x.features, design, members, ctx),
            Some(classes) => fit_multiclass(matrix, classes, design, members, ctx),
        },
    )
}

pub(super) fn fit_shards(shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed = parse(candidates);
    let outline = shards.outline();
    let is_binary = training::is_for("logistic_regression over shards", outline.problem, &[ProblemType::Binary]);
    let rows = match is_binary.and_then(|()| ShardedRows::new(shards)) {
        Ok(rows) => rows,
        Err(e) => return training::failed(parsed, &e),
    };
    let design = |has_intercept| Ok(rows.design(has_intercept));
    let fit = |design: &_, members| fit_binary(&outline.features, design, members, ctx);
    fit_groups(super::NAME, parsed, |p| p.fit_intercept, design, fit)
}

fn parse(candidates: &[Params]) -> Vec<Result<ElasticNet>> {
    let parse = |params| LogisticRegressionParams::parse(params).map(LogisticRegressionParams::elastic_net);
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

/// The classes that training rows have.
struct Classes {
    /// The class of each row, as its place in `present`.
    label: Vec<u32>,
    /// Their numbers, ascending.
    present: Vec<usize>,
    /// The logarithm of the weight of each present class.
    log_weights: Vec<f64>,
    /// How many classes there are, absent ones among them.
    n_classes: usize,
}

impl Target {
    fn new(matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        training::is_for(super::NAME, matrix.problem, &super::PROBLEMS)?;
        let rows = Rows::new(matrix, rows)?;
        let classes = match matrix.problem {
            ProblemType::Multiclass => Some(Classes::new(matrix, &rows)?),
            _ => None,
        };
        let label = match classes {
            Some(_) => rows.numbers.iter().map(|&r| matrix.label[r as usize]).collect(),
            None => training::binary_labels(matrix, &rows.numbers)?,
        };
        Ok(Self { rows, label: label.into(), classes })
    }
}

impl Classes {
    fn new(matrix: &Matrix, rows: &Rows) -> Result<Self> {
        let class = training::class_labels(matrix, &rows.numbers)?;
        let mut weights = vec![0.0; matrix.n_classes];
        class.iter().enumerate().for_each(|(i, class)| weights[*class as usize] += rows.weight(i));
        let present: Vec<usize> = (0..matrix.n_classes).filter(|class| weights[*class] > 0.0).collect();
        let mut places = vec![0; matrix.n_classes];
        present.iter().zip(0..).for_each(|(class, place)| places[*class] = place);
        Ok(Self {
            label: class.iter().map(|class| places[*class as usize]).collect(),
            log_weights: present.iter().map(|class| ln(weights[*class])).collect(),
            present,
            n_classes: matrix.n_classes,
        })
    }

    /// A model of all classes from the points of the present ones.
    fn model(&self, matrix: &Matrix, design: &Design, points: &Points) -> LogisticRegressionModel {
        let columns = design.columns();
        let points = centred(columns, points);
        let mut absent = vec![0.0; columns.n_coordinates()];
        absent[columns.intercept()] = f64::NEG_INFINITY;
        let weights = |class| {
            let point = self.present.iter().position(|present| *present == class).map_or(&absent, |i| &points[i]);
            LinearWeights::new(Arc::clone(&matrix.x.features), columns, point)
        };
        LogisticRegressionModel::new((0..self.n_classes).map(weights).collect())
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
    members: Members<ElasticNet>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let (columns, share) = (rows.columns(), rows.labels().mean);
    let mut solver = Solver::new(rows, Logistic);
    let solve = |params: &ElasticNet, start: Option<Vec<f64>>| {
        let start = start.unwrap_or_else(|| solver.start(ln(share / (1.0 - share))));
        solver.solve(&penalty(columns, params), stop(params), start, ctx)
    };
    path(members, solve, |point| {
        LogisticRegressionModel::new(vec![LinearWeights::new(Arc::clone(features), columns, point)])
    })
}

fn fit_multiclass(
    matrix: &Matrix,
    classes: &Classes,
    design: &Design,
    members: Members<ElasticNet>,
    ctx: &FitContext,
) -> Vec<(usize, Fitted)> {
    let mut solver = match MultinomialSolver::new(design, &classes.label, classes.present.len()) {
        Ok(solver) => solver,
        Err(e) => {
            let text = e.to_string();
            return members.into_iter().map(|(i, _)| (i, Err(MlError::Invalid(text.clone())))).collect();
        }
    };
    let solve = |params: &ElasticNet, start: Option<Points>| {
        let start = start.unwrap_or_else(|| solver.start(&classes.log_weights));
        solver.solve(&penalty(design.columns(), params), stop(params), start, ctx)
    };
    path(members, solve, |points| classes.model(matrix, design, points))
}

fn penalty(columns: &Columns, params: &ElasticNet) -> Penalty {
    if params.standardization {
        Penalty::scaled(columns, params.l1(), params.l2(), 1.0)
    } else {
        Penalty::raw(columns, params.l1(), params.l2())
    }
}

/// Classes that columns tell apart let the loss fall to nothing: no value of it is rounding.
fn stop(params: &ElasticNet) -> Stop {
    Stop { max_iter: params.max_iter, tol: params.tol, floor: f64::MIN_POSITIVE }
}
