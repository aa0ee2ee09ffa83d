//! `tidemill_vector_index(v, counts, values, mode, column)`: category indices for the elements that are categories.
//!
//! `counts` is a literal list of how many categories each element has, 0 for one that stays as it is, and `values` of
//! the categories' values, element by element in the order of their indices. A value that is not among them is the
//! number of categories with mode `keep`, makes the vector null with `skip` (the rows' predicate leaves it out), and
//! with `error` is an error naming column, element and value. Null stays null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{Expr, ScalarUDF, lit};

use super::{Arguments, VectorFunction, Vectors, coerce_vector, number_list, numbers_of, same_size, vectors};
use crate::functions::category_index::Invalid;

const NAME: &str = "tidemill_vector_index";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns: same_size, evaluate }.udf()
}

/// A call of the function; `categories` has a list for each element, empty for one that stays as it is.
pub(crate) fn vector_index(v: Expr, categories: &[Vec<f64>], invalid: Invalid, column: &str) -> Expr {
    let counts: Vec<f64> = categories.iter().map(|values| values.len() as f64).collect();
    let lists = [number_list(&counts), number_list(&categories.concat())];
    udf().call([v].into_iter().chain(lists).chain([lit(invalid.as_str()), lit(column)]).collect())
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v, _, _, _, _] => Ok([coerce_vector(NAME, v)?].into_iter().chain(arg_types[1..].iter().cloned()).collect()),
        _ => plan_err!("{NAME} takes a vector and four literals, got {} arguments", arg_types.len()),
    }
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors_in = Vectors::of(&array)?;
    let list = |index| args.literal(index).and_then(numbers_of);
    let (Some(counts), Some(values)) = (list(1), list(2)) else {
        return plan_err!("{NAME}: counts and values are literal lists of numbers");
    };
    let mode = args.literal(3).and_then(|mode| mode.try_as_str().flatten()).and_then(Invalid::parse);
    let (Some(invalid), Some(column)) = (mode, args.literal(4)) else {
        return plan_err!("{NAME}: the mode is error, skip or keep");
    };
    let indices = Indices { categories: categories(&counts, &values), invalid, column };
    let is_there = |row: usize| vectors_in.nulls().is_none_or(|nulls| nulls.is_valid(row));
    let mut elements = Vec::with_capacity(array.len() * vectors_in.size());
    let mut is_kept = Vec::with_capacity(array.len());
    for (row, vector) in vectors_in.rows().enumerate() {
        is_kept.push(is_there(row) && indices.write(vector, &mut elements)?);
        elements.resize(is_kept.len() * vector.len(), f64::NAN);
    }
    let nulls = NullBuffer::from(is_kept);
    vectors(elements, vectors_in.size(), array.len(), Some(nulls))
}

/// The values of each element's categories.
fn categories<'a>(counts: &[f64], mut values: &'a [f64]) -> Vec<&'a [f64]> {
    let take = |count: &f64| {
        let (own, rest) = values.split_at((*count as usize).min(values.len()));
        values = rest;
        own
    };
    counts.iter().map(take).collect()
}

struct Indices<'a> {
    /// For each element; empty for one that stays as it is.
    categories: Vec<&'a [f64]>,
    invalid: Invalid,
    column: &'a ScalarValue,
}

impl Indices<'_> {
    /// Appends a vector's elements; false where one is not among its categories and the row is to be left out.
    fn write(&self, vector: &[f64], elements: &mut Vec<f64>) -> Result<bool> {
        for (i, (&x, categories)) in vector.iter().zip(&self.categories).enumerate() {
            let index = categories.iter().position(|category| *category == x);
            elements.push(match (index, self.invalid) {
                _ if categories.is_empty() => x,
                (Some(index), _) => index as f64,
                (None, Invalid::Keep) => categories.len() as f64,
                (None, Invalid::Skip) => return Ok(false),
                (None, Invalid::Error) => {
                    return exec_err!(
                        "stage vector_indexer: column \"{}\" has the value {x:?} as its element {i}, unseen when it \
                         was fitted; use handle_invalid = keep or skip",
                        self.column
                    );
                }
            });
        }
        Ok(true)
    }
}
