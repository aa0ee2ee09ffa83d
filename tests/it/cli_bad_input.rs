//! What the command says, and with which code it ends, when its input is wrong; and that it leaves nothing behind.

use crate::support::{Workplace, late, write_table};

/// The exit code for work that failed.
const FAILED: i32 = 1;
/// The exit code for wrong input.
const USAGE: i32 = 2;
/// The exit code for the environment.
const ENVIRONMENT: i32 = 3;

fn nothing_was_written(work: &Workplace) {
    assert!(work.files("tables").is_empty(), "{:?}", work.files("tables"));
    assert!(work.files("models").is_empty(), "{:?}", work.files("models"));
    let scratch: Vec<_> = work.files("runs").into_iter().filter(|f| !f.ends_with("run.json")).collect();
    assert!(scratch.is_empty(), "{scratch:?}");
}

#[test]
fn missing_job_file() {
    let work = Workplace::new();
    work.tidemill(&["run", "absent.yaml"]).fails(USAGE, &["absent.yaml", "No such file"]);
    nothing_was_written(&work);
}

#[test]
fn misspelt_key_suggests_the_right_one() {
    let work = Workplace::new();
    work.edit("train.yaml", "pipeline:", "pipelin:");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["train.yaml", "pipelin", "did you mean `pipeline`?"]);
    nothing_was_written(&work);
}

#[test]
fn misspelt_stage_suggests_the_right_one() {
    let work = Workplace::new();
    work.edit("train.yaml", "standard_scaler", "standard_scalar");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["standard_scalar", "did you mean", "standard_scaler"]);
    nothing_was_written(&work);
}

#[test]
fn missing_parameter() {
    let work = Workplace::new();
    work.tidemill(&["run", "score.yaml"]).fails(USAGE, &["ds"]);
    nothing_was_written(&work);
}

#[test]
fn unknown_parameter() {
    let work = Workplace::new();
    work.tidemill(&["run", "score.yaml", "--param", "dss=2024-01-09"]).fails(USAGE, &["dss", "ds"]);
}

#[test]
fn parameter_that_is_not_a_date() {
    let work = Workplace::new();
    work.tidemill(&["run", "score.yaml", "--param", "ds=tomorrow"]).fails(USAGE, &["tomorrow", "date"]);
    nothing_was_written(&work);
}

#[test]
fn parameter_without_a_value() {
    let work = Workplace::new();
    let ended = work.tidemill(&["run", "score.yaml", "--param", "ds"]);
    assert_eq!(ended.code, Some(USAGE));
    assert!(ended.stderr.contains("expected NAME=VALUE"), "{ended:?}");
}

#[test]
fn missing_data_file() {
    let work = Workplace::new();
    std::fs::remove_file(work.path("small.parquet")).unwrap();
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["small.parquet", "no such Parquet file"]);
    nothing_was_written(&work);
}

#[test]
fn data_that_is_not_parquet() {
    let work = Workplace::new();
    work.write("small.parquet", "id,ds\n1,2024-01-01\n");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["small.parquet"]);
    nothing_was_written(&work);
}

#[test]
fn truncated_parquet() {
    let work = Workplace::new();
    let bytes = std::fs::read(work.path("small.parquet")).unwrap();
    work.write("small.parquet", &bytes[..bytes.len() / 2]);
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["small.parquet"]);
    nothing_was_written(&work);
}

#[test]
fn unknown_column() {
    let work = Workplace::new();
    work.write("features.sql", "select id, ds, carrier, xx, late from small");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["xx"]);
    nothing_was_written(&work);
}

#[test]
fn sql_syntax_error_has_its_position() {
    let work = Workplace::new();
    work.tidemill(&["sql", "-c", "select 1;\nselect 2 +* 3"]).fails(USAGE, &["Line: 2", "Column: 11"]);
    work.write("features.sql", "select id,\n ds,, x from small");
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &["Line: 2"]);
    nothing_was_written(&work);
}

#[test]
fn unknown_table() {
    let work = Workplace::new();
    work.succeed(&["sql", "-c", "create table small_scored as select 1 as a"]);
    let ended = work.tidemill(&["sql", "-c", "select * from smal_scored"]);
    ended.fails(USAGE, &["smal_scored", "did you mean", "\"small_scored\"", "show tables"]);
    let tables = work.succeed(&["sql", "--format", "json", "-c", "show tables"]).objects();
    assert!(tables.iter().any(|t| t["table_name"] == "small_scored"), "{tables:?}");
}

#[test]
fn label_with_one_class_only() {
    let work = Workplace::new();
    write_table(&work.path("small.parquet"), |_| "AA", |_, _| Some(0));
    let ended = work.tidemill(&["run", "train.yaml"]);
    ended.fails(USAGE, &["late", "class"]);
    nothing_was_written(&work);
}

#[test]
fn unseen_category_where_it_is_an_error() {
    let work = Workplace::new();
    write_table(&work.path("small.parquet"), |day| if day > 8 { "ZZ" } else { "AA" }, late);
    work.edit("train.yaml", "carrier], handle_invalid: keep", "carrier], handle_invalid: error");
    let ended = work.tidemill(&["run", "train.yaml"]);
    ended.fails(FAILED, &["ZZ", "carrier"]);
    nothing_was_written(&work);
}

#[test]
fn unknown_model_and_alias() {
    let work = Workplace::new();
    work.tidemill(&["models", "show", "absent"]).fails(USAGE, &["absent"]);
    work.tidemill(&["models", "history", "absent"]).fails(USAGE, &["absent"]);
    work.tidemill(&["sql", "-c", "select predict('absent@live', 1.0)"]).fails(USAGE, &["absent"]);
    work.succeed(&["run", "train.yaml"]);
    work.tidemill(&["models", "show", "small@other"]).fails(USAGE, &["@other"]);
    work.tidemill(&["models", "promote", "small", "9"]).fails(USAGE, &["9"]);
}

#[test]
fn score_before_any_alias() {
    let work = Workplace::new();
    work.tidemill(&["run", "score.yaml", "--param", "ds=2024-01-09"]).fails(USAGE, &["small"]);
    nothing_was_written(&work);
    work.edit("train.yaml", "  promote: { alias: live }\n", "");
    work.succeed(&["run", "train.yaml"]);
    let ended = work.tidemill(&["run", "score.yaml", "--param", "ds=2024-01-09"]);
    ended.fails(USAGE, &["@live", "tidemill models promote small"]);
    assert!(work.files("tables").is_empty());
}

#[test]
fn scheduler_that_is_not_there() {
    let work = Workplace::new();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let says = ["no scheduler answers", &address, "tidemill"];
    work.tidemill(&["sql", "-c", "select 1", "--cluster", &address]).fails(ENVIRONMENT, &says);
    work.tidemill(&["run", "train.yaml", "--cluster", &address]).fails(ENVIRONMENT, &says);
    work.tidemill(&["jobs", "list", "--cluster", &address]).fails(ENVIRONMENT, &says);
    nothing_was_written(&work);
}

#[test]
fn listening_beyond_loopback_needs_a_token() {
    let work = Workplace::new();
    work.tidemill(&["scheduler", "--bind", "0.0.0.0:0"]).fails(USAGE, &["--token-file"]);
    work.tidemill(&["executor", "--scheduler", "127.0.0.1:1", "--bind", "0.0.0.0"]).fails(USAGE, &["--token-file"]);
}

#[test]
fn token_file_that_is_missing_or_too_short() {
    let work = Workplace::new();
    work.tidemill(&["scheduler", "--token-file", "absent"]).fails(USAGE, &["absent", "head -c"]);
    work.write("token", "short");
    work.tidemill(&["scheduler", "--token-file", "token"]).fails(USAGE, &["token", "characters"]);
}

#[test]
fn warehouse_that_cannot_be_written() {
    let work = Workplace::new();
    work.write("file", "");
    work.tidemill(&["run", "train.yaml", "--warehouse", "file/warehouse"]).fails(ENVIRONMENT, &["file/warehouse"]);
    // A folder that no user may write to, root included.
    if cfg!(target_os = "linux") {
        let ended = work.tidemill(&["sql", "-c", "create table t as select 1 as a", "--warehouse", "/sys/warehouse"]);
        ended.fails(ENVIRONMENT, &["/sys/warehouse"]);
        let ended = work.tidemill(&["run", "train.yaml", "--warehouse", "/proc/warehouse"]);
        ended.fails(ENVIRONMENT, &["/proc/warehouse", "may not be written"]);
    }
}

#[test]
fn jobs_without_a_cluster() {
    Workplace::new().tidemill(&["jobs", "list"]).fails(USAGE, &["--cluster"]);
}
