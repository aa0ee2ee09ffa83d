//! Binary logistic regression with elastic net, over numbers and one-hot categories that are never materialised.
//!
//! Minimises the mean log loss plus `reg_param * (elastic_net_param * |b|_1 + (1 - elastic_net_param) / 2 * |b|^2)`,
//! Spark ML's objective, by proximal Newton steps. Candidates of a group share the standardised rows and, while it
//! serves, the Hessian; those that differ in `reg_param` only start from their neighbour's solution.

mod design;
mod fit;
mod model;
mod newton;
mod params;
mod quadratic;

use std::sync::Arc;

pub use model::LogisticRegressionModel;
pub use params::LogisticRegressionParams;

use super::{Artifacts, Estimator, FitContext, Model, Params};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "logistic_regression";

/// Binary logistic regression.
///
/// Parameters are those of [`LogisticRegressionParams`]. A number that is missing (NaN) in training is an error; a
/// missing category, or one without an indicator, has the all-zero vector.
#[derive(Debug, Default)]
pub struct LogisticRegression;

impl Estimator for LogisticRegression {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params) -> Result<()> {
        LogisticRegressionParams::parse(params).map(|_| ())
    }

    fn fit(
        &self,
        matrix: &Matrix,
        rows: &[u32],
        candidates: &[Params],
        ctx: &FitContext,
    ) -> Vec<Result<Box<dyn Model>>> {
        fit::fit(matrix, rows, candidates, ctx)
            .into_iter()
            .map(|fitted| fitted.map(|model| Box::new(model) as Box<dyn Model>))
            .collect()
    }

    fn load(&self, features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Box<dyn Model>> {
        Ok(Box::new(LogisticRegressionModel::load(features, artifacts)?))
    }
}

#[cfg(test)]
mod tests;
