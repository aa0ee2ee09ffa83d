//! Each check on rows that pass and rows that do not, and what a job file may say.

use chrono::{DateTime, Utc};

use super::{Check, CheckResult, Expectation, Outcome, Reference, check};
use crate::Session;
use crate::session::SessionOptions;

const ROWS: &str = "
    select * from (values
        (1, 1.5, 'a', timestamp '2024-01-02 10:00:00'), (2, 2.5, 'b', timestamp '2024-01-03 10:00:00'),
        (2, null, 'c', null), (3, cast('NaN' as double), null, timestamp '2024-01-01 10:00:00'))
    as t (id, x, name, at)";

fn expectation(yaml: &str) -> Expectation {
    serde_norway::from_str(yaml).unwrap()
}

async fn session() -> Session {
    let warehouse = std::env::temp_dir().join("tidemill-checks").display().to_string();
    Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await.unwrap()
}

async fn run(yaml: &str, last_rows: Option<u64>) -> crate::Result<CheckResult> {
    let rows = session().await.sql(ROWS).await?;
    let now: DateTime<Utc> = "2024-01-04T10:00:00Z".parse().unwrap();
    Ok(check(&rows, &[expectation(yaml)], &Reference { now, last_rows }).await?.remove(0))
}

/// How many of the four rows fail.
async fn failed(yaml: &str) -> u64 {
    let result = run(yaml, None).await.unwrap();
    assert_eq!((result.n_rows, result.outcome == Outcome::Fail), (4, result.n_failed > 0), "{result:?}");
    result.n_failed
}

#[tokio::test]
async fn not_null_is_about_each_column() {
    assert_eq!(failed("not_null: [id]").await, 0);
    assert_eq!(failed("not_null: [name]").await, 1);
    assert_eq!(failed("not_null: [id, name, at]").await, 2);
}

#[tokio::test]
async fn unique_counts_the_rows_that_are_alike() {
    assert_eq!(failed("unique: [id]").await, 2);
    assert_eq!(failed("unique: [id, at]").await, 0);
    assert_eq!(run("unique: [id]", None).await.unwrap().examples, ["id = 2, rows_alike = 2"]);
}

#[tokio::test]
async fn a_range_has_its_bounds_and_null_but_not_nan() {
    assert_eq!(failed("in_range: { column: id, min: 1, max: 3 }").await, 0);
    assert_eq!(failed("in_range: { column: id, min: 1.5, max: 2 }").await, 2);
    assert_eq!(failed("in_range: { column: x, min: 0 }").await, 1);
    assert_eq!(failed("in_range: { column: x, max: 1.5 }").await, 2);
    assert_eq!(failed("in_range: { column: at, min: 2024-01-02 10:00:00 }").await, 1);
    assert_eq!(failed("in_range: { column: name, max: b }").await, 1);
}

#[tokio::test]
async fn a_set_has_its_values_and_null() {
    assert_eq!(failed("in_set: { column: name, values: [a, b, c] }").await, 0);
    assert_eq!(failed("in_set: { column: id, values: [1, 3] }").await, 2);
    assert_eq!(failed("in_set: { column: x, values: [1.5] }").await, 2);
}

#[tokio::test]
async fn a_predicate_that_is_null_holds() {
    assert_eq!(failed("sql: id + 1 > 1").await, 0);
    assert_eq!(failed("sql: name <> 'a' and x < 100").await, 2);
}

#[tokio::test]
async fn a_count_has_bounds_and_a_change() {
    let outcome = |yaml: &'static str, last| async move { run(yaml, last).await.unwrap() };
    for (yaml, last, expected) in [
        ("row_count: { min: 4, max: 4 }", None, Outcome::Passed),
        ("row_count: { min: 5 }", None, Outcome::Fail),
        ("row_count: { max: 3 }", None, Outcome::Fail),
        ("row_count: { against_last_run: 0.5 }", None, Outcome::Passed),
        ("row_count: { against_last_run: 0.5 }", Some(0), Outcome::Passed),
        ("row_count: { against_last_run: 0.5 }", Some(8), Outcome::Passed),
        ("row_count: { against_last_run: 0.5 }", Some(9), Outcome::Fail),
        ("row_count: { against_last_run: 0.3 }", Some(3), Outcome::Fail),
    ] {
        assert_eq!(outcome(yaml, last).await.outcome, expected, "{yaml} {last:?}");
    }
    let result = outcome("row_count: { min: 5 }", None).await;
    assert_eq!((result.check.as_str(), result.detail.as_deref()), ("row_count(5 or more)", Some("4 rows")));
    let detail = outcome("row_count: { against_last_run: 0.5 }", Some(16)).await.detail;
    assert_eq!(detail.as_deref(), Some("4 rows, a change by 0.750 from the 16 of the last run"));
}

#[tokio::test]
async fn freshness_is_the_age_of_the_newest_value() {
    assert_eq!(failed("freshness: { column: at, within: 24 hours }").await, 0);
    let result = run("freshness: { column: at, within: 23 hours }", None).await.unwrap();
    assert_eq!(result.outcome, Outcome::Fail);
    let detail = "the newest value is 2024-01-03T10:00:00Z, expected 2024-01-03T11:00:00Z or later";
    assert_eq!(result.detail.as_deref(), Some(detail));

    let session = session().await;
    for (sql, expected) in [
        ("select date '2024-01-04' as at", Outcome::Passed),
        ("select timestamp '2024-01-04T09:00:00+00:00' as at", Outcome::Passed),
        ("select date '2024-01-04' as at where false", Outcome::Warn),
    ] {
        let rows = session.sql(sql).await.unwrap();
        let now: DateTime<Utc> = "2024-01-05T00:00:00Z".parse().unwrap();
        let e = expectation("freshness: { column: at, within: 1 day }\non_failure: warn");
        let results = check(&rows, &[e], &Reference { now, last_rows: None }).await.unwrap();
        assert_eq!(results[0].outcome, expected, "{sql}: {results:?}");
    }
}

#[tokio::test]
async fn failures_are_shown_by_a_few_rows() {
    let result = run("in_set: { column: name, values: [z] }\non_failure: quarantine", None).await.unwrap();
    assert_eq!((result.outcome, result.n_failed, result.examples.len()), (Outcome::Quarantine, 3, 3));
    assert!(result.examples.contains(&"name = c, id = 2, x = null, at = null".to_owned()), "{result:?}");
}

#[tokio::test]
async fn many_checks_are_one_query_and_keep_their_order() {
    let rows = session().await.sql(ROWS).await.unwrap();
    let checks = ["not_null: [name]", "row_count: { min: 1 }", "unique: [id]", "in_range: { column: id, max: 2 }"];
    let checks: Vec<Expectation> = checks.into_iter().map(expectation).collect();
    let now = Utc::now();
    let results = check(&rows, &checks, &Reference { now, last_rows: None }).await.unwrap();
    let names: Vec<&str> = results.iter().map(|r| r.check.as_str()).collect();
    assert_eq!(names, ["not_null(name)", "row_count(1 or more)", "unique(id)", "in_range(id, 2 or less)"]);
    assert_eq!(results.iter().map(|r| r.n_failed).collect::<Vec<_>>(), [1, 0, 2, 1]);
}

#[tokio::test]
async fn what_does_not_go_with_the_rows_is_refused() {
    for (yaml, says) in [
        ("not_null: [nmae]", "not_null(nmae): there is no column \"nmae\"; did you mean \"name\"?"),
        ("unique: [i]", "unique(i): there is no column \"i\""),
        ("in_range: { column: id, min: a }", "expected a value of type Int64, got \"a\""),
        ("in_set: { column: name, values: [1] }", "expected a value of type Utf8, got 1"),
        ("freshness: { column: id, within: 1 day }", "expected a timestamp or date, got Int64"),
        ("sql: id + 1", "sql(id + 1): expected a predicate, got a value of type Int64"),
        ("sql: idd > 1", "sql(idd > 1): "),
        ("sql: id >", "sql(id >): "),
    ] {
        let message = run(yaml, None).await.unwrap_err().to_string();
        assert!(message.contains(says), "{yaml}: expected {says:?} in {message:?}");
    }
}

#[test]
fn what_is_not_an_expectation_is_refused() {
    for (yaml, says) in [
        ("{}", "expected one of not_null, unique, in_range, in_set, row_count, freshness, sql in an item"),
        ("not_null: [a]\nunique: [a]", "got 2; begin a new item with -"),
        ("not_nul: [a]", "unknown field `not_nul`, expected one of `not_null`"),
        ("in_range: { column: a, mim: 1 }", "unknown field `mim`, expected one of `column`, `min`, `max`"),
        ("not_null: []", "not_null(): expected at least one column"),
        ("in_range: { column: a }", "expected min, max or both"),
        ("in_set: { column: a, values: [] }", "expected at least one value"),
        ("row_count: {}", "expected min, max or against_last_run"),
        ("row_count: { min: 3, max: 2 }", "min is greater than max"),
        ("row_count: { against_last_run: -1 }", "must be a fraction that is not negative"),
        ("freshness: { column: a, within: 1 month }", "a length of time without months"),
        ("freshness: { column: a, within: soon }", "as 2 days or 90 minutes; got \"soon\""),
        ("unique: [a]\non_failure: quarantine", "unique(a): on_failure: quarantine is for checks of rows"),
        ("sql: a > 1\non_failure: quarantin", "unknown variant `quarantin`"),
    ] {
        let message = serde_norway::from_str::<Expectation>(yaml).unwrap_err().to_string();
        assert!(message.contains(says), "{yaml}: expected {says:?} in {message:?}");
    }
}

/// The example of docs/jobs.md, over the data that it is about.
#[tokio::test]
async fn the_example_of_the_guide_holds() {
    #[derive(serde::Deserialize)]
    struct Example {
        expect: std::collections::BTreeMap<String, Vec<Expectation>>,
    }
    let guide = include_str!("../../../docs/jobs.md");
    let section = guide.split("## `expect`").nth(1).unwrap();
    let yaml = section.split("```yaml").nth(1).and_then(|s| s.split("```").next()).unwrap();
    let example: Example = serde_norway::from_str(yaml).unwrap();
    let session = session().await;
    let flights = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/data/flights.parquet");
    session.register_parquet("flights", flights).await.unwrap();
    let rows = session.sql("select * from flights").await.unwrap();
    let now: DateTime<Utc> = "2013-11-05T00:00:00Z".parse().unwrap();
    let results = check(&rows, &example.expect["flights"], &Reference { now, last_rows: None }).await.unwrap();
    assert_eq!(results.len(), 6);
    for r in results {
        assert_eq!((r.n_rows, r.outcome), (336_776, Outcome::Passed), "{r:?}");
    }
}

#[test]
fn a_check_is_told_as_it_was_written() {
    let told = |yaml: &str| expectation(yaml).check().to_string();
    assert_eq!(told("in_range: { column: a, min: 0, max: 2.5 }"), "in_range(a, 0 to 2.5)");
    assert_eq!(told("in_range: { column: a, min: 2024-01-01 }"), "in_range(a, 2024-01-01 or more)");
    assert_eq!(
        told("row_count: { max: 9, against_last_run: 0.2 }"),
        "row_count(9 or less, within 0.2 of the last run)"
    );
    assert_eq!(told("freshness: { column: at, within: 2 days }"), "freshness(at, 2 days)");
    assert!(matches!(expectation("sql: a > 1").check(), Check::Sql(sql) if sql == "a > 1"));
}
