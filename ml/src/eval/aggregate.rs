//! SQL aggregates of scores: what they and the others share.
//!
//! Rows with a null (or NaN) score or a null label are left out, and so are rows of weight 0. States merge in any order to
//! the same bits.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::AggregateUDF;

use super::{calibration_error, f_measure, log_loss, multiclass, ranking, regression};
use crate::functions::support;

/// The evaluators, each with a row's weight as an optional last argument: `roc_auc`, `log_loss` and `calibration_error` of
/// `(score, label)`, `lift` of `(score, label, share)`, `weighted_f_measure` of `(prediction, label, beta)`, and
/// `regression_metrics` and `multiclass_metrics`, both `(prediction, label)` to a struct of metrics; see
/// [`super::regression`] and [`super::multiclass`].
///
/// Labels of scores are 0 and 1, or false and true. `roc_auc` and `lift` are exact and keep 8 bytes a row, 16 with weights;
/// they are null where a group lacks a class, or class 1. The others are null where a group has no rows. A weight that is
/// null, NaN, infinite or negative is an error.
pub fn aggregate_udfs() -> Vec<Arc<AggregateUDF>> {
    let of_scores = [ranking::roc_auc(), ranking::lift(), log_loss::udaf(), calibration_error::udaf()];
    of_scores.into_iter().chain([regression::udaf(), multiclass::udaf(), f_measure::udaf()]).collect()
}

/// Coerces a score, a label, `more` numbers and, if it is there, a weight to `Float64`.
pub(super) fn coerce_scores(name: &str, types: &[DataType], more: &[&str]) -> Result<Vec<DataType>> {
    let fits = |t: &DataType| t.is_numeric() || matches!(t, DataType::Boolean | DataType::Null);
    let expected = 2 + more.len();
    if (expected..=expected + 1).contains(&types.len()) && types.iter().all(fits) {
        return Ok(vec![DataType::Float64; types.len()]);
    }
    let more: String = more.iter().map(|more| format!(", a {more}")).collect();
    plan_err!("{name} takes a score and a label{more} and, if wanted, a weight, all numbers, got {types:?}")
}

/// The type of the weight that follows the first `n` arguments, if there is one.
pub(super) fn coerce_weight(name: &str, types: &[DataType], n: usize) -> Result<Option<DataType>> {
    let Some(weight) = types.get(n) else { return Ok(None) };
    support::check_number(name, weight)?;
    Ok(Some(DataType::Float64))
}

/// How much each row of some counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights<'a>(Option<&'a Float64Array>);

impl<'a> Weights<'a> {
    /// Those of the argument number `index`; 1 for each row when it is absent.
    ///
    /// # Errors
    /// A weight that is null, NaN, infinite or negative.
    pub(super) fn new(name: &str, values: &'a [ArrayRef], index: usize) -> Result<Self> {
        let Some(weights) = values.get(index) else { return Ok(Self(None)) };
        let weights = weights.as_primitive::<Float64Type>();
        let is_wrong = |weight: &Option<f64>| !weight.is_some_and(|weight| weight.is_finite() && weight >= 0.0);
        match weights.iter().find(is_wrong) {
            None => Ok(Self(Some(weights))),
            Some(wrong) => {
                let got = wrong.map_or("null".to_owned(), |wrong| wrong.to_string());
                exec_err!("{name}: a weight must be a finite number of at least 0, got {got}")
            }
        }
    }

    /// The weight of a row.
    pub(super) fn of(self, row: usize) -> f64 {
        self.0.map_or(1.0, |weights| weights.value(row))
    }
}

/// Calls `each` with the score, class and weight of each row that counts; `n` arguments precede the weight.
pub(super) fn for_each_score(
    name: &str,
    values: &[ArrayRef],
    n: usize,
    mut each: impl FnMut(f64, bool, f64),
) -> Result<()> {
    let [scores, labels, ..] = values else { return exec_err!("{name} takes a score and a label") };
    let (scores, labels) = (scores.as_primitive::<Float64Type>(), labels.as_primitive::<Float64Type>());
    let weights = Weights::new(name, values, n)?;
    for (row, (score, label)) in scores.iter().zip(labels.iter()).enumerate() {
        let (Some(score), Some(label)) = (score, label) else { continue };
        if score.is_nan() {
            continue;
        }
        if label != 0.0 && label != 1.0 {
            return exec_err!("{name}: the label must be 0 or 1, got {label}");
        }
        if weights.of(row) > 0.0 {
            each(score, label == 1.0, weights.of(row));
        }
    }
    Ok(())
}
