//! The parameters of a stage as they come from a job file.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::Invalid;
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

    /// One column name.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn column(&self, name: &str) -> Result<Option<String>> {
        let column =
            |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| expected(name, "a column name", value));
        self.get(name).map(column).transpose()
    }

    /// The column `output`, which must be there.
    ///
    /// # Errors
    /// As [`Self::column`], and when there is none.
    pub fn output(&self) -> Result<String> {
        self.column("output")?
            .ok_or_else(|| MlError::Invalid("parameter \"output\" is missing; expected a column name".to_owned()))
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

    /// A number, or one of the texts `NaN`, `Infinity` and `-Infinity`, with a default.
    ///
    /// # Errors
    /// Another value.
    pub fn number(&self, name: &str, default: f64) -> Result<f64> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("nan") => Ok(f64::NAN),
            Some(other) => number_of(other).ok_or_else(|| expected(name, "a number", other)),
        }
    }

    /// A list of numbers, one for each of `n` inputs.
    ///
    /// # Errors
    /// Another kind of value, or another count of numbers.
    pub fn numbers(&self, name: &str, n: usize) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|items| items.iter().map(Value::as_f64).collect());
        match numbers {
            Some(numbers) if numbers.len() == n => Ok(Some(numbers)),
            _ => Err(expected(name, &format!("a list of {n} numbers, one for each input"), value)),
        }
    }

    /// A list of numbers; the texts `Infinity` and `-Infinity` are numbers too.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn number_list(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let list = |value| numbers_of(value).ok_or_else(|| expected(name, "a list of numbers", value));
        self.get(name).map(list).transpose()
    }

    /// A list of lists of numbers as [`Self::number_list`] takes, one for each of `n` inputs.
    ///
    /// # Errors
    /// Another kind of value, or another count of lists.
    pub fn number_lists(&self, name: &str, n: usize) -> Result<Option<Vec<Vec<f64>>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let lists: Option<Vec<_>> = value.as_array().and_then(|lists| lists.iter().map(numbers_of).collect());
        match lists {
            Some(lists) if lists.len() == n => Ok(Some(lists)),
            _ => Err(expected(name, &format!("{n} lists of numbers, one for each input"), value)),
        }
    }

    /// A whole number within `range`, with a default.
    ///
    /// # Errors
    /// Another value.
    pub fn count(&self, name: &str, range: RangeInclusive<u32>, default: u32) -> Result<u32> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let count = whole_number(value).filter(|count| range.contains(count));
        count.ok_or_else(|| expected(name, &format!("a whole number of {} to {}", range.start(), range.end()), value))
    }

    /// A list of whole numbers within `range`, one for each of `n` inputs.
    ///
    /// # Errors
    /// Another kind of value, or another count of numbers.
    pub fn counts(&self, name: &str, range: RangeInclusive<u32>, n: usize) -> Result<Option<Vec<u32>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let count = |item: &Value| whole_number(item).filter(|count| range.contains(count));
        let counts: Option<Vec<u32>> = value.as_array().and_then(|items| items.iter().map(count).collect());
        counts
            .filter(|counts| counts.len() == n)
            .ok_or_else(|| {
                let what = format!("{n} whole numbers of {} to {}, one for each input", range.start(), range.end());
                expected(name, &what, value)
            })
            .map(Some)
    }

    /// A list of whole numbers from 0, which must be there.
    ///
    /// # Errors
    /// Another kind of value, or none.
    pub fn count_list(&self, name: &str) -> Result<Vec<u32>> {
        let value = self.get(name).unwrap_or(&Value::Null);
        let counts: Option<Vec<u32>> = value.as_array().and_then(|items| items.iter().map(whole_number).collect());
        counts.ok_or_else(|| expected(name, "a list of whole numbers", value))
    }

    /// `handle_invalid`: `error`, the default, `skip` or `keep`.
    ///
    /// # Errors
    /// Another value.
    pub fn handle_invalid(&self) -> Result<Invalid> {
        let word = self.choice("handle_invalid", &["error", "skip", "keep"], "error")?;
        Ok(Invalid::parse(&word).unwrap_or(Invalid::Error))
    }

    /// A text, with a default.
    ///
    /// # Errors
    /// Another value.
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        match self.get(name) {
            None => Ok(default.to_owned()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(expected(name, "a text", other)),
        }
    }

    /// A list of texts, which may be empty.
    ///
    /// # Errors
    /// Another value.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = |item: &Value| item.as_str().map(str::to_owned);
        let texts = value.as_array().and_then(|items| items.iter().map(text).collect());
        texts.map(Some).ok_or_else(|| expected(name, "a list of texts", value))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.values?.get(name).filter(|value| !value.is_null())
    }
}

fn whole_number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) if text == "Infinity" => Some(f64::INFINITY),
        Value::String(text) if text == "-Infinity" => Some(f64::NEG_INFINITY),
        other => other.as_f64(),
    }
}

fn numbers_of(value: &Value) -> Option<Vec<f64>> {
    value.as_array()?.iter().map(number_of).collect()
}

fn expected(name: &str, what: &str, got: &Value) -> MlError {
    MlError::Invalid(format!("parameter {name:?}: expected {what}, got {got}"))
}
