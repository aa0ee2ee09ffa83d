//! `distribution(x [, include])`: quantiles at [`SHARES`] and a histogram of at most [`MAX_BINS`] bins, in one pass.
//!
//! Both are functions of the multiset of values: the order and partitioning of the rows change no bit of them.
//! Quantiles are those of [`super::exact_quantile`]. Bins are those numbers that have the same leading bits: sign,
//! exponent and as many bits of the mantissa as leave at most [`MAX_BINS`] bins that are not empty, so that bins of two
//! sets of numbers have edges in common. Nulls and NaN, and rows for which `include` is not true, are left out; without
//! any value the result is null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};
use serde::{Deserialize, Serialize};

use super::aggregate::{self, Aggregate};
use super::exact_quantile::{MAX_EXACT_VALUES, at_share};
use super::key_counts::KeyCounts;
use super::support;
use crate::codec::exact;

/// The shares whose quantiles are found: 20 parts of as many values each, and both tails.
pub const SHARES: [f64; 21] = [
    0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99,
];

/// Bins of a histogram: enough to draw and to compare, few enough to be kept with a model. Numbers over so many orders
/// of magnitude that sign and exponent alone make more have one bin for each of those.
pub const MAX_BINS: usize = 64;

const NAME: &str = "distribution";

/// How numbers are spread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// The quantiles at [`SHARES`], each an element of the column, with the error bound of
    /// [`exact_quantile`](super::exact_quantile).
    #[serde(with = "exact::list")]
    pub quantiles: Vec<f64>,
    /// How many of the 52 bits of the mantissa are cut off within a bin: its numbers differ from its lower edge by less
    /// than `2^(cut_bits - 52)` of their magnitude. With 0 each bin is one number.
    pub cut_bits: u32,
    /// The lowest number that is in each bin or could be, in ascending order. Empty bins are left out.
    #[serde(with = "exact::list")]
    pub bin_edges: Vec<f64>,
    /// How many numbers are in each bin.
    pub bin_counts: Vec<u64>,
}

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<DistributionOf>()
}

/// A call of the function.
pub fn distribution(x: Expr) -> Expr {
    udaf().call(vec![x])
}

/// Reads the function's result; an empty one where there was no value.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Distribution> {
    let ScalarValue::Struct(array) = value else {
        return exec_err!("expected the struct that {NAME} gives, got {}", value.data_type());
    };
    if array.is_null(0) {
        return Ok(Distribution::default());
    }
    let [quantiles, cut_bits, edges, counts] = array.columns() else { return support::damaged(NAME) };
    let counts = items(counts)?;
    Ok(Distribution {
        quantiles: floats(quantiles)?,
        cut_bits: cut_bits.as_primitive_opt::<Int64Type>().map_or(0, |bits| bits.value(0) as u32),
        bin_edges: floats(edges)?,
        bin_counts: counts.as_primitive_opt::<Int64Type>().into_iter().flatten().flatten().map(|n| n as u64).collect(),
    })
}

fn items(column: &ArrayRef) -> Result<ArrayRef> {
    let lists: Option<&ListArray> = column.as_list_opt();
    lists.map_or_else(|| support::damaged(NAME), |lists| Ok(lists.value(0)))
}

fn floats(column: &ArrayRef) -> Result<Vec<f64>> {
    Ok(items(column)?.as_primitive_opt::<Float64Type>().into_iter().flatten().flatten().collect())
}

fn fields() -> Fields {
    let numbers = DataType::new_list(DataType::Float64, true);
    Fields::from(vec![
        Field::new("quantiles", numbers.clone(), true),
        Field::new("cut_bits", DataType::Int64, true),
        Field::new("bin_edges", numbers, true),
        Field::new("bin_counts", DataType::new_list(DataType::Int64, true), true),
    ])
}

#[derive(Debug)]
struct DistributionOf(KeyCounts);

impl Aggregate for DistributionOf {
    const NAME: &'static str = NAME;

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Struct(fields())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self(KeyCounts::new(MAX_EXACT_VALUES)))
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.0.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = self.0.sorted();
        if sorted.is_empty() {
            return ScalarValue::try_from(DataType::Struct(fields()));
        }
        let quantiles: Float64Array = SHARES.iter().map(|&share| at_share(&sorted, share)).collect();
        let mut bins = self.0.limited(MAX_BINS);
        let (edges, counts): (Vec<f64>, Vec<i64>) = bins.sorted().into_iter().map(|(v, n)| (v, n as i64)).unzip();
        let list = |items: ArrayRef| Arc::new(SingleRowListArrayBuilder::new(items).build_list_array()) as ArrayRef;
        let columns = vec![
            list(Arc::new(quantiles)),
            Arc::new(Int64Array::from(vec![i64::from(bins.level())])) as ArrayRef,
            list(Arc::new(Float64Array::from(edges))),
            list(Arc::new(Int64Array::from(counts))),
        ];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The distribution of numbers that came in these parts.
    fn of(parts: &[&[f64]]) -> Distribution {
        let mut all = DistributionOf(KeyCounts::new(MAX_EXACT_VALUES));
        for part in parts {
            let mut one = DistributionOf(KeyCounts::new(MAX_EXACT_VALUES));
            one.update(&[Arc::new(Float64Array::from(part.to_vec()))]).unwrap();
            all.merge(&one.to_bytes()).unwrap();
        }
        from_scalar(&all.evaluate().unwrap()).unwrap()
    }

    #[test]
    fn few_numbers_have_a_bin_each() {
        let found = of(&[&[2.0, -1.5, f64::NAN], &[2.0, f64::INFINITY]]);
        assert_eq!(found.bin_edges, [-1.5, 2.0, f64::INFINITY]);
        assert_eq!((found.bin_counts, found.cut_bits), (vec![1, 2, 1], 0));
        assert_eq!(of(&[&[f64::NAN]]), Distribution::default());
    }

    proptest! {
        #[test]
        fn bins_hold_all_numbers_and_do_not_depend_on_their_order(
            values in prop::collection::vec(prop_oneof![-1e3f64..1e3, -1e9f64..1e9], 1..500),
            cut in 0usize..500,
        ) {
            let found = of(&[&values]);
            let (first, second) = values.split_at(cut.min(values.len()));
            let backwards: Vec<f64> = first.iter().rev().copied().collect();
            prop_assert_eq!(&found, &of(&[second, &backwards]));
            prop_assert!(found.bin_edges.len() <= MAX_BINS && found.bin_edges.is_sorted());
            let bin = |value: f64| found.bin_edges.partition_point(|edge| *edge <= value) - 1;
            let mut counts = vec![0; found.bin_edges.len()];
            for &value in &values {
                counts[bin(value)] += 1;
                let bound = 2.0f64.powi(found.cut_bits as i32 - 52) * value.abs().max(found.bin_edges[bin(value)].abs());
                prop_assert!(value - found.bin_edges[bin(value)] <= bound);
            }
            prop_assert_eq!(counts, found.bin_counts);
        }
    }
}
