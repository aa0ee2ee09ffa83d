//! Floats in JSON that come back to the bit, NaN and infinities included: as the shortest text that reads back.
//!
//! JSON numbers have no infinities, and readers may lose the last bit. All NaN are one. For serde's `with`:
//! `#[serde(with = "tidemill_ml::codec::exact")]` on an `f64`, [`list`] on a `Vec<f64>`, [`option`] on an
//! `Option<f64>`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text of a float.
pub fn to_text(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { format!("{value:?}") }
}

/// The float of a text.
pub fn from_text(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// Writes a float.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_text(*value))
}

/// Reads a float.
///
/// # Errors
/// Something that is not a float's text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = String::deserialize(deserializer)?;
    from_text(&text).ok_or_else(|| D::Error::custom(format!("expected a float's text, got {text:?}")))
}

/// The same for a list of floats.
pub mod list {
    use super::{Deserialize, Deserializer, Error, Serialize, Serializer, from_text, to_text};

    /// Writes floats.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        values.iter().map(|v| to_text(*v)).collect::<Vec<_>>().serialize(serializer)
    }

    /// Reads floats.
    ///
    /// # Errors
    /// Something that is not a list of floats' texts.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let value = |text: &String| {
            from_text(text).ok_or_else(|| D::Error::custom(format!("expected a float's text, got {text:?}")))
        };
        texts.iter().map(value).collect()
    }
}

/// The same for a float that may be missing.
pub mod option {
    use super::{Deserialize, Deserializer, Error, Serialize, Serializer, from_text, to_text};

    /// Writes a float, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(to_text).serialize(serializer)
    }

    /// Reads a float, or null.
    ///
    /// # Errors
    /// Something that is neither a float's text nor null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let value = from_text(&text);
        value.map(Some).ok_or_else(|| D::Error::custom(format!("expected a float's text, got {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn floats_come_back_to_the_bit(value in prop::num::f64::ANY) {
            let back = from_text(&to_text(value)).unwrap();
            prop_assert!(back.to_bits() == value.to_bits() || back.is_nan() && value.is_nan());
        }
    }
}
