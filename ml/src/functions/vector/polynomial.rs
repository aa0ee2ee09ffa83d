//! `vector_polynomial(v, degree)`: all products of up to `degree` elements, but for the constant.
//!
//! They come in the order of Spark ML's `PolynomialExpansion`: by the power of the last element, then of the one before
//! it, and so on, `[x, x*x, y, x*y, y*y]` of `[x, y]`. Factors are multiplied from the last element on, and a product
//! that has become 0 stays 0, whatever NaN or infinity follows. Null stays null; the degree is a literal.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF, lit};

use super::{
    Arguments, MAX_SIZE, VectorFunction, Vectors, argument_size, coerce_vector, count_of, planned_count, vector_type,
};

const NAME: &str = "vector_polynomial";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns, evaluate }.udf()
}

/// A call of the function.
pub fn vector_polynomial(v: Expr, degree: u32) -> Expr {
    udf().call(vec![v, lit(degree)])
}

/// How many products there are of up to `degree` of `n` elements; none when they are more than a vector may have.
pub fn n_products(n: usize, degree: usize) -> Option<usize> {
    let mut count = 1usize;
    for i in 1..=degree.min(n) {
        // Of n + degree things, i: a whole number at each step.
        count = count.checked_mul(n.max(degree).checked_add(i)?)? / i;
        if count > MAX_SIZE {
            return None;
        }
    }
    Some(count - 1)
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v, degree] => Ok(vec![coerce_vector(NAME, v)?, degree.clone()]),
        _ => plan_err!("{NAME} takes a vector and a degree, got {} arguments", arg_types.len()),
    }
}

fn returns(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    let Some(degree) = planned_count(args, 1).filter(|degree| *degree > 0) else {
        return plan_err!("{NAME}: the degree is a literal whole number of at least 1");
    };
    let n = argument_size(args, 0);
    match n_products(n, degree) {
        Some(size) => Ok(vector_type(size)),
        None => plan_err!("{NAME}: degree {degree} of {n} elements gives more than {MAX_SIZE} products"),
    }
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors = Vectors::of(&array)?;
    let degree = args.literal(1).and_then(count_of).unwrap_or(0);
    let Some(size) = n_products(vectors.size(), degree).filter(|_| degree > 0) else {
        return plan_err!("{NAME}: the degree is a literal whole number of at least 1");
    };
    if degree == 1 {
        return Ok(Arc::clone(&array));
    }
    let mut elements = Vec::with_capacity(array.len() * size);
    let mut products = Vec::with_capacity(size + 1);
    for row in vectors.rows() {
        products.clear();
        expand(row, degree, 1.0, &mut products);
        // The first is the constant.
        elements.extend_from_slice(&products[1..]);
    }
    vectors.with_elements(elements, size)
}

/// Appends `factor` times each product of up to `degree` elements. From degree 2 on, no vector that is small enough to
/// be expanded is long enough to exhaust the stack.
fn expand(row: &[f64], degree: usize, factor: f64, products: &mut Vec<f64>) {
    let Some((last, rest)) = row.split_last().filter(|_| degree > 0) else {
        products.push(factor);
        return;
    };
    let mut factor = factor;
    for left in (0..=degree).rev() {
        expand(rest, left, factor, products);
        factor = if factor == 0.0 { 0.0 } else { factor * last };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_come_by_the_power_of_the_last_element() {
        let mut products = Vec::new();
        expand(&[2.0, 3.0, 5.0], 2, 1.0, &mut products);
        assert_eq!(products, [1.0, 2.0, 4.0, 3.0, 6.0, 9.0, 5.0, 10.0, 15.0, 25.0]);
        products.clear();
        expand(&[2.0, 3.0], 3, 1.0, &mut products);
        assert_eq!(products, [1.0, 2.0, 4.0, 8.0, 3.0, 6.0, 12.0, 9.0, 18.0, 27.0]);
    }

    #[test]
    fn counts_of_products() {
        assert_eq!(n_products(3, 2), Some(9));
        assert_eq!(n_products(2, 3), Some(9));
        assert_eq!(n_products(5, 1), Some(5));
        assert_eq!(n_products(0, 4), Some(0));
        assert_eq!(n_products(1_000, 3), None);
        assert_eq!(n_products(usize::MAX, 2), None);
    }
}
