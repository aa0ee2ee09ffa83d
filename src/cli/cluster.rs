//! `tidemill cluster`: a scheduler and executors as child processes on free ports of this machine.
//!
//! Children end when their standard input does. Its other end is held here, so they end with this process however it
//! ends. A child that ends by itself is told of and not started again; without the scheduler everything ends.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use tidemill_scheduler::client::JobsClient;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::args::{ClusterArgs, Global};
use super::error::{CliError, Result};
use super::output::Output;
use super::{session, signal};

/// How long a child may take from its start until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the scheduler is asked how many executors it knows.
const POLL: Duration = Duration::from_millis(50);
/// How long children may take to end before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts scheduler and executors, prints the address, and stays up until told to end.
pub(crate) async fn cluster(global: &Global, args: ClusterArgs, output: &Arc<Output>) -> Result<()> {
    let mut children = Vec::new();
    let result = tokio::select! {
        result = run(global, &args, output, &mut children) => result,
        // Ends in good order here; the work of other commands is just dropped.
        () = signal::told_to_end() => Ok(()),
    };
    stop(children).await;
    result
}

async fn run(global: &Global, args: &ClusterArgs, output: &Output, children: &mut Vec<Member>) -> Result<()> {
    let scheduler = Member::start("scheduler", global, &["scheduler", "--bind", "127.0.0.1:0"])?;
    children.push(scheduler);
    let address = match children.last_mut() {
        Some(scheduler) => scheduler.ready().await?,
        None => return Err(CliError::Broken("no scheduler".to_owned())),
    };
    for n in 1..=args.executors {
        children.push(start_executor(global, args, n, &address)?);
    }
    for executor in children.iter_mut().skip(1) {
        executor.ready().await?;
    }
    registered(global, &address, usize::from(args.executors)).await?;
    announce(output, &address, args.executors)?;
    watch(children, output).await
}

fn start_executor(global: &Global, args: &ClusterArgs, n: u16, address: &str) -> Result<Member> {
    let vcores = args.vcores.unwrap_or_else(|| shared_cores(args.executors)).to_string();
    let memory = args.memory_mib.or_else(|| shared_memory_mib(args.executors)).map(|mib| mib.to_string());
    let mut arguments = vec!["executor", "--scheduler", address, "--vcores", &vcores];
    if let Some(memory) = &memory {
        arguments.extend(["--memory-mib", memory]);
    }
    if n <= args.gpu_executors {
        arguments.extend(["--label", "gpu"]);
    }
    Member::start(&format!("executor {n}"), global, &arguments)
}

/// The machine's cores dealt to executors, at least one each.
fn shared_cores(executors: u16) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / usize::from(executors.max(1))).max(1)
}

/// An executor's part of 70 % of the machine's memory, or of its control group's; none where that cannot be told.
fn shared_memory_mib(executors: u16) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo")
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map(|kib| kib / 1024);
    let group = read("/sys/fs/cgroup/memory.max").and_then(|limit| limit.trim().parse::<u64>().ok());
    let group = group.map(|bytes| bytes / (1 << 20));
    let all = machine.into_iter().chain(group).min()?;
    Some(all / 10 * 7 / u64::from(executors.max(1)))
}

/// Waits until the scheduler knows all executors.
async fn registered(global: &Global, address: &str, n: usize) -> Result<()> {
    let client = JobsClient::new(address, session::token(global)?);
    let known = async {
        while client.executors().await?.len() < n {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    let late = || CliError::Failed(format!("not all {n} executors registered at {address} within {READY_TIMEOUT:?}"));
    tokio::time::timeout(READY_TIMEOUT, known).await.map_err(|_| late())?
}

fn announce(output: &Output, address: &str, executors: u16) -> Result<()> {
    if output.is_json() {
        return output.object(&json!({"event": "ready", "address": address, "executors": executors}));
    }
    output.line(format_args!("cluster ready at {address}"))?;
    output.hint(format_args!(
        "{executors} executors; ctrl-C ends it. In another terminal:\n  tidemill demo --cluster {address}"
    ));
    Ok(())
}

/// Tells of children that end; ends when the scheduler does, or the last executor.
async fn watch(children: &mut [Member], output: &Output) -> Result<()> {
    let mut running = children.iter_mut().map(Member::ended).collect::<FuturesUnordered<_>>();
    while let Some((name, status)) = running.next().await {
        if name == "scheduler" {
            return Err(CliError::Failed(format!("the scheduler ended: {status}")));
        }
        let left = running.len().saturating_sub(1);
        let sentence = format!("{name} ended: {status}; {left} executors are left");
        output.event(&json!({"event": "warning", "message": sentence}), Some(sentence.clone()));
        if left == 0 {
            return Err(CliError::Failed("no executor is left".to_owned()));
        }
    }
    Ok(())
}

/// Lets executors end first, then the scheduler; kills what does not.
async fn stop(children: Vec<Member>) {
    let mut children = children;
    let scheduler = if children.is_empty() { None } else { Some(children.remove(0)) };
    futures::future::join_all(children.into_iter().map(Member::stop)).await;
    if let Some(scheduler) = scheduler {
        scheduler.stop().await;
    }
}

/// A child process.
struct Member {
    name: String,
    child: Child,
    /// Open for as long as the child is to live. Apart from the child, whose `wait` would close it.
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Member {
    /// Starts this program again with other arguments. Its errors go where ours go.
    fn start(name: &str, global: &Global, arguments: &[&str]) -> Result<Self> {
        let failed = |e: std::io::Error| CliError::Environment(format!("cannot start the {name}: {e}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(arguments).args(["--stop-with-stdin", "--json", "--warehouse", &global.warehouse]);
        if let Some(file) = &global.token_file {
            command.arg("--token-file").arg(file);
        }
        if global.verbose > 0 {
            command.arg(format!("-{}", "v".repeat(usize::from(global.verbose))));
        }
        // Ctrl-C reaches the whole foreground group: in groups of their own children end when told to, in order.
        #[cfg(unix)]
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let out = child.stdout.take().ok_or_else(|| CliError::Broken(format!("{name} has no output")))?;
        let stdin = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, stdin, lines: BufReader::new(out).lines() })
    }

    /// Waits until it says that it is ready; gives its address.
    async fn ready(&mut self) -> Result<String> {
        let failed = |why: String| CliError::Failed(format!("the {} did not start: {why}", self.name));
        match tokio::time::timeout(READY_TIMEOUT, address(&mut self.lines)).await {
            Ok(Ok(Some(address))) => Ok(address),
            Ok(Ok(None)) => Err(failed("it ended; its own error stands above".to_owned())),
            Ok(Err(e)) => Err(failed(e.to_string())),
            Err(_) => Err(failed(format!("not ready after {READY_TIMEOUT:?}"))),
        }
    }

    /// Waits until it ends by itself.
    async fn ended(&mut self) -> (String, String) {
        let status = self.child.wait().await;
        (self.name.clone(), status_text(status))
    }

    /// Closes its standard input, which ends it, and kills it when it does not end.
    async fn stop(mut self) {
        drop(self.stdin);
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            // Already gone is as good.
            let _ = self.child.kill().await;
        }
    }
}

/// The address in the line that says that a child is ready; none when its output ends before.
async fn address(lines: &mut Lines<BufReader<ChildStdout>>) -> std::io::Result<Option<String>> {
    while let Some(line) = lines.next_line().await? {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["event"] == "ready" {
            return Ok(event["address"].as_str().map(str::to_owned));
        }
    }
    Ok(None)
}

fn status_text(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|e| e.to_string(), |status| status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_executor_gets_a_core() {
        assert!(shared_cores(1) >= 1);
        assert_eq!(shared_cores(u16::MAX), 1);
    }
}
