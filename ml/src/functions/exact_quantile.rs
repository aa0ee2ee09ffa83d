//! `exact_quantile(x, q [, include])`: the smallest value that at least a share `q` of the values does not exceed.
//!
//! It is an element of the column (its rank is `ceil(q · n)`, at least 1), never an interpolation, and does not depend
//! on the order and partitioning of the rows. Exact up to [`MAX_EXACT_VALUES`] distinct values; beyond it the lowest
//! mantissa bits of all values are cut off, as few as leave that many distinct ones (in practice a relative error
//! below 1e-4 for columns within a few orders of magnitude). Nulls and NaN, and rows for
//! which `include` is not true, are left out; without any value the result is null.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
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
        support::check_number(NAME, q)?;
        include.map_or(Ok(()), |include| support::check_condition(NAME, include))?;
        let types = [DataType::Float64, DataType::Float64, DataType::Boolean];
        Ok(types.into_iter().take(arg_types.len()).collect())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(support::bytes_state(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let q = support::literal_argument(&args, 1).and_then(|v| v.cast_to(&DataType::Float64).ok());
        match q {
            Some(ScalarValue::Float64(Some(q))) if (0.0..=1.0).contains(&q) => {
                Ok(Box::new(QuantileAccumulator { counts: KeyCounts::new(MAX_EXACT_VALUES), q }))
            }
            Some(other) => plan_err!("{NAME}: the share must be within 0 and 1, got {other}"),
            None => plan_err!("{NAME}: the share must be a literal number within 0 and 1"),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct QuantileAccumulator {
    counts: KeyCounts,
    q: f64,
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
        Ok(ScalarValue::Float64(at_share(&self.counts.sorted(), self.q)))
    }

    fn size(&self) -> usize {
        self.counts.size()
    }
}

fn at_share(sorted: &[(f64, u64)], q: f64) -> Option<f64> {
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
