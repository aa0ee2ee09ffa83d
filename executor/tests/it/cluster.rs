//! A cluster inside the test's process, clients of it, and executors in processes of their own.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista::prelude::{SessionConfigExt, SessionContextExt};
use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::physical_plan::displayable;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use tidemill_engine::cluster::{RuntimeHooks, Token};
use tidemill_executor::{ExecutorHandle, ExecutorOptions};
use tidemill_scheduler::client::JobsClient;
use tidemill_scheduler::{SchedulerHandle, SchedulerOptions};

/// The name of the function whose stages need a GPU in these tests.
pub(crate) const NEEDS_GPU: &str = "needs_gpu";

/// The name of a function that executors in processes of their own let pass.
pub(crate) const GATE: &str = "gate";

/// A scheduler with what its executors and clients must know.
pub(crate) struct Cluster {
    pub(crate) scheduler: SchedulerHandle,
    pub(crate) executors: Vec<ExecutorHandle>,
    pub(crate) token: Option<Token>,
    udfs: Vec<ScalarUDF>,
}

/// How a cluster of a test differs from the default.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) executors: usize,
    pub(crate) vcores: usize,
    pub(crate) token: Option<Token>,
    pub(crate) udfs: Vec<ScalarUDF>,
    pub(crate) unplaceable_timeout: Option<Duration>,
    pub(crate) port: u16,
}

impl Cluster {
    pub(crate) async fn start(setup: Setup) -> Self {
        log_when_asked();
        let mut options = SchedulerOptions {
            token: setup.token.clone(),
            needs_gpu: Arc::new(|plan| displayable(plan.as_ref()).indent(true).to_string().contains(NEEDS_GPU)),
            ..Default::default()
        };
        options.bind.set_port(setup.port);
        if let Some(timeout) = setup.unplaceable_timeout {
            options.unplaceable_timeout = timeout;
        }
        let scheduler = tidemill_scheduler::start(options, hooks(&setup.udfs)).await.unwrap();
        let (token, udfs) = (setup.token, setup.udfs);
        let mut cluster = Self { scheduler, executors: vec![], token, udfs };
        for _ in 0..setup.executors {
            cluster.add_executor(ExecutorOptions { vcores: setup.vcores, ..Default::default() }).await;
        }
        cluster
    }

    pub(crate) async fn add_executor(&mut self, options: ExecutorOptions) {
        let options = self.executor_options(options);
        let executor = tidemill_executor::start(options, hooks(&self.udfs)).await.unwrap();
        self.executors.push(executor);
    }

    pub(crate) fn executor_options(&self, options: ExecutorOptions) -> ExecutorOptions {
        ExecutorOptions {
            scheduler_port: self.scheduler.address().port(),
            token: self.token.clone(),
            memory_bytes: Some(512 << 20),
            ..options
        }
    }

    pub(crate) fn jobs(&self) -> JobsClient {
        JobsClient::new(self.scheduler.address().to_string(), self.token.clone())
    }

    pub(crate) async fn client(&self) -> SessionContext {
        self.client_with(self.token.clone()).await
    }

    pub(crate) async fn client_with(&self, token: Option<Token>) -> SessionContext {
        let config =
            SessionConfig::new_with_ballista().with_ballista_adaptive_query_planner(false).with_target_partitions(4);
        let config = match token {
            Some(token) => token.apply(config),
            None => config,
        };
        let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
        let url = format!("df://{}", self.scheduler.address());
        let ctx = SessionContext::remote_with_state(&url, state).await.unwrap();
        self.udfs.iter().for_each(|udf| ctx.register_udf(udf.clone()));
        ctx
    }
}

/// A function over one integer column that is called for each batch.
pub(crate) fn int_udf(
    name: &str,
    call: impl Fn(&ColumnarValue) -> datafusion::error::Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    let call = Arc::new(move |args: &[ColumnarValue]| call(&args[0]));
    create_udf(name, vec![DataType::Int64], DataType::Int64, Volatility::Volatile, call)
}

/// Plain Ballista with some functions more.
pub(crate) fn hooks(udfs: &[ScalarUDF]) -> RuntimeHooks {
    let mut hooks = RuntimeHooks::plain().unwrap();
    let (plain, udfs) = (Arc::clone(&hooks.session_state), udfs.to_vec());
    hooks.session_state = Arc::new(move |config| {
        let ctx = SessionContext::new_with_state(plain(config)?);
        udfs.iter().for_each(|udf| ctx.register_udf(udf.clone()));
        Ok(ctx.state())
    });
    let state = (hooks.session_state)((hooks.config)()).unwrap();
    hooks.functions = Arc::new(BallistaFunctionRegistry::from(&state));
    hooks
}

/// Writes a table `t(x, k)` of `files` Parquet files: `x` counts up, `k` is one of seven.
pub(crate) async fn table(dir: &Path, files: i64, rows_per_file: i64) {
    let ctx = SessionContext::new();
    for file in 0..files {
        let (from, to) = (file * rows_per_file, (file + 1) * rows_per_file - 1);
        let path = dir.join(format!("{file}.parquet"));
        let sql = format!(
            "copy (select value as x, value % 7 as k from generate_series({from}, {to})) to '{}'",
            path.display()
        );
        ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    }
}

/// Registers the table, runs a query and returns its rows as text.
pub(crate) async fn query(ctx: &SessionContext, dir: &Path, sql: &str) -> Result<String, String> {
    let options = ParquetReadOptions::default();
    let path = dir.to_str().unwrap();
    if !ctx.table_exist("t").unwrap() {
        ctx.register_parquet("t", path, options).await.map_err(|e| e.to_string())?;
    }
    let frame = ctx.sql(sql).await.map_err(|e| e.to_string())?;
    let batches = frame.collect().await.map_err(|e| e.to_string())?;
    Ok(show(&batches))
}

/// The same in process, by plain DataFusion.
pub(crate) async fn expected(dir: &Path, sql: &str) -> String {
    query(&SessionContext::new(), dir, sql).await.unwrap()
}

pub(crate) fn show(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

/// Asks until the answer is there.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not within 60 s")
}

/// Logs what `RUST_LOG` asks for; nothing by default.
fn log_when_asked() {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    }
}

/// An executor in a process of its own, to be killed. Killed at the latest when dropped.
pub(crate) struct ChildExecutor {
    child: Child,
    /// Kept open: the child would end at its next line on a closed pipe.
    _out: BufReader<ChildStdout>,
}

impl ChildExecutor {
    /// Starts this test binary again as an executor; returns once it is registered.
    pub(crate) fn start(scheduler_port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["cluster::executor_process", "--exact", "--ignored", "--nocapture"])
            .env(SCHEDULER_PORT, scheduler_port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let ready = out.by_ref().lines().map_while(Result::ok).any(|line| line.contains(READY));
        assert!(ready, "the executor process ended");
        Self { child, _out: out }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for ChildExecutor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SCHEDULER_PORT: &str = "TIDEMILL_TEST_SCHEDULER_PORT";
const READY: &str = "executor is ready";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it as a process of its own"]
async fn executor_process() {
    let Ok(port) = std::env::var(SCHEDULER_PORT) else { return };
    let options = ExecutorOptions {
        scheduler_port: port.parse().unwrap(),
        vcores: 1,
        memory_bytes: Some(512 << 20),
        scheduler_lost_timeout: Some(Duration::from_secs(10)),
        ..Default::default()
    };
    log_when_asked();
    let open = int_udf(GATE, |x| Ok(x.clone()));
    let mut executor = tidemill_executor::start(options, hooks(&[open])).await.unwrap();
    println!("{READY}");
    let _ = executor.wait().await;
}
