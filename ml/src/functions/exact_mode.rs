//! `exact_mode(x [, include])`: the number that comes most often; of several the smallest, as in Spark ML's imputer.
//!
//! Nulls and NaN, and rows for which `include` is not true, are left out; without any value the result is null. A column with more than [`MAX_MODE_VALUES`]
//! distinct numbers is refused: it has no mode worth the name.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::key_counts::KeyCounts;
use super::support;

/// Distinct numbers that are counted: 2 MiB of state for each mode.
pub const MAX_MODE_VALUES: usize = 1 << 17;

const NAME: &str = "exact_mode";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<ExactMode>()
}

/// A call of the function.
pub fn exact_mode(x: Expr) -> Expr {
    udaf().call(vec![x])
}

#[derive(Debug)]
struct ExactMode(KeyCounts);

impl ExactMode {
    fn check(&self) -> Result<()> {
        if self.0.is_coarse() {
            return exec_err!(
                "{NAME}: the column has more than {MAX_MODE_VALUES} distinct numbers; use mean or median"
            );
        }
        Ok(())
    }
}

impl Aggregate for ExactMode {
    const NAME: &'static str = NAME;

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Float64
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self(KeyCounts::new(MAX_MODE_VALUES)))
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))?;
        self.check()
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.0.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.check()?;
        let sorted = self.0.sorted();
        // `min_by_key` gives the first of equal ones, which is the smallest number.
        let mode = sorted.iter().min_by_key(|(_, count)| Reverse(*count)).map(|(value, _)| *value);
        Ok(ScalarValue::Float64(mode))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
