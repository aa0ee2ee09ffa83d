//! Scales columns to -1..=1 without moving zero.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use super::scaling::{self, FittedScaler, Scaled, Scaling};
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::Result;
use crate::functions::exact_moments;

const NAME: &str = "max_abs_scaler";
const PARAMS: [&str; 2] = ["inputs", "outputs"];

/// Divides by the largest magnitude, as Spark ML's `MaxAbsScaler`; a column of zeros stays as it is.
///
/// Null stays null and NaN stays NaN; both are left out of the fit. Values outside those of the fit leave the range. An
/// infinity in the fit makes every number 0. Elements of dense vectors are scaled one by one. Parameters: `inputs`,
/// `outputs`.
///
/// Differs from Spark: columns of numbers are scaled too; a column or element without a number cannot be fitted (Spark
/// divides by the largest `f64`); what an infinity in the fit makes of infinities is 0 too (Spark's NaN).
#[derive(Debug, Clone)]
pub struct MaxAbsScaler {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl MaxAbsScaler {
    /// Scales in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs }))
    }
}

impl Stage for MaxAbsScaler {
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
            let (min, max) = bounds.ok_or_else(|| scaling::nothing_present(&part.name))?;
            Ok(dividing_by(min.abs().max(max.abs())))
        };
        let scaled = scaling::scaled(scope, &self.inputs)?;
        let scalings = scaled.iter().zip(values).map(scaling).collect::<Result<_>>()?;
        Ok(Arc::new(FittedScaler::new(NAME, scope, &self.inputs, &self.outputs, scalings)?))
    }
}

fn dividing_by(max_abs: f64) -> Scaling {
    Scaling { shift: 0.0, scale: if max_abs == 0.0 { 1.0 } else { 1.0 / max_abs }, offset: 0.0 }
}
