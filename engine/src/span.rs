//! A length of time as job files and declarations say it.

use std::fmt;

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use chrono::TimeDelta;
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};

use crate::EngineError;

/// A length of time without months, as `2 days` or `90 minutes`. A day is 24 hours. Never negative; none by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    text: String,
    length: TimeDelta,
}

impl Span {
    /// How long it is.
    pub fn length(&self) -> TimeDelta {
        self.length
    }

    /// As SQL has it.
    ///
    /// # Errors
    /// A span of more than 292 years.
    pub(crate) fn interval(&self) -> Result<ScalarValue, EngineError> {
        interval(self.length)
    }

    /// In days, a part of one counted as one.
    pub fn whole_days(&self) -> i64 {
        let days = self.length.num_days();
        if TimeDelta::days(days) < self.length { days + 1 } else { days }
    }
}

impl Default for Span {
    fn default() -> Self {
        Self { text: "0 days".to_owned(), length: TimeDelta::zero() }
    }
}

impl TryFrom<String> for Span {
    type Error = EngineError;

    fn try_from(text: String) -> Result<Self, EngineError> {
        let wrong = || {
            let expected = "expected a length of time without months, as 2 days or 90 minutes";
            EngineError::Invalid(format!("{expected}; got {text:?}"))
        };
        let parsed = parse_interval_month_day_nano(&text).map_err(|_| wrong())?;
        let length = TimeDelta::try_days(parsed.days.into())
            .and_then(|days| days.checked_add(&TimeDelta::nanoseconds(parsed.nanoseconds)))
            .filter(|length| parsed.months == 0 && *length >= TimeDelta::zero())
            .ok_or_else(wrong)?;
        Ok(Self { text, length })
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.text
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A length of time as SQL has it.
pub(crate) fn interval(length: TimeDelta) -> Result<ScalarValue, EngineError> {
    let nanos = length.num_nanoseconds();
    let nanos = nanos.ok_or_else(|| EngineError::Invalid(format!("{length} is longer than 292 years")))?;
    Ok(ScalarValue::new_interval_mdn(0, 0, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_day_counts_as_one() {
        let days = |text: &str| Span::try_from(text.to_owned()).unwrap().whole_days();
        assert_eq!((days("0 days"), days("7 days"), days("25 hours"), days("90 minutes")), (0, 7, 2, 1));
    }
}
