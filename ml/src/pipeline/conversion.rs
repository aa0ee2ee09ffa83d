//! Columns of another type than a model was fitted on: read without loss, or refused.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;

use crate::{MlError, Result};

/// The type that stands for a column's type in models: how text, dictionaries and lists are laid out does not matter.
pub(crate) fn normalised(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => normalised(values),
        DataType::List(item) => DataType::new_list(normalised(item.data_type()), true),
        DataType::FixedSizeList(item, n) => DataType::new_fixed_size_list(normalised(item.data_type()), *n, true),
        text if text.is_string() => DataType::Utf8,
        other => other.clone(),
    }
}

/// Whether the values of a type may be read as another's: the same kind of value, to be checked one by one.
fn is_same_kind(from: &DataType, to: &DataType) -> bool {
    let (from, to) = (normalised(from), normalised(to));
    from == to || from == DataType::Null || (from.is_numeric() && to.is_numeric())
}

/// Whether each value of a type is one of another's too; 64-bit integers count as `Float64` (exact to 2^53).
fn is_wider(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, Null, UInt8, UInt16, UInt32, UInt64};
    let (from, to) = (normalised(from), normalised(to));
    if from == to || from == Null {
        return true;
    }
    match to {
        Float64 => from.is_integer() || from == Float32,
        Float32 => matches!(from, Int8 | Int16 | UInt8 | UInt16),
        Int64 => matches!(from, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
        Int32 => matches!(from, Int8 | Int16 | UInt8 | UInt16),
        Int16 => matches!(from, Int8 | UInt8),
        UInt64 => matches!(from, UInt8 | UInt16 | UInt32),
        UInt32 => matches!(from, UInt8 | UInt16),
        UInt16 => matches!(from, UInt8),
        _ => false,
    }
}

/// Checks that a plan may cast a column to the type that a model reads.
pub(super) fn check_plan_type(column: &str, from: &DataType, to: &DataType) -> Result<()> {
    if is_wider(from, to) { Ok(()) } else { Err(wrong_type(column, from, to)) }
}

/// Checks that a column of a batch may be converted, if its values turn out to fit.
pub(super) fn check_batch_type(column: &str, from: &DataType, to: &DataType) -> Result<()> {
    if is_same_kind(from, to) { Ok(()) } else { Err(wrong_type(column, from, to)) }
}

/// The column in the type that a model reads.
///
/// # Errors
/// A type of another kind, or a number that the model's type does not hold.
pub(super) fn convert(column: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(ArrayRef::clone(array));
    }
    check_batch_type(column, array.data_type(), to)?;
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let converted = cast_with_options(array, to, &options)?;
    if to.is_numeric() && !is_exact(array, &converted)? {
        return Err(MlError::Invalid(format!(
            "column {column:?} is {} and has values that {to}, which the model reads, does not hold; cast it in SQL",
            array.data_type()
        )));
    }
    Ok(converted)
}

fn is_exact(array: &ArrayRef, converted: &ArrayRef) -> Result<bool> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let back = cast_with_options(converted, array.data_type(), &options)?;
    if array.data_type().is_null() {
        return Ok(true);
    }
    let (array, back) = (plain(array)?, plain(&back)?);
    let same: BooleanArray = not_distinct(&array, &back)?;
    Ok(same.true_count() == same.len())
}

fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(arrow::compute::cast(array, &normalised(array.data_type()))?)
}

fn wrong_type(column: &str, from: &DataType, to: &DataType) -> MlError {
    MlError::Invalid(format!("column {column:?} is {from}; the model reads {to}; cast it in SQL"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float64Array, Int64Array, StringViewArray};
    use arrow::datatypes::{Float64Type, Int32Type};

    use super::*;

    #[test]
    fn numbers_are_converted_when_nothing_is_lost() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None]));
        let converted = convert("x", &array, &DataType::Float64).unwrap();
        assert_eq!(converted.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(3.0), None]);
        let array: ArrayRef = Arc::new(Float64Array::from(vec![3.0, f64::NAN]));
        assert!(convert("x", &array, &DataType::Float32).is_ok());
        let array: ArrayRef = Arc::new(Float64Array::from(vec![3.0]));
        assert_eq!(convert("x", &array, &DataType::Int32).unwrap().as_primitive::<Int32Type>().value(0), 3);
    }

    #[test]
    fn a_loss_names_the_column() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
        let error = convert("distance", &array, &DataType::Float64).unwrap_err().to_string();
        assert!(error.starts_with("column \"distance\" is Int64 and has values that Float64"), "{error}");
        let array: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        assert!(convert("x", &array, &DataType::Int32).is_err());
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["1"]));
        let error = convert("x", &text, &DataType::Float64).unwrap_err().to_string();
        assert_eq!(error, "column \"x\" is Utf8View; the model reads Float64; cast it in SQL");
        assert!(convert("x", &text, &DataType::Utf8).is_ok());
    }
}
