//! The join against a naive one, against DuckDB, under a memory limit and on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType, TimestampMillisecondType};
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion_proto::bytes::{
    logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use proptest::prelude::*;

use crate::Session;
use crate::codec::{TidemillLogicalCodec, TidemillPhysicalCodec};
use crate::session::{AsofOptions, SessionOptions};

/// Key and time, in milliseconds.
type Left = (Option<i64>, Option<i64>);

/// A right row; ranks are by these fields in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    k: Option<i64>,
    seen: Option<i64>,
    v: Option<i64>,
    known: Option<i64>,
}

/// What a left row is joined to: the right row without its key.
type Joined = (Option<i64>, Option<i64>, Option<i64>);

#[derive(Debug, Clone)]
struct Case {
    strict: bool,
    tolerance: Option<i64>,
    known_at: bool,
}

impl Case {
    fn options(&self) -> AsofOptions {
        AsofOptions {
            strict: self.strict,
            tolerance: self.tolerance.map(|ms| ScalarValue::DurationMillisecond(Some(ms))),
            known_at: self.known_at.then(|| "known".to_owned()),
            ..AsofOptions::new("t", "seen")
        }
    }

    fn naive(&self, (k, t): Left, right: &[Right]) -> Joined {
        let (Some(k), Some(t)) = (k, t) else { return (None, None, None) };
        let matches = |r: &&Right| {
            let Some(seen) = r.seen else { return false };
            r.k == Some(k)
                && (seen < t || (!self.strict && seen == t))
                && self.tolerance.is_none_or(|tolerance| t - seen <= tolerance)
                && (!self.known_at || r.known.is_some_and(|known| known <= t))
        };
        let best = right.iter().filter(matches).max_by_key(|r| (r.seen, self.known_at.then_some(r.known), **r));
        best.map_or((None, None, None), |r| (r.seen, r.v, r.known))
    }
}

/// The setting with which no right side is small enough to be looked up.
const MERGED: (&str, &str) = ("optimizer.hash_join_single_partition_threshold_rows", "0");

async fn session(settings: &[(&str, &str)]) -> Session {
    session_within(None, settings).await
}

/// A session with so much memory, shared fairly among what can spill.
async fn session_within(memory_bytes: Option<usize>, settings: &[(&str, &str)]) -> Session {
    let warehouse = std::env::temp_dir().join("tidemill-asof").display().to_string();
    let session = Session::open(SessionOptions { warehouse, memory_bytes, ..SessionOptions::default() }).await.unwrap();
    for (key, value) in settings {
        session.context().sql(&format!("set datafusion.{key} = '{value}'")).await.unwrap();
    }
    session
}

/// A table of some partitions, in batches of some rows.
fn table(session: &Session, rows: &RecordBatch, partitions: usize, batch: usize) -> DataFrame {
    let mut parts = vec![Vec::new(); partitions];
    for (i, from) in (0..rows.num_rows()).step_by(batch).enumerate() {
        // In buffers of its own.
        let part = UInt64Array::from_iter_values((from..rows.num_rows().min(from + batch)).map(|i| i as u64));
        parts[i % partitions].push(take_record_batch(rows, &part).unwrap());
    }
    session.context().read_table(Arc::new(MemTable::try_new(rows.schema(), parts).unwrap())).unwrap()
}

fn left_rows(rows: &[Left]) -> RecordBatch {
    let t = rows.iter().map(|r| r.1.map(|ms| ms * 1000)).collect::<TimestampMicrosecondArray>();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)) as ArrayRef, false),
        ("k", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()), true),
        ("t", Arc::new(t), true),
    ])
    .unwrap()
}

fn right_rows(rows: &[Right]) -> RecordBatch {
    let known = rows.iter().map(|r| r.known.map(|ms| ms * 1000)).collect::<TimestampMicrosecondArray>();
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(rows.iter().map(|r| r.k).collect::<Int64Array>()) as ArrayRef, true),
        ("seen", Arc::new(rows.iter().map(|r| r.seen).collect::<TimestampMillisecondArray>()), true),
        ("v", Arc::new(rows.iter().map(|r| r.v).collect::<Int64Array>()), true),
        ("known", Arc::new(known), true),
    ])
    .unwrap()
}

/// What each left row was joined to, in the order of its ids, each of which is there once.
fn joined(batches: &[RecordBatch]) -> Vec<Joined> {
    let mut found = BTreeMap::new();
    for b in batches {
        let names: Vec<String> = b.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["id", "k", "t", "seen", "v", "known"]);
        let id = b.column(0).as_primitive::<Int64Type>().values();
        let seen = b.column(3).as_primitive::<TimestampMillisecondType>().iter();
        let v = b.column(4).as_primitive::<Int64Type>().iter();
        let known = b.column(5).as_primitive::<TimestampMicrosecondType>().iter();
        for (((id, seen), v), known) in id.iter().zip(seen).zip(v).zip(known) {
            let before = found.insert(*id, (seen, v, known.map(|us| us / 1000)));
            assert_eq!(before, None, "row {id} came out twice");
        }
    }
    found.into_values().collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn maybe(values: std::ops::Range<i64>) -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(0.9, values)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn is_the_naive_join(
        left in prop::collection::vec((maybe(0..3), maybe(0..12)), 0..40),
        right in prop::collection::vec(
            (maybe(0..3), maybe(0..12), maybe(0..3), maybe(0..16))
                .prop_map(|(k, seen, v, known)| Right { k, seen, v, known }),
            0..60,
        ),
        strict: bool,
        known_at: bool,
        tolerance in prop::option::of(0i64..6),
        batch in 1usize..9,
        partitions in 1usize..4,
        way in 0..3,
        far in 0usize..60,
    ) {
        let case = Case { strict, tolerance, known_at };
        let (looked_up, mut right) = (way == 0, right);
        if way == 2 {
            // A time beyond 64 bits of microseconds: what follows it, and what came before, is sorted and merged.
            let far_row = Right { k: Some(0), seen: Some(i64::MAX), v: None, known: Some(0) };
            right.insert(far.min(right.len()), far_row);
        }
        let got = block_on(async {
            let (batch_size, n) = (batch.to_string(), partitions.to_string());
            let mut settings = vec![("execution.batch_size", batch_size.as_str()), ("execution.target_partitions", &n)];
            settings.extend((!looked_up).then_some(MERGED));
            let session = session(&settings).await;
            let l = table(&session, &left_rows(&left), partitions, batch);
            let r = table(&session, &right_rows(&right), partitions, batch);
            let l = l.alias("l").unwrap();
            let df = session.asof_join(l, r, &[("k", "k")], &case.options()).unwrap();
            let plan = df.clone().create_physical_plan().await.unwrap();
            let operator = if looked_up || right.is_empty() { "AsofLookupExec" } else { "AsofJoinExec" };
            assert!(displayable(plan.as_ref()).indent(false).to_string().contains(operator));
            joined(&df.collect().await.unwrap())
        });
        let expected: Vec<Joined> = left.iter().map(|l| case.naive(*l, &right)).collect();
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn agrees_with_duckdb() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/asof_duckdb.json")).unwrap();
    let row = |r: &serde_json::Value| [r[0].as_i64(), r[1].as_i64(), r[2].as_i64()];
    let rows = |side: &str| fixture[side].as_array().unwrap().iter().map(row).collect::<Vec<_>>();
    let left: Vec<Left> = rows("left").into_iter().map(|[_, k, t]| (k, t)).collect();
    let right: Vec<Right> = rows("right").into_iter().map(|[k, seen, v]| Right { k, seen, v, known: None }).collect();
    for (name, strict) in [("at_or_before", false), ("before", true)] {
        let case = Case { strict, tolerance: None, known_at: false };
        let got = block_on(async {
            let session = session(&[]).await;
            let (l, r) = (table(&session, &left_rows(&left), 2, 7), table(&session, &right_rows(&right), 3, 7));
            session.register("l", l.clone().into_view()).unwrap();
            session.register("r", r.clone().into_view()).unwrap();
            let df = session.asof_join(l, r, &[("k", "k")], &case.options()).unwrap();
            let compare = if strict { ">" } else { ">=" };
            let join = format!("l asof join r match_condition (t {compare} seen) on l.k = r.k");
            let sql = format!("select id, l.k, t, seen, v, known from {join}");
            let by_sql = session.sql(&sql).await.unwrap();
            [joined(&df.collect().await.unwrap()), joined(&by_sql.collect().await.unwrap())]
        });
        let expected: Vec<Option<i64>> =
            fixture[name].as_array().unwrap().iter().map(serde_json::Value::as_i64).collect();
        for got in got {
            let got: Vec<Option<i64>> = got.into_iter().map(|(_, v, _)| v).collect();
            assert_eq!(got, expected, "{name}");
        }
    }
}

/// Rows of many keys and times, the left ones with a text of this width.
fn many(n: i64, width: usize) -> (RecordBatch, RecordBatch) {
    let scatter = |i: i64, m: i64| Some(i.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64).rem_euclid(m));
    let left: Vec<Left> = (0..n).map(|i| (scatter(i, 97), scatter(i, 10_007))).collect();
    let right = |i: i64| {
        let seen = scatter(i + n, 9_973);
        Right { k: scatter(i, 89), seen, v: Some(i), known: seen.map(|s| s + i % 50) }
    };
    let right = right_rows(&(0..n).map(right).collect::<Vec<_>>());
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("{i:0width$}"))));
    let left = left_rows(&left);
    let mut fields = left.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("text", DataType::Utf8, false)));
    let columns = left.columns().iter().cloned().chain([text]).collect();
    (RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(), right)
}

fn spills(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|m| m.spill_count()).unwrap_or(0);
    own + plan.children().into_iter().map(spills).sum::<usize>()
}

#[test]
fn spills_and_gives_the_same() {
    let (left, right) = many(120_000, 60);
    let run = |memory_bytes: Option<usize>, settings: &[(&str, &str)]| {
        let (left, right) = (left.clone(), right.clone());
        block_on(async move {
            let session = session_within(memory_bytes, settings).await;
            let (l, r) = (table(&session, &left, 2, 1024), table(&session, &right, 2, 1024));
            let case = Case { strict: false, tolerance: Some(500), known_at: true };
            let df = session.asof_join(l, r, &[("k", "k")], &case.options()).unwrap();
            let df = df.select_columns(&["id", "k", "t", "seen", "v", "known", "text"]).unwrap();
            let plan = df.create_physical_plan().await.unwrap();
            let batches = collect(Arc::clone(&plan), session.context().task_ctx()).await.unwrap();
            let without_text = |b: &RecordBatch| b.project(&[0, 1, 2, 3, 4, 5]).unwrap();
            (joined(&batches.iter().map(without_text).collect::<Vec<_>>()), spills(&plan))
        })
    };
    let (expected, none) = run(None, &[MERGED, ("execution.target_partitions", "2")]);
    let limited = [
        MERGED,
        ("execution.target_partitions", "2"),
        ("execution.batch_size", "1024"),
        ("execution.sort_spill_reservation_bytes", "200000"),
    ];
    let (got, some) = run(Some(16 << 20), &limited);
    assert_eq!(none, 0);
    assert!(some > 0, "nothing was spilled");
    assert!(expected.iter().filter(|j| j.0.is_some()).count() > 30_000);
    assert!(expected == got, "the rows differ under a memory limit");
}

#[test]
fn right_rows_beyond_the_memory_are_sorted() {
    // The wide rows on the right: the left ones fit, and those that they take do not.
    let ((right, _), (_, left)) = (many(20_000, 600), many(6_000, 1));
    let run = |memory_bytes: Option<usize>| {
        let (left, right) = (left.clone(), right.clone());
        block_on(async move {
            let settings = [
                MERGED,
                ("execution.target_partitions", "2"),
                ("execution.batch_size", "1024"),
                ("execution.sort_spill_reservation_bytes", "200000"),
            ];
            let session = session_within(memory_bytes, &settings).await;
            let (l, r) = (table(&session, &left, 2, 1024), table(&session, &right, 2, 1024));
            let df = session.asof_join(l, r, &[("k", "k")], &AsofOptions::new("seen", "t")).unwrap();
            let plan = df.select_columns(&["v", "id"]).unwrap().create_physical_plan().await.unwrap();
            let batches = collect(Arc::clone(&plan), session.context().task_ctx()).await.unwrap();
            let pairs = |b: &RecordBatch| {
                let column = |i: usize| b.column(i).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
                column(0).into_iter().zip(column(1)).collect::<Vec<_>>()
            };
            let mut rows: Vec<_> = batches.iter().flat_map(pairs).collect();
            rows.sort_unstable();
            (rows, spills(&plan))
        })
    };
    let ((expected, none), (got, some)) = (run(None), run(Some(14 << 20)));
    assert_eq!(none, 0);
    assert!(some > 0, "nothing was spilled");
    assert!(expected.len() == 6_000 && expected.iter().filter(|row| row.1.is_some()).count() > 5_000);
    assert!(expected == got, "the rows differ under a memory limit");
}

#[test]
fn right_rows_that_nobody_takes_are_dropped() {
    // 32 megabytes of them.
    let n = 1_000_000;
    let right = |i: i64| Right { k: Some(i % 3), seen: Some(i), v: Some(i), known: Some(i) };
    let right = right_rows(&(0..n).map(right).collect::<Vec<_>>());
    let left: Vec<Left> = (0..100).map(|i| (Some(i % 3), Some(i * 10_000 + 2_500))).collect();
    let (got, spilled) = block_on(async {
        let session = session_within(Some(26 << 20), &[MERGED, ("execution.target_partitions", "1")]).await;
        let (l, r) = (table(&session, &left_rows(&left), 1, 100), table(&session, &right, 1, 8192));
        let case = Case { strict: false, tolerance: None, known_at: false };
        let plan = session.asof_join(l, r, &[("k", "k")], &case.options()).unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        (joined(&collect(Arc::clone(&plan), session.context().task_ctx()).await.unwrap()), spills(&plan))
    });
    let latest = |(k, t): &Left| {
        let seen = (0..3).map(|back| t.unwrap() - back).find(|seen| seen % 3 == k.unwrap()).unwrap();
        (Some(seen), Some(seen), Some(seen))
    };
    assert_eq!(got, left.iter().map(latest).collect::<Vec<_>>());
    assert_eq!(spilled, 0);
}

#[test]
fn too_many_waiting_rows_say_so() {
    let n = 60_000;
    let right = |i: i64| Right { k: Some(0), seen: Some(i), v: None, known: Some(n + i) };
    let right = right_rows(&(0..n).map(right).collect::<Vec<_>>());
    let message = block_on(async {
        let settings = [
            MERGED,
            ("execution.target_partitions", "1"),
            ("execution.batch_size", "1024"),
            ("execution.sort_spill_reservation_bytes", "200000"),
            ("runtime.memory_limit", "2M"),
        ];
        let session = session(&settings).await;
        // Too many left rows to be held.
        let left = left_rows(&vec![(Some(0), Some(n)); 60_000]);
        let (l, r) = (table(&session, &left, 1, 1024), table(&session, &right, 1, 1024));
        let options = AsofOptions { known_at: Some("known".to_owned()), ..AsofOptions::new("t", "seen") };
        let df = session.asof_join(l, r, &[("k", "k")], &options).unwrap();
        df.collect().await.unwrap_err().to_string()
    });
    assert!(message.contains("allocation failed for AsofJoinExec[0]"), "{message}");
}

#[test]
fn a_right_side_beyond_the_memory_says_so() {
    let (left, right) = many(60_000, 60);
    let message = block_on(async {
        let session = session_within(Some(1 << 20), &[]).await;
        let (l, r) = (table(&session, &left, 2, 1024), table(&session, &right, 2, 1024));
        let df = session.asof_join(l, r, &[("k", "k")], &AsofOptions::new("t", "seen")).unwrap();
        df.collect().await.unwrap_err().to_string()
    });
    assert!(message.contains("AsofLookupExec") && message.contains("sort and merge instead"), "{message}");
}

#[test]
fn the_merge_travels() {
    travels(&[MERGED], "AsofJoinExec");
}

#[test]
fn the_lookup_travels() {
    travels(&[], "AsofLookupExec");
}

fn travels(settings: &[(&str, &str)], operator: &str) {
    block_on(async {
        let session = session(&[settings, &[("execution.target_partitions", "3")]].concat()).await;
        let left: Vec<Left> = (0..50).map(|i| (Some(i % 4), Some(i))).collect();
        let right = |i: i64| Right { k: Some(i % 4), seen: Some(i * 3 % 50), v: Some(i), known: Some(i) };
        let right: Vec<Right> = (0..50).map(right).collect();
        let provider = |rows: RecordBatch| Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap());
        session.register("l", provider(left_rows(&left))).unwrap();
        session.register("r", provider(right_rows(&right))).unwrap();
        let (l, r) = (session.sql("select * from l").await.unwrap(), session.sql("select * from r").await.unwrap());
        let case = Case { strict: true, tolerance: Some(20), known_at: true };
        let df = session.asof_join(l, r, &[("k", "k")], &case.options()).unwrap();
        let ctx = session.context().task_ctx();

        let codec = TidemillLogicalCodec::default();
        let plan = df.clone().into_optimized_plan().unwrap();
        let bytes = logical_plan_to_bytes_with_extension_codec(&plan, &codec).unwrap();
        let back = logical_plan_from_bytes_with_extension_codec(&bytes, &ctx, &codec).unwrap();
        assert_eq!(back.display_indent().to_string(), plan.display_indent().to_string());

        let codec = TidemillPhysicalCodec::default();
        let plan = df.create_physical_plan().await.unwrap();
        let bytes = physical_plan_to_bytes_with_extension_codec(Arc::clone(&plan), &codec).unwrap();
        let back = physical_plan_from_bytes_with_extension_codec(&bytes, &ctx, &codec).unwrap();
        let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
        assert_eq!(shown(&back), shown(&plan));
        let line = format!("{operator}: on=[k = __right_k], t > seen, tolerance=20ms, known_at=known");
        assert!(shown(&plan).contains(&line), "{}", shown(&plan));

        let expected: Vec<Joined> = left.iter().map(|l| case.naive(*l, &right)).collect();
        assert_eq!(joined(&collect(back, ctx).await.unwrap()), expected);
    });
}

#[test]
fn refuses_what_cannot_be_joined() {
    let columns = [
        ("k", "1"),
        ("text", "'x'"),
        ("at", "to_timestamp(0)"),
        ("day", "date '2020-01-01'"),
        ("small", "arrow_cast(1, 'Int16')"),
        ("list", "[1]"),
    ];
    let check = |on: &[(&str, &str)], options: AsofOptions, expected: &str| {
        let select = |prefix: &str| {
            let column = |(name, value): (&str, &str)| format!("{value} as {prefix}{name}");
            format!("select {}", columns.map(column).join(", "))
        };
        let message = block_on(async {
            let session = session(&[]).await;
            let (l, r) = (session.sql(&select("")).await.unwrap(), session.sql(&select("r_")).await.unwrap());
            session.asof_join(l, r, on, &options).unwrap_err().to_string()
        });
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    };
    let key = [("k", "r_k")];
    let times = || AsofOptions::new("at", "r_at");
    let within = |t: ScalarValue| AsofOptions { tolerance: Some(t), ..times() };
    check(&[("k", "r_kk")], times(), "the right side of the as-of join has no column \"r_kk\"; did you mean \"r_k\"?");
    check(&key, AsofOptions::new("att", "r_at"), "did you mean \"at\"?");
    check(&[], times(), "got no key");
    check(&[("k", "r_small")], times(), "the key \"k\" is Int64 on the left, and \"r_small\" is Int16 on the right");
    check(&[("list", "r_list")], times(), "expected a type that is not nested");
    check(&key, AsofOptions::new("text", "r_at"), "the time column \"text\" is Utf8");
    check(&key, AsofOptions::new("at", "r_k"), "are of two kinds");
    check(&key, AsofOptions { known_at: Some("r_k".to_owned()), ..times() }, "are of two kinds");
    check(&key, within(ScalarValue::Int64(Some(3))), "expected an interval of days or shorter units");
    check(&key, within(ScalarValue::new_interval_mdn(1, 0, 0)), "expected an interval of days or shorter units");
    check(&key, within(ScalarValue::new_interval_mdn(0, -1, 0)), "expected an interval between none and 584 years");
    let whole = AsofOptions { tolerance: Some(ScalarValue::Float64(Some(1.5))), ..AsofOptions::new("k", "r_k") };
    check(&key, whole, "expected a whole number that is not negative");
}

#[test]
fn a_name_of_both_sides_is_refused_unless_it_is_a_key_or_the_time() {
    block_on(async {
        let session = session(&[]).await;
        let row = "select 1 as k, 2 as t, 3 as v";
        let (l, r) = (session.sql(row).await.unwrap(), session.sql(row).await.unwrap());
        let options = AsofOptions::new("t", "t");
        let message = session.asof_join(l, r, &[("k", "k")], &options).unwrap_err().to_string();
        assert_eq!(message, "both sides of the as-of join have a column \"v\"; rename it on one of them");
        let (l, r) = (session.sql(row).await.unwrap(), session.sql("select 1 as k, 1 as t, 4 as w").await.unwrap());
        let df = session.asof_join(l, r, &[("k", "k")], &options).unwrap();
        let shown = df.to_string().await.unwrap();
        assert!(shown.contains("| k | t | v | w |"), "{shown}");
        assert!(shown.contains("| 1 | 2 | 3 | 4 |"), "{shown}");
    });
}

#[test]
fn dates_and_floats_are_times() {
    for settings in [&[] as &[(&str, &str)], &[MERGED]] {
        times_of_other_types(settings);
    }
}

fn times_of_other_types(settings: &[(&str, &str)]) {
    block_on(async {
        let session = session(settings).await;
        let asof = |l: &'static str, r: &'static str, tolerance: Option<ScalarValue>| {
            let session = session.clone();
            async move {
                let (l, r) = (session.sql(l).await.unwrap(), session.sql(r).await.unwrap());
                let options = AsofOptions { tolerance, ..AsofOptions::new("t", "seen") };
                let df = session.asof_join(l, r, &[("k", "k")], &options).unwrap();
                let rows = df.select_columns(&["v"]).unwrap().collect().await.unwrap();
                rows.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).next()
            }
        };
        let day = |n| Some(ScalarValue::new_interval_mdn(0, n, 0));
        let at = "select 1 as k, timestamp '2020-01-03 12:00:00' as t";
        let on = "select 1 as k, date '2020-01-02' as seen, 5 as v";
        assert_eq!(asof(at, on, day(2)).await, Some(Some(5)));
        assert_eq!(asof(at, on, day(1)).await, Some(None));
        let at = "select 1 as k, -0.5 as t";
        let on = "select 1 as k, v, v / -4.0 as seen from (values (3), (4), (cast(null as bigint))) as r (v)";
        assert_eq!(asof(at, on, Some(ScalarValue::from(0.25))).await, Some(Some(3)));
        assert_eq!(asof(at, on, Some(ScalarValue::from(0.2))).await, Some(None));
        // Beyond 64 bits of nanoseconds, and of integers.
        let at = "select 1 as k, arrow_cast(9000000000001, 'Timestamp(Second, None)') as t";
        let on =
            "select 1 as k, v, arrow_cast(v, 'Timestamp(Nanosecond, None)') as seen from (values (3), (4)) as r (v)";
        assert_eq!(asof(at, on, None).await, Some(Some(4)));
        let at = "select 1 as k, arrow_cast(18446744073709551615, 'UInt64') as t";
        let on = "select 1 as k, v, arrow_cast(18446744073709551610, 'UInt64') + arrow_cast(v, 'UInt64') as seen
                  from (values (3), (4)) as r (v)";
        assert_eq!(asof(at, on, None).await, Some(Some(4)));
    });
}
