//! Dates and timestamps to their parts.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::date_part;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{cast, ident};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::matrix::FeatureKind;
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

const NAME: &str = "date_parts";
const PARAMS: [&str; 3] = ["inputs", "outputs", "parts"];
/// Our words for parts and DataFusion's.
const PARTS: [(&str, &str); 10] = [
    ("year", "year"),
    ("quarter", "quarter"),
    ("month", "month"),
    ("week", "week"),
    ("day", "day"),
    ("day_of_week", "isodow"),
    ("day_of_year", "doy"),
    ("hour", "hour"),
    ("minute", "minute"),
    ("second", "second"),
];
const DEFAULT_PARTS: [&str; 4] = ["year", "month", "day", "day_of_week"];

/// The parts of dates and timestamps as numbers. Spark ML has no such stage.
///
/// `year`, `quarter` (1 to 4), `month` (1 to 12), `week` (of ISO 8601, 1 to 53), `day` (of the month), `day_of_week`
/// (1, Monday, to 7), `day_of_year` (from 1), `hour`, `minute`, and `second` (whole); the last three are 0 for dates. A
/// timestamp with a time zone has the parts of that zone's clock. Null stays null. Parameters: `inputs`, `outputs` (one
/// for each part of each input, by default `x_year` and so on), `parts` (default `year`, `month`, `day`,
/// `day_of_week`). Learns nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DateParts {
    inputs: Vec<String>,
    /// All parts of the first input, then those of the next.
    outputs: Vec<String>,
    parts: Vec<String>,
}

impl DateParts {
    /// Takes the parts of columns `x` as `x_year` and so on.
    ///
    /// # Errors
    /// A part that is not known, comes twice, or none.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, parts: &[&str]) -> Result<Self> {
        check_parts(parts)?;
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        let outputs = inputs.iter().flat_map(|name| parts.iter().map(move |part| format!("{name}_{part}"))).collect();
        Ok(Self { inputs, outputs, parts: parts.iter().map(|&part| part.to_owned()).collect() })
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let parts = params.texts("parts")?;
        let parts: Vec<&str> = match &parts {
            Some(parts) => parts.iter().map(String::as_str).collect(),
            None => DEFAULT_PARTS.to_vec(),
        };
        let stage = Self::new(params.inputs()?, &parts)?;
        let Some(outputs) = params.columns("outputs")? else {
            return Ok(Arc::new(stage));
        };
        if outputs.len() != stage.outputs.len() {
            return Err(MlError::Invalid(format!(
                "parameter \"outputs\" has {} columns; expected {}, one for each part of each input",
                outputs.len(),
                stage.outputs.len()
            )));
        }
        Ok(Arc::new(Self { outputs, ..stage }))
    }

    fn exprs(&self) -> impl Iterator<Item = Expr> {
        let expr = |input: &String, part: &String| {
            cast(date_part(lit(word_of(part).unwrap_or(part)), ident(input)), DataType::Float64)
        };
        self.inputs.iter().flat_map(move |input| self.parts.iter().map(move |part| expr(input, part)))
    }
}

/// DataFusion's word for a part.
fn word_of(part: &str) -> Option<&'static str> {
    PARTS.iter().find(|(name, _)| *name == part).map(|(_, word)| *word)
}

fn check_parts(parts: &[&str]) -> Result<()> {
    let names = || PARTS.iter().map(|(name, _)| *name);
    if let Some(unknown) = parts.iter().find(|part| word_of(part).is_none()) {
        return Err(MlError::Invalid(format!(
            "unknown part {unknown:?}{}; there are {}",
            did_you_mean(unknown, names()),
            names().collect::<Vec<_>>().join(", ")
        )));
    }
    match parts.iter().enumerate().find(|(i, part)| parts[..*i].contains(part)) {
        Some((_, twice)) => Err(MlError::Invalid(format!("parameter \"parts\" has {twice:?} twice"))),
        None if parts.is_empty() => Err(MlError::Invalid("parameter \"parts\" is empty".to_owned())),
        None => Ok(()),
    }
}

impl Stage for DateParts {
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
            let column = scope.column(name)?;
            if !matches!(column.data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _)) {
                return Err(MlError::Invalid(format!(
                    "column {name:?} is {}; expected a date or a timestamp: cast it in SQL",
                    column.describe()
                )));
            }
        }
        Ok(self.outputs.iter().map(|name| StageColumn::number(name)).collect())
    }

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FittedStage for DateParts {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let output =
            |(column, expr): (&String, Expr)| FittedOutput { column: column.clone(), expr, kind: FeatureKind::Number };
        Ok(self.outputs.iter().zip(self.exprs()).map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{} of {}", self.parts.join(", "), self.inputs.join(", "))
    }
}
