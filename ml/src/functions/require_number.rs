//! `tidemill_require_number(value, stage, column)`: the value as it is, or an error where it is null or NaN.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

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

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, ColumnarValue::Scalar(stage), ColumnarValue::Scalar(column)] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a value and two literals: stage and column");
        };
        let array = cast(&value.to_array(args.number_rows)?, &DataType::Float64)?;
        let numbers = array.as_primitive::<Float64Type>();
        if numbers.null_count() > 0 || numbers.values().iter().any(|v| v.is_nan()) {
            return exec_err!(
                "stage {stage}: column \"{column}\" has a null or NaN; add an imputer before it, or use \
                 handle_invalid = keep or skip"
            );
        }
        Ok(ColumnarValue::Array(array))
    }
}
