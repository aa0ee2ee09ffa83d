//! Opening a Parquet file or a directory of them as a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::footer::{self, Footer};
use super::partition;
use super::table::{FileTable, PinnedFile, TableFormat};
use crate::error::{ConnectorError, Result};
use crate::stores::Location;

/// Footers read at a time: enough to hide an object store's latency, few enough for its limits.
const CONCURRENT_FOOTERS: usize = 16;

impl FileTable {
    /// Opens one Parquet file, or a directory of them, reading every footer.
    ///
    /// Directories named `column=value` are partition columns, typed as integer, date or text. Files
    /// and directories whose names begin with `_` or `.` are not part of the table.
    ///
    /// # Errors
    /// `NotFound` for a missing or empty place; `InvalidInput` for a file that is not Parquet, is
    /// truncated, or has another schema than the first.
    pub async fn open(location: &Location) -> Result<Self> {
        let store = location.store()?;
        let mut found = visible_files(location).await?;
        if found.is_empty() {
            found.extend(location.head().await?);
        }
        if found.is_empty() {
            return Err(ConnectorError::not_found(format!(
                "{location}: no such Parquet file, and no directory with Parquet files"
            )));
        }
        let footers = read_footers(location, store, &found).await?;
        let file_schema = one_schema(location, &found, &footers)?;
        let values = directory_values(&location.prefix(), &found);
        let names = partition_names(location, &found, &values)?;
        let schema = with_partitions(location, &file_schema, &names, &values)?;
        let files = found.iter().zip(footers).zip(values).map(pinned).collect();
        Self::try_new(location.clone(), TableFormat::Parquet, schema, names, files)
    }
}

type Values = Vec<(String, Option<String>)>;

async fn visible_files(location: &Location) -> Result<Vec<ObjectMeta>> {
    let prefix = location.prefix();
    let mut files = location.list().await?;
    files.retain(|meta| is_visible(&prefix, &meta.location));
    Ok(files)
}

fn is_visible(prefix: &Path, path: &Path) -> bool {
    path.prefix_match(prefix).is_some_and(|mut parts| {
        // A partition column's name may begin with an underscore: `_day=3` is data.
        parts.all(|part| !part.as_ref().starts_with(['_', '.']) || part.as_ref().contains('='))
    })
}

async fn read_footers(location: &Location, store: Arc<dyn ObjectStore>, found: &[ObjectMeta]) -> Result<Vec<Footer>> {
    let read = |meta| {
        let store = Arc::clone(&store);
        async move { footer::read(store, meta, &location.at(&meta.location).to_string()).await }
    };
    // Collected first: a stream that borrows through its closure is not `Send` for callers who box this.
    let reads: Vec<_> = found.iter().map(read).collect();
    stream::iter(reads).buffered(CONCURRENT_FOOTERS).try_collect().await
}

fn one_schema(location: &Location, found: &[ObjectMeta], footers: &[Footer]) -> Result<SchemaRef> {
    let first = &footers[0].schema;
    for (meta, footer) in found.iter().zip(footers).skip(1) {
        if let Some(difference) = schema_difference(first, &footer.schema) {
            return Err(ConnectorError::invalid(format!(
                "{} has another schema than {}: {difference}",
                location.at(&meta.location),
                location.at(&found[0].location)
            )));
        }
    }
    Ok(Arc::clone(first))
}

/// What makes two schemas differ in names, types or order; nullability does not.
pub(crate) fn schema_difference(expected: &Schema, got: &Schema) -> Option<String> {
    for field in expected.fields() {
        match got.field_with_name(field.name()) {
            Err(_) => return Some(format!("column {:?} is missing", field.name())),
            Ok(other) if other.data_type() != field.data_type() => {
                return Some(format!(
                    "column {:?}: expected {}, got {}",
                    field.name(),
                    field.data_type(),
                    other.data_type()
                ));
            }
            Ok(_) => {}
        }
    }
    let extra = got.fields().iter().find(|field| expected.field_with_name(field.name()).is_err());
    extra.map(|field| format!("column {:?} is not in the table", field.name()))
}

/// The `name=value` directories of each file below the table's own directory.
fn directory_values(prefix: &Path, found: &[ObjectMeta]) -> Vec<Values> {
    found
        .iter()
        .map(|meta| {
            let parts: Vec<String> = meta
                .location
                .prefix_match(prefix)
                .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect())
                .unwrap_or_default();
            let directories = parts.len().saturating_sub(1);
            parts[..directories].iter().filter_map(|part| partition::of_directory(part)).collect()
        })
        .collect()
}

fn partition_names(location: &Location, found: &[ObjectMeta], values: &[Values]) -> Result<Vec<String>> {
    let names_of = |values: &Values| -> Vec<String> { values.iter().map(|(name, _)| name.clone()).collect() };
    let names = names_of(&values[0]);
    for (meta, values) in found.iter().zip(values) {
        if names_of(values) != names {
            return Err(ConnectorError::invalid(format!(
                "{}: expected partition directories {names:?}, got {:?}",
                location.at(&meta.location),
                names_of(values)
            )));
        }
    }
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        return Err(ConnectorError::invalid(format!("{location}: a partition column occurs twice: {names:?}")));
    }
    Ok(names)
}

fn with_partitions(location: &Location, files: &SchemaRef, names: &[String], values: &[Values]) -> Result<SchemaRef> {
    let mut fields: Vec<_> = files.fields().iter().cloned().collect();
    for (index, name) in names.iter().enumerate() {
        if files.field_with_name(name).is_ok() {
            return Err(ConnectorError::invalid(format!(
                "{location}: column {name:?} is both in the files and in the names of directories"
            )));
        }
        let column: Vec<Option<&str>> = values.iter().map(|v| v[index].1.as_deref()).collect();
        fields.push(Arc::new(Field::new(name, partition::infer(&column), true)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn pinned(((meta, footer), values): ((&ObjectMeta, Footer), Values)) -> PinnedFile {
    PinnedFile {
        path: meta.location.to_string(),
        size: meta.size,
        last_modified_ms: meta.last_modified.timestamp_millis(),
        e_tag: meta.e_tag.clone(),
        partition_values: values.into_iter().map(|(_, value)| value).collect(),
        num_rows: Some(footer.num_rows),
        stats: Some(footer.stats),
    }
}
