//! Times a feature pipeline over one Parquet file: the fit of its stages, and what is written of the transformed rows.
//!
//! `--stages` is a list of stages in JSON, as job files have it in YAML. With `--write table` the features and the key
//! become a table of Parquet files, with `--write matrix` the training matrix that a grid search writes. A line of JSON
//! goes to standard output: `{"n_rows": …, "fit": …, "write": …, "seconds": …}`, where `seconds` is all from opening the
//! file on, and `features.json` with the features' names and labels to `--out`. `benches/features.py` compares times and
//! results with other engines.
//!
//! ```text
//! cargo run --release --example time_features -- --rows flights.parquet --stages stages.json --write table --out out
//! ```

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tidemill::grid::{FOLD_COLUMN, write_matrix};
use tidemill::pipeline::{PipelineModel, Subset};
use tidemill::prelude::*;

/// The allocator of the `tidemill` command, so that its times are measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Planners walk deep trees recursively: the command's own size of a worker's stack.
const STACK_BYTES: usize = 32 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Times a feature pipeline over one Parquet file.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The rows: a Parquet file.
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// A query over the table `rows` that gives the pipeline's rows; all columns as they are when absent.
    #[arg(long, value_name = "FILE")]
    query: Option<PathBuf>,
    /// The stages, as JSON.
    #[arg(long, value_name = "FILE")]
    stages: PathBuf,
    /// What is written of the transformed rows.
    #[arg(long, value_enum, default_value = "nothing")]
    write: Written,
    /// The column that identifies a row.
    #[arg(long, value_name = "COLUMN", default_value = "row")]
    key: String,
    /// The column of the label, for a matrix.
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    label: String,
    /// Keep the rows' profile with the pipeline, as training does.
    #[arg(long)]
    profile: bool,
    /// The folder for what is written; it must not be there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What is written of the transformed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    /// Nothing: the stages are fitted.
    Nothing,
    /// The table `features` of the key and the features, in the warehouse at `--out`.
    Table,
    /// A training matrix below `--out`.
    Matrix,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()?;
    // On a worker, for its stack.
    runtime.block_on(runtime.spawn(time(args)))?
}

async fn time(args: Args) -> Result<()> {
    fs::create_dir(&args.out).map_err(|e| format!("cannot make the folder {}: {e}", args.out.display()))?;
    let warehouse = args.out.display().to_string();
    let session = Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await?;
    let stages: Value = serde_json::from_str(&fs::read_to_string(&args.stages)?)?;
    let pipeline = Pipeline::from_value(&stages, &session.plugins().stages)?;

    let start = Instant::now();
    session.register_parquet("rows", &args.rows.display().to_string()).await?;
    let query = args.query.as_ref().map_or_else(|| Ok("select * from rows".to_owned()), fs::read_to_string)?;
    let rows = session.sql(&query).await?;
    let all = Subset::all("all rows");
    let all = if args.profile { all.profiled() } else { all };
    let fit = pipeline.fit(rows.clone(), &[all]).await?;
    let fitted = start.elapsed().as_secs_f64();
    let model = fit.models.into_iter().next().ok_or("no fitted pipeline")?;
    write(&session, rows, &model, &args).await?;
    let seconds = start.elapsed().as_secs_f64();

    fs::write(args.out.join("features.json"), serde_json::to_vec(&model.features()[..])?)?;
    let line = json!({
        "n_rows": n_rows(&session).await?,
        "passes": fit.passes,
        "fit": fitted,
        "write": seconds - fitted,
        "seconds": seconds,
    });
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

async fn write(session: &Session, rows: DataFrame, model: &PipelineModel, args: &Args) -> Result<()> {
    match args.write {
        Written::Nothing => {}
        Written::Table => {
            let features = model.transform(rows, &[&args.key])?;
            session.write_table(features, "features", WriteMode::Replace).await?;
        }
        Written::Matrix => {
            // One fold: the search would deal the rows.
            let rows = rows.with_column(FOLD_COLUMN, lit(0u32))?;
            let folder = session.warehouse().root().join("matrix");
            let fitted = (model, &Subset::all("all"));
            let (key, label) = (std::slice::from_ref(&args.key), Label::number(&args.label));
            write_matrix(session, rows, fitted, (key, &label), &folder, None).await?;
        }
    }
    Ok(())
}

async fn n_rows(session: &Session) -> Result<usize> {
    let rows = session.sql("select * from rows").await?;
    Ok(rows.count().await?)
}
