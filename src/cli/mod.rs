//! The command line: arguments in, progress and reports out, an exit code at the end.
//!
//! [`output`] is the only module that prints. Ctrl-C drops a command's future, but for daemons,
//! which end in good order.

mod args;
mod error;
mod output;
mod progress;
mod signal;

mod cluster;
mod daemon;
mod demo;
mod describe;
mod features;
mod jobs;
mod models;
mod run;
mod runs;
mod session;
mod sql;
mod statements;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::runtime::Handle;

use args::{Cli, Command};
use error::{CliError, Result};
use output::Output;

/// Stacks of worker threads: plans are trees that planners walk recursively, and Ballista asks for as much.
const STACK_BYTES: usize = 32 * 1024 * 1024;
/// How long work that was cut off may take to clean up before the process ends all the same.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const CLEANUP_POLL: Duration = Duration::from_millis(20);

/// Parses the arguments, runs the command and gives the exit code that `tidemill --help` documents.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Arc::new(Output::new(&cli.global));
    output::log_to_stderr(cli.global.verbose);
    let result = run_to_end(cli, &output);
    output.close();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_to_end(cli: Cli, output: &Arc<Output>) -> Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().thread_stack_size(STACK_BYTES).build().map_err(CliError::Runtime)?;
    let output = Arc::clone(output);
    let work = || match cli.command {
        Command::Scheduler(_) | Command::Executor(_) | Command::Cluster(_) => runtime.block_on(dispatch(cli, output)),
        _ => runtime.block_on(async {
            let result = signal::until_interrupted(dispatch(cli, output)).await;
            if matches!(result, Err(CliError::Interrupted)) {
                cleaned_up().await;
            }
            result
        }),
    };
    // On a thread of its own, for its stack: the main thread's is the system's.
    let result = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("command".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work).map_err(CliError::Runtime)?;
        thread.join().unwrap_or_else(|_| Err(CliError::Broken("the command's thread panicked".to_owned())))
    });
    runtime.shutdown_timeout(CLEANUP_TIMEOUT);
    result
}

/// Waits until the tasks that work left behind when it was cut off have taken back what it wrote.
async fn cleaned_up() {
    let began = Instant::now();
    while Handle::current().metrics().num_alive_tasks() > 0 && began.elapsed() < CLEANUP_TIMEOUT {
        tokio::time::sleep(CLEANUP_POLL).await;
    }
}

async fn dispatch(cli: Cli, output: Arc<Output>) -> Result<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Demo(args) => Box::pin(demo::demo(&global, args, &output)).await,
        Command::Run(args) => Box::pin(run::run(&global, args, &output)).await,
        Command::Sql(args) => Box::pin(sql::sql(&global, args, &output)).await,
        Command::Describe(args) => Box::pin(describe::describe(&global, args, &output)).await,
        Command::Models { command } => Box::pin(models::models(&global, command, &output)).await,
        Command::Features { command } => Box::pin(features::features(&global, command, &output)).await,
        Command::Runs { command } => Box::pin(runs::runs(&global, command, &output)).await,
        Command::Jobs { command } => Box::pin(jobs::jobs(&global, command, &output)).await,
        Command::Scheduler(args) => Box::pin(daemon::scheduler(&global, args, &output)).await,
        Command::Executor(args) => Box::pin(daemon::executor(&global, args, &output)).await,
        Command::Cluster(args) => Box::pin(cluster::cluster(&global, args, &output)).await,
    }
}
