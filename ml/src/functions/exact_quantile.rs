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
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr, lit};

use super::aggregate::{self, Aggregate};
use super::key_counts::KeyCounts;
use super::support;

/// Distinct values that are counted exactly: 1 MiB of state for each quantile.
pub const MAX_EXACT_VALUES: usize = 1 << 16;

const NAME: &str = "exact_quantile";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<ExactQuantile>()
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

#[derive(Debug)]
struct ExactQuantile {
    counts: KeyCounts,
    shares: Vec<f64>,
    /// Whether the result is a list: the shares came as one.
    is_list: bool,
}

impl Aggregate for ExactQuantile {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
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

    fn return_type(arg_types: &[DataType]) -> DataType {
        arg_types.get(1).cloned().unwrap_or(DataType::Float64)
    }

    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let Some(literal) = support::literal_argument(args, 1) else {
            return plan_err!("{NAME}: the share must be a literal number within 0 and 1, or a list of such");
        };
        let shares = floats(&literal)?;
        if let Some(wrong) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            return plan_err!("{NAME}: the share must be within 0 and 1, got {wrong}");
        }
        let is_list = matches!(literal, ScalarValue::List(_));
        Ok(Self { counts: KeyCounts::new(MAX_EXACT_VALUES), shares, is_list })
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.counts.add(v))
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.counts.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.counts.merge(bytes)
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
