//! Partition values as text: in Hive directory names and in Delta's log.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};

use crate::error::{ConnectorError, Result};

/// The directory name that stands for null.
pub(crate) const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The values of one partition, in the order of the table's partition columns; none is null.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionValues(pub Vec<Option<String>>);

impl PartitionValues {
    /// The values of `columns` from a map by name. Delta writes null as null or as an empty string.
    pub(crate) fn ordered(columns: &[String], values: &HashMap<String, Option<String>>) -> Self {
        let value = |name: &String| values.get(name).cloned().flatten().filter(|v| !v.is_empty());
        Self(columns.iter().map(value).collect())
    }
}

impl fmt::Display for PartitionValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&str> = self.0.iter().map(|value| value.as_deref().unwrap_or("null")).collect();
        f.write_str(&shown.join("/"))
    }
}

/// Reads one value per field.
pub(super) fn parse_all(fields: &[FieldRef], values: &[Option<String>]) -> Result<Vec<ScalarValue>> {
    fields.iter().zip(values).map(|(field, value)| parse(field.name(), field.data_type(), value.as_deref())).collect()
}

fn parse(name: &str, data_type: &DataType, value: Option<&str>) -> Result<ScalarValue> {
    let parsed = match value {
        None => ScalarValue::try_from(data_type),
        Some(text) => ScalarValue::try_from_string(text.to_owned(), data_type),
    };
    parsed.map_err(|error| {
        ConnectorError::invalid(format!("partition column {name:?}: expected {data_type}, got {value:?}: {error}"))
    })
}

/// A value as Delta's log writes it; none is null. An empty string is null too, as Delta has it.
///
/// # Errors
/// A type that cannot partition a table (nested, binary, float).
pub(crate) fn format(name: &str, value: &ScalarValue) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    let text = match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            text.clone()
        }
        ScalarValue::Dictionary(_, inner) => return format(name, inner),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => timestamp(name, *micros)?,
        _ if is_plain(&value.data_type()) => value.to_string(),
        _ => {
            return Err(ConnectorError::invalid(format!(
                "column {name:?} of type {} cannot partition a table; expected a string, integer, boolean, date or timestamp",
                value.data_type()
            )));
        }
    };
    Ok((!text.is_empty()).then_some(text))
}

fn is_plain(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Boolean | DataType::Date32)
}

fn timestamp(name: &str, micros: i64) -> Result<String> {
    let time = chrono::DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| ConnectorError::invalid(format!("column {name:?}: {micros} µs is no time")))?;
    Ok(time.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

/// The type that a column of directory names has: integer, date or text, the first that fits all.
pub(super) fn infer(values: &[Option<&str>]) -> DataType {
    let fits = |data_type: &DataType| {
        values
            .iter()
            .flatten()
            .all(|text| ScalarValue::try_from_string((*text).to_owned(), data_type).is_ok_and(|v| !v.is_null()))
    };
    let canonical_date = |text: &&str| text.len() == "2013-11-05".len();
    if values.iter().all(Option::is_none) {
        DataType::Utf8
    } else if fits(&DataType::Int64) {
        DataType::Int64
    } else if values.iter().flatten().all(canonical_date) && fits(&DataType::Date32) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

/// The name and value of a directory `name=value`; none for any other directory.
pub(super) fn of_directory(segment: &str) -> Option<(String, Option<String>)> {
    let (name, value) = segment.split_once('=')?;
    let value = unescape(value);
    Some((unescape(name), (value != HIVE_NULL).then_some(value)))
}

/// The directory of one value, with the characters escaped that Hive escapes.
pub(crate) fn directory(name: &str, value: Option<&str>) -> String {
    format!("{}={}", escape(name), value.map_or_else(|| HIVE_NULL.to_owned(), escape))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // `:` is left alone by object stores but not by all file systems; the rest would split or
        // garble the path.
        if c.is_ascii_control() || "\"#%'*/:=?\\{}[]^<>|~`".contains(c) || !c.is_ascii() {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 3;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}

/// Whether a column of this type may partition a table.
pub(crate) fn can_partition(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => can_partition(value),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Timestamp(TimeUnit::Microsecond, _) => true,
        other => is_plain(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_directory_name_gives_its_value_back(name in "[a-z=/% ]{1,8}", value in any::<String>()) {
            prop_assume!(value != HIVE_NULL);
            let directory = directory(&name, Some(&value));
            prop_assert!(!directory.contains('/'));
            prop_assert_eq!(of_directory(&directory), Some((name, Some(value))));
        }
    }

    #[test]
    fn null_has_its_own_directory() {
        assert_eq!(of_directory(&directory("ds", None)), Some(("ds".into(), None)));
    }

    #[test]
    fn types_of_directories_are_inferred_as_spark_does() {
        assert_eq!(infer(&[Some("1"), None, Some("-2")]), DataType::Int64);
        assert_eq!(infer(&[Some("2013-11-05")]), DataType::Date32);
        assert_eq!(infer(&[Some("2013-11-05"), Some("x")]), DataType::Utf8);
    }

    #[test]
    fn values_survive_the_way_through_text() {
        for value in [
            ScalarValue::Int32(Some(-3)),
            ScalarValue::Date32(Some(16014)),
            ScalarValue::Boolean(Some(true)),
            ScalarValue::Utf8(Some("é/=".into())),
            ScalarValue::TimestampMicrosecond(Some(1_383_609_600_000_001), None),
        ] {
            let text = format("c", &value).unwrap();
            assert_eq!(parse("c", &value.data_type(), text.as_deref()).unwrap(), value);
        }
    }
}
