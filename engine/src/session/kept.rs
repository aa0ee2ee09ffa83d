//! What a process keeps of shards between the passes over them, within a bound.
//!
//! Passes take the shards of a residence in turn, again and again. If the thing used longest ago made room for the next,
//! each would be gone just before its turn; so things of one residence do not replace each other: what finds no room is
//! found anew in each pass, and the others stay.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;

use tidemill_ml::MlError;
use tidemill_ml::estimator::sharded::Kept;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The bound of a process that was told none.
const DEFAULT_LIMIT_BYTES: u64 = 4 << 30;

/// The share of a memory budget that may be kept or read at a time: the rest is for other tasks.
const SHARE_OF_BUDGET: (u64, u64) = (3, 4);

type Value = Arc<dyn Any + Send + Sync>;
type Key = (String, String);

/// Things by residence and key.
#[derive(Debug)]
pub struct KeptShards {
    limit_bytes: AtomicU64,
    vcores: AtomicUsize,
    slots: OnceLock<Semaphore>,
    things: Mutex<Things>,
}

#[derive(Debug, Default)]
struct Things {
    by_key: HashMap<Key, Thing>,
    bytes: u64,
    reserved_bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Thing {
    value: Value,
    bytes: u64,
    last_use: u64,
}

/// Room for reading a shard, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    of: Arc<KeptShards>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.lock().reserved_bytes -= self.bytes;
    }
}

impl Default for KeptShards {
    fn default() -> Self {
        Self {
            limit_bytes: AtomicU64::new(DEFAULT_LIMIT_BYTES),
            vcores: AtomicUsize::new(available_parallelism().map_or(1, usize::from)),
            slots: OnceLock::new(),
            things: Mutex::default(),
        }
    }
}

impl KeptShards {
    /// Keeps up to three quarters of a process's memory budget from now on.
    pub fn set_budget(&self, budget_bytes: u64) {
        let (part, of) = SHARE_OF_BUDGET;
        self.limit_bytes.store(budget_bytes / of * part, Ordering::Relaxed);
    }

    /// How many shards are answered for at a time, if none was so far.
    pub fn set_vcores(&self, vcores: usize) {
        self.vcores.store(vcores.max(1), Ordering::Relaxed);
    }

    /// How many shards are answered for at a time.
    pub(crate) fn vcores(&self) -> usize {
        self.vcores.load(Ordering::Relaxed)
    }

    /// Waits for one's turn.
    pub(crate) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.slots.get_or_init(|| Semaphore::new(self.vcores())).acquire().await.ok()
    }

    /// The bytes of what is kept.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Makes room for reading a shard: what was used longest ago goes, that of other residences first.
    ///
    /// # Errors
    /// A shard that is larger than the bound.
    pub(crate) fn reserve(self: &Arc<Self>, residence: &str, bytes: u64) -> Result<Room, MlError> {
        let limit = self.limit();
        if bytes > limit {
            return Err(MlError::Invalid(format!(
                "a shard needs {:.1} MB to be read, and this process keeps and reads up to {:.1} MB of shards; take a \
                 smaller rows_per_shard, or give the process more memory",
                bytes as f64 / 1e6,
                limit as f64 / 1e6
            )));
        }
        let mut things = self.lock();
        things.reserved_bytes += bytes;
        while things.bytes + things.reserved_bytes > limit {
            let Some(key) = things.oldest(|of| of != residence).or_else(|| things.oldest(|_| true)) else { break };
            things.remove(&key);
        }
        drop(things);
        Ok(Room { of: Arc::clone(self), bytes })
    }

    /// What is kept, gathered now if it is not.
    pub(crate) fn get_or_gather(
        &self,
        residence: &str,
        key: &str,
        gather: &mut dyn FnMut() -> Result<Kept, MlError>,
    ) -> Result<Value, MlError> {
        let key = (residence.to_owned(), key.to_owned());
        if let Some(value) = self.lock().get(&key) {
            return Ok(value);
        }
        // Other shards go on meanwhile: a shard is asked one thing at a time.
        let kept = gather()?;
        let limit = self.limit();
        self.lock().put(key, &kept, limit);
        Ok(kept.value)
    }

    /// Forgets what is kept of a residence.
    pub(crate) fn release(&self, residence: &str) {
        let mut things = self.lock();
        while let Some(key) = things.oldest(|of| of == residence) {
            things.remove(&key);
        }
    }

    fn limit(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Things {
    fn get(&mut self, key: &Key) -> Option<Value> {
        self.uses += 1;
        let thing = self.by_key.get_mut(key)?;
        thing.last_use = self.uses;
        Some(Arc::clone(&thing.value))
    }

    /// Keeps a thing where there is room beside those of its residence.
    fn put(&mut self, key: Key, kept: &Kept, limit: u64) {
        let bytes = kept.size_bytes as u64;
        self.remove(&key);
        while self.bytes + self.reserved_bytes + bytes > limit {
            let Some(other) = self.oldest(|of| of != key.0) else { return };
            self.remove(&other);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.by_key.insert(key, Thing { value: Arc::clone(&kept.value), bytes, last_use: self.uses });
    }

    /// What was used longest ago of some residences.
    fn oldest(&self, is_of: impl Fn(&str) -> bool) -> Option<Key> {
        let things = self.by_key.iter().filter(|(key, _)| is_of(&key.0));
        things.min_by_key(|(_, thing)| thing.last_use).map(|(key, _)| key.clone())
    }

    fn remove(&mut self, key: &Key) {
        if let Some(thing) = self.by_key.remove(key) {
            self.bytes -= thing.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(kept: &KeptShards, residence: &str, key: &str, size_bytes: usize) -> bool {
        let mut gathered = false;
        let mut gather = || {
            gathered = true;
            Ok(Kept { value: Arc::new(size_bytes), size_bytes })
        };
        kept.get_or_gather(residence, key, &mut gather).unwrap();
        gathered
    }

    /// Up to 30 bytes are kept.
    fn small() -> Arc<KeptShards> {
        let kept = KeptShards::default();
        kept.set_budget(40);
        Arc::new(kept)
    }

    #[test]
    fn shards_in_turn_do_not_replace_each_other() {
        let kept = small();
        let pass = || ["1", "2", "3", "4", "5"].map(|key| gather(&kept, "a", key, 10));
        assert_eq!(pass(), [true; 5]);
        assert_eq!(pass(), [false, false, false, true, true]);
        assert_eq!(kept.bytes(), 30);
    }

    #[test]
    fn another_residence_takes_the_room_of_what_was_used_longest_ago() {
        let kept = small();
        assert_eq!(["1", "2", "3"].map(|key| gather(&kept, "a", key, 10)), [true; 3]);
        assert!(!gather(&kept, "a", "1", 10));
        assert!(gather(&kept, "b", "1", 10));
        assert_eq!(["1", "3", "2"].map(|key| gather(&kept, "a", key, 10)), [false, false, true]);
    }

    #[test]
    fn room_for_reading_is_made_and_given_back() {
        let kept = small();
        assert_eq!(["1", "2", "3"].map(|key| gather(&kept, "a", key, 10)), [true; 3]);
        let room = kept.reserve("a", 15).unwrap();
        assert_eq!(kept.bytes(), 10);
        // What is read is kept only beside that room.
        assert!(gather(&kept, "a", "1", 10) && gather(&kept, "a", "1", 10));
        drop(room);
        assert!(gather(&kept, "a", "1", 10) && !gather(&kept, "a", "1", 10));
        let error = kept.reserve("a", 31).unwrap_err().to_string();
        assert!(error.contains("smaller rows_per_shard"), "{error}");
    }

    #[test]
    fn a_residence_is_released_whole() {
        let kept = small();
        assert!(gather(&kept, "a", "1", 10) && gather(&kept, "a", "2", 10) && gather(&kept, "b", "1", 10));
        kept.release("a");
        assert_eq!(kept.bytes(), 10);
        assert!(!gather(&kept, "b", "1", 10) && gather(&kept, "a", "1", 10));
    }
}
