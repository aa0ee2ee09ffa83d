//! What a process keeps for the plans that run in it: plug-ins, models and matrices.
//!
//! Services ride in the session configuration as an extension. They are never sent: each process has its own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;
use object_store::ObjectStoreExt;
use tidemill_connectors::stores::Location;
use tidemill_ml::matrix::Matrix;
use tidemill_ml::model::{ModelCache, ScoringModel};
use tokio::sync::{Mutex, OnceCell};

use super::config::{Plugins, registry};
use super::kept::KeptShards;
use crate::plan::score::PinnedModel;
use crate::plan::train::{MatrixRef, read_matrix};

/// How many matrices a process keeps: the folds of a usual grid and its refit. The least recently used goes first.
const MAX_MATRICES: usize = 4;

/// How many models a process keeps loaded.
const MAX_MODELS: usize = 32;

type MatrixSlot = Arc<OnceCell<Arc<Matrix>>>;

/// One process's plug-ins and caches.
pub struct Services {
    /// A user's own functions, stages and estimators.
    pub plugins: Plugins,
    /// The process's name in records: its executor id, or `in process`.
    pub process: String,
    /// What is kept of shards.
    pub kept: Arc<KeptShards>,
    models: ModelCache,
    matrices: Mutex<VecDeque<(MatrixRef, MatrixSlot)>>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Services {
    /// Empty caches of the process named `process`.
    pub fn new(plugins: Plugins, process: impl Into<String>) -> Self {
        Self {
            plugins,
            process: process.into(),
            kept: Arc::default(),
            models: ModelCache::new(MAX_MODELS),
            matrices: Mutex::default(),
        }
    }

    /// The model, loaded and verified once for the process.
    ///
    /// # Errors
    /// A model that is not there, is damaged, or scores its parity sample otherwise than when it was registered.
    pub async fn model(&self, model: &PinnedModel, _runtime: &RuntimeEnv) -> Result<Arc<ScoringModel>> {
        let location = Location::parse(&model.registry)?;
        let registry = registry(location, &self.plugins)?;
        let load = || async { registry.load(&model.name, tidemill_ml::model::ModelVersion(model.version)).await };
        Ok(self.models.get_or_load(&model.digest, load).await?)
    }

    /// The matrix, read once for the process.
    ///
    /// # Errors
    /// A file that is not there or damaged.
    pub async fn matrix(&self, r: &MatrixRef, _runtime: &RuntimeEnv) -> Result<Arc<Matrix>> {
        let slot = self.slot(r).await;
        let matrix = slot.get_or_try_init(|| async { Ok::<_, DataFusionError>(Arc::new(self.read(r).await?)) });
        matrix.await.map(Arc::clone)
    }

    /// The matrix, read now.
    ///
    /// # Errors
    /// A file that is not there or damaged.
    pub(crate) async fn read(&self, r: &MatrixRef) -> Result<Matrix> {
        let mut files = Vec::with_capacity(r.urls.len());
        for url in &r.urls {
            let location = Location::parse(url)?;
            let store = location.store()?;
            files.push(store.get(&location.prefix()).await?.bytes().await?);
        }
        read_matrix(r, &files)
    }

    async fn slot(&self, r: &MatrixRef) -> MatrixSlot {
        let mut matrices = self.matrices.lock().await;
        let entry = match matrices.iter().position(|(k, _)| k == r).and_then(|i| matrices.remove(i)) {
            Some(entry) => entry,
            None => (r.clone(), MatrixSlot::default()),
        };
        let slot = Arc::clone(&entry.1);
        matrices.push_back(entry);
        if matrices.len() > MAX_MATRICES {
            matrices.pop_front();
        }
        slot
    }
}

/// The services of the process that a configuration belongs to; empty ones when it has none.
pub fn services(config: &SessionConfig) -> Arc<Services> {
    config.get_extension::<Services>().unwrap_or_else(|| Arc::new(Services::new(Plugins::default(), "in process")))
}
