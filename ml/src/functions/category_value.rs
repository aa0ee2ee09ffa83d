//! `tidemill_category_value(value, labels, numbers, mode, stage, column)`: the number of a text among labels.
//!
//! `labels` and `numbers` are literal lists, one number for each label and, with mode `keep`, one more for what is not
//! among them, null included. With `error` such a value fails, naming stage, column and remedy.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::category_index::{self, Invalid};

const NAME: &str = "tidemill_category_value";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(CategoryValue { signature: Signature::any(6, Volatility::Immutable) }))
}

/// A call of the function.
pub fn category_value(
    value: Expr,
    labels: &[String],
    numbers: &[f64],
    invalid: Invalid,
    stage: &str,
    column: &str,
) -> Expr {
    let labels: Vec<ScalarValue> = labels.iter().map(|label| label.as_str().into()).collect();
    let labels = ScalarValue::List(ScalarValue::new_list_nullable(&labels, &DataType::Utf8));
    let numbers: Vec<ScalarValue> = numbers.iter().map(|&number| number.into()).collect();
    let numbers = ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Float64));
    udf().call(vec![value, lit(labels), lit(numbers), lit(invalid.as_str()), lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CategoryValue {
    signature: Signature,
}

impl ScalarUDFImpl for CategoryValue {
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
        let [
            value,
            ColumnarValue::Scalar(ScalarValue::List(labels)),
            ColumnarValue::Scalar(ScalarValue::List(numbers)),
            ColumnarValue::Scalar(mode),
            ColumnarValue::Scalar(stage),
            ColumnarValue::Scalar(column),
        ] = args.args.as_slice()
        else {
            return plan_err!("{NAME} takes a value and five literals: labels, numbers, mode, stage and column");
        };
        let Some(invalid) = mode.try_as_str().flatten().and_then(Invalid::parse) else {
            return plan_err!("{NAME}: the mode is error, skip or keep, got {mode}");
        };
        let labels = cast(&labels.value(0), &DataType::Utf8)?;
        let numbers = cast(&numbers.value(0), &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>().values();
        if numbers.len() < labels.len() + usize::from(invalid == Invalid::Keep) {
            return plan_err!("{NAME}: {} numbers are too few for {} labels", numbers.len(), labels.len());
        }
        let values = value.to_array(args.number_rows)?;
        let (stage, column) = (stage.to_string(), column.to_string());
        let indices = category_index::indices(&values, labels.as_string(), invalid, &stage, &column)?;
        let found: Float64Array = indices.iter().map(|index| index.map(|index| numbers[index as usize])).collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}
