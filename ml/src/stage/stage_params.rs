//! The parameters of a stage as they come from a job file.

use serde_json::{Map, Value};

use crate::suggest::did_you_mean;
use crate::{MlError, Result};

/// The parameters of one stage, read by name; each error names the parameter, what was expected and what came.
#[derive(Debug)]
pub struct StageParams<'a> {
    values: Option<&'a Map<String, Value>>,
}

impl<'a> StageParams<'a> {
    /// Takes a stage's map of parameters and checks their names.
    ///
    /// # Errors
    /// Something else than a map, or a name that is not among `known`.
    pub fn new(value: &'a Value, known: &[&str]) -> Result<Self> {
        let values = match value {
            Value::Null => None,
            Value::Object(values) => Some(values),
            other => return Err(MlError::Invalid(format!("expected a map of parameters, got {other}"))),
        };
        let unknown = values.into_iter().flat_map(Map::keys).find(|name| !known.contains(&name.as_str()));
        if let Some(name) = unknown {
            let suggestion = did_you_mean(name, known.iter().copied());
            return Err(MlError::Invalid(format!(
                "unknown parameter {name:?}{suggestion}; it takes {}",
                known.join(", ")
            )));
        }
        Ok(Self { values })
    }

    /// A list of column names, or one name.
    ///
    /// # Errors
    /// Another kind of value, an empty list, or a name that comes twice.
    pub fn columns(&self, name: &str) -> Result<Option<Vec<String>>> {
        let columns = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(column)) => vec![column.clone()],
            Some(Value::Array(items)) if !items.is_empty() => {
                let column = |item: &Value| {
                    item.as_str().map(str::to_owned).ok_or_else(|| expected(name, "a list of column names", item))
                };
                items.iter().map(column).collect::<Result<Vec<_>>>()?
            }
            Some(other) => return Err(expected(name, "a list of column names", other)),
        };
        match columns.iter().enumerate().find(|(i, column)| columns[..*i].contains(column)) {
            Some((_, twice)) => Err(MlError::Invalid(format!("parameter {name:?} has column {twice:?} twice"))),
            None => Ok(Some(columns)),
        }
    }

    /// The columns `inputs`, which must be there.
    ///
    /// # Errors
    /// As [`Self::columns`], and when there are none.
    pub fn inputs(&self) -> Result<Vec<String>> {
        self.columns("inputs")?.ok_or_else(|| {
            MlError::Invalid("parameter \"inputs\" is missing; expected a list of column names".to_owned())
        })
    }

    /// The columns `outputs`: as many as there are inputs, and by default the same names.
    ///
    /// # Errors
    /// As [`Self::columns`], and when their number differs from the inputs'.
    pub fn outputs(&self, inputs: &[String]) -> Result<Vec<String>> {
        let outputs = self.columns("outputs")?.unwrap_or_else(|| inputs.to_vec());
        if outputs.len() == inputs.len() {
            return Ok(outputs);
        }
        Err(MlError::Invalid(format!(
            "parameter \"outputs\" has {} columns; expected {}, one for each input",
            outputs.len(),
            inputs.len()
        )))
    }

    /// One of some words, with a default.
    ///
    /// # Errors
    /// Another value.
    pub fn choice(&self, name: &str, words: &[&str], default: &str) -> Result<String> {
        match self.get(name) {
            None => Ok(default.to_owned()),
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(word.clone()),
            Some(other) => Err(expected(name, &format!("one of {}", words.join(", ")), other)),
        }
    }

    /// True or false, with a default.
    ///
    /// # Errors
    /// Another value.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(expected(name, "true or false", other)),
        }
    }

    /// A number, or the text `NaN`, with a default.
    ///
    /// # Errors
    /// Another value.
    pub fn number(&self, name: &str, default: f64) -> Result<f64> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("nan") => Ok(f64::NAN),
            Some(other) => other.as_f64().ok_or_else(|| expected(name, "a number", other)),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.values?.get(name).filter(|value| !value.is_null())
    }
}

fn expected(name: &str, what: &str, got: &Value) -> MlError {
    MlError::Invalid(format!("parameter {name:?}: expected {what}, got {got}"))
}
