//! `calibration_error(score, label [, weight])`: how far probabilities are from what came.
//!
//! The expected calibration error (Naeini, Cooper, Hauskrecht 2015): ten bins of equal width, `(0, 0.1]` to `(0.9, 1]`, 0
//! in the first; the mean over the bins, weighted by their rows, of the difference between the share of class 1 and the
//! mean score. Of more classes (Guo et al. 2017) the score is that of the most probable class, and the label whether it
//! is right.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;

use super::aggregate::{coerce_scores, for_each_score};
use super::check;
use super::report::check_classes;
use crate::functions::aggregate::{self, Aggregate};
use crate::functions::exact::Superaccumulator;
use crate::model::largest;

const BINS: usize = 10;

/// The function.
pub(super) fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<CalibrationError>()
}

/// The expected calibration error of ten bins of equal width; scores beyond 0 and 1 count as these.
///
/// # Errors
/// No rows, NaN scores, or labels other than 0 and 1.
pub fn calibration_error(scores: &[f64], labels: &[f64]) -> crate::Result<f64> {
    check(scores, labels)?;
    let mut error = CalibrationError::empty();
    scores.iter().zip(labels).for_each(|(score, label)| error.add(*score, *label == 1.0, 1.0));
    Ok(error.value().unwrap_or(f64::NAN))
}

/// [`calibration_error`] of the most probable class; probabilities are `[n_rows, n_classes]`, row-major.
///
/// # Errors
/// Other than one probability for each class, NaN, and labels that are no class.
pub fn multiclass_calibration_error(probabilities: &[f64], labels: &[f64], n_classes: usize) -> crate::Result<f64> {
    check_classes(probabilities, labels, n_classes)?;
    let mut error = CalibrationError::empty();
    for (row, label) in probabilities.chunks_exact(n_classes).zip(labels) {
        let class = largest(row) as usize;
        error.add(row[class], class as f64 == *label, 1.0);
    }
    Ok(error.value().unwrap_or(f64::NAN))
}

/// Exact sums by bin.
#[derive(Debug)]
struct CalibrationError {
    /// Of labels less scores.
    gaps: [Superaccumulator; BINS],
    weight: Superaccumulator,
}

impl CalibrationError {
    fn empty() -> Self {
        Self { gaps: std::array::from_fn(|_| Superaccumulator::for_values()), weight: Superaccumulator::for_values() }
    }

    fn add(&mut self, score: f64, is_positive: bool, weight: f64) {
        let score = score.clamp(0.0, 1.0);
        let bin = (1..BINS).take_while(|edge| score > *edge as f64 / BINS as f64).count();
        self.gaps[bin].add(weight * (f64::from(u8::from(is_positive)) - score));
        self.weight.add(weight);
    }

    /// None without rows.
    fn value(&mut self) -> Option<f64> {
        let weight = Some(self.weight.rounded()).filter(|weight| *weight > 0.0)?;
        Some(self.gaps.iter_mut().map(|gap| gap.rounded().abs()).sum::<f64>() / weight)
    }

    fn sums(&mut self) -> impl Iterator<Item = &mut Superaccumulator> {
        self.gaps.iter_mut().chain([&mut self.weight])
    }
}

impl Aggregate for CalibrationError {
    const NAME: &'static str = "calibration_error";

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_scores(Self::NAME, arg_types, &[])
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Float64
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self::empty())
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each_score(Self::NAME, values, 2, |score, is_positive, weight| self.add(score, is_positive, weight))
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.sums().for_each(|sum| sum.write(&mut bytes));
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        self.sums().try_for_each(|sum| sum.read_and_add(&mut bytes))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.value()))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.gaps.iter().chain([&self.weight]).map(Superaccumulator::size).sum::<usize>()
    }
}
