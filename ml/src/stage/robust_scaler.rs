//! Scales columns by quantiles, which outliers do not move.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use super::scaling::{self, FittedScaler, Scaled, Scaling};
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::exact_quantile;
use crate::{MlError, Result};

const NAME: &str = "robust_scaler";
const PARAMS: [&str; 6] = ["inputs", "outputs", "lower", "upper", "with_centering", "with_scaling"];
const MEDIAN: f64 = 0.5;

/// Divides by the distance between two quantiles, as Spark ML's `RobustScaler`, after taking the median off where
/// `with_centering`.
///
/// Null stays null and NaN stays NaN; both are left out of the fit. A column whose quantiles are equal becomes 0, as in
/// Spark, and so does one with an infinite distance between them; where both are the same infinity, it becomes NaN.
/// Parameters: `inputs`, `outputs`, `lower` (default 0.25), `upper` (default 0.75), `with_centering` (default false),
/// `with_scaling` (default true).
///
/// Elements of dense vectors are scaled one by one.
///
/// Differs from Spark: columns of numbers are scaled too; the quantiles are those of [`exact_quantile`], Spark's are
/// within 0.1 % of the rank, and there is no `relative_error`; where all numbers become 0, infinities do too (Spark's
/// become NaN).
#[derive(Debug, Clone)]
pub struct RobustScaler {
    inputs: Vec<String>,
    outputs: Vec<String>,
    lower: f64,
    upper: f64,
    with_centering: bool,
    with_scaling: bool,
}

impl RobustScaler {
    /// Scales to the distance between the quartiles, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, lower: 0.25, upper: 0.75, with_centering: false, with_scaling: true }
    }

    /// The same with other quantiles.
    ///
    /// # Errors
    /// Quantiles that are not within 0 and 1, or `lower` not below `upper`.
    pub fn with_quantiles(self, lower: f64, upper: f64) -> Result<Self> {
        if 0.0 < lower && lower < upper && upper < 1.0 {
            return Ok(Self { lower, upper, ..self });
        }
        Err(MlError::Invalid(format!("expected 0 < \"lower\" < \"upper\" < 1, got {lower} and {upper}")))
    }

    /// The same, also taking the median off.
    #[must_use]
    pub fn with_centering(self) -> Self {
        Self { with_centering: true, ..self }
    }

    /// The same without scaling.
    #[must_use]
    pub fn without_scaling(self) -> Self {
        Self { with_scaling: false, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let stage = Self {
            outputs: params.outputs(&inputs)?,
            with_centering: params.flag("with_centering", false)?,
            with_scaling: params.flag("with_scaling", true)?,
            ..Self::new(inputs)
        };
        Ok(Arc::new(stage.with_quantiles(params.number("lower", 0.25)?, params.number("upper", 0.75)?)?))
    }

    fn scaling(&self, [lower, median, upper]: [f64; 3]) -> Scaling {
        let scale = match upper - lower {
            _ if !self.with_scaling => 1.0,
            0.0 => 0.0,
            range => 1.0 / range,
        };
        Scaling { shift: if self.with_centering { median } else { 0.0 }, scale, offset: 0.0 }
    }
}

impl Stage for RobustScaler {
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
        let shares = [self.lower, MEDIAN, self.upper];
        let aggregate = |part: Scaled| exact_quantile::exact_quantiles(part.expr, &shares);
        Ok(scaling::scaled(scope, &self.inputs)?.into_iter().map(aggregate).collect())
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let scaling = |(part, value): (&Scaled, &ScalarValue)| {
            let quantiles = exact_quantile::from_scalar(value)?.and_then(|q| <[f64; 3]>::try_from(q).ok());
            Ok(self.scaling(quantiles.ok_or_else(|| scaling::nothing_present(&part.name))?))
        };
        let scaled = scaling::scaled(scope, &self.inputs)?;
        let scalings = scaled.iter().zip(values).map(scaling).collect::<Result<_>>()?;
        Ok(Arc::new(FittedScaler::new(NAME, scope, &self.inputs, &self.outputs, scalings)?))
    }
}
