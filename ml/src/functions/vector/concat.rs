//! `vector(part, ...)`: one vector out of numbers and vectors, one after the other.
//!
//! Its size is the sum of theirs, a number's being 1. Booleans are 0 and 1. A null number is NaN, a null vector as many
//! NaN as it has elements: the result is never null. `vector_concat` is another name for it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF, lit};

use super::{Arguments, VectorFunction, Vectors, checked_type, coerce_part, vector_size, vectors};

const NAME: &str = "vector";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    let function = VectorFunction { name: NAME, coerce, returns, evaluate }.udf();
    Arc::new(function.as_ref().clone().with_aliases(["vector_concat"]))
}

/// A call of the function.
pub fn vector(parts: Vec<Expr>) -> Expr {
    udf().call(parts)
}

/// A vector of constants.
pub fn weights(numbers: &[f64]) -> Expr {
    vector(numbers.iter().map(|&number| lit(number)).collect())
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    arg_types.iter().map(|arg| coerce_part(NAME, arg)).collect()
}

fn returns(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    checked_type(NAME, args.arg_fields.iter().map(|field| part_size(field.data_type())).sum())
}

/// How many elements a part gives.
fn part_size(part: &DataType) -> usize {
    vector_size(part).unwrap_or(1)
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let parts = args.columns()?;
    let size = parts.iter().map(|part| part_size(part.data_type())).sum();
    // Nulls keep the NaN that is there from the start.
    let mut elements = vec![f64::NAN; size * args.n_rows()];
    let mut start = 0;
    for part in &parts {
        if vector_size(part.data_type()).is_some() {
            write_vectors(&Vectors::of(part)?, &mut elements, start, size);
        } else {
            write_numbers(part, &mut elements, start, size)?;
        }
        start += part_size(part.data_type());
    }
    vectors(elements, size, args.n_rows(), None)
}

fn write_vectors(vectors: &Vectors<'_>, elements: &mut [f64], start: usize, size: usize) {
    for (row, part) in vectors.rows().enumerate() {
        if vectors.nulls().is_none_or(|nulls| nulls.is_valid(row)) {
            let first = row * size + start;
            elements[first..first + part.len()].copy_from_slice(part);
        }
    }
}

fn write_numbers(numbers: &ArrayRef, elements: &mut [f64], start: usize, size: usize) -> Result<()> {
    let Some(numbers) = numbers.as_primitive_opt::<Float64Type>() else {
        return exec_err!("{NAME} takes numbers and vectors, got {}", numbers.data_type());
    };
    for (number, element) in numbers.iter().zip(elements.iter_mut().skip(start).step_by(size)) {
        *element = number.unwrap_or(f64::NAN);
    }
    Ok(())
}
