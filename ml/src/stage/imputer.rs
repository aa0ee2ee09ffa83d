//! Fills in what is missing with the column's mean, median or mode.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::number_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::{exact_mean, exact_mode, exact_quantile};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "imputer";
const PARAMS: [&str; 4] = ["inputs", "outputs", "strategy", "missing_value"];
const STRATEGIES: [&str; 3] = ["mean", "median", "mode"];

/// What is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The mean, rounded once.
    Mean,
    /// The lower median, an element of the column.
    Median,
    /// The commonest value; of several the smallest.
    Mode,
}

/// Fills in numbers that are missing, as Spark ML's `Imputer`; the outputs are `Float64`.
///
/// Null is missing, and so is `missing_value` (default NaN). With another `missing_value` NaN is left out of the fit and
/// stays NaN. Parameters: `inputs`, `outputs`, `strategy` (`mean`, default; `median`; `mode`), `missing_value`.
///
/// Differs from Spark: the median is exact (Spark's is within 0.1 % of the rank); integers become `Float64`, as all
/// numbers that stages write, and are filled with the mean as it is (Spark keeps their type and cuts its fraction off);
/// a value to fill in that would be infinite is refused.
#[derive(Debug, Clone)]
pub struct Imputer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    strategy: Strategy,
    missing_value: f64,
}

impl Imputer {
    /// Fills in the mean, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, strategy: Strategy::Mean, missing_value: f64::NAN }
    }

    /// The same with another strategy.
    #[must_use]
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// The same with a number that means missing.
    #[must_use]
    pub fn with_missing_value(self, missing_value: f64) -> Self {
        Self { missing_value, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let strategy = match params.choice("strategy", &STRATEGIES, "mean")?.as_str() {
            "median" => Strategy::Median,
            "mode" => Strategy::Mode,
            _ => Strategy::Mean,
        };
        let missing_value = params.number("missing_value", f64::NAN)?;
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs, strategy, missing_value }))
    }

    fn aggregate(&self, column: &str) -> Result<Expr> {
        let x = present(column, self.missing_value)?;
        Ok(match self.strategy {
            Strategy::Mean => exact_mean::udaf().call(vec![x]),
            Strategy::Median => exact_quantile::exact_quantile(x, 0.5),
            Strategy::Mode => exact_mode::exact_mode(x),
        })
    }
}

/// The value where the fit counts it, and null where it is missing or NaN.
fn present(column: &str, missing_value: f64) -> Result<Expr> {
    let left_out = is_missing(column, missing_value).or(isnan(number_expr(column)));
    Ok(when(left_out, lit(ScalarValue::Float64(None))).otherwise(number_expr(column))?)
}

fn is_missing(column: &str, missing_value: f64) -> Expr {
    let x = number_expr(column);
    let is_value = if missing_value.is_nan() {
        isnan(x.clone())
    } else if missing_value == 0.0 {
        // Comparisons here tell the two zeros apart.
        x.clone().between(lit(-0.0), lit(0.0))
    } else {
        x.clone().eq(lit(missing_value))
    };
    x.is_null().or(is_value)
}

impl Stage for Imputer {
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
        self.inputs.iter().map(|column| self.aggregate(column)).collect()
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let value = |(column, value): (&String, &ScalarValue)| match value.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(Some(value)) if value.is_finite() => Ok(value),
            ScalarValue::Float64(Some(value)) => Err(MlError::Invalid(format!(
                "column {column:?} has infinite values; its {NAME} value would be {value}"
            ))),
            _ => Err(MlError::Invalid(format!("column {column:?} has no value that is present; leave it out"))),
        };
        Ok(Arc::new(FittedImputer {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            strategy: self.strategy,
            missing_value: self.missing_value,
            values: self.inputs.iter().zip(values).map(value).collect::<Result<_>>()?,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedImputer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    strategy: Strategy,
    #[serde(with = "exact")]
    missing_value: f64,
    #[serde(with = "exact::list")]
    values: Vec<f64>,
}

impl FittedStage for FittedImputer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.values);
        let output = |((input, output), &value): ((&String, &String), &f64)| {
            let filled = when(is_missing(input, self.missing_value), lit(value)).otherwise(number_expr(input))?;
            Ok(FittedOutput { column: output.clone(), expr: filled, kind: FeatureKind::Number })
        };
        columns.map(output).collect()
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let values: Vec<String> = self.inputs.iter().zip(&self.values).map(|(c, v)| format!("{c} = {v}")).collect();
        format!("{:?} fills {}", self.strategy, values.join(", ")).to_lowercase()
    }
}
