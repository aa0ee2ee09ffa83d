//! Parameters of generalized linear regression.

use super::{Family, Link};
use crate::estimator::support::options::ParamReader;
use crate::estimator::{Params, ProblemType};
use crate::{MlError, Result};

const KNOWN: [&str; 6] = ["family", "link", "reg_param", "max_iter", "tol", "fit_intercept"];

/// Parameters of one candidate, with Spark ML's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneralizedLinearRegressionParams {
    /// The label's distribution: `gaussian`, `poisson` or `gamma` for numbers, `binomial` for a label of 0 and 1.
    /// Default gaussian and binomial.
    pub family: Family,
    /// How the mean and the margin hang together; the first is the default. Of gaussian: identity, log, inverse. Of
    /// binomial: logit, probit, cloglog. Of poisson: log, identity, sqrt. Of gamma: inverse, identity, log.
    pub link: Link,
    /// The weight of half the sum of the squared coefficients, at least 0. Default 0.
    pub reg_param: f64,
    /// The most steps. Default 25.
    pub max_iter: usize,
    /// Steps end when the next one promises to lower the objective by less than `tol * 1e-6` of it. Default 1e-6.
    pub tol: f64,
    /// Whether there is an intercept, which is never penalised. Default true.
    pub fit_intercept: bool,
}

impl GeneralizedLinearRegressionParams {
    /// Reads and checks parameters for a problem.
    ///
    /// # Errors
    /// An unknown name, a value out of its range, or a family that is not for the problem.
    pub fn parse(params: &Params, problem: ProblemType) -> Result<Self> {
        let read = ParamReader::new(super::NAME, params, &KNOWN)?;
        let families: Vec<Family> = Family::ALL.into_iter().filter(|f| f.is_for(problem)).collect();
        let family = choice(&read, "family", &families, Family::name)?;
        Ok(Self {
            family,
            link: choice(&read, "link", family.links(), Link::name)?,
            reg_param: read.number("reg_param", 0.0, "a number of at least 0", |v| v >= 0.0)?,
            max_iter: read.size("max_iter", 25, 1..=100_000)?,
            tol: read.number("tol", 1e-6, "a number above 0, below 1", |v| v > 0.0 && v < 1.0)?,
            fit_intercept: read.flag("fit_intercept", true)?,
        })
    }
}

/// One of some values by name; the first when none is given.
fn choice<T: Copy>(read: &ParamReader<'_>, param: &str, known: &[T], name: fn(T) -> &'static str) -> Result<T> {
    let names: Vec<&'static str> = known.iter().map(|value| name(*value)).collect();
    let chosen = read.choice(param, &names)?;
    let value = known.iter().find(|value| name(**value) == chosen);
    value.copied().ok_or_else(|| MlError::Internal(format!("there is no {param} for this problem")))
}
