//! `tidemill_category_value(value, labels, numbers, null, mode, stage, column)`: the number of a text among labels.
//!
//! `labels` and `numbers` are literal lists, one number for each label and, with mode `keep`, one more for what is not
//! among them. `null` is the number of null; where that is null itself, null is not among the labels. With mode `error`
//! what is not fails, naming stage, column and remedy.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::category_index::{Invalid, unseen};
use super::label_table::LabelTable;
use super::support;
use super::text_map::Texts;

const NAME: &str = "tidemill_category_value";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(CategoryValue { signature: Signature::any(7, Volatility::Immutable) }))
}

/// The numbers of a column's categories.
#[derive(Debug, Clone, Copy)]
pub struct CategoryNumbers<'a> {
    /// The categories.
    pub labels: &'a [String],
    /// One for each of them and, with [`Invalid::Keep`], one for what is not among them.
    pub numbers: &'a [f64],
    /// That of null, if it has one of its own.
    pub null: Option<f64>,
    /// What becomes of values that are not among the labels.
    pub invalid: Invalid,
}

/// A call of the function; `stage` and `column` are for messages.
pub fn category_value(value: Expr, categories: CategoryNumbers<'_>, stage: &str, column: &str) -> Expr {
    let labels = support::text_list(categories.labels.iter().cloned());
    let numbers: Vec<ScalarValue> = categories.numbers.iter().map(|&number| number.into()).collect();
    let numbers = ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Float64));
    let null = lit(ScalarValue::Float64(categories.null));
    let invalid = lit(categories.invalid.as_str());
    udf().call(vec![value, labels, lit(numbers), null, invalid, lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CategoryValue {
    signature: Signature,
}

impl ScalarUDFImpl for CategoryValue {
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
            ColumnarValue::Scalar(ScalarValue::List(labels)),
            ColumnarValue::Scalar(ScalarValue::List(numbers)),
            ColumnarValue::Scalar(ScalarValue::Float64(null)),
            ColumnarValue::Scalar(mode),
            ColumnarValue::Scalar(stage),
            ColumnarValue::Scalar(column),
        ] = args.args.as_slice()
        else {
            return plan_err!("{NAME} takes a value and six literals: labels, numbers, null, mode, stage and column");
        };
        let Some(invalid) = mode.try_as_str().flatten().and_then(Invalid::parse) else {
            return plan_err!("{NAME}: the mode is error, skip or keep, got {mode}");
        };
        let table = LabelTable::of(labels)?;
        let numbers = cast(&numbers.value(0), &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>().values();
        if numbers.len() < table.len() + usize::from(invalid == Invalid::Keep) {
            return plan_err!("{NAME}: {} numbers are too few for {} labels", numbers.len(), table.len());
        }
        let values = support::as_text(&value.to_array(args.number_rows)?)?;
        let values = Texts::of(&values)?;
        let known = |value: Option<_>| value.map_or(*null, |value| table.find(value).map(|place| numbers[place]));
        let found: Result<Float64Array> = values.map(|value| match (known(value), invalid) {
            (Some(number), _) => Ok(Some(number)),
            (None, Invalid::Keep) => Ok(Some(numbers[table.len()])),
            (None, Invalid::Skip) => Ok(None),
            (None, Invalid::Error) => unseen(value, values, &stage.to_string(), &column.to_string()),
        });
        Ok(ColumnarValue::Array(Arc::new(found?)))
    }
}
