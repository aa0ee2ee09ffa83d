//! Datasets to train on: splits, samples, class weights, the latest row of each key, what each row's past says, and the
//! profile of a table.
//!
//! A split or sample is a predicate over a hash or a time: rows are not copied, and a row's side does not change when
//! others come.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::{Column, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, bitwise_xor, lit};
use datafusion::prelude::ident;
use tidemill_ml::estimator::fold_hash_of;
use tidemill_ml::profile::{self, Profile};

use crate::{EngineError, Result};

mod trailing;

pub use trailing::{Trailing, TrailingAggregate, trailing_aggregates};

/// Helper columns' name.
const RANK: &str = "__rank";

/// Predicates that part rows into sets of about these shares, by hash of their key.
///
/// Rows of equal key fall into the same set: with a group's columns as the key this is a split by group. Shares are
/// positive; what their sum leaves of 1 is in no set. A null in the key is a value like others. Key columns are whole
/// numbers, dates or text.
///
/// # Errors
/// No key, shares that are not positive or add up to more than 1.
pub fn split_by_fraction(key: &[&str], shares: &[f64], seed: u64) -> Result<Vec<Expr>> {
    let hash = key_hash(key, seed)?;
    if let Some(wrong) = shares.iter().find(|share| !(**share > 0.0 && **share <= 1.0)) {
        return Err(EngineError::Invalid(format!("a share must be above 0 and at most 1, got {wrong}")));
    }
    let total: f64 = shares.iter().sum();
    if total > 1.0 + 1e-9 {
        return Err(EngineError::Invalid(format!("shares must add up to 1 at most, got {total}")));
    }
    let mut from = 0.0;
    let mut sets = Vec::with_capacity(shares.len());
    for share in shares {
        sets.push(hash_between(&hash, from, from + share));
        from += share;
    }
    Ok(sets)
}

/// Predicates that part rows by time: before the first bound, from each bound on to before the next, from the last on.
/// Rows without a time are in no set.
///
/// # Errors
/// No bounds, or bounds that do not ascend.
pub fn split_by_time(column: &str, bounds: &[ScalarValue]) -> Result<Vec<Expr>> {
    if let Some(pair) = bounds.windows(2).find(|pair| pair[0].partial_cmp(&pair[1]) != Some(std::cmp::Ordering::Less)) {
        return Err(EngineError::Invalid(format!("bounds must ascend, got {} before {}", pair[0], pair[1])));
    }
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else {
        return Err(EngineError::Invalid("a split by time needs a bound".to_owned()));
    };
    let time = || ident(column);
    let mut sets = vec![time().lt(lit(first.clone()))];
    let between = |pair: &[ScalarValue]| time().gt_eq(lit(pair[0].clone())).and(time().lt(lit(pair[1].clone())));
    sets.extend(bounds.windows(2).map(between));
    sets.push(time().gt_eq(lit(last.clone())));
    Ok(sets)
}

/// The predicate of a sample that has about this share of the rows of each stratum, by hash of their key; strata that
/// are not named have none, as in Spark's `sampleBy`.
///
/// # Errors
/// No key, no strata, shares outside 0 to 1.
pub fn stratified_sample(stratum: &str, shares: &[(ScalarValue, f64)], key: &[&str], seed: u64) -> Result<Expr> {
    let hash = key_hash(key, seed)?;
    if let Some((value, wrong)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
        return Err(EngineError::Invalid(format!(
            "the share of {stratum} {value} must be within 0 and 1, got {wrong}"
        )));
    }
    let one = |(value, share): &(ScalarValue, f64)| {
        ident(stratum).eq(lit(value.clone())).and(hash_between(&hash, 0.0, *share))
    };
    let any = shares.iter().filter(|(_, share)| *share > 0.0).map(one).reduce(Expr::or);
    any.ok_or_else(|| EngineError::Invalid("a stratified sample needs a stratum with a share above 0".to_owned()))
}

/// The weight of each class that makes all of them count alike: `n / (k · n_class)`, scikit-learn's `balanced`. Sorted
/// by class; rows without a class do not count.
///
/// # Errors
/// A column that does not exist, rows without any class.
pub async fn class_weights(rows: DataFrame, class: &str) -> Result<Vec<(ScalarValue, f64)>> {
    let rows = rows.filter(ident(class).is_not_null())?;
    let counted = rows.aggregate(vec![ident(class)], vec![count(lit(1)).alias("__n")])?;
    let batches = counted.sort(vec![ident(class).sort(true, false)])?.collect().await?;
    let mut classes = Vec::new();
    for batch in &batches {
        let counts = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            classes.push((ScalarValue::try_from_array(batch.column(0), row)?, counts.value(row) as f64));
        }
    }
    if classes.is_empty() {
        return Err(EngineError::Invalid(format!("column {class:?} has no class in any row")));
    }
    let (n, k) = (classes.iter().map(|(_, n)| n).sum::<f64>(), classes.len() as f64);
    Ok(classes.into_iter().map(|(class, of_class)| (class, n / (k * of_class))).collect())
}

/// The latest row of each key: the one whose `time` is greatest, rows without a time last. Ties are settled by the
/// other columns, so that the same rows give the same result whatever their order. A null in the key is a value.
///
/// # Errors
/// No key, columns that do not exist.
pub fn latest_by_key(rows: DataFrame, key: &[&str], time: &str) -> Result<DataFrame> {
    if key.is_empty() {
        return Err(EngineError::Invalid("deduplication needs a key".to_owned()));
    }
    let columns: Vec<Column> = rows.schema().columns();
    let settles = columns.iter().zip(rows.schema().fields()).filter(|(column, field)| {
        !field.data_type().is_nested() && !key.contains(&column.name.as_str()) && column.name != time
    });
    let mut order = vec![ident(time).sort(false, false)];
    order.extend(settles.map(|(column, _)| Expr::Column(column.clone()).sort(true, true)));
    let key = key.iter().map(|name| ident(*name)).collect();
    let rank = row_number().partition_by(key).order_by(order).build()?.alias(RANK);
    let ranked = rows.window(vec![rank])?.filter(ident(RANK).eq(lit(1_u64)))?;
    Ok(ranked.select(columns.into_iter().map(Expr::Column))?)
}

/// What is in each column of the rows, found in one pass: counts, nulls, NaN, mean, standard deviation, range,
/// quantiles, most frequent values.
///
/// # Errors
/// What the query fails with.
pub async fn describe(rows: DataFrame) -> Result<Profile> {
    let schema = Arc::new(rows.schema().clone());
    let batches = rows.aggregate(vec![], profile::aggregates(&schema)?)?.collect().await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() == 1) else {
        return Err(EngineError::Internal("an aggregate without groups gave no row".to_owned()));
    };
    let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
    Ok(Profile::from_values(&schema, values.collect::<Result<Vec<_>, _>>()?)?)
}

/// A hash of the key's columns, each with a seed of its own.
fn key_hash(key: &[&str], seed: u64) -> Result<Expr> {
    let hash = |(i, column): (usize, &&str)| fold_hash_of(ident(*column), seed.wrapping_add(i as u64));
    let hashes = key.iter().enumerate().map(hash).reduce(bitwise_xor);
    hashes.ok_or_else(|| EngineError::Invalid("a split or sample needs at least one key column".to_owned()))
}

/// Whether a hash lies in this part of all hashes.
fn hash_between(hash: &Expr, from: f64, to: f64) -> Expr {
    const ALL: f64 = 18_446_744_073_709_551_616.0;
    let bound = |share: f64| lit((share * ALL) as u64);
    let from = (from > 0.0).then(|| hash.clone().gt_eq(bound(from)));
    let to = (to < 1.0 - 1e-9).then(|| hash.clone().lt(bound(to)));
    from.into_iter().chain(to).reduce(Expr::and).unwrap_or(lit(true))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
    use datafusion::prelude::SessionContext;
    use tidemill_ml::profile::{Distribution, Values};

    use super::*;

    fn rows(n: i64) -> DataFrame {
        let ids = Int64Array::from_iter_values(0..n);
        let groups = StringArray::from_iter_values((0..n).map(|i| format!("g{}", i % 50)));
        let days = Date32Array::from_iter((0..n).map(|i| (i % 10 != 9).then_some((i % 10) as i32)));
        let columns: [(&str, ArrayRef); 3] =
            [("id", Arc::new(ids)), ("group", Arc::new(groups)), ("day", Arc::new(days))];
        SessionContext::new().read_batch(RecordBatch::try_from_iter(columns).unwrap()).unwrap()
    }

    async fn ids(rows: DataFrame) -> Vec<i64> {
        let batches = rows.select_columns(&["id"]).unwrap().collect().await.unwrap();
        let mut ids: Vec<i64> =
            batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        ids.sort_unstable();
        ids
    }

    async fn chosen(rows: &DataFrame, set: &Expr) -> Vec<i64> {
        ids(rows.clone().filter(set.clone()).unwrap()).await
    }

    #[tokio::test]
    async fn sets_have_their_shares_and_every_row_once_also_with_more_data() {
        let sets = split_by_fraction(&["id", "group"], &[0.7, 0.2, 0.1], 7).unwrap();
        let (few, many) = (rows(20_000), rows(30_000));
        let mut all = Vec::new();
        for (set, share) in sets.iter().zip([0.7, 0.2, 0.1]) {
            let (of_few, of_many) = (chosen(&few, set).await, chosen(&many, set).await);
            let got = of_few.len() as f64 / 20_000.0;
            assert!((got - share).abs() < 0.015, "{share}: {got}");
            assert_eq!(of_few, of_many.into_iter().filter(|id| *id < 20_000).collect::<Vec<_>>());
            all.extend(of_few);
        }
        all.sort_unstable();
        assert_eq!(all, (0..20_000).collect::<Vec<_>>());
        let other = split_by_fraction(&["id", "group"], &[0.7], 8).unwrap();
        assert_ne!(chosen(&few, &sets[0]).await, chosen(&few, &other[0]).await);
    }

    #[tokio::test]
    async fn a_group_is_in_one_set() {
        let rows = rows(1_000);
        let sets = split_by_fraction(&["group"], &[0.5, 0.5], 1).unwrap();
        let of = |ids: Vec<i64>| ids.into_iter().map(|id| id % 50).collect::<std::collections::BTreeSet<_>>();
        let (first, second) = (of(chosen(&rows, &sets[0]).await), of(chosen(&rows, &sets[1]).await));
        assert!(first.is_disjoint(&second) && first.len() + second.len() == 50, "{first:?} {second:?}");
        assert!(first.len() > 10 && second.len() > 10);
    }

    #[tokio::test]
    async fn times_part_rows_and_those_without_are_in_no_set() {
        let rows = rows(10);
        let bounds = [3, 6].map(|day| ScalarValue::Date32(Some(day)));
        let sets = split_by_time("day", &bounds).unwrap();
        assert_eq!(chosen(&rows, &sets[0]).await, [0, 1, 2]);
        assert_eq!(chosen(&rows, &sets[1]).await, [3, 4, 5]);
        assert_eq!(chosen(&rows, &sets[2]).await, [6, 7, 8]);
    }

    #[tokio::test]
    async fn strata_are_sampled_by_their_shares() {
        let rows = rows(50_000);
        let shares = [("g1".into(), 1.0), ("g2".into(), 0.3), ("g3".into(), 0.0)];
        let sample = chosen(&rows, &stratified_sample("group", &shares, &["id"], 3).unwrap()).await;
        let of = |group: i64| sample.iter().filter(|id| *id % 50 == group).count();
        assert_eq!((of(1), of(3), of(4)), (1_000, 0, 0));
        assert!((240..360).contains(&of(2)), "{}", of(2));
    }

    #[test]
    fn wrong_splits_are_refused() {
        let says = |result: Result<Vec<Expr>>, part: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        says(split_by_fraction(&[], &[0.5], 1), "at least one key column");
        says(split_by_fraction(&["id"], &[0.7, 0.4], 1), "add up to 1 at most, got 1.1");
        says(split_by_fraction(&["id"], &[f64::NAN], 1), "got NaN");
        says(split_by_fraction(&["id"], &[0.0], 1), "above 0");
        says(split_by_time("day", &[]), "needs a bound");
        let days = [6, 6].map(|day| ScalarValue::Date32(Some(day)));
        says(split_by_time("day", &days), "must ascend");
        let error = stratified_sample("group", &[("a".into(), 2.0)], &["id"], 1).unwrap_err().to_string();
        assert!(error.contains("group a must be within 0 and 1, got 2"), "{error}");
    }

    #[tokio::test]
    async fn classes_weigh_alike() {
        let days = rows(10).with_column("class", ident("day").lt(lit(ScalarValue::Date32(Some(2))))).unwrap();
        let weights = class_weights(days, "class").await.unwrap();
        assert_eq!(weights, [(false.into(), 9.0 / (2.0 * 7.0)), (true.into(), 9.0 / (2.0 * 2.0))]);
        let error = class_weights(rows(0), "group").await.unwrap_err().to_string();
        assert!(error.contains("\"group\" has no class"), "{error}");
    }

    #[tokio::test]
    async fn the_latest_row_of_each_key_stays() {
        // Rows i and i + 50 are of one day: the smaller id settles it.
        assert_eq!(ids(latest_by_key(rows(100), &["group"], "day").unwrap()).await, (0..50).collect::<Vec<_>>());
        assert_eq!(ids(latest_by_key(rows(20), &["day"], "id").unwrap()).await, (10..20).collect::<Vec<_>>());
        assert!(latest_by_key(rows(1), &[], "id").is_err());
    }

    #[tokio::test]
    async fn a_profile_tells_what_is_in_each_column() {
        let x = Float64Array::from(vec![Some(1.0), Some(4.0), None, Some(f64::NAN), Some(2.0), Some(3.0)]);
        let name = StringArray::from(vec![Some("b"), Some("a"), Some("b"), None, Some("c"), Some("a")]);
        let day = Date32Array::from(vec![Some(0), Some(31), None, Some(1), Some(2), Some(3)]);
        let columns: [(&str, ArrayRef); 3] = [("x", Arc::new(x)), ("name", Arc::new(name)), ("day", Arc::new(day))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let profile = describe(SessionContext::new().read_batch(batch).unwrap()).await.unwrap();
        assert_eq!(profile.n_rows, 6);
        assert_eq!(profile.columns.iter().map(|c| c.nulls).collect::<Vec<_>>(), [1, 1, 1]);
        let Values::Number { nan, mean, std_dev, min, max, distribution } = &profile.columns[0].values else {
            panic!()
        };
        assert_eq!((*nan, *mean, *min, *max), (1, Some(2.5), Some(1.0), Some(4.0)));
        assert!((std_dev.unwrap() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-15);
        let median = profile::SHARES.iter().position(|s| *s == 0.5).unwrap();
        let quantiles = &distribution.quantiles;
        assert_eq!((quantiles[0], quantiles[median], quantiles[20]), (1.0, 2.0, 4.0));
        assert_eq!(
            (&distribution.bin_edges[..], &distribution.bin_counts[..]),
            (&[1.0, 2.0, 3.0, 4.0][..], &[1; 4][..])
        );
        let top = [("a", 2), ("b", 2), ("c", 1)].map(|(v, n)| (v.to_owned(), n)).to_vec();
        assert_eq!(profile.columns[1].values, Values::Category { distinct: Some(3), top });
        let (min, max) = (Some("1970-01-01".to_owned()), Some("1970-02-01".to_owned()));
        assert_eq!(profile.columns[2].values, Values::Time { min, max });

        let empty = describe(rows(0)).await.unwrap();
        assert_eq!(
            empty.columns[0].values,
            Values::Number {
                nan: 0,
                mean: None,
                std_dev: None,
                min: None,
                max: None,
                distribution: Distribution::default()
            }
        );
    }
}
