//! Which input a run read, to the byte.

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use super::table::{FileTable, PinnedFile, TableFormat};
use crate::error::{ConnectorError, Result};

/// Files hashed at a time.
const CONCURRENT_HASHES: usize = 4;

/// The identity of a table's content, for run records and manifests. Holds no credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputVersion {
    /// Canonical URL.
    pub url: String,
    /// What it is: Parquet, or Delta at a version.
    pub format: TableFormat,
    /// Rows, where all files know theirs.
    pub num_rows: Option<u64>,
    /// Bytes on the store.
    pub size_bytes: u64,
    /// How many files.
    pub num_files: usize,
    /// Hex blake3 over the files in order: relative path, size, partition values, and for local
    /// Parquet the content, elsewhere the store's tag. Two equal digests mean the same rows; the
    /// digest of local Parquet does not change when the table is copied elsewhere on a disk.
    pub digest: String,
}

impl FileTable {
    /// The identity of what this table reads. Reads the whole content of local Parquet files; of
    /// Delta tables, whose files never change, and of files on S3 it reads nothing.
    ///
    /// # Errors
    /// `Conflict` when a local file has changed since the table was opened.
    pub async fn version(&self) -> Result<InputVersion> {
        let by_content = self.location().is_local() && *self.format() == TableFormat::Parquet;
        let hashes: Vec<_> = self.files().iter().map(|file| self.identity(file, by_content)).collect();
        let identities: Vec<String> = stream::iter(hashes).buffered(CONCURRENT_HASHES).try_collect().await?;
        let mut hasher = blake3::Hasher::new();
        for identity in &identities {
            hasher.update(&(identity.len() as u64).to_le_bytes());
            hasher.update(identity.as_bytes());
        }
        Ok(InputVersion {
            url: self.location().to_string(),
            format: self.format().clone(),
            num_rows: self.num_rows(),
            size_bytes: self.size_bytes(),
            num_files: self.files().len(),
            digest: hasher.finalize().to_hex().to_string(),
        })
    }

    async fn identity(&self, file: &PinnedFile, by_content: bool) -> Result<String> {
        let content = if by_content { self.content_hash(file).await? } else { file.e_tag.clone().unwrap_or_default() };
        let prefix = self.location().prefix();
        let relative = file.path.strip_prefix(prefix.as_ref()).unwrap_or(&file.path);
        Ok(serde_json::json!([relative, file.size, file.partition_values, content]).to_string())
    }

    async fn content_hash(&self, file: &PinnedFile) -> Result<String> {
        let meta = file.object_meta();
        let at = self.location().at(&meta.location);
        let store = self.location().store()?;
        let got = store.get(&meta.location).await.map_err(|error| at.failed("reading", error))?;
        if got.meta.size != file.size || got.meta.last_modified.timestamp_millis() != file.last_modified_ms {
            return Err(ConnectorError::conflict(format!("{at} changed while it was read; run again")));
        }
        let mut hasher = blake3::Hasher::new();
        let mut chunks = got.into_stream();
        while let Some(chunk) = chunks.next().await {
            hasher.update(&chunk.map_err(|error| at.failed("reading", error))?);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}
