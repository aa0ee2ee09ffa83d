//! Inputs that are chosen by what columns are, not by their names.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use regex::Regex;
use serde_json::Value;

use super::{ColumnRole, FittedStage, Scope, Stage, StageColumn, StageParams, StageParser};
use crate::{MlError, Result};

const KEYS: [&str; 3] = ["type", "matches", "except"];
const TYPES: [&str; 6] = ["number", "string", "boolean", "time", "category", "vector"];

/// A stage whose `inputs` are a selector: `{ type: number, matches: "^wind_", except: [wind_dir] }`.
///
/// It becomes a stage once it meets the columns that it chooses among: [`crate::pipeline::Pipeline::bind`]. A column is
/// chosen when all that the selector says is true of it. `type` is `number`, `string`, `boolean`, `time` (dates and
/// timestamps), `category` (an indexed one) or `vector`; `matches` a regular expression that is found in the name.
#[derive(Debug, Clone)]
pub struct InputSelector {
    name: String,
    params: Value,
    parse: StageParser,
    data_type: Option<String>,
    matches: Option<Regex>,
    except: Vec<String>,
}

impl InputSelector {
    /// The selector among a stage's parameters, if there is one.
    ///
    /// # Errors
    /// A selector that says nothing or something unknown.
    pub(super) fn of(name: &str, params: &Value, parse: StageParser) -> Result<Option<Self>> {
        let Some(selector @ Value::Object(said)) = params.get("inputs") else { return Ok(None) };
        let read = StageParams::new(selector, &KEYS)?;
        if said.is_empty() {
            return Err(MlError::Invalid(format!("parameter \"inputs\" selects by {}, got {{}}", KEYS.join(", "))));
        }
        let data_type = read.choice("type", &TYPES, "")?;
        let pattern = read.text("matches", "")?;
        let matches = Regex::new(&pattern).map_err(|e| {
            MlError::Invalid(format!("parameter \"matches\": expected a regular expression, got {pattern:?}: {e}"))
        })?;
        Ok(Some(Self {
            name: name.to_owned(),
            params: params.clone(),
            parse,
            data_type: (!data_type.is_empty()).then_some(data_type),
            matches: (!pattern.is_empty()).then_some(matches),
            except: read.columns("except")?.unwrap_or_default(),
        }))
    }

    /// The stage with the columns of the scope that are chosen, in their order; none of `exclude` is.
    ///
    /// # Errors
    /// No such column, one of `except` that does not exist, and parameters that do not fit.
    pub fn bind(&self, scope: &Scope, exclude: &[&str]) -> Result<Arc<dyn Stage>> {
        self.except.iter().try_for_each(|name| scope.column(name).map(|_| ()))?;
        let candidates = scope.columns().iter().filter(|column| !exclude.contains(&column.name.as_str()));
        let chosen: Vec<&str> = candidates.filter(|column| self.is_chosen(column)).map(|c| c.name.as_str()).collect();
        if chosen.is_empty() {
            let there = scope.columns().iter().map(|column| format!("{} ({})", column.name, column.describe()));
            return Err(MlError::Invalid(format!(
                "inputs {} choose none of the columns {}",
                self.params["inputs"],
                there.collect::<Vec<_>>().join(", ")
            )));
        }
        let mut params = self.params.clone();
        params["inputs"] = chosen.into();
        (self.parse)(&params)
    }

    fn is_chosen(&self, column: &StageColumn) -> bool {
        self.data_type.as_ref().is_none_or(|data_type| is_of_type(column, data_type))
            && self.matches.as_ref().is_none_or(|pattern| pattern.is_match(&column.name))
            && !self.except.contains(&column.name)
    }
}

fn is_of_type(column: &StageColumn, data_type: &str) -> bool {
    match (&column.role, data_type) {
        (ColumnRole::Category(_), data_type) => data_type == "category",
        (ColumnRole::Vector(_), data_type) => data_type == "vector",
        (ColumnRole::Plain, "number") => column.data_type.is_numeric(),
        (ColumnRole::Plain, "string") => column.has_text() && !column.is_number(),
        (ColumnRole::Plain, "boolean") => column.data_type == DataType::Boolean,
        (ColumnRole::Plain, "time") => column.data_type.is_temporal(),
        _ => false,
    }
}

/// Stands in a pipeline for the stage that a selector becomes; nothing is known of it before.
#[derive(Debug)]
pub(super) struct SelectingStage(pub(super) InputSelector);

impl Stage for SelectingStage {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn inputs(&self) -> &[String] {
        &[]
    }

    fn outputs(&self) -> &[String] {
        &[]
    }

    fn input_selector(&self) -> Option<&InputSelector> {
        Some(&self.0)
    }

    fn plan(&self, _scope: &Scope) -> Result<Vec<StageColumn>> {
        Err(self.unbound())
    }

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Err(self.unbound())
    }
}

impl SelectingStage {
    fn unbound(&self) -> MlError {
        MlError::Internal(format!("the inputs {} of a stage are not bound to columns", self.0.params["inputs"]))
    }
}
