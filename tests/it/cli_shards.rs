//! Training over shards: all executors train each candidate together, to the same model as one process.

use std::process::Command;

use serde_json::Value;

use crate::cli_problems;
use crate::cluster::LocalCluster;
use crate::support::{Running, Workplace};

/// Bad usage or input.
const USAGE: i32 = 2;

/// A binary problem with several estimators.
fn binary() -> Workplace {
    let work = Workplace::new();
    let grid = "logistic_regression:\n      reg_param: [0.01, 0.1]";
    let estimators = format!(
        "{grid}\n    generalized_linear_regression:\n      link: probit\n    gradient_boosted_trees:\n      max_iter: 4"
    );
    work.edit("train.yaml", grid, &estimators);
    over_shards(&work);
    work
}

/// Weighted numbers and classes, with the estimators that other problems do not have.
fn other_problems() -> [Workplace; 2] {
    let (numbers, classes) = (cli_problems::regression(), cli_problems::multiclass());
    let grid = "max_iter: [10, 20]";
    numbers.edit(
        "train.yaml",
        grid,
        "max_iter: 3\n      loss_type: huber\n    decision_tree: {}\n    linear_regression: {}",
    );
    classes.edit("train.yaml", grid, "max_iter: 3\n    random_forest: { num_trees: 2 }\n    logistic_regression: {}");
    over_shards(&numbers);
    over_shards(&classes);
    [numbers, classes]
}

/// Clusters of the same rows.
fn clusters() -> Workplace {
    let work = Workplace::new();
    work.edit("train.yaml", "label: late\nnull_labels: leave_out", "problem_type: clustering");
    work.edit("train.yaml", "logistic_regression:\n      reg_param: [0.01, 0.1]", "k_means:\n      k: [2, 3]");
    work.edit("train.yaml", "  promote: { alias: live }\n", "");
    over_shards(&work);
    work
}

fn over_shards(work: &Workplace) {
    work.edit("train.yaml", "  seed: 1\n", "  seed: 1\n  parallel: rows\n  rows_per_shard: 100\n");
}

/// Runs the training job and gives its record.
fn train(work: &Workplace, warehouse: &str, mode: &[&str]) -> Value {
    let ended = work.succeed(&[&["run", "train.yaml", "--json", "--warehouse", warehouse], mode].concat());
    let record = ended.objects().into_iter().find(|event| event["event"] == "record").unwrap();
    record["record"].clone()
}

fn metrics(record: &Value) -> Vec<f64> {
    let candidates = record["train"]["candidates"].as_array().unwrap();
    candidates.iter().map(|c| c["mean"].as_f64().unwrap()).collect()
}

#[test]
fn one_model_whatever_the_number_of_executors() {
    let [numbers, classes] = other_problems();
    let some = [2].as_slice();
    for (work, clusters) in
        [(binary(), [1, 2, 5].as_slice()), (clusters(), &[1, 2, 5]), (numbers, some), (classes, some)]
    {
        let local = train(&work, "local", &[]);
        assert_eq!(train(&work, "local", &[])["train"]["digest"], local["train"]["digest"], "the same run twice");
        for executors in clusters.iter().copied() {
            let cluster = LocalCluster::start_with(executors, &["--vcores", "1"]);
            let remote = train(&work, &format!("remote-{executors}"), &["--cluster", &cluster.address]);
            assert_eq!(remote["train"]["digest"], local["train"]["digest"], "{executors} executors");
            assert_eq!(remote["train"]["best"], local["train"]["best"]);
            assert_eq!(metrics(&remote), metrics(&local));
        }
        let steps = local["steps"].as_array().unwrap();
        let passes = steps.iter().find(|step| step["step"] == "passes").unwrap()["summary"].as_str().unwrap();
        assert!(passes.contains("shards"), "{passes}");
    }
}

#[test]
fn shards_find_what_rows_in_memory_do() {
    for work in [binary(), clusters()] {
        let sharded = train(&work, "sharded", &[]);
        work.edit("train.yaml", "  parallel: rows\n", "");
        let in_memory = train(&work, "in-memory", &[]);
        for (ours, theirs) in metrics(&sharded).iter().zip(metrics(&in_memory)) {
            assert!((ours - theirs).abs() < 0.02, "{ours} and {theirs}");
        }
        assert_eq!(sharded["train"]["best"], in_memory["train"]["best"]);
    }
}

#[test]
fn an_executor_that_dies_changes_nothing() {
    let work = Workplace::new();
    work.write(
        "features.sql",
        "select a.id * 1000 + b.id as id, a.ds, a.carrier, a.x + b.id % 7 as x, a.late
                                from small a join small b on b.id < 200",
    );
    over_shards(&work);
    work.edit("train.yaml", "rows_per_shard: 100", "rows_per_shard: 10000");
    let local = train(&work, "local", &[]);
    let cluster = LocalCluster::start_with(3, &["--vcores", "1"]);
    let arguments = ["run", "train.yaml", "--json", "--warehouse", "remote", "--cluster", &cluster.address];
    let mut run = Running::start(&mut work.command(&arguments));
    run.wait_for(|e| e["event"] == "step_started" && e["step"] == "grid");
    let killed = cluster.executors()[0].to_string();
    assert!(Command::new("kill").args(["-KILL", &killed]).status().unwrap().success());
    let record = run.wait_for(|e| e["event"] == "record");
    assert_eq!(run.ended(), Some(0));
    assert_eq!(record["record"]["train"]["digest"], local["train"]["digest"]);
}

#[test]
fn a_loss_that_needs_all_rows_is_refused_before_anything_runs() {
    let [numbers, _] = other_problems();
    numbers.edit("train.yaml", "loss_type: huber", "loss_type: absolute");
    let says = ["(gradient_boosted_trees)", "no absolute and no quantile loss", "leave out parallel: rows"];
    numbers.tidemill(&["run", "train.yaml"]).fails(USAGE, &says);
}

#[test]
fn what_cannot_train_over_shards_is_told_before_anything_runs() {
    let work = binary();
    work.edit("train.yaml", "generalized_linear_regression:\n      link: probit", "multilayer_perceptron: {}");
    let says = ["candidate 3 (multilayer_perceptron)", "not over shards", "leave out parallel: rows"];
    work.tidemill(&["run", "train.yaml"]).fails(USAGE, &says);
}
