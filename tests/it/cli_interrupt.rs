//! Ctrl-C in the middle of a run.

use crate::support::{Running, Workplace};

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
