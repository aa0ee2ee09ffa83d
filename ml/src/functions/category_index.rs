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

use super::support;

const NAME: &str = "tidemill_category_index";
/// The stage that it belongs to, for messages.
const STAGE: &str = "string_indexer";

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
    let labels = support::text_list(labels.iter().cloned());
    udf().call(vec![value, labels, lit(invalid.as_str()), lit(column)])
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
                let indices = indices(&value.to_array()?, labels.as_string(), invalid, STAGE, &column)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&indices, 0)?))
            }
            ColumnarValue::Array(values) => {
                Ok(ColumnarValue::Array(Arc::new(indices(values, labels.as_string(), invalid, STAGE, &column)?)))
            }
        }
    }
}

/// The index of each text among the labels; `stage` and `column` are for messages.
pub(super) fn indices(
    values: &ArrayRef,
    labels: &StringArray,
    invalid: Invalid,
    stage: &str,
    column: &str,
) -> Result<Float64Array> {
    let values = cast(values, &DataType::Utf8)?;
    let values: &StringArray = values.as_string();
    if values.len().saturating_mul(labels.len()) <= MAX_LINEAR_WORK {
        let find = |value: &str| labels.iter().position(|l| l == Some(value));
        return look_up(values, labels.len(), invalid, find).or_else(|value| unseen(value, values, stage, column));
    }
    let table: HashMap<&str, usize> = labels.iter().enumerate().filter_map(|(i, l)| Some((l?, i))).collect();
    let find = |value: &str| table.get(value).copied();
    look_up(values, labels.len(), invalid, find).or_else(|value| unseen(value, values, stage, column))
}

/// The indices, or the first value that has none and is an error.
fn look_up<'a>(
    values: &'a StringArray,
    n_labels: usize,
    invalid: Invalid,
    find: impl Fn(&str) -> Option<usize>,
) -> Result<Float64Array, Option<&'a str>> {
    let index = |value: Option<&'a str>| match (value.and_then(&find), invalid) {
        (Some(index), _) => Ok(Some(index as f64)),
        (None, Invalid::Keep) => Ok(Some(n_labels as f64)),
        (None, Invalid::Skip) => Ok(None),
        (None, Invalid::Error) => Err(value),
    };
    values.iter().map(index).collect()
}

fn unseen<T>(value: Option<&str>, values: &StringArray, stage: &str, column: &str) -> Result<T> {
    match value {
        Some(value) => exec_err!(
            "stage {stage}: column {column:?} has the value {value:?}, unseen when it was fitted; use \
             handle_invalid = keep or skip"
        ),
        None => exec_err!(
            "stage {stage}: column {column:?} has a null in {} of {} rows; use handle_invalid = keep or skip",
            values.null_count(),
            values.len()
        ),
    }
}
