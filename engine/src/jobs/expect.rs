//! Checks a job's tables before anything is computed from them, and puts rows that fail into quarantine.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{NaiveTime, Utc};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::ViewTable;
use datafusion::functions::expr_fn::concat_ws;
use datafusion::logical_expr::{Expr, lit, not, when};
use tidemill_ml::suggest::did_you_mean;

use super::params::{ParamValues, bind, date};
use super::record::RunRecord;
use super::spec::{ParamSpec, ParamType};
use crate::checks::{self, Check, CheckResult, Expectation, OnFailure, Outcome, Reference};
use crate::progress::{Event, Step};
use crate::session::{CommitNote, Session, WriteMode};
use crate::{EngineError, Result};

/// The date parameter from which the age of rows counts.
const RUN_DATE: &str = "ds";

/// The columns that rows in quarantine have besides their own.
const FAILED_CHECKS: &str = "failed_checks";
const RUN: &str = "run";

/// What a job expects of its tables.
pub(super) struct Expectations<'a> {
    pub(super) tables: &'a BTreeMap<String, String>,
    pub(super) expect: &'a BTreeMap<String, Vec<Expectation>>,
    pub(super) specs: &'a BTreeMap<String, ParamSpec>,
    pub(super) params: &'a ParamValues,
}

/// A table that was checked, and the checks whose rows are left out of it.
struct Checked<'a> {
    name: &'a str,
    rows: DataFrame,
    failed: Vec<Check>,
}

/// Checks the tables; what is found goes into the record.
///
/// # Errors
/// A check that does not hold and whose failure ends the run: nothing is written then.
pub(super) async fn check_tables(session: &Session, expected: &Expectations<'_>, record: &mut RunRecord) -> Result<()> {
    if expected.expect.is_empty() {
        return Ok(());
    }
    let names = expected.expect.keys().cloned().collect::<Vec<_>>().join(", ");
    let step = Step::start(session.progress(), "check", names, None);
    let mut checked = Vec::new();
    for (name, expectations) in expected.expect {
        let bound = |e: &Expectation| e.try_map_sql(|sql| bind(sql, expected.specs, expected.params));
        let expectations = expectations.iter().map(bound).collect::<Result<Vec<_>>>()?;
        let rows = table(session, expected, name, &expectations).await?;
        let reference = reference(session, expected, record, name, &expectations).await?;
        let results = checks::check(&rows, &expectations, &reference).await.map_err(|e| in_table(name, e))?;
        let to_leave_out =
            |(e, r): (Expectation, &CheckResult)| (r.outcome == Outcome::Quarantine).then(|| e.check().clone());
        let failed = expectations.into_iter().zip(&results).filter_map(to_leave_out).collect();
        record.checks.insert(name.clone(), results);
        checked.push(Checked { name, rows, failed });
    }
    if let Some(message) = sentences(record, Outcome::Fail) {
        return Err(EngineError::Data(message));
    }
    if let Some(message) = sentences(record, Outcome::Warn) {
        session.progress().event(&Event::Warning { message });
    }
    let mut n_quarantined = 0;
    for table in checked {
        n_quarantined += quarantine(session, table, &record.run).await?;
    }
    record.steps.push(step.finish(summary(record, n_quarantined)));
    Ok(())
}

/// The rows of a table of the job or of the warehouse.
async fn table(
    session: &Session,
    expected: &Expectations<'_>,
    name: &str,
    expectations: &[Expectation],
) -> Result<DataFrame> {
    if expected.tables.contains_key(name) {
        return Ok(session.context().table(name).await?);
    }
    let known = session.tables().await?;
    if !known.iter().any(|t| t == name) {
        let hint = did_you_mean(name, expected.tables.keys().chain(&known).map(String::as_str));
        return Err(EngineError::NotFound(format!(
            "expect names {name:?}, which is neither under tables nor in the warehouse{hint}"
        )));
    }
    if expectations.iter().any(|e| e.on_failure() == OnFailure::Quarantine) {
        return Err(EngineError::Invalid(format!(
            "on_failure: quarantine leaves rows of an input out; {name:?} is a table of the warehouse, use fail or warn"
        )));
    }
    let plan = session.query(&format!("select * from \"{}\"", name.replace('"', "\"\""))).await?;
    Ok(session.data_frame(plan))
}

/// What the rows of a table are compared with.
async fn reference(
    session: &Session,
    expected: &Expectations<'_>,
    record: &RunRecord,
    table: &str,
    expectations: &[Expectation],
) -> Result<Reference> {
    let is_date = expected.specs.get(RUN_DATE).is_some_and(|s| s.kind == ParamType::Date);
    let day = expected.params.get(RUN_DATE).filter(|_| is_date).and_then(|text| date(text));
    let now = day.map_or_else(Utc::now, |day| day.and_time(NaiveTime::MIN).and_utc());
    let compares = |e: &Expectation| matches!(e.check(), Check::RowCount(c) if c.against_last_run.is_some());
    if !expectations.iter().any(compares) {
        return Ok(Reference { now, last_rows: None });
    }
    let wanted = |r: &RunRecord| r.job == record.job && r.status == "succeeded" && r.checks.contains_key(table);
    let last = session.warehouse().last_record(wanted).await?;
    let last_rows = last.and_then(|r| Some(r.checks.get(table)?.first()?.n_rows));
    Ok(Reference { now, last_rows })
}

fn in_table(name: &str, e: EngineError) -> EngineError {
    match e {
        EngineError::Invalid(message) => EngineError::Invalid(format!("expect.{name}: {message}")),
        other => other,
    }
}

/// What the checks with an outcome found, table by table.
fn sentences(record: &RunRecord, outcome: Outcome) -> Option<String> {
    let sentence = |(name, results): (&String, &Vec<CheckResult>)| {
        let found: Vec<String> = results.iter().filter(|r| r.outcome == outcome).map(told).collect();
        (!found.is_empty()).then(|| format!("table {name:?} is not as expected: {}", found.join("; ")))
    };
    let sentences: Vec<String> = record.checks.iter().filter_map(sentence).collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

fn told(result: &CheckResult) -> String {
    let CheckResult { check, n_rows, n_failed, detail, examples, .. } = result;
    let found = detail.clone().unwrap_or_else(|| format!("{n_failed} of {n_rows} rows fail"));
    if examples.is_empty() {
        return format!("{check}: {found}");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("({e})")).collect();
    format!("{check}: {found}, e.g. {}", examples.join(", "))
}

fn summary(record: &RunRecord, n_quarantined: u64) -> String {
    let all = || record.checks.values().flatten();
    let n_warned = all().filter(|r| r.outcome == Outcome::Warn).count();
    format!("{} checks, {n_warned} warnings, {n_quarantined} rows in quarantine", all().count())
}

/// Writes the rows that fail to the table's quarantine and leaves them out of the table; gives how many there are.
async fn quarantine(session: &Session, table: Checked<'_>, run: &str) -> Result<u64> {
    let Checked { name, rows, failed: failed_checks } = table;
    let mut failed = Vec::new();
    for check in &failed_checks {
        failed.extend(checks::failing_rows(&rows, check)?.map(|fails| (check.to_string(), fails)));
    }
    let Some(any) = failed.iter().map(|(_, fails)| fails.clone()).reduce(Expr::or) else { return Ok(0) };
    for column in [FAILED_CHECKS, RUN] {
        if rows.schema().has_column_with_unqualified_name(column) {
            return Err(EngineError::Invalid(format!(
                "the table {name:?} has a column {column:?}, which quarantine adds; rename it or use fail or warn"
            )));
        }
    }
    let names = failed.into_iter().map(|(name, fails)| Ok(when(fails, lit(name)).end()?));
    let names = concat_ws(lit("; "), names.collect::<Result<Vec<_>>>()?);
    let bad = rows.clone().filter(any.clone())?.with_column(FAILED_CHECKS, names)?.with_column(RUN, lit(run))?;
    let (_, bad) = bad.into_parts();
    let written =
        session.write_plan(bad, &format!("{name}_quarantine"), WriteMode::Append, CommitNote::default()).await?;
    let (_, good) = rows.filter(not(any))?.into_parts();
    session.register(name, Arc::new(ViewTable::new(good, None)))?;
    Ok(written.n_rows)
}
