//! Training, scoring and SQL by the command, in process.

use serde_json::Value;

use crate::support::Workplace;

/// Every column of the scored table but those of the run.
const SCORED: &str = "select id, ds, late, score, predicted, model_version from small_scored order by id";

#[test]
fn train_score_and_query() {
    let work = Workplace::new();
    let trained = work.succeed(&["run", "train.yaml"]);
    for part in ["2 candidates × 2 folds = 4 fits", "without a label", "Hold-out", "Calibration", "@live", "Steps"] {
        assert!(trained.stdout.contains(part), "the report lacks {part:?}: {}", trained.stdout);
    }
    let page = std::fs::read_to_string(work.path("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("ROC curve") && page.contains("What the pipeline read in training"));

    work.succeed(&["run", "score.yaml", "--param", "ds=2024-01-09", "--param", "to=2024-01-10"]);
    let rows =
        work.rows("select ds, count(*) as n, min(score) as low, max(score) as high from small_scored group by ds");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|r| r["n"] == 60 && r["low"].as_f64() < r["high"].as_f64()), "{rows:?}");
}

#[test]
fn tables_files_and_queries_are_described() {
    let work = Workplace::new();
    let text = work.succeed(&["describe", "small.parquet"]).stdout;
    assert!(text.contains("720 rows") && text.contains("2024-01-12"), "{text}");
    work.succeed(&[
        "sql",
        "-c",
        "create table t as select * from (values (1, 'a'), (2, 'a'), (3, null)) as v(x, name)",
    ]);
    for arguments in [["describe", "t", "--json"], ["describe", "--sql=select * from t", "--json"]] {
        let profile = &work.succeed(&arguments).objects()[0];
        assert_eq!(profile["n_rows"], 3);
        assert_eq!(profile["columns"][0]["mean"], 2.0, "{profile}");
        assert_eq!(profile["columns"][1]["top"][0], serde_json::json!(["a", 2]), "{profile}");
        assert_eq!(profile["columns"][1]["nulls"], 1, "{profile}");
    }
    work.tidemill(&["describe", "absent"]).fails(2, &["absent"]);
    work.tidemill(&["describe", "absent.parquet"]).fails(2, &["absent.parquet"]);
    work.tidemill(&["describe", "--sql", "drop table t"]).fails(2, &["expected one SELECT"]);
}

#[test]
fn the_same_run_again_writes_the_same_table() {
    let work = Workplace::new();
    work.succeed(&["run", "train.yaml"]);
    let score = ["run", "score.yaml", "--param", "ds=2024-01-09", "--param", "to=2024-01-11"];
    work.succeed(&score);
    let first = work.rows(SCORED);
    assert_eq!(first.len(), 180);
    work.succeed(&score);
    assert_eq!(work.rows(SCORED), first);
    // One day alone replaces that day alone.
    work.succeed(&["run", "score.yaml", "--param", "ds=2024-01-10"]);
    assert_eq!(work.rows(SCORED), first);
}

#[test]
fn inputs_are_chosen_but_for_key_label_and_folds() {
    let work = Workplace::new();
    work.edit("train.yaml", "imputer: { inputs: [x] }", "imputer: { inputs: { type: number } }");
    work.edit("train.yaml", "string_indexer: { inputs: [carrier]", "string_indexer: { inputs: { type: string }");
    work.edit("train.yaml", "standard_scaler: { inputs: [x]", "standard_scaler: { inputs: { type: number }");
    work.succeed(&["run", "train.yaml"]);
    let model = &work.succeed(&["models", "show", "small", "--json"]).objects()[0];
    let inputs = model["signature"]["inputs"].as_array().unwrap().iter().map(|input| input["name"].clone());
    assert_eq!(inputs.collect::<Vec<_>>(), ["x", "carrier"]);
    assert_eq!(model["profile"]["columns"][0]["name"], "x");
    work.edit("train.yaml", "{ inputs: { type: string }", "{ inputs: { type: boolean }");
    work.tidemill(&["run", "train.yaml"]).fails(2, &["stage 2 (string_indexer)", "choose none of the columns", "x"]);
}

#[test]
fn the_same_training_again_registers_nothing_new() {
    let work = Workplace::new();
    work.succeed(&["run", "train.yaml"]);
    let again = work.succeed(&["run", "train.yaml", "--json"]).objects();
    let record = again.iter().find(|o| o["event"] == "record").unwrap();
    assert_eq!(record["record"]["train"]["already_registered"], Value::Bool(true));
    let models = work.succeed(&["models", "list", "--json"]).objects();
    assert_eq!(models[0]["latest"], 1, "{models:?}");
}

#[test]
fn models_are_promoted_with_a_history() {
    let work = Workplace::new();
    work.edit("train.yaml", "  promote: { alias: live }\n", "");
    work.succeed(&["run", "train.yaml"]);
    work.succeed(&["models", "promote", "small", "1", "--reason", "looks good"]);
    let shown = work.succeed(&["models", "show", "small@live"]).stdout;
    assert!(shown.contains("small version 1") && shown.contains("@live"), "{shown}");
    // The profile of the eight days that it was trained on.
    assert!(shown.contains("most frequent") && shown.contains("AA 2"), "{shown}");
    let features = work.succeed(&["models", "show", "small@live", "--features"]).stdout;
    assert!(
        features.contains("stage 4 (standard_scaler), level 2") && features.contains("  carrier=AA\n"),
        "{features}"
    );
    let history = work.succeed(&["models", "history", "small"]).stdout;
    assert!(history.contains("looks good"), "{history}");
}

#[test]
fn runs_are_listed_and_shown_failed_ones_too() {
    let work = Workplace::new();
    work.succeed(&["run", "train.yaml"]);
    work.write("features.sql", "select nothing from small");
    assert_eq!(work.tidemill(&["run", "train.yaml"]).code, Some(2));
    let runs = work.succeed(&["runs", "list", "--json"]).objects();
    let statuses: Vec<&str> = runs.iter().filter_map(|r| r["status"].as_str()).collect();
    assert_eq!(statuses, ["succeeded", "failed"]);
    let shown = work.succeed(&["runs", "show", runs[0]["run"].as_str().unwrap()]).stdout;
    assert!(shown.contains("train_small (train) succeeded"), "{shown}");
}

#[test]
fn events_are_json_lines() {
    let work = Workplace::new();
    let objects = work.succeed(&["run", "train.yaml", "--json"]).objects();
    let events: Vec<&str> = objects.iter().filter_map(|o| o["event"].as_str()).collect();
    assert_eq!(events.first(), Some(&"run_started"));
    assert!(events.contains(&"step_finished") && events.contains(&"run_finished"));
    assert_eq!(events.last(), Some(&"record"));
    let failed = work.tidemill(&["sql", "--json", "-c", "select * from absent"]);
    let error = failed.objects().pop().unwrap();
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &2.into()));
}

#[test]
fn quiet_says_nothing_of_success() {
    let work = Workplace::new();
    let ended = work.succeed(&["run", "train.yaml", "-q"]);
    assert!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn rows_come_as_table_csv_and_json() {
    let work = Workplace::new();
    let query = "select 1 as a, 'x,y' as b";
    let table = work.succeed(&["sql", "-c", query]).stdout;
    assert!(table.contains("| a | b   |"), "{table}");
    assert_eq!(work.succeed(&["sql", "-c", query, "--format", "csv"]).stdout, "a,b\n1,\"x,y\"\n");
    assert_eq!(work.succeed(&["sql", "-c", query, "--format", "json"]).stdout, "{\"a\":1,\"b\":\"x,y\"}\n");
    let empty = work.succeed(&["sql", "-c", "select 1 as a where false", "--format", "csv"]).stdout;
    assert_eq!(empty, "a\n");
}

#[test]
fn sql_comes_from_a_file_too_and_changes_tables() {
    let work = Workplace::new();
    work.write("make.sql", "create table t as select 1 as a; insert into t select 2;\nselect sum(a) as s from t;");
    let ended = work.succeed(&["sql", "make.sql", "--format", "csv"]);
    assert!(ended.stdout.ends_with("s\n3\n"), "{ended:?}");
    assert_eq!(work.rows("select count(*) as n from t")[0]["n"], 2);
}
