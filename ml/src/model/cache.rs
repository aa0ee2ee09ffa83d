//! Loaded models, shared by all that score in a process.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::ScoringModel;
use crate::{MlError, Result};

/// Models that a process keeps loaded: more than one job scores with, and each is megabytes. Beyond it the one that was
/// not used for longest is dropped, and loaded again when it is asked for.
pub const MAX_CACHED_MODELS: usize = 32;

static GLOBAL: LazyLock<ModelCache> = LazyLock::new(|| ModelCache::new(MAX_CACHED_MODELS));

/// Loaded models by digest; each is loaded once, however many ask for it at the same time.
#[derive(Debug)]
pub struct ModelCache {
    capacity: usize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_digest: HashMap<String, Slot>,
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    cell: Arc<OnceCell<Arc<ScoringModel>>>,
    used_at: u64,
}

impl ModelCache {
    /// A cache of at most `capacity` models, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), slots: Mutex::new(Slots::default()) }
    }

    /// The cache of this process.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// The model with this digest, if it is loaded.
    pub fn get(&self, digest: &str) -> Option<Arc<ScoringModel>> {
        let mut slots = self.slots();
        slots.clock += 1;
        let now = slots.clock;
        let slot = slots.by_digest.get_mut(digest)?;
        slot.used_at = now;
        slot.cell.get().map(Arc::clone)
    }

    /// The model with this digest, loaded by the first that asks while others wait. A load that fails is tried again
    /// by the next.
    ///
    /// # Errors
    /// That of the load.
    pub async fn get_or_load<F>(&self, digest: &str, load: impl FnOnce() -> F) -> Result<Arc<ScoringModel>>
    where
        F: Future<Output = Result<ScoringModel>>,
    {
        let cell = self.cell(digest);
        let model = cell.get_or_try_init(|| async { Ok::<_, MlError>(Arc::new(load().await?)) }).await?;
        Ok(Arc::clone(model))
    }

    /// How many models it holds or is loading.
    pub fn len(&self) -> usize {
        self.slots().by_digest.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn cell(&self, digest: &str) -> Arc<OnceCell<Arc<ScoringModel>>> {
        let mut slots = self.slots();
        slots.clock += 1;
        let now = slots.clock;
        if !slots.by_digest.contains_key(digest) && slots.by_digest.len() >= self.capacity {
            slots.drop_oldest();
        }
        let slot = slots
            .by_digest
            .entry(digest.to_owned())
            .or_insert_with(|| Slot { cell: Arc::new(OnceCell::new()), used_at: now });
        slot.used_at = now;
        Arc::clone(&slot.cell)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn drop_oldest(&mut self) {
        let oldest = self.by_digest.iter().min_by_key(|(_, slot)| slot.used_at).map(|(digest, _)| digest.clone());
        if let Some(digest) = oldest {
            self.by_digest.remove(&digest);
        }
    }
}
