//! `tidemill_bucket_index(value, splits, mode, column)`: the number of the bucket that a value falls into.
//!
//! `splits` is a literal list in ascending order, the result `Float64`. A bucket has its lower bound in it and not its
//! upper one; the last has both. -0.0 is below 0.0, as in Spark ML. Null stays null; NaN is the number of buckets with
//! mode `keep`, null with `skip` (the rows' predicate leaves it out) and an error with `error`. A value outside the
//! splits is always an error.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::category_index::Invalid;
use super::support;

const NAME: &str = "tidemill_bucket_index";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(BucketIndex { signature: Signature::any(4, Volatility::Immutable) }))
}

/// A call of the function.
pub fn bucket_index(value: Expr, splits: &[f64], invalid: Invalid, column: &str) -> Expr {
    let splits: Vec<ScalarValue> = splits.iter().map(|&split| split.into()).collect();
    let splits = ScalarValue::List(ScalarValue::new_list_nullable(&splits, &DataType::Float64));
    udf().call(vec![value, lit(splits), lit(invalid.as_str()), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BucketIndex {
    signature: Signature,
}

impl ScalarUDFImpl for BucketIndex {
    fn name(&self) -> &str {
        NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        support::call_name(NAME, args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [
            value,
            ColumnarValue::Scalar(ScalarValue::List(splits)),
            ColumnarValue::Scalar(mode),
            ColumnarValue::Scalar(column),
        ] = args.args.as_slice()
        else {
            return plan_err!("{NAME} takes a value and three literals: splits, mode and column");
        };
        let Some(invalid) = mode.try_as_str().flatten().and_then(Invalid::parse) else {
            return plan_err!("{NAME}: the mode is error, skip or keep, got {mode}");
        };
        let splits = cast(&splits.value(0), &DataType::Float64)?;
        let buckets = Buckets { splits: splits.as_primitive::<Float64Type>().values(), invalid, column };
        match value {
            ColumnarValue::Scalar(value) => {
                let indices = buckets.indices(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&indices, 0)?))
            }
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(Arc::new(buckets.indices(values)?))),
        }
    }
}

struct Buckets<'a> {
    splits: &'a [f64],
    invalid: Invalid,
    column: &'a ScalarValue,
}

impl Buckets<'_> {
    fn indices(&self, values: &ArrayRef) -> Result<Float64Array> {
        let values = cast(values, &DataType::Float64)?;
        let values: &Float64Array = values.as_primitive();
        self.check_numbers(values)?;
        let index = |value: Option<f64>| value.map_or(Ok(None), |value| self.index(value));
        values.iter().map(index).collect()
    }

    fn check_numbers(&self, values: &Float64Array) -> Result<()> {
        let n_nan = values.iter().flatten().filter(|value| value.is_nan()).count();
        if n_nan == 0 || self.invalid != Invalid::Error {
            return Ok(());
        }
        exec_err!(
            "stage bucketizer: column \"{}\" has a NaN in {n_nan} of {} rows; use handle_invalid = keep or skip",
            self.column,
            values.len()
        )
    }

    fn index(&self, value: f64) -> Result<Option<f64>> {
        let n_buckets = self.splits.len().saturating_sub(1);
        if value.is_nan() {
            return Ok((self.invalid == Invalid::Keep).then_some(n_buckets as f64));
        }
        if self.splits.last() == Some(&value) {
            return Ok(Some(n_buckets as f64 - 1.0));
        }
        match self.splits.partition_point(|split| split.total_cmp(&value).is_le()) {
            above if above > 0 && above <= n_buckets => Ok(Some(above as f64 - 1.0)),
            _ => exec_err!(
                "stage bucketizer: column \"{}\" has the value {value:?}, outside the splits, which go from {:?} to \
                 {:?}; put -Infinity and Infinity at their ends",
                self.column,
                self.splits.first().unwrap_or(&f64::NAN),
                self.splits.last().unwrap_or(&f64::NAN)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bucket_has_both_bounds() {
        let column = ScalarValue::from("x");
        let buckets = Buckets { splits: &[-1.0, 0.0, f64::INFINITY], invalid: Invalid::Keep, column: &column };
        let index = |value: f64| buckets.index(value).unwrap();
        assert_eq!([-1.0, -0.0, 0.0, 7.0, f64::INFINITY].map(index), [0.0, 0.0, 1.0, 1.0, 1.0].map(Some));
        assert_eq!(index(f64::NAN), Some(2.0));
        let error = buckets.index(-1.5).unwrap_err().to_string();
        assert!(error.contains("\"x\" has the value -1.5, outside the splits, which go from -1.0 to inf"), "{error}");
    }
}
