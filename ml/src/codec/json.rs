//! JSON with one spelling.

use serde::Serialize;
use serde_json::Value;

use crate::{MlError, Result};

/// The JSON of a value with its keys sorted and no spaces: equal values have equal bytes.
///
/// # Errors
/// A value that has no JSON.
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let value = serde_json::to_value(value).map_err(unwritable)?;
    serde_json::to_vec(&sorted(value)).map_err(unwritable)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn unwritable(error: serde_json::Error) -> MlError {
    MlError::Internal(format!("cannot be written as JSON: {error}"))
}
