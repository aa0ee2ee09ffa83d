//! Numbers and times that come round, as points on a circle.

use std::f64::consts::TAU;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::{cos, sin};
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{cast, ident};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::number_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "cyclical_encoder";
const PARAMS: [&str; 3] = ["inputs", "outputs", "period"];
const SECONDS_PER_DAY: f64 = 86_400.0;
/// Periods by name, in seconds; a year is the Gregorian calendar's mean one.
const PERIODS: [(&str, f64); 5] = [
    ("minute", 60.0),
    ("hour", 3_600.0),
    ("day", SECONDS_PER_DAY),
    ("week", 7.0 * SECONDS_PER_DAY),
    ("year", 365.2425 * SECONDS_PER_DAY),
];

/// The sine and the cosine of `2π · x / period`, so that the end of a period is as near to its start as to what is
/// before it. Spark ML has no such stage.
///
/// `x` is a number, or a date, timestamp or time of day in seconds since 1970 or midnight, in UTC. Null stays null; NaN
/// and infinities give NaN. Parameters: `inputs`, `outputs` (two for each input, by default `x_sin` and `x_cos`),
/// `period`: a number above 0, or for dates and times `minute`, `hour`, `day`, `week` or `year` (365.2425 days). Learns
/// nothing.
#[derive(Debug, Clone)]
pub struct CyclicalEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    period: f64,
    /// Whether the period was given in words, which numbers have no use for.
    is_time: bool,
}

impl CyclicalEncoder {
    /// Encodes columns `x` as `x_sin` and `x_cos`.
    ///
    /// # Errors
    /// A period that is not a finite number above 0.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, period: f64) -> Result<Self> {
        if !(period.is_finite() && period > 0.0) {
            return Err(MlError::Invalid(format!("expected a finite \"period\" above 0, got {period}")));
        }
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        let outputs = inputs.iter().flat_map(|name| [format!("{name}_sin"), format!("{name}_cos")]).collect();
        Ok(Self { inputs, outputs, period, is_time: false })
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let (period, is_time) = period(value.get("period").unwrap_or(&Value::Null))?;
        let stage = Self { is_time, ..Self::new(params.inputs()?, period)? };
        let Some(outputs) = params.columns("outputs")? else {
            return Ok(Arc::new(stage));
        };
        if outputs.len() != stage.outputs.len() {
            return Err(MlError::Invalid(format!(
                "parameter \"outputs\" has {} columns; expected {}, a sine and a cosine for each input",
                outputs.len(),
                stage.outputs.len()
            )));
        }
        Ok(Arc::new(Self { outputs, ..stage }))
    }

    /// The period in the units that a column counts in.
    fn period_of(&self, scope: &Scope, name: &str) -> Result<Period> {
        let column = scope.column(name)?;
        if column.is_number() && !self.is_time {
            return Ok(Period { period: self.period, counts_units: false });
        }
        match in_units(self.period, &column.data_type) {
            Some(period) => Ok(Period { period, counts_units: true }),
            None if self.is_time => Err(MlError::Invalid(format!(
                "column {name:?} is {}; expected a date or a time, or \"period\" as a number",
                column.describe()
            ))),
            None => Err(MlError::Invalid(format!(
                "column {name:?} is {}; expected a number, a date or a time",
                column.describe()
            ))),
        }
    }
}

/// A period as a number, and whether it was given in words.
fn period(value: &Value) -> Result<(f64, bool)> {
    let named = PERIODS.iter().find(|(name, _)| value.as_str() == Some(*name));
    match (named, value.as_f64()) {
        (Some((_, seconds)), _) => Ok((*seconds, true)),
        (None, Some(period)) => Ok((period, false)),
        (None, None) => Err(MlError::Invalid(format!(
            "parameter \"period\": expected a number, or one of minute, hour, day, week, year, got {value}"
        ))),
    }
}

/// Seconds in the units that a type counts in; none for what is no date or time.
fn in_units(seconds: f64, data_type: &DataType) -> Option<f64> {
    match data_type {
        DataType::Date32 => Some(seconds / SECONDS_PER_DAY),
        DataType::Date64 => Some(seconds * 1e3),
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => Some(match unit {
            TimeUnit::Second => seconds,
            TimeUnit::Millisecond => seconds * 1e3,
            TimeUnit::Microsecond => seconds * 1e6,
            TimeUnit::Nanosecond => seconds * 1e9,
        }),
        _ => None,
    }
}

impl Stage for CyclicalEncoder {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        self.inputs.iter().try_for_each(|name| self.period_of(scope, name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::number(name)).collect())
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(FittedCyclicalEncoder {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            periods: self.inputs.iter().map(|name| self.period_of(scope, name)).collect::<Result<_>>()?,
        }))
    }
}

/// How one column is read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Period {
    #[serde(with = "exact")]
    period: f64,
    /// Whether the column is a date or a time, which counts units of its type.
    counts_units: bool,
}

impl Period {
    /// The angle of a column's value; the remainder keeps it exact far from 0.
    fn angle(self, column: &str) -> Expr {
        let x = if self.counts_units {
            cast(cast(ident(column), DataType::Int64), DataType::Float64)
        } else {
            number_expr(column)
        };
        x % lit(self.period) * lit(TAU / self.period)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedCyclicalEncoder {
    inputs: Vec<String>,
    /// Two for each input.
    outputs: Vec<String>,
    /// One for each input.
    periods: Vec<Period>,
}

impl FittedStage for FittedCyclicalEncoder {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let angles = self.inputs.iter().zip(&self.periods).map(|(input, period)| period.angle(input));
        let exprs = angles.flat_map(|angle| [sin(angle.clone()), cos(angle)]);
        let output =
            |(column, expr): (&String, Expr)| FittedOutput { column: column.clone(), expr, kind: FeatureKind::Number };
        Ok(self.outputs.iter().zip(exprs).map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.periods);
        let lines: Vec<String> = columns.map(|(c, p)| format!("{c} of period {}", p.period)).collect();
        lines.join(", ")
    }
}
