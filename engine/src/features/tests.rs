//! Views over small tables and over the example's flights, against what their queries give day by day.

use std::collections::BTreeSet;

use arrow::util::pretty::pretty_format_batches;
use chrono::NaiveDate;
use datafusion::dataframe::DataFrame;
use tempfile::TempDir;

use super::{FeatureView, MaterializeOptions, ViewUse, parse_create};
use crate::session::{Session, SessionOptions};

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

async fn session() -> (Session, TempDir) {
    let folder = TempDir::new().unwrap();
    let warehouse = folder.path().join("warehouse").to_str().unwrap().to_owned();
    (Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await.unwrap(), folder)
}

/// Rows as sorted lines.
async fn lines(rows: DataFrame) -> Vec<String> {
    let text = pretty_format_batches(&rows.collect().await.unwrap()).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect();
    lines[1..].sort();
    lines
}

async fn query(session: &Session, sql: &str) -> Vec<String> {
    lines(session.sql(sql).await.unwrap()).await
}

/// Ten days of events of two keys, a number each.
const EVENTS: &str = "create table events as select case when i % 2 = 0 then 'a' else 'b' end as k, \
                      to_timestamp_seconds(1704088800 + 86400 * (i / 2)) as at, cast(i * i as bigint) as x \
                      from unnest(range(20)) as t(i)";

/// The sum of the two days before.
const TRAILING: &str = "create feature view trailing options (key = ['k'], event_time = 'at', look_back = '2 days', \
                        start = '2024-01-01', sources = {'events': {'time': 'at'}}) as \
                        select k, at, sum(x) over (partition by k order by at \
                        range between interval '2 days' preceding and interval '1 hour' preceding) as x_2d from events";

async fn trailing(session: &Session) -> super::DeclaredView {
    session.sql(EVENTS).await.unwrap();
    session.sql(TRAILING).await.unwrap();
    session.feature_view("trailing").await.unwrap()
}

#[tokio::test]
async fn a_range_in_one_commit_in_many_and_again_gives_the_same_rows() {
    let (one, _folder) = session().await;
    let view = trailing(&one).await;
    let done = one.materialize(&view, &MaterializeOptions::until(day("2024-01-10"))).await.unwrap();
    assert_eq!((done.days.len(), done.n_rows, done.n_commits), (10, 20, 1));
    let expected = query(&one, "select * from trailing_v1").await;
    assert_eq!(expected.len(), 21);

    let again = MaterializeOptions { from: Some(day("2024-01-04")), ..MaterializeOptions::until(day("2024-01-06")) };
    assert_eq!(one.materialize(&view, &again).await.unwrap().n_rows, 6);
    assert_eq!(query(&one, "select * from trailing_v1").await, expected);
    let nothing = one.materialize(&view, &MaterializeOptions::until(day("2024-01-10"))).await.unwrap();
    assert!(nothing.days.is_empty() && nothing.n_commits == 0);

    let (many, _folder) = session().await;
    let view = trailing(&many).await;
    let options = MaterializeOptions { days_per_commit: 3, ..MaterializeOptions::until(day("2024-01-10")) };
    assert_eq!(many.materialize(&view, &options).await.unwrap().n_commits, 4);
    assert_eq!(query(&many, "select * from trailing_v1").await, expected);
    assert!(many.check_feature_view(&view, day("2024-01-01")..=day("2024-01-10")).await.unwrap().holds());
}

#[tokio::test]
async fn a_check_finds_what_is_not_as_its_query_gives_it() {
    let (session, _folder) = session().await;
    let view = trailing(&session).await;
    session.materialize(&view, &MaterializeOptions::until(day("2024-01-08"))).await.unwrap();
    let all = day("2024-01-01")..=day("2024-01-10");
    let check = session.check_feature_view(&view, all.clone()).await.unwrap();
    assert_eq!((check.n_days, check.missing.len(), check.differences.len()), (8, 2, 0));

    session.sql("insert into events select 'a', timestamp '2024-01-05 07:00:00', 1").await.unwrap();
    let check = session.check_feature_view(&view, all.clone()).await.unwrap();
    let days: Vec<String> = check.differences.iter().map(|d| d.day.to_string()).collect();
    assert_eq!(days, ["2024-01-05", "2024-01-06", "2024-01-07"]);
    assert!(check.differences[1].example.contains("k = a"), "{check:?}");

    // A query that needs more history than its look-back says differs from day to day of a range.
    let short = TRAILING.replace("trailing", "short").replace("look_back = '2 days'", "look_back = '0 days'");
    session.sql(&short).await.unwrap();
    let view = session.feature_view("short").await.unwrap();
    session.materialize(&view, &MaterializeOptions::until(day("2024-01-10"))).await.unwrap();
    assert_eq!(session.check_feature_view(&view, all).await.unwrap().differences.len(), 9);
}

#[tokio::test]
async fn a_row_gets_what_was_known_at_its_time() {
    let (session, _folder) = session().await;
    session
        .sql(
            "create table seen as select * from (values \
             ('a', timestamp '2024-01-01 00:00:00', 1, timestamp '2024-01-01 05:00:00'), \
             ('a', timestamp '2024-01-01 02:00:00', 2, timestamp '2024-01-01 09:00:00'), \
             ('b', timestamp '2024-01-01 00:00:00', 3, null)) as t (k, at, x, arrived)",
        )
        .await
        .unwrap();
    let options = "key = ['k'], event_time = 'at', start = '2024-01-01'";
    for (name, more) in [
        ("at_once", ""),
        ("late", ", known_after = '3 hours'"),
        ("aged", ", known_after = '3 hours', max_age = '4 hours'"),
    ] {
        let sql =
            format!("create feature view {name} options ({options}{more}) as select k, at, x as {name} from seen");
        session.sql(&sql).await.unwrap();
    }
    let sql = format!(
        "create feature view arriving options ({options}, known_at = 'arrived') as \
         select k, at, arrived, x as arriving from seen"
    );
    session.sql(&sql).await.unwrap();
    let mut uses = Vec::new();
    for name in ["at_once", "late", "aged", "arriving"] {
        let view = session.feature_view(name).await.unwrap();
        session.materialize(&view, &MaterializeOptions::until(day("2024-01-02"))).await.unwrap();
        uses.push(ViewUse::all(view));
    }
    let rows = "select k, h, to_timestamp_seconds(1704067200 + 3600 * h) as t from (values \
                ('a', 0), ('a', 2), ('a', 3), ('a', 5), ('a', 6), ('a', 9), ('b', 7), ('c', 7)) as v (k, h)";
    let rows = session.sql(rows).await.unwrap();
    let joined = session.join_feature_views(rows, "t", &uses).await.unwrap();
    let joined = joined.drop_columns(&["t"]).unwrap();
    let expected = [
        "| k | h | at_once | late | aged | arriving |",
        "| a | 0 | 1       |      |      |          |",
        "| a | 2 | 2       |      |      |          |",
        "| a | 3 | 2       | 1    | 1    |          |",
        "| a | 5 | 2       | 2    | 2    | 1        |",
        "| a | 6 | 2       | 2    | 2    | 1        |",
        "| a | 9 | 2       | 2    |      | 2        |",
        "| b | 7 | 3       | 3    |      |          |",
        "| c | 7 |         |      |      |          |",
    ];
    assert_eq!(lines(joined).await, expected);
}

#[tokio::test]
async fn a_definition_has_a_version_and_keeps_it() {
    let (session, _folder) = session().await;
    let view = parse_create(TRAILING).unwrap().unwrap();
    let first = session.declare_feature_view(&view).await.unwrap();
    assert_eq!((first.version, first.table().as_str()), (1, "trailing_v1"));
    let commented = FeatureView { sql: format!("-- why\n{}", view.sql), ..view.clone() };
    assert_eq!(session.declare_feature_view(&commented).await.unwrap().version, 1);
    let other = FeatureView { sql: view.sql.replace("sum(x)", "avg(x)"), ..view.clone() };
    assert_eq!(session.declare_feature_view(&other).await.unwrap().version, 2);
    assert_eq!(session.declare_feature_view(&view).await.unwrap().version, 1);
    assert_eq!(session.feature_view("trailing").await.unwrap().version, 2);
    assert_eq!(session.feature_view("trailing/1").await.unwrap().digest, first.digest);
}

/// Writers at the same time get versions of their own, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_many_writers_are_all_kept() {
    let (session, _folder) = session().await;
    let view = parse_create(TRAILING).unwrap().unwrap();
    let declare = |n: usize| {
        let (session, view) = (session.clone(), view.clone());
        let view = FeatureView { sql: view.sql.replace("sum(x)", &format!("sum(x + {n})")), ..view };
        tokio::spawn(async move { session.declare_feature_view(&view).await.unwrap().version })
    };
    let writers: Vec<_> = (0..8).map(declare).collect();
    let mut versions = BTreeSet::new();
    for writer in writers {
        versions.insert(writer.await.unwrap());
    }
    assert_eq!(versions, (1..=8).collect());
}

/// The example's views, each of its days computed by a plain query over the flights before it.
#[tokio::test(flavor = "multi_thread")]
async fn delay_rates_are_those_of_a_query_for_each_day() {
    let (session, _folder) = session().await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights");
    session.register_parquet("flights", &format!("{example}/data/flights.parquet")).await.unwrap();
    let view = FeatureView::read(format!("{example}/views/carrier_delays.yaml")).unwrap();
    let view = session.declare_feature_view(&view).await.unwrap();
    session.materialize(&view, &MaterializeOptions::until(day("2013-01-20"))).await.unwrap();
    let check = session.check_feature_view(&view, day("2013-01-01")..=day("2013-01-20")).await.unwrap();
    assert!(check.holds() && check.n_days == 20, "{check:?}");
    for d in [1, 2, 5, 12, 20] {
        // The outcomes of the seven days before, as far as they are known at the first cut-off.
        let naive = format!(
            "with f as (select *, to_unixtime(time_hour) / 60 + minute as departs, \
             to_unixtime(time_hour) / 60 + minute + dep_delay + air_time + 240 as known from flights \
             where month = 1 and day <= {d}), \
             start as (select min(departs) - 120 as cutoff from f where day = {d}), \
             past as (select carrier, arr_delay from f cross join start where arr_delay is not null and \
             (day = {d} - 1 and known <= cutoff or day between {d} - 7 and {d} - 2 and \
              known <= (date_part('epoch', make_date(2013, 1, cast(day as int))) / 86400 + 2) * 1440 + 120)) \
             select carrier, rate from (select distinct carrier from f where day = {d}) \
             left join (select carrier, cast(sum(case when arr_delay > 15 then 1 else 0 end) as double) / \
             cast(count(*) as double) as rate from past group by carrier) using (carrier)"
        );
        let view =
            format!("select carrier, carrier_late_7d as rate from carrier_delays_v1 where ds = '2013-01-{d:02}'");
        assert_eq!(query(&session, &view).await, query(&session, &naive).await, "day {d}");
    }
}

#[tokio::test]
async fn bad_views_are_refused_in_a_sentence() {
    let (session, folder) = session().await;
    session.sql(EVENTS).await.unwrap();
    let create = |options: &str, query: &str| format!("create feature view v options ({options}) as {query}");
    let good = "key = ['k'], event_time = 'at', start = '2024-01-01'";
    for (options, says) in [
        ("event_time = 'at'", "missing field `key`"),
        ("keys = ['k'], event_time = 'at'", "did you mean `key`?"),
        ("key = [], event_time = 'at'", "has no key"),
        ("key = ['k'], event_time = 'at', known_after = '1 month'", "a length of time without months"),
        ("key = ['k'], event_time = 'at', known_after = '1 day', known_at = 'at'", "say one of them"),
        ("key = ['k'], event_time = 'at', known_after = '2 days', max_age = '1 day'", "none is ever joined"),
        ("key = k, event_time = 'at'", "expected a text, a list or a map, got k"),
    ] {
        let error = session.sql(&create(options, "select k, at from events")).await.unwrap_err().to_string();
        assert!(error.contains(says), "{options}: {error}");
    }
    let until = MaterializeOptions::until(day("2024-01-02"));
    for (options, query, says) in [
        (good, "select k, x from events", "no column \"at\""),
        (good, "select k, at, at as ds from events", "which its table adds"),
        (good, "select k, x as at from events", "expected a timestamp or a date"),
        (good, "select k, at from event", "event"),
        ("key = ['k'], event_time = 'at'", "select k, at from events", "say the first day"),
        (
            "key = ['k'], event_time = 'at', start = '2024-01-01', sources = {'event': {'time': 'at'}}",
            "select k, at from events",
            "does not read the source \"event\"; did you mean \"events\"?",
        ),
        (
            "key = ['k'], event_time = 'at', start = '2024-01-01', sources = {'events': {'time': 'att'}}",
            "select k, at from events",
            "att",
        ),
        (
            "key = ['k'], event_time = 'at', start = '2024-01-01', expect = [{'not_null': ['x']}]",
            "select k, at, nullif(x, 0) as x from events",
            "not_null(x): 1 of 4 rows fail",
        ),
    ] {
        session.sql(&create(options, query)).await.unwrap();
        let view = session.feature_view("v").await.unwrap();
        let error = session.materialize(&view, &until).await.unwrap_err().to_string();
        assert!(error.contains(says), "{options} {query}: {error}");
        assert!(session.warehouse().open_table(&view.table()).await.unwrap().is_none(), "nothing is written");
    }
    let file = folder.path().join("view.yaml");
    std::fs::write(&file, "feature_view: v\nsql: select 1\nkey: [k]\nevent_tim: at\n").unwrap();
    let error = FeatureView::read(&file).unwrap_err().to_string();
    assert!(error.contains("did you mean `event_time`?"), "{error}");
    let error = session.feature_view("vv").await.unwrap_err().to_string();
    assert!(error.contains("did you mean \"v\"?"), "{error}");
}
