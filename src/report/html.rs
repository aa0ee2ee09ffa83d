//! The HTML page of a training run: one file, no scripts, nothing loaded from elsewhere.

use std::fmt::Write;

use serde_json::Value;
use tidemill_engine::jobs::{RunRecord, TrainRecord};
use tidemill_ml::profile::Profile;

use super::ReportError;
use super::format::{metric, metric_name, percent, plain, seconds, thousands};
use super::plots::{calibration_plot, grid_plot, roc_plot};
use super::profile::profile_table;
use super::table::{Align, Table};
use super::text::{
    by_size, calibration_table, candidates_table, checks_table, confusion_table, evaluation_lines, fit_passes, folds,
    grid_sentence, input_text, left_out, permutation_table, permutation_title, ranked, version_text,
};

/// The most importances that the page shows.
const MAX_IMPORTANCES: usize = 20;

const STYLE: &str = include_str!("page.css");

/// The page of a training run: what the run recorded of the training, with the profile of the rows that the model was
/// trained on.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn training_page(
    record: &RunRecord,
    train: &TrainRecord,
    profile: Option<&Profile>,
) -> Result<String, ReportError> {
    let title = escape(&format!("{}: {}", record.job, version_text(train)));
    let evaluation = &train.evaluation;
    let mut charts = Vec::new();
    if !evaluation.roc_curve.is_empty() {
        charts.push(figure(&roc_plot(evaluation)?, "ROC curve on the hold-out; dashed: chance."));
    }
    if !evaluation.calibration.is_empty() {
        let caption = "Calibration by decile of the prediction; dashed: perfect.";
        charts.push(figure(&calibration_plot(evaluation)?, caption));
    }
    let charts =
        if charts.is_empty() { String::new() } else { format!("<div class=\"pair\">{}</div>", charts.concat()) };
    let grid = grid_plot(&ranked(train), &train.metric)?;
    let grid = figure(&grid, "A dot per candidate at its mean, the line spans its folds. Best first.");
    let body = [
        header(record, train),
        section("Evaluation on the hold-out", &charts),
        section("Calibration", &table(&calibration_table(evaluation))),
        section("Rows by class and by the class that was predicted", &table(&confusion_table(train))),
        section("Grid", &format!("<p>{}.</p>{grid}", escape(&grid_sentence(train)))),
        section("Candidates", &table(&candidates_table(train))),
        section("The best of each estimator", &by_estimator(train)),
        section("Feature importances", &importances(train)),
        section(&permutation_title(train), &table(&permutation_table(train, MAX_IMPORTANCES))),
        section("What the pipeline read in training", &profile.map(|p| table(&profile_table(p))).unwrap_or_default()),
        section("Checks", &table(&checks_table(record))),
        section("Rows and stages", &facts(&row_facts(train))),
        section("Inputs and parameters", &facts(&run_facts(record))),
        section("Steps", &steps(record)),
    ];
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        body.concat()
    ))
}

fn header(record: &RunRecord, train: &TrainRecord) -> String {
    let when = record.started_at.get(..16).unwrap_or(&record.started_at).replace('T', " ");
    let mut tiles = String::new();
    for (name, value) in evaluation_lines(&train.evaluation) {
        let _ = write!(tiles, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(&name));
    }
    let badge = if train.promoted {
        "<span class=\"badge moved\">alias moved</span>"
    } else {
        "<span class=\"badge\">alias not moved</span>"
    };
    format!(
        "<header>\n<p class=\"kicker\">Training report · {}</p>\n<h1>{}</h1>\n<p class=\"lead\">{badge} {}</p>\n\
         <div class=\"tiles\">{tiles}</div>\n</header>\n",
        escape(&when),
        escape(&format!("{} · {}", record.job, version_text(train))),
        escape(&train.decision)
    )
}

fn section(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{}</h2>\n{body}\n</section>\n", escape(title))
}

fn figure(svg: &str, caption: &str) -> String {
    format!("<figure>{svg}<figcaption>{}</figcaption></figure>", escape(caption))
}

fn table(table: &Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    let class = |i: usize| match table.columns().get(i) {
        Some((_, Align::Right)) => " class=\"n\"",
        _ => "",
    };
    let cells = |tag: &str, cells: &[String]| {
        let cells = cells.iter().enumerate();
        cells.map(|(i, c)| format!("<{tag}{}>{}</{tag}>", class(i), escape(c))).collect::<String>()
    };
    let names: Vec<String> = table.columns().iter().map(|(name, _)| name.clone()).collect();
    let rows: String = table.rows().iter().map(|r| format!("<tr>{}</tr>\n", cells("td", r))).collect();
    let head = cells("th", &names);
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>")
}

fn facts(facts: &[(String, String)]) -> String {
    let rows: String =
        facts.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value))).collect();
    format!("<dl>\n{rows}</dl>")
}

fn fact(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn row_facts(train: &TrainRecord) -> Vec<(String, String)> {
    let mut facts = vec![
        fact("feature rows", thousands(train.n_rows)),
        fact("left out", left_out(train)),
        fact("trained on", thousands(train.n_train)),
        fact("held out", thousands(train.n_holdout)),
        fact("folds", folds(train)),
        fact("stage queries", fit_passes(train)),
    ];
    facts.extend(train.stage_fits.iter().map(|(stage, n)| fact(stage, format!("fitted {n} times"))));
    facts
}

fn run_facts(record: &RunRecord) -> Vec<(String, String)> {
    let mut facts = vec![
        fact("run", &record.run),
        fact("mode", &record.mode),
        fact("code version", &record.code_version),
        fact("plan hash", &record.plan_hash),
    ];
    if let Some(train) = &record.train {
        facts.push(fact("model digest", &train.digest));
    }
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    facts.extend(entries(&record.params).iter().map(|(name, v)| fact(&format!("parameter {name}"), plain(v))));
    facts.extend(entries(&record.inputs).iter().map(|(name, v)| fact(&format!("input {name}"), input_text(v))));
    facts
}

fn by_estimator(train: &TrainRecord) -> String {
    let value = metric_name(&train.metric);
    let mut rows = Table::new([("estimator", Align::Left), (&format!("{value} on the hold-out"), Align::Right)]);
    for (estimator, value) in &train.holdout_by_estimator {
        rows.row([estimator.clone(), metric(Some(*value))]);
    }
    table(&rows)
}

fn importances(train: &TrainRecord) -> String {
    let largest = train.importances.iter().map(|(_, v)| v.abs()).fold(0.0f64, f64::max);
    if largest <= 0.0 {
        return String::new();
    }
    let bar = |(feature, value): &(String, f64)| {
        let width = value.abs() / largest * 100.0;
        format!(
            "<tr><td>{}</td><td class=\"n\">{value:.4}</td><td class=\"n\">{}</td>\
             <td class=\"bar\"><i style=\"width:{width:.1}%\"></i></td></tr>\n",
            escape(feature),
            train.split_counts.get(feature).map(|n| format!("{} splits", thousands(*n))).unwrap_or_default()
        )
    };
    let rows: String = by_size(&train.importances).into_iter().take(MAX_IMPORTANCES).map(bar).collect();
    format!("<div class=\"wide\"><table class=\"bars\"><tbody>\n{rows}</tbody></table></div>")
}

fn steps(record: &RunRecord) -> String {
    let total: f64 = record.steps.iter().map(|s| s.seconds).sum();
    let mut rows =
        Table::new([("step", Align::Left), ("time", Align::Right), ("share", Align::Right), ("result", Align::Left)]);
    for step in &record.steps {
        let share = if total > 0.0 { percent(step.seconds / total) } else { String::new() };
        rows.row([step.step.clone(), seconds(step.seconds), share, step.summary.clone()]);
    }
    table(&rows)
}

/// Text that cannot be taken for markup.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tidemill_engine::jobs::CandidateRecord;
    use tidemill_ml::profile::{ColumnProfile, Values};

    use super::*;

    #[test]
    fn text_from_the_record_is_escaped() {
        let nasty = "<script>alert(1)</script>";
        let candidate = CandidateRecord { estimator: nasty.into(), mean: Some(0.5), ..Default::default() };
        let train = TrainRecord {
            decision: nasty.into(),
            candidates: vec![candidate],
            importances: vec![(nasty.into(), 1.0)],
            ..Default::default()
        };
        let record = RunRecord { job: nasty.into(), mode: nasty.into(), ..Default::default() };
        let top = vec![(nasty.to_owned(), 3)];
        let column = ColumnProfile {
            name: nasty.into(),
            data_type: "Utf8".into(),
            nulls: 0,
            values: Values::Category { distinct: Some(1), top },
        };
        let page = training_page(&record, &train, Some(&Profile { n_rows: 3, columns: vec![column] })).unwrap();
        assert!(page.contains("What the pipeline read in training"));
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = training_page(&RunRecord::default(), &TrainRecord::default(), None).unwrap();
        assert!(!page.contains("What the pipeline read in training"));
        let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("), "{page}");
    }
}
