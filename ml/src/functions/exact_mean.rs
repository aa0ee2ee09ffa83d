//! `exact_mean(x [, include])`: the mean of a column, rounded once, whatever the order and partitioning of its rows.
//!
//! Nulls, and rows for which `include` is not true, are left out; without any value the mean is null. NaN and infinities as in
//! [`ExactMoments`](super::exact::ExactMoments).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature};

use super::exact::ExactMoments;
use super::support;

const NAME: &str = "exact_mean";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(ExactMean { signature: support::own_coercion() }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactMean {
    signature: Signature,
}

impl AggregateUDFImpl for ExactMean {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        support::coerce_number(NAME, arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(support::bytes_state(&args))
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(ExactMeanAccumulator(ExactMoments::without_squares())))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct ExactMeanAccumulator(ExactMoments);

impl Accumulator for ExactMeanAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.remove(v))
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in support::bytes_column(states)?.iter().flatten() {
            self.0.merge(bytes).map_or_else(|| support::damaged(NAME), Ok)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.0.state_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let moments = self.0.moments();
        Ok(ScalarValue::Float64(moments.mean))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
