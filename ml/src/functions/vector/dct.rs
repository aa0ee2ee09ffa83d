//! `vector_dct(v, inverse)`: the discrete cosine transform of type II, scaled to be orthonormal, or its inverse.
//!
//! Null stays null; a NaN element makes all NaN. `inverse` is a literal, false without one. The cost of a vector is the
//! square of its size. Source: Spark ML, `DCT`; Ahmed, Natarajan and Rao, "Discrete cosine transform" (1974).

use std::f64::consts::PI;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, ScalarUDF, lit};

use super::{Arguments, VectorFunction, Vectors, coerce_vector, same_size};

const NAME: &str = "vector_dct";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns: same_size, evaluate }.udf()
}

/// A call of the function.
pub fn vector_dct(v: Expr, inverse: bool) -> Expr {
    udf().call(vec![v, lit(inverse)])
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v] => Ok(vec![coerce_vector(NAME, v)?]),
        [v, DataType::Boolean] => Ok(vec![coerce_vector(NAME, v)?, DataType::Boolean]),
        _ => plan_err!("{NAME} takes a vector and, if wanted, true for the inverse"),
    }
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors = Vectors::of(&array)?;
    let is_inverse = match args.literals_from(1).as_deref() {
        Some([]) => false,
        Some([ScalarValue::Boolean(Some(inverse))]) => *inverse,
        _ => return plan_err!("{NAME}: whether it is the inverse is a literal true or false"),
    };
    let cosines = Cosines::new(vectors.size());
    let mut elements = Vec::with_capacity(array.len() * vectors.size());
    for row in vectors.rows() {
        for index in 0..row.len() {
            elements.push(if is_inverse { cosines.inverse(row, index) } else { cosines.forward(row, index) });
        }
    }
    vectors.with_elements(elements, vectors.size())
}

/// The weights of a transform of `n` elements: the cosines of multiples of a quarter turn over `n`, scaled.
struct Cosines {
    cosines: Vec<f64>,
    /// The weight of everything in the coefficient 0.
    constant: f64,
}

impl Cosines {
    fn new(n: usize) -> Self {
        let scale = (2.0 / n as f64).sqrt();
        let cosine = |i: usize| (PI * i as f64 / (2 * n) as f64).cos() * scale;
        Self { cosines: (0..4 * n).map(cosine).collect(), constant: (1.0 / n as f64).sqrt() }
    }

    /// The weight of sample `i` in coefficient `k`.
    fn weight(&self, k: usize, i: usize) -> f64 {
        if k == 0 { self.constant } else { self.cosines[k * (2 * i + 1) % self.cosines.len()] }
    }

    fn forward(&self, samples: &[f64], k: usize) -> f64 {
        samples.iter().enumerate().map(|(i, x)| x * self.weight(k, i)).sum()
    }

    fn inverse(&self, coefficients: &[f64], i: usize) -> f64 {
        coefficients.iter().enumerate().map(|(k, x)| x * self.weight(k, i)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_undoes_it() {
        let row = [1.5, -2.0, 0.25, 7.0, 1e-3];
        let cosines = Cosines::new(5);
        let forward: Vec<f64> = (0..5).map(|k| cosines.forward(&row, k)).collect();
        assert!((forward[0] - row.iter().sum::<f64>() / 5f64.sqrt()).abs() < 1e-12);
        for (i, x) in row.iter().enumerate() {
            assert!((cosines.inverse(&forward, i) - x).abs() < 1e-12);
        }
    }
}
