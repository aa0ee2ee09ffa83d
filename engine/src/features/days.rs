//! Sets of days.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

/// A set of days, written as ranges of first and last day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(NaiveDate, NaiveDate)>", into = "Vec<(NaiveDate, NaiveDate)>")]
pub struct Days(BTreeSet<NaiveDate>);

impl Days {
    /// Adds all days of a range.
    pub fn insert(&mut self, range: RangeInclusive<NaiveDate>) {
        self.0.extend(days_of(&range));
    }

    /// How many days.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The days of a range that are not in it, as ranges.
    pub fn missing(&self, range: RangeInclusive<NaiveDate>) -> Vec<RangeInclusive<NaiveDate>> {
        ranges(days_of(&range).filter(|day| !self.0.contains(day)))
    }

    /// Its ranges, in order.
    pub fn ranges(&self) -> Vec<RangeInclusive<NaiveDate>> {
        ranges(self.0.iter().copied())
    }
}

impl From<Vec<(NaiveDate, NaiveDate)>> for Days {
    fn from(ranges: Vec<(NaiveDate, NaiveDate)>) -> Self {
        let mut days = Self::default();
        ranges.into_iter().for_each(|(first, last)| days.insert(first..=last));
        days
    }
}

impl From<Days> for Vec<(NaiveDate, NaiveDate)> {
    fn from(days: Days) -> Self {
        days.ranges().into_iter().map(RangeInclusive::into_inner).collect()
    }
}

/// The days of a range.
pub(super) fn days_of(range: &RangeInclusive<NaiveDate>) -> impl Iterator<Item = NaiveDate> + use<> {
    let (first, last) = (*range.start(), *range.end());
    first.iter_days().take_while(move |day| *day <= last)
}

fn ranges(days: impl Iterator<Item = NaiveDate>) -> Vec<RangeInclusive<NaiveDate>> {
    let mut ranges: Vec<RangeInclusive<NaiveDate>> = Vec::new();
    for day in days {
        match ranges.last_mut() {
            Some(last) if last.end().succ_opt() == Some(day) => *last = *last.start()..=day,
            _ => ranges.push(day..=day),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2013, 1, n).unwrap()
    }

    #[test]
    fn what_is_missing_comes_as_ranges() {
        let mut days = Days::default();
        days.insert(day(3)..=day(4));
        days.insert(day(7)..=day(7));
        assert_eq!(days.missing(day(1)..=day(9)), [day(1)..=day(2), day(5)..=day(6), day(8)..=day(9)]);
        assert_eq!(days.missing(day(3)..=day(4)), []);
    }

    #[test]
    fn days_survive_their_text() {
        let days = Days::from(vec![(day(1), day(4)), (day(9), day(9))]);
        let text = serde_json::to_string(&days).unwrap();
        assert_eq!(text, r#"[["2013-01-01","2013-01-04"],["2013-01-09","2013-01-09"]]"#);
        assert_eq!(serde_json::from_str::<Days>(&text).unwrap(), days);
    }
}
