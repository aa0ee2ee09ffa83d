//! Numbers to 0 and 1 by a threshold.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::lit;
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::number_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::Result;
use crate::codec::exact;
use crate::matrix::FeatureKind;

const NAME: &str = "binarizer";
const PARAMS: [&str; 4] = ["inputs", "outputs", "threshold", "thresholds"];

/// 1 for numbers above a threshold and 0 for others, as Spark ML's `Binarizer`: NaN and null become 0.
///
/// Parameters: `inputs`, `outputs`, `threshold` (default 0) or `thresholds`, one for each input. Learns nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Binarizer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    #[serde(with = "exact::list")]
    thresholds: Vec<f64>,
}

impl Binarizer {
    /// 1 above `threshold`, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, threshold: f64) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), thresholds: vec![threshold; inputs.len()], inputs }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let outputs = params.outputs(&inputs)?;
        let threshold = params.number("threshold", 0.0)?;
        let thresholds = params.numbers("thresholds", inputs.len())?.unwrap_or_else(|| vec![threshold; inputs.len()]);
        Ok(Arc::new(Self { inputs, outputs, thresholds }))
    }
}

impl Stage for Binarizer {
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

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FittedStage for Binarizer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.thresholds);
        let output = |((input, output), &threshold): ((&String, &String), &f64)| {
            let x = number_expr(input);
            // Comparisons here put NaN above every number; Spark's put it below a threshold.
            let above = x.clone().gt(lit(threshold)).and(!isnan(x));
            let expr = when(above, lit(1.0)).otherwise(lit(0.0))?;
            Ok(FittedOutput { column: output.clone(), expr, kind: FeatureKind::Number })
        };
        columns.map(output).collect()
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.thresholds);
        columns.map(|(column, threshold)| format!("{column} > {threshold}")).collect::<Vec<_>>().join(", ")
    }
}
