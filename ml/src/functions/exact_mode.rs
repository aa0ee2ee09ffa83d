//! `exact_mode(x [, include])`: the number that comes most often; of several the smallest, as in Spark ML's imputer.
//!
//! Nulls and NaN, and rows for which `include` is not true, are left out; without any value the result is null. A column with more than [`MAX_MODE_VALUES`]
//! distinct numbers is refused: it has no mode worth the name.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature};

use super::key_counts::KeyCounts;
use super::support;

/// Distinct numbers that are counted: 2 MiB of state for each mode.
pub const MAX_MODE_VALUES: usize = 1 << 17;

const NAME: &str = "exact_mode";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(ExactMode { signature: support::own_coercion() }))
}

/// A call of the function.
pub fn exact_mode(x: Expr) -> Expr {
    udaf().call(vec![x])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactMode {
    signature: Signature,
}

impl AggregateUDFImpl for ExactMode {
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
        Ok(Box::new(ModeAccumulator(KeyCounts::new(MAX_MODE_VALUES))))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct ModeAccumulator(KeyCounts);

impl ModeAccumulator {
    fn check(&self) -> Result<()> {
        if self.0.is_coarse() {
            return exec_err!(
                "{NAME}: the column has more than {MAX_MODE_VALUES} distinct numbers; use mean or median"
            );
        }
        Ok(())
    }
}

impl Accumulator for ModeAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))?;
        self.check()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in support::bytes_column(states)?.iter().flatten() {
            self.0.merge(bytes).map_or_else(|| support::damaged(NAME), Ok)?;
        }
        self.check()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.0.state_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = self.0.sorted();
        // `min_by_key` gives the first of equal ones, which is the smallest number.
        let mode = sorted.iter().min_by_key(|(_, count)| Reverse(*count)).map(|(value, _)| *value);
        Ok(ScalarValue::Float64(mode))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
