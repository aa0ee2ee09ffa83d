//! Tokens without the words that say little.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::Result;
use crate::functions::remove_words::remove_words;
use crate::functions::support::tokens_type;
use crate::matrix::FeatureKind;

const NAME: &str = "stop_words_remover";
const PARAMS: [&str; 4] = ["inputs", "outputs", "stop_words", "case_sensitive"];

/// The English words that Spark ML leaves out by default, one in a line.
const ENGLISH: &str = include_str!("stop_words_english.txt");

/// Leaves stop words out of lists of text, as Spark ML's `StopWordsRemover`.
///
/// Null tokens stay; a null list fails. Parameters: `inputs`, `outputs`, `stop_words` (default Spark's 181 English
/// words), `case_sensitive` (default false). Learns nothing.
///
/// Differs from Spark: there is no `locale`, letters are put into lower case as Unicode does without one; words of other
/// languages are given in `stop_words`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StopWordsRemover {
    inputs: Vec<String>,
    outputs: Vec<String>,
    stop_words: Vec<String>,
    case_sensitive: bool,
}

impl StopWordsRemover {
    /// Leaves out English stop words, in place, whatever their case.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, stop_words: english(), case_sensitive: false }
    }

    /// The same with other words.
    #[must_use]
    pub fn with_stop_words<S: Into<String>>(self, stop_words: impl IntoIterator<Item = S>) -> Self {
        Self { stop_words: stop_words.into_iter().map(Into::into).collect(), ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self {
            outputs: params.outputs(&inputs)?,
            inputs,
            stop_words: params.texts("stop_words")?.unwrap_or_else(english),
            case_sensitive: params.flag("case_sensitive", false)?,
        }))
    }
}

fn english() -> Vec<String> {
    ENGLISH.lines().map(str::to_owned).collect()
}

impl Stage for StopWordsRemover {
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

impl FittedStage for StopWordsRemover {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let output = |(input, output): (&String, &String)| FittedOutput {
            column: output.clone(),
            expr: remove_words(ident(input), &self.stop_words, self.case_sensitive, NAME, input),
            kind: FeatureKind::Other,
        };
        Ok(self.inputs.iter().zip(&self.outputs).map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{} without {} words", self.inputs.join(", "), self.stop_words.len())
    }
}
