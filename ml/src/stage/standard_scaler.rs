//! Scales columns to unit standard deviation, and to zero mean where asked.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scaling::Scaling;
use super::scope::number_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::exact::Moments;
use crate::functions::exact_moments;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "standard_scaler";
const PARAMS: [&str; 4] = ["inputs", "outputs", "with_mean", "with_std"];

/// Multiplies by one over the sample standard deviation (over `n - 1`), as Spark ML's `StandardScaler`, after taking
/// the mean off where `with_mean`.
///
/// Null stays null and NaN stays NaN; both are left out of the fit (Spark's fit gives NaN instead). A column that does
/// not vary becomes 0, as in Spark. Parameters: `inputs`, `outputs`, `with_mean` (default false), `with_std`
/// (default true). Columns are scaled one by one, not as one vector.
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

    fn fit_column(&self, column: &str, moments: Moments) -> Result<(f64, f64)> {
        let Some(mean) = moments.mean else {
            return Err(MlError::Invalid(format!("column {column:?} has no value that is present; leave it out")));
        };
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
        Ok((if self.with_mean { mean } else { 0.0 }, scale))
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
        self.inputs.iter().try_for_each(|name| scope.number(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::number(name)).collect())
    }

    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        let aggregate = |column: &String| {
            let x = number_expr(column);
            let present = when(isnan(x.clone()), lit(ScalarValue::Float64(None))).otherwise(x)?;
            Ok(exact_moments::exact_moments(present))
        };
        self.inputs.iter().map(aggregate).collect()
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let column =
            |(column, value): (&String, &ScalarValue)| self.fit_column(column, exact_moments::from_scalar(value)?);
        let fitted = self.inputs.iter().zip(values).map(column).collect::<Result<Vec<_>>>()?;
        let (means, scales) = fitted.into_iter().unzip();
        Ok(Arc::new(FittedStandardScaler { inputs: self.inputs.clone(), outputs: self.outputs.clone(), means, scales }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedStandardScaler {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// What is taken off; 0 without `with_mean`.
    #[serde(with = "exact::list")]
    means: Vec<f64>,
    /// What is multiplied by; 1 without `with_std`, 0 for a column that does not vary.
    #[serde(with = "exact::list")]
    scales: Vec<f64>,
}

impl FittedStage for FittedStandardScaler {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let fitted = self.means.iter().zip(&self.scales);
        let columns = self.inputs.iter().zip(&self.outputs).zip(fitted);
        let output = |((input, output), (&mean, &scale)): ((&String, &String), (&f64, &f64))| {
            let expr = Scaling { shift: mean, scale, offset: 0.0 }.expr(number_expr(input))?;
            Ok(FittedOutput { column: output.clone(), expr, kind: FeatureKind::Number })
        };
        columns.map(output).collect()
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let fitted = self.means.iter().zip(&self.scales);
        let columns = self.inputs.iter().zip(fitted);
        let lines: Vec<String> =
            columns.map(|(column, (mean, scale))| format!("({column} - {mean}) * {scale}")).collect();
        lines.join(", ")
    }
}
