//! Columns shifted and stretched: what scalers fit to.

use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::number_expr;
use super::{FittedOutput, FittedStage};
use crate::Result;
use crate::codec::exact;
use crate::matrix::FeatureKind;

/// `(x - shift) * scale + offset`; with a scale of 0 it is the offset for every number, infinities too. Null stays
/// null and NaN stays NaN.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Scaling {
    #[serde(with = "exact")]
    pub(super) shift: f64,
    #[serde(with = "exact")]
    pub(super) scale: f64,
    #[serde(with = "exact")]
    pub(super) offset: f64,
}

impl Scaling {
    /// The scaled number, leaving out what does nothing: subtracting 0.0 and multiplying by 1.0 change no bit.
    ///
    /// A constant is not a product with 0.0: that would keep signs and infinities, and simplify differently with and
    /// without nulls.
    pub(super) fn expr(&self, x: Expr) -> Result<Expr> {
        if self.scale == 0.0 {
            return Ok(when(x.clone().is_null().or(isnan(x.clone())), x).otherwise(lit(self.offset))?);
        }
        let shifted = if self.shift == 0.0 { x } else { x - lit(self.shift) };
        let scaled = if self.scale == 1.0 { shifted } else { shifted * lit(self.scale) };
        Ok(if self.offset == 0.0 { scaled } else { scaled + lit(self.offset) })
    }
}

/// A scaler with what it found for each column.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedScaler {
    /// The name of the stage that was fitted.
    pub(super) stage: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    /// One for each input.
    pub(super) scalings: Vec<Scaling>,
}

impl FittedStage for FittedScaler {
    fn name(&self) -> &str {
        &self.stage
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.scalings);
        let output = |((input, output), scaling): ((&String, &String), &Scaling)| {
            let expr = scaling.expr(number_expr(input))?;
            Ok(FittedOutput { column: output.clone(), expr, kind: FeatureKind::Number })
        };
        columns.map(output).collect()
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let line = |(column, s): (&String, &Scaling)| format!("({column} - {}) * {} + {}", s.shift, s.scale, s.offset);
        self.inputs.iter().zip(&self.scalings).map(line).collect::<Vec<_>>().join(", ")
    }
}
