//! What the functions share: argument checks, literals and reading of partial states.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{ColumnarValue, Expr, Signature, Volatility, lit};
use datafusion::physical_expr::expressions::Literal;

use super::exact::take;

/// The signature of a function that checks and coerces its own arguments.
pub(super) fn own_coercion() -> Signature {
    Signature::user_defined(Volatility::Immutable)
}

/// Coerces a numeric (or boolean) argument to `Float64`, and the condition that may follow it.
pub(super) fn coerce_number(function: &str, arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [x] => check_number(function, x).map(|()| vec![DataType::Float64]),
        [x, include] => {
            check_number(function, x)?;
            check_condition(function, include)?;
            Ok(vec![DataType::Float64, DataType::Boolean])
        }
        _ => plan_err!("{function} takes a number and, if wanted, a condition, got {} arguments", arg_types.len()),
    }
}

/// Checks that an argument is a condition.
pub(super) fn check_condition(function: &str, include: &DataType) -> Result<()> {
    if matches!(include, DataType::Boolean | DataType::Null) {
        return Ok(());
    }
    plan_err!("{function} takes a condition as its last argument, got {include}")
}

/// Checks that a value is a number.
pub(crate) fn check_number(function: &str, arg: &DataType) -> Result<()> {
    if arg.is_numeric() || matches!(arg, DataType::Null | DataType::Boolean) {
        return Ok(());
    }
    plan_err!("{function} takes a number, got {arg}")
}

/// Calls `f` with each number of the first argument that is not null and whose row the last argument includes, if that
/// is a condition.
pub(super) fn for_each_number(values: &[ArrayRef], mut f: impl FnMut(f64)) -> Result<()> {
    let Some(numbers) = values.first().and_then(|v| v.as_primitive_opt::<Float64Type>()) else {
        return exec_err!("expected a Float64 column, got {:?}", values.first().map(|v| v.data_type().clone()));
    };
    match condition(values) {
        None if numbers.null_count() == 0 => numbers.values().iter().for_each(|&v| f(v)),
        None => numbers.iter().flatten().for_each(f),
        Some(include) => {
            for (row, &number) in numbers.values().iter().enumerate() {
                if include.value(row) && include.is_valid(row) && numbers.is_valid(row) {
                    f(number);
                }
            }
        }
    }
    Ok(())
}

/// Whether a condition includes a row.
pub(super) fn is_included(condition: Option<&BooleanArray>, row: usize) -> bool {
    condition.is_none_or(|condition| condition.is_valid(row) && condition.value(row))
}

/// The last argument, if it is a condition.
pub(super) fn condition(values: &[ArrayRef]) -> Option<&BooleanArray> {
    values.get(1..)?.last()?.as_boolean_opt()
}

/// The literal that an aggregate has as its argument number `index`.
pub(crate) fn literal_argument(args: &AccumulatorArgs<'_>, index: usize) -> Option<ScalarValue> {
    args.exprs.get(index)?.downcast_ref::<Literal>().map(|literal| literal.value().clone())
}

/// Puts a text after its length.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_part(bytes, text.as_bytes());
}

/// Puts bytes after their length.
pub(crate) fn put_part(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend((part.len() as u32).to_le_bytes());
    bytes.extend(part);
}

/// Takes what was put after its length off the front of `bytes`; none when they end before it.
pub(crate) fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(take(bytes)?) as usize;
    let (part, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(part)
}

/// Takes a text off the front of `bytes`; none when they end before it or are no text.
pub(super) fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_part(bytes)?).ok()
}

/// The error of a partial state that this version did not write.
pub(super) fn damaged<T>(function: &str) -> Result<T> {
    exec_err!("{function}: a partial state is damaged or was written by another version")
}

/// Values as text: views as they are, all others as `Utf8`.
pub(super) fn as_text(values: &ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Utf8 | DataType::Utf8View => Ok(Arc::clone(values)),
        _ => Ok(cast(values, &DataType::Utf8)?),
    }
}

/// The field of the tokens in a list.
pub(super) fn token_field() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Utf8, true))
}

/// The type of a list of tokens.
pub(crate) fn tokens_type() -> DataType {
    DataType::List(token_field())
}

/// The name of a call in plans, which planning writes out again and again: a literal list, which may have tens of
/// thousands of items, is told by their number.
pub(super) fn call_name(function: &str, args: &[Expr]) -> Result<String> {
    let name = |arg: &Expr| match arg {
        Expr::Literal(ScalarValue::List(list), _) => format!("[{} items]", list.values().len()),
        other => other.schema_name().to_string(),
    };
    let names: Vec<String> = args.iter().map(name).collect();
    Ok(format!("{function}({})", names.join(",")))
}

/// A literal list of text.
pub(super) fn text_list(texts: impl Iterator<Item = String>) -> Expr {
    let texts: Vec<ScalarValue> = texts.map(ScalarValue::from).collect();
    lit(ScalarValue::List(ScalarValue::new_list_nullable(&texts, &DataType::Utf8)))
}

/// A literal list of these items.
pub(super) fn literal_list(items: ArrayRef) -> Expr {
    lit(SingleRowListArrayBuilder::new(items).build_list_scalar())
}

/// The text that an argument of a scalar function is literally.
pub(super) fn text_literal(arg: &ColumnarValue) -> Option<&str> {
    match arg {
        ColumnarValue::Scalar(scalar) => scalar.try_as_str().flatten(),
        ColumnarValue::Array(_) => None,
    }
}

/// The flag that an argument of a scalar function is literally.
pub(super) fn flag_literal(arg: &ColumnarValue) -> Option<bool> {
    match arg {
        ColumnarValue::Scalar(ScalarValue::Boolean(flag)) => *flag,
        _ => None,
    }
}

/// The number from 0 that an argument of a scalar function is literally.
pub(super) fn count_literal(arg: &ColumnarValue) -> Option<usize> {
    match arg {
        ColumnarValue::Scalar(ScalarValue::Int64(count)) => usize::try_from((*count)?).ok(),
        _ => None,
    }
}

/// An argument of a scalar function as an array of a type; a null in it fails, naming stage and column.
pub(super) fn present(
    value: &ColumnarValue,
    n_rows: usize,
    data_type: &DataType,
    stage: &ColumnarValue,
    column: &ColumnarValue,
) -> Result<ArrayRef> {
    let array = cast(&value.to_array(n_rows)?, data_type)?;
    if array.null_count() == 0 {
        return Ok(array);
    }
    let (stage, column) = (text_literal(stage).unwrap_or_default(), text_literal(column).unwrap_or_default());
    exec_err!(
        "stage {stage}: column {column:?} has a null in {} of {} rows; fill it in with coalesce in SQL, or leave such \
         rows out",
        array.null_count(),
        array.len()
    )
}
