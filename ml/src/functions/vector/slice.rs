//! `vector_slice(v, index, ...)`: the elements at these places, from 0, as a vector in this order.
//!
//! The indices are literals. Null stays null. Source: Spark ML, `VectorSlicer`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF, lit};

use super::{Arguments, VectorFunction, Vectors, argument_size, checked_type, coerce_vector, count_of};

const NAME: &str = "vector_slice";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns, evaluate }.udf()
}

/// A call of the function.
pub fn vector_slice(v: Expr, indices: &[usize]) -> Expr {
    udf().call([v].into_iter().chain(indices.iter().map(|&index| lit(index as u64))).collect())
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v, _, ..] => Ok([coerce_vector(NAME, v)?].into_iter().chain(arg_types[1..].iter().cloned()).collect()),
        _ => plan_err!("{NAME} takes a vector and at least one index, got {} arguments", arg_types.len()),
    }
}

fn returns(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    let literals: Option<Vec<&ScalarValue>> = args.scalar_arguments.iter().skip(1).copied().collect();
    let n = indices(literals, argument_size(args, 0))?.len();
    checked_type(NAME, n)
}

/// The indices that the arguments after the vector are.
fn indices(literals: Option<Vec<&ScalarValue>>, size: usize) -> Result<Vec<usize>> {
    let Some(literals) = literals else {
        return plan_err!("{NAME}: the indices are literals");
    };
    let index = |literal: &ScalarValue| match count_of(literal) {
        Some(index) if index < size => Ok(index),
        _ => plan_err!("{NAME}: an index is a whole number from 0 and below the vector's size, {size}, got {literal}"),
    };
    literals.into_iter().map(index).collect()
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors = Vectors::of(&array)?;
    let indices = indices(args.literals_from(1), vectors.size())?;
    let mut elements = Vec::with_capacity(array.len() * indices.len());
    for row in vectors.rows() {
        elements.extend(indices.iter().map(|&index| row[index]));
    }
    vectors.with_elements(elements, indices.len())
}
