//! Vectors: their types, and functions over their value buffers.
//!
//! A dense vector is a fixed-size list of `Float64`; a null list is a null vector, a null element counts as NaN. A
//! sparse vector is a struct of the indices, in ascending order, and the values of the elements that are not 0; its
//! size is in its field's metadata. Sizes are part of the type: they are known when a query is planned.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, lit,
};

use super::support;

pub mod arrays;
pub mod concat;
pub mod dct;
pub mod dot;
pub mod element;
pub mod index;
pub mod norm;
pub mod outer;
pub mod polynomial;
pub mod project;
pub mod scale;
pub mod shift_scale;
pub mod slice;

/// Elements that a vector may have at most: 8 MiB for each row.
pub const MAX_SIZE: usize = 1 << 20;

/// The key of a sparse vector's size, as decimal text, in its field's metadata.
pub const SPARSE_SIZE_KEY: &str = "tidemill.vector.size";

/// The functions over vectors.
pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    vec![
        arrays::array_to_vector_udf(),
        arrays::vector_to_array_udf(),
        concat::udf(),
        dct::udf(),
        dot::udf(),
        element::udf(),
        index::udf(),
        norm::norm_udf(),
        norm::normalize_udf(),
        outer::udf(),
        polynomial::udf(),
        project::udf(),
        scale::udf(),
        shift_scale::udf(),
        slice::udf(),
    ]
}

/// The type of a dense vector.
pub fn vector_type(size: usize) -> DataType {
    DataType::FixedSizeList(element_field(), list_size(size))
}

/// The type of a sparse vector of any size.
pub fn sparse_vector_type() -> DataType {
    let list = |name: &str, item: DataType| Field::new_list(name, Field::new_list_field(item, true), true);
    DataType::Struct(Fields::from(vec![list("indices", DataType::UInt32), list("values", DataType::Float64)]))
}

/// How many elements the dense vectors of a type have; none for other types.
pub fn vector_size(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeList(item, size) if item.data_type().is_numeric() => usize::try_from(*size).ok(),
        _ => None,
    }
}

fn element_field() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

/// A size as Arrow has it; sizes that it does not hold make no array.
fn list_size(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

/// The vectors of a column, their elements one after the other.
#[derive(Debug)]
pub(crate) struct Vectors<'a> {
    elements: Cow<'a, [f64]>,
    nulls: Option<&'a NullBuffer>,
    size: usize,
    len: usize,
}

impl<'a> Vectors<'a> {
    /// Reads a column of [`vector_type`].
    pub(crate) fn of(array: &'a ArrayRef) -> Result<Self> {
        let lists = array.as_fixed_size_list_opt();
        let Some((lists, values)) = lists.and_then(|l| Some((l, l.values().as_primitive_opt::<Float64Type>()?))) else {
            return exec_err!("expected vectors of Float64, got {}", array.data_type());
        };
        let elements = if values.null_count() == 0 {
            Cow::Borrowed(&values.values()[..])
        } else {
            values.iter().map(|element| element.unwrap_or(f64::NAN)).collect()
        };
        let size = lists.value_length() as usize;
        Ok(Self { elements, nulls: lists.nulls().filter(|nulls| nulls.null_count() > 0), size, len: lists.len() })
    }

    /// How many elements each vector has.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Which vectors are null; none when all are there.
    pub(super) fn nulls(&self) -> Option<&'a NullBuffer> {
        self.nulls
    }

    /// The elements of each vector; of a null one they are arbitrary.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.len).map(move |row| self.row(row))
    }

    /// The elements of one vector.
    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.elements[row * self.size..(row + 1) * self.size]
    }

    /// The elements at one place, NaN in null vectors.
    pub(crate) fn element(&self, index: usize) -> impl Iterator<Item = f64> {
        let is_null = move |row: usize| self.nulls.is_some_and(|nulls| nulls.is_null(row));
        (0..self.len).map(move |row| if is_null(row) { f64::NAN } else { self.elements[row * self.size + index] })
    }

    /// Vectors of these elements, null where these are.
    pub(super) fn with_elements(&self, elements: Vec<f64>, size: usize) -> Result<ArrayRef> {
        vectors(elements, size, self.len, self.nulls.cloned())
    }

    /// Numbers, one for each vector, null where the vector is.
    pub(super) fn with_numbers(&self, numbers: Vec<f64>) -> ArrayRef {
        Arc::new(Float64Array::new(numbers.into(), self.nulls.cloned()))
    }
}

/// A column of `len` vectors.
pub(super) fn vectors(elements: Vec<f64>, size: usize, len: usize, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let values = Arc::new(Float64Array::from(elements));
    let lists = FixedSizeListArray::try_new_with_length(element_field(), list_size(size), values, nulls, len)?;
    Ok(Arc::new(lists))
}

/// A function over vectors: its name says what it is.
pub(super) struct VectorFunction {
    pub(super) name: &'static str,
    /// The types that the arguments are cast to.
    pub(super) coerce: fn(&[DataType]) -> Result<Vec<DataType>>,
    /// The type of the result, which may depend on literal arguments.
    pub(super) returns: fn(&ReturnFieldArgs<'_>) -> Result<DataType>,
    /// The result for each row.
    pub(super) evaluate: fn(&Arguments) -> Result<ArrayRef>,
}

impl VectorFunction {
    /// The function as DataFusion calls it.
    pub(super) fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Registered { function: self, signature: support::own_coercion() }))
    }
}

/// The arguments of a call.
pub(super) struct Arguments(ScalarFunctionArgs);

impl Arguments {
    /// How many rows the result has.
    pub(super) fn n_rows(&self) -> usize {
        self.0.number_rows
    }

    /// An argument as a column.
    pub(super) fn column(&self, index: usize) -> Result<ArrayRef> {
        match self.0.args.get(index) {
            Some(arg) => arg.to_array(self.n_rows()),
            None => exec_err!("expected argument {index}, got {}", self.0.args.len()),
        }
    }

    /// All arguments as columns.
    pub(super) fn columns(&self) -> Result<Vec<ArrayRef>> {
        (0..self.0.args.len()).map(|index| self.column(index)).collect()
    }

    /// A literal argument.
    pub(super) fn literal(&self, index: usize) -> Option<&ScalarValue> {
        match self.0.args.get(index) {
            Some(ColumnarValue::Scalar(literal)) => Some(literal),
            _ => None,
        }
    }

    /// The literal arguments from one on; none when any is not literal.
    pub(super) fn literals_from(&self, first: usize) -> Option<Vec<&ScalarValue>> {
        (first..self.0.args.len()).map(|index| self.literal(index)).collect()
    }
}

/// The whole number from 0 that a literal is.
pub(super) fn count_of(literal: &ScalarValue) -> Option<usize> {
    if !literal.data_type().is_integer() {
        return None;
    }
    match literal.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(count))) => usize::try_from(count).ok(),
        _ => None,
    }
}

/// The whole number from 0 that an argument is literally, when the call is planned.
pub(super) fn planned_count(args: &ReturnFieldArgs<'_>, index: usize) -> Option<usize> {
    args.scalar_arguments.get(index).copied().flatten().and_then(count_of)
}

/// A literal list of numbers.
pub(super) fn number_list(numbers: &[f64]) -> Expr {
    let numbers: Vec<ScalarValue> = numbers.iter().map(|&number| number.into()).collect();
    lit(ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Float64)))
}

/// The numbers of a literal list.
pub(super) fn numbers_of(literal: &ScalarValue) -> Option<Vec<f64>> {
    let ScalarValue::List(list) = literal else { return None };
    let numbers = list.values().as_primitive_opt::<Float64Type>()?;
    (list.len() == 1 && numbers.null_count() == 0).then(|| numbers.values().to_vec())
}

/// How many elements the vectors of an argument have.
pub(super) fn argument_size(args: &ReturnFieldArgs<'_>, index: usize) -> usize {
    args.arg_fields.get(index).and_then(|field| vector_size(field.data_type())).unwrap_or(0)
}

/// The type of vectors of the first argument's size.
pub(super) fn same_size(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(vector_type(argument_size(args, 0)))
}

/// The type of vectors of this size, which must be within bounds.
pub(super) fn checked_type(function: &str, size: usize) -> Result<DataType> {
    if size <= MAX_SIZE {
        return Ok(vector_type(size));
    }
    plan_err!("{function} would give vectors of {size} elements; expected at most {MAX_SIZE}")
}

struct Registered {
    function: VectorFunction,
    signature: Signature,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.name)
    }
}

impl PartialEq for Registered {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Registered {}

impl Hash for Registered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Registered {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        (self.function.coerce)(arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        plan_err!("{}: its type is known from its arguments only", self.function.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.function.name, (self.function.returns)(&args)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array((self.function.evaluate)(&Arguments(args))?))
    }
}

/// The type that a number, a boolean or a vector is cast to.
pub(super) fn coerce_part(function: &str, arg: &DataType) -> Result<DataType> {
    match vector_size(arg) {
        Some(size) => Ok(vector_type(size)),
        None => support::check_number(function, arg).map(|()| DataType::Float64),
    }
}

/// The type that a vector is cast to.
pub(super) fn coerce_vector(function: &str, arg: &DataType) -> Result<DataType> {
    match vector_size(arg) {
        Some(size) => Ok(vector_type(size)),
        None => plan_err!("{function} takes a vector (a fixed-size list of numbers), got {arg}"),
    }
}

#[cfg(test)]
mod tests;
