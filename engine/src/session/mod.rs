//! Sessions: where SQL, DataFrames and jobs are planned and run, in process or on a cluster.

mod asof;
mod config;
mod kept;
mod one_task;
mod planner;
mod remote;
mod services;
mod sql;
mod statements;
mod warehouse;

use std::sync::Arc;

use ballista_core::extension::SessionStateExt;
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use tidemill_connectors::files::FileTable;
use tidemill_connectors::stores::Location;
use tidemill_ml::registry::{ModelRef, Registry};

pub use asof::AsofOptions;
pub(crate) use asof::{parse_statement, view_query};
pub use config::{Plugins, runtime_hooks};
pub use kept::KeptShards;
pub(crate) use kept::Room;
pub use services::{Services, services};
pub(crate) use statements::CommitNote;
pub use statements::{WriteMode, Written};
pub use warehouse::{View, Warehouse};

use crate::Result;
use crate::cluster::Token;
use crate::jobs::Device;
use crate::plan::predict::{self, ModelTypes, ResolvedModel, ResolvedModels};
use crate::plan::score::PinnedModel;
use crate::progress::{Progress, Silent};

/// How a session is opened.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The warehouse: a path or URL. Default `./warehouse`.
    pub warehouse: String,
    /// The scheduler's `host:port`; in process when absent.
    pub cluster: Option<String>,
    /// The cluster's token.
    pub token: Option<Token>,
    /// Who is told how far long work is.
    pub progress: Arc<dyn Progress>,
    /// A user's own functions, stages and estimators.
    pub plugins: Plugins,
    /// Memory of queries in this process: beyond it sorts, joins and aggregates spill to disk, and what cannot spill
    /// fails. No limit when absent; executors have their own.
    pub memory_bytes: Option<usize>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            warehouse: "./warehouse".to_owned(),
            cluster: None,
            token: None,
            progress: Arc::new(Silent),
            plugins: Plugins::default(),
            memory_bytes: None,
        }
    }
}

/// A place to run SQL, DataFrames and jobs over one warehouse. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: SessionOptions,
    ctx: SessionContextDebug,
    warehouse: Warehouse,
    registry: Registry,
    /// What models give, told before a statement is planned.
    model_types: ModelTypes,
    /// Names of tables that were brought from the warehouse: brought anew by each statement.
    brought: std::sync::Mutex<std::collections::HashSet<String>>,
}

/// `SessionContext` has no useful `Debug`.
struct SessionContextDebug(SessionContext);

impl std::fmt::Debug for SessionContextDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "session {}", self.0.session_id())
    }
}

impl Session {
    /// A session in this process over `./warehouse`.
    ///
    /// # Errors
    /// A warehouse path that is not valid.
    pub async fn local() -> Result<Self> {
        Self::open(SessionOptions::default()).await
    }

    /// A session on the cluster of the scheduler at `host:port`, over `./warehouse`.
    ///
    /// # Errors
    /// A scheduler that is not there.
    pub async fn connect(scheduler: &str) -> Result<Self> {
        Self::open(SessionOptions { cluster: Some(scheduler.to_owned()), ..SessionOptions::default() }).await
    }

    /// Opens a session. Nothing is written until something is.
    ///
    /// # Errors
    /// A warehouse that is not valid, a scheduler that is not there or refuses the token.
    pub async fn open(options: SessionOptions) -> Result<Self> {
        let ctx = match &options.cluster {
            None => SessionContext::new_with_state(config::session_state(
                config::local_config(&options.plugins, options.memory_bytes),
                &options.plugins,
                options.memory_bytes,
            )?),
            Some(address) => cluster_context(address, &options).await?,
        };
        let warehouse = Warehouse::open(&options.warehouse)?;
        let registry = config::registry(warehouse.models(), &options.plugins)?;
        let model_types = ModelTypes::default();
        ctx.register_udf(predict::predict_udf(model_types.clone()));
        let ctx = SessionContextDebug(ctx);
        let inner = Inner { options, ctx, warehouse, registry, model_types, brought: Default::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The DataFusion context underneath.
    pub fn context(&self) -> &SessionContext {
        &self.inner.ctx.0
    }

    /// The warehouse.
    pub fn warehouse(&self) -> &Warehouse {
        &self.inner.warehouse
    }

    /// The model registry of the warehouse.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Who is told how far long work is.
    pub fn progress(&self) -> &Arc<dyn Progress> {
        &self.inner.options.progress
    }

    /// A user's own functions, stages and estimators.
    pub fn plugins(&self) -> &Plugins {
        &self.inner.options.plugins
    }

    /// `in process`, or the scheduler's address.
    pub fn mode(&self) -> String {
        self.inner.options.cluster.clone().unwrap_or_else(|| "in process".to_owned())
    }

    /// Whether work runs on a cluster.
    pub fn is_cluster(&self) -> bool {
        self.inner.options.cluster.is_some()
    }

    /// Registers a Parquet file or folder as a table of this session; gives what was pinned.
    ///
    /// # Errors
    /// A location that is missing, is not Parquet or is damaged.
    pub async fn register_parquet(&self, name: &str, location: &str) -> Result<Arc<FileTable>> {
        let table = Arc::new(FileTable::open(&Location::parse(location)?).await?);
        self.register(name, Arc::clone(&table) as _)?;
        Ok(table)
    }

    pub(crate) fn register(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        let ctx = self.context();
        ctx.deregister_table(name)?;
        ctx.register_table(name, table)?;
        Ok(())
    }

    /// Resolves a model's name, as `late@live`, `late/3` or `late`, to a version that plans can carry.
    ///
    /// # Errors
    /// A model, version or alias that does not exist.
    pub async fn resolve_model(&self, reference: &str) -> Result<ResolvedModel> {
        let reference: ModelRef = reference.parse()?;
        let version = self.registry().resolve(&reference).await?;
        let manifest = self.registry().manifest(&reference.name, version).await?;
        Ok(ResolvedModel {
            pinned: PinnedModel {
                registry: self.warehouse().models().to_string(),
                name: manifest.name,
                version: manifest.version.0,
                digest: manifest.digest,
            },
            output: manifest.signature.model_output(),
            inputs: manifest.signature.inputs,
        })
    }

    /// The models of these names, and the planner told of what they give.
    pub(crate) async fn resolve_models(&self, names: Vec<String>) -> Result<ResolvedModels> {
        let mut models = ResolvedModels::new();
        for name in names {
            let model = self.resolve_model(&name).await?;
            models.insert(name, model);
        }
        self.inner.model_types.tell(&models);
        Ok(models)
    }

    /// The plan with every `predict` in it computed by the version that its name was resolved to, or means now.
    pub(crate) async fn with_models(
        &self,
        plan: LogicalPlan,
        device: Device,
        mut resolved: ResolvedModels,
    ) -> Result<LogicalPlan> {
        let mut names = predict::references(&plan)?;
        names.retain(|name| !resolved.contains_key(name));
        resolved.extend(self.resolve_models(names).await?);
        if resolved.is_empty() { Ok(plan) } else { Ok(predict::extract(plan, &resolved, device)?) }
    }

    /// The DataFrame with a further column: what the model gives for each row, its columns taken by name. That is a number,
    /// or for classes a struct of `prediction` and `probability`.
    ///
    /// # Errors
    /// An unknown model, a column of its signature that the rows lack.
    pub async fn predict(&self, df: DataFrame, model: &str, output: &str) -> Result<DataFrame> {
        use datafusion::prelude::lit;
        let resolved = self.resolve_models(vec![model.to_owned()]).await?;
        let udf = predict::predict_udf(self.inner.model_types.clone());
        let df = df.with_column(output, udf.call(vec![lit(model)]))?;
        let (state, plan) = df.into_parts();
        let plan = self.with_models(plan, Device::Cpu, resolved).await?;
        Ok(DataFrame::new(state, plan))
    }

    /// A DataFrame over a plan in this session.
    pub(crate) fn data_frame(&self, plan: LogicalPlan) -> DataFrame {
        DataFrame::new(self.context().state(), plan)
    }
}

async fn cluster_context(address: &str, options: &SessionOptions) -> Result<SessionContext> {
    let url = format!("http://{address}");
    let token = options.token.as_ref();
    let vcores = config::cluster_vcores(&url, address, token).await?;
    let config = config::cluster_config(&options.plugins, token, vcores, address)?;
    let state = config::session_state(config, &options.plugins, None)?.upgrade_for_ballista(url)?;
    let ctx = SessionContext::new_with_state(state);
    config::register_functions(&ctx, &options.plugins);
    Ok(ctx)
}
