//! How a scheduler is asked to run.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use tidemill_engine::cluster::Token;

/// Decides from a stage's plan whether only executors with a GPU may run it. Called often: keep it cheap.
pub type NeedsGpu = Arc<dyn Fn(&Arc<dyn ExecutionPlan>) -> bool + Send + Sync>;

/// How a scheduler is asked to run. The default listens on a free port of loopback, without a token.
#[derive(Clone)]
pub struct SchedulerOptions {
    /// Where to listen, gRPC and HTTP on one port; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The host that executors and clients are told, when it is not the bound address.
    pub external_host: Option<String>,
    /// The cluster's token; required beyond loopback.
    pub token: Option<Token>,
    /// How long a stage may wait for an executor that can take it before its job fails. 60 s by default.
    pub unplaceable_timeout: Duration,
    /// How long an executor may be silent before its work is given to others. 20 s by default; an executor whose
    /// process is gone is noticed within about five seconds.
    pub executor_timeout: Duration,
    /// How long the result of a finished job can be fetched. An hour by default.
    pub result_retention: Duration,
    /// Which stages need a GPU. None by default.
    pub needs_gpu: NeedsGpu,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            external_host: None,
            token: None,
            unplaceable_timeout: Duration::from_secs(60),
            executor_timeout: Duration::from_secs(20),
            result_retention: Duration::from_secs(3600),
            needs_gpu: Arc::new(|_| false),
        }
    }
}

impl fmt::Debug for SchedulerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerOptions")
            .field("bind", &self.bind)
            .field("external_host", &self.external_host)
            .field("token", &self.token)
            .field("unplaceable_timeout", &self.unplaceable_timeout)
            .field("executor_timeout", &self.executor_timeout)
            .finish_non_exhaustive()
    }
}
