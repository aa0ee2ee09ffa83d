//! Text to the token numbers that encoder models read.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::text_expr;
use super::{ColumnRole, FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::subword_tokens::{self, LengthRule};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

#[cfg(test)]
mod tests;

const NAME: &str = "subword_tokenizer";
const PARAMS: [&str; 6] = ["inputs", "outputs", "tokenizer", "max_length", "truncation", "padding"];
/// The longest context of the encoder models in use.
const MAX_LENGTH: u32 = 1 << 16;
const DEFAULT_LENGTH: u32 = 512;

/// Splits text into a tokenizer's subwords (WordPiece, byte-pair encoding, Unigram) and gives their numbers, as Hugging
/// Face's `tokenizers` does. Spark ML has no such stage.
///
/// Two outputs, `input_ids` and `attention_mask` unless named otherwise: lists of `Int64`, the mask 1 for tokens and 0
/// for padding. They are for tables and encoder models; the estimators here do not read them. `tokenizer` is a
/// `tokenizer.json`: its path (absolute, or relative to the working directory) or its content. It is read when the stage
/// is declared and kept in the fitted stage, so that scoring needs no file and no network.
///
/// Lists have at most `max_length` tokens, special ones such as `[CLS]` among them. Longer texts are cut with
/// `truncation` and fail without. With `padding` all lists are of the fixed size `max_length`. Token and side of padding
/// and the side of cutting are the tokenizer's own; without any `[PAD]` or `<pad>`, or else token 0, pads on the right.
/// Null gives null lists. Parameters: `inputs` (one column of text), `outputs`, `tokenizer`, `max_length` (default 512),
/// `truncation` (default true), `padding` (default true).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubwordTokenizer {
    /// The one column.
    inputs: [String; 1],
    /// The tokens' numbers and their mask.
    outputs: [String; 2],
    /// The content of a `tokenizer.json`.
    tokenizer: String,
    max_length: u32,
    truncation: bool,
    padding: bool,
}

impl SubwordTokenizer {
    /// Cuts and pads to 512 tokens of the tokenizer whose `tokenizer.json` has this content.
    ///
    /// # Errors
    /// Content that is no tokenizer.
    pub fn new(input: &str, tokenizer: &str) -> Result<Self> {
        Self {
            inputs: [input.to_owned()],
            outputs: ["input_ids", "attention_mask"].map(str::to_owned),
            tokenizer: tokenizer.to_owned(),
            max_length: DEFAULT_LENGTH,
            truncation: true,
            padding: true,
        }
        .checked()
    }

    /// The same with another length.
    ///
    /// # Errors
    /// A length that leaves no room beside the special tokens, or above 65,536.
    pub fn with_max_length(self, max_length: u32) -> Result<Self> {
        Self { max_length, ..self }.checked()
    }

    /// The same, failing on longer texts.
    #[must_use]
    pub fn without_truncation(self) -> Self {
        Self { truncation: false, ..self }
    }

    /// The same with lists as long as their texts.
    #[must_use]
    pub fn without_padding(self) -> Self {
        Self { padding: false, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let [input] = &inputs[..] else {
            return Err(MlError::Invalid(format!("\"inputs\" is one column of text, got {inputs:?}")));
        };
        let stage = Self {
            max_length: params.count("max_length", 1..=MAX_LENGTH, DEFAULT_LENGTH)?,
            truncation: params.flag("truncation", true)?,
            padding: params.flag("padding", true)?,
            ..Self::new(input, &content(value.get("tokenizer"))?)?
        };
        Ok(Arc::new(Self { outputs: outputs(&params, &stage.outputs)?, ..stage }.checked()?))
    }

    fn rule(&self) -> LengthRule {
        LengthRule { max_length: self.max_length, truncation: self.truncation, padding: self.padding }
    }

    fn checked(self) -> Result<Self> {
        if self.max_length > MAX_LENGTH {
            let max_length = self.max_length;
            return Err(MlError::Invalid(format!(
                "expected a \"max_length\" of at most {MAX_LENGTH}, got {max_length}"
            )));
        }
        match subword_tokens::prepare(&self.tokenizer, self.rule()) {
            Ok(_) => Ok(self),
            Err(why) => Err(MlError::Invalid(format!("the tokenizer cannot be used: {why}"))),
        }
    }
}

/// The content of the `tokenizer.json` that a parameter is or names.
fn content(tokenizer: Option<&Value>) -> Result<String> {
    match tokenizer {
        Some(Value::String(path)) => std::fs::read_to_string(path)
            .map_err(|e| MlError::Invalid(format!("the tokenizer {path:?} cannot be read: {e}"))),
        Some(content @ Value::Object(_)) => Ok(content.to_string()),
        other => Err(MlError::Invalid(format!(
            "parameter \"tokenizer\": expected the path of a tokenizer.json, or its content, got {}",
            other.unwrap_or(&Value::Null)
        ))),
    }
}

fn outputs(params: &StageParams<'_>, default: &[String; 2]) -> Result<[String; 2]> {
    let Some(outputs) = params.columns("outputs")? else { return Ok(default.clone()) };
    outputs.try_into().map_err(|outputs: Vec<String>| {
        MlError::Invalid(format!("\"outputs\" is two columns, for the tokens' numbers and their mask, got {outputs:?}"))
    })
}

impl Stage for SubwordTokenizer {
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
        scope.text(&self.inputs[0])?;
        // Fixed-size lists are no vectors here.
        let column = |name: &String| StageColumn {
            name: name.clone(),
            data_type: self.rule().list_type(),
            role: ColumnRole::Plain,
        };
        Ok(self.outputs.iter().map(column).collect())
    }

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FittedStage for SubwordTokenizer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let [input] = &self.inputs;
        let exprs = subword_tokens::subword_tokens(text_expr(input), &self.tokenizer, self.rule(), NAME, input);
        let outputs = self.outputs.iter().zip(exprs);
        let output =
            |(column, expr): (&String, _)| FittedOutput { column: column.clone(), expr, kind: FeatureKind::Other };
        Ok(outputs.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let digest = blake3::hash(self.tokenizer.as_bytes()).to_hex();
        format!("{} in up to {} tokens of the tokenizer {}", self.inputs[0], self.max_length, &digest[..12])
    }
}
