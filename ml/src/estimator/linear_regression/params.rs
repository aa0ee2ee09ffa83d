//! Parameters of linear regression.

use crate::Result;
use crate::estimator::Params;
use crate::estimator::support::linear::ElasticNet;
use crate::estimator::support::options::ParamReader;

/// Parameters of one candidate, with Spark ML's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRegressionParams {
    /// The weight of the penalty, at least 0. Default 0.
    pub reg_param: f64,
    /// How much of the penalty is the sum of absolute values, 0 to 1; the rest is half the sum of squares. Default 0.
    pub elastic_net_param: f64,
    /// The most steps, which only a penalty of absolute values needs more than two of. Default 100.
    pub max_iter: usize,
    /// Steps end when the next one promises to lower the objective by less than `tol * 1e-6` of it. Default 1e-6.
    pub tol: f64,
    /// Whether there is an intercept, which is never penalised. Default true.
    pub fit_intercept: bool,
    /// Whether the penalty counts coefficients of columns scaled to unit deviation, as Spark does. Default true.
    pub standardization: bool,
}

impl LinearRegressionParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name or a value out of its range.
    pub fn parse(params: &Params) -> Result<Self> {
        let net = ElasticNet::parse(&ParamReader::new(super::NAME, params, &ElasticNet::KNOWN)?)?;
        let ElasticNet { reg_param, elastic_net_param, max_iter, tol, fit_intercept, standardization } = net;
        Ok(Self { reg_param, elastic_net_param, max_iter, tol, fit_intercept, standardization })
    }

    pub(super) fn elastic_net(self) -> ElasticNet {
        let Self { reg_param, elastic_net_param, max_iter, tol, fit_intercept, standardization } = self;
        ElasticNet { reg_param, elastic_net_param, max_iter, tol, fit_intercept, standardization }
    }
}
