//! `regression_metrics(prediction, label)`: how far predicted numbers are from the labels.
//!
//! The result is a struct; `e` is the label less the prediction, `n` the number of rows:
//!
//! * `count`: `n`. Rows with a null prediction or label are left out;
//! * `mse`: the mean of `e²`, `rmse`: its square root, `mae`: the mean of `|e|`;
//! * `r2`: `1 - Σe² / Σ(label - mean label)²`, null where the labels do not vary;
//! * `explained_variance`: the mean of `(prediction - mean label)²`, as Spark ML's `var`.
//!
//! Without rows all but the count are null. A NaN makes all that it enters NaN. Sums are exact, so that the result does not
//! depend on the order and partitioning of the rows. Names and definitions are those of Spark ML's
//! `RegressionEvaluator`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;

use crate::functions::aggregate::{self, Aggregate};
use crate::functions::exact::ExactMoments;
use crate::functions::support;

const NAME: &str = "regression_metrics";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<RegressionMetrics>()
}

fn fields() -> Fields {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = vec![Field::new("count", DataType::Int64, false)];
    fields.extend(["mse", "rmse", "mae", "r2", "explained_variance"].map(number));
    Fields::from(fields)
}

/// Sums that the metrics are made of.
#[derive(Debug)]
pub(super) struct RegressionMetrics {
    labels: ExactMoments,
    predictions: ExactMoments,
    errors: ExactMoments,
    sizes: ExactMoments,
}

impl RegressionMetrics {
    /// Of no rows.
    pub(super) fn empty() -> Self {
        let [labels, predictions, errors] = std::array::from_fn(|_| ExactMoments::new());
        Self { labels, predictions, errors, sizes: ExactMoments::without_squares() }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, prediction: f64, label: f64) {
        let error = label - prediction;
        self.labels.add(label);
        self.predictions.add(prediction);
        self.errors.add(error);
        self.sizes.add(error.abs());
    }

    fn parts(&mut self) -> [&mut ExactMoments; 4] {
        [&mut self.labels, &mut self.predictions, &mut self.errors, &mut self.sizes]
    }

    /// The metrics but the count, in the order of the fields.
    pub(super) fn numbers(&mut self) -> [Option<f64>; 5] {
        let (labels, predictions) = (self.labels.moments(), self.predictions.moments());
        let n = labels.count as f64;
        // The squares around the mean; a single value has no variance and is its mean.
        let around = |variance: Option<f64>| variance.unwrap_or(0.0) * (n - 1.0);
        let mse = self.errors.mean_square();
        let total = around(labels.variance);
        let r2 = mse.filter(|_| total != 0.0).map(|mse| 1.0 - mse * n / total);
        let explained = predictions
            .mean
            .zip(labels.mean)
            .map(|(prediction, label)| around(predictions.variance) / n + (prediction - label).powi(2));
        [mse, mse.map(f64::sqrt), self.sizes.moments().mean, r2, explained]
    }
}

impl Aggregate for RegressionMetrics {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [prediction, label] = arg_types else {
            return plan_err!("{NAME} takes a prediction and a label, got {} arguments", arg_types.len());
        };
        support::check_number(NAME, prediction)?;
        support::check_number(NAME, label)?;
        Ok(vec![DataType::Float64, DataType::Float64])
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Struct(fields())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self::empty())
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [predictions, labels] = values else { return exec_err!("{NAME} takes a prediction and a label") };
        let (predictions, labels) = (predictions.as_primitive::<Float64Type>(), labels.as_primitive::<Float64Type>());
        for (prediction, label) in predictions.iter().zip(labels) {
            let (Some(prediction), Some(label)) = (prediction, label) else { continue };
            self.add(prediction, label);
        }
        Ok(())
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in self.parts() {
            support::put_part(&mut bytes, &part.state_bytes());
        }
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        for part in self.parts() {
            part.merge(support::take_part(&mut bytes)?)?;
        }
        bytes.is_empty().then_some(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let count = self.labels.moments().count;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![count as i64]))];
        columns.extend(self.numbers().map(|number| Arc::new(Float64Array::from(vec![number])) as ArrayRef));
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        [&self.labels, &self.predictions, &self.errors, &self.sizes].into_iter().map(ExactMoments::size).sum()
    }
}
