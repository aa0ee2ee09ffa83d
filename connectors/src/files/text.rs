//! CSV and JSON lines, read through DataFusion's listing tables.

use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};

use crate::error::{ConnectorError, Result};
use crate::stores::Location;

/// How text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Comma-separated, with a header line or without.
    Csv {
        /// Whether the first line names the columns.
        has_header: bool,
    },
    /// One JSON object per line.
    JsonLines,
}

/// Opens a CSV or JSON-lines file, or a directory of them; types are inferred from the first rows.
///
/// `state` must find the location's store, as one over [`crate::stores::runtime_env`] does.
///
/// # Errors
/// `NotFound` where there is no file; `InvalidInput` when the text cannot be parsed.
pub async fn open_text(state: &dyn Session, location: &Location, format: TextFormat) -> Result<Arc<dyn TableProvider>> {
    let url = match location.is_directory().await? {
        true => location.directory_url(),
        false if location.head().await?.is_some() => location.url().clone(),
        false => return Err(ConnectorError::not_found(format!("{location}: no such file or directory"))),
    };
    let refused = |error: datafusion::error::DataFusionError| {
        ConnectorError::invalid_because(format!("{location}: {error}"), error)
    };
    let url = ListingTableUrl::parse(url.as_str()).map_err(refused)?;
    let options = options_of(format);
    let schema = options.infer_schema(state, &url).await.map_err(refused)?;
    let config = ListingTableConfig::new(url).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config).map_err(refused)?))
}

fn options_of(format: TextFormat) -> ListingOptions {
    let format: Arc<dyn FileFormat> = match format {
        TextFormat::Csv { has_header } => Arc::new(CsvFormat::default().with_has_header(has_header)),
        TextFormat::JsonLines => Arc::new(JsonFormat::default()),
    };
    // The extension is the caller's business: any file below the location is read.
    ListingOptions::new(format).with_file_extension("")
}
