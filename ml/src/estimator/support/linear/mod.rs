//! What linear models share: the standardised rows, losses of a margin, proximal Newton steps, and weights by feature.
//!
//! A margin is the intercept plus each column's coefficient times its value. Categories are columns of a one-hot view
//! that is never materialised.

mod classes;
mod design;
mod groups;
mod loss;
mod newton;
mod quadratic;
mod weights;

pub(crate) use classes::ClassEvaluation;
pub(crate) use design::{Design, Rows};
pub(crate) use groups::{ElasticNet, Members, fit_groups, path};
pub(crate) use loss::{Logistic, RowLoss, Squared};
pub(crate) use newton::{Penalty, Solver, Stop};
pub(crate) use quadratic::Quadratic;
pub(crate) use weights::{FeatureWeights, LinearWeights};
