//! Reports of runs as text for a terminal.

use std::fmt::{self, Write};

use serde_json::Value;
use tidemill_engine::checks::Outcome;
use tidemill_engine::jobs::{CandidateRecord, RunRecord, ScoreRecord, TrainRecord};
use tidemill_ml::estimator::ProblemType;
use tidemill_ml::eval::{CalibrationBin, Evaluation, Metric};

use super::format::{count, megabytes, metric, metric_name, params_text, percent, plain, seconds, short_id, thousands};
use super::table::{Align, Table};

/// The most partitions that are named one by one; more are given as the first and the last.
const MAX_PARTITIONS_NAMED: usize = 6;
/// The most importances that are shown.
const MAX_IMPORTANCES: usize = 12;
/// The most classes whose confusion is shown.
const MAX_CONFUSED: usize = 24;

/// What a run read, found, decided and wrote, and how long each step took.
pub fn run_text(record: &RunRecord) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_run(&mut out, record);
    out
}

/// One line per run, newest last.
pub fn runs_table(runs: &[RunRecord]) -> Table {
    let mut table = Table::new([
        ("run", Align::Left),
        ("job", Align::Left),
        ("kind", Align::Left),
        ("status", Align::Left),
        ("started", Align::Left),
        ("took", Align::Right),
        ("result", Align::Left),
    ]);
    for run in runs {
        let took = seconds(total_seconds(run));
        let started = run.started_at.get(..19).unwrap_or(&run.started_at).to_owned();
        table.row([&run.run, &run.job, &run.kind, &run.status, &started, &took, &outcome(run)]);
    }
    table
}

fn outcome(run: &RunRecord) -> String {
    match (&run.train, &run.score, &run.error) {
        (_, _, Some(error)) => error.lines().next().unwrap_or_default().to_owned(),
        (Some(t), _, _) => {
            let value = metric(t.evaluation.metrics.get(&t.metric).copied());
            format!("{} version {}, {} {value}", t.model, t.version, metric_name(&t.metric))
        }
        (_, Some(s), _) => format!("{} rows into {}", thousands(s.n_rows), s.table),
        _ => String::new(),
    }
}

fn write_run(out: &mut String, record: &RunRecord) -> fmt::Result {
    let took = seconds(total_seconds(record));
    writeln!(out, "{} ({}) {} in {took}, {}", record.job, record.kind, record.status, record.mode)?;
    line(out, "run", &record.run)?;
    if let Some(error) = &record.error {
        line(out, "error", error)?;
    }
    write_inputs(out, &record.inputs)?;
    write_checks(out, record)?;
    if let Some(train) = &record.train {
        write_train(out, train)?;
    }
    if let Some(score) = &record.score {
        write_score(out, score)?;
    }
    write_steps(out, record)
}

pub(super) fn total_seconds(record: &RunRecord) -> f64 {
    let parse = |t: &str| chrono::DateTime::parse_from_rfc3339(t).ok();
    let ended = record.finished_at.as_deref().and_then(parse);
    match (parse(&record.started_at), ended) {
        (Some(started), Some(ended)) => (ended - started).as_seconds_f64(),
        _ => record.steps.iter().map(|s| s.seconds).sum(),
    }
}

fn heading(out: &mut String, text: &str) -> fmt::Result {
    writeln!(out, "\n{text}")
}

fn line(out: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "  {name:<28}{value}")
}

fn write_inputs(out: &mut String, inputs: &Value) -> fmt::Result {
    let Some(map) = inputs.as_object().filter(|m| !m.is_empty()) else { return Ok(()) };
    heading(out, "Read")?;
    map.iter().try_for_each(|(table, version)| line(out, table, &input_text(version)))
}

/// The version of an input on one line: rows, place, digest, and whatever else is known of it.
pub fn input_text(version: &Value) -> String {
    let Value::Object(map) = version else { return plain(version) };
    let rows = map.get("num_rows").and_then(Value::as_u64).map(|n| format!("{} rows", thousands(n)));
    let url = map.get("url").map(plain);
    let digest = map.get("digest").map(|d| format!("digest {}", short_id(&plain(d))));
    let told = ["num_rows", "url", "digest", "num_files", "size_bytes"];
    let rest = map.iter().filter(|(name, value)| !told.contains(&name.as_str()) && !value.is_null());
    let rest = rest.map(|(name, value)| match value {
        Value::Object(_) => format!("{name} {}", input_text(value)),
        value => format!("{name} {}", plain(value)),
    });
    rows.into_iter().chain(url).chain(digest).chain(rest).collect::<Vec<_>>().join(", ")
}

fn write_checks(out: &mut String, record: &RunRecord) -> fmt::Result {
    if record.checks.is_empty() {
        return Ok(());
    }
    heading(out, "Checks")?;
    write!(out, "{}", checks_table(record))
}

/// The table of checks: what was found and what was done.
pub(super) fn checks_table(record: &RunRecord) -> Table {
    let mut table = Table::new([
        ("table", Align::Left),
        ("check", Align::Left),
        ("rows", Align::Right),
        ("failed", Align::Right),
        ("result", Align::Left),
    ]);
    for (name, results) in &record.checks {
        for r in results {
            let done = match r.outcome {
                Outcome::Passed => "passed",
                Outcome::Warn => "warned",
                Outcome::Quarantine => "to quarantine",
                Outcome::Fail => "failed",
            };
            let result = [Some(done), r.detail.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ");
            table.row([name.clone(), r.check.clone(), thousands(r.n_rows), thousands(r.n_failed), result]);
        }
    }
    table
}

fn write_train(out: &mut String, train: &TrainRecord) -> fmt::Result {
    write_rows(out, train)?;
    write_candidates(out, train)?;
    write_fits(out, train)?;
    write_holdout(out, train)?;
    write_importances(out, train)?;
    write_permutation(out, train)?;
    write_decision(out, train)
}

fn write_rows(out: &mut String, train: &TrainRecord) -> fmt::Result {
    heading(out, "Rows")?;
    line(out, "features", &thousands(train.n_rows))?;
    line(out, "left out", &left_out(train))?;
    line(out, "trained on", &thousands(train.n_train))?;
    line(out, "held out", &thousands(train.n_holdout))
}

/// How many rows have no label and what became of them.
pub(super) fn left_out(train: &TrainRecord) -> String {
    format!(
        "{} without a label ({} of them in the hold-out): neither trained on nor evaluated",
        thousands(train.n_unlabelled),
        thousands(train.n_unlabelled_holdout)
    )
}

/// All candidates, the best first, those that were given up early behind the others, those that failed last.
pub(super) fn ranked(train: &TrainRecord) -> Vec<&CandidateRecord> {
    let mut candidates: Vec<&CandidateRecord> = train.candidates.iter().collect();
    let lower_is_better = train.metric.parse::<Metric>().is_ok_and(|metric| !metric.larger_is_better());
    candidates.sort_by(|a, b| {
        let order = match (a.mean, b.mean) {
            (Some(a), Some(b)) if lower_is_better => a.total_cmp(&b),
            (Some(a), Some(b)) => b.total_cmp(&a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let share = |c: &CandidateRecord| c.given_up_at.unwrap_or(1.0);
        let trained_longer = share(b).total_cmp(&share(a));
        (b.id == train.best).cmp(&(a.id == train.best)).then(trained_longer).then(order).then(a.id.cmp(&b.id))
    });
    candidates
}

/// The table of candidates, the best first.
pub(super) fn candidates_table(train: &TrainRecord) -> Table {
    let mut table = Table::new([
        ("#", Align::Right),
        ("estimator", Align::Left),
        ("parameters", Align::Left),
        ("mean", Align::Right),
        ("folds", Align::Left),
        ("time", Align::Right),
        ("memory", Align::Right),
    ]);
    for c in ranked(train) {
        let folds = match &c.error {
            Some(error) => format!("failed: {error}"),
            None => {
                let folds = c.folds.iter().map(|f| metric(*f)).collect::<Vec<_>>().join(" ");
                c.given_up_at.map_or(folds.clone(), |share| format!("{folds}, given up at {}", percent(share)))
            }
        };
        let cells = [c.id.to_string(), c.estimator.clone(), params_text(&c.params), metric(c.mean), folds];
        table.row(cells.into_iter().chain([seconds(c.seconds), megabytes(c.memory_bytes)]));
    }
    table
}

/// `22 candidates × 3 folds = 66 fits in 9 groups, ranked by the mean area under ROC`.
pub(super) fn grid_sentence(train: &TrainRecord) -> String {
    format!(
        "{} candidates × {} folds = {} fits in {} groups, ranked by their mean {}",
        count(train.n_candidates),
        train.n_folds,
        count(train.n_fits),
        count(train.n_groups),
        metric_name(&train.metric)
    )
}

/// How rows were dealt to folds: `3 by the hash of ds`; of older records their number alone.
pub(super) fn folds(train: &TrainRecord) -> String {
    if train.folds.is_empty() { train.n_folds.to_string() } else { train.folds.clone() }
}

fn write_candidates(out: &mut String, train: &TrainRecord) -> fmt::Result {
    heading(out, &format!("Grid: {}", grid_sentence(train)))?;
    line(out, "folds", &folds(train))?;
    if train.n_resumed > 0 {
        line(out, "resumed", &format!("{} of {} fits were done before", count(train.n_resumed), count(train.n_fits)))?;
    }
    write!(out, "{}", candidates_table(train))
}

fn write_fits(out: &mut String, train: &TrainRecord) -> fmt::Result {
    heading(out, "Feature stages")?;
    line(out, "queries", &fit_passes(train))?;
    train.stage_fits.iter().try_for_each(|(stage, n)| line(out, stage, &format!("fitted {n} times")))
}

/// How many queries over the data fitted the stages.
pub(super) fn fit_passes(train: &TrainRecord) -> String {
    format!("{} over the data for {} folds and the refit together", train.fit_passes, train.n_folds)
}

fn write_holdout(out: &mut String, train: &TrainRecord) -> fmt::Result {
    heading(out, &format!("Hold-out, {} rows", thousands(train.evaluation.n_rows)))?;
    evaluation_lines(&train.evaluation).iter().try_for_each(|(name, value)| line(out, name, value))?;
    if !train.holdout_by_estimator.is_empty() {
        heading(out, &format!("The best of each estimator on the hold-out, {}", metric_name(&train.metric)))?;
        for (estimator, value) in &train.holdout_by_estimator {
            writeln!(out, "  {estimator:<28}{}", metric(Some(*value)))?;
        }
    }
    if !train.evaluation.calibration.is_empty() {
        heading(out, "Calibration by decile of the prediction")?;
        write!(out, "{}", calibration_table(&train.evaluation))?;
    }
    if !train.evaluation.confusion.is_empty() {
        heading(out, "Rows by class and by the class that was predicted")?;
        write!(out, "{}", confusion_table(train))?;
    }
    Ok(())
}

/// The evaluation's figures by name.
pub(super) fn evaluation_lines(evaluation: &Evaluation) -> Vec<(String, String)> {
    let figures = Metric::of(evaluation.problem_type)
        .filter_map(|m| Some((metric_name(m.name()), metric(Some(*evaluation.metrics.get(m.name())?)))));
    let is_binary = evaluation.problem_type == ProblemType::Binary;
    let mean = evaluation.mean_label.map(|mean| {
        if is_binary { ("positive".to_owned(), percent(mean)) } else { ("mean label".to_owned(), metric(Some(mean))) }
    });
    figures.chain(mean).collect()
}

/// The deciles: rows, mean prediction, mean label; of binary problems also the lift, the decile's rate over that of all
/// rows, and the lift of all rows from the decile up.
pub(super) fn calibration_table(evaluation: &Evaluation) -> Table {
    let right = Align::Right;
    let columns = match evaluation.problem_type {
        ProblemType::Binary => ["mean score", "actual rate"],
        _ => ["mean prediction", "mean label"],
    };
    let is_binary = evaluation.problem_type == ProblemType::Binary;
    let lifts = [("lift", right), ("from here up", right)].into_iter().filter(|_| is_binary);
    let columns = [("decile", right), ("rows", right), (columns[0], right), (columns[1], right)];
    let mut table = Table::new(columns.into_iter().chain(lifts));
    for (i, bin) in evaluation.calibration.iter().enumerate() {
        let figures = [bin.mean_prediction, bin.mean_label].map(|v| metric(Some(v)));
        let lifts = [&evaluation.calibration[i..=i], &evaluation.calibration[i..]];
        let lifts = lifts.map(|bins| lift(bins, evaluation.mean_label)).into_iter().filter(|_| is_binary);
        table.row([(i + 1).to_string(), thousands(bin.n_rows)].into_iter().chain(figures).chain(lifts));
    }
    table
}

/// The mean label of some bins over that of all rows.
fn lift(bins: &[CalibrationBin], of_all: Option<f64>) -> String {
    let n_rows: u64 = bins.iter().map(|bin| bin.n_rows).sum();
    let labels: f64 = bins.iter().map(|bin| bin.mean_label * bin.n_rows as f64).sum();
    of_all.map_or_else(|| "-".to_owned(), |of_all| format!("{:.2}", labels / n_rows as f64 / of_all))
}

/// Rows by class, a column for each class that is predicted; nothing of more classes than fit a page.
pub(super) fn confusion_table(train: &TrainRecord) -> Table {
    let classes: Vec<&str> = train.classes.iter().map(String::as_str).take(MAX_CONFUSED + 1).collect();
    if classes.len() > MAX_CONFUSED {
        return Table::new([("class", Align::Left)]);
    }
    let columns = classes.iter().map(|class| (*class, Align::Right));
    let mut table = Table::new([("class", Align::Left)].into_iter().chain(columns));
    for (class, row) in classes.iter().zip(&train.evaluation.confusion) {
        table.row([(*class).to_owned()].into_iter().chain(row.iter().map(|n| thousands(*n))));
    }
    table
}

fn write_importances(out: &mut String, train: &TrainRecord) -> fmt::Result {
    if train.importances.is_empty() {
        return Ok(());
    }
    heading(out, "What the model looks at most")?;
    for (feature, value) in by_size(&train.importances).into_iter().take(MAX_IMPORTANCES) {
        let splits = train.split_counts.get(feature).map(|n| format!(", {} splits", thousands(*n))).unwrap_or_default();
        writeln!(out, "  {feature:<28}{value:.4}{splits}")?;
    }
    Ok(())
}

fn write_permutation(out: &mut String, train: &TrainRecord) -> fmt::Result {
    if train.permutation_importances.is_empty() {
        return Ok(());
    }
    heading(out, &permutation_title(train))?;
    write!(out, "{}", permutation_table(train, MAX_IMPORTANCES))
}

/// What the table of permutation importances shows.
pub(super) fn permutation_title(train: &TrainRecord) -> String {
    format!("How much worse the {} on the hold-out is without a feature", metric_name(&train.metric))
}

/// The features that the metric misses most when they are shuffled.
pub(super) fn permutation_table(train: &TrainRecord, most: usize) -> Table {
    let mut table = Table::new([("feature", Align::Left), ("worse by", Align::Right), ("deviation", Align::Right)]);
    for found in train.permutation_importances.iter().take(most) {
        table.row([found.feature.clone(), metric(Some(found.mean)), metric(Some(found.deviation))]);
    }
    table
}

/// Importances, the largest first.
pub(super) fn by_size(importances: &[(String, f64)]) -> Vec<&(String, f64)> {
    let mut sorted: Vec<&(String, f64)> = importances.iter().collect();
    sorted.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then_with(|| a.0.cmp(&b.0)));
    sorted
}

fn write_decision(out: &mut String, train: &TrainRecord) -> fmt::Result {
    heading(out, "Model")?;
    line(out, "version", &version_text(train))?;
    line(out, "digest", &train.digest)?;
    line(out, "decision", &train.decision)
}

/// `late version 3, registered now`.
pub(super) fn version_text(train: &TrainRecord) -> String {
    let how = if train.already_registered { "registered before: the same digest" } else { "registered now" };
    format!("{} version {}, {how}", train.model, train.version)
}

fn write_score(out: &mut String, score: &ScoreRecord) -> fmt::Result {
    heading(out, "Written")?;
    line(out, "model", &format!("{} version {}, digest {}", score.model, score.version, short_id(&score.digest)))?;
    let table = format!("{} version {} at {}", score.table, score.table_version, score.location);
    line(out, "table", &table)?;
    line(out, "rows", &thousands(score.n_rows))?;
    line(out, "files", &thousands(score.n_files))?;
    line(out, "partitions", &partitions_text(&score.partitions))?;
    score.copies.iter().try_for_each(|(format, to)| line(out, "also", &format!("{format} at {to}")))?;
    score.views.iter().try_for_each(|view| line(out, "view", view))
}

fn partitions_text(partitions: &[String]) -> String {
    match partitions {
        [] => "none".to_owned(),
        [first, .., last] if partitions.len() > MAX_PARTITIONS_NAMED => {
            format!("{} replaced, {first} to {last}", count(partitions.len()))
        }
        few => format!("{} replaced: {}", few.len(), few.join(", ")),
    }
}

fn write_steps(out: &mut String, record: &RunRecord) -> fmt::Result {
    if record.steps.is_empty() {
        return Ok(());
    }
    heading(out, "Steps")?;
    let mut table = Table::new([("step", Align::Left), ("time", Align::Right), ("result", Align::Left)]);
    for step in &record.steps {
        table.row([step.step.clone(), seconds(step.seconds), step.summary.clone()]);
    }
    write!(out, "{table}")
}

#[cfg(test)]
mod tests {
    use tidemill_ml::eval::PermutationImportance;

    use super::*;

    fn candidate(id: usize, mean: Option<f64>) -> CandidateRecord {
        CandidateRecord { id, mean, estimator: "trees".into(), ..Default::default() }
    }

    #[test]
    fn candidates_are_ranked_with_failures_last() {
        let candidates = vec![candidate(0, None), candidate(1, Some(0.6)), candidate(2, Some(0.7))];
        let train = TrainRecord { candidates, best: 2, metric: "area_under_roc".into(), ..Default::default() };
        assert_eq!(ranked(&train).iter().map(|c| c.id).collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn a_loss_ranks_the_lowest_first() {
        let candidates = vec![candidate(0, Some(0.5)), candidate(1, Some(0.4)), candidate(2, Some(0.6))];
        let train = TrainRecord { candidates, best: 1, metric: "log_loss".into(), ..Default::default() };
        assert_eq!(ranked(&train).iter().map(|c| c.id).collect::<Vec<_>>(), [1, 0, 2]);
    }

    #[test]
    fn many_partitions_are_given_by_their_ends() {
        let days: Vec<String> = (1..=9).map(|d| format!("2013-11-0{d}")).collect();
        assert_eq!(partitions_text(&days), "9 replaced, 2013-11-01 to 2013-11-09");
        assert_eq!(partitions_text(&days[..1]), "1 replaced: 2013-11-01");
    }

    #[test]
    fn an_input_is_told_by_rows_place_and_digest() {
        let version = serde_json::json!({"digest": "0123456789abcdef", "format": "parquet", "num_files": 1,
            "num_rows": 3322, "size_bytes": 9, "url": "file:///planes.parquet"});
        let told = "3,322 rows, file:///planes.parquet, digest 0123456789ab, format parquet";
        assert_eq!(input_text(&version), told);
        assert_eq!(input_text(&serde_json::json!({"planes": version})), format!("planes {told}"));
    }

    #[test]
    fn deciles_of_scores_have_their_lift() {
        let bin = |n_rows, mean_label| CalibrationBin { n_rows, mean_label, ..Default::default() };
        let calibration = vec![bin(30, 0.1), bin(10, 0.3), bin(10, 0.8)];
        let mut evaluation = Evaluation { calibration, mean_label: Some(0.28), ..Default::default() };
        let cells = |evaluation: &Evaluation, row: usize| calibration_table(evaluation).rows()[row][4..].to_vec();
        assert_eq!(cells(&evaluation, 0), ["0.36", "1.00"]);
        assert_eq!(cells(&evaluation, 1), ["1.07", "1.96"]);
        assert_eq!(cells(&evaluation, 2), ["2.86", "2.86"]);
        evaluation.problem_type = ProblemType::Regression;
        assert!(cells(&evaluation, 0).is_empty());
    }

    #[test]
    fn importances_are_told_with_splits_and_what_shuffling_costs() {
        let permutation = PermutationImportance { feature: "dep_hour".into(), mean: 0.0312, deviation: 0.0004 };
        let train = TrainRecord {
            metric: "rmse".into(),
            importances: vec![("dep_hour".into(), 0.5)],
            split_counts: [("dep_hour".to_owned(), 1200)].into(),
            permutation_importances: vec![permutation],
            ..Default::default()
        };
        let text = run_text(&RunRecord { train: Some(train), ..Default::default() });
        assert!(text.contains("0.5000, 1,200 splits") && text.contains("How much worse the rmse"), "{text}");
        assert!(text.contains("0.0312") && text.contains("0.0004"), "{text}");
    }

    #[test]
    fn the_report_says_what_was_left_out() {
        let train = TrainRecord { n_unlabelled: 9430, n_unlabelled_holdout: 1412, ..Default::default() };
        let text = run_text(&RunRecord { train: Some(train), ..Default::default() });
        assert!(text.contains("9,430 without a label (1,412 of them in the hold-out)"), "{text}");
    }
}
