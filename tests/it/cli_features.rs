//! Feature views by the command: declared, materialised, killed in the middle, checked, joined by jobs.

use serde_json::Value;

use crate::cluster::LocalCluster;
use crate::support::{Running, Workplace};

/// The carrier's share of late rows over the three days before, known from noon on.
const VIEW: &str = "\
feature_view: carrier_late
sources:
  small: { path: small.parquet, time: ds }
sql: view.sql
key: [carrier]
event_time: day
known_after: 12 hours
look_back: 3 days
start: 2024-01-01
";
const VIEW_SQL: &str = "\
-- The days before, never the day itself.
select carrier, ds as day, sum(n_late) over past / sum(n) over past as late_3d from (
  select carrier, ds, sum(cast(coalesce(late, 0) as double)) as n_late, cast(count(*) as double) as n
  from small group by carrier, ds)
window past as (partition by carrier order by ds range between interval '3 days' preceding and interval '1 day' preceding)
";

/// The small jobs with the view joined at noon of each row's day.
fn work() -> Workplace {
    let work = Workplace::new();
    work.write("view.yaml", VIEW);
    work.write("view.sql", VIEW_SQL);
    work.write(
        "features.sql",
        "select id, ds, carrier, x, late, cast(ds as timestamp) + interval '12 hours' as noon from small\n",
    );
    for job in ["train.yaml", "score.yaml"] {
        let views = "features: features.sql\nfeature_views:\n  at: noon\n  views: [view.yaml]\n";
        work.edit(job, "features: features.sql\n", views);
    }
    work.edit("train.yaml", "imputer: { inputs: [x] }", "imputer: { inputs: [x, late_3d] }");
    work.edit("train.yaml", "inputs: [x], with_mean", "inputs: [x, late_3d], with_mean");
    work.edit("train.yaml", "inputs: [x, carrier]", "inputs: [x, late_3d, carrier]");
    work
}

const TABLE: &str = "select * from carrier_late_v1 order by carrier, day";

#[test]
fn a_view_is_materialised_listed_and_checked() {
    let work = work();
    let range = ["--from", "2024-01-01", "--to", "2024-01-09"];
    let done = work.succeed(&[&["features", "materialize", "view.yaml"], &range[..]].concat());
    assert!(done.stdout.contains("carrier_late version 1: 9 days, 9 rows into carrier_late_v1"), "{done:?}");
    let done = work.succeed(&["features", "materialize", "carrier_late", "--to", "2024-01-12"]);
    assert!(done.stdout.contains("3 days, 3 rows"), "{done:?}");
    let list = work.succeed(&["features", "list"]).stdout;
    assert!(list.contains("carrier_late") && list.contains("2024-01-01 to 2024-01-12"), "{list}");
    let shown = work.succeed(&["features", "show", "carrier_late"]).stdout;
    assert!(shown.contains("12 hours after day") && shown.contains("late_3d"), "{shown}");
    let checked = work.succeed(&["features", "check", "carrier_late"]).stdout;
    assert!(checked.contains("12 days are as their query gives them"), "{checked}");

    // The source changes: the days that saw it differ, and a new run of these days mends them.
    crate::support::write_table(&work.path("small.parquet"), |_| "AA", crate::support::late);
    work.tidemill(&["features", "check", "carrier_late"]).fails(1, &["days differ", "2024-01-0"]);
    work.succeed(&[&["features", "materialize", "carrier_late"], &range[..]].concat());
    work.succeed(&["features", "check", "carrier_late", "--to", "2024-01-09"]);
}

#[test]
fn a_kill_in_the_middle_and_again_gives_the_same_table() {
    let whole = work();
    let command = ["features", "materialize", "view.yaml", "--to", "2024-01-12"];
    whole.succeed(&command);

    let work = work();
    let options = ["--json", "--days-per-commit", "1"];
    let mut run = Running::start(&mut work.command(&[&command, &options[..]].concat()));
    run.wait_for(|e| e["event"] == "step_progress" && e["done"] == 3);
    run.signal("KILL");
    run.ended();
    let part = work.rows("select count(distinct ds) as n from carrier_late_v1")[0]["n"].as_i64().unwrap();
    assert!((3..12).contains(&part), "{part}");
    work.succeed(&command);
    assert_eq!(work.rows(TABLE), whole.rows(TABLE));
    work.succeed(&["features", "check", "carrier_late"]);
}

#[test]
fn jobs_join_the_version_that_the_model_was_trained_with() {
    let work = work();
    let record = |ended: crate::support::Ended| -> Value {
        ended.objects().into_iter().find(|e| e["event"] == "record").unwrap()["record"].clone()
    };
    let trained = record(work.succeed(&["run", "train.yaml", "--json"]));
    assert_eq!(trained["feature_views"][0]["name"], "carrier_late");
    assert_eq!(trained["feature_views"][0]["n_days_materialized"], 12);
    let shown = work.succeed(&["models", "show", "small@live"]).stdout;
    assert!(shown.contains("carrier_late") && shown.contains("version 1"), "{shown}");
    let score = ["run", "score.yaml", "--param", "ds=2024-01-09", "--param", "to=2024-01-12", "--json"];
    assert_eq!(record(work.succeed(&score))["feature_views"][0]["n_days_materialized"], 0);
    let rows = "select * exclude (run) from small_scored order by id";
    let expected = work.rows(rows);
    assert_eq!(expected.len(), 240);

    // On a cluster, over a warehouse of its own: the same model and rows.
    let cluster = LocalCluster::start(2);
    let mode = ["--cluster", cluster.address.as_str(), "--warehouse", "remote"];
    let remote = record(work.succeed(&[&["run", "train.yaml", "--json"], &mode[..]].concat()));
    assert_eq!(remote["train"]["digest"], trained["train"]["digest"]);
    work.succeed(&[&score[..], &mode].concat());
    let sql = ["sql", "--format", "json", "-c", rows, "--warehouse", "remote"];
    assert_eq!(work.succeed(&sql).objects(), expected);
    work.succeed(&[&["features", "check", "carrier_late"], &mode[..]].concat());

    // Another definition is another version, with which this model is not scored.
    work.edit("view.sql", "interval '3 days' preceding", "interval '2 days' preceding");
    let says = ["was trained with feature view carrier_late version 1", "the job has version 2", "carrier_late/1"];
    work.tidemill(&score).fails(2, &says);
    work.edit("score.yaml", "[view.yaml]", "[carrier_late/1]");
    work.succeed(&score);
    assert_eq!(work.rows(rows), expected);
}

#[test]
fn bad_input_is_told_in_a_sentence() {
    let work = work();
    work.tidemill(&["features", "show", "carrier_late"]).fails(2, &["does not exist", "features materialize"]);
    work.edit("view.yaml", "look_back", "lookback");
    let command = ["features", "materialize", "view.yaml", "--to", "2024-01-12"];
    work.tidemill(&command).fails(2, &["view.yaml", "did you mean `look_back`?"]);
    work.edit("view.yaml", "lookback", "look_back");
    work.edit("view.sql", "from small", "from smal");
    work.tidemill(&command).fails(2, &["carrier_late", "smal"]);
    work.edit("view.sql", "from smal", "from small");
    let backwards = ["features", "materialize", "view.yaml", "--from", "2024-01-12", "--to", "2024-01-01"];
    work.tidemill(&backwards).fails(2, &["2024-01-12 is after 2024-01-01"]);
    work.edit("score.yaml", "at: noon", "at: nooon");
    work.succeed(&["run", "train.yaml"]);
    let score = ["run", "score.yaml", "--param", "ds=2024-01-09"];
    work.tidemill(&score).fails(2, &["no time \"nooon\"", "did you mean \"noon\"?"]);
    work.edit("score.yaml", "at: nooon", "at: noon\n  columns: [late_7d]");
    work.tidemill(&score).fails(2, &["no view has a feature \"late_7d\"", "did you mean \"late_3d\"?"]);
    work.edit("score.yaml", "\nfeature_views:\n  at: noon\n  columns: [late_7d]\n  views: [view.yaml]", "");
    work.tidemill(&score).fails(2, &["which the job does not join"]);
}
