//! Turns category indices back into text.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ColumnRole, FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::category_label::category_label;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "index_to_string";
const PARAMS: [&str; 3] = ["inputs", "outputs", "labels"];

/// Gives each index its label, as Spark ML's `IndexToString`; the outputs are text.
///
/// The labels are those of `labels`, or else those that the input column has from the `string_indexer` that made it,
/// `__unknown` among them with its `handle_invalid = keep`. Fractions of an index are cut off. Null, NaN and indices
/// without a label fail. Parameters: `inputs`, `outputs`, `labels` (for all inputs; an empty list is none).
#[derive(Debug, Clone)]
pub struct IndexToString {
    inputs: Vec<String>,
    outputs: Vec<String>,
    labels: Vec<String>,
}

impl IndexToString {
    /// Gives indices the labels that their columns have, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, labels: Vec::new() }
    }

    /// The same with these labels.
    #[must_use]
    pub fn with_labels<S: Into<String>>(self, labels: impl IntoIterator<Item = S>) -> Self {
        Self { labels: labels.into_iter().map(Into::into).collect(), ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let labels = params.texts("labels")?.unwrap_or_default();
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs, labels }))
    }

    fn check(&self, scope: &Scope, name: &str) -> Result<()> {
        let column = scope.column(name)?;
        let is_category = matches!(column.role, ColumnRole::Category(_));
        if is_category || (column.is_number() && !self.labels.is_empty()) {
            return Ok(());
        }
        let expected = if self.labels.is_empty() { "an indexed category, or labels given" } else { "indices" };
        Err(MlError::Invalid(format!("column {name:?} is {}; expected {expected}", column.describe())))
    }

    fn labels_of(&self, scope: &Scope, column: &str) -> Result<Vec<String>> {
        if !self.labels.is_empty() {
            return Ok(self.labels.clone());
        }
        scope.category(column)?.map(|categories| categories.labels.clone()).ok_or_else(|| {
            MlError::Internal(format!("the labels of column {column:?} are not known when {NAME} is fitted"))
        })
    }
}

impl Stage for IndexToString {
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
        self.inputs.iter().try_for_each(|name| self.check(scope, name))?;
        Ok(self.outputs.iter().map(|name| StageColumn::of_type(name, DataType::Utf8)).collect())
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(FittedIndexToString {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            labels: self.inputs.iter().map(|column| self.labels_of(scope, column)).collect::<Result<_>>()?,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedIndexToString {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The labels of each input, by index.
    labels: Vec<Vec<String>>,
}

impl FittedStage for FittedIndexToString {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.labels);
        let output = |((input, output), labels): ((&String, &String), &Vec<String>)| FittedOutput {
            column: output.clone(),
            expr: category_label(ident(input), labels, NAME, input),
            kind: FeatureKind::Other,
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.labels);
        let lines: Vec<String> = columns.map(|(c, labels)| format!("{c} has {} labels", labels.len())).collect();
        lines.join(", ")
    }
}
