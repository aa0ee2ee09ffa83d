//! A log of numbered entries in a folder of an object store.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::{MlError, Result};

/// Digits of a number in file names: names sort as numbers do.
const NUMBER_DIGITS: usize = 20;

/// Entries `00000000000000000001.json` and on, each created once and never changed.
#[derive(Debug)]
pub(super) struct NumberedLog {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl NumberedLog {
    pub(super) fn new(store: Arc<dyn ObjectStore>, folder: Path) -> Self {
        Self { store, folder }
    }

    /// The numbers of all entries, ascending.
    pub(super) async fn numbers(&self) -> Result<Vec<u64>> {
        let entries: Vec<_> = self.store.list(Some(&self.folder)).try_collect().await?;
        let mut numbers: Vec<u64> = entries.iter().filter_map(|entry| number_of(&entry.location)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// An entry's bytes.
    pub(super) async fn read(&self, number: u64) -> Result<Bytes> {
        Ok(self.store.get(&self.path(number)).await?.bytes().await?)
    }

    /// Creates an entry; false when another writer was first.
    pub(super) async fn create(&self, number: u64, bytes: Vec<u8>) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(number), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(MlError::Store(error)),
        }
    }

    fn path(&self, number: u64) -> Path {
        self.folder.clone().join(format!("{number:0NUMBER_DIGITS$}.json"))
    }
}

fn number_of(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == NUMBER_DIGITS).then(|| digits.parse().ok()).flatten()
}
