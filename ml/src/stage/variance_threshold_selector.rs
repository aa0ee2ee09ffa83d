//! Leaves out elements of vectors that do not vary.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use super::scaling;
use super::selector::FittedSelector;
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::exact_moments;
use crate::{MlError, Result};

const NAME: &str = "variance_threshold_selector";
const PARAMS: [&str; 3] = ["inputs", "outputs", "variance_threshold"];

/// Keeps the elements whose sample variance is above a threshold, as Spark ML's `VarianceThresholdSelector`.
///
/// NaN or an infinity makes the variance of its element NaN, and it is left out, as in Spark; with a single row every
/// variance is 0. Null vectors are left out of the fit and stay null (Spark fails). Parameters: `inputs`, `outputs`,
/// `variance_threshold` (default 0). Where no element is left, the fit fails (Spark gives empty vectors).
#[derive(Debug, Clone)]
pub struct VarianceThresholdSelector {
    inputs: Vec<String>,
    outputs: Vec<String>,
    variance_threshold: f64,
}

impl VarianceThresholdSelector {
    /// Keeps what varies, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, variance_threshold: 0.0 }
    }

    /// The same with another threshold.
    ///
    /// # Errors
    /// A threshold below 0.
    pub fn with_variance_threshold(self, variance_threshold: f64) -> Result<Self> {
        if variance_threshold >= 0.0 {
            return Ok(Self { variance_threshold, ..self });
        }
        Err(MlError::Invalid(format!("expected a \"variance_threshold\" of at least 0, got {variance_threshold}")))
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let stage = Self { outputs: params.outputs(&inputs)?, ..Self::new(inputs) };
        Ok(Arc::new(stage.with_variance_threshold(params.number("variance_threshold", 0.0)?)?))
    }
}

impl Stage for VarianceThresholdSelector {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        self.inputs.iter().try_for_each(|name| scope.dense_vector(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::vector(name, None)).collect())
    }

    fn aggregates(&self, scope: &Scope) -> Result<Vec<Expr>> {
        let elements = scaling::scaled(scope, &self.inputs)?;
        Ok(elements.into_iter().map(|element| exact_moments::exact_moments(element.expr)).collect())
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let mut values = values.iter();
        let mut indices = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let mut kept = Vec::new();
            for (index, value) in values.by_ref().take(scope.fitted_vector(input)?).enumerate() {
                let variance = exact_moments::from_scalar(value)?.variance;
                if variance.is_some_and(|variance| variance > self.variance_threshold) {
                    kept.push(index);
                }
            }
            indices.push(kept);
        }
        FittedSelector::fitted(NAME, scope, &self.inputs, &self.outputs, indices)
    }
}
