//! How an executor is asked to run.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use tidemill_engine::cluster::Token;

/// How an executor is asked to run. The default serves a scheduler on this machine from free ports of loopback.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// The scheduler's host.
    pub scheduler_host: String,
    /// The scheduler's port.
    pub scheduler_port: u16,
    /// How long to look for the scheduler at start. 20 s by default.
    pub connect_timeout: Duration,
    /// How long to go on without an answer of the scheduler; forever by default, for schedulers are restarted.
    pub scheduler_lost_timeout: Option<Duration>,
    /// The address that both ports listen on.
    pub bind: IpAddr,
    /// The host that scheduler, clients and other executors are told, when it is not the bound address.
    pub external_host: Option<String>,
    /// Where shuffle data and results are served; 0 takes a free port.
    pub flight_port: u16,
    /// Where tasks are received; 0 takes a free port.
    pub grpc_port: u16,
    /// How many partitions run at the same time; 0 takes the machine's cores.
    pub vcores: usize,
    /// Memory for the tasks together, split evenly over the vcores; by default 70 % of what the machine or its
    /// control group has. Several executors on one machine must share it by this option.
    pub memory_bytes: Option<u64>,
    /// Where shuffle data, results and spilled data lie, in a folder of this executor's own that is removed at its
    /// end; the system's temporary folder by default. Small outputs are kept in memory where the machine has `/dev/shm`,
    /// up to 32 MiB.
    pub work_dir: Option<PathBuf>,
    /// The cluster's token; required beyond loopback.
    pub token: Option<Token>,
    /// How many GPUs it offers; stages that need one go to executors with at least one.
    pub gpus: u32,
    /// Labels besides; `gpu` counts as a GPU, for machines without one.
    pub labels: Vec<String>,
    /// How often the scheduler hears from it. 2 s by default.
    pub heartbeat_interval: Duration,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self {
            scheduler_host: "127.0.0.1".to_owned(),
            scheduler_port: 50050,
            connect_timeout: Duration::from_secs(20),
            scheduler_lost_timeout: None,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            external_host: None,
            flight_port: 0,
            grpc_port: 0,
            vcores: 0,
            memory_bytes: None,
            work_dir: None,
            token: None,
            gpus: 0,
            labels: Vec::new(),
            heartbeat_interval: Duration::from_secs(2),
        }
    }
}

impl ExecutorOptions {
    /// Sets the scheduler from `host:port`.
    ///
    /// # Errors
    /// When the text is not that.
    pub fn with_scheduler(mut self, address: &str) -> crate::Result<Self> {
        let parsed = address.rsplit_once(':').and_then(|(h, p)| Some((h, p.parse().ok()?)));
        let Some((host, port)) = parsed.filter(|(host, _)| !host.is_empty()) else {
            return Err(crate::ExecutorError::Address { address: address.to_owned() });
        };
        self.scheduler_host = host.to_owned();
        self.scheduler_port = port;
        Ok(self)
    }

    /// The vcores, with 0 resolved.
    pub(crate) fn vcores(&self) -> usize {
        match self.vcores {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduler_addresses_are_host_and_port() {
        let options = ExecutorOptions::default().with_scheduler("db.example:7070").unwrap();
        assert_eq!((options.scheduler_host.as_str(), options.scheduler_port), ("db.example", 7070));
        for wrong in ["", "host", ":1", "host:", "host:99999"] {
            let error = ExecutorOptions::default().with_scheduler(wrong).unwrap_err();
            assert!(error.to_string().contains("expected host:port"), "{error}");
        }
    }
}
