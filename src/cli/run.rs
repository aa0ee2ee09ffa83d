//! `tidemill run`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill::report;
use tidemill_engine::jobs::Job;
use tidemill_engine::{JobFile, RunRecord, Session};
use tidemill_ml::model::ModelVersion;

use super::args::{Global, RunArgs};
use super::error::{CliError, Result};
use super::output::{self, Output};
use super::progress::Reporter;
use super::session;

/// Runs a job file and prints its report.
pub(crate) async fn run(global: &Global, args: RunArgs, output: &Arc<Output>) -> Result<()> {
    let file = JobFile::read(&args.file)?;
    let params = params(args.params)?;
    let reporter = Reporter::new(output);
    let session = session::open(global, Arc::clone(&reporter) as _).await?;
    if args.explain {
        let plan = session.explain(&file, &params).await?;
        return if output.is_json() { output.object(&output::result("search", &plan)) } else { output.write(plan) };
    }
    let record = run_job(&session, &file, &params, &reporter, output).await?;
    next(&record, &args.file, global).iter().for_each(|line| output.hint(line));
    Ok(())
}

/// Runs a job, writes its HTML report if it asks for one, and prints its report.
pub(crate) async fn run_job(
    session: &Session,
    file: &JobFile,
    params: &BTreeMap<String, String>,
    reporter: &Arc<Reporter>,
    output: &Arc<Output>,
) -> Result<RunRecord> {
    let result = Box::pin(session.run(file, params)).await;
    reporter.close();
    let record = result?;
    let page = write_page(session, file, &record).await?;
    print(&record, reporter.record(), page.as_deref(), output)?;
    Ok(record)
}

/// Parameters by name; one given twice is a slip.
fn params(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>> {
    let mut params = BTreeMap::new();
    for (name, value) in given {
        if let Some(other) = params.insert(name.clone(), value.clone()) {
            return Err(CliError::Usage(format!("parameter {name} is given twice: {other} and {value}")));
        }
    }
    Ok(params)
}

/// Writes the HTML report where the job file asks for it.
async fn write_page(session: &Session, file: &JobFile, record: &RunRecord) -> Result<Option<PathBuf>> {
    let (Job::Train(job), Some(train)) = (&file.job, &record.train) else { return Ok(None) };
    let Some(path) = &job.report else { return Ok(None) };
    let manifest = session.registry().manifest(&train.model, ModelVersion(train.version)).await?;
    let page = report::training_page(record, train, manifest.profile.as_ref())?;
    let failed = |e: std::io::Error| CliError::Environment(format!("cannot write the report {}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, page).map_err(failed)?;
    Ok(Some(path.clone()))
}

fn print(record: &RunRecord, at: Option<String>, page: Option<&Path>, output: &Output) -> Result<()> {
    if output.is_json() {
        return output.object(&output::result("record", record));
    }
    if output.is_quiet() {
        return Ok(());
    }
    output.line("")?;
    output.write(report::run_text(record))?;
    let page = page.map(|p| p.display().to_string());
    let places = [("run record", at), ("HTML report", page)];
    let places: Vec<_> = places.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
    if places.is_empty() {
        return Ok(());
    }
    output.line("\nWhere things are")?;
    places.iter().try_for_each(|(name, at)| output.line(format_args!("  {name:<28}{at}")))
}

/// What to do after a run, as commands that work as they stand.
pub(crate) fn next(record: &RunRecord, file: &Path, global: &Global) -> Vec<String> {
    let command = |rest: String| format!("  tidemill {}{rest}", options(global));
    let mut lines = vec!["\nNext".to_owned()];
    if let Some(train) = &record.train {
        lines.push(command(format!("models show {}/{}", train.model, train.version)));
        if !train.promoted {
            lines.push(command(format!("models promote {} {}", train.model, train.version)));
        }
        let score = file.with_file_name("score.yaml");
        if score.exists() && score != file {
            lines.push(command(format!("run {}", score.display())));
        }
    }
    if let Some(score) = &record.score {
        lines.push(command(format!("sql -c 'select * from {} limit 10'", score.table)));
        let view = |v: &String| command(format!("sql -c 'select * from {v}'"));
        lines.extend(score.views.iter().map(view));
    }
    lines.push(command(format!("runs show {}", record.run)));
    lines
}

/// The options that a further command needs to see the same warehouse.
pub(crate) fn options(global: &Global) -> String {
    let default = global.warehouse == "./warehouse" || std::env::var_os("TIDEMILL_WAREHOUSE").is_some();
    if default { String::new() } else { format!("--warehouse {} ", global.warehouse) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_given_twice_is_refused() {
        let pair = |v: &str| ("ds".to_owned(), v.to_owned());
        assert!(params(vec![pair("1"), pair("2")]).unwrap_err().to_string().contains("twice"));
        assert_eq!(params(vec![pair("1")]).unwrap().len(), 1);
    }
}
