//! `tidemill scheduler` and `tidemill executor`: run until told to end, or until the parent is gone.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use serde_json::json;
use tidemill_engine::cluster::RuntimeHooks;
use tidemill_engine::plan::score::ScoreExec;
use tidemill_engine::{Plugins, runtime_hooks};
use tidemill_executor::ExecutorOptions;
use tidemill_scheduler::SchedulerOptions;

use super::args::{ExecutorArgs, Global, SchedulerArgs};
use super::error::{CliError, Result};
use super::output::Output;
use super::{session, signal};

/// Bytes of a mebibyte.
const MIB: u64 = 1 << 20;

/// Runs a scheduler until told to end.
pub(crate) async fn scheduler(global: &Global, args: SchedulerArgs, output: &Arc<Output>) -> Result<()> {
    let options = SchedulerOptions {
        bind: args.bind,
        external_host: args.external_host,
        token: session::token(global)?,
        unplaceable_timeout: Duration::from_secs(args.unplaceable_timeout),
        needs_gpu: Arc::new(needs_gpu),
        ..SchedulerOptions::default()
    };
    let mut handle = tidemill_scheduler::start(options, hooks("scheduler")?).await?;
    let address = handle.address();
    ready(
        output,
        address.to_string(),
        format!("scheduler at {address}; executors join it with: tidemill executor --scheduler {address}"),
    );
    let ended = tokio::select! {
        ended = handle.wait() => Some(ended),
        () = told_to_end(args.stop_with_stdin) => None,
    };
    handle.shutdown().await;
    ended.unwrap_or(Ok(())).map_err(CliError::from)
}

/// Runs an executor until told to end.
pub(crate) async fn executor(global: &Global, args: ExecutorArgs, output: &Arc<Output>) -> Result<()> {
    let process = format!("{}-{}", tidemill_engine::cluster::machine_name(), std::process::id());
    let stop_with_stdin = args.stop_with_stdin;
    let scheduler = args.scheduler.clone();
    let options = executor_options(global, args)?;
    let mut handle = tidemill_executor::start(options, hooks(&process)?).await?;
    let address = handle.flight_address();
    ready(output, address.to_string(), format!("executor {} at {address} works for {scheduler}", handle.id()));
    let ended = tokio::select! {
        ended = handle.wait() => Some(ended),
        () = told_to_end(stop_with_stdin) => None,
    };
    handle.shutdown().await;
    ended.unwrap_or(Ok(())).map_err(CliError::from)
}

fn executor_options(global: &Global, args: ExecutorArgs) -> Result<ExecutorOptions> {
    let options = ExecutorOptions {
        bind: args.bind,
        external_host: args.external_host,
        flight_port: args.flight_port,
        grpc_port: args.grpc_port,
        vcores: args.vcores.unwrap_or(0),
        memory_bytes: args.memory_mib.map(|mib| mib.saturating_mul(MIB)),
        work_dir: args.work_dir,
        token: session::token(global)?,
        gpus: args.gpus,
        labels: args.labels,
        ..ExecutorOptions::default()
    };
    Ok(options.with_scheduler(&args.scheduler)?)
}

/// The plans and functions of this build, the same in every process of a cluster.
fn hooks(process: &str) -> Result<RuntimeHooks> {
    Ok(runtime_hooks(&Plugins::default(), process)?)
}

/// Whether a stage scores on a GPU.
fn needs_gpu(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<ScoreExec>().is_some_and(ScoreExec::needs_gpu) || plan.children().into_iter().any(needs_gpu)
}

/// Tells that the process is ready: `tidemill cluster` waits for it.
fn ready(output: &Output, address: String, sentence: String) {
    output.event(&json!({"event": "ready", "address": address}), Some(sentence));
}

/// Waits for a signal to end; with a parent to watch, also for its end.
async fn told_to_end(stop_with_stdin: bool) {
    let parent: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match stop_with_stdin {
        true => Box::pin(signal::parent_is_gone()),
        false => Box::pin(std::future::pending()),
    };
    tokio::select! {
        () = signal::told_to_end() => {}
        () = parent => {}
    }
}
