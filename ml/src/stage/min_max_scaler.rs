//! Scales columns to a range.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use super::scaling::{self, FittedScaler, Scaled, Scaling};
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::exact_moments;
use crate::{MlError, Result};

const NAME: &str = "min_max_scaler";
const PARAMS: [&str; 4] = ["inputs", "outputs", "min", "max"];

/// Maps the smallest number of the fit to `min` and the largest to `max`, as Spark ML's `MinMaxScaler`.
///
/// Null stays null and NaN stays NaN; both are left out of the fit. Values outside those of the fit leave the range. A
/// column that does not vary, or varies over an infinite range, becomes the middle of `min` and `max`, as in Spark.
/// Parameters: `inputs`, `outputs`, `min` (default 0), `max` (default 1). Elements of dense vectors are scaled one by
/// one.
///
/// Differs from Spark: columns of numbers are scaled too; a column or element without a number cannot be fitted (Spark
/// makes everything the middle).
#[derive(Debug, Clone)]
pub struct MinMaxScaler {
    inputs: Vec<String>,
    outputs: Vec<String>,
    min: f64,
    max: f64,
}

impl MinMaxScaler {
    /// Scales to 0..=1, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, min: 0.0, max: 1.0 }
    }

    /// The same to another range.
    ///
    /// # Errors
    /// Bounds that are not finite, or `min` not below `max`.
    pub fn with_range(self, min: f64, max: f64) -> Result<Self> {
        if min.is_finite() && max.is_finite() && min < max {
            return Ok(Self { min, max, ..self });
        }
        Err(MlError::Invalid(format!("expected finite \"min\" below \"max\", got {min} and {max}")))
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let stage = Self { outputs: params.outputs(&inputs)?, ..Self::new(inputs) };
        Ok(Arc::new(stage.with_range(params.number("min", 0.0)?, params.number("max", 1.0)?)?))
    }

    fn scaling(&self, low: f64, high: f64) -> Scaling {
        let scale = (self.max - self.min) / (high - low);
        if low < high && scale != 0.0 {
            return Scaling { shift: low, scale, offset: self.min };
        }
        Scaling { shift: 0.0, scale: 0.0, offset: (self.min + self.max) / 2.0 }
    }
}

impl Stage for MinMaxScaler {
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
        scaling::plan(scope, &self.inputs, &self.outputs)
    }

    fn aggregates(&self, scope: &Scope) -> Result<Vec<Expr>> {
        let scaled = scaling::scaled(scope, &self.inputs)?;
        Ok(scaled.into_iter().map(|part| exact_moments::exact_moments(part.expr)).collect())
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let scaling = |(part, value): (&Scaled, &ScalarValue)| {
            let bounds = exact_moments::from_scalar(value)?.bounds();
            let (low, high) = bounds.ok_or_else(|| scaling::nothing_present(&part.name))?;
            Ok(self.scaling(low, high))
        };
        let scaled = scaling::scaled(scope, &self.inputs)?;
        let scalings = scaled.iter().zip(values).map(scaling).collect::<Result<_>>()?;
        Ok(Arc::new(FittedScaler::new(NAME, scope, &self.inputs, &self.outputs, scalings)?))
    }
}
