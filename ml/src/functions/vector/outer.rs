//! `vector_outer(a, b)`: each element of one vector times each of another, as one vector.
//!
//! The first vector's elements come slowest: `[a0 * b0, a0 * b1, ..., a1 * b0, ...]`. Null where either is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF};

use super::{Arguments, VectorFunction, Vectors, argument_size, checked_type, coerce_vector, vectors};

const NAME: &str = "vector_outer";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns, evaluate }.udf()
}

/// A call of the function.
pub fn vector_outer(a: Expr, b: Expr) -> Expr {
    udf().call(vec![a, b])
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [a, b] => Ok(vec![coerce_vector(NAME, a)?, coerce_vector(NAME, b)?]),
        _ => plan_err!("{NAME} takes two vectors, got {} arguments", arg_types.len()),
    }
}

fn returns(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    checked_type(NAME, argument_size(args, 0).saturating_mul(argument_size(args, 1)))
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let (left, right) = (args.column(0)?, args.column(1)?);
    let (a, b) = (Vectors::of(&left)?, Vectors::of(&right)?);
    let size = a.size() * b.size();
    let mut elements = Vec::with_capacity(left.len() * size);
    for (a, b) in a.rows().zip(b.rows()) {
        elements.extend(a.iter().flat_map(|&a| b.iter().map(move |&b| a * b)));
    }
    vectors(elements, size, left.len(), NullBuffer::union(a.nulls(), b.nulls()))
}
