//! Times as whole numbers: what they are compared by, and how far a tolerance reaches.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, UInt64Type};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use serde::{Deserialize, Serialize};

const NANOS_PER_DAY: i128 = 86_400_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;

/// A kind of time. Columns of one kind compare, whatever their unit or width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// Integers.
    Whole,
    /// Floating point numbers.
    Real,
    /// Timestamps with a zone; dates and timestamps without one.
    Instant { zoned: bool },
    /// Times of a day.
    TimeOfDay,
    /// Durations.
    Elapsed,
}

impl Clock {
    /// The kind of a time column.
    ///
    /// # Errors
    /// A type that is not ordered in time.
    pub(super) fn of(field: &Field) -> Result<Self> {
        Ok(match field.data_type() {
            t if t.is_integer() => Self::Whole,
            t if t.is_floating() => Self::Real,
            DataType::Timestamp(_, zone) => Self::Instant { zoned: zone.is_some() },
            DataType::Date32 | DataType::Date64 => Self::Instant { zoned: false },
            DataType::Time32(_) | DataType::Time64(_) => Self::TimeOfDay,
            DataType::Duration(_) => Self::Elapsed,
            other => {
                return plan_err!(
                    "the time column {:?} is {other}, expected a timestamp, date, time, duration, integer or float",
                    field.name()
                );
            }
        })
    }
}

/// The times of a column in ticks, which order as the times do: nanoseconds, the integers themselves, or the places of
/// floating point numbers. Null and NaN are none.
pub(crate) fn ticks(array: &ArrayRef) -> Result<Vec<Option<i128>>> {
    match array.data_type() {
        t if t.is_floating() => {
            let reals = cast(array, &DataType::Float64)?;
            let reals = reals.as_primitive::<Float64Type>().iter();
            Ok(reals.map(|v| v.filter(|v| !v.is_nan()).map(place)).collect())
        }
        DataType::UInt64 => Ok(array.as_primitive::<UInt64Type>().iter().map(|v| v.map(i128::from)).collect()),
        t => {
            let (units, per_unit) = (units(array)?, per_unit(t));
            Ok(units.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| i128::from(v) * per_unit)).collect())
        }
    }
}

/// The ticks of a type's unit.
fn per_unit(data_type: &DataType) -> i128 {
    match data_type {
        DataType::Timestamp(u, _) | DataType::Time32(u) | DataType::Time64(u) | DataType::Duration(u) => nanos(*u),
        DataType::Date32 => NANOS_PER_DAY,
        DataType::Date64 => NANOS_PER_MILLI,
        _ => 1,
    }
}

/// Reads times of columns of one kind in 64 bits each, in the finest of their units.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortTicks {
    ticks_per_unit: i128,
}

impl ShortTicks {
    /// No time.
    pub(super) const NONE: i64 = i64::MIN;

    /// For columns of these types.
    pub(super) fn of(types: &[DataType]) -> Self {
        Self { ticks_per_unit: types.iter().map(per_unit).min().unwrap_or(1) }
    }

    /// The times of a column, [`Self::NONE`] where it is null or NaN; nothing where one takes more than 64 bits.
    pub(super) fn read(self, array: &ArrayRef) -> Result<Option<Vec<i64>>> {
        let data_type = array.data_type();
        if data_type.is_floating() || *data_type == DataType::UInt64 {
            let short = |t: Option<i128>| t.map_or(Some(Self::NONE), |t| i64::try_from(t).ok());
            return Ok(ticks(array)?.into_iter().map(short).collect());
        }
        let Ok(factor) = i64::try_from(per_unit(data_type) / self.ticks_per_unit) else { return Ok(None) };
        let short = |v: Option<i64>| match v {
            None => Some(Self::NONE),
            Some(v) => v.checked_mul(factor).filter(|v| *v != Self::NONE),
        };
        Ok(units(array)?.as_primitive::<Int64Type>().iter().map(short).collect())
    }

    /// A time in ticks.
    pub(super) fn wide(self, time: i64) -> i128 {
        i128::from(time) * self.ticks_per_unit
    }
}

/// Integers, booleans and times as `Int64`, times in their own unit.
pub(super) fn units(array: &ArrayRef) -> Result<ArrayRef> {
    let is_narrow = matches!(array.data_type(), DataType::Date32 | DataType::Time32(_));
    let units = if is_narrow { cast(array, &DataType::Int32)? } else { ArrayRef::clone(array) };
    Ok(cast(&units, &DataType::Int64)?)
}

fn nanos(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => NANOS_PER_MILLI,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// A number's place in the order of floating point numbers; `-0.0` stands where `0.0` does.
pub(super) fn place(v: f64) -> i128 {
    i128::from(flip((v + 0.0).to_bits().cast_signed()))
}

/// Turns the bits of negative numbers around, so that they order as integers; its own inverse.
fn flip(bits: i64) -> i64 {
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// How far before the left's time a match may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tolerance {
    /// For integer times.
    Whole(u64),
    /// For floating point times: the bits of the number.
    Real(u64),
    /// For all other times.
    Nanos(u64),
}

impl Tolerance {
    /// The tolerance for a time column: a number for a numeric one, else an interval or duration. A day is 24 hours.
    ///
    /// # Errors
    /// A value of another type, one that is null or negative, an interval with months (they differ in length).
    pub(crate) fn new(value: &ScalarValue, time: &Field) -> Result<Self> {
        let clock = Clock::of(time)?;
        let wrong = |expected: &str| {
            plan_datafusion_err!(
                "the tolerance is {value} ({}), but the time {:?} is {}; expected {expected}",
                value.data_type(),
                time.name(),
                time.data_type()
            )
        };
        match clock {
            Clock::Whole => whole(value).map(Self::Whole).ok_or_else(|| wrong("a whole number that is not negative")),
            Clock::Real => real(value).map(Self::Real).ok_or_else(|| wrong("a number that is not negative")),
            _ => {
                let nanos = interval(value).ok_or_else(|| wrong("an interval of days or shorter units"))?;
                let fits = u64::try_from(nanos).map(Self::Nanos);
                fits.map_err(|_| wrong("an interval between none and 584 years"))
            }
        }
    }

    pub(super) fn fits(self, clock: Clock) -> bool {
        match self {
            Self::Whole(_) => clock == Clock::Whole,
            Self::Real(_) => clock == Clock::Real,
            Self::Nanos(_) => !matches!(clock, Clock::Whole | Clock::Real),
        }
    }

    /// The earliest ticks that are near enough to `ticks`.
    pub(super) fn earliest(self, ticks: i128) -> i128 {
        match self {
            Self::Whole(n) | Self::Nanos(n) => ticks - i128::from(n),
            // The ticks of floating point numbers are 64 bits wide.
            Self::Real(bits) => place(f64::from_bits(flip(ticks as i64).cast_unsigned()) - f64::from_bits(bits)),
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(n) => write!(f, "{n}"),
            Self::Real(bits) => write!(f, "{}", f64::from_bits(*bits)),
            Self::Nanos(n) => write!(f, "{:?}", std::time::Duration::from_nanos(*n)),
        }
    }
}

fn whole(value: &ScalarValue) -> Option<u64> {
    let integer = value.data_type().is_integer();
    match value.cast_to(&DataType::UInt64).ok()? {
        ScalarValue::UInt64(n) if integer => n,
        _ => None,
    }
}

fn real(value: &ScalarValue) -> Option<u64> {
    let number = value.data_type().is_numeric();
    match value.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(Some(v)) if number && v >= 0.0 => Some(v.to_bits()),
        _ => None,
    }
}

/// The length of an interval without months, in nanoseconds.
fn interval(value: &ScalarValue) -> Option<i128> {
    Some(match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => {
            i128::from(v.days) * NANOS_PER_DAY + i128::from(v.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(v)) => {
            i128::from(v.days) * NANOS_PER_DAY + i128::from(v.milliseconds) * NANOS_PER_MILLI
        }
        ScalarValue::DurationSecond(Some(v)) => i128::from(*v) * nanos(TimeUnit::Second),
        ScalarValue::DurationMillisecond(Some(v)) => i128::from(*v) * NANOS_PER_MILLI,
        ScalarValue::DurationMicrosecond(Some(v)) => i128::from(*v) * nanos(TimeUnit::Microsecond),
        ScalarValue::DurationNanosecond(Some(v)) => i128::from(*v),
        _ => return None,
    })
}
