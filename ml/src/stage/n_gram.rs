//! Tokens to runs of tokens.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::Result;
use crate::functions::n_grams::n_grams;
use crate::functions::support::tokens_type;
use crate::matrix::FeatureKind;

const NAME: &str = "n_gram";
const PARAMS: [&str; 3] = ["inputs", "outputs", "n"];

/// Joins each `n` tokens that follow one another with blanks, as Spark ML's `NGram`; the outputs are lists of text.
///
/// A list of fewer than `n` tokens gives an empty list. A null token is the text `null`, as in Spark; a null list fails.
/// Parameters: `inputs`, `outputs`, `n` (default 2, at least 1). Learns nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NGram {
    inputs: Vec<String>,
    outputs: Vec<String>,
    n: u32,
}

impl NGram {
    /// Joins two and two, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, n: 2 }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs, n: params.count("n", 1..=u32::MAX, 2)? }))
    }
}

impl Stage for NGram {
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
        self.inputs.iter().try_for_each(|name| scope.tokens(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::of_type(name, tokens_type())).collect())
    }

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FittedStage for NGram {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let output = |(input, output): (&String, &String)| FittedOutput {
            column: output.clone(),
            expr: n_grams(ident(input), self.n, NAME, input),
            kind: FeatureKind::Other,
        };
        Ok(self.inputs.iter().zip(&self.outputs).map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{} tokens of {} joined", self.n, self.inputs.join(", "))
    }
}
