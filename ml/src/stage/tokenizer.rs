//! Text to lower-case tokens between blanks.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::lower;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::text_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::Result;
use crate::functions::regex_tokens::{TokenRule, regex_tokens};
use crate::functions::support::tokens_type;
use crate::matrix::FeatureKind;

const NAME: &str = "tokenizer";
const PARAMS: [&str; 2] = ["inputs", "outputs"];

/// Splits text at each blank and puts it into lower case, as Spark ML's `Tokenizer`; the outputs are lists of text.
///
/// A blank is a space, tab, line feed, vertical tab, form feed or carriage return. Between two of them is an empty
/// token, and so is in front of one at the start; empty tokens at the end are dropped. Text without a blank is one
/// token, the empty text too. Null fails. Parameters: `inputs`, `outputs`. Learns nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tokenizer {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Tokenizer {
    /// Splits in place.
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

impl Stage for Tokenizer {
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
        self.inputs.iter().try_for_each(|name| scope.text(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::of_type(name, tokens_type())).collect())
    }

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FittedStage for Tokenizer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let rule = TokenRule { pattern: r"\s", gaps: true, min_token_length: 0 };
        let output = |(input, output): (&String, &String)| FittedOutput {
            column: output.clone(),
            expr: regex_tokens(lower(text_expr(input)), rule, NAME, input),
            kind: FeatureKind::Other,
        };
        Ok(self.inputs.iter().zip(&self.outputs).map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{} split at blanks, in lower case", self.inputs.join(", "))
    }
}
