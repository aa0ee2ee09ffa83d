//! `distinct_numbers(x, limit [, include])`: the different numbers of a column, if there are at most `limit`.
//!
//! The result is a list in ascending order, or null when there are more. It does not depend on the order and
//! partitioning of the rows. Nulls, NaN, and rows for which `include` is not true, are left out; the two zeros are one.
//! `limit` is a literal of at least 1.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr, lit};

use super::aggregate::{self, Aggregate};
use super::key_counts::KeyCounts;
use super::support;

const NAME: &str = "distinct_numbers";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<DistinctNumbers>()
}

/// A call of the function.
pub fn distinct_numbers(x: Expr, limit: u32) -> Expr {
    udaf().call(vec![x, lit(i64::from(limit))])
}

/// Reads the result; none when there were more than the limit.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Option<Vec<f64>>> {
    match value {
        ScalarValue::List(list) if list.is_null(0) => Ok(None),
        ScalarValue::List(list) => match list.value(0).as_primitive_opt::<Float64Type>() {
            Some(numbers) => Ok(Some(numbers.values().to_vec())),
            None => exec_err!("expected the numbers that {NAME} gives, got {}", list.data_type()),
        },
        other => exec_err!("expected the list that {NAME} gives, got {}", other.data_type()),
    }
}

#[derive(Debug)]
struct DistinctNumbers(KeyCounts);

impl Aggregate for DistinctNumbers {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (x, limit, include) = match arg_types {
            [x, limit] => (x, limit, None),
            [x, limit, include] => (x, limit, Some(include)),
            _ => return plan_err!("{NAME} takes a number and a limit, got {} arguments", arg_types.len()),
        };
        support::check_number(NAME, x)?;
        support::check_number(NAME, limit)?;
        include.map_or(Ok(()), |include| support::check_condition(NAME, include))?;
        let types = [DataType::Float64, DataType::Int64, DataType::Boolean];
        Ok(types.into_iter().take(arg_types.len()).collect())
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::new_list(DataType::Float64, true)
    }

    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        match support::literal_argument(args, 1) {
            Some(ScalarValue::Int64(Some(limit))) if limit > 0 => Ok(Self(KeyCounts::new(limit as usize))),
            _ => plan_err!("{NAME}: the limit must be a literal whole number of at least 1"),
        }
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.0.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let numbers: Vec<ScalarValue> = self.0.sorted().into_iter().map(|(number, _)| number.into()).collect();
        if self.0.is_coarse() {
            return Ok(ScalarValue::new_null_list(DataType::Float64, true, 1));
        }
        Ok(ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Float64)))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
