//! Reading one candidate's parameters: unknown names, types and ranges give errors that say what to write.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::Value;

use crate::estimator::Params;
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

/// Reads typed values out of [`Params`].
#[derive(Debug)]
pub(crate) struct ParamReader<'a> {
    estimator: &'static str,
    params: &'a Params,
}

impl<'a> ParamReader<'a> {
    /// A reader over parameters that are all `known`.
    pub(crate) fn new(estimator: &'static str, params: &'a Params, known: &[&str]) -> Result<Self> {
        if let Some(name) = params.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(MlError::Invalid(format!(
                "{estimator} has no parameter {name:?}{}; it has {}",
                did_you_mean(name, known.iter().copied()),
                known.join(", ")
            )));
        }
        Ok(Self { estimator, params })
    }

    /// Whether a value was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// A finite number that satisfies `accept`, which `expected` puts in words.
    pub(crate) fn number(&self, name: &str, default: f64, expected: &str, accept: impl Fn(f64) -> bool) -> Result<f64> {
        let Some(value) = self.given(name) else { return Ok(default) };
        match value.as_f64() {
            Some(v) if v.is_finite() && accept(v) => Ok(v),
            _ => Err(self.wrong(name, expected, value)),
        }
    }

    /// A whole number in a range.
    pub(crate) fn integer(&self, name: &str, default: i64, range: RangeInclusive<i64>) -> Result<i64> {
        let Some(value) = self.given(name) else { return Ok(default) };
        let whole = value.as_i64().or_else(|| value.as_f64().filter(|v| v.fract() == 0.0).map(|v| v as i64));
        match whole {
            Some(v) if range.contains(&v) => Ok(v),
            _ => Err(self.wrong(name, format!("a whole number from {} to {}", range.start(), range.end()), value)),
        }
    }

    /// A whole number in a range that fits a size.
    pub(crate) fn size(&self, name: &str, default: usize, range: RangeInclusive<i64>) -> Result<usize> {
        self.integer(name, default as i64, range).map(|v| v as usize)
    }

    /// A truth value.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.given(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(name, "true or false", value))
    }

    /// A value that `parse` reads, whose forms `expected` puts in words.
    pub(crate) fn value<T>(
        &self,
        name: &str,
        default: T,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let Some(value) = self.given(name) else { return Ok(default) };
        parse(value).ok_or_else(|| self.wrong(name, expected, value))
    }

    /// One of some words; the first when none is given.
    pub(crate) fn choice(&self, name: &str, known: &[&'static str]) -> Result<&'static str> {
        let Some(value) = self.given(name) else { return Ok(known.first().copied().unwrap_or_default()) };
        let chosen = known.iter().find(|word| value.as_str() == Some(word));
        chosen.copied().ok_or_else(|| self.wrong(name, format!("one of {}", known.join(", ")), value))
    }

    /// A list of whole numbers, each in a range; one number is a list of one.
    pub(crate) fn sizes(&self, name: &str, default: &[usize], range: RangeInclusive<i64>) -> Result<Vec<usize>> {
        let Some(value) = self.given(name) else { return Ok(default.to_vec()) };
        let read = |v: &Value| v.as_i64().filter(|v| range.contains(v)).map(|v| v as usize);
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let list: Option<Vec<usize>> = items.iter().map(read).collect();
        list.ok_or_else(|| {
            self.wrong(name, format!("a list of whole numbers from {} to {}", range.start(), range.end()), value)
        })
    }

    fn given(&self, name: &str) -> Option<&'a Value> {
        self.params.get(name).filter(|v| !v.is_null())
    }

    fn wrong(&self, name: &str, expected: impl Display, got: &Value) -> MlError {
        MlError::Invalid(format!("{} {name}: expected {expected}, got {got}", self.estimator))
    }
}
