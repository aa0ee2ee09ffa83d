//! Says that a category is seen by linear models as indicators.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::string_indexer::UNKNOWN;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "one_hot_encoder";
const PARAMS: [&str; 4] = ["inputs", "outputs", "drop_last", "handle_invalid"];

/// Gives an indexed column its one-hot view, as Spark ML's `OneHotEncoder`; nothing is materialised: the output is the
/// index, and models read the indicators from its meaning.
///
/// The inputs are columns that a `string_indexer` made, so no index is out of range, and `handle_invalid` only changes
/// the number of indicators. Parameters: `inputs`, `outputs`, `drop_last` (default true: the last category has no
/// indicator), `handle_invalid` (`error`, default; `keep`: one category more).
#[derive(Debug, Clone)]
pub struct OneHotEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    drop_last: bool,
    keep_invalid: bool,
}

impl OneHotEncoder {
    /// Encodes in place, without the last category.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, drop_last: true, keep_invalid: false }
    }

    /// The same with an indicator for the last category too.
    #[must_use]
    pub fn keep_last(self) -> Self {
        Self { drop_last: false, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self {
            outputs: params.outputs(&inputs)?,
            inputs,
            drop_last: params.flag("drop_last", true)?,
            keep_invalid: params.choice("handle_invalid", &["error", "keep"], "error")? == "keep",
        }))
    }

    fn kind(&self, scope: &Scope, column: &str) -> Result<FeatureKind> {
        let categories = scope.category(column)?.ok_or_else(|| {
            MlError::Internal(format!("the labels of column {column:?} are not known when {NAME} is fitted"))
        })?;
        let mut labels = categories.labels.clone();
        labels.extend(self.keep_invalid.then(|| UNKNOWN.to_owned()));
        let indicators = labels.len().saturating_sub(usize::from(self.drop_last));
        Ok(FeatureKind::Category { labels, indicators })
    }
}

impl Stage for OneHotEncoder {
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
        self.inputs.iter().try_for_each(|name| scope.category(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::category(name)).collect())
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(FittedOneHotEncoder {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            kinds: self.inputs.iter().map(|column| self.kind(scope, column)).collect::<Result<_>>()?,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedOneHotEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    kinds: Vec<FeatureKind>,
}

impl FittedStage for FittedOneHotEncoder {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.kinds);
        let output = |((input, output), kind): ((&String, &String), &FeatureKind)| FittedOutput {
            column: output.clone(),
            expr: ident(input),
            kind: kind.clone(),
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let indicators = |kind: &FeatureKind| match kind {
            FeatureKind::Category { indicators, .. } => *indicators,
            _ => 1,
        };
        let columns = self.inputs.iter().zip(&self.kinds);
        let lines: Vec<String> = columns.map(|(c, kind)| format!("{c} has {} indicators", indicators(kind))).collect();
        lines.join(", ")
    }
}
