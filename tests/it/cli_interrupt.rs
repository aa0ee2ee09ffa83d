//! Ctrl-C in the middle of a run.

use std::time::Duration;

use serde_json::Value;

use crate::cluster::{LocalCluster, processor_ticks};
use crate::support::{Running, Workplace, until};

#[test]
fn an_interrupted_run_leaves_nothing_and_can_be_run_again() {
    let work = Workplace::new();
    // Enough work that the grid is under way when the signal comes.
    work.edit(
        "train.yaml",
        "reg_param: [0.01, 0.1]",
        "reg_param: [0.01, 0.1]\n    gradient_boosted_trees: { max_iter: [400, 500], max_depth: [8, 9] }",
    );
    let mut run = Running::start(&mut work.command(&["run", "train.yaml", "--json"]));
    run.wait_for(|event| event["event"] == "step_started" && event["step"] == "grid");
    run.signal("INT");
    assert_eq!(run.ended(), Some(130));
    assert!(work.files("models").is_empty() && work.files("tables").is_empty());
    let left: Vec<_> = work.files("runs").into_iter().filter(|f| !f.ends_with("run.json")).collect();
    assert!(left.is_empty(), "{left:?}");
    let runs = work.succeed(&["runs", "list", "--json"]).objects();
    assert_eq!(runs[0]["status"], "interrupted", "{runs:?}");

    work.edit("train.yaml", "\n    gradient_boosted_trees: { max_iter: [400, 500], max_depth: [8, 9] }", "");
    work.succeed(&["run", "train.yaml"]);
    work.succeed(&["models", "show", "small@live"]);
}

/// How long executors are watched, and how many ticks of 10 ms they may take meanwhile for talking to the scheduler.
const WATCHED: Duration = Duration::from_secs(1);
const IDLE_TICKS: u64 = 5;
/// The ticks after which a run is under way.
const BUSY_TICKS: u64 = 50;

#[test]
fn executors_stop_when_a_run_is_interrupted() {
    let cluster = LocalCluster::start_with(2, &["--vcores", "1"]);
    let executors = cluster.executors();
    let ticks_taken = || {
        let before = processor_ticks(&executors);
        std::thread::park_timeout(WATCHED);
        processor_ticks(&executors) - before
    };
    for parallel in ["", "  parallel: rows\n  rows_per_shard: 100\n"] {
        let work = Workplace::new();
        work.edit("train.yaml", "  seed: 1\n", &format!("  seed: 1\n{parallel}"));
        // Hours of work.
        let trees =
            "gradient_boosted_trees: { max_iter: 90000, max_depth: 9, min_instances_per_node: 1, step_size: 0.001 }";
        work.edit("train.yaml", "logistic_regression:\n      reg_param: [0.01, 0.1]", trees);
        let mut run =
            Running::start(&mut work.command(&["run", "train.yaml", "--json", "--cluster", &cluster.address]));
        run.wait_for(|event| event["event"] == "step_started" && event["step"] == "grid");
        let before = processor_ticks(&executors);
        until("executors are busy", || (processor_ticks(&executors) > before + BUSY_TICKS).then_some(()));
        run.signal("INT");
        assert_eq!(run.ended(), Some(130));
        until("executors are idle", || (ticks_taken() < IDLE_TICKS).then_some(()));
    }
}

/// What a training run found, by the record that it printed.
fn trained(work: &Workplace, warehouse: &str) -> Value {
    let objects = work.succeed(&["run", "train.yaml", "--json", "--warehouse", warehouse]).objects();
    objects.iter().find(|object| object["event"] == "record").unwrap()["record"]["train"].clone()
}

#[test]
fn a_killed_search_goes_on_where_it_was_and_finds_the_same() {
    let work = Workplace::new();
    // Groups that are done at once, and others that are not.
    work.edit(
        "train.yaml",
        "reg_param: [0.01, 0.1]",
        "reg_param: [0.01, 0.1]\n    gradient_boosted_trees: { max_iter: 500, max_depth: 9, step_size: [0.01, 0.02, 0.03, \
         0.04] }",
    );
    let mut run = Running::start(&mut work.command(&["run", "train.yaml", "--json"]));
    until("a group is done", || (!work.files("searches").is_empty()).then_some(()));
    run.signal("KILL");
    assert_eq!(run.ended(), None);
    assert!(work.files("models").is_empty(), "the run was over before it was killed");

    let resumed = trained(&work, "warehouse");
    let n_resumed = resumed["n_resumed"].as_u64().unwrap();
    assert!((2..12).contains(&n_resumed), "{n_resumed} of {} fits", resumed["n_fits"]);
    assert!(work.files("searches").is_empty(), "they are deleted once the run is recorded");
    let whole = trained(&work, "other");
    assert_eq!((&whole["n_resumed"], &whole["n_fits"]), (&0.into(), &12.into()));
    let found = |train: &Value| {
        let candidates = train["candidates"].as_array().unwrap();
        let folds: Vec<_> = candidates.iter().map(|c| (c["folds"].clone(), c["mean"].clone())).collect();
        (train["digest"].clone(), train["evaluation"].clone(), folds)
    };
    assert_eq!(found(&resumed), found(&whole));
}
