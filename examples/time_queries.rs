//! Times SQL files over a folder of Parquet tables, in this process or on a cluster.
//!
//! Every `NAME.parquet` of `--tables` is the table NAME, every `NAME.sql` of `--queries` a query. Each query is planned
//! and run anew `--runs` times by one session, after `--warmup` runs that do not count. Its rows are written to
//! `--out` as `NAME.arrow`, and a line of JSON to standard output: `{"query": …, "n_rows": …, "seconds": [ … ]}`, or
//! `{"query": …, "error": …}`; a query that fails does not stop the others. The suites in `benches/` compare rows and
//! times with other engines.
//!
//! ```text
//! cargo run --release --example time_queries -- --tables tpch-sf1 --queries benches/tpch/queries --out rows
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::writer::FileWriter;
use clap::Parser;
use serde_json::{Value, json};
use tidemill::{Session, SessionOptions};

/// The allocator of the `tidemill` command, so that its times are measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Planners walk deep trees recursively: the command's own size of a worker's stack.
const STACK_BYTES: usize = 32 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Times SQL files over a folder of Parquet tables.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The folder of the tables: NAME.parquet.
    #[arg(long, value_name = "DIR")]
    tables: PathBuf,
    /// The folder of the queries: NAME.sql.
    #[arg(long, value_name = "DIR")]
    queries: PathBuf,
    /// The folder that the rows are written to: NAME.arrow.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The scheduler to run on; in this process when absent.
    #[arg(long, value_name = "HOST:PORT")]
    cluster: Option<String>,
    /// The memory of queries in this process; no limit by default.
    #[arg(long, value_name = "MIB", conflicts_with = "cluster")]
    memory_mib: Option<usize>,
    /// Runs that do not count.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: usize,
    /// Runs that count, one or more.
    #[arg(long, value_name = "N", default_value_t = 2)]
    runs: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()?;
    // On a worker, for its stack.
    runtime.block_on(runtime.spawn(time_all(args)))?
}

async fn time_all(args: Args) -> Result<()> {
    fs::create_dir_all(&args.out)?;
    let session = open(&args).await?;
    for query in files(&args.queries, "sql")? {
        let name = stem(&query)?;
        let sql = fs::read_to_string(&query)?;
        let line = match time(&session, &sql, &args, name).await {
            Ok(line) => line,
            Err(e) => json!({"query": name, "error": e.to_string()}),
        };
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
}

/// A session that knows the tables. Its warehouse is never written.
async fn open(args: &Args) -> Result<Session> {
    let warehouse = args.out.join("warehouse").display().to_string();
    let memory_bytes = args.memory_mib.map(|mib| mib.saturating_mul(1 << 20));
    let cluster = args.cluster.clone();
    let options = SessionOptions { warehouse, cluster, memory_bytes, ..SessionOptions::default() };
    let session = Session::open(options).await?;
    for table in files(&args.tables, "parquet")? {
        session.register_parquet(stem(&table)?, &table.display().to_string()).await?;
    }
    Ok(session)
}

/// Runs one query as often as asked, writes the rows of its last run and gives its line.
async fn time(session: &Session, sql: &str, args: &Args, name: &str) -> Result<Value> {
    let mut seconds = Vec::with_capacity(args.runs);
    let mut rows = (Schema::empty(), Vec::new());
    for run in 0..args.warmup + args.runs.max(1) {
        let start = Instant::now();
        let df = session.sql(sql).await?;
        let schema = df.schema().as_arrow().clone();
        rows = (schema, df.collect().await?);
        if run >= args.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let (schema, batches) = rows;
    write_rows(&args.out.join(format!("{name}.arrow")), &schema, &batches)?;
    let n_rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    Ok(json!({"query": name, "n_rows": n_rows, "seconds": seconds}))
}

fn write_rows(path: &Path, schema: &Schema, batches: &[RecordBatch]) -> Result<()> {
    // The rows' own schema where there are rows: a plan's may differ from it in nullability.
    let schema = batches.first().map_or_else(|| schema.clone(), |batch| batch.schema().as_ref().clone());
    let mut writer = FileWriter::try_new(File::create(path)?, &schema)?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    Ok(writer.finish()?)
}

/// The files of a folder with an extension, in order of their names.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    if files.is_empty() {
        return Err(format!("{} holds no .{extension} file", folder.display()).into());
    }
    Ok(files)
}

fn stem(path: &Path) -> Result<&str> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.ok_or_else(|| format!("{} has no name in UTF-8", path.display()).into())
}
