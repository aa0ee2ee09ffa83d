//! Lengths of time as users write them.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use chrono::TimeDelta;

use crate::{EngineError, Result};

/// The length of time that `text` says, as `2 days` or `90 minutes`; `what` is for the message. A day is 24 hours.
///
/// # Errors
/// Text that is no length, a negative length, and one of months, which differ in theirs.
pub(crate) fn time_length(what: &str, text: &str) -> Result<TimeDelta> {
    let parsed = parse_interval_month_day_nano(text).ok().filter(|parsed| parsed.months == 0);
    let length = parsed.and_then(|parsed| {
        TimeDelta::try_days(parsed.days.into())?.checked_add(&TimeDelta::nanoseconds(parsed.nanoseconds))
    });
    length.filter(|length| *length >= TimeDelta::zero()).ok_or_else(|| {
        let expected = format!("{what} must be a length of time without months, as 2 days or 90 minutes");
        EngineError::Invalid(format!("{expected}; got {text:?}"))
    })
}
