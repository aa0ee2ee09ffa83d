//! The flights job in process and on a cluster, on which an executor dies: the same model, the same rows.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cluster::LocalCluster;
use crate::support::{Running, Workplace, until};

/// A grid that trains in seconds, with a point of each estimator.
const GRID: &str = "\
grid:
  folds: { k: 2, by: ds }
  seed: 7
  estimators:
    logistic_regression: { reg_param: [0.001, 0.01], max_iter: 10 }
    gradient_boosted_trees: { max_depth: 4, max_iter: 5 }
    multilayer_perceptron: { layers: [[8]], max_iter: 1 }

";

/// A folder with the example's jobs, over the example's data, with a small grid.
fn flights() -> Workplace {
    let work = Workplace::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flights");
    let data = example.join("data");
    for name in ["train.yaml", "score.yaml", "features.sql", "late_quality.sql"] {
        let text = std::fs::read_to_string(example.join(name)).unwrap();
        work.write(name, text.replace(": data/", &format!(": {}/", data.display())));
    }
    std::fs::create_dir(work.path("views")).unwrap();
    for file in std::fs::read_dir(example.join("views")).unwrap() {
        let (name, path) = (file.as_ref().unwrap().file_name(), file.as_ref().unwrap().path());
        let text = std::fs::read_to_string(path).unwrap();
        let name = format!("views/{}", name.to_str().unwrap());
        work.write(&name, text.replace("../data/", &format!("{}/", data.display())));
    }
    let job = std::fs::read_to_string(work.path("train.yaml")).unwrap();
    let (before, after) = (job.find("grid:\n").unwrap(), job.find("register:\n").unwrap());
    work.write("train.yaml", format!("{}{GRID}{}", &job[..before], &job[after..]));
    work
}

fn train(work: &Workplace, warehouse: &str, mode: &[&str]) -> Value {
    let arguments = [&["run", "train.yaml", "--json", "--warehouse", warehouse], mode].concat();
    let events = work.succeed(&arguments).objects();
    events.iter().find(|e| e["event"] == "record").unwrap()["record"]["train"].clone()
}

const DAYS: [&str; 4] = ["--param", "ds=2013-11-01", "--param", "to=2013-11-14"];

/// The scored rows as text, bit for bit: floats are written so that they read back the same.
fn scored(work: &Workplace, warehouse: &str) -> Vec<String> {
    let sql = "select * exclude (run) from scored_flights order by time_hour, carrier, flight";
    let arguments = ["sql", "--format", "json", "-c", sql, "--warehouse", warehouse];
    work.succeed(&arguments).stdout.lines().map(str::to_owned).collect()
}

fn kill(process: u32) {
    assert!(Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap().success());
}

#[test]
fn one_model_and_one_table_in_both_modes_with_executors_dying() {
    let work = flights();
    let local = train(&work, "local", &[]);
    assert_eq!(local["n_unlabelled"], 9430);
    assert_eq!(train(&work, "local", &[])["digest"], local["digest"], "the same run twice");
    work.succeed(&[&["run", "score.yaml", "--warehouse", "local"], &DAYS[..]].concat());
    let expected = scored(&work, "local");
    assert!(expected.len() > 10_000, "{}", expected.len());

    let cluster = LocalCluster::start_with(3, &["--vcores", "1"]);
    let mode = ["--cluster", cluster.address.as_str()];
    let executors = cluster.executors();
    assert_eq!(executors.len(), 3);

    // The grid, with an executor that dies in it.
    let arguments = ["run", "train.yaml", "--json", "--warehouse", "remote"];
    let mut run = Running::start(&mut work.command(&[&arguments[..], &mode].concat()));
    run.wait_for(|e| e["event"] == "step_started" && e["step"] == "grid");
    kill(executors[0]);
    let record = run.wait_for(|e| e["event"] == "record");
    assert_eq!(run.ended(), Some(0));
    assert_eq!(record["record"]["train"]["digest"], local["digest"], "in process and on the cluster");

    // Scoring, the same.
    let arguments = [&["run", "score.yaml", "--json", "--warehouse", "remote"], &DAYS[..], &mode].concat();
    let mut run = Running::start(&mut work.command(&arguments));
    run.wait_for(|e| e["event"] == "step_started" && e["step"] == "score");
    kill(executors[1]);
    run.wait_for(|e| e["event"] == "record");
    assert_eq!(run.ended(), Some(0));
    assert_eq!(scored(&work, "remote"), expected);
    until("one executor is left", || (cluster.executors().len() == 1).then_some(()));
}

#[test]
fn the_search_is_explained_without_running_it() {
    let work = Workplace::new();
    let job = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flights/train.yaml");
    let explain = ["run", job.to_str().unwrap(), "--explain"];
    let text = work.succeed(&explain).stdout;
    for line in [
        "22 candidates, 66 fits; folds: 3 by the hash of ds",
        "└─ level 1: stage 1 (imputer), stage 2 (string_indexer); fitted by one query for 3 folds and the refit",
        "3 matrices, one for each fold",
        "logistic_regression: a group on each fold, whose 12 candidates share its matrix",
        "candidate 21: ",
        "1 matrix of all folds, for the refit",
        "4 transform runs and 2 passes over the rows instead of 69 and 207",
    ] {
        assert!(text.contains(line), "{line:?} is not in: {text}");
    }
    let plan = &work.succeed(&[&explain[..], &["--json"]].concat()).objects()[0]["search"];
    assert_eq!((&plan["n_transforms"], &plan["n_passes"]), (&4.into(), &2.into()));
    assert!(!work.path("warehouse").exists(), "nothing is declared, materialised or recorded");
    let score = job.with_file_name("score.yaml");
    work.tidemill(&["run", score.to_str().unwrap(), "--explain", "--param", "ds=2013-11-05"])
        .fails(2, &["scores rows", "a job that trains"]);
}
