//! Statistics of one file: Delta's JSON to DataFusion's and back.
//!
//! The JSON is `{"numRecords": …, "minValues": {…}, "maxValues": {…}, "nullCount": {…}}`, by column.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::scalar::ScalarValue;
use serde_json::{Map, Value, json};

/// Longer strings are left out: they would fill the log and prune little.
const MAX_STRING_BYTES: usize = 64;

/// The statistics of a file over the columns of `schema`; what the JSON does not say is absent.
pub(super) fn parse(json: Option<&str>, num_rows: Option<u64>, size: u64, schema: &SchemaRef) -> Statistics {
    let parsed: Value = json.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let columns = schema.fields().iter().map(|field| column(&parsed, field)).collect();
    Statistics {
        num_rows: num_rows.and_then(|rows| usize::try_from(rows).ok()).map_or(Precision::Absent, Precision::Exact),
        // Compressed bytes: a lower estimate of the size in memory, good enough to order joins by.
        total_byte_size: usize::try_from(size).map_or(Precision::Absent, Precision::Inexact),
        column_statistics: columns,
    }
}

/// The row count that the JSON states.
pub(crate) fn num_records(json: &str) -> Option<u64> {
    serde_json::from_str::<Value>(json).ok()?.get("numRecords")?.as_u64()
}

fn column(parsed: &Value, field: &Arc<Field>) -> ColumnStatistics {
    let get = |kind: &str| parsed.get(kind).and_then(|values| values.get(field.name()));
    let mut found = ColumnStatistics::new_unknown();
    found.min_value = bound(get("minValues"), field.data_type(), 0);
    found.max_value = bound(get("maxValues"), field.data_type(), 1);
    found.null_count = get("nullCount")
        .and_then(Value::as_u64)
        .and_then(|count| usize::try_from(count).ok())
        .map_or(Precision::Absent, Precision::Exact);
    found
}

/// A bound, exact only where the value is attained for sure. Times are written in milliseconds,
/// rounded down: an upper bound is raised by `raise_ms`.
fn bound(value: Option<&Value>, data_type: &DataType, raise_ms: i64) -> Precision<ScalarValue> {
    let text = match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Precision::Absent,
    };
    let parsed = ScalarValue::try_from_string(text, data_type).ok().filter(|v| !v.is_null());
    match (parsed, data_type) {
        (Some(value), t) if t.is_integer() || *t == DataType::Date32 => Precision::Exact(value),
        (Some(value), DataType::Float32 | DataType::Float64 | DataType::Utf8) => Precision::Inexact(value),
        (Some(ScalarValue::TimestampMicrosecond(Some(t), zone)), _) => {
            Precision::Inexact(ScalarValue::TimestampMicrosecond(Some(t.saturating_add(raise_ms * 1000)), zone))
        }
        (Some(ScalarValue::TimestampMillisecond(Some(t), zone)), _) => {
            Precision::Inexact(ScalarValue::TimestampMillisecond(Some(t.saturating_add(raise_ms)), zone))
        }
        (Some(ScalarValue::TimestampNanosecond(Some(t), zone)), _) => {
            Precision::Inexact(ScalarValue::TimestampNanosecond(Some(t.saturating_add(raise_ms * 1_000_000)), zone))
        }
        _ => Precision::Absent,
    }
}

/// Delta's JSON of a file's statistics; columns of types without simple bounds are left out.
pub(super) fn to_json(found: &Statistics, schema: &SchemaRef) -> String {
    let (mut mins, mut maxs, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (field, column) in schema.fields().iter().zip(&found.column_statistics) {
        insert(&mut mins, field, column.min_value.get_value().and_then(bound_to_json));
        insert(&mut maxs, field, column.max_value.get_value().and_then(bound_to_json));
        insert(&mut nulls, field, column.null_count.get_value().map(|count| json!(count)));
    }
    let rows = found.num_rows.get_value().copied().unwrap_or_default();
    json!({"numRecords": rows, "minValues": mins, "maxValues": maxs, "nullCount": nulls}).to_string()
}

/// The JSON where only the row count is known.
pub(crate) fn rows_to_json(num_rows: u64) -> String {
    json!({ "numRecords": num_rows }).to_string()
}

fn insert(map: &mut Map<String, Value>, field: &Arc<Field>, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(field.name().clone(), value);
    }
}

fn bound_to_json(value: &ScalarValue) -> Option<Value> {
    use ScalarValue as S;
    match value {
        S::Int8(Some(v)) => Some(json!(v)),
        S::Int16(Some(v)) => Some(json!(v)),
        S::Int32(Some(v)) => Some(json!(v)),
        S::Int64(Some(v)) => Some(json!(v)),
        S::UInt8(Some(v)) => Some(json!(v)),
        S::UInt16(Some(v)) => Some(json!(v)),
        S::UInt32(Some(v)) => Some(json!(v)),
        S::UInt64(Some(v)) => Some(json!(v)),
        S::Float32(Some(v)) if v.is_finite() => Some(json!(v)),
        S::Float64(Some(v)) if v.is_finite() => Some(json!(v)),
        S::Utf8(Some(v)) | S::LargeUtf8(Some(v)) | S::Utf8View(Some(v)) if v.len() <= MAX_STRING_BYTES => {
            Some(json!(v))
        }
        S::Date32(Some(_)) => Some(json!(value.to_string())),
        S::TimestampSecond(Some(t), _) => time(t.checked_mul(1000)?),
        S::TimestampMillisecond(Some(t), _) => time(*t),
        S::TimestampMicrosecond(Some(t), _) => time(t.div_euclid(1000)),
        S::TimestampNanosecond(Some(t), _) => time(t.div_euclid(1_000_000)),
        _ => None,
    }
}

fn time(ms: i64) -> Option<Value> {
    let time = chrono::DateTime::from_timestamp_millis(ms)?;
    Some(json!(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Schema, TimeUnit};

    use super::*;

    fn round_trip(min: ScalarValue, max: ScalarValue) -> ColumnStatistics {
        let schema = Arc::new(Schema::new(vec![Field::new("c", min.data_type(), true)]));
        let mut column = ColumnStatistics::new_unknown();
        column.min_value = Precision::Exact(min);
        column.max_value = Precision::Exact(max);
        column.null_count = Precision::Exact(2);
        let found = Statistics {
            num_rows: Precision::Exact(5),
            total_byte_size: Precision::Absent,
            column_statistics: vec![column],
        };
        let json = to_json(&found, &schema);
        assert_eq!(num_records(&json), Some(5));
        parse(Some(&json), Some(5), 10, &schema).column_statistics.remove(0)
    }

    #[test]
    fn integers_and_dates_come_back_exact() {
        let ints = round_trip(ScalarValue::Int64(Some(-1)), ScalarValue::Int64(Some(i64::MAX)));
        assert_eq!(ints.max_value, Precision::Exact(ScalarValue::Int64(Some(i64::MAX))));
        assert_eq!(ints.null_count, Precision::Exact(2));
        let dates = round_trip(ScalarValue::Date32(Some(1)), ScalarValue::Date32(Some(16014)));
        assert_eq!(dates.max_value, Precision::Exact(ScalarValue::Date32(Some(16014))));
    }

    #[test]
    fn bounds_of_times_hold_after_rounding() {
        let (low, high) = (1_383_609_600_000_999, 1_383_609_600_001_001);
        let stamp = |t| ScalarValue::TimestampMicrosecond(Some(t), Some("UTC".into()));
        let column = round_trip(stamp(low), stamp(high));
        assert!(column.min_value.get_value().unwrap() <= &stamp(low));
        assert!(column.max_value.get_value().unwrap() >= &stamp(high));
        assert_eq!(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), stamp(0).data_type());
    }

    #[test]
    fn nan_gives_no_bound() {
        let column = round_trip(ScalarValue::Float64(Some(0.5)), ScalarValue::Float64(Some(f64::NAN)));
        assert_eq!(column.max_value, Precision::Absent);
        assert_eq!(column.min_value, Precision::Inexact(ScalarValue::Float64(Some(0.5))));
    }

    #[test]
    fn unreadable_statistics_are_absent() {
        let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Int64, true)]));
        let found = parse(Some("{not json"), None, 1, &schema);
        assert_eq!(found.num_rows, Precision::Absent);
        assert_eq!(found.column_statistics[0].min_value, Precision::Absent);
    }
}
