//! `vector_to_array(v)`: a vector as a list of numbers; `array_to_vector(list, size)`: a list of numbers as a vector.
//!
//! Null stays null. A null element of a vector is NaN in the list, and the other way round. The size is a literal; a
//! list of another length is an error when it is met, naming the column that may follow as a literal too. Source: Spark
//! ML, `vector_to_array` and `array_to_vector`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF, lit};

use super::{
    Arguments, VectorFunction, Vectors, checked_type, coerce_vector, count_of, element_field, planned_count, vectors,
};

const TO_ARRAY: &str = "vector_to_array";
const TO_VECTOR: &str = "array_to_vector";

/// The function that gives a list.
pub fn vector_to_array_udf() -> Arc<ScalarUDF> {
    VectorFunction { name: TO_ARRAY, coerce: coerce_one, returns: |_| Ok(list_type()), evaluate: lists }.udf()
}

/// The function that gives a vector.
pub fn array_to_vector_udf() -> Arc<ScalarUDF> {
    VectorFunction { name: TO_VECTOR, coerce: coerce_list, returns: of_size, evaluate: of_lists }.udf()
}

/// A call of the function that gives a vector; `column` is for messages.
pub(crate) fn array_to_vector(list: Expr, size: usize, column: &str) -> Expr {
    array_to_vector_udf().call(vec![list, lit(size as u64), lit(column)])
}

/// A list of numbers.
fn list_type() -> DataType {
    DataType::List(element_field())
}

fn coerce_one(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v] => Ok(vec![coerce_vector(TO_ARRAY, v)?]),
        _ => plan_err!("{TO_ARRAY} takes a vector, got {} arguments", arg_types.len()),
    }
}

fn of_size(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    match planned_count(args, 1) {
        Some(size) => checked_type(TO_VECTOR, size),
        None => plan_err!("{TO_VECTOR}: the size is a literal whole number from 0"),
    }
}

fn coerce_list(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    let [list, others @ ..] = arg_types else {
        return plan_err!("{TO_VECTOR} takes a list and a size");
    };
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if item.data_type().is_numeric() || item.data_type().is_null() =>
        {
            Ok([list_type()].into_iter().chain(others.iter().cloned()).collect())
        }
        other => plan_err!("{TO_VECTOR} takes a list of numbers, got {other}"),
    }
}

fn lists(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors = Vectors::of(&array)?;
    let mut elements = Vec::with_capacity(array.len() * vectors.size());
    vectors.rows().for_each(|row| elements.extend_from_slice(row));
    if i32::try_from(elements.len()).is_err() {
        return exec_err!("{TO_ARRAY}: {} elements are more than the lists of a batch may have", elements.len());
    }
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(vectors.size(), array.len()));
    let values = Arc::new(Float64Array::from(elements));
    Ok(Arc::new(ListArray::try_new(element_field(), offsets, values, vectors.nulls().cloned())?))
}

fn of_lists(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let Some(size) = args.literal(1).and_then(count_of) else {
        return plan_err!("{TO_VECTOR}: the size is a literal whole number from 0");
    };
    let lists: &ListArray = array.as_list();
    let numbers: &Float64Array = lists.values().as_primitive::<Float64Type>();
    let mut elements = Vec::with_capacity(array.len() * size);
    for (row, bounds) in lists.offsets().windows(2).enumerate() {
        let (start, end) = (bounds[0] as usize, bounds[1] as usize);
        if lists.is_null(row) {
            elements.resize(elements.len() + size, f64::NAN);
        } else if end - start != size {
            let column = args.literal(2).map(|column| format!("column \"{column}\": ")).unwrap_or_default();
            return exec_err!("{column}a list has {} elements; expected {size}", end - start);
        } else if numbers.null_count() == 0 {
            elements.extend_from_slice(&numbers.values()[start..end]);
        } else {
            elements.extend((start..end).map(|i| if numbers.is_null(i) { f64::NAN } else { numbers.value(i) }));
        }
    }
    vectors(elements, size, array.len(), lists.nulls().cloned())
}
