//! `ASOF JOIN` in SQL: what it gives, what is pushed below it, and what is said of what it does not take.

use arrow::util::pretty::pretty_format_batches;

use crate::Session;
use crate::session::SessionOptions;

/// Trades, and quotes that became known later than they were made.
const TABLES: &str = "
with trades (id, sym, at, day) as (values
       (1, 'A', timestamp '2024-01-01 10:00:00', 1), (2, 'A', timestamp '2024-01-01 12:00:00', 1),
       (3, 'B', timestamp '2024-01-01 10:00:00', 2)),
     quotes (sym, at, known, price) as (values
       ('A', timestamp '2024-01-01 09:00:00', timestamp '2024-01-01 09:30:00', 1.5),
       ('A', timestamp '2024-01-01 10:00:00', timestamp '2024-01-01 13:00:00', 2.5),
       ('B', timestamp '2024-01-01 07:00:00', timestamp '2024-01-01 07:00:00', 3.5))
";

async fn session() -> Session {
    let warehouse = std::env::temp_dir().join("tidemill-asof-sql").display().to_string();
    Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await.unwrap()
}

async fn show(rest: &str) -> String {
    let rows = session().await.sql(&format!("{TABLES}{rest}")).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&rows).unwrap().to_string()
}

/// Which price each trade gets, in order.
async fn prices(join: &str) -> Vec<String> {
    let table = show(&format!("select t.id, q.price from trades t {join} order by t.id")).await;
    let cell = |line: &str| line.split('|').nth(2).map(|c| c.trim().to_owned());
    table.lines().skip(3).filter_map(cell).collect()
}

const JOIN: &str = "asof join quotes q match_condition (t.at >= q.at) on t.sym = q.sym";

#[tokio::test]
async fn takes_the_latest_row_of_the_key() {
    assert_eq!(prices(JOIN).await, ["2.5", "2.5", "3.5"]);
    assert_eq!(prices(&JOIN.replace(">=", ">")).await, ["1.5", "2.5", "3.5"]);
    assert_eq!(prices(&JOIN.replace("t.sym = q.sym", "q.sym = t.sym")).await, ["2.5", "2.5", "3.5"]);
}

#[tokio::test]
async fn takes_a_tolerance_and_a_known_at_in_either_order() {
    let with = |clauses: &str| format!("{JOIN} {clauses}");
    assert_eq!(prices(&with("tolerance interval '2 hours'")).await, ["2.5", "2.5", ""]);
    assert_eq!(prices(&with("known as of q.known")).await, ["1.5", "1.5", "3.5"]);
    let both = ["1.5", "", ""];
    assert_eq!(prices(&with("TOLERANCE interval '2' hour Known /* when */ As\n Of q.known")).await, both);
    assert_eq!(prices(&with("known as of q.known tolerance interval '2 hours'")).await, both);
}

#[tokio::test]
async fn takes_expressions_as_keys_and_times() {
    let join = "asof join quotes q match_condition (t.at >= q.at + interval '1 hour') on lower(t.sym) = lower(q.sym)";
    assert_eq!(prices(join).await, ["1.5", "2.5", "3.5"]);
    let table = show(&format!("select * from trades t {join} where id = 3")).await;
    let columns = "| id | sym | at                  | day | sym | at                  | known               | price |";
    assert!(table.contains(columns), "{table}");
}

#[tokio::test]
async fn stands_among_other_joins_and_in_subqueries() {
    let joins = format!(
        "select t.id, q.price, p.price as before, d.name from trades t {JOIN} tolerance interval '2 hours'
         join (values (1, 'mon'), (2, 'tue')) as d (day, name) on d.day = t.day
         asof join quotes p match_condition (t.at > p.at) on t.sym = p.sym known as of p.known
         where t.id < 10 order by t.id"
    );
    let table = show(&joins).await;
    for row in ["| 1  | 2.5   | 1.5    | mon  |", "| 2  | 2.5   | 1.5    | mon  |", "| 3  |       | 3.5    | tue  |"] {
        assert!(table.contains(row), "{table}");
    }
    let nested = format!("select count(*) as n from (trades t {JOIN}) where price > (select min(price) from quotes)");
    assert!(show(&nested).await.contains("| 3 |"));
}

#[tokio::test]
async fn the_words_of_the_clauses_are_names_elsewhere() {
    let sql = "with l (tolerance, known, t) as (values (1, 2, 3)), r (tolerance, known, t, v) as (values (1, 2, 2, 9))
               select tolerance.known as tolerance, known.v as known from l tolerance
               asof join r known match_condition (tolerance.t >= known.t)
               on tolerance.tolerance = known.tolerance and tolerance.known = known.known tolerance 1";
    let rows = session().await.sql(sql).await.unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&rows).unwrap().to_string();
    assert!(table.contains("| 2         | 9     |"), "{table}");
}

#[tokio::test]
async fn views_keep_the_clauses() {
    let warehouse = tempfile::tempdir().unwrap();
    let warehouse = warehouse.path().display().to_string();
    let session = Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await.unwrap();
    for sql in [
        "create table l as select 1 as k, 10 as t",
        "create table r as select * from (values (1, 3, 7.5), (1, 9, 8.5)) as r (k, t, v)",
        "create view near as -- as it is near
         select l.k, r.v from l asof join r match_condition (l.t > r.t) on l.k = r.k tolerance 2;",
    ] {
        session.sql(sql).await.unwrap();
    }
    let rows = session.sql("select v from near").await.unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&rows).unwrap().to_string();
    assert!(table.contains("8.5"), "{table}");
}

#[tokio::test]
async fn filters_on_the_left_and_unused_columns_do_not_reach_the_join() {
    let session = session().await;
    let rows = |sql: &'static str| {
        let session = session.clone();
        async move { session.sql(sql).await.unwrap().into_view() }
    };
    let left = "select * from (values (1, 2, 3, 4), (2, 3, 4, 5)) as l (k, t, x, unused)";
    session.register("l", rows(left).await).unwrap();
    session.register("r", rows("select * from (values (1, 2, 3)) as r (k, t, v)").await).unwrap();
    let sql = "select l.x, r.v from l asof join r match_condition (l.t >= r.t) on l.k = r.k
               where l.x > 3 and r.v > 1 and random() < 2";
    let plan = session.sql(sql).await.unwrap().into_optimized_plan().unwrap().display_indent().to_string();
    let lines: Vec<&str> = plan.lines().map(str::trim_start).collect();
    let at = |start: &str| lines.iter().position(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {plan}"));
    let join = at("AsofJoin: on=[l.k = r.k], l.t >= r.t");
    assert!(at("Filter: r.v > Int64(1)") < join, "{plan}");
    let below = |part: &str| lines[join..].iter().any(|l| l.starts_with("Filter:") && l.contains(part));
    assert!(below("> Int64(3)") && below("random()"), "{plan}");
    assert_eq!(plan.matches("random()").count(), 1, "{plan}");
    assert!(!plan.contains("unused"), "{plan}");
}

async fn message(rest: &str) -> String {
    match session().await.sql(&format!("{TABLES}{rest}")).await {
        Ok(_) => panic!("{rest} is planned"),
        Err(e) => e.to_string(),
    }
}

/// The message for a join, which stands in line 9, after 22 columns.
async fn refused(join: &str, says: &[&str]) {
    let got = message(&format!("select * from trades t {join}")).await;
    for part in says {
        assert!(got.contains(part), "expected {part:?} in {got:?}");
    }
}

#[tokio::test]
async fn refuses_what_is_not_a_match_condition() {
    refused("asof join quotes q on t.sym = q.sym", &["Expected: MATCH_CONDITION, found: on", "Line: 9, Column: 43"])
        .await;
    let with = |condition: &str| JOIN.replace("t.at >= q.at", condition);
    let expected = "MATCH_CONDITION expects a time of the left side >= or > one of the right side, got ";
    for condition in ["t.at <= q.at", "q.at >= t.at", "t.at >= t.at", "t.at >= 3", "t.at", "t.at >= q.at and true"] {
        refused(&with(condition), &[expected, "at Line: 9, Column: 60"]).await;
    }
    refused(&with("t.at >= q.price"), &["are of two kinds", "Line: 9"]).await;
    refused(&with("t.sym >= q.sym"), &["the time column \"sym\" is Utf8", "Line: 9"]).await;
    refused(&with("t.att >= q.at"), &["att"]).await;
}

#[tokio::test]
async fn refuses_what_is_not_a_key() {
    let with = |on: &str| JOIN.replace("on t.sym = q.sym", on);
    refused(&with(""), &["expects ON with the keys that are equal", "got none at Line: 9"]).await;
    refused(&with("using (sym)"), &["expects ON with the keys that are equal", "got USING at Line: 9"]).await;
    let expected = "ON of an as-of join expects equalities joined by AND, got ";
    refused(&with("on t.sym > q.sym"), &[&format!("{expected}>"), "Line: 9, Column: 77"]).await;
    refused(&with("on t.sym = q.sym or t.id = 1 tolerance 1"), &[&format!("{expected}OR at Line: 9")]).await;
    refused(&with("on true"), &[&format!("{expected}true at Line: 9")]).await;
    let expected = "ON of an as-of join expects a key of the left side = one of the right side, got ";
    refused(&with("on t.sym = t.sym"), &[&format!("{expected}t.sym = t.sym at Line: 9, Column: 77")]).await;
    refused(&with("on t.sym = 'A'"), &[expected]).await;
    refused(&with("on t.id = q.sym"), &["the key \"id\" is Int64 on the left, and \"sym\" is Utf8", "Line: 9"]).await;
}

#[tokio::test]
async fn refuses_what_is_not_a_tolerance_or_a_time_known() {
    let with = |clauses: &str| format!("{JOIN} {clauses}");
    let at = "at Line: 9, Column: 91";
    let expected = "TOLERANCE expects an interval or a number, as interval '2 hours', got ";
    refused(&with("tolerance t.at"), &[&format!("{expected}t.at {at}")]).await;
    refused(&with("tolerance 3"), &["expected an interval of days or shorter units", at]).await;
    refused(&with("tolerance '3 hours'"), &["expected an interval of days or shorter units", at]).await;
    refused(&with("tolerance interval '1 month'"), &["expected an interval of days or shorter units", at]).await;
    refused(&with("tolerance"), &["Expected: an expression, found: EOF"]).await;
    refused(&with("tolerance interval '1 day' tolerance interval '2 days'"), &["one TOLERANCE, got a second"]).await;
    refused(&with("known as of t.at"), &[&format!("KNOWN AS OF expects a time of the right side, got t.at {at}")])
        .await;
    refused(&with("known as of q.price"), &["are of two kinds", "Line: 9"]).await;
    refused(&with("known as of q.at known as of q.known"), &["one KNOWN AS OF, got a second"]).await;
    let early = JOIN.replace("on t.sym", "tolerance interval '1 day' on t.sym");
    let says = ["Expected: ON with the keys of the as-of join, found: TOLERANCE at Line: 9, Column: 74"];
    refused(&early, &says).await;
}
