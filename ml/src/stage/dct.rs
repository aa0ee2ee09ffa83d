//! The discrete cosine transform of vectors.

use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};

use super::{StageParams, VectorMap};
use crate::Result;
use crate::functions::vector::dct::vector_dct;

/// The orthonormal discrete cosine transform of type II of each vector, or its inverse, as Spark ML's `DCT`.
///
/// Null stays null (Spark fails); NaN and infinities spread over the vector. The cost of a vector is the square of its
/// size. Parameters: `inputs`, `outputs`, `inverse` (default false).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dct {
    inverse: bool,
}

impl Dct {
    /// The transform.
    pub fn forward() -> Self {
        Self { inverse: false }
    }

    /// What undoes it.
    pub fn inverse() -> Self {
        Self { inverse: true }
    }
}

impl VectorMap for Dct {
    const NAME: &'static str = "dct";
    const PARAMS: &'static [&'static str] = &["inputs", "outputs", "inverse"];

    fn parse(params: &StageParams<'_>) -> Result<Self> {
        Ok(Self { inverse: params.flag("inverse", false)? })
    }

    fn output_size(&self, _column: &str, size: usize) -> Result<usize> {
        Ok(size)
    }

    fn expr(&self, vector: Expr) -> Expr {
        vector_dct(vector, self.inverse)
    }

    fn describe(&self) -> String {
        if self.inverse { "inverse cosine transform" } else { "cosine transform" }.to_owned()
    }
}
