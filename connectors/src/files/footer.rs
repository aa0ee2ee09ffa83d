//! What a Parquet footer says about its file.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::ColumnStatistics;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::DataFusionError;
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;

use super::stats;
use crate::error::{ConnectorError, Result};

/// A file's Arrow schema (without metadata) and statistics.
pub(super) struct Footer {
    pub(super) schema: SchemaRef,
    pub(super) num_rows: u64,
    pub(super) stats: String,
}

/// Reads the footer of one object.
///
/// # Errors
/// `InvalidInput` when it is not Parquet, or is cut short.
pub(super) async fn read(store: Arc<dyn ObjectStore>, meta: &ObjectMeta, name: &str) -> Result<Footer> {
    // Eight bytes end each Parquet file and four begin it.
    if meta.size < 12 {
        return Err(ConnectorError::invalid(format!(
            "{name} is not a Parquet file: it has {} bytes, expected at least 12",
            meta.size
        )));
    }
    match DFParquetMetadata::new(store.as_ref(), meta).fetch_metadata().await {
        Ok(metadata) => of_metadata(&metadata, name),
        Err(error) => Err(unreadable(store.as_ref(), meta, name, error).await),
    }
}

fn of_metadata(metadata: &ParquetMetaData, name: &str) -> Result<Footer> {
    let file = metadata.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|error| ConnectorError::invalid_because(format!("{name}: unsupported schema: {error}"), error))?;
    let schema = Arc::new(Schema::new(schema.fields().iter().map(without_views).collect::<Vec<_>>()));
    Ok(Footer {
        num_rows: u64::try_from(file.num_rows()).unwrap_or_default(),
        stats: stats_of(metadata, &schema),
        schema,
    })
}

/// Views become plain strings and bytes: on a cluster each shuffled batch of views ships its whole buffers.
fn without_views(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        DataType::BinaryView => Arc::new(field.as_ref().clone().with_data_type(DataType::Binary)),
        _ => Arc::clone(field),
    }
}

/// Delta's JSON for the statistics in a footer.
pub(crate) fn stats_of(metadata: &ParquetMetaData, schema: &SchemaRef) -> String {
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
    let Ok(mut found) = DFParquetMetadata::statistics_from_parquet_metadata(metadata, schema) else {
        return stats::rows_to_json(rows);
    };
    // DataFusion takes a column without statistics for all null; here it is unknown.
    let known = columns_with_statistics(metadata);
    for (field, column) in schema.fields().iter().zip(&mut found.column_statistics) {
        if !known.contains(field.name().as_str()) {
            *column = ColumnStatistics::new_unknown();
        }
    }
    stats::to_json(&found, schema)
}

fn columns_with_statistics(metadata: &ParquetMetaData) -> HashSet<&str> {
    let groups = metadata.row_groups();
    let Some(first) = groups.first() else {
        return HashSet::new();
    };
    (0..first.num_columns())
        .filter(|index| {
            groups.iter().all(|group| group.column(*index).statistics().is_some_and(|s| s.null_count_opt().is_some()))
        })
        .map(|index| first.column(index).column_path().parts())
        .filter_map(|parts| match parts {
            [name] => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// Tells a truncated file from one that never was Parquet, and both from a store that failed.
async fn unreadable(store: &dyn ObjectStore, meta: &ObjectMeta, name: &str, error: DataFusionError) -> ConnectorError {
    use object_store::ObjectStoreExt;
    match store.get_range(&meta.location, 0..4).await {
        Ok(magic) if magic.as_ref() == b"PAR1" => ConnectorError::invalid_because(
            format!("{name} is a truncated or damaged Parquet file of {} bytes: {error}", meta.size),
            error,
        ),
        Ok(_) => ConnectorError::invalid_because(format!("{name} is not a Parquet file: {error}"), error),
        Err(failed) => ConnectorError::from_store(format!("reading {name}"), failed),
    }
}
