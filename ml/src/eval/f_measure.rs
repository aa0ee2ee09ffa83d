//! `weighted_f_measure(prediction, label, beta [, weight])`: precision and recall of classes in one number.
//!
//! The mean over the classes of `(1 + beta²) · precision · recall / (beta² · precision + recall)`, 0 where both are 0,
//! weighted by how often each is a label: Spark ML's `weightedFMeasure`. With a `beta` of 1 it is the `weighted_f1` of
//! [`super::multiclass`], whose rules for rows and classes are these.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;

use super::aggregate::coerce_weight;
use super::multiclass::{ClassCounts, coerce_classes};
use crate::functions::aggregate::{self, Aggregate};
use crate::functions::support;

const NAME: &str = "weighted_f_measure";

/// The function.
pub(super) fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<WeightedFMeasure>()
}

#[derive(Debug)]
struct WeightedFMeasure {
    beta: f64,
    counts: ClassCounts,
}

impl Aggregate for WeightedFMeasure {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let ([prediction, label, beta] | [prediction, label, beta, _]) = arg_types else {
            return plan_err!(
                "{NAME} takes a prediction, a label, a beta and, if wanted, a weight, got {} arguments",
                arg_types.len()
            );
        };
        support::check_number(NAME, beta)?;
        let class = coerce_classes(NAME, prediction, label)?;
        let types = [class.clone(), class, DataType::Float64];
        Ok(types.into_iter().chain(coerce_weight(NAME, arg_types, 3)?).collect())
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Float64
    }

    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let beta = support::literal_argument(args, 2).map(|beta| beta.cast_to(&DataType::Float64)).transpose()?;
        match beta {
            Some(ScalarValue::Float64(Some(beta))) if beta.is_finite() && beta >= 0.0 => {
                Ok(Self { beta, counts: ClassCounts::new(NAME, args.exprs.len() > 3) })
            }
            Some(other) => plan_err!("{NAME}: beta must be a finite number of at least 0, got {other}"),
            None => plan_err!("{NAME}: beta must be a literal number of at least 0"),
        }
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.counts.update(values, 3)
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.counts.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.counts.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.counts.check_classes()?;
        let classes = self.counts.by_class();
        let all: f64 = classes.iter().map(|(_, class)| class.label).sum();
        let of_classes = classes.iter().map(|(_, class)| class.label / all * class.f_measure(self.beta));
        Ok(ScalarValue::Float64((all > 0.0).then(|| of_classes.sum())))
    }

    fn size(&self) -> usize {
        self.counts.size()
    }
}
