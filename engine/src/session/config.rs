//! One configuration for every process: client, scheduler and executors plan and run with the same.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ballista_core::extension::SessionConfigExt;
use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::prelude::{SessionConfig, SessionContext};
use serde::Deserialize;
use tidemill_connectors::files::{SliceScans, TextViews};
use tidemill_connectors::stores::{Location, StoreOptions, runtime_env, runtime_env_builder};
use tidemill_ml::estimator::{self, EstimatorRegistry};
use tidemill_ml::registry::Registry;
use tidemill_ml::stage::StageRegistry;
use tidemill_ml::{eval, functions};

use super::asof::PlanAsofJoin;
use super::one_task::ClusterOptions;
use super::planner::TidemillQueryPlanner;
use super::remote::RemoteQueryPlanner;
use super::services::Services;
use crate::cluster::{RuntimeHooks, Token};
use crate::codec::{TidemillLogicalCodec, TidemillPhysicalCodec};
use crate::plan::asof::PushLeftFilters;
use crate::plan::predict::{ModelTypes, predict_udf};
use crate::{EngineError, Result};

/// How long a client waits for a scheduler to take its connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest build side, in bytes and rows, that a join collects and hashes whole.
const BROADCAST_BYTES: u64 = 64 << 20;
const BROADCAST_ROWS: u64 = 2_000_000;
/// The same in rows on a cluster, where each task of the join fetches and hashes it again.
const CLUSTER_BROADCAST_ROWS: u64 = 400_000;

/// The fewest and the most partitions that a shuffle on a cluster has when a session does not say. Between them it is
/// one for each vcore: a job's fixed cost grows with them.
const CLUSTER_PARTITIONS: RangeInclusive<usize> = 2..=1024;

/// States that a process keeps: few clusters know more than one or two sets of options.
const MAX_STATES: usize = 64;

/// A user's own functions, stages and estimators, known to every process that is built with them.
#[derive(Debug, Clone, Default)]
pub struct Plugins {
    /// Feature stages by name.
    pub stages: StageRegistry,
    /// Estimators by name.
    pub estimators: EstimatorRegistry,
    /// Scalar functions.
    pub scalar_functions: Vec<Arc<ScalarUDF>>,
    /// Aggregate functions.
    pub aggregate_functions: Vec<Arc<AggregateUDF>>,
}

/// What both modes share: the same options give the same plans where it matters to results.
fn shared(config: SessionConfig, services: Arc<Services>) -> SessionConfig {
    let mut config = config
        .with_option_extension(StoreOptions::default())
        .with_option_extension(ClusterOptions::default())
        .with_information_schema(true)
        .set_bool("datafusion.optimizer.prefer_hash_join", true)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold", BROADCAST_BYTES)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", BROADCAST_ROWS);
    config.options_mut().sql_parser.collect_spans = true;
    config.with_extension(services)
}

/// The configuration of a session in this process.
pub(super) fn local_config(plugins: &Plugins, memory_bytes: Option<usize>) -> SessionConfig {
    let services = Services::new(plugins.clone(), "in process");
    if let Some(bytes) = memory_bytes {
        services.kept.set_budget(bytes as u64);
    }
    let config = shared(SessionConfig::new(), Arc::new(services));
    config
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
}

/// The configuration of a cluster's processes.
fn ballista_config(services: Arc<Services>) -> SessionConfig {
    shared(SessionConfig::new_with_ballista(), services)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", CLUSTER_BROADCAST_ROWS)
        .with_target_partitions(*CLUSTER_PARTITIONS.start())
        .with_ballista_adaptive_query_planner(false)
        .with_ballista_logical_extension_codec(Arc::new(TidemillLogicalCodec::default()))
        .with_ballista_physical_extension_codec(Arc::new(TidemillPhysicalCodec::default()))
}

/// The configuration of a client's session on the cluster of the scheduler at `host:port`, which has so many vcores.
///
/// # Errors
/// An address that is none.
pub(super) fn cluster_config(
    plugins: &Plugins,
    token: Option<&Token>,
    vcores: usize,
    address: &str,
) -> datafusion::error::Result<SessionConfig> {
    let partitions = vcores.clamp(*CLUSTER_PARTITIONS.start(), *CLUSTER_PARTITIONS.end());
    let known = ballista_config(Arc::new(Services::new(plugins.clone(), "client")));
    let mut config = known.clone().with_target_partitions(partitions);
    if let Some(token) = token {
        config = token.apply(config);
    }
    let planner = RemoteQueryPlanner::new(address, &config, &known)?;
    Ok(config.with_ballista_query_planner(Arc::new(planner)))
}

/// The state that plans and runs with our functions and operators. Operators that can spill do so beyond `memory_bytes`.
pub(super) fn session_state(
    config: SessionConfig,
    plugins: &Plugins,
    memory_bytes: Option<usize>,
) -> datafusion::error::Result<SessionState> {
    let mut runtime = runtime_env_builder(StoreOptions::of(&config), None);
    if let Some(bytes) = memory_bytes {
        runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new(bytes)));
    }
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime.build_arc()?)
        .with_default_features()
        .with_query_planner(Arc::new(TidemillQueryPlanner))
        .with_relation_planners(vec![Arc::new(PlanAsofJoin)])
        .with_optimizer_rules(optimizer_rules())
        .with_physical_optimizer_rule(Arc::new(TextViews::new(functions::takes_views)))
        .with_physical_optimizer_rule(Arc::new(SliceScans))
        .build();
    let ctx = SessionContext::new_with_state(state);
    register_functions(&ctx, plugins);
    Ok(ctx.state())
}

/// DataFusion's rules with ours.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::default().rules;
    let before = rules.iter().position(|r| r.name() == "push_down_filter").unwrap_or(rules.len());
    rules.insert(before, Arc::new(PushLeftFilters));
    rules
}

/// Registers our functions and the user's.
pub(super) fn register_functions(ctx: &SessionContext, plugins: &Plugins) {
    ctx.register_udf(predict_udf(ModelTypes::default()));
    let scalars = functions::scalar_udfs().into_iter().chain(estimator::scalar_udfs());
    for f in scalars.chain(plugins.scalar_functions.iter().cloned()) {
        ctx.register_udf(Arc::unwrap_or_clone(f));
    }
    let aggregates = functions::aggregate_udfs().into_iter().chain(eval::aggregate_udfs());
    for f in aggregates.chain(plugins.aggregate_functions.iter().cloned()) {
        ctx.register_udaf(Arc::unwrap_or_clone(f));
    }
}

/// The registry at a location.
pub(super) fn registry(location: Location, plugins: &Plugins) -> Result<Registry> {
    Ok(Registry::new(location.store()?, location.prefix(), plugins.stages.clone(), plugins.estimators.clone()))
}

/// What a scheduler or an executor named `process` is configured with.
///
/// # Errors
/// When DataFusion cannot build a state.
pub fn runtime_hooks(plugins: &Plugins, process: &str) -> Result<RuntimeHooks> {
    let services = Arc::new(Services::new(plugins.clone(), process));
    let kept = Arc::clone(&services.kept);
    let config = {
        let services = Arc::clone(&services);
        move || ballista_config(Arc::clone(&services))
    };
    let state = session_state(config(), plugins, None)?;
    let functions = BallistaFunctionRegistry::from(&state);
    let rules = ballista_core::optimizer::with_ballista_optimizer_rules(state.optimizers());
    let template = SessionStateBuilder::new_from_existing(state).with_optimizer_rules(rules).build();
    let prepared = Arc::new(PreparedStates { template, known: Mutex::default() });
    let running = Arc::clone(&prepared);
    Ok(RuntimeHooks {
        config: Arc::new(config),
        session_state: Arc::new(move |config| prepared.state(config)),
        runtime_env: Arc::new(move |config: &SessionConfig| Ok(Arc::clone(running.get(config)?.runtime_env()))),
        physical_codec: Arc::new(TidemillPhysicalCodec::default()),
        logical_codec: Arc::new(TidemillLogicalCodec::default()),
        functions: Arc::new(functions),
        kept,
    })
}

/// The states of a process by what their runtimes and functions are made with: queries of equal options share what is
/// known of files, and no query registers hundreds of functions anew. Executors know a runtime by its state's id.
struct PreparedStates {
    template: SessionState,
    known: Mutex<HashMap<StateKey, SessionState>>,
}

/// The stores' options, and the time zone that functions of time are made with.
type StateKey = (StoreOptions, Option<String>);

impl PreparedStates {
    /// The state of a query.
    fn state(&self, config: SessionConfig) -> datafusion::error::Result<SessionState> {
        let mut state = self.get(&config)?;
        *state.config_mut() = config;
        Ok(state)
    }

    fn get(&self, config: &SessionConfig) -> datafusion::error::Result<SessionState> {
        let key = (StoreOptions::of(config), config.options().execution.time_zone.clone());
        let mut known = self.known.lock().map_err(|_| EngineError::Internal("a lock is poisoned".to_owned()))?;
        if let Some(state) = known.get(&key) {
            return Ok(state.clone());
        }
        if known.len() >= MAX_STATES {
            known.clear();
        }
        let builder = SessionStateBuilder::new_from_existing(self.template.clone()).with_config(config.clone());
        let state = builder.with_runtime_env(runtime_env(key.0.clone(), None)?).build();
        known.insert(key, state.clone());
        Ok(state)
    }
}

/// How many vcores the executors have that a scheduler knows now.
///
/// # Errors
/// A scheduler that is not there or refuses the token: told before any plan is made.
pub(super) async fn cluster_vcores(url: &str, address: &str, token: Option<&Token>) -> Result<usize> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|e| EngineError::Internal(format!("http client: {e}")))?;
    let mut request = client.get(format!("{url}/api/executors"));
    if let Some(token) = token {
        request = request.header("authorization", token.bearer());
    }
    let response = request.send().await.map_err(|e| EngineError::Environment {
        message: format!("no scheduler answers at {address} ({}); start one with: tidemill cluster", innermost(&e)),
        retryable: true,
    })?;
    match response.status().as_u16() {
        401 | 403 => Err(EngineError::Environment {
            message: format!("the scheduler at {address} refuses the token; pass the cluster's own with --token-file"),
            retryable: false,
        }),
        200 => {
            let executors: Vec<Executor> = response.json().await.map_err(|e| EngineError::Environment {
                message: format!("{address} does not answer as a scheduler of this version: {}", innermost(&e)),
                retryable: false,
            })?;
            Ok(executors.iter().map(|e| e.specification.vcores).sum())
        }
        status => Err(EngineError::Environment {
            message: format!("{address} does not answer as a scheduler does: HTTP status {status}"),
            retryable: false,
        }),
    }
}

/// What is read of an executor in the scheduler's list.
#[derive(Deserialize)]
struct Executor {
    specification: Specification,
}

#[derive(Deserialize)]
struct Specification {
    vcores: usize,
}

fn innermost(e: &dyn std::error::Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}
