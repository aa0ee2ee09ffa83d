//! What linear models share: the standardised rows, losses of a margin, proximal Newton steps, and weights by feature.
//!
//! A margin is the intercept plus each column's coefficient times its value. Categories are columns of a one-hot view
//! that is never materialised.

mod bounds;
mod classes;
mod columns;
mod design;
mod groups;
mod loss;
mod moments;
mod newton;
mod passes;
mod quadratic;
mod sharded;
mod together;
mod weights;

pub(crate) use bounds::{Bounds, RawBounds};
pub(crate) use classes::ClassEvaluation;
pub(crate) use columns::{Columns, columns_of};
pub(crate) use design::{Design, Rows};
pub(crate) use groups::{ElasticNet, Members, fit_groups, path, solve_paths};
pub(crate) use loss::{Logistic, RowLoss, Squared};
pub(crate) use moments::{LabelMoments, Moments};
pub(crate) use newton::{Penalty, Reached, Solver, Stop};
pub(crate) use passes::Passes;
pub(crate) use quadratic::Quadratic;
pub(crate) use sharded::{ShardedRows, pass_of_shard};
pub(crate) use together::Together;
pub(crate) use weights::{FeatureWeights, LinearWeights};
