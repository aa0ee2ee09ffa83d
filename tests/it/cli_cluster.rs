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
