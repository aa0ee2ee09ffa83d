//! `tidemill describe`.

use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use tidemill::dataset;
use tidemill::report;
use tidemill_engine::Session;
use tidemill_engine::progress::Silent;

use super::args::{DescribeArgs, Global};
use super::error::Result;
use super::output::Output;
use super::session;

/// The name under which a file is read.
const FILE: &str = "__described";

/// Shows the profile of a table, a file or a query's rows.
pub(crate) async fn describe(global: &Global, args: DescribeArgs, output: &Arc<Output>) -> Result<()> {
    let session = session::open(global, Arc::new(Silent)).await?;
    let profile = dataset::describe(rows(&session, args).await?).await?;
    if output.is_json() {
        return output.object(&profile.to_json()?);
    }
    output.line(format_args!("{} rows\n", report::thousands(profile.n_rows)))?;
    output.write(report::profile_table(&profile))
}

async fn rows(session: &Session, args: DescribeArgs) -> Result<DataFrame> {
    let table = match (args.sql, args.table.unwrap_or_default()) {
        (Some(sql), _) => {
            let plan = session.query(&sql).await?;
            return Ok(DataFrame::new(session.context().state(), plan));
        }
        (None, file) if file.contains('/') || file.ends_with(".parquet") => {
            session.register_parquet(FILE, &file).await?;
            FILE.to_owned()
        }
        (None, table) => table,
    };
    Ok(Box::pin(session.sql(&format!("select * from \"{}\"", table.replace('"', "\"\"")))).await?)
}
