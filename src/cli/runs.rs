//! `tidemill runs`.

use std::sync::Arc;

use tidemill::report;
use tidemill_engine::progress::Silent;
use tidemill_engine::{RunRecord, Session};

use super::args::{Global, RunsCommand};
use super::error::{CliError, Result};
use super::output::Output;
use super::session;

/// Lists run records, shows one, or compares some.
pub(crate) async fn runs(global: &Global, command: RunsCommand, output: &Arc<Output>) -> Result<()> {
    let session = session::local(global, Arc::new(Silent)).await?;
    match command {
        RunsCommand::List => list(&session, output).await,
        RunsCommand::Show { id } => show(&session, &id, output).await,
        RunsCommand::Compare { ids } => compare(&session, &ids, output).await,
    }
}

async fn list(session: &Session, output: &Output) -> Result<()> {
    let runs = session.runs().await?;
    if output.is_json() {
        return runs.iter().try_for_each(|run| output.object(run));
    }
    if runs.is_empty() {
        output.hint("no runs yet; start with: tidemill demo");
        return Ok(());
    }
    output.write(report::runs_table(&runs))
}

async fn show(session: &Session, id: &str, output: &Output) -> Result<()> {
    let record = find(session, id).await?;
    if output.is_json() { output.object(&record) } else { output.write(report::run_text(&record)) }
}

async fn compare(session: &Session, ids: &[String], output: &Output) -> Result<()> {
    let mut records = Vec::with_capacity(ids.len());
    for id in ids {
        records.push(find(session, id).await?);
    }
    if output.is_json() {
        return records.iter().try_for_each(|record| output.object(record));
    }
    output.write(report::comparison_table(&records))
}

/// The run with this id, or the only one whose id begins so.
async fn find(session: &Session, id: &str) -> Result<RunRecord> {
    let mut found: Vec<RunRecord> = session.runs().await?;
    found.retain(|run| run.run.starts_with(id));
    match found.len() {
        0 => Err(CliError::Usage(format!("no run {id}; list them with: tidemill runs list"))),
        1 => Ok(found.remove(0)),
        n => Err(CliError::Usage(format!("{n} runs begin with {id}; give more of the id"))),
    }
}
