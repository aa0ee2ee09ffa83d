//! `exact_quantile(x, q [, include])`: the smallest value that at least a share `q` of the values does not exceed.
//!
//! It is an element of the column (its rank is `ceil(q · n)`, at least 1), never an interpolation, and does not depend
//! on the order and partitioning of the rows. For a list of shares the result is a list of as many values, found in one
//! pass. Exact up to [`MAX_EXACT_VALUES`] distinct values; beyond it the lowest mantissa bits of all values are cut off,
//! as few as leave that many distinct ones (in practice a relative error below 1e-4 for columns within a few orders of
//! magnitude). Nulls and NaN, and rows for which `include` is not true, are left out; without any value the result is
//! null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, lit};

use super::key_counts::KeyCounts;
use super::support;

/// Distinct values that are counted exactly: 1 MiB of state for each quantile.
pub const MAX_EXACT_VALUES: usize = 1 << 16;

const NAME: &str = "exact_quantile";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(ExactQuantile { signature: support::own_coercion() }))
}

/// A call of the function.
pub fn exact_quantile(x: Expr, q: f64) -> Expr {
    udaf().call(vec![x, lit(q)])
}

/// A call of the function for several shares at once.
pub fn exact_quantiles(x: Expr, shares: &[f64]) -> Expr {
    udaf().call(vec![x, lit(list(shares))])
}

/// Reads the result for several shares; none without any value.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Option<Vec<f64>>> {
    match value {
        ScalarValue::List(lists) if lists.is_null(0) => Ok(None),
        ScalarValue::List(_) => floats(value).map(Some),
        other => exec_err!("expected the list that {NAME} gives, got {}", other.data_type()),
    }
}

fn list(numbers: &[f64]) -> ScalarValue {
    let numbers: Vec<ScalarValue> = numbers.iter().map(|&number| number.into()).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Float64))
}

/// The numbers of a list, or one number.
fn floats(value: &ScalarValue) -> Result<Vec<f64>> {
    let values = match value {
        ScalarValue::List(lists) => lists.value(0),
        other => other.to_array()?,
    };
    let numbers = cast(&values, &DataType::Float64)?;
    Ok(numbers.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactQuantile {
    signature: Signature,
}

impl AggregateUDFImpl for ExactQuantile {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (x, q, include) = match arg_types {
            [x, q] => (x, q, None),
            [x, q, include] => (x, q, Some(include)),
            _ => return plan_err!("{NAME} takes a number and a share in 0..=1, got {} arguments", arg_types.len()),
        };
        support::check_number(NAME, x)?;
        let shares = match q {
            DataType::List(item) => {
                support::check_number(NAME, item.data_type())?;
                DataType::new_list(DataType::Float64, true)
            }
            q => {
                support::check_number(NAME, q)?;
                DataType::Float64
            }
        };
        include.map_or(Ok(()), |include| support::check_condition(NAME, include))?;
        let types = [DataType::Float64, shares, DataType::Boolean];
        Ok(types.into_iter().take(arg_types.len()).collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types.get(1).cloned().unwrap_or(DataType::Float64))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(support::bytes_state(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let Some(literal) = support::literal_argument(&args, 1) else {
            return plan_err!("{NAME}: the share must be a literal number within 0 and 1, or a list of such");
        };
        let shares = floats(&literal)?;
        if let Some(wrong) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            return plan_err!("{NAME}: the share must be within 0 and 1, got {wrong}");
        }
        let is_list = matches!(literal, ScalarValue::List(_));
        Ok(Box::new(QuantileAccumulator { counts: KeyCounts::new(MAX_EXACT_VALUES), shares, is_list }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct QuantileAccumulator {
    counts: KeyCounts,
    shares: Vec<f64>,
    /// Whether the result is a list: the shares came as one.
    is_list: bool,
}

impl Accumulator for QuantileAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.counts.add(v))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in support::bytes_column(states)?.iter().flatten() {
            self.counts.merge(bytes).map_or_else(|| support::damaged(NAME), Ok)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.counts.state_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = self.counts.sorted();
        let quantiles: Option<Vec<f64>> = self.shares.iter().map(|&share| at_share(&sorted, share)).collect();
        Ok(match quantiles {
            Some(quantiles) if self.is_list => list(&quantiles),
            None if self.is_list => ScalarValue::new_null_list(DataType::Float64, true, 1),
            quantiles => ScalarValue::Float64(quantiles.and_then(|quantiles| quantiles.first().copied())),
        })
    }

    fn size(&self) -> usize {
        self.counts.size()
    }
}

/// The value at a share; none without any.
pub(super) fn at_share(sorted: &[(f64, u64)], q: f64) -> Option<f64> {
    let n: u64 = sorted.iter().map(|(_, count)| count).sum();
    let rank = ((q * n as f64).ceil() as u64).max(1);
    let mut seen = 0;
    sorted
        .iter()
        .find(|(_, count)| {
            seen += count;
            seen >= rank
        })
        .map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_two_middle_values_is_the_median() {
        let four = [(1.0, 1), (2.0, 1), (3.0, 1), (4.0, 1)];
        assert_eq!(at_share(&four, 0.5), Some(2.0));
        assert_eq!(at_share(&four, 0.0), Some(1.0));
        assert_eq!(at_share(&four, 1.0), Some(4.0));
        assert_eq!(at_share(&[(1.0, 2), (9.0, 3)], 0.5), Some(9.0));
        assert_eq!(at_share(&[], 0.5), None);
    }
}
