//! Runs side by side.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_engine::jobs::{RunRecord, TrainRecord};

use super::format::{metric, metric_name, params_text, plain, short_id, thousands};
use super::table::{Align, Table};
use super::text::{folds, input_text, total_seconds};

/// What stands before a line whose runs differ.
const DIFFERS: &str = "*";

/// A column for each run and a line for each fact: code, data, features, parameters, what was trained and how good it is.
/// Lines in which the runs differ begin with a star.
pub fn comparison_table(records: &[RunRecord]) -> Table {
    let columns = records.iter().map(|record| (short_id(&record.run), Align::Left));
    let mut table = Table::new([("", Align::Left), ("fact", Align::Left)].into_iter().chain(columns));
    let facts: Vec<Vec<(String, String)>> = records.iter().map(facts).collect();
    for name in in_order(&facts) {
        let value = |facts: &Vec<(String, String)>| {
            facts.iter().find(|fact| fact.0 == name).map_or("-".to_owned(), |fact| fact.1.clone())
        };
        let values: Vec<String> = facts.iter().map(value).collect();
        let mark = if values.windows(2).all(|pair| pair[0] == pair[1]) { "" } else { DIFFERS };
        table.row([mark.to_owned(), name].into_iter().chain(values));
    }
    table
}

/// The names of all facts, in the order of the first run that has them.
fn in_order(facts: &[Vec<(String, String)>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for of_run in facts {
        let mut after = 0;
        for (name, _) in of_run {
            match names.iter().position(|known| known == name) {
                Some(at) => after = at + 1,
                None => {
                    names.insert(after, name.clone());
                    after += 1;
                }
            }
        }
    }
    names
}

fn facts(record: &RunRecord) -> Vec<(String, String)> {
    let mut facts = vec![
        fact("job", &record.job),
        fact("status", &record.status),
        fact("started", record.started_at.get(..19).unwrap_or(&record.started_at)),
        fact("seconds", format!("{:.1}", total_seconds(record))),
        fact("mode", &record.mode),
        fact("code version", &record.code_version),
        fact("features (plan)", short_id(&record.plan_hash)),
    ];
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    facts.extend(
        entries(&record.inputs).iter().map(|(name, version)| fact(format!("input {name}"), data_text(version))),
    );
    facts.extend(
        record.feature_views.iter().map(|v| fact(format!("view {}", v.name), format!("version {}", v.version))),
    );
    facts.extend(entries(&record.params).iter().map(|(name, value)| fact(format!("parameter {name}"), plain(value))));
    facts.extend(record.train.iter().flat_map(training_facts));
    if let Some(score) = &record.score {
        facts.push(fact("model", format!("{} version {}", score.model, score.version)));
        facts.push(fact("rows written", thousands(score.n_rows)));
    }
    facts.extend(record.error.as_ref().map(|error| fact("error", error.lines().next().unwrap_or_default())));
    facts
}

fn training_facts(train: &TrainRecord) -> Vec<(String, String)> {
    let mut facts = vec![
        fact("rows trained on", thousands(train.n_train)),
        fact("rows held out", thousands(train.n_holdout)),
        fact("folds", folds(train)),
        fact("candidates", train.n_candidates.to_string()),
    ];
    if let Some(best) = train.candidates.iter().find(|c| c.id == train.best) {
        facts.push(fact("best estimator", &best.estimator));
        facts.push(fact("best parameters", params_text(&best.params)));
        facts.push(fact(format!("{} over the folds", metric_name(&train.metric)), metric(best.mean)));
    }
    let held_out: &BTreeMap<String, f64> = &train.evaluation.metrics;
    facts.extend(
        held_out.iter().map(|(name, value)| fact(format!("{} held out", metric_name(name)), metric(Some(*value)))),
    );
    facts.push(fact("model", format!("{} version {}", train.model, train.version)));
    facts.push(fact("model digest", short_id(&train.digest)));
    facts
}

/// An input by what says whether it is the same: its digest or version, else all that is known.
fn data_text(version: &Value) -> String {
    let rows = version.get("num_rows").and_then(Value::as_u64).map(|n| format!("{} rows", thousands(n)));
    match (rows, version.get("digest")) {
        (Some(rows), Some(digest)) => format!("{rows}, {}", short_id(&plain(digest))),
        _ => input_text(version),
    }
}

fn fact(name: impl Into<String>, value: impl Into<String>) -> (String, String) {
    (name.into(), value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_marked_and_absent_facts_are_dashes() {
        let run = |id: &str, params: Value, seed: u64| RunRecord {
            run: id.into(),
            job: "train".into(),
            params,
            train: (seed > 0).then(|| TrainRecord { n_train: seed, ..TrainRecord::default() }),
            ..RunRecord::default()
        };
        let runs = [run("a", serde_json::json!({"ds": 1}), 0), run("b", serde_json::json!({"ds": 2}), 9)];
        let text = comparison_table(&runs).to_string();
        let line = |name: &str| {
            let found = text.lines().find(|line| line.contains(name));
            found.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("job"), ["job", "train", "train"]);
        assert_eq!(line("parameter ds"), ["*", "parameter", "ds", "1", "2"]);
        assert_eq!(line("rows trained on"), ["*", "rows", "trained", "on", "-", "9"]);
    }
}
