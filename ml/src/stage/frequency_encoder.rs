//! Categories to how often they come.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::target_encoder::Encoding;
use super::{FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::functions::category_counts::{self, MAX_CATEGORIES};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "frequency_encoder";
const PARAMS: [&str; 4] = ["inputs", "outputs", "measure", "handle_invalid"];

/// How often a category comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Its share of the rows.
    Share,
    /// The number of its rows.
    Count,
}

/// How often a value comes in the rows of the fit. Spark ML has no such stage.
///
/// Values are any text, number or boolean, read as text; null is a value of its own. `handle_invalid` says what becomes
/// of a value unseen in the fit, and of a null where the fit had none: `error` (default) fails, `keep` gives 0.
/// Parameters: `inputs`, `outputs`, `measure` (`share` of all rows, default; `count`), `handle_invalid`.
#[derive(Debug, Clone)]
pub struct FrequencyEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    measure: Measure,
    invalid: Invalid,
}

impl FrequencyEncoder {
    /// Encodes by share, in place, and fails on unseen values.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, measure: Measure::Share, invalid: Invalid::Error }
    }

    /// The same with another measure.
    #[must_use]
    pub fn with_measure(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    /// The same with 0 for unseen values.
    #[must_use]
    pub fn keep_invalid(self) -> Self {
        Self { invalid: Invalid::Keep, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let measure = match params.choice("measure", &["share", "count"], "share")?.as_str() {
            "count" => Measure::Count,
            _ => Measure::Share,
        };
        let invalid = params.choice("handle_invalid", &["error", "keep"], "error")?;
        let invalid = Invalid::parse(&invalid).unwrap_or(Invalid::Error);
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs, measure, invalid }))
    }

    /// What was found for one column: its values' counts, and how many rows there are.
    fn encoding(&self, column: &str, counts: &ScalarValue, n_rows: u64) -> Result<Encoding> {
        let Some(counts) = category_counts::from_scalar(counts)? else {
            return Err(MlError::Invalid(format!(
                "column {column:?} has more than {MAX_CATEGORIES} distinct values; group the rare ones in SQL, or \
                 leave it out"
            )));
        };
        let n_nulls = n_rows - counts.iter().map(|(_, count)| count).sum::<u64>();
        let number = |count: u64| match self.measure {
            Measure::Share => count as f64 / n_rows as f64,
            Measure::Count => count as f64,
        };
        let (labels, mut numbers): (Vec<String>, Vec<f64>) =
            counts.into_iter().map(|(label, count)| (label, number(count))).unzip();
        if self.invalid == Invalid::Keep {
            numbers.push(0.0);
        }
        let null = (n_nulls > 0).then(|| number(n_nulls));
        Ok(Encoding { labels, numbers, null: null.into_iter().collect() })
    }
}

impl Stage for FrequencyEncoder {
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
        for name in &self.inputs {
            scope.values(name)?;
        }
        Ok(self.outputs.iter().map(|name| StageColumn::number(name)).collect())
    }

    /// Each column's counts, and the number of rows.
    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        let counts = self.inputs.iter().map(|column| category_counts::category_counts(ident(column)));
        Ok(counts.chain([count(lit(1))]).collect())
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let Some((ScalarValue::Int64(Some(n_rows)), counts)) = values.split_last() else {
            return Err(MlError::Internal(format!("{NAME}: the number of rows is missing")));
        };
        let encoding = |(column, counts): (&String, &ScalarValue)| self.encoding(column, counts, *n_rows as u64);
        Ok(Arc::new(FittedFrequencyEncoder {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            encodings: self.inputs.iter().zip(counts).map(encoding).collect::<Result<_>>()?,
            handle_invalid: self.invalid.as_str().to_owned(),
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedFrequencyEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    encodings: Vec<Encoding>,
    handle_invalid: String,
}

impl FittedStage for FittedFrequencyEncoder {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.encodings);
        let invalid = Invalid::parse(&self.handle_invalid).unwrap_or(Invalid::Error);
        let output = |((input, output), encoding): ((&String, &String), &Encoding)| FittedOutput {
            column: output.clone(),
            expr: encoding.expr(input, invalid, NAME),
            kind: FeatureKind::Number,
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.encodings);
        let lines: Vec<String> = columns.map(|(c, e)| format!("{c} has {} values", e.labels.len())).collect();
        format!("{}; invalid: {}", lines.join(", "), self.handle_invalid)
    }
}
