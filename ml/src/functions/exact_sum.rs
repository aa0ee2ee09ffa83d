//! `exact_sum(x [, include])`: the sum of a column, rounded once, whatever the order and partitioning of its rows.
//!
//! Nulls, and rows for which `include` is not true, are left out; without any value the sum is null. NaN and infinities as in
//! [`ExactMoments`](super::exact::ExactMoments).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;

use super::aggregate::{self, Aggregate};
use super::exact::ExactMoments;
use super::support;

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<ExactSum>()
}

#[derive(Debug)]
struct ExactSum(ExactMoments);

impl Aggregate for ExactSum {
    const NAME: &'static str = "exact_sum";
    const RETRACTS: bool = true;

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Float64
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self(ExactMoments::without_squares()))
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))
    }

    fn retract(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.remove(v))
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.0.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let moments = self.0.moments();
        Ok(ScalarValue::Float64((moments.count > 0).then_some(moments.sum)))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
