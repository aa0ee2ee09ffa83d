//! `vector_element(v, index)`: the element at a place, from 0, as a number.
//!
//! The index is a literal. A null vector has a null element; a null element is NaN.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, ScalarUDF, lit};

use super::{Arguments, VectorFunction, Vectors, coerce_vector, count_of};

const NAME: &str = "vector_element";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns: |_| Ok(DataType::Float64), evaluate }.udf()
}

/// A call of the function.
pub fn vector_element(v: Expr, index: usize) -> Expr {
    udf().call(vec![v, lit(index as u64)])
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v, index] => Ok(vec![coerce_vector(NAME, v)?, index.clone()]),
        _ => plan_err!("{NAME} takes a vector and an index, got {} arguments", arg_types.len()),
    }
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors = Vectors::of(&array)?;
    match args.literal(1).and_then(count_of) {
        Some(index) if index < vectors.size() => Ok(vectors.with_numbers(vectors.element(index).collect())),
        _ => plan_err!("{NAME}: the index is a literal from 0 and below the vector's size, {}", vectors.size()),
    }
}
