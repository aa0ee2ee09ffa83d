//! Scales columns to -1..=1 without moving zero.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use super::scaling::{FittedScaler, Scaling};
use super::scope::number_expr;
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::exact_moments;
use crate::{MlError, Result};

const NAME: &str = "max_abs_scaler";
const PARAMS: [&str; 2] = ["inputs", "outputs"];

/// Divides by the largest magnitude, as Spark ML's `MaxAbsScaler`; a column of zeros stays as it is.
///
/// Null stays null and NaN stays NaN; both are left out of the fit. Values outside those of the fit leave the range. An
/// infinity in the fit makes every number 0. Parameters: `inputs`, `outputs`.
///
/// Differs from Spark: columns are scaled one by one, not as one vector; a column without a number cannot be fitted
/// (Spark divides by the largest `f64`); what an infinity in the fit makes of infinities is 0 too (Spark's NaN).
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
        self.inputs.iter().try_for_each(|name| scope.number(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::number(name)).collect())
    }

    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        Ok(self.inputs.iter().map(|column| exact_moments::exact_moments(number_expr(column))).collect())
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let scaling = |(column, value): (&String, &ScalarValue)| {
            let Some((min, max)) = exact_moments::from_scalar(value)?.bounds() else {
                return Err(MlError::Invalid(format!("column {column:?} has no value that is present; leave it out")));
            };
            Ok(dividing_by(min.abs().max(max.abs())))
        };
        Ok(Arc::new(FittedScaler {
            stage: NAME.to_owned(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            scalings: self.inputs.iter().zip(values).map(scaling).collect::<Result<_>>()?,
        }))
    }
}

fn dividing_by(max_abs: f64) -> Scaling {
    Scaling { shift: 0.0, scale: if max_abs == 0.0 { 1.0 } else { 1.0 / max_abs }, offset: 0.0 }
}
