//! `tidemill_project(v, weights)`: a vector times a matrix.
//!
//! `weights` is a literal list of the matrix's columns, one after the other, each with as many numbers as the vector.
//! Null stays null; NaN elements make everything NaN.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF};

use super::{Arguments, VectorFunction, Vectors, argument_size, coerce_vector, number_list, numbers_of, vector_type};

const NAME: &str = "tidemill_project";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns, evaluate }.udf()
}

/// A call of the function.
pub(crate) fn project(v: Expr, columns: &[Vec<f64>]) -> Expr {
    udf().call(vec![v, number_list(&columns.concat())])
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v, weights] => Ok(vec![coerce_vector(NAME, v)?, weights.clone()]),
        _ => plan_err!("{NAME} takes a vector and a literal list, got {} arguments", arg_types.len()),
    }
}

/// The weights of vectors of `size` elements.
fn weights(literal: Option<&ScalarValue>, size: usize) -> Result<Vec<f64>> {
    match literal.and_then(numbers_of) {
        Some(weights) if size > 0 && weights.len() % size == 0 => Ok(weights),
        _ => plan_err!("{NAME}: the weights are a literal list of {size} numbers for each element of the result"),
    }
}

fn returns(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    let size = argument_size(args, 0);
    let weights = weights(args.scalar_arguments.get(1).copied().flatten(), size)?;
    Ok(vector_type(weights.len() / size))
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors = Vectors::of(&array)?;
    let weights = weights(args.literal(1), vectors.size())?;
    let n_columns = weights.len() / vectors.size();
    let mut elements = Vec::with_capacity(array.len() * n_columns);
    for row in vectors.rows() {
        let columns = weights.chunks_exact(row.len());
        elements.extend(columns.map(|column| row.iter().zip(column).map(|(x, w)| x * w).sum::<f64>()));
    }
    vectors.with_elements(elements, n_columns)
}
