//! Against a self-join, and what must hold whatever the rows' order.

use arrow::array::{
    ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Float64Type, Int64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemill_ml::estimator::{FoldKey, fold_hash};

use super::TrailingAggregate::{Count, Max, Mean, Min, Stddev, Sum};
use super::*;

const HOUR_US: i64 = 3_600_000_000;
const ALL: [(TrailingAggregate, &str); 6] =
    [(Count, "x"), (Sum, "x"), (Mean, "x"), (Min, "x"), (Max, "x"), (Stddev, "x")];

/// Rows of a few keys, null among them, with ties in time, missing times, and values of all magnitudes, missing or NaN.
fn rows(n: i64) -> RecordBatch {
    let drawn = |i: i64, what: u64, of: u64| fold_hash(FoldKey::Number(i), what) % of;
    let key = (0..n).map(|i| ["a", "b", "c"].get(drawn(i, 1, 4) as usize).copied());
    let at = (0..n).map(|i| (drawn(i, 2, 11) != 0).then(|| drawn(i, 3, 400) as i64 * HOUR_US / 2));
    let value = |i: i64| match drawn(i, 4, 9) {
        0 => None,
        1 => Some(f64::NAN),
        2 => Some(1e16),
        magnitude => Some((drawn(i, 5, 1_000) as f64 - 400.5) * 10_f64.powi(magnitude as i32 - 5)),
    };
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..n))),
        ("key", Arc::new(key.collect::<StringArray>())),
        ("at", Arc::new(at.collect::<TimestampMicrosecondArray>().with_timezone("+02:00"))),
        ("x", Arc::new((0..n).map(value).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn context(partitions: usize) -> SessionContext {
    let context =
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions).with_batch_size(64));
    tidemill_ml::functions::aggregate_udfs().iter().for_each(|f| context.register_udaf(f.as_ref().clone()));
    context
}

fn frame_of(context: &SessionContext, rows: &RecordBatch, parts: usize) -> DataFrame {
    let n = rows.num_rows().div_ceil(parts);
    let part = |i: usize| vec![rows.slice(i * n, n.min(rows.num_rows() - i * n))];
    let table = MemTable::try_new(rows.schema(), (0..parts).map(part).collect()).unwrap();
    context.read_table(Arc::new(table)).unwrap()
}

async fn by_id(df: DataFrame) -> RecordBatch {
    let batches = df.sort(vec![ident("id").sort(true, false)]).unwrap().collect().await.unwrap();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// The bits of a column, so that NaN is itself.
fn bits(batch: &RecordBatch, column: &str) -> Vec<Option<u64>> {
    let column = batch.column_by_name(column).unwrap();
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v as u64)).collect(),
        _ => column.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect(),
    }
}

#[tokio::test]
async fn each_row_has_what_a_self_join_finds_before_it() {
    let rows = rows(700);
    let context = context(3);
    context.register_batch("t", rows.clone()).unwrap();
    let trailing = Trailing {
        key: &["key"],
        time: "at",
        windows: &["12 hours", "4 days"],
        lag: Some("90 minutes"),
        aggregates: &ALL,
    };
    let found = by_id(trailing_aggregates(frame_of(&context, &rows, 3), &trailing).unwrap()).await;
    assert_eq!(found.num_columns(), 4 + 12);
    for (window, hours) in [("12_hours", 12), ("4_days", 96)] {
        let sql = format!(
            "select a.id, count(b.x) as count, exact_sum(b.x) as sum, exact_mean(b.x) as mean, min(b.x) as min,
                    max(b.x) as max, sqrt(exact_moments(b.x)['variance']) as stddev
             from t a left join (select * from t where not isnan(x)) b on (a.key is not distinct from b.key)
               and b.at >= a.at - interval '90 minutes' - interval '{hours} hours' and b.at < a.at - interval '90 minutes'
             group by a.id"
        );
        let expected = by_id(context.sql(&sql).await.unwrap()).await;
        for (aggregate, _) in ALL {
            let name = format!("x_{aggregate}_{window}");
            assert_eq!(bits(&found, &name), bits(&expected, &aggregate.to_string()), "{name}");
        }
        let counts = bits(&found, &format!("x_count_{window}"));
        assert!(counts.contains(&Some(0)) && counts.iter().flatten().any(|n| *n > 3), "{counts:?}");
    }
}

#[tokio::test]
async fn order_and_partitions_change_no_bit() {
    let rows = rows(500);
    let trailing = Trailing { key: &["key"], time: "at", windows: &["2 days"], lag: None, aggregates: &ALL };
    let one = by_id(trailing_aggregates(frame_of(&context(1), &rows, 1), &trailing).unwrap()).await;
    let backwards = arrow::array::UInt32Array::from_iter_values((0..500).rev());
    let backwards = take_record_batch(&rows, &backwards).unwrap();
    let many = by_id(trailing_aggregates(frame_of(&context(4), &backwards, 5), &trailing).unwrap()).await;
    for (aggregate, _) in ALL {
        let name = format!("x_{aggregate}_2_days");
        assert_eq!(bits(&many, &name), bits(&one, &name), "{name}");
    }
}

#[tokio::test]
async fn days_end_before_the_rows_own_day() {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![0, 1, 2, 3, 4]))),
        ("day", Arc::new(Date32Array::from(vec![Some(10), Some(10), Some(11), Some(13), None]))),
        ("late", Arc::new(arrow::array::BooleanArray::from(vec![true, false, true, true, true]))),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let trailing = Trailing {
        key: &[],
        time: "day",
        windows: &["2 days"],
        lag: None,
        aggregates: &[(Count, "late"), (Mean, "late")],
    };
    let found = by_id(trailing_aggregates(frame_of(&context(2), &rows, 1), &trailing).unwrap()).await;
    assert_eq!(bits(&found, "late_count_2_days"), [0, 0, 2, 1, 0].map(Some));
    let half = Some(0.5_f64.to_bits());
    assert_eq!(bits(&found, "late_mean_2_days"), [None, None, half, Some(1_f64.to_bits()), None]);
}

#[test]
fn what_does_not_fit_is_named() {
    let rows = rows(3);
    let context = context(1);
    let says = |change: fn(&mut Trailing<'_>), expected: &str| {
        let mut trailing =
            Trailing { key: &["key"], time: "at", windows: &["1 day"], lag: None, aggregates: &[(Sum, "x")] };
        change(&mut trailing);
        let error = trailing_aggregates(frame_of(&context, &rows, 1), &trailing).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    says(|t| t.key = &["keys"], "there is no column \"keys\"; did you mean \"key\"?");
    says(|t| t.time = "x", "the time column \"x\" is Float64; expected a timestamp or date");
    says(|t| t.aggregates = &[(Sum, "key")], "column \"key\" is Utf8; expected numbers or booleans");
    says(
        |t| t.windows = &["soon"],
        "a window: expected a length of time without months, as 2 days or 90 minutes; got \"soon\"",
    );
    says(|t| t.windows = &["1 month"], "without months");
    says(|t| t.windows = &["0 days"], "longer than nothing");
    says(|t| t.windows = &["10 nanoseconds"], "no whole number of the unit of the time column \"at\"");
    says(|t| t.lag = Some("-1 day"), "a lag: expected a length of time");
    says(|t| t.aggregates = &[(Sum, "x"), (Sum, "x")], "there is a column \"x_sum_1_day\" already");
    says(|t| t.aggregates = &[], "need a window and an aggregate");
}
