//! What solvers ask of the rows, wherever these are.

use std::fmt::Debug;

use super::design::Evaluation;
use super::{ClassEvaluation, Columns, LabelMoments, RowLoss};
use crate::Result;

/// The passes over the standardised rows of a fit.
pub(crate) trait Passes: Debug {
    /// How the rows are standardised.
    fn columns(&self) -> &Columns;

    /// What is known of the labels.
    fn labels(&self) -> LabelMoments;

    /// By point, the weighted mean loss and its gradient, in one pass. A point's do not depend on those beside it.
    ///
    /// # Errors
    /// Rows that cannot be reached.
    fn evaluate<L: RowLoss>(&self, loss: &L, points: &[Vec<f64>]) -> Result<Vec<Evaluation>>;

    /// The Hessian of the weighted mean loss, `[n_coordinates, n_coordinates]`, row-major and symmetric.
    ///
    /// # Errors
    /// Rows that cannot be reached.
    fn hessian<L: RowLoss>(&self, loss: &L, point: &[f64]) -> Result<Vec<f64>>;

    /// The weighted mean log loss of the softmax of points' margins and its gradient by each point, in one pass; `places`
    /// has the point of each class.
    ///
    /// # Errors
    /// Rows that cannot be reached.
    fn evaluate_classes(&self, places: &[u32], points: &[Vec<f64>]) -> Result<ClassEvaluation>;

    /// By point, the part of that loss' Hessian that is the point's own: as [`Self::hessian`] gives one.
    ///
    /// # Errors
    /// Rows that cannot be reached.
    fn class_hessians(&self, points: &[Vec<f64>]) -> Result<Vec<Vec<f64>>>;
}
