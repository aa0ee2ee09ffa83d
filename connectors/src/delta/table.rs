//! Opening a Delta table, its snapshots and its history.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::kernel::LogicalFileView;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::protocol::check_readable;
use crate::error::{ConnectorError, Result};
use crate::files::{FileTable, PinnedFile, TableFormat, stats};
use crate::stores::Location;

/// A Delta table. Holds no snapshot: every call reads the log as it is then.
#[derive(Clone)]
pub struct DeltaTable {
    location: Location,
    log_store: LogStoreRef,
}

/// One commit of a table's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The version that the commit made.
    pub version: u64,
    /// When, in milliseconds since 1970-01-01 UTC, by the writer's clock.
    pub timestamp_ms: Option<i64>,
    /// The operation's name, as Delta writers call it (`WRITE`, `CREATE TABLE`).
    pub operation: Option<String>,
    /// What the writer recorded with it (see [`CommitRequest::app_metadata`](super::CommitRequest)).
    pub app_metadata: Value,
}

impl DeltaTable {
    /// The table at `location`, or none where there is no Delta log.
    ///
    /// # Errors
    /// A missing bucket or refused credentials.
    pub async fn open(location: &Location) -> Result<Option<Self>> {
        let exists = location.join("_delta_log").is_directory().await?;
        exists.then(|| Self::at(location)).transpose()
    }

    /// Where it lies.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The latest version.
    ///
    /// # Errors
    /// The store's.
    pub async fn latest_version(&self) -> Result<u64> {
        let version = self.log_store.get_latest_version(0).await;
        version.map_err(|error| self.failed("reading the log of", error))
    }

    /// The files of a version, the latest by default, as a table that can be queried.
    ///
    /// # Errors
    /// `NotFound` for a version that is not there; `InvalidInput` naming the feature of a table that
    /// needs one which is not supported (column mapping, files with deletion vectors and others).
    pub async fn snapshot(&self, version: Option<u64>) -> Result<FileTable> {
        let snapshot = self.load(version).await?;
        check_readable(&self.location, &snapshot)?;
        let partition_columns = snapshot.metadata().partition_columns().to_vec();
        let files =
            snapshot.log_data().iter().map(|view| self.pinned(&view, &partition_columns)).collect::<Result<_>>()?;
        let format = TableFormat::Delta { version: snapshot.version() };
        FileTable::try_new(self.location.clone(), format, schema_of(&snapshot), partition_columns, files)
    }

    /// The commits, newest first, at most `limit` of them. Entries that were cleaned up are left out.
    ///
    /// # Errors
    /// The store's.
    pub async fn history(&self, limit: Option<usize>) -> Result<Vec<HistoryEntry>> {
        let latest = self.latest_version().await?;
        let mut entries = Vec::new();
        for version in (0..=latest).rev().take(limit.unwrap_or(usize::MAX)) {
            let bytes = self.log_store.read_commit_entry(version).await;
            match bytes.map_err(|error| self.failed("reading the log of", error))? {
                Some(bytes) => entries.push(history_entry(version, &bytes)),
                None => break,
            }
        }
        Ok(entries)
    }

    pub(super) fn at(location: &Location) -> Result<Self> {
        if location.prefix().as_ref().contains('%') {
            // The log reader decodes the path once too often and would look elsewhere.
            return Err(ConnectorError::invalid(format!("{location}: the path of a Delta table must not contain %")));
        }
        let root = location.store()?;
        let prefixed: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&root), location.prefix()));
        let url = location.directory_url();
        Ok(Self {
            location: location.clone(),
            log_store: default_logstore(prefixed, root, &url, &StorageConfig::default()),
        })
    }

    pub(super) fn log_store(&self) -> &LogStoreRef {
        &self.log_store
    }

    pub(super) async fn load(&self, version: Option<u64>) -> Result<EagerSnapshot> {
        let loaded = Box::pin(EagerSnapshot::try_new(self.log_store.as_ref(), version)).await;
        match (loaded, version) {
            (Ok(snapshot), Some(version)) if snapshot.version() != version => Err(self.no_version(version)),
            (Ok(snapshot), _) => Ok(snapshot),
            (Err(DeltaTableError::InvalidVersion(version)), _) => Err(self.no_version(version)),
            (Err(error), Some(version)) => match self.latest_version().await {
                Ok(latest) if latest < version => Err(self.no_version(version)),
                _ => Err(self.failed("reading the log of", error)),
            },
            (Err(error), None) => Err(self.failed("reading the log of", error)),
        }
    }

    pub(super) fn failed(&self, doing: &str, error: DeltaTableError) -> ConnectorError {
        let what = format!("{doing} {}", self.location);
        match error {
            DeltaTableError::ObjectStore { source } => ConnectorError::from_store(what, source),
            DeltaTableError::NotATable(_) => ConnectorError::not_found(format!("{what}: there is no Delta table")),
            error => ConnectorError::invalid_because(format!("{what}: {error}"), error),
        }
    }

    fn no_version(&self, version: u64) -> ConnectorError {
        ConnectorError::not_found(format!("{} has no version {version}", self.location))
    }

    fn pinned(&self, view: &LogicalFileView, partition_columns: &[String]) -> Result<PinnedFile> {
        let path = view.path();
        if view.deletion_vector_descriptor().is_some() {
            return Err(ConnectorError::invalid(format!(
                "{}: the file {path} has a deletion vector, which tidemill does not support",
                self.location
            )));
        }
        if path.contains("://") || path.starts_with('/') {
            return Err(ConnectorError::invalid(format!(
                "{}: the file {path} lies outside the table, which tidemill does not support",
                self.location
            )));
        }
        let stats = view.stats();
        let mut values = view.partition_values_map();
        Ok(PinnedFile {
            path: self.location.join(&path).prefix().to_string(),
            size: u64::try_from(view.size()).unwrap_or_default(),
            last_modified_ms: view.modification_time(),
            e_tag: None,
            partition_values: partition_columns
                .iter()
                .map(|name| values.remove(name).flatten().filter(|value| !value.is_empty()))
                .collect(),
            num_rows: stats.as_deref().and_then(stats::num_records),
            stats,
        })
    }
}

impl std::fmt::Debug for DeltaTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeltaTable({})", self.location)
    }
}

/// The table's schema without metadata, which is Delta's business.
pub(super) fn schema_of(snapshot: &EagerSnapshot) -> SchemaRef {
    let schema = snapshot.arrow_schema();
    let plain = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), field.is_nullable());
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

fn history_entry(version: u64, bytes: &[u8]) -> HistoryEntry {
    let info = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .find_map(|mut action| action.get_mut("commitInfo").map(Value::take))
        .unwrap_or_default();
    HistoryEntry {
        version,
        timestamp_ms: info.get("timestamp").and_then(Value::as_i64),
        operation: info.get("operation").and_then(Value::as_str).map(str::to_owned),
        app_metadata: info.get(super::commit::APP_METADATA_KEY).cloned().unwrap_or_default(),
    }
}
