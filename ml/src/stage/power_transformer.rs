//! Numbers stretched towards a normal distribution.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scaling::Scaling;
use super::scope::number_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::yeo_johnson::yeo_johnson;
use crate::functions::yeo_johnson_fit::{self, Fitted, Transform};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "power_transformer";
const PARAMS: [&str; 3] = ["inputs", "outputs", "standardize"];

/// The Yeo-Johnson transform under which a column is likeliest to be normal, then less its mean and over its standard
/// deviation (over `n`), as scikit-learn's `PowerTransformer`. Spark ML has no such stage.
///
/// [`yeo_johnson_fit`] says how the transform's `lambda` is found. Null stays null and NaN stays NaN; both are left out
/// of the fit. A column that does not vary becomes 0. A column without a number, or with infinite ones, cannot be
/// fitted. Parameters: `inputs`, `outputs`, `standardize` (default true; without it the transform alone).
///
/// Differs from scikit-learn: `lambda` stays where numbers far from 0 remain apart after the transform, which years,
/// say, do not there.
#[derive(Debug, Clone)]
pub struct PowerTransformer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    standardize: bool,
}

impl PowerTransformer {
    /// Transforms and standardizes, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, standardize: true }
    }

    /// The same as the transform alone.
    #[must_use]
    pub fn without_standardizing(self) -> Self {
        Self { standardize: false, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let standardize = params.flag("standardize", true)?;
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs, standardize }))
    }

    fn fit_column(&self, column: &str, fitted: Fitted) -> Result<Power> {
        let Some(Transform { lambda, mean, std }) = fitted.transform else {
            let what = if fitted.count == 0 {
                "no value that is present; leave it out"
            } else {
                "infinite values, or their powers are; expected finite numbers"
            };
            return Err(MlError::Invalid(format!("column {column:?} has {what}")));
        };
        let scaling = if self.standardize {
            Scaling { shift: mean, scale: if std == 0.0 { 0.0 } else { 1.0 / std }, offset: 0.0 }
        } else {
            Scaling { shift: 0.0, scale: 1.0, offset: 0.0 }
        };
        Ok(Power { lambda, scaling })
    }
}

impl Stage for PowerTransformer {
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
        Ok(self.inputs.iter().map(|column| yeo_johnson_fit::yeo_johnson_fit(number_expr(column))).collect())
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let column =
            |(column, value): (&String, &ScalarValue)| self.fit_column(column, yeo_johnson_fit::from_scalar(value)?);
        Ok(Arc::new(FittedPowerTransformer {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            powers: self.inputs.iter().zip(values).map(column).collect::<Result<_>>()?,
        }))
    }
}

/// What was found for one column.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Power {
    #[serde(with = "exact")]
    lambda: f64,
    scaling: Scaling,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedPowerTransformer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    powers: Vec<Power>,
}

impl FittedStage for FittedPowerTransformer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.powers);
        let output = |((input, output), power): ((&String, &String), &Power)| {
            let expr = power.scaling.expr(yeo_johnson(number_expr(input), power.lambda))?;
            Ok(FittedOutput { column: output.clone(), expr, kind: FeatureKind::Number })
        };
        columns.map(output).collect()
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.powers);
        let lines: Vec<String> = columns.map(|(c, power)| format!("{c} with lambda {}", power.lambda)).collect();
        lines.join(", ")
    }
}
