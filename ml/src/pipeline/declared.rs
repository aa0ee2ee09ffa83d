//! A list of stages as it is declared.

use serde_json::Value;

use super::plan;
use crate::{MlError, Result};

/// The name of a stage that is a list of stages.
const NESTED: &str = "pipeline";

/// One stage.
pub(super) struct Declared<'a> {
    pub(super) label: String,
    pub(super) name: &'a str,
    pub(super) params: &'a Value,
}

/// The stages of a list, those of a nested list in its place.
pub(super) fn stages(value: &Value) -> Result<Vec<Declared<'_>>> {
    let mut stages = Vec::new();
    add(&mut stages, value, "")?;
    Ok(stages)
}

/// Adds the stages of a list whose own number, and a dot, is `prefix`.
fn add<'a>(stages: &mut Vec<Declared<'a>>, value: &'a Value, prefix: &str) -> Result<()> {
    let Value::Array(items) = value else {
        return Err(MlError::Invalid(format!("a pipeline is a list of stages, got {value}")));
    };
    for (item, number) in items.iter().zip(1..) {
        let number = format!("{prefix}{number}");
        match named(item) {
            Some((NESTED, nested)) => add(stages, nested, &format!("{number}."))?,
            Some((name, params)) => stages.push(Declared { label: plan::label(&number, name), name, params }),
            None => {
                return Err(MlError::Invalid(format!(
                    "stage {number}: expected a map with one key, the stage's name, and its parameters, got {item}"
                )));
            }
        }
    }
    Ok(())
}

fn named(item: &Value) -> Option<(&str, &Value)> {
    match item {
        Value::String(name) => Some((name, &Value::Null)),
        Value::Object(map) if map.len() == 1 => map.iter().next().map(|(name, params)| (name.as_str(), params)),
        _ => None,
    }
}
