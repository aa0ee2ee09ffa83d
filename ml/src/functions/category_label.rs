//! `tidemill_category_label(index, labels, stage, column)`: the label that an index stands for.
//!
//! Fractions are cut off. A null, NaN or index out of range fails, naming stage and column. All arguments but the index
//! are literals.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::support;

const NAME: &str = "tidemill_category_label";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(CategoryLabel { signature: Signature::any(4, Volatility::Immutable) }))
}

/// A call of the function.
pub(crate) fn category_label(index: Expr, labels: &[String], stage: &str, column: &str) -> Expr {
    udf().call(vec![index, support::text_list(labels.iter().cloned()), lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CategoryLabel {
    signature: Signature,
}

impl ScalarUDFImpl for CategoryLabel {
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
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [index, ColumnarValue::Scalar(ScalarValue::List(labels)), stage, column] = args.args.as_slice() else {
            return plan_err!("{NAME} takes an index and three literals: labels, stage and column");
        };
        let labels = cast(&labels.value(0), &DataType::Utf8)?;
        let indices = support::present(index, args.number_rows, &DataType::Float64, stage, column)?;
        let rows = match rows(indices.as_primitive(), labels.len()) {
            Ok(rows) => rows,
            Err(index) => {
                return exec_err!(
                    "stage {}: column {:?} has the index {index}; expected one of {} labels, from 0",
                    support::text_literal(stage).unwrap_or_default(),
                    support::text_literal(column).unwrap_or_default(),
                    labels.len()
                );
            }
        };
        Ok(ColumnarValue::Array(take(&labels, &rows, None)?))
    }
}

/// The indices as whole numbers, or one that is out of range.
fn rows(indices: &Float64Array, n_labels: usize) -> Result<UInt32Array, f64> {
    let row = |&index: &f64| match index.trunc() {
        row if row >= 0.0 && row < n_labels as f64 => Ok(row as u32),
        _ => Err(index),
    };
    indices.values().iter().map(row).collect::<Result<Vec<u32>, f64>>().map(UInt32Array::from)
}
