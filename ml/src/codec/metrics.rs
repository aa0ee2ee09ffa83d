//! Metrics in JSON: numbers where JSON has them, texts for NaN and infinities. For serde's `with`.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exact::{from_text, to_text};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Text(String),
}

/// Writes metrics.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(metrics: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    let number = |value: f64| if value.is_finite() { Number::Finite(value) } else { Number::Text(to_text(value)) };
    metrics.iter().map(|(name, value)| (name, number(*value))).collect::<BTreeMap<_, _>>().serialize(serializer)
}

/// Reads metrics.
///
/// # Errors
/// Something that is not a number.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let read = |(name, number)| {
        let value = match number {
            Number::Finite(value) => Some(value),
            Number::Text(text) => from_text(&text),
        };
        let value = value.ok_or_else(|| D::Error::custom(format!("metric {name:?} is not a number")))?;
        Ok((name, value))
    };
    BTreeMap::<String, Number>::deserialize(deserializer)?.into_iter().map(read).collect()
}
