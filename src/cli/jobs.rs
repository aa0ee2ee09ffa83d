//! `tidemill jobs`: what runs on a cluster.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tidemill::report::{self, Align, Table};
use tidemill_scheduler::client::{JobDetails, JobLogs, JobSummary, JobsClient};

use super::args::{Global, JobsCommand};
use super::error::{CliError, Result};
use super::output::Output;
use super::session;

/// Lists, shows or cancels jobs, or prints their executors' errors.
pub(crate) async fn jobs(global: &Global, command: JobsCommand, output: &Arc<Output>) -> Result<()> {
    let Some(address) = &global.cluster else {
        let message = "jobs run on a cluster: add --cluster HOST:PORT; runs in this process are in: tidemill runs list";
        return Err(CliError::Usage(message.to_owned()));
    };
    let client = JobsClient::new(address, session::token(global)?);
    match command {
        JobsCommand::List => list(&client, output).await,
        JobsCommand::Show { id } => show(&client, &id, output).await,
        JobsCommand::Cancel { id } => cancel(&client, &id, output).await,
        JobsCommand::Logs { id } => logs(&client, &id, output).await,
    }
}

async fn list(client: &JobsClient, output: &Output) -> Result<()> {
    let jobs = client.list().await?;
    if output.is_json() {
        return jobs.iter().try_for_each(|job| output.object(job));
    }
    if jobs.is_empty() {
        output.hint("no jobs; the scheduler keeps those of the last hour");
        return Ok(());
    }
    output.write(jobs_table(&jobs))
}

fn jobs_table(jobs: &[JobSummary]) -> Table {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new([
        ("job", left),
        ("status", left),
        ("stages", right),
        ("started", left),
        ("took", right),
        ("result", left),
    ]);
    for job in jobs {
        table.row([
            job.job_id.clone(),
            job.status.clone(),
            format!("{}/{}", job.completed_stages, job.num_stages),
            time(job.start_time),
            took(job),
            job.detail.lines().next().unwrap_or_default().to_owned(),
        ]);
    }
    table
}

fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().filter(|ms| *ms > 0).and_then(DateTime::<Utc>::from_timestamp_millis);
    time.map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M:%S").to_string())
}

fn took(job: &JobSummary) -> String {
    match job.end_time.checked_sub(job.start_time) {
        Some(ms) if job.start_time > 0 && job.end_time > 0 => report::seconds(ms as f64 / 1000.0),
        _ => String::new(),
    }
}

async fn show(client: &JobsClient, id: &str, output: &Output) -> Result<()> {
    let job = client.show(id).await?;
    if output.is_json() { output.object(&job) } else { output.write(details(&job)) }
}

fn details(job: &JobDetails) -> String {
    let right = Align::Right;
    let mut stages = Table::new([
        ("stage", right),
        ("status", Align::Left),
        ("tasks", right),
        ("rows in", right),
        ("rows out", right),
        ("time", right),
    ]);
    for stage in &job.stages {
        let count = |n: usize| report::thousands(n as u64);
        let (rows_in, rows_out) = (count(stage.input_rows), count(stage.output_rows));
        let time = stage.elapsed_compute.clone().unwrap_or_default();
        let tasks = stage.tasks.len().to_string();
        stages.row([stage.stage_id.clone(), stage.status.clone(), tasks, rows_in, rows_out, time]);
    }
    let plan = job.physical_plan.as_deref().map(|p| format!("\nPlan\n{p}\n")).unwrap_or_default();
    format!("{}\n{stages}{plan}", jobs_table(std::slice::from_ref(&job.summary)))
}

async fn cancel(client: &JobsClient, id: &str, output: &Output) -> Result<()> {
    client.cancel(id).await?;
    output.event(&serde_json::json!({"event": "cancelled", "job": id}), Some(format!("job {id} is cancelled")));
    Ok(())
}

async fn logs(client: &JobsClient, id: &str, output: &Output) -> Result<()> {
    let logs = client.logs(id).await?;
    if output.is_json() {
        return logs.failures.iter().try_for_each(|failure| output.object(failure));
    }
    if logs.failures.is_empty() {
        output.hint(format_args!("no executor reported an error; the job: {}", logs.summary.detail));
        return Ok(());
    }
    output.write(log_text(&logs))
}

fn log_text(logs: &JobLogs) -> String {
    let mut text = String::new();
    for failure in &logs.failures {
        let again = if failure.retried { ", tried again" } else { "" };
        text.push_str(&format!(
            "{}  stage {} attempt {} task {} on {}: {}{again}\n{}\n",
            time(failure.at_ms),
            failure.stage_id,
            failure.stage_attempt,
            failure.task_id,
            failure.executor_id,
            failure.kind,
            failure.message
        ));
    }
    text
}
