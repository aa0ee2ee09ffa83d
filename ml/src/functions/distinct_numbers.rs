//! `distinct_numbers(x, limit [, include])`: the different numbers of a column, if there are at most `limit`.
//!
//! The result is a list in ascending order, or null when there are more. It does not depend on the order and
//! partitioning of the rows. Nulls, NaN, and rows for which `include` is not true, are left out; the two zeros are one.
//! `limit` is a literal of at least 1.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, lit};

use super::key_counts::KeyCounts;
use super::support;

const NAME: &str = "distinct_numbers";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(DistinctNumbers { signature: support::own_coercion() }))
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

#[derive(Debug, PartialEq, Eq, Hash)]
struct DistinctNumbers {
    signature: Signature,
}

impl AggregateUDFImpl for DistinctNumbers {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
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

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Float64, true))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(support::bytes_state(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match support::literal_argument(&args, 1) {
            Some(ScalarValue::Int64(Some(limit))) if limit > 0 => {
                Ok(Box::new(DistinctAccumulator(KeyCounts::new(limit as usize))))
            }
            _ => plan_err!("{NAME}: the limit must be a literal whole number of at least 1"),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct DistinctAccumulator(KeyCounts);

impl Accumulator for DistinctAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))
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
