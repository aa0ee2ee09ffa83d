//! `vector_dot(a, b)`: the sum of the products of two vectors' elements, added up in their order.
//!
//! Null where either vector is; NaN elements make it NaN. Vectors of two sizes are an error when the query is planned.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::{Arguments, VectorFunction, Vectors, coerce_vector};

const NAME: &str = "vector_dot";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns: |_| Ok(DataType::Float64), evaluate }.udf()
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    let [a, b] = arg_types else {
        return plan_err!("{NAME} takes two vectors, got {} arguments", arg_types.len());
    };
    let types = vec![coerce_vector(NAME, a)?, coerce_vector(NAME, b)?];
    if types[0] == types[1] {
        return Ok(types);
    }
    plan_err!("{NAME} takes two vectors of one size, got {} and {}", types[0], types[1])
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let (a, b) = (args.column(0)?, args.column(1)?);
    let (a, b) = (Vectors::of(&a)?, Vectors::of(&b)?);
    let dot = |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let dots: Vec<f64> = a.rows().zip(b.rows()).map(dot).collect();
    Ok(Arc::new(Float64Array::new(dots.into(), NullBuffer::union(a.nulls(), b.nulls()))))
}
