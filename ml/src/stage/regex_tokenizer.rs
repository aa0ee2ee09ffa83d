//! Text to tokens by a regular expression.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::lower;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::text_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::regex_tokens::{TokenRule, compile, regex_tokens};
use crate::functions::support::tokens_type;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "regex_tokenizer";
const PARAMS: [&str; 6] = ["inputs", "outputs", "pattern", "gaps", "min_token_length", "to_lowercase"];

/// Cuts text into tokens by a regular expression, as Spark ML's `RegexTokenizer`; the outputs are lists of text.
///
/// Parameters: `inputs`, `outputs`, `pattern` (default `\s+`), `gaps` (default true: the pattern matches what lies
/// between tokens; false: the tokens), `min_token_length` (default 1, in UTF-16 units), `to_lowercase` (default true,
/// before the pattern is matched). Null fails. Learns nothing.
///
/// Patterns are those of the `regex` crate, with `\s`, `\d` and `\w` of ASCII alone, as in Java; matching takes time
/// linear in the text. Differs from Spark, whose patterns are Java's:
///
/// * lookaround, backreferences, atomic groups, `\Q..\E`, `\G`, `\h`, `\R`, `\X` and `\Z` are refused;
/// * `a++` and its like are not possessive but `(a+)+`;
/// * `.` matches all but a line feed (in Java also all but a carriage return, NEL and the separators U+2028 and
///   U+2029), `$` the very end alone (in Java also before a last line break), `\v` the vertical tab alone;
/// * `(?i)` and `\b` know all letters, not those of ASCII alone;
/// * `\p{Alpha}`, `\p{Lower}` and their like are Unicode's, not POSIX's; write `[[:alpha:]]` for those.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegexTokenizer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    pattern: String,
    gaps: bool,
    min_token_length: u32,
    to_lowercase: bool,
}

impl RegexTokenizer {
    /// Cuts at matches of the pattern, in place and in lower case.
    ///
    /// # Errors
    /// A pattern that is not valid.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, pattern: &str) -> Result<Self> {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        check(pattern)?;
        let pattern = pattern.to_owned();
        Ok(Self { outputs: inputs.clone(), inputs, pattern, gaps: true, min_token_length: 1, to_lowercase: true })
    }

    /// The same with the matches as tokens.
    #[must_use]
    pub fn without_gaps(self) -> Self {
        Self { gaps: false, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let pattern = params.text("pattern", r"\s+")?;
        check(&pattern)?;
        Ok(Arc::new(Self {
            outputs: params.outputs(&inputs)?,
            inputs,
            pattern,
            gaps: params.flag("gaps", true)?,
            min_token_length: params.count("min_token_length", 0..=u32::MAX, 1)?,
            to_lowercase: params.flag("to_lowercase", true)?,
        }))
    }
}

fn check(pattern: &str) -> Result<()> {
    match compile(pattern) {
        Ok(_) => Ok(()),
        Err(why) => Err(MlError::Invalid(format!(
            "parameter \"pattern\": expected a regular expression of the regex crate, got {pattern:?}: {why}"
        ))),
    }
}

impl Stage for RegexTokenizer {
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

impl FittedStage for RegexTokenizer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let rule = TokenRule { pattern: &self.pattern, gaps: self.gaps, min_token_length: self.min_token_length };
        let output = |(input, output): (&String, &String)| {
            let text = text_expr(input);
            let text = if self.to_lowercase { lower(text) } else { text };
            let expr = regex_tokens(text, rule, NAME, input);
            FittedOutput { column: output.clone(), expr, kind: FeatureKind::Other }
        };
        Ok(self.inputs.iter().zip(&self.outputs).map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let how = if self.gaps { "split at" } else { "searched for" };
        format!("{} {how} {:?}", self.inputs.join(", "), self.pattern)
    }
}
