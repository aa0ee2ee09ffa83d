//! Scales each vector to norm 1.

use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};

use super::{StageParams, VectorMap};
use crate::codec::exact;
use crate::functions::vector::norm::vector_normalize;
use crate::{MlError, Result};

/// Divides each vector by its p-norm, as Spark ML's `Normalizer`; a vector of norm 0 stays as it is.
///
/// Null stays null (Spark fails). NaN makes all elements NaN, but with an infinite `p`, whose norm, the largest
/// magnitude, leaves it out. Parameters: `inputs`, `outputs`, `p` (default 2; at least 1, `Infinity` too).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Normalizer {
    #[serde(with = "exact")]
    p: f64,
}

impl Normalizer {
    /// With this norm.
    ///
    /// # Errors
    /// A `p` below 1.
    pub fn new(p: f64) -> Result<Self> {
        if p >= 1.0 {
            return Ok(Self { p });
        }
        Err(MlError::Invalid(format!("expected a \"p\" of at least 1, got {p}")))
    }
}

impl VectorMap for Normalizer {
    const NAME: &'static str = "normalizer";
    const PARAMS: &'static [&'static str] = &["inputs", "outputs", "p"];

    fn parse(params: &StageParams<'_>) -> Result<Self> {
        Self::new(params.number("p", 2.0)?)
    }

    fn output_size(&self, _column: &str, size: usize) -> Result<usize> {
        Ok(size)
    }

    fn expr(&self, vector: Expr) -> Expr {
        vector_normalize(vector, self.p)
    }

    fn describe(&self) -> String {
        format!("norm 1 by p = {}", self.p)
    }
}
