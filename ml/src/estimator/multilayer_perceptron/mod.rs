//! A multilayer perceptron: ReLU layers, and an output that is logistic (binary), a softmax (multiclass) or a number.
//!
//! The first layer is dense over the numbers plus one row of an embedding per category, which equals weights times
//! one-hot vectors. Training is candle's autodiff with Adam over seeded shuffles; scoring is a kernel of ours that
//! works row by row in one order, so a row's score does not depend on its batch. Inputs should be standardised.

mod fit;
mod model;
mod network;
mod params;

use std::sync::Arc;

pub use model::MultilayerPerceptronModel;
pub use params::MultilayerPerceptronParams;

use super::support::training;
use super::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::Result;
use crate::matrix::{Feature, Matrix};

/// The estimator's name.
pub(super) const NAME: &str = "multilayer_perceptron";

/// The problems that it is for.
const PROBLEMS: [ProblemType; 3] = [ProblemType::Binary, ProblemType::Multiclass, ProblemType::Regression];

/// A multilayer perceptron.
///
/// It lowers the mean log loss of classes or the mean squared error of numbers, each row by its weight over the mean
/// weight: a row of weight 0 is as good as absent. Labels that are numbers are standardised inside. The reference is
/// scikit-learn's `MLPClassifier` and `MLPRegressor` with Adam.
///
/// Parameters are those of [`MultilayerPerceptronParams`]. It trains on the CPU. A number that is missing (NaN) in
/// training is an error; a missing category, or one without an indicator, adds nothing.
///
/// The same inputs give the same bytes with any number of threads. candle's matrix products use the widest vector
/// instructions of the processor, so processors of different generations may differ in last bits.
#[derive(Debug, Default)]
pub struct MultilayerPerceptron;

impl Estimator for MultilayerPerceptron {
    fn name(&self) -> &str {
        NAME
    }

    fn validate(&self, params: &Params, problem: ProblemType) -> Result<()> {
        training::is_for(NAME, problem, &PROBLEMS)?;
        MultilayerPerceptronParams::parse(params).map(|_| ())
    }

    fn fit(
        &self,
        matrix: &Matrix,
        rows: &[u32],
        candidates: &[Params],
        ctx: &FitContext,
    ) -> Vec<Result<Box<dyn Model>>> {
        training::boxed(fit::fit(matrix, rows, candidates, ctx))
    }

    fn load(&self, features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Box<dyn Model>> {
        Ok(Box::new(MultilayerPerceptronModel::load(features, artifacts)?))
    }
}

#[cfg(test)]
mod tests;
