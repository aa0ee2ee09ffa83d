//! Products of vectors' elements.

use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};

use super::{StageParams, VectorMap};
use crate::functions::vector::MAX_SIZE;
use crate::functions::vector::polynomial::{n_products, vector_polynomial};
use crate::{MlError, Result};

/// All products of up to `degree` elements of a vector, in the order of Spark ML's `PolynomialExpansion`: of `[x, y]`
/// and degree 2, `[x, x*x, y, x*y, y*y]`.
///
/// Null stays null (Spark fails). A product that has become 0, from the last factor on, stays 0 whatever NaN or
/// infinity follows, as in Spark. Parameters: `inputs`, `outputs`, `degree` (default 2).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolynomialExpansion {
    degree: u32,
}

impl PolynomialExpansion {
    /// Up to this degree.
    ///
    /// # Errors
    /// A degree of 0.
    pub fn new(degree: u32) -> Result<Self> {
        if degree > 0 {
            return Ok(Self { degree });
        }
        Err(MlError::Invalid("expected a \"degree\" of at least 1, got 0".to_owned()))
    }
}

impl VectorMap for PolynomialExpansion {
    const NAME: &'static str = "polynomial_expansion";
    const PARAMS: &'static [&'static str] = &["inputs", "outputs", "degree"];

    fn parse(params: &StageParams<'_>) -> Result<Self> {
        Self::new(params.count("degree", 1..=u32::MAX, 2)?)
    }

    fn output_size(&self, column: &str, size: usize) -> Result<usize> {
        n_products(size, self.degree as usize).ok_or_else(|| {
            MlError::Invalid(format!(
                "column {column:?} is a vector of {size} numbers, which have more than {MAX_SIZE} products of degree \
                 {}; lower \"degree\"",
                self.degree
            ))
        })
    }

    fn expr(&self, vector: Expr) -> Expr {
        vector_polynomial(vector, self.degree)
    }

    fn describe(&self) -> String {
        format!("products of up to {} elements", self.degree)
    }
}
