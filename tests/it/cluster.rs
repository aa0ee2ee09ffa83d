//! A cluster of real processes for a test: `tidemill cluster` on free ports, gone when the test is.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running cluster.
pub(crate) struct LocalCluster {
    /// The scheduler's `host:port`.
    pub(crate) address: String,
    child: Child,
}

impl LocalCluster {
    /// Starts a scheduler and executors; returns when all of them are ready.
    pub(crate) fn start(executors: usize) -> Self {
        Self::start_with(executors, &[])
    }

    /// As [`LocalCluster::start`], with further arguments.
    pub(crate) fn start_with(executors: usize, arguments: &[&str]) -> Self {
        Self::run(&[&["cluster", "--executors", &executors.to_string()], arguments].concat())
    }

    /// A scheduler without executors.
    pub(crate) fn scheduler() -> Self {
        Self::run(&["scheduler", "--bind", "127.0.0.1:0"])
    }

    fn run(command: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .arg("--json")
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let ready = out.lines().map(Result::unwrap).find(|l| l.contains("\"address\""));
        let ready: serde_json::Value =
            serde_json::from_str(&ready.expect("the cluster ended before it was ready")).unwrap();
        let address = ready["address"].as_str().unwrap().to_owned();
        Self { address, child }
    }

    /// The process ids of the executors: children of the cluster's process.
    pub(crate) fn executors(&self) -> Vec<u32> {
        let me = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        let is_executor = |id: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|s| s.split_whitespace().nth(1)).unwrap_or_default();
            let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            parent == me && command.split(|b| *b == 0).any(|a| a == b"executor")
        };
        let mut ids: Vec<u32> = ids.filter(is_executor).collect();
        ids.sort_unstable();
        ids
    }
}

/// The processor time that processes have taken, in ticks of 10 ms.
pub(crate) fn processor_ticks(processes: &[u32]) -> u64 {
    let of = |id: &u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    };
    processes.iter().map(of).sum()
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
