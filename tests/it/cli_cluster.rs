//! A cluster of this machine by one command, and the same jobs there.

use std::net::TcpStream;

use serde_json::Value;

use crate::support::{Running, Workplace, until};

const TOKEN: &str = "correct-horse-battery-staple";

/// Starts a cluster in the folder; gives it and its address once it is ready.
pub(crate) fn cluster(work: &Workplace, more: &[&str]) -> (Running, String) {
    let arguments = [&["cluster", "--json", "--executors", "2", "--vcores", "2"], more].concat();
    let mut command = work.command(&arguments);
    let mut cluster = Running::start(&mut command);
    let ready = cluster.wait_for(|event| event["event"] == "ready");
    (cluster, ready["address"].as_str().unwrap().to_owned())
}

fn is_gone(address: &str) -> Option<()> {
    TcpStream::connect(address).is_err().then_some(())
}

/// The scored rows without what belongs to the run.
fn scored(work: &Workplace, warehouse: &str) -> Vec<Value> {
    let sql = "select id, ds, late, score, predicted, model_version from small_scored order by id";
    work.succeed(&["sql", "--warehouse", warehouse, "--format", "json", "-c", sql]).objects()
}

#[test]
fn the_same_jobs_give_the_same_rows() {
    let work = Workplace::new();
    let (_cluster, address) = cluster(&work, &[]);
    let score = ["run", "score.yaml", "--param", "ds=2024-01-09", "--param", "to=2024-01-11"];
    for (warehouse, mode) in [("local", vec![]), ("remote", vec!["--cluster", &address])] {
        let place = ["--warehouse", warehouse];
        work.succeed(&[&["run", "train.yaml"], &place[..], &mode].concat());
        work.succeed(&[&score[..], &place, &mode].concat());
    }
    let digest = |warehouse: &str| {
        work.succeed(&["models", "show", "small@live", "--json", "--warehouse", warehouse]).objects()[0]["digest"]
            .clone()
    };
    assert_eq!(digest("local"), digest("remote"));
    let rows = scored(&work, "local");
    assert_eq!(rows.len(), 180);
    assert_eq!(rows, scored(&work, "remote"));

    let jobs = work.succeed(&["jobs", "list", "--json", "--cluster", &address]).objects();
    assert!(!jobs.is_empty());
    let job = jobs[0]["job_id"].as_str().unwrap();
    work.succeed(&["jobs", "show", job, "--cluster", &address]);
    work.succeed(&["jobs", "logs", job, "--cluster", &address]);
    work.tidemill(&["jobs", "show", "absent", "--cluster", &address]).fails(2, &["absent", "tidemill jobs list"]);
}

#[test]
fn sql_changes_tables_there_too() {
    let work = Workplace::new();
    let (_cluster, address) = cluster(&work, &[]);
    let sql = "create table t as select 1 as a; insert into t select 2; select sum(a) as s from t";
    let ended = work.succeed(&["sql", "--format", "csv", "-c", sql, "--cluster", &address]);
    assert!(ended.stdout.ends_with("s\n3\n"), "{ended:?}");
}

#[test]
fn a_wrong_token_is_refused_and_the_right_one_is_not() {
    let work = Workplace::new();
    work.write("token", TOKEN);
    work.write("wrong", "another-token-of-length");
    let (_cluster, address) = cluster(&work, &["--token-file", "token"]);
    let sql = ["sql", "-c", "select 1 as a", "--format", "csv", "--cluster", &address];
    work.tidemill(&sql).fails(3, &["refuses the token", "--token-file"]);
    work.tidemill(&[&sql[..], &["--token-file", "wrong"]].concat()).fails(3, &["refuses the token"]);
    let ended = work.succeed(&[&sql[..], &["--token-file", "token"]].concat());
    assert_eq!(ended.stdout, "a\n1\n");
    let jobs = work.tidemill(&["jobs", "list", "--cluster", &address, "--token-file", "wrong"]);
    jobs.fails(3, &["refuses the token"]);
}

#[test]
fn children_end_with_their_parent() {
    let work = Workplace::new();
    for (signal, code) in [("TERM", Some(0)), ("KILL", None)] {
        let (mut cluster, address) = cluster(&work, &[]);
        cluster.signal(signal);
        assert_eq!(cluster.ended(), code);
        until("the scheduler is gone", || is_gone(&address));
    }
}

#[test]
fn folds_of_every_kind_are_the_same_there() {
    let work = Workplace::new();
    let (_cluster, address) = cluster(&work, &[]);
    let mut before = "folds: { k: 2, by: ds }".to_owned();
    for (kind, says) in [
        ("kind: stratified, k: 3, by: id", "3 stratified, by the hash of id"),
        ("kind: time, k: 3, by: ds, gap: 1 day", "3 in the order of ds, 1 day left out before each"),
        ("kind: split, by: id", "one split, 25 % by the hash of id"),
    ] {
        let folds = format!("folds: {{ {kind} }}");
        work.edit("train.yaml", &before, &folds);
        before = folds;
        let found = [("local", vec![]), ("remote", vec!["--cluster", &address])].map(|(warehouse, mode)| {
            let command = [&["run", "train.yaml", "--json", "--warehouse", warehouse], &mode[..]].concat();
            let objects = work.succeed(&command).objects();
            let record = objects.iter().find(|object| object["event"] == "record").unwrap();
            let train = &record["record"]["train"];
            assert_eq!(train["folds"], says);
            let candidates = train["candidates"].as_array().unwrap();
            let folds: Vec<Value> = candidates.iter().map(|c| c["folds"].clone()).collect();
            assert!(folds.iter().flat_map(|f| f.as_array().unwrap()).all(Value::is_f64), "{kind}: {folds:?}");
            (train["digest"].clone(), folds)
        });
        assert_eq!(found[0], found[1], "{kind}");
    }
    work.edit("train.yaml", "kind: split", "kind: spilt");
    work.tidemill(&["run", "train.yaml"]).fails(2, &["spilt", "did you mean `split`?"]);
    work.edit("train.yaml", "kind: spilt", "gap: 7 days, k: 2");
    work.tidemill(&["run", "train.yaml"]).fails(2, &["grid.folds.gap is for kind: time"]);
}
