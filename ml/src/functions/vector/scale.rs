//! `vector_scale(v, by)`: each element times a number, or times the element of another vector at its place.
//!
//! Null where either is. A vector of another size is an error when the query is planned. Source: Spark ML,
//! `ElementwiseProduct`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{Expr, ScalarUDF};

use super::{Arguments, VectorFunction, Vectors, coerce_part, coerce_vector, same_size, vector_size, vectors};

const NAME: &str = "vector_scale";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns: same_size, evaluate }.udf()
}

/// A call of the function.
pub fn vector_scale(v: Expr, by: Expr) -> Expr {
    udf().call(vec![v, by])
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    let [v, by] = arg_types else {
        return plan_err!("{NAME} takes a vector and a number or vector, got {} arguments", arg_types.len());
    };
    let types = vec![coerce_vector(NAME, v)?, coerce_part(NAME, by)?];
    match (vector_size(v), vector_size(by)) {
        (Some(size), Some(other)) if size != other => {
            plan_err!("{NAME} takes vectors of one size, got {size} and {other} elements")
        }
        _ => Ok(types),
    }
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let (array, by) = (args.column(0)?, args.column(1)?);
    let scaled = Vectors::of(&array)?;
    let mut elements = Vec::with_capacity(array.len() * scaled.size());
    if vector_size(by.data_type()).is_some() {
        let by = Vectors::of(&by)?;
        for (row, by) in scaled.rows().zip(by.rows()) {
            elements.extend(row.iter().zip(by).map(|(x, by)| x * by));
        }
    } else {
        let Some(by) = by.as_primitive_opt::<Float64Type>() else {
            return exec_err!("{NAME} takes a number or vector, got {}", by.data_type());
        };
        for (row, by) in scaled.rows().zip(by.values()) {
            elements.extend(row.iter().map(|x| x * by));
        }
    }
    vectors(elements, scaled.size(), array.len(), NullBuffer::union(scaled.nulls(), by.nulls()))
}
