//! `exact_covariances(v [, include])`: the sample covariance matrix of the elements of vectors, row by row as a list.
//!
//! Each number is rounded once, and does not depend on the order and partitioning of the rows. Null vectors, and rows
//! for which `include` is not true, are left out. Numbers are NaN with fewer than two vectors, and in the rows and
//! columns of elements that are NaN or infinite in any row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::exact::ExactCovariances;
use super::support;
use super::vector::{Vectors, coerce_vector, vector_size};

/// Elements that vectors may have at most: the state of each partition has about 64 MiB then.
pub const MAX_ELEMENTS: usize = 360;

const NAME: &str = "exact_covariances";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<CovariancesOf>()
}

/// A call of the function.
pub fn exact_covariances(v: Expr) -> Expr {
    udaf().call(vec![v])
}

/// Reads the function's result.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Vec<f64>> {
    let ScalarValue::List(list) = value else {
        return exec_err!("expected the list that {NAME} gives, got {}", value.data_type());
    };
    match list.values().as_primitive_opt::<Float64Type>() {
        Some(numbers) => Ok(numbers.values().to_vec()),
        None => exec_err!("expected the numbers that {NAME} gives, got {}", list.data_type()),
    }
}

#[derive(Debug)]
struct CovariancesOf(ExactCovariances);

impl Aggregate for CovariancesOf {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [v] => Ok(vec![coerce_vector(NAME, v)?]),
            [v, include] => {
                support::check_condition(NAME, include)?;
                Ok(vec![coerce_vector(NAME, v)?, DataType::Boolean])
            }
            _ => plan_err!("{NAME} takes a vector and, if wanted, a condition, got {} arguments", arg_types.len()),
        }
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::new_list(DataType::Float64, true)
    }

    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let size = args.expr_fields.first().and_then(|field| vector_size(field.data_type()));
        match size {
            Some(size) if size <= MAX_ELEMENTS => Ok(Self(ExactCovariances::new(size))),
            Some(size) => plan_err!("{NAME} takes vectors of at most {MAX_ELEMENTS} elements, got {size}"),
            None => plan_err!("{NAME} takes vectors"),
        }
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(array) = values.first() else {
            return exec_err!("{NAME}: expected vectors, got nothing");
        };
        let (vectors, include) = (Vectors::of(array)?, support::condition(values));
        for (row, vector) in vectors.rows().enumerate() {
            let is_there = vectors.nulls().is_none_or(|nulls| nulls.is_valid(row));
            if is_there && support::is_included(include, row) {
                self.0.add(vector);
            }
        }
        Ok(())
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.0.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let numbers: Vec<ScalarValue> = self.0.matrix().into_iter().map(ScalarValue::from).collect();
        Ok(ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Float64)))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
