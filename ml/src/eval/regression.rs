//! `regression_metrics(prediction, label [, weight])`: how far predicted numbers are from the labels.
//!
//! The result is a struct; `e` is the label less the prediction, `n` the number of rows:
//!
//! * `count`: `n`. Rows with a null prediction or label are left out, and so are rows of weight 0;
//! * `mse`: the mean of `e²`, `rmse`: its square root, `mae`: the mean of `|e|`;
//! * `r2`: `1 - Σe² / Σ(label - mean label)²`, null where the labels do not vary;
//! * `explained_variance`: the mean of `(prediction - mean label)²`, as Spark ML's `var`.
//!
//! Sums and means are weighted; an infinity among rows with weights makes all that it enters NaN.
//!
//! Without rows all but the count are null. A NaN makes all that it enters NaN. Sums are exact, so that the result does
//! not depend on the order and partitioning of the rows. Names and definitions are those of Spark ML's
//! `RegressionEvaluator`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;

use super::aggregate::{Weights, coerce_weight};
use crate::functions::aggregate::{self, Aggregate};
use crate::functions::exact::{ExactMoments, WeightedMoments, take};
use crate::functions::support;

const NAME: &str = "regression_metrics";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<Sums>()
}

fn fields() -> Fields {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = vec![Field::new("count", DataType::Int64, false)];
    fields.extend(["mse", "rmse", "mae", "r2", "explained_variance"].map(number));
    Fields::from(fields)
}

/// Sums that the metrics are made of, without or with weights.
#[derive(Debug)]
enum Sums {
    Plain(Box<RegressionMetrics>),
    Weighted(Box<WeightedMetrics>),
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

    fn state_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.parts().into_iter().for_each(|part| support::put_part(&mut bytes, &part.state_bytes()));
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        for part in self.parts() {
            part.merge(support::take_part(&mut bytes)?)?;
        }
        bytes.is_empty().then_some(())
    }

    fn size(&self) -> usize {
        [&self.labels, &self.predictions, &self.errors, &self.sizes].into_iter().map(ExactMoments::size).sum()
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

/// The same of rows with weights.
#[derive(Debug)]
struct WeightedMetrics {
    n_rows: u64,
    labels: WeightedMoments,
    predictions: WeightedMoments,
    errors: WeightedMoments,
    sizes: WeightedMoments,
}

impl WeightedMetrics {
    fn empty() -> Self {
        let [labels, predictions, errors, sizes] = std::array::from_fn(|_| WeightedMoments::new());
        Self { n_rows: 0, labels, predictions, errors, sizes }
    }

    fn add(&mut self, prediction: f64, label: f64, weight: f64) {
        let error = label - prediction;
        self.n_rows += 1;
        self.labels.add(label, weight);
        self.predictions.add(prediction, weight);
        self.errors.add(error, weight);
        self.sizes.add(error.abs(), weight);
    }

    fn parts(&mut self) -> [&mut WeightedMoments; 4] {
        [&mut self.labels, &mut self.predictions, &mut self.errors, &mut self.sizes]
    }

    fn numbers(&mut self) -> [Option<f64>; 5] {
        let mse = self.errors.mean_square();
        let total = self.labels.spread();
        let r2 = mse.zip(total).filter(|(_, total)| *total != 0.0).map(|(mse, total)| 1.0 - mse / total);
        let means = self.predictions.mean().zip(self.labels.mean());
        let explained = self.predictions.spread().zip(means).map(|(spread, (p, l))| spread + (p - l).powi(2));
        [mse, mse.map(f64::sqrt), self.sizes.mean(), r2, explained]
    }

    fn state_bytes(&mut self) -> Vec<u8> {
        let mut bytes = self.n_rows.to_le_bytes().to_vec();
        self.parts().into_iter().for_each(|part| support::put_part(&mut bytes, &part.state_bytes()));
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        self.n_rows += u64::from_le_bytes(take(&mut bytes)?);
        for part in self.parts() {
            part.merge(support::take_part(&mut bytes)?)?;
        }
        bytes.is_empty().then_some(())
    }

    fn size(&self) -> usize {
        [&self.labels, &self.predictions, &self.errors, &self.sizes].into_iter().map(WeightedMoments::size).sum()
    }
}

impl Aggregate for Sums {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let ([prediction, label] | [prediction, label, _]) = arg_types else {
            return plan_err!(
                "{NAME} takes a prediction, a label and, if wanted, a weight, got {} arguments",
                arg_types.len()
            );
        };
        support::check_number(NAME, prediction)?;
        support::check_number(NAME, label)?;
        let weight = coerce_weight(NAME, arg_types, 2)?;
        Ok([DataType::Float64, DataType::Float64].into_iter().chain(weight).collect())
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Struct(fields())
    }

    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let is_weighted = args.exprs.len() > 2;
        Ok(if is_weighted {
            Self::Weighted(Box::new(WeightedMetrics::empty()))
        } else {
            Self::Plain(Box::new(RegressionMetrics::empty()))
        })
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [predictions, labels, ..] = values else { return exec_err!("{NAME} takes a prediction and a label") };
        let weights = Weights::new(NAME, values, 2)?;
        let (predictions, labels) = (predictions.as_primitive::<Float64Type>(), labels.as_primitive::<Float64Type>());
        for (row, pair) in predictions.iter().zip(labels).enumerate() {
            let (Some(prediction), Some(label)) = pair else { continue };
            match self {
                Self::Plain(sums) => sums.add(prediction, label),
                Self::Weighted(sums) if weights.of(row) > 0.0 => sums.add(prediction, label, weights.of(row)),
                Self::Weighted(_) => {}
            }
        }
        Ok(())
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(sums) => sums.state_bytes(),
            Self::Weighted(sums) => sums.state_bytes(),
        }
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        match self {
            Self::Plain(sums) => sums.merge(bytes),
            Self::Weighted(sums) => sums.merge(bytes),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (count, numbers) = match self {
            Self::Plain(sums) => (sums.labels.moments().count, sums.numbers()),
            Self::Weighted(sums) => (sums.n_rows, sums.numbers()),
        };
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![count as i64]))];
        columns.extend(numbers.map(|number| Arc::new(Float64Array::from(vec![number])) as ArrayRef));
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        match self {
            Self::Plain(sums) => sums.size(),
            Self::Weighted(sums) => sums.size(),
        }
    }
}
