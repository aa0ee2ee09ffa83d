//! `tidemill_category_index(value, labels, mode, column)`: the index of a text among labels, as `Float64`.
//!
//! `labels` is a literal list. What is not among them, null included, is the number of labels with mode `keep`, null
//! with `skip` (the rows' predicate leaves them out), and with `error` an error naming column, value and remedy.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

const NAME: &str = "tidemill_category_index";

/// Rows times labels up to which comparing is cheaper than building a hash table.
const MAX_LINEAR_WORK: usize = 256;

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(CategoryIndex { signature: Signature::any(4, Volatility::Immutable) }))
}

/// What becomes of values that are not among the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// They fail the query.
    Error,
    /// They are null here, and their rows left out.
    Skip,
    /// They have the index after the last label.
    Keep,
}

impl Invalid {
    /// The word for it in parameters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Skip => "skip",
            Self::Keep => "keep",
        }
    }

    /// Reads the word for it.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Error, Self::Skip, Self::Keep].into_iter().find(|mode| mode.as_str() == word)
    }
}

/// A call of the function.
pub fn category_index(value: Expr, labels: &[String], invalid: Invalid, column: &str) -> Expr {
    let labels: Vec<ScalarValue> = labels.iter().map(|l| ScalarValue::Utf8(Some(l.clone()))).collect();
    let labels = ScalarValue::List(ScalarValue::new_list_nullable(&labels, &DataType::Utf8));
    udf().call(vec![value, lit(labels), lit(invalid.as_str()), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CategoryIndex {
    signature: Signature,
}

impl ScalarUDFImpl for CategoryIndex {
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
        let [value, ColumnarValue::Scalar(ScalarValue::List(labels)), ColumnarValue::Scalar(mode), column] =
            args.args.as_slice()
        else {
            return plan_err!("{NAME} takes a value and three literals: labels, mode and column");
        };
        let Some(invalid) = mode.try_as_str().flatten().and_then(Invalid::parse) else {
            return plan_err!("{NAME}: the mode is error, skip or keep, got {mode}");
        };
        let labels = cast(&labels.value(0), &DataType::Utf8)?;
        let column = match column {
            ColumnarValue::Scalar(column) => column.to_string(),
            ColumnarValue::Array(_) => String::new(),
        };
        match value {
            ColumnarValue::Scalar(value) => {
                let indices = indices(&value.to_array()?, labels.as_string(), invalid, &column)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&indices, 0)?))
            }
            ColumnarValue::Array(values) => {
                Ok(ColumnarValue::Array(Arc::new(indices(values, labels.as_string(), invalid, &column)?)))
            }
        }
    }
}

fn indices(values: &ArrayRef, labels: &StringArray, invalid: Invalid, column: &str) -> Result<Float64Array> {
    let values = cast(values, &DataType::Utf8)?;
    let values: &StringArray = values.as_string();
    if values.len().saturating_mul(labels.len()) <= MAX_LINEAR_WORK {
        return look_up(values, labels.len(), invalid, column, |value| labels.iter().position(|l| l == Some(value)));
    }
    let table: HashMap<&str, usize> = labels.iter().enumerate().filter_map(|(i, l)| Some((l?, i))).collect();
    look_up(values, labels.len(), invalid, column, |value| table.get(value).copied())
}

fn look_up(
    values: &StringArray,
    n_labels: usize,
    invalid: Invalid,
    column: &str,
    find: impl Fn(&str) -> Option<usize>,
) -> Result<Float64Array> {
    let index = |value: Option<&str>| match (value.and_then(&find), invalid) {
        (Some(index), _) => Ok(Some(index as f64)),
        (None, Invalid::Keep) => Ok(Some(n_labels as f64)),
        (None, Invalid::Skip) => Ok(None),
        (None, Invalid::Error) => unseen(value, column),
    };
    values.iter().map(index).collect()
}

fn unseen<T>(value: Option<&str>, column: &str) -> Result<T> {
    match value {
        Some(value) => exec_err!(
            "stage string_indexer: column {column:?} has the value {value:?}, unseen when it was fitted; use \
             handle_invalid = keep or skip"
        ),
        None => exec_err!("stage string_indexer: column {column:?} has a null; use handle_invalid = keep or skip"),
    }
}
