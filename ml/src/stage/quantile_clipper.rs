//! Numbers held between two quantiles.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::number_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::exact_quantile;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "quantile_clipper";
const PARAMS: [&str; 4] = ["inputs", "outputs", "lower", "upper"];

/// Moves what is below the `lower` quantile up to it, and what is above the `upper` one down to it. Spark ML has no
/// such stage.
///
/// The quantiles are those of [`exact_quantile`], values of the column. Null stays null and NaN stays NaN; both are
/// left out of the fit. A column without any other value cannot be fitted. Parameters: `inputs`, `outputs`, `lower`
/// (default 0.01), `upper` (default 0.99).
#[derive(Debug, Clone)]
pub struct QuantileClipper {
    inputs: Vec<String>,
    outputs: Vec<String>,
    lower: f64,
    upper: f64,
}

impl QuantileClipper {
    /// Clips between these quantiles, in place.
    ///
    /// # Errors
    /// Quantiles outside 0 to 1, or a lower one that is not below the upper one.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, lower: f64, upper: f64) -> Result<Self> {
        if !(0.0 <= lower && lower < upper && upper <= 1.0) {
            return Err(MlError::Invalid(format!("expected 0 <= \"lower\" < \"upper\" <= 1, got {lower} and {upper}")));
        }
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Ok(Self { outputs: inputs.clone(), inputs, lower, upper })
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let outputs = params.outputs(&inputs)?;
        let stage = Self::new(inputs, params.number("lower", 0.01)?, params.number("upper", 0.99)?)?;
        Ok(Arc::new(Self { outputs, ..stage }))
    }
}

impl Stage for QuantileClipper {
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
        let quantiles =
            |column: &String| exact_quantile::exact_quantiles(number_expr(column), &[self.lower, self.upper]);
        Ok(self.inputs.iter().map(quantiles).collect())
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let bounds = |(column, value): (&String, &ScalarValue)| match exact_quantile::from_scalar(value)?.as_deref() {
            Some(&[lower, upper]) => Ok(Bounds { lower, upper }),
            _ => Err(MlError::Invalid(format!("column {column:?} has no value that is present; leave it out"))),
        };
        Ok(Arc::new(FittedQuantileClipper {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            bounds: self.inputs.iter().zip(values).map(bounds).collect::<Result<_>>()?,
        }))
    }
}

/// Between which a column is held.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Bounds {
    #[serde(with = "exact")]
    lower: f64,
    #[serde(with = "exact")]
    upper: f64,
}

impl Bounds {
    /// NaN comes first: comparisons here have it above all numbers.
    fn expr(self, x: Expr) -> Result<Expr> {
        let clipped = when(isnan(x.clone()), x.clone())
            .when(x.clone().lt(lit(self.lower)), lit(self.lower))
            .when(x.clone().gt(lit(self.upper)), lit(self.upper))
            .otherwise(x)?;
        Ok(clipped)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedQuantileClipper {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    bounds: Vec<Bounds>,
}

impl FittedStage for FittedQuantileClipper {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.bounds);
        let output = |((input, output), bounds): ((&String, &String), &Bounds)| {
            let expr = bounds.expr(number_expr(input))?;
            Ok(FittedOutput { column: output.clone(), expr, kind: FeatureKind::Number })
        };
        columns.map(output).collect()
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.bounds);
        let lines: Vec<String> = columns.map(|(c, b)| format!("{c} from {} to {}", b.lower, b.upper)).collect();
        lines.join(", ")
    }
}
