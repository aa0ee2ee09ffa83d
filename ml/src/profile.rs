//! The profile of a table: what is in each column, found in one pass by aggregates that do not depend on the order or
//! partitioning of its rows.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::expr_fn::isnan;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, cast, lit, not, when};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::exact;
pub use crate::functions::distribution::{Distribution, MAX_BINS, SHARES};
use crate::functions::{category_counts, distribution, exact_moments};
use crate::{MlError, Result};

/// How many of a column's most frequent values a profile has.
pub const TOP_VALUES: usize = 20;

/// What is in a table. Written with serde its floats are texts that come back to the bit; [`Self::to_json`] has numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its rows.
    pub n_rows: u64,
    /// Its columns, in their order.
    pub columns: Vec<ColumnProfile>,
}

/// What is in a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: String,
    /// Rows without a value.
    pub nulls: u64,
    /// What the values are like.
    #[serde(flatten)]
    pub values: Values,
}

/// What a column's values are like, by what they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Values {
    /// Numbers, as `f64`. NaN is counted and otherwise left out.
    Number {
        /// How many are NaN.
        nan: u64,
        /// Their mean; none without numbers.
        #[serde(with = "exact::option")]
        mean: Option<f64>,
        /// Their standard deviation, of a sample (n - 1); none with fewer than two.
        #[serde(with = "exact::option")]
        std_dev: Option<f64>,
        /// The smallest.
        #[serde(with = "exact::option")]
        min: Option<f64>,
        /// The largest.
        #[serde(with = "exact::option")]
        max: Option<f64>,
        /// Their quantiles and histogram; empty without numbers.
        #[serde(flatten)]
        distribution: Distribution,
    },
    /// Text and booleans.
    Category {
        /// How many different ones there are; none with more than [`category_counts::MAX_CATEGORIES`].
        distinct: Option<u64>,
        /// The most frequent ones, at most [`TOP_VALUES`], and how often they come; ties in the order of their bytes.
        top: Vec<(String, u64)>,
    },
    /// Dates and times.
    Time {
        /// The first, as text.
        min: Option<String>,
        /// The last.
        max: Option<String>,
    },
    /// Lists, structs and bytes: counted only.
    Other,
}

enum Kind {
    Number,
    Category,
    Time,
    Other,
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::Boolean | DataType::Null => Self::Category,
            t if t.is_string() => Self::Category,
            DataType::Interval(_) | DataType::Duration(_) => Self::Other,
            t if t.is_temporal() => Self::Time,
            t if t.is_numeric() => Self::Number,
            _ => Self::Other,
        }
    }
}

/// The aggregates over a table of this schema that [`Profile::from_values`] reads, in their order.
///
/// # Errors
/// What cannot be expressed over these columns.
pub fn aggregates(schema: &DFSchema) -> Result<Vec<Expr>> {
    let mut aggregates = vec![count(lit(1))];
    for (column, field) in schema.columns().into_iter().zip(schema.fields()) {
        let column = Expr::Column(column);
        aggregates.push(count(column.clone()));
        match Kind::of(field.data_type()) {
            Kind::Number => {
                let x = cast(column, DataType::Float64);
                let number = when(not(isnan(x.clone())), x.clone()).end()?;
                aggregates.extend([exact_moments::exact_moments(number), distribution::distribution(x)]);
            }
            Kind::Category => aggregates.push(category_counts::category_counts(cast(column, DataType::Utf8))),
            Kind::Time => {
                let text = cast(column, DataType::Utf8);
                aggregates.extend([min(text.clone()), max(text)]);
            }
            Kind::Other => {}
        }
    }
    let named = aggregates.into_iter().enumerate();
    Ok(named.map(|(i, aggregate)| aggregate.alias(format!("__{i}"))).collect())
}

impl Profile {
    /// Reads the values of [`aggregates`].
    ///
    /// # Errors
    /// Values that those aggregates do not give.
    pub fn from_values(schema: &DFSchema, values: impl IntoIterator<Item = ScalarValue>) -> Result<Self> {
        let mut values = values.into_iter();
        let mut next = || values.next().ok_or_else(|| MlError::Internal("a profile lacks a value".to_owned()));
        let n_rows = counted(&next()?)?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let present = counted(&next()?)?;
            let values = match Kind::of(field.data_type()) {
                Kind::Number => {
                    let moments = exact_moments::from_scalar(&next()?)?;
                    Values::Number {
                        nan: present.saturating_sub(moments.count),
                        mean: moments.mean,
                        std_dev: moments.variance.map(f64::sqrt),
                        min: moments.min,
                        max: moments.max,
                        distribution: distribution::from_scalar(&next()?)?,
                    }
                }
                Kind::Category => category(category_counts::from_scalar(&next()?)?),
                Kind::Time => Values::Time { min: text(&next()?), max: text(&next()?) },
                Kind::Other => Values::Other,
            };
            let (name, data_type) = (field.name().clone(), field.data_type().to_string());
            let nulls = n_rows.saturating_sub(present);
            columns.push(ColumnProfile { name, data_type, nulls, values });
        }
        Ok(Self { n_rows, columns })
    }

    /// Its JSON for readers: floats are numbers, and null where JSON has none.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn to_json(&self) -> Result<Value> {
        let unwritable = |e: serde_json::Error| MlError::Internal(format!("a profile has no JSON: {e}"));
        let mut json = serde_json::to_value(self).map_err(unwritable)?;
        for (column, json) in self.columns.iter().zip(json["columns"].as_array_mut().into_iter().flatten()) {
            if let Values::Number { mean, std_dev, min, max, distribution, .. } = &column.values {
                let numbers = [("mean", mean), ("std_dev", std_dev), ("min", min), ("max", max)];
                numbers.into_iter().for_each(|(name, number)| json[name] = (*number).into());
                json["quantiles"] = distribution.quantiles.clone().into();
                json["bin_edges"] = distribution.bin_edges.clone().into();
            }
        }
        Ok(json)
    }
}

fn counted(value: &ScalarValue) -> Result<u64> {
    match value {
        ScalarValue::Int64(Some(n)) => Ok(*n as u64),
        other => Err(MlError::Internal(format!("a profile has {other} where a count should be"))),
    }
}

fn category(counts: Option<Vec<(String, u64)>>) -> Values {
    let Some(mut counts) = counts else { return Values::Category { distinct: None, top: Vec::new() } };
    let distinct = Some(counts.len() as u64);
    // Sorted by value, and stable.
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts.truncate(TOP_VALUES);
    Values::Category { distinct, top: counts }
}

fn text(value: &ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_owned)
}
