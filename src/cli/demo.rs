//! `tidemill demo`: train on a year of flights, score two months of them, look at the result.

mod embedded;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_engine::{JobFile, RunRecord};

use super::args::{DemoArgs, Global, RowFormat};
use super::error::{CliError, Result};
use super::output::Output;
use super::progress::Reporter;
use super::{run, session, sql};

/// Where a copy of the demo is written outside of the repository.
const COPY: &str = "tidemill-demo";
/// The folder that is the default of `--data`.
const DEFAULT: &str = "examples/flights";
/// The days that are scored.
const SCORED: [(&str, &str); 2] = [("ds", "2013-11-01"), ("to", "2013-12-31")];
/// What is shown of the result.
const QUALITY: &str = "select ds, model_version, rows_scored, outcomes_known, round(mean_score, 4) as mean_score, \
                       round(actual_rate, 4) as actual_rate, round(area_under_roc, 4) as area_under_roc \
                       from late_quality order by ds desc limit 10";
/// The query that the demo leaves its reader with.
const BY_ORIGIN: &str = "select origin, avg(score) as expected, avg(case when arr_delay > 15 then 1.0 \
                         when arr_delay is not null then 0.0 end) as actual from scored_flights group by 1";

/// Runs the demo.
pub(crate) async fn demo(global: &Global, args: DemoArgs, output: &Arc<Output>) -> Result<()> {
    let folder = folder(&args.data, output)?;
    let (train, score) = (JobFile::read(folder.join("train.yaml"))?, JobFile::read(folder.join("score.yaml"))?);
    let reporter = Reporter::new(output);
    let session = session::open(global, Arc::clone(&reporter) as _).await?;
    run::run_job(&session, &train, &BTreeMap::new(), &reporter, output).await?;
    output.hint("");
    let days = SCORED.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let scored = run::run_job(&session, &score, &days, &reporter, output).await?;
    if !output.is_json() && !output.is_quiet() {
        output.line("\nExpected against actual, the last days")?;
        let rows = session.sql(QUALITY).await?;
        Box::pin(sql::write_rows(rows, RowFormat::Table, output)).await?;
    }
    next(global, &folder, &scored, output);
    Ok(())
}

/// The folder with the demo's files: the one asked for, or a copy when the default is not here.
fn folder(asked: &Path, output: &Output) -> Result<PathBuf> {
    if asked.join("train.yaml").is_file() {
        return Ok(asked.to_owned());
    }
    if asked != Path::new(DEFAULT) {
        return Err(CliError::Usage(format!("there is no train.yaml in {}", asked.display())));
    }
    let copy = PathBuf::from(COPY);
    if !copy.join("train.yaml").is_file() {
        embedded::write_to(&copy)?;
        output.hint(format_args!("wrote the demo's jobs and data to {}", copy.display()));
    }
    Ok(copy)
}

fn next(global: &Global, folder: &Path, scored: &RunRecord, output: &Output) {
    let options = run::options(global);
    let cluster = global.cluster.as_ref().map(|c| format!("--cluster {c} ")).unwrap_or_default();
    output.hint("\nNext");
    output.hint(format_args!("  tidemill {options}{cluster}sql -c \"{BY_ORIGIN}\""));
    output.hint(format_args!("  tidemill {options}models show late@live"));
    output.hint(format_args!(
        "  tidemill {options}{cluster}run {} --param ds=2013-11-05",
        folder.join("score.yaml").display()
    ));
    output.hint(format_args!("  tidemill {options}runs show {}", scored.run));
    if cluster.is_empty() {
        output
            .hint("  tidemill cluster --executors 2          then: tidemill demo --cluster with the address it prints");
    }
}
