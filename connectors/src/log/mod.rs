//! A log of numbered entries on any store: what models, aliases and job runs are kept in.
//!
//! Entry `n` is the object `{n:020}.json`, created with one conditional put. All that a store must be
//! able to do is to refuse to create what exists, which the local disk and S3 can; nothing is ever
//! rewritten, so the log is its own history.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{ConnectorError, Result};
use crate::stores::Location;

/// Entries read at a time.
const CONCURRENT_READS: usize = 16;
/// A writer that loses this often in a row gives up: each loss means that another writer won, so this
/// many writers are at work on one log.
const MAX_ATTEMPTS: usize = 200;

/// One entry: its number and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number; the first is 0.
    pub seq: u64,
    /// What was appended.
    pub bytes: Bytes,
}

/// A log below a directory. Any number of processes may read and append at once.
#[derive(Debug, Clone)]
pub struct NumberedLog {
    location: Location,
}

impl NumberedLog {
    /// The log in the directory `location`, which need not exist yet.
    pub fn new(location: Location) -> Self {
        Self { location }
    }

    /// Where it lies.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Appends an entry whatever came before, and returns its number.
    ///
    /// # Errors
    /// As [`NumberedLog::append_if`].
    pub async fn append(&self, bytes: impl Into<Bytes>) -> Result<u64> {
        let bytes = bytes.into();
        let seq = self.append_if(|_| Ok(Some(bytes.clone()))).await?;
        seq.ok_or_else(|| ConnectorError::internal("an unconditional append was declined"))
    }

    /// Appends what `decide` makes of the last entry, or nothing when it says none.
    ///
    /// When another writer takes the number first, `decide` is asked again with that writer's entry:
    /// the entry that is written always follows the one that it was decided on.
    ///
    /// # Errors
    /// The store's, `decide`'s own, or `Conflict` after 200 lost races in a row.
    pub async fn append_if<F>(&self, mut decide: F) -> Result<Option<u64>>
    where
        F: FnMut(Option<&LogEntry>) -> Result<Option<Bytes>>,
    {
        let mut last = self.latest().await?;
        for _ in 0..MAX_ATTEMPTS {
            let Some(bytes) = decide(last.as_ref())? else {
                return Ok(None);
            };
            let seq = last.as_ref().map_or(0, |entry| entry.seq + 1);
            if self.entry(seq).create(bytes).await? {
                return Ok(Some(seq));
            }
            last = self.advance(seq).await?;
        }
        Err(ConnectorError::conflict(format!(
            "{}: lost {MAX_ATTEMPTS} races for the next entry in a row",
            self.location
        )))
    }

    /// The last entry; none of an empty log.
    ///
    /// # Errors
    /// The store's.
    pub async fn latest(&self) -> Result<Option<LogEntry>> {
        match self.numbers().await?.last() {
            Some(seq) => self.read(*seq).await.map(Some),
            None => Ok(None),
        }
    }

    /// Entry `seq`.
    ///
    /// # Errors
    /// `NotFound` where the log has no such entry.
    pub async fn read(&self, seq: u64) -> Result<LogEntry> {
        let bytes = self.entry(seq).read().await?;
        Ok(LogEntry { seq, bytes })
    }

    /// All entries in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn read_all(&self) -> Result<Vec<LogEntry>> {
        stream::iter(self.numbers().await?).map(|seq| self.read(seq)).buffered(CONCURRENT_READS).try_collect().await
    }

    /// The last entry, when entry `seq` is known to exist: reads forward instead of listing.
    async fn advance(&self, seq: u64) -> Result<Option<LogEntry>> {
        let mut last = self.read(seq).await?;
        while let Some(bytes) = self.entry(last.seq + 1).read_if_exists().await? {
            last = LogEntry { seq: last.seq + 1, bytes };
        }
        Ok(Some(last))
    }

    async fn numbers(&self) -> Result<Vec<u64>> {
        let prefix = self.location.prefix();
        let mut numbers: Vec<u64> = self
            .location
            .list()
            .await?
            .iter()
            .filter_map(|meta| {
                let mut parts = meta.location.prefix_match(&prefix)?;
                let name = parts.next()?;
                let direct = parts.next().is_none();
                name.as_ref().strip_suffix(".json").filter(|_| direct)?.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn entry(&self, seq: u64) -> Location {
        self.location.join(&format!("{seq:020}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &tempfile::TempDir) -> NumberedLog {
        NumberedLog::new(Location::parse(dir.path().to_str().unwrap()).unwrap().join("log"))
    }

    #[tokio::test]
    async fn an_empty_log_has_no_latest_entry() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(log(&dir).latest().await.unwrap(), None);
        assert!(log(&dir).read_all().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_declined_append_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        log(&dir).append("0").await.unwrap();
        let declined = log(&dir).append_if(|last| Ok(last.is_none().then(Bytes::new))).await.unwrap();
        assert_eq!(declined, None);
        assert_eq!(log(&dir).read_all().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn other_files_in_the_directory_are_no_entries() {
        let dir = tempfile::tempdir().unwrap();
        log(&dir).append("0").await.unwrap();
        log(&dir).location().join("notes.json").write("x").await.unwrap();
        log(&dir).location().join("sub/00000000000000000009.json").write("x").await.unwrap();
        assert_eq!(log(&dir).latest().await.unwrap().unwrap().seq, 0);
    }

    /// Sixteen writers each count the log up by one, ten times; a lost update would leave a gap.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn each_number_has_one_winner_and_no_entry_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let writers = (0..16).map(|_| {
            let log = log(&dir);
            tokio::spawn(async move {
                for _ in 0..10 {
                    let next = |last: Option<&LogEntry>| {
                        let count: u64 = last.map_or(0, |e| std::str::from_utf8(&e.bytes).unwrap().parse().unwrap());
                        Ok(Some(Bytes::from((count + 1).to_string())))
                    };
                    log.append_if(next).await.unwrap().unwrap();
                }
            })
        });
        futures::future::try_join_all(writers).await.unwrap();
        let entries = log(&dir).read_all().await.unwrap();
        assert_eq!(entries.len(), 160);
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(entry.seq, index as u64);
            assert_eq!(entry.bytes, Bytes::from((index + 1).to_string()));
        }
    }
}
