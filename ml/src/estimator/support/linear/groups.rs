//! Fitting groups of candidates: one design per intercept choice, one warm-started path per mix of penalties.

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
/// path from nothing.
pub(crate) fn path<P: AsRef<ElasticNet>, T: Clone, M>(
    mut members: Members<P>,
    mut solve: impl FnMut(&P, Option<T>) -> Result<T>,
    model: impl Fn(&T) -> M,
) -> Vec<(usize, Result<M>)> {
    members.sort_by(|(i, a), (j, b)| {
        let (a, b) = (a.as_ref(), b.as_ref());
        a.standardization
            .cmp(&b.standardization)
            .then(a.elastic_net_param.total_cmp(&b.elastic_net_param))
            .then(b.reg_param.total_cmp(&a.reg_param))
            .then(i.cmp(j))
    });
    let mut last: Option<((bool, u64), T)> = None;
    let mut results = Vec::with_capacity(members.len());
    for (i, params) in members {
        let net = params.as_ref();
        let key = (net.standardization, net.elastic_net_param.to_bits());
        let start = last.take().filter(|(of, _)| *of == key).map(|(_, point)| point);
        let solved = solve(&params, start);
        results.push((i, solved.map(|point| model(&last.insert((key, point)).1))));
    }
    results
}
