//! Fitting groups of candidates: one design per intercept choice, one warm-started path per mix of penalties.

use super::{Passes, Reached, RowLoss, Solver, Together};
use crate::estimator::support::options::ParamReader;
use crate::{MlError, Result};

/// Candidates of one design, by their place in the group.
pub(crate) type Members<P> = Vec<(usize, P)>;

/// The parameters of an elastic net, by Spark ML's names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ElasticNet {
    pub(crate) reg_param: f64,
    pub(crate) elastic_net_param: f64,
    pub(crate) max_iter: usize,
    pub(crate) tol: f64,
    pub(crate) fit_intercept: bool,
    pub(crate) standardization: bool,
}

impl ElasticNet {
    /// The names of the parameters.
    pub(crate) const KNOWN: [&str; 6] =
        ["reg_param", "elastic_net_param", "max_iter", "tol", "fit_intercept", "standardization"];

    /// Reads and checks them.
    ///
    /// # Errors
    /// A value out of its range.
    pub(crate) fn parse(read: &ParamReader<'_>) -> Result<Self> {
        Ok(Self {
            reg_param: read.number("reg_param", 0.0, "a number of at least 0", |v| v >= 0.0)?,
            elastic_net_param: read
                .number("elastic_net_param", 0.0, "a number from 0 to 1", |v| (0.0..=1.0).contains(&v))?,
            max_iter: read.size("max_iter", 100, 1..=100_000)?,
            tol: read.number("tol", 1e-6, "a number above 0, below 1", |v| v > 0.0 && v < 1.0)?,
            fit_intercept: read.flag("fit_intercept", true)?,
            standardization: read.flag("standardization", true)?,
        })
    }

    /// The weight of the sum of absolute values.
    pub(crate) fn l1(&self) -> f64 {
        self.reg_param * self.elastic_net_param
    }

    /// The weight of half the sum of squares.
    pub(crate) fn l2(&self) -> f64 {
        self.reg_param * (1.0 - self.elastic_net_param)
    }
}

impl AsRef<ElasticNet> for ElasticNet {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Fits the candidates that parse, those with and those without an intercept each on a design of their own; one
/// result per candidate, in their order.
///
/// An error of the design is each member's error, in the same words.
pub(crate) fn fit_groups<P, D, M>(
    estimator: &str,
    parsed: Vec<Result<P>>,
    has_intercept: impl Fn(&P) -> bool,
    design: impl Fn(bool) -> Result<D>,
    fit: impl Fn(&D, Members<P>) -> Vec<(usize, Result<M>)>,
) -> Vec<Result<M>> {
    let mut results: Vec<Option<Result<M>>> = parsed.iter().map(|_| None).collect();
    let mut groups: [Members<P>; 2] = [Vec::new(), Vec::new()];
    for (i, candidate) in parsed.into_iter().enumerate() {
        match candidate {
            Ok(params) => groups[usize::from(has_intercept(&params))].push((i, params)),
            Err(e) => results[i] = Some(Err(e)),
        }
    }
    for (has_intercept, members) in [false, true].into_iter().zip(groups).filter(|group| !group.1.is_empty()) {
        match design(has_intercept) {
            Ok(design) => fit(&design, members).into_iter().for_each(|(i, fitted)| results[i] = Some(fitted)),
            Err(e) => {
                let text = e.to_string();
                members.iter().for_each(|(i, _)| results[*i] = Some(Err(MlError::Invalid(text.clone()))));
            }
        }
    }
    let missing = || Err(MlError::Internal(format!("a candidate of {estimator} was not fitted")));
    results.into_iter().map(|r| r.unwrap_or_else(missing)).collect()
}

/// Solves elastic nets in the order of their paths: each from its neighbour of a larger `reg_param`, the first of a
/// path from nothing. Paths share passes.
pub(crate) fn solve_paths<P: Passes, L: RowLoss, C: AsRef<ElasticNet>, M>(
    rows: &P,
    loss: L,
    members: Members<C>,
    solve: impl AsyncFn(&mut Solver<'_, P, L>, &C, Option<Reached>) -> Result<Reached>,
    model: impl Fn(&[f64]) -> M,
) -> Vec<(usize, Result<M>)> {
    let together = Together::new(rows, loss);
    let follow = async |path: Members<C>| {
        let mut solver = Solver::new(&together);
        let mut last = None;
        let mut results = Vec::with_capacity(path.len());
        for (i, candidate) in path {
            let solved = solve(&mut solver, &candidate, last.take()).await;
            results.push((i, solved.map(|reached| model(last.insert(reached).minimum()))));
        }
        results
    };
    together.run(paths(members).into_iter().map(follow)).into_iter().flatten().collect()
}

/// The same where a solver's passes are its own.
pub(crate) fn path<C: AsRef<ElasticNet>, T, M>(
    members: Members<C>,
    mut solve: impl FnMut(&C, Option<T>) -> Result<T>,
    model: impl Fn(&T) -> M,
) -> Vec<(usize, Result<M>)> {
    let mut results = Vec::with_capacity(members.len());
    for path in paths(members) {
        let mut last = None;
        for (i, candidate) in path {
            let solved = solve(&candidate, last.take());
            results.push((i, solved.map(|point| model(last.insert(point)))));
        }
    }
    results
}

/// Candidates by what mixes their penalties, each path from its largest `reg_param` on.
fn paths<C: AsRef<ElasticNet>>(mut members: Members<C>) -> Vec<Members<C>> {
    let of = |(_, candidate): &(usize, C)| (candidate.as_ref().standardization, candidate.as_ref().elastic_net_param);
    members.sort_by(|a, b| {
        let ((standardization_a, ratio_a), (standardization_b, ratio_b)) = (of(a), of(b));
        standardization_a
            .cmp(&standardization_b)
            .then(ratio_a.total_cmp(&ratio_b))
            .then(b.1.as_ref().reg_param.total_cmp(&a.1.as_ref().reg_param))
            .then(a.0.cmp(&b.0))
    });
    let mut paths: Vec<Members<C>> = Vec::new();
    for member in members {
        match paths.last_mut().filter(|path| path.last().is_some_and(|last| of(last) == of(&member))) {
            Some(path) => path.push(member),
            None => paths.push(vec![member]),
        }
    }
    paths
}
