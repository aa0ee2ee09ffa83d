//! `tidemill_category_index(value, labels, mode, column)`: the index of a text among labels, as `Float64`.
//!
//! `labels` is a literal list. What is not among them, null included, is the number of labels with mode `keep`, null
//! with `skip` (the rows' predicate leaves them out), and with `error` an error naming column, value and remedy.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::label_table::LabelTable;
use super::support;
use super::text_map::{TextKey, Texts};

const NAME: &str = "tidemill_category_index";
/// The stage that it belongs to, for messages.
const STAGE: &str = "string_indexer";

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
        let [value, ColumnarValue::Scalar(ScalarValue::List(labels)), ColumnarValue::Scalar(mode), column] =
            args.args.as_slice()
        else {
            return plan_err!("{NAME} takes a value and three literals: labels, mode and column");
        };
        let Some(invalid) = mode.try_as_str().flatten().and_then(Invalid::parse) else {
            return plan_err!("{NAME}: the mode is error, skip or keep, got {mode}");
        };
        let table = LabelTable::of(labels)?;
        let column = match column {
            ColumnarValue::Scalar(column) => column.to_string(),
            ColumnarValue::Array(_) => String::new(),
        };
        let values = support::as_text(&value.to_array(1)?)?;
        let indices = indices(Texts::of(&values)?, &table, invalid, &column)?;
        match value {
            ColumnarValue::Scalar(_) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&indices, 0)?)),
            ColumnarValue::Array(_) => Ok(ColumnarValue::Array(Arc::new(indices))),
        }
    }
}

/// The index of each text among the labels; `column` is for messages.
fn indices(values: Texts<'_>, table: &LabelTable, invalid: Invalid, column: &str) -> Result<Float64Array> {
    values.map(|value| match (value.and_then(|value| table.find(value)), invalid) {
        (Some(index), _) => Ok(Some(index as f64)),
        (None, Invalid::Keep) => Ok(Some(table.len() as f64)),
        (None, Invalid::Skip) => Ok(None),
        (None, Invalid::Error) => unseen(value, values, STAGE, column),
    })
}

/// The error of a value that is not among the labels.
pub(super) fn unseen<T>(value: Option<TextKey<'_>>, values: Texts<'_>, stage: &str, column: &str) -> Result<T> {
    let rows: Vec<bool> = values.map(|other| other == value);
    let (n_rows, n_same) = (rows.len(), rows.into_iter().filter(|is_same| *is_same).count());
    match value {
        Some(value) => exec_err!(
            "stage {stage}: column {column:?} has the value {:?} in {n_same} of {n_rows} rows, unseen when it was fitted; \
             use handle_invalid = keep or skip",
            value.text()
        ),
        None => exec_err!(
            "stage {stage}: column {column:?} has a null in {n_same} of {n_rows} rows; use handle_invalid = keep or skip"
        ),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::col;

    use super::*;

    #[test]
    fn a_call_is_named_without_its_labels() {
        let labels = ["UA".to_owned(), "AA".to_owned()];
        let call = category_index(col("carrier"), &labels, Invalid::Keep, "carrier");
        let name = call.schema_name().to_string();
        assert_eq!(name, "tidemill_category_index(carrier,[2 items],Utf8(\"keep\"),Utf8(\"carrier\"))");
    }
}
