//! Turns text into category indices.

use std::cmp::Reverse;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, in_list, lit};
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::text_expr;
use super::{FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::functions::category_counts::{self, MAX_CATEGORIES};
use crate::functions::category_index::category_index;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "string_indexer";
const PARAMS: [&str; 4] = ["inputs", "outputs", "string_order_type", "handle_invalid"];
const ORDERS: [&str; 4] = ["frequencyDesc", "frequencyAsc", "alphabetDesc", "alphabetAsc"];

/// The label of what was not seen in the fit, with `handle_invalid = keep`.
pub(super) const UNKNOWN: &str = "__unknown";

/// In which order labels get their indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringOrderType {
    /// The commonest first; equally common ones in alphabetical order.
    FrequencyDesc,
    /// The rarest first; equally common ones in alphabetical order.
    FrequencyAsc,
    /// Backwards by byte order.
    AlphabetDesc,
    /// By byte order.
    AlphabetAsc,
}

/// Turns text (or integers, booleans and other numbers, as their text) into category indices, as Spark ML's
/// `StringIndexer`.
///
/// `handle_invalid` says what becomes of values unseen in the fit and of nulls: `error` (default) fails, `skip` leaves
/// the row out, `keep` gives the index after the last label. Nulls, and NaN among numbers, are left out of the fit and
/// invalid later. The index is `Float64`.
/// Parameters: `inputs`, `outputs`, `string_order_type` (`frequencyDesc`, default; `frequencyAsc`; `alphabetDesc`;
/// `alphabetAsc`), `handle_invalid`.
///
/// Without a `one_hot_encoder` after it, linear models see an indicator for each label; trees split on the index.
#[derive(Debug, Clone)]
pub struct StringIndexer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    order: StringOrderType,
    invalid: Invalid,
}

impl StringIndexer {
    /// Indexes by falling frequency, in place, and fails on invalid values.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, order: StringOrderType::FrequencyDesc, invalid: Invalid::Error }
    }

    /// The same with another order.
    #[must_use]
    pub fn with_string_order_type(self, order: StringOrderType) -> Self {
        Self { order, ..self }
    }

    /// The same with another treatment of invalid values.
    #[must_use]
    pub fn with_handle_invalid(self, invalid: Invalid) -> Self {
        Self { invalid, ..self }
    }

    /// The same writing to other columns; they must be as many as the inputs.
    #[must_use]
    pub fn with_outputs<S: Into<String>>(self, outputs: impl IntoIterator<Item = S>) -> Self {
        Self { outputs: outputs.into_iter().map(Into::into).collect(), ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let order = match params.choice("string_order_type", &ORDERS, "frequencyDesc")?.as_str() {
            "frequencyAsc" => StringOrderType::FrequencyAsc,
            "alphabetDesc" => StringOrderType::AlphabetDesc,
            "alphabetAsc" => StringOrderType::AlphabetAsc,
            _ => StringOrderType::FrequencyDesc,
        };
        let invalid = params.choice("handle_invalid", &["error", "skip", "keep"], "error")?;
        let invalid = Invalid::parse(&invalid).unwrap_or(Invalid::Error);
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs, order, invalid }))
    }

    fn labels(&self, mut counts: Vec<(String, u64)>) -> Vec<String> {
        match self.order {
            StringOrderType::FrequencyDesc => counts.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0))),
            StringOrderType::FrequencyAsc => counts.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0))),
            StringOrderType::AlphabetDesc => counts.sort_by(|a, b| b.0.cmp(&a.0)),
            StringOrderType::AlphabetAsc => counts.sort(),
        }
        counts.into_iter().map(|(label, _)| label).collect()
    }
}

impl Stage for StringIndexer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn drops_rows(&self) -> bool {
        self.invalid == Invalid::Skip
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        for name in &self.inputs {
            let column = scope.column(name)?;
            if !column.has_text() {
                return Err(MlError::Invalid(format!(
                    "column {name:?} is {}; expected text, a number or a boolean",
                    column.describe()
                )));
            }
        }
        Ok(self.outputs.iter().map(|name| StageColumn::category(name)).collect())
    }

    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        Ok(self.inputs.iter().map(|column| category_counts::category_counts(ident(column))).collect())
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let labels = |(column, value): (&String, &ScalarValue)| match category_counts::from_scalar(value)? {
            Some(mut counts) => {
                // As null, a number's NaN is a value that is missing; the text "NaN" is a label as any other.
                let is_number = scope.column(column)?.data_type.is_floating();
                counts.retain(|(label, _)| !(is_number && label == "NaN"));
                Ok(self.labels(counts))
            }
            None => Err(MlError::Invalid(format!(
                "column {column:?} has more than {MAX_CATEGORIES} distinct values; group the rare ones in SQL, or leave \
                 it out"
            ))),
        };
        Ok(Arc::new(FittedStringIndexer {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            labels: self.inputs.iter().zip(values).map(labels).collect::<Result<_>>()?,
            handle_invalid: self.invalid.as_str().to_owned(),
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedStringIndexer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The labels of each input, by index.
    labels: Vec<Vec<String>>,
    handle_invalid: String,
}

impl FittedStringIndexer {
    fn invalid(&self) -> Invalid {
        Invalid::parse(&self.handle_invalid).unwrap_or(Invalid::Error)
    }

    fn kind(&self, labels: &[String]) -> FeatureKind {
        let unknown = (self.invalid() == Invalid::Keep).then(|| UNKNOWN.to_owned());
        let labels: Vec<String> = labels.iter().cloned().chain(unknown).collect();
        FeatureKind::Category { indicators: labels.len(), labels }
    }
}

impl FittedStage for FittedStringIndexer {
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
            expr: category_index(text_expr(input), labels, self.invalid(), input),
            kind: self.kind(labels),
        };
        Ok(columns.map(output).collect())
    }

    fn row_predicate(&self) -> Option<Expr> {
        if self.invalid() != Invalid::Skip {
            return None;
        }
        let known = |(input, labels): (&String, &Vec<String>)| {
            let seen = in_list(text_expr(input), labels.iter().map(lit).collect(), false);
            ident(input).is_not_null().and(seen)
        };
        self.inputs.iter().zip(&self.labels).map(known).reduce(Expr::and)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.labels);
        let lines: Vec<String> = columns.map(|(c, labels)| format!("{c} has {} labels", labels.len())).collect();
        format!("{}; invalid: {}", lines.join(", "), self.handle_invalid)
    }
}
