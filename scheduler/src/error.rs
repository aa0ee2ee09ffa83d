//! What can go wrong in the scheduler and in its client.

use std::net::SocketAddr;

use tidemill_engine::cluster::ClusterError;

/// This crate's result.
pub type Result<T> = std::result::Result<T, SchedulerError>;

/// An error of the scheduler or of its client, by who must act.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The caller: the options are not acceptable.
    #[error(transparent)]
    Options(#[from] ClusterError),
    /// The environment: the address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for a free one")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The environment: the process cannot get what it needs to run.
    #[error("the scheduler cannot run: {0}")]
    Io(#[from] std::io::Error),
    /// Ballista's scheduler did not start.
    #[error("the scheduler did not start: {0}")]
    Start(#[source] Box<ballista_core::error::BallistaError>),
    /// A broken invariant: the scheduler's own task ended.
    #[error("the scheduler ended unexpectedly: {0}")]
    Ended(String),
    /// The environment: no scheduler answers. Worth a retry.
    #[error("no scheduler answers at {address}: {source}; start one with: tidemill scheduler")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// The caller: the token is not the scheduler's.
    #[error("the scheduler at {address} refuses the token; pass the cluster's token with --token-file")]
    Refused {
        /// The scheduler.
        address: String,
    },
    /// The caller: there is no such job.
    #[error("no job {job} on the scheduler at {address}; list them with: tidemill jobs list")]
    UnknownJob {
        /// The job asked for.
        job: String,
        /// The scheduler.
        address: String,
    },
    /// The caller: the job has ended.
    #[error("job {job} cannot be cancelled: {reason}")]
    NotCancellable {
        /// The job.
        job: String,
        /// Why not.
        reason: String,
    },
    /// Us, or another program on that port: an answer that is not understood.
    #[error("the scheduler at {address} answered {path} with {got}; expected a tidemill scheduler of the same version")]
    Answer {
        /// The scheduler.
        address: String,
        /// What was asked.
        path: String,
        /// What came.
        got: String,
    },
}

impl SchedulerError {
    /// Whether the same call may succeed later with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
