//! What a sink returns: one row per file.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use serde::{Deserialize, Serialize};

use crate::error::{ConnectorError, Result};
use crate::files::PartitionValues;

static FILES_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("partition_values", DataType::Utf8, false),
        Field::new("num_rows", DataType::UInt64, false),
        Field::new("size_bytes", DataType::UInt64, false),
        Field::new("stats", DataType::Utf8, false),
    ]))
});

/// A file that a sink wrote and nobody has committed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Relative to the sink's location.
    pub path: String,
    /// One value per partition column.
    pub partition_values: PartitionValues,
    /// Rows in it.
    pub num_rows: u64,
    /// Bytes on the store.
    pub size_bytes: u64,
    /// Delta's JSON of its statistics.
    pub stats: String,
}

/// The schema of a sink's rows: `path`, `partition_values` (a JSON array), `num_rows`, `size_bytes`, `stats`.
pub fn files_schema() -> SchemaRef {
    Arc::clone(&FILES_SCHEMA)
}

/// Reads the rows of a sink, sorted by path.
///
/// # Errors
/// `Internal` when the batches are not a sink's.
pub fn table_of_files(batches: &[RecordBatch]) -> Result<Vec<WrittenFile>> {
    let mut files = Vec::new();
    for batch in batches {
        files.extend(of_batch(batch)?);
    }
    files.sort_by(|a: &WrittenFile, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The rows of `files`.
pub(super) fn to_batch(files: &[WrittenFile]) -> Result<RecordBatch> {
    let values: Vec<String> =
        files.iter().map(|file| serde_json::to_string(&file.partition_values).unwrap_or_default()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(files.iter().map(|file| &file.path))),
        Arc::new(StringArray::from(values)),
        Arc::new(UInt64Array::from_iter_values(files.iter().map(|file| file.num_rows))),
        Arc::new(UInt64Array::from_iter_values(files.iter().map(|file| file.size_bytes))),
        Arc::new(StringArray::from_iter_values(files.iter().map(|file| &file.stats))),
    ];
    RecordBatch::try_new(files_schema(), columns)
        .map_err(|error| ConnectorError::internal(format!("a sink's rows: {error}")))
}

fn of_batch(batch: &RecordBatch) -> Result<Vec<WrittenFile>> {
    let wrong = || ConnectorError::internal(format!("expected a sink's rows, got {:?}", batch.schema()));
    let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(wrong);
    let number =
        |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<UInt64Type>()).ok_or_else(wrong);
    let (paths, values, stats) = (text("path")?, text("partition_values")?, text("stats")?);
    let (rows, sizes) = (number("num_rows")?, number("size_bytes")?);
    (0..batch.num_rows())
        .map(|index| {
            Ok(WrittenFile {
                path: paths.value(index).to_owned(),
                partition_values: serde_json::from_str(values.value(index)).map_err(|_| wrong())?,
                num_rows: rows.value(index),
                size_bytes: sizes.value(index),
                stats: stats.value(index).to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_survive_the_way_through_rows() {
        let file = |path: &str| WrittenFile {
            path: path.into(),
            partition_values: PartitionValues(vec![Some("a\"b".into()), None]),
            num_rows: u64::MAX,
            size_bytes: 0,
            stats: "{}".into(),
        };
        let batch = to_batch(&[file("b"), file("a")]).unwrap();
        assert_eq!(table_of_files(&[batch]).unwrap(), [file("a"), file("b")]);
    }
}
