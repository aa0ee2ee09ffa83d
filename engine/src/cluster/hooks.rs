//! How sessions, runtimes and plans of a cluster's processes are made.

use std::fmt;
use std::sync::Arc;

use ballista_core::extension::SessionConfigExt;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use ballista_core::{ConfigProducer, RuntimeProducer};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;

use crate::session::KeptShards;

/// Makes a session's state from its configuration.
pub type SessionStateProducer = Arc<dyn Fn(SessionConfig) -> Result<SessionState> + Send + Sync>;

/// What scheduler and executors need to plan, decode and run a session's work. Both sides are given the same.
#[derive(Clone)]
pub struct RuntimeHooks {
    /// The configuration that a session's own settings are applied to. Options that are not registered here are
    /// dropped on the way.
    pub config: ConfigProducer,
    /// The state that a session's queries are planned with. Called for each query: keep it cheap.
    pub session_state: SessionStateProducer,
    /// The runtime (object stores, caches) of a session's tasks on an executor.
    pub runtime_env: RuntimeProducer,
    /// Encodes and decodes physical plan nodes.
    pub physical_codec: Arc<dyn PhysicalExtensionCodec>,
    /// Encodes and decodes logical plan nodes and table providers.
    pub logical_codec: Arc<dyn LogicalExtensionCodec>,
    /// The functions that executors resolve by name.
    pub functions: Arc<BallistaFunctionRegistry>,
    /// What an executor keeps of shards.
    pub kept: Arc<KeptShards>,
}

impl RuntimeHooks {
    /// Hooks of plain Ballista: DataFusion's functions and file formats, adaptive planning off.
    ///
    /// # Errors
    /// When DataFusion cannot build its default state.
    pub fn plain() -> Result<Self> {
        let config: ConfigProducer =
            Arc::new(|| SessionConfig::new_with_ballista().with_ballista_adaptive_query_planner(false));
        let state = plain_state(config())?;
        Ok(Self {
            config,
            session_state: Arc::new(plain_state),
            runtime_env: Arc::new(|_| Ok(Arc::new(RuntimeEnv::default()))),
            physical_codec: Arc::new(BallistaPhysicalExtensionCodec::default()),
            logical_codec: Arc::new(BallistaLogicalExtensionCodec::default()),
            functions: Arc::new(BallistaFunctionRegistry::from(&state)),
            kept: Arc::default(),
        })
    }
}

fn plain_state(config: SessionConfig) -> Result<SessionState> {
    let rules = ballista_core::optimizer::ballista_default_optimizer_rules();
    let builder = SessionStateBuilder::new().with_default_features().with_config(config);
    Ok(builder.with_optimizer_rules(rules).build())
}

impl fmt::Debug for RuntimeHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeHooks")
            .field("physical_codec", &self.physical_codec)
            .field("logical_codec", &self.logical_codec)
            .finish_non_exhaustive()
    }
}
