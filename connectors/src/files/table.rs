//! The table provider over a pinned list of Parquet files.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::scalar::ScalarValue;
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{partition, stats};
use crate::error::{ConnectorError, Result};
use crate::stores::Location;

/// What the list of files was taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// A Parquet file or a directory of them.
    Parquet,
    /// A Delta table at this version.
    Delta {
        /// The version of the snapshot.
        version: u64,
    },
}

/// One file of a table, as it was when the table was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFile {
    /// The path within the store.
    pub path: String,
    /// Bytes on the store.
    pub size: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub last_modified_ms: i64,
    /// The store's tag of the content, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// One value per partition column, as Hive and Delta write them; none is null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_values: Vec<Option<String>>,
    /// Rows, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_rows: Option<u64>,
    /// Bounds and null counts of columns, in Delta's JSON for file statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
}

/// A table over a fixed list of Parquet files. Cheap to clone.
///
/// Filters prune files by partition values and statistics, and are pushed into the Parquet reader;
/// both are inexact, so DataFusion filters again. Row counts are exact where all files know theirs,
/// which is what join planning and `count(*)` go by. Rows come in no defined order.
#[derive(Debug, Clone)]
pub struct FileTable {
    pub(super) inner: Arc<Pinned>,
}

#[derive(Debug, Clone)]
pub(super) struct Pinned {
    pub(super) location: Location,
    pub(super) format: TableFormat,
    /// All columns, in the table's own order.
    pub(super) schema: SchemaRef,
    /// Names of the columns that are not in the files.
    pub(super) partition_columns: Vec<String>,
    pub(super) files: Vec<PinnedFile>,
}

impl FileTable {
    /// A table of `files`. `schema` holds all columns, those of `partition_columns` included.
    ///
    /// # Errors
    /// `Internal` when a partition column is not in the schema or a file has not one value for each.
    pub fn try_new(
        location: Location,
        format: TableFormat,
        schema: SchemaRef,
        partition_columns: Vec<String>,
        mut files: Vec<PinnedFile>,
    ) -> Result<Self> {
        for name in &partition_columns {
            if schema.index_of(name).is_err() {
                return Err(ConnectorError::internal(format!(
                    "{location}: partition column {name:?} is not in the schema"
                )));
            }
        }
        if let Some(file) = files.iter().find(|f| f.partition_values.len() != partition_columns.len()) {
            return Err(ConnectorError::internal(format!(
                "{}: expected {} partition values, got {}",
                file.path,
                partition_columns.len(),
                file.partition_values.len()
            )));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { inner: Arc::new(Pinned { location, format, schema, partition_columns, files }) })
    }

    /// Where it lies.
    pub fn location(&self) -> &Location {
        &self.inner.location
    }

    /// What the list of files was taken from.
    pub fn format(&self) -> &TableFormat {
        &self.inner.format
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[PinnedFile] {
        &self.inner.files
    }

    /// Names of the partition columns, in the order of the files' values.
    pub fn partition_columns(&self) -> &[String] {
        &self.inner.partition_columns
    }

    /// Rows in all files, where all know theirs.
    pub fn num_rows(&self) -> Option<u64> {
        self.inner.files.iter().map(|file| file.num_rows).sum()
    }

    /// Bytes of all files on the store.
    pub fn size_bytes(&self) -> u64 {
        self.inner.files.iter().map(|file| file.size).sum()
    }

    /// Schema of the files and fields of the partition columns: what the reader is given.
    pub(super) fn scan_schema(&self) -> (SchemaRef, Vec<FieldRef>) {
        let is_partition = |field: &FieldRef| self.inner.partition_columns.contains(field.name());
        let in_files: Vec<FieldRef> = self.inner.schema.fields().iter().filter(|f| !is_partition(f)).cloned().collect();
        let partitions = self
            .inner
            .partition_columns
            .iter()
            .filter_map(|name| self.inner.schema.field_with_name(name).ok())
            .map(|field: &Field| Arc::new(field.clone()))
            .collect();
        (Arc::new(Schema::new(in_files)), partitions)
    }

    fn partitioned_files(&self, fields: &(SchemaRef, Vec<FieldRef>)) -> Result<Vec<PartitionedFile>> {
        let (file_schema, partition_fields) = fields;
        self.inner
            .files
            .iter()
            .map(|file| {
                let values = partition::parse_all(partition_fields, &file.partition_values)
                    .map_err(|e| ConnectorError::invalid(format!("{}: {e}", file.path)))?;
                let mut found = stats::parse(file.stats.as_deref(), file.num_rows, file.size, file_schema);
                let columns = values.iter().map(|value| constant_column(value, file.num_rows));
                found.column_statistics.extend(columns);
                let mut partitioned = PartitionedFile::new_from_meta(file.object_meta());
                partitioned.partition_values = values;
                // Set directly: `with_statistics` takes partition values for never null.
                partitioned.statistics = Some(Arc::new(found));
                Ok(partitioned)
            })
            .collect()
    }

    /// The scan's column indices of `projection`, which is by the table's own order.
    fn scan_projection(&self, projection: Option<&Vec<usize>>, scanned: &Schema) -> DataFusionResult<Vec<usize>> {
        let all: Vec<usize> = (0..self.inner.schema.fields().len()).collect();
        projection
            .unwrap_or(&all)
            .iter()
            .map(|index| Ok(scanned.index_of(self.inner.schema.field(*index).name())?))
            .collect()
    }
}

impl PinnedFile {
    /// As DataFusion and object_store know it.
    pub(super) fn object_meta(&self) -> ObjectMeta {
        ObjectMeta {
            // Taken literally: `Path::from` would escape the escapes of a partition directory.
            location: Path::parse(&self.path).unwrap_or_else(|_| Path::from(self.path.as_str())),
            last_modified: chrono::DateTime::from_timestamp_millis(self.last_modified_ms).unwrap_or_default(),
            size: self.size,
            e_tag: self.e_tag.clone(),
            version: None,
        }
    }
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.inner.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let fields = self.scan_schema();
        let table_schema = table_schema(&fields);
        let scanned = Arc::clone(table_schema.table_schema());
        let columns = self.scan_projection(projection, &scanned)?;
        let files = prune(state, self.partitioned_files(&fields)?, &scanned, filters)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(scanned.project(&columns)?))));
        }
        let format =
            ParquetFormat::default().with_options(state.default_table_options().parquet).with_force_view_types(false);
        let statistics = total(&files, &scanned)?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions().max(1));
        let config = FileScanConfigBuilder::new(self.inner.location.store_url()?, format.file_source(table_schema))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(columns))?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, config).await
    }

    fn statistics(&self) -> Option<Statistics> {
        let fields = self.scan_schema();
        let files = self.partitioned_files(&fields).ok()?;
        let scanned = table_schema(&fields);
        let total = total(&files, scanned.table_schema()).ok()?;
        let columns = self.scan_projection(None, scanned.table_schema()).ok()?;
        Some(Statistics {
            column_statistics: columns
                .iter()
                .filter_map(|index| total.column_statistics.get(*index).cloned())
                .collect(),
            ..total
        })
    }
}

fn table_schema((files, partitions): &(SchemaRef, Vec<FieldRef>)) -> TableSchema {
    TableSchema::builder(Arc::clone(files)).with_table_partition_cols(partitions.clone()).build()
}

/// The files that may hold rows for which all `filters` are true.
fn prune(
    state: &dyn Session,
    files: Vec<PartitionedFile>,
    schema: &SchemaRef,
    filters: &[Expr],
) -> DataFusionResult<Vec<PartitionedFile>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else {
        return Ok(files);
    };
    let df_schema = DFSchema::try_from(Arc::clone(schema))?;
    let Ok(expr) = state.create_physical_expr(filter, &df_schema) else {
        return Ok(files); // a filter that cannot be evaluated here is evaluated above the scan
    };
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(expr)?;
    let bounds = files.iter().filter_map(|f| f.statistics.as_deref()).map(as_bounds).collect();
    let keep = predicate.prune(&PrunableStatistics::new(bounds, Arc::clone(schema)))?;
    Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
}

/// DataFusion prunes by exact values alone; a bound that is not attained prunes as well.
fn as_bounds(found: &Statistics) -> Arc<Statistics> {
    let mut bounds = found.clone();
    for column in &mut bounds.column_statistics {
        column.min_value = exact(&column.min_value);
        column.max_value = exact(&column.max_value);
    }
    Arc::new(bounds)
}

fn exact(value: &Precision<ScalarValue>) -> Precision<ScalarValue> {
    value.get_value().map_or(Precision::Absent, |v| Precision::Exact(v.clone()))
}

fn total(files: &[PartitionedFile], schema: &SchemaRef) -> DataFusionResult<Statistics> {
    Statistics::try_merge_iter(files.iter().filter_map(|file| file.statistics.as_deref()), schema)
}

/// Statistics of a column that has one value in the whole file.
fn constant_column(value: &ScalarValue, num_rows: Option<u64>) -> ColumnStatistics {
    let mut column = ColumnStatistics::new_unknown();
    if value.is_null() {
        let rows = num_rows.and_then(|rows| usize::try_from(rows).ok());
        column.null_count = rows.map_or(Precision::Absent, Precision::Exact);
    } else {
        column.null_count = Precision::Exact(0);
        column.min_value = Precision::Exact(value.clone());
        column.max_value = Precision::Exact(value.clone());
    }
    column
}
