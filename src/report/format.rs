//! How numbers, times and parameters are written in reports.

use serde_json::Value;

/// A whole number with a comma between thousands: `336,776`.
pub fn thousands(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count of things in memory, with commas.
pub(crate) fn count(n: usize) -> String {
    thousands(n as u64)
}

/// A time: `0.42 s`, `12.3 s`, `4 min 05 s`.
pub fn seconds(s: f64) -> String {
    if s < 1.0 {
        format!("{s:.2} s")
    } else if s < 120.0 {
        format!("{s:.1} s")
    } else {
        let whole = s.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// Bytes as megabytes: `12.3 MB`; a dash for none.
pub(crate) fn megabytes(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}

/// A metric's value with four decimals, or a dash.
pub(crate) fn metric(value: Option<f64>) -> String {
    value.filter(|v| v.is_finite()).map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"))
}

/// A share as a percentage with one decimal.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A metric's name as people read it: `area under roc`.
pub fn metric_name(name: &str) -> String {
    name.replace('_', " ").replace("roc", "ROC").replace("under pr", "under PR")
}

/// Parameters on one line: `max_depth 5, step_size 0.1`.
pub fn params_text(params: &Value) -> String {
    match params {
        Value::Object(map) if map.is_empty() => "defaults".to_owned(),
        Value::Object(map) => map.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect::<Vec<_>>().join(", "),
        Value::Null => "defaults".to_owned(),
        other => plain(other),
    }
}

/// A JSON value without the quotes around text.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// The first characters of a digest or an id, enough to tell it from others.
pub fn short_id(id: &str) -> &str {
    const CHARS: usize = 12;
    id.char_indices().nth(CHARS).map_or(id, |(end, _)| &id[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thousands_are_parted_by_commas() {
        let written: Vec<String> = [0u64, 999, 1000, 336_776, 1_000_000].map(thousands).into();
        assert_eq!(written, ["0", "999", "1,000", "336,776", "1,000,000"]);
    }

    #[test]
    fn times_have_the_unit_that_reads_well() {
        assert_eq!([0.416, 12.34, 245.2].map(seconds), ["0.42 s", "12.3 s", "4 min 05 s"]);
    }

    #[test]
    fn bytes_are_megabytes() {
        assert_eq!([0, 12_345_678].map(megabytes), ["-", "12.3 MB"]);
    }

    #[test]
    fn params_are_one_line() {
        assert_eq!(params_text(&json!({"layers": [16, 8], "step": 0.1})), "layers 16 8, step 0.1");
        assert_eq!(params_text(&json!({})), "defaults");
    }

    #[test]
    fn values_that_are_not_numbers_are_a_dash() {
        assert_eq!([metric(Some(f64::NAN)), metric(None), metric(Some(0.71234))], ["-", "-", "0.7123"]);
    }
}
