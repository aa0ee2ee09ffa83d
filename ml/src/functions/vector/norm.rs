//! `vector_norm(v, p)`: the p-norm of a vector; `vector_normalize(v, p)`: the vector over its norm.
//!
//! `p` is a literal of at least 1, 2 without one. With `p` infinite the norm is the largest magnitude, NaN elements
//! aside; otherwise NaN elements make it NaN. A vector whose norm is 0 stays as it is. Null stays null. Source: Spark
//! ML, `Normalizer`.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, ScalarUDF, lit};

use super::{Arguments, VectorFunction, Vectors, coerce_vector, same_size};
use crate::functions::support;

const NORM: &str = "vector_norm";
const NORMALIZE: &str = "vector_normalize";

/// The function that gives the norm.
pub fn norm_udf() -> Arc<ScalarUDF> {
    let coerce = |types: &[DataType]| coerce(NORM, types);
    VectorFunction { name: NORM, coerce, returns: |_| Ok(DataType::Float64), evaluate: norms }.udf()
}

/// The function that divides by it.
pub fn normalize_udf() -> Arc<ScalarUDF> {
    let coerce = |types: &[DataType]| coerce(NORMALIZE, types);
    VectorFunction { name: NORMALIZE, coerce, returns: same_size, evaluate: normalized }.udf()
}

/// A call of the function that divides by the norm.
pub fn vector_normalize(v: Expr, p: f64) -> Expr {
    normalize_udf().call(vec![v, lit(p)])
}

fn coerce(function: &str, arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v] => Ok(vec![coerce_vector(function, v)?]),
        [v, p] => {
            support::check_number(function, p)?;
            Ok(vec![coerce_vector(function, v)?, p.clone()])
        }
        _ => plan_err!("{function} takes a vector and, if wanted, a literal p, got {} arguments", arg_types.len()),
    }
}

fn norms(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let (vectors, p) = (Vectors::of(&array)?, exponent(NORM, args)?);
    Ok(vectors.with_numbers(vectors.rows().map(|row| norm(row, p)).collect()))
}

fn normalized(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let (vectors, p) = (Vectors::of(&array)?, exponent(NORMALIZE, args)?);
    let mut elements = Vec::with_capacity(array.len() * vectors.size());
    for row in vectors.rows() {
        let norm = norm(row, p);
        let divisor = if norm == 0.0 { 1.0 } else { norm };
        elements.extend(row.iter().map(|x| x / divisor));
    }
    vectors.with_elements(elements, vectors.size())
}

/// The literal `p`.
fn exponent(function: &str, args: &Arguments) -> Result<f64> {
    let given = match args.literals_from(1) {
        Some(literals) if literals.is_empty() => return Ok(2.0),
        Some(literals) => literals[0].cast_to(&DataType::Float64)?,
        None => return plan_err!("{function}: p is a literal number"),
    };
    match given {
        ScalarValue::Float64(Some(p)) if p >= 1.0 => Ok(p),
        other => plan_err!("{function}: p is a number of at least 1, got {other}"),
    }
}

fn norm(row: &[f64], p: f64) -> f64 {
    if p == 1.0 {
        row.iter().map(|x| x.abs()).sum()
    } else if p == 2.0 {
        row.iter().map(|x| x * x).sum::<f64>().sqrt()
    } else if p.is_infinite() {
        row.iter().fold(0.0, |largest, x| x.abs().max(largest))
    } else {
        row.iter().map(|x| x.abs().powf(p)).sum::<f64>().powf(1.0 / p)
    }
}
