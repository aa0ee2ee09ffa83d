//! Multiplies vectors by weights.

use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};

use super::{StageParams, VectorMap};
use crate::codec::exact;
use crate::functions::vector::concat::weights;
use crate::functions::vector::scale::vector_scale;
use crate::{MlError, Result};

/// Multiplies each element by the weight at its place, as Spark ML's `ElementwiseProduct`.
///
/// Null stays null (Spark fails); NaN and infinities are multiplied as they are. Parameters: `inputs`, `outputs`,
/// `scaling_vec`, a list of numbers, as many as the vectors have elements.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ElementwiseProduct {
    #[serde(with = "exact::list")]
    scaling_vec: Vec<f64>,
}

impl ElementwiseProduct {
    /// With these weights.
    pub fn new(scaling_vec: impl Into<Vec<f64>>) -> Self {
        Self { scaling_vec: scaling_vec.into() }
    }
}

impl VectorMap for ElementwiseProduct {
    const NAME: &'static str = "elementwise_product";
    const PARAMS: &'static [&'static str] = &["inputs", "outputs", "scaling_vec"];

    fn parse(params: &StageParams<'_>) -> Result<Self> {
        let weights = params.number_list("scaling_vec")?.ok_or_else(|| {
            MlError::Invalid("parameter \"scaling_vec\" is missing; expected a list of numbers".to_owned())
        })?;
        Ok(Self::new(weights))
    }

    fn output_size(&self, column: &str, size: usize) -> Result<usize> {
        if size == self.scaling_vec.len() {
            return Ok(size);
        }
        Err(MlError::Invalid(format!(
            "column {column:?} is a vector of {size} numbers; expected {}, one for each of \"scaling_vec\"",
            self.scaling_vec.len()
        )))
    }

    fn expr(&self, vector: Expr) -> Expr {
        vector_scale(vector, weights(&self.scaling_vec))
    }

    fn describe(&self) -> String {
        format!("times {:?}", self.scaling_vec)
    }
}
