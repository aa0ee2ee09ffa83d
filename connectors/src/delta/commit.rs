//! Committing to a Delta table: one conditional put of the next log entry.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use deltalake_core::checkpoints::create_checkpoint;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, Add, CommitInfo, EagerSnapshot, Protocol, StructType, new_metadata};
use deltalake_core::logstore::{CommitOrBytes, get_actions};
use serde_json::{Value, json};
use uuid::Uuid;

use super::conflict::conflict;
use super::protocol::check_writable;
use super::schema::{check_partitions, has_timestamp_ntz, table_schema};
use super::table::{DeltaTable, schema_of};
use crate::error::{ConnectorError, Result};
use crate::files::{PartitionValues, schema_difference};
use crate::sink::WrittenFile;
use crate::stores::Location;

/// Where a commit's entry keeps the caller's metadata.
pub(super) const APP_METADATA_KEY: &str = "tidemill";
/// A commit that finds its number taken this often in a row gives up.
const MAX_ATTEMPTS: usize = 100;
/// A checkpoint is written every so many versions, so that opening reads few entries.
const CHECKPOINT_INTERVAL: u64 = 25;

/// What a commit does with the rows that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeltaOperation {
    /// Keeps them.
    Append,
    /// Replaces exactly these partitions, those for which no file was written included.
    OverwritePartitions(Vec<PartitionValues>),
    /// Replaces all.
    OverwriteAll,
}

impl DeltaOperation {
    pub(super) fn replaces(&self, values: &PartitionValues) -> bool {
        match self {
            Self::Append => false,
            Self::OverwritePartitions(partitions) => partitions.contains(values),
            Self::OverwriteAll => true,
        }
    }

    fn mode(&self) -> &'static str {
        match self {
            Self::Append => "Append",
            _ => "Overwrite",
        }
    }
}

/// Schema and partitioning: what a table is created with, and what a write to it must agree with.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// All columns, partition columns included; made Delta's by [`table_schema`].
    pub schema: SchemaRef,
    /// Names of the partition columns, in order.
    pub partition_by: Vec<String>,
}

/// The identity of a write that may be replayed: a version of an application that was committed once
/// is not committed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The application, a stream's name for instance.
    pub app_id: String,
    /// Grows with each commit of the application.
    pub version: i64,
}

/// A commit.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// What happens to the rows that are there.
    pub operation: DeltaOperation,
    /// The files to add, already written below the table's location.
    pub added: Vec<WrittenFile>,
    /// Kept with the commit: run, plan hash and the like. Shown by [`DeltaTable::history`].
    pub app_metadata: Value,
    /// The version that the rows were computed from. A commit since then that wrote what this one
    /// replaces is a conflict. None: the version that is the latest when the commit begins.
    pub read_version: Option<u64>,
    /// Makes the commit idempotent.
    pub transaction: Option<Transaction>,
}

impl CommitRequest {
    /// A commit of `added` files without metadata, read version and transaction.
    pub fn new(operation: DeltaOperation, added: Vec<WrittenFile>) -> Self {
        Self { operation, added, app_metadata: Value::Null, read_version: None, transaction: None }
    }
}

/// What a commit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The version that it made, or that was the latest when the transaction was found committed.
    pub version: u64,
    /// Files that it removed.
    pub removed_files: usize,
    /// True when the transaction had been committed before and nothing was done.
    pub already_committed: bool,
}

impl DeltaTable {
    /// Creates an empty table, or opens the one that is there after checking that it agrees.
    ///
    /// # Errors
    /// `InvalidInput` for a schema that Delta cannot hold, or that is not the table's.
    pub async fn create(location: &Location, definition: &TableDefinition) -> Result<Self> {
        if Self::open(location).await?.is_none() {
            let request = CommitRequest::new(DeltaOperation::Append, vec![]);
            Self::commit(location, definition, &request).await?;
        }
        let table = Self::at(location)?;
        check_definition(location, &table.load(None).await?, definition)?;
        Ok(table)
    }

    /// Commits files that were written, creating the table in the same commit where there is none.
    ///
    /// Either all of it is visible afterwards or nothing. A commit that lands in between is no
    /// obstacle unless it wrote what this one replaces; then the error says so and nothing is done.
    ///
    /// # Errors
    /// `Conflict` as said; `InvalidInput` for another schema (naming the column), other partition
    /// columns, a file outside the partitions to be replaced, or a table with unsupported features.
    pub async fn commit(
        location: &Location,
        definition: &TableDefinition,
        request: &CommitRequest,
    ) -> Result<Committed> {
        let definition = TableDefinition {
            schema: table_schema(&definition.schema)?,
            partition_by: definition.partition_by.clone(),
        };
        check_partitions(&definition.schema, &definition.partition_by)?;
        check_added(&definition.partition_by, request)?;
        let mut unchecked = request.read_version.map(|version| version + 1);
        for _ in 0..MAX_ATTEMPTS {
            let attempt = match Self::open(location).await? {
                None => Attempt::first(location, &definition, request)?,
                Some(table) => match table.next(&definition, request, &mut unchecked).await? {
                    Next::Done(committed) => return Ok(committed),
                    Next::Attempt(attempt) => attempt,
                },
            };
            let version = attempt.version;
            if let Some(committed) = attempt.put().await? {
                return Ok(committed);
            }
            unchecked.get_or_insert(version);
        }
        Err(ConnectorError::conflict(format!("{location}: lost {MAX_ATTEMPTS} races for the next version in a row")))
    }

    /// The next entry on top of the latest version, once nothing stands in its way.
    async fn next(
        self,
        definition: &TableDefinition,
        request: &CommitRequest,
        unchecked: &mut Option<u64>,
    ) -> Result<Next> {
        let snapshot = self.load(None).await?;
        if let Some(done) = self.already_committed(&snapshot, request).await? {
            return Ok(Next::Done(done));
        }
        check_writable(self.location(), &snapshot, request.operation != DeltaOperation::Append)?;
        check_definition(self.location(), &snapshot, definition)?;
        let next = snapshot.version() + 1;
        let versions = unchecked.unwrap_or(next)..next;
        self.check_conflicts(versions, &definition.partition_by, request).await?;
        *unchecked = Some(next);
        let mut actions = entry_head(definition, request, Some(snapshot.version()));
        let before = actions.len();
        actions.extend(removals(&snapshot, &definition.partition_by, &request.operation));
        let removed_files = actions.len() - before;
        actions.extend(additions(definition, request)?);
        Ok(Next::Attempt(Attempt { version: next, table: self, actions, removed_files }))
    }

    async fn already_committed(&self, snapshot: &EagerSnapshot, request: &CommitRequest) -> Result<Option<Committed>> {
        let Some(transaction) = &request.transaction else {
            return Ok(None);
        };
        let last = snapshot.transaction_version(self.log_store().as_ref(), &transaction.app_id).await;
        let last = last.map_err(|error| self.failed("reading the log of", error))?;
        Ok(last.is_some_and(|last| last >= transaction.version).then(|| Committed {
            version: snapshot.version(),
            removed_files: 0,
            already_committed: true,
        }))
    }

    async fn check_conflicts(
        &self,
        versions: Range<u64>,
        partition_by: &[String],
        request: &CommitRequest,
    ) -> Result<()> {
        for version in versions {
            let bytes = self.log_store().read_commit_entry(version).await;
            let bytes = bytes.map_err(|error| self.failed("reading the log of", error))?.ok_or_else(|| {
                ConnectorError::conflict(format!(
                    "{}: version {version} is no longer in the log, and may have changed what this commit replaces",
                    self.location()
                ))
            })?;
            let landed = get_actions(version, &bytes).map_err(|error| self.failed("reading the log of", error))?;
            // The entry that creates a table changes no schema; that it agrees is checked elsewhere.
            let landed = landed
                .into_iter()
                .filter(|action| version > 0 || !matches!(action, Action::Metadata(_) | Action::Protocol(_)));
            let landed: Vec<Action> = landed.collect();
            if let Some(why) = conflict(&request.operation, partition_by, &landed) {
                return Err(ConnectorError::conflict(format!(
                    "{}: version {version}, committed meanwhile, {why}; run again on the new version",
                    self.location()
                )));
            }
        }
        Ok(())
    }

    /// Best effort: without a checkpoint the table is as right, and slower to open.
    async fn checkpoint(&self, version: u64) {
        let mut table = deltalake_core::DeltaTable::new(Arc::clone(self.log_store()));
        let written = async {
            table.load_version(version).await?;
            create_checkpoint(&table, None).await
        };
        if let Err(error) = Box::pin(written).await {
            tracing::warn!(table = %self.location(), version, %error, "writing a checkpoint failed");
        }
    }
}

enum Next {
    Done(Committed),
    Attempt(Attempt),
}

/// An entry about to be put.
struct Attempt {
    table: DeltaTable,
    version: u64,
    actions: Vec<Action>,
    removed_files: usize,
}

impl Attempt {
    /// The entry that creates the table.
    fn first(location: &Location, definition: &TableDefinition, request: &CommitRequest) -> Result<Self> {
        let mut actions = entry_head(definition, request, None);
        actions.push(Action::Protocol(protocol_for(&definition.schema)?));
        let schema: StructType = definition.schema.as_ref().try_into_kernel().map_err(|error| {
            ConnectorError::invalid_because(format!("{location}: not a schema for Delta: {error}"), error)
        })?;
        let metadata = new_metadata(&schema, &definition.partition_by, HashMap::<String, String>::new());
        let metadata = metadata.map_err(|error| ConnectorError::internal(format!("a table's metadata: {error}")))?;
        actions.push(Action::Metadata(metadata));
        actions.extend(additions(definition, request)?);
        Ok(Self { table: DeltaTable::at(location)?, version: 0, actions, removed_files: 0 })
    }

    /// Puts the entry; none when the number was taken.
    async fn put(self) -> Result<Option<Committed>> {
        let bytes = Bytes::from(encode(&self.actions)?);
        let entry = CommitOrBytes::LogBytes(bytes.clone());
        match self.table.log_store().write_commit_entry(self.version, entry, Uuid::new_v4()).await {
            Ok(()) => {}
            // Ours, when a put landed whose answer was lost and that was then tried again.
            Err(TransactionError::VersionAlreadyExists(_)) => {
                if self.landed().await?.is_none_or(|landed| landed != bytes) {
                    return Ok(None);
                }
            }
            Err(TransactionError::ObjectStore { source }) => {
                return Err(self.table.location().failed("committing to", source));
            }
            Err(error) => return Err(self.table.failed("committing to", error.into())),
        }
        if self.version > 0 && self.version.is_multiple_of(CHECKPOINT_INTERVAL) {
            self.table.checkpoint(self.version).await;
        }
        Ok(Some(Committed { version: self.version, removed_files: self.removed_files, already_committed: false }))
    }
}

impl Attempt {
    async fn landed(&self) -> Result<Option<Bytes>> {
        let entry = self.table.log_store().read_commit_entry(self.version).await;
        entry.map_err(|error| self.table.failed("reading the log of", error))
    }
}

fn entry_head(definition: &TableDefinition, request: &CommitRequest, read_version: Option<u64>) -> Vec<Action> {
    let operation = if read_version.is_none() && request.added.is_empty() { "CREATE TABLE" } else { "WRITE" };
    let parameters = HashMap::from([
        ("mode".to_owned(), json!(request.operation.mode())),
        ("partitionBy".to_owned(), json!(json!(definition.partition_by).to_string())),
    ]);
    let info = CommitInfo {
        timestamp: Some(chrono::Utc::now().timestamp_millis()),
        operation: Some(operation.to_owned()),
        operation_parameters: Some(parameters),
        read_version,
        is_blind_append: Some(request.operation == DeltaOperation::Append),
        engine_info: Some(concat!("tidemill/", env!("CARGO_PKG_VERSION")).to_owned()),
        info: HashMap::from([
            (APP_METADATA_KEY.to_owned(), request.app_metadata.clone()),
            // Makes every entry's bytes its own.
            ("txnId".to_owned(), json!(Uuid::new_v4().to_string())),
        ]),
        ..CommitInfo::default()
    };
    let mut actions = vec![Action::CommitInfo(info)];
    if let Some(Transaction { app_id, version }) = &request.transaction {
        actions.push(Action::Txn(deltalake_core::kernel::Transaction::new(app_id, *version)));
    }
    actions
}

/// Removals of the files that the operation replaces, in the order of their paths.
fn removals(snapshot: &EagerSnapshot, partition_by: &[String], operation: &DeltaOperation) -> Vec<Action> {
    let files = snapshot.log_data();
    let replaced = files.iter().filter_map(|view| {
        let values = PartitionValues::ordered(partition_by, &view.partition_values_map());
        operation.replaces(&values).then(|| view.remove_action(true))
    });
    let sorted: BTreeMap<String, Action> =
        replaced.map(|remove| (remove.path.clone(), Action::Remove(remove))).collect();
    sorted.into_values().collect()
}

fn additions(definition: &TableDefinition, request: &CommitRequest) -> Result<Vec<Action>> {
    let now = chrono::Utc::now().timestamp_millis();
    request
        .added
        .iter()
        .map(|file| {
            let size = i64::try_from(file.size_bytes)
                .map_err(|_| ConnectorError::internal(format!("{} has {} bytes", file.path, file.size_bytes)))?;
            Ok(Action::Add(Add {
                path: file.path.clone(),
                partition_values: definition
                    .partition_by
                    .iter()
                    .cloned()
                    .zip(file.partition_values.0.iter().cloned())
                    .collect(),
                size,
                modification_time: now,
                data_change: true,
                stats: Some(file.stats.clone()),
                ..Add::default()
            }))
        })
        .collect()
}

/// Reader 1, writer 2: what every Delta reader knows. Only a timestamp without time zone needs more.
fn protocol_for(schema: &Schema) -> Result<Protocol> {
    let json = if has_timestamp_ntz(schema.fields()) {
        json!({"minReaderVersion": 3, "minWriterVersion": 7,
               "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]})
    } else {
        json!({"minReaderVersion": 1, "minWriterVersion": 2})
    };
    serde_json::from_value(json).map_err(|error| ConnectorError::internal(format!("a table's protocol: {error}")))
}

fn check_definition(location: &Location, snapshot: &EagerSnapshot, definition: &TableDefinition) -> Result<()> {
    let written = table_schema(&definition.schema)?;
    if let Some(difference) = schema_difference(&schema_of(snapshot), &written) {
        return Err(ConnectorError::invalid(format!(
            "{location} has another schema than what is written to it: {difference}"
        )));
    }
    let columns = snapshot.metadata().partition_columns().to_vec();
    if columns != definition.partition_by {
        return Err(ConnectorError::invalid(format!(
            "{location} is partitioned by {columns:?}, got {:?}",
            definition.partition_by
        )));
    }
    Ok(())
}

/// Each file has a value per partition column and lies in a partition that is replaced.
fn check_added(partition_by: &[String], request: &CommitRequest) -> Result<()> {
    let replaced = match &request.operation {
        DeltaOperation::OverwritePartitions(partitions) => Some(partitions),
        _ => None,
    };
    let given = request.added.iter().map(|file| &file.partition_values);
    for values in given.chain(replaced.into_iter().flatten()) {
        if values.0.len() != partition_by.len() {
            return Err(ConnectorError::invalid(format!("partition {values}: expected values for {partition_by:?}")));
        }
    }
    let outside = request
        .added
        .iter()
        .find(|file| replaced.is_some_and(|partitions| !partitions.contains(&file.partition_values)));
    match outside {
        None => Ok(()),
        Some(file) => Err(ConnectorError::invalid(format!(
            "rows were written to the partition {}, which is not among those to be replaced",
            file.partition_values
        ))),
    }
}

fn encode(actions: &[Action]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (index, action) in actions.iter().enumerate() {
        if index > 0 {
            bytes.push(b'\n');
        }
        serde_json::to_writer(&mut bytes, action)
            .map_err(|error| ConnectorError::internal(format!("encoding a commit: {error}")))?;
    }
    Ok(bytes)
}
