//! Writing to the warehouse: rows are written in parallel as files, then one commit makes them the table's.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, UInt64Array};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use serde_json::Value;
use tidemill_connectors::delta::{CommitRequest, DeltaOperation, DeltaTable, TableDefinition};
use tidemill_connectors::files::PartitionValues;
use tidemill_connectors::sink::{SinkFormat, SinkSpec, WrittenFile, discard_run, table_of_files};
use tidemill_connectors::stores::Location;

use uuid::Uuid;

use super::Session;
use crate::plan::write::WriteNode;
use crate::{EngineError, Result};

/// What a write does to the rows that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteMode {
    /// Keeps them.
    Append,
    /// Puts the new ones in their place.
    Replace,
    /// Puts the new ones in the place of exactly these partitions, those that get no row included.
    ReplacePartitions {
        /// The partition column.
        column: String,
        /// Its values, as Delta writes them (`2013-11-05`).
        values: BTreeSet<String>,
    },
}

impl WriteMode {
    fn operation(self) -> DeltaOperation {
        match self {
            Self::Append => DeltaOperation::Append,
            Self::Replace => DeltaOperation::OverwriteAll,
            Self::ReplacePartitions { values, .. } => DeltaOperation::OverwritePartitions(
                values.into_iter().map(|v| PartitionValues(vec![Some(v)])).collect(),
            ),
        }
    }
}

/// What a commit says besides its files.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommitNote {
    /// Kept with the commit in the table's log.
    pub(crate) metadata: Value,
    /// The version that the rows were computed from, where they were: one that was committed since and wrote what this
    /// one replaces is a conflict.
    pub(crate) read_version: Option<u64>,
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Written {
    /// The table's version after the commit.
    pub version: u64,
    /// Rows written.
    pub n_rows: u64,
    /// Files written.
    pub n_files: u64,
    /// The table's location.
    pub location: String,
}

impl Session {
    /// Writes the rows to a table of the warehouse, creating it when there is none: all of them or none.
    ///
    /// # Errors
    /// Rows that do not fit the table's columns, a store that cannot be written, a conflicting commit.
    pub async fn write_table(&self, df: DataFrame, name: &str, mode: WriteMode) -> Result<Written> {
        let (_, plan) = df.into_parts();
        let plan = self.with_models(plan, crate::jobs::Device::Cpu, Default::default()).await?;
        self.write_plan(plan, name, mode, CommitNote::default()).await
    }

    pub(crate) async fn write_plan(
        &self,
        plan: LogicalPlan,
        name: &str,
        mode: WriteMode,
        note: CommitNote,
    ) -> Result<Written> {
        let location = self.warehouse().table(name);
        let partition_by = match &mode {
            WriteMode::ReplacePartitions { column, .. } => vec![column.clone()],
            WriteMode::Append | WriteMode::Replace => self.partition_columns(&location).await?,
        };
        let definition = TableDefinition { schema: Arc::new(plan.schema().as_arrow().clone()), partition_by };
        let spec = SinkSpec::new(location.to_string(), SinkFormat::Delta, Uuid::now_v7().to_string())
            .with_partition_by(definition.partition_by.iter().cloned());
        let added = self.write_files(plan, &spec).await?;
        let (n_rows, n_files) = (added.iter().map(|f| f.num_rows).sum(), added.len() as u64);
        let mut request = CommitRequest::new(mode.operation(), added);
        request.app_metadata = note.metadata;
        request.read_version = note.read_version;
        let committed = DeltaTable::commit(&location, &definition, &request).await?;
        Ok(Written { version: committed.version, n_rows, n_files, location: location.to_string() })
    }

    async fn partition_columns(&self, location: &Location) -> Result<Vec<String>> {
        Ok(match DeltaTable::open(location).await? {
            Some(table) => table.snapshot(None).await?.partition_columns().to_vec(),
            None => Vec::new(),
        })
    }

    /// Writes a plan's rows as files that nobody sees yet; on an error what was written is deleted.
    pub(crate) async fn write_files(&self, plan: LogicalPlan, spec: &SinkSpec) -> Result<Vec<WrittenFile>> {
        let result = match WriteNode::plan(plan, spec.clone()) {
            Ok(plan) => self.data_frame(plan).collect().await,
            Err(e) => Err(e),
        };
        match result {
            Ok(batches) => Ok(table_of_files(&batches)?),
            Err(e) => {
                let location = Location::parse(&spec.location)?;
                if let Err(cleanup) = discard_run(&location, &spec.run_id, &[]).await {
                    tracing::warn!(%cleanup, "files of a write that failed stay behind");
                }
                Err(e.into())
            }
        }
    }

    pub(super) async fn drop_table(&self, name: &str) -> Result<()> {
        let location = self.warehouse().table(name);
        for file in location.list().await? {
            location.at(&file.location).delete().await?;
        }
        self.context().deregister_table(name)?;
        Ok(())
    }

    /// A DataFrame of one row that says what was done.
    pub(super) fn report(&self, what: &str, n: u64) -> Result<DataFrame> {
        let count: arrow::array::ArrayRef = Arc::new(UInt64Array::from(vec![n]));
        let what: arrow::array::ArrayRef = Arc::new(StringArray::from(vec![what]));
        let batch = RecordBatch::try_from_iter([("changed", what), ("count", count)])?;
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        Ok(SessionContext::new().read_table(Arc::new(table))?)
    }

    /// Whether a table was registered in the session itself, and not brought from the warehouse.
    pub(super) fn is_own_table(&self, name: &str) -> Result<bool> {
        let known = self.context().table_exist(name)?;
        let brought = self.inner.brought.lock().map_err(|_| EngineError::Internal("a lock is poisoned".to_owned()))?;
        Ok(known && !brought.contains(name))
    }

    pub(super) fn register_warehouse(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.register(name, table)?;
        let mut brought =
            self.inner.brought.lock().map_err(|_| EngineError::Internal("a lock is poisoned".to_owned()))?;
        brought.insert(name.to_owned());
        Ok(())
    }
}
