//! Parameters of logistic regression.

use crate::Result;
use crate::estimator::Params;
use crate::estimator::support::options::ParamReader;

const KNOWN: [&str; 6] = ["reg_param", "elastic_net_param", "max_iter", "tol", "fit_intercept", "standardization"];

/// Parameters of one candidate, with Spark ML's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticRegressionParams {
    /// The weight of the penalty, at least 0. Default 0.
    pub reg_param: f64,
    /// How much of the penalty is the sum of absolute values, 0 to 1; the rest is half the sum of squares. Default 0.
    pub elastic_net_param: f64,
    /// The most Newton steps. Default 100.
    pub max_iter: usize,
    /// Steps end when the next one promises to lower the objective by less than `tol * 1e-6` of it. Default 1e-6.
    pub tol: f64,
    /// Whether there is an intercept, which is never penalised. Default true.
    pub fit_intercept: bool,
    /// Whether the penalty counts coefficients of columns scaled to unit deviation, as Spark does. Default true.
    pub standardization: bool,
}

impl LogisticRegressionParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name or a value out of its range.
    pub fn parse(params: &Params) -> Result<Self> {
        let read = ParamReader::new(super::NAME, params, &KNOWN)?;
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
}
