//! `tidemill sql`.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tidemill::report;
use tidemill_engine::progress::Silent;

use super::args::{Global, RowFormat, SqlArgs};
use super::error::{CliError, Result};
use super::output::{self, Output};
use super::{session, statements};

/// The most rows of a table: it is laid out in memory, and nobody reads on.
const MAX_TABLE_ROWS: usize = 10_000;

/// Runs SQL and writes the rows of each statement.
pub(crate) async fn sql(global: &Global, args: SqlArgs, output: &Arc<Output>) -> Result<()> {
    let text = text(&args)?;
    let statements = statements::split(&text);
    if statements.is_empty() {
        return Err(CliError::Usage("no SQL given; e.g. tidemill sql -c 'select 1'".to_owned()));
    }
    let json = if output.is_json() { RowFormat::Json } else { RowFormat::Table };
    let format = args.format.unwrap_or(json);
    let session = session::open(global, Arc::new(Silent)).await?;
    for statement in statements {
        let rows = Box::pin(session.sql(&statement)).await?;
        Box::pin(write_rows(rows, format, output)).await?;
    }
    Ok(())
}

fn text(args: &SqlArgs) -> Result<String> {
    match (&args.command, &args.file) {
        (Some(sql), _) => Ok(sql.clone()),
        (None, Some(path)) if path == Path::new("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|e| CliError::Usage(format!("cannot read SQL from standard input: {e}")))?;
            Ok(text)
        }
        (None, Some(path)) => {
            std::fs::read_to_string(path).map_err(|e| CliError::Usage(format!("cannot read {}: {e}", path.display())))
        }
        (None, None) => Err(CliError::Usage("give a file with SQL, - or -c".to_owned())),
    }
}

/// Runs a statement and writes its rows as they come; the table once they are there.
pub(crate) async fn write_rows(rows: DataFrame, format: RowFormat, output: &Output) -> Result<()> {
    let schema: SchemaRef = Arc::clone(rows.schema().inner());
    let mut stream = rows.execute_stream().await?;
    if schema.fields().is_empty() {
        while let Some(batch) = stream.next().await {
            batch?;
        }
        output.hint("done");
        return Ok(());
    }
    match format {
        RowFormat::Table => write_table(schema, stream, output).await,
        RowFormat::Csv => write_csv(&schema, stream).await,
        RowFormat::Json => write_json(stream).await,
    }
}

async fn write_table(schema: SchemaRef, mut stream: SendableRecordBatchStream, output: &Output) -> Result<()> {
    let (mut batches, mut n_rows): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
    while n_rows < MAX_TABLE_ROWS {
        let Some(batch) = stream.next().await.transpose()? else { break };
        let batch = batch.slice(0, batch.num_rows().min(MAX_TABLE_ROWS - n_rows));
        n_rows += batch.num_rows();
        batches.push(batch);
    }
    let table = pretty_format_batches_with_schema(schema, &batches).map_err(arrow_error)?;
    output.line(table)?;
    if n_rows == MAX_TABLE_ROWS {
        let shown = report::thousands(MAX_TABLE_ROWS as u64);
        output.hint(format_args!("the first {shown} rows; --format csv or json writes all"));
    }
    Ok(())
}

async fn write_csv(schema: &SchemaRef, mut stream: SendableRecordBatchStream) -> Result<()> {
    let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(output::stdout());
    // A header even when there are no rows.
    writer.write(&RecordBatch::new_empty(Arc::clone(schema))).map_err(arrow_error)?;
    while let Some(batch) = stream.next().await {
        writer.write(&batch?).map_err(arrow_error)?;
    }
    writer.into_inner().flush().map_err(output::closed)
}

async fn write_json(mut stream: SendableRecordBatchStream) -> Result<()> {
    let mut writer = arrow::json::LineDelimitedWriter::new(output::stdout());
    while let Some(batch) = stream.next().await {
        writer.write(&batch?).map_err(arrow_error)?;
    }
    writer.finish().map_err(arrow_error)?;
    writer.into_inner().flush().map_err(output::closed)
}

fn arrow_error(e: arrow::error::ArrowError) -> CliError {
    match e {
        arrow::error::ArrowError::IoError(_, e) => output::closed(e),
        // The CSV writer wraps what standard output said in its own text.
        arrow::error::ArrowError::CsvError(m) if m.contains("Broken pipe") => CliError::Closed,
        e => CliError::Failed(format!("cannot write the rows: {e}")),
    }
}
