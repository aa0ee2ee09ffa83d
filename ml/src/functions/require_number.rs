//! `tidemill_require_number(value, stage, column)`: the value as it is, or an error where it is null or NaN.
//!
//! A value may be a vector too: only null ones fail then, as NaN among the elements does not in Spark ML either.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::vector::vector_size;

const NAME: &str = "tidemill_require_number";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(RequireNumber { signature: Signature::any(3, Volatility::Immutable) }))
}

/// A call of the function.
pub fn require_number(value: Expr, stage: &str, column: &str) -> Expr {
    udf().call(vec![value, lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RequireNumber {
    signature: Signature,
}

impl ScalarUDFImpl for RequireNumber {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types.iter().find(|arg| vector_size(arg).is_some()).cloned().unwrap_or(DataType::Float64))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, ColumnarValue::Scalar(stage), ColumnarValue::Scalar(column)] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a value and two literals: stage and column");
        };
        let array = value.to_array(args.number_rows)?;
        if vector_size(array.data_type()).is_some() {
            return present_vectors(array, stage, column);
        }
        let array = cast(&array, &DataType::Float64)?;
        let numbers = array.as_primitive::<Float64Type>();
        let n_missing = numbers.iter().filter(|number| number.is_none_or(f64::is_nan)).count();
        if n_missing > 0 {
            return exec_err!(
                "stage {stage}: column \"{column}\" has a null or NaN in {n_missing} of {} rows; add an imputer before \
                 it, or use handle_invalid = keep or skip",
                numbers.len()
            );
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn present_vectors(vectors: ArrayRef, stage: &ScalarValue, column: &ScalarValue) -> Result<ColumnarValue> {
    if vectors.null_count() > 0 {
        return exec_err!(
            "stage {stage}: column \"{column}\" has a null vector in {} of {} rows; use handle_invalid = keep or skip",
            vectors.null_count(),
            vectors.len()
        );
    }
    Ok(ColumnarValue::Array(vectors))
}
