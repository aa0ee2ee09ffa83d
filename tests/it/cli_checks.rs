//! Checks of a job's tables, by the command.

use serde_json::Value;

use crate::cli_cluster::cluster;
use crate::support::Workplace;

/// The exit code for data that is not as expected.
const FAILED: i32 = 1;
/// The exit code for wrong input.
const USAGE: i32 = 2;

/// A folder whose training job expects this.
fn expecting(expect: &str) -> Workplace {
    let work = Workplace::new();
    expect_in(&work, "train.yaml", expect);
    work
}

fn expect_in(work: &Workplace, job: &str, expect: &str) {
    work.edit(job, "features: features.sql\n", &format!("expect:\n{expect}features: features.sql\n"));
}

fn last_run(work: &Workplace) -> Value {
    let runs = work.succeed(&["runs", "list", "--json"]).objects();
    runs.last().unwrap().clone()
}

/// Rows that lack `x`, of which one is the seventeenth, and those whose `x` is 10.
const QUARANTINE: &str = "  small:
    - { not_null: [x], on_failure: quarantine }
    - { in_range: { column: x, max: 9.9 }, on_failure: quarantine }
    - { sql: id <> 17, on_failure: quarantine }
    - { in_set: { column: carrier, values: [AA, UA] } }
";

fn holds_what_failed(work: &Workplace, warehouse: &str) {
    let sql = "select failed_checks, count(*) as n, count(distinct run) as runs, min(id) as id
               from small_quarantine group by failed_checks order by n";
    let rows = work.succeed(&["sql", "--warehouse", warehouse, "--format", "json", "-c", sql]).objects();
    let rows: Vec<_> = rows.iter().map(|r| (r["failed_checks"].as_str().unwrap(), &r["n"], &r["runs"])).collect();
    let expected = [("not_null(x); sql(id <> 17)", 1), ("in_range(x, 9.9 or less)", 7), ("not_null(x)", 42)];
    assert_eq!(rows.len(), expected.len(), "{rows:?}");
    for (row, (names, n)) in rows.iter().zip(expected) {
        assert_eq!((row.0, row.1, row.2), (names, &Value::from(n), &Value::from(1)), "{rows:?}");
    }
}

#[test]
fn a_check_that_fails_ends_the_run_before_anything_is_written() {
    let work = expecting(
        "  small:
    - { not_null: [id, x] }
    - { row_count: { min: 1000 } }
    - { unique: [id] }
    - { in_range: { column: x, max: 9.9 }, on_failure: quarantine }
",
    );
    let says = [
        "table \"small\" is not as expected: not_null(id, x): 43 of 720 rows fail, e.g. (",
        "x = null",
        "; row_count(1000 or more): 720 rows",
    ];
    work.tidemill(&["run", "train.yaml"]).fails(FAILED, &says);
    for folder in ["tables", "models"] {
        assert!(work.files(folder).is_empty(), "{:?}", work.files(folder));
    }
    let record = last_run(&work);
    let outcomes = record["checks"]["small"].as_array().unwrap().iter().map(|c| (&c["outcome"], &c["n_failed"]));
    let outcomes: Vec<_> = outcomes.map(|(o, n)| (o.as_str().unwrap(), n.as_u64().unwrap())).collect();
    assert_eq!(outcomes, [("fail", 43), ("fail", 720), ("passed", 0), ("quarantine", 7)]);
    let shown = work.succeed(&["runs", "show", record["run"].as_str().unwrap()]).stdout;
    assert!(shown.contains("Checks") && shown.contains("failed: 720 rows"), "{shown}");
}

#[test]
fn a_warning_is_told_and_the_run_goes_on() {
    let work = expecting("  small:\n    - { not_null: [x], on_failure: warn }\n    - { not_null: [id] }\n");
    let ended = work.succeed(&["run", "train.yaml"]);
    let warning = "warning: table \"small\" is not as expected: not_null(x): 43 of 720 rows fail";
    assert!(ended.stderr.contains(warning), "{ended:?}");
    assert!(ended.stdout.contains("warned") && ended.stdout.contains("not_null(id)"), "{ended:?}");
    assert!(std::fs::read_to_string(work.path("report.html")).unwrap().contains("not_null(x)"));
}

#[test]
fn rows_in_quarantine_are_left_out_and_kept_apart() {
    let work = expecting(QUARANTINE);
    work.succeed(&["run", "train.yaml"]);
    assert_eq!(last_run(&work)["train"]["n_rows"], 720 - 50);
    holds_what_failed(&work, "warehouse");
}

#[test]
fn checks_hold_on_a_cluster_too() {
    let work = expecting(QUARANTINE);
    let (_cluster, address) = cluster(&work, &[]);
    work.succeed(&["run", "train.yaml", "--cluster", &address]);
    assert_eq!(last_run(&work)["train"]["n_rows"], 720 - 50);
    holds_what_failed(&work, "warehouse");
}

#[test]
fn a_table_of_the_warehouse_is_compared_with_the_last_run() {
    let work = expecting("  extra:\n    - { row_count: { against_last_run: 0.5 } }\n");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["expect names \"extra\"", "neither under tables"]);
    work.succeed(&["sql", "-c", "create table extra as select 1 as a"]);
    work.succeed(&["run", "train.yaml"]);
    work.succeed(&["sql", "-c", "insert into extra select 2"]);
    let says = ["row_count(within 0.5 of the last run): 2 rows, a change by 1.000 from the 1 of the last run"];
    work.tidemill(&["run", "train.yaml"]).fails(FAILED, &says);
    // What failed is not what the next run is compared with.
    work.tidemill(&["run", "train.yaml"]).fails(FAILED, &says);
}

#[test]
fn a_scoring_run_is_checked_as_of_its_day() {
    let work = Workplace::new();
    work.succeed(&["run", "train.yaml"]);
    let expect = "  small:
    - { freshness: { column: ds, within: 2 days } }
    - { sql: 'ds < :ds', on_failure: warn }
";
    expect_in(&work, "score.yaml", expect);
    let says =
        ["freshness(ds, 2 days): the newest value is 2024-01-12T00:00:00Z, expected 2024-01-13T00:00:00Z or later"];
    work.tidemill(&["run", "score.yaml", "--param", "ds=2024-01-15"]).fails(FAILED, &says);
    assert!(work.files("tables").is_empty());
    let ended = work.succeed(&["run", "score.yaml", "--param", "ds=2024-01-10"]);
    let warning = "sql(ds < date '2024-01-10'): 180 of 720 rows fail";
    assert!(ended.stderr.contains(warning), "{ended:?}");
}

#[test]
fn misspelt_checks_suggest_the_right_one() {
    let cases = [
        ("{ not_nul: [x] }", "did you mean `not_null`?"),
        ("{ in_range: { column: x, mim: 1 } }", "did you mean `min`?"),
        ("{ not_null: [x], on_failure: quarantin }", "did you mean `quarantine`?"),
        (
            "{ not_null: [carier] }",
            "expect.small: not_null(carier): there is no column \"carier\"; did you mean \"carrier\"?",
        ),
        ("{ unique: [id], on_failure: quarantine }", "use fail or warn"),
    ];
    for (item, says) in cases {
        expecting(&format!("  small:\n    - {item}\n")).tidemill(&["run", "train.yaml"]).fails(USAGE, &[says]);
    }
    let work = expecting("  smal:\n    - { unique: [id] }\n");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["expect names \"smal\"", "did you mean \"small\"?"]);
}
