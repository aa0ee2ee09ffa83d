//! Scales columns to unit standard deviation, and to zero mean where asked.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde_json::Value;

use super::scaling::{self, FittedScaler, Scaled, Scaling};
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::exact::Moments;
use crate::functions::exact_moments;
use crate::{MlError, Result};

const NAME: &str = "standard_scaler";
const PARAMS: [&str; 4] = ["inputs", "outputs", "with_mean", "with_std"];

/// Multiplies by one over the sample standard deviation (over `n - 1`), as Spark ML's `StandardScaler`, after taking
/// the mean off where `with_mean`.
///
/// Null stays null and NaN stays NaN; both are left out of the fit (Spark's fit gives NaN instead). A column that does
/// not vary becomes 0, as in Spark. Parameters: `inputs`, `outputs`, `with_mean` (default false), `with_std`
/// (default true). Columns of numbers are scaled one by one, and so are the elements of dense vectors.
#[derive(Debug, Clone)]
pub struct StandardScaler {
    inputs: Vec<String>,
    outputs: Vec<String>,
    with_mean: bool,
    with_std: bool,
}

impl StandardScaler {
    /// Scales to unit standard deviation, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, with_mean: false, with_std: true }
    }

    /// The same, also taking the mean off.
    #[must_use]
    pub fn with_mean(self) -> Self {
        Self { with_mean: true, ..self }
    }

    /// The same without scaling.
    #[must_use]
    pub fn without_std(self) -> Self {
        Self { with_std: false, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self {
            outputs: params.outputs(&inputs)?,
            inputs,
            with_mean: params.flag("with_mean", false)?,
            with_std: params.flag("with_std", true)?,
        }))
    }

    fn scaling(&self, column: &str, moments: Moments) -> Result<Scaling> {
        let mean = moments.mean.ok_or_else(|| scaling::nothing_present(column))?;
        let std = moments.variance.unwrap_or(0.0).sqrt();
        if !mean.is_finite() || !std.is_finite() {
            return Err(MlError::Invalid(format!(
                "column {column:?} has infinite values, or their squares are; expected finite numbers"
            )));
        }
        let scale = if !self.with_std {
            1.0
        } else if std == 0.0 {
            0.0
        } else {
            1.0 / std
        };
        Ok(Scaling { shift: if self.with_mean { mean } else { 0.0 }, scale, offset: 0.0 })
    }
}

impl Stage for StandardScaler {
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
        let aggregate = |Scaled { expr: x, .. }: Scaled| {
            let present = when(isnan(x.clone()), lit(ScalarValue::Float64(None))).otherwise(x)?;
            Ok(exact_moments::exact_moments(present))
        };
        scaling::scaled(scope, &self.inputs)?.into_iter().map(aggregate).collect()
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let scaling =
            |(part, value): (&Scaled, &ScalarValue)| self.scaling(&part.name, exact_moments::from_scalar(value)?);
        let scaled = scaling::scaled(scope, &self.inputs)?;
        let scalings = scaled.iter().zip(values).map(scaling).collect::<Result<_>>()?;
        Ok(Arc::new(FittedScaler::new(NAME, scope, &self.inputs, &self.outputs, scalings)?))
    }
}
