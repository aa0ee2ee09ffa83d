//! `exact_moments(x [, include])`: count, sum, mean, sample variance, minimum and maximum in one pass, each rounded once.
//!
//! The result is a struct of those names and does not depend on the order and partitioning of the rows. Over a window
//! frame that slides, minimum and maximum are null: they cannot be taken back. Nulls, and
//! rows for which `include` is not true, are left out. The mean is null without values and the variance with fewer than two. NaN and infinities as in
//! [`ExactMoments`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::exact::{ExactMoments, Moments};
use super::support;

const NAME: &str = "exact_moments";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<MomentsOf>()
}

/// A call of the function.
pub fn exact_moments(x: Expr) -> Expr {
    udaf().call(vec![x])
}

/// Reads the function's result.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Moments> {
    let ScalarValue::Struct(array) = value else {
        return exec_err!("expected the struct that {NAME} gives, got {}", value.data_type());
    };
    let number = |name: &str| -> Option<f64> {
        let column = array.column_by_name(name)?.as_primitive_opt::<Float64Type>()?;
        column.is_valid(0).then(|| column.value(0))
    };
    let count = array.column_by_name("count").and_then(|c| c.as_primitive_opt::<Int64Type>()).map(|c| c.value(0));
    Ok(Moments {
        count: count.unwrap_or(0) as u64,
        sum: number("sum").unwrap_or(0.0),
        mean: number("mean"),
        variance: number("variance"),
        min: number("min"),
        max: number("max"),
    })
}

fn fields() -> Fields {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = vec![Field::new("count", DataType::Int64, false)];
    fields.extend(["sum", "mean", "variance", "min", "max"].map(number));
    Fields::from(fields)
}

#[derive(Debug)]
struct MomentsOf {
    moments: ExactMoments,
    /// Whether values are taken back, so that there are no bounds.
    slides: bool,
}

impl Aggregate for MomentsOf {
    const NAME: &'static str = NAME;
    const RETRACTS: bool = true;

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Struct(fields())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self { moments: ExactMoments::new(), slides: false })
    }

    fn sliding(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self { moments: ExactMoments::new(), slides: true })
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.moments.add(v))
    }

    fn retract(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.moments.remove(v))
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.moments.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.moments.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let moments = self.moments.moments();
        let number = |value: Option<f64>| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
        let bound = |value: Option<f64>| number(value.filter(|_| !self.slides));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![moments.count as i64])),
            number(Some(moments.sum)),
            number(moments.mean),
            number(moments.variance),
            bound(moments.min),
            bound(moments.max),
        ];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        self.moments.size()
    }
}
