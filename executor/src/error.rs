//! What can go wrong in an executor.

use std::net::SocketAddr;
use std::path::PathBuf;

use tidemill_engine::cluster::ClusterError;

/// This crate's result.
pub type Result<T> = std::result::Result<T, ExecutorError>;

/// An error of the executor process, by who must act. Errors of tasks travel to the scheduler instead.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The caller: the options are not acceptable.
    #[error(transparent)]
    Options(#[from] ClusterError),
    /// The caller: memory cannot be split over the vcores.
    #[error("{memory_bytes} bytes of memory are too few for {vcores} vcores; give at least {least_bytes}")]
    Memory {
        /// What was given.
        memory_bytes: u64,
        /// Over how many vcores.
        vcores: usize,
        /// The least that works.
        least_bytes: u64,
    },
    /// The caller: the scheduler's address is not one.
    #[error("{address} is not the address of a scheduler, expected host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// The environment: an address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for a free one")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The environment: the work directory cannot be used.
    #[error("cannot use {path} for shuffle data: {source}; choose another with --work-dir")]
    WorkDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The environment: no scheduler answers. Worth a retry.
    #[error("no scheduler answers at {address} within {waited_s:.0} s: {reason}; start one with: tidemill scheduler")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// For how long.
        waited_s: f64,
        /// What the last attempt said.
        reason: String,
    },
    /// The caller: the token is not the scheduler's.
    #[error("the scheduler at {address} refuses the token; pass the cluster's token with --token-file")]
    Refused {
        /// The scheduler.
        address: String,
    },
    /// The scheduler does not take this executor, e.g. because it cannot reach it.
    #[error("the scheduler at {address} did not register this executor: {reason}")]
    NotRegistered {
        /// The scheduler.
        address: String,
        /// The scheduler's reason.
        reason: String,
    },
    /// The scheduler was gone for longer than was allowed.
    #[error("the scheduler at {address} has not answered for {silent_s:.0} s")]
    SchedulerLost {
        /// The scheduler.
        address: String,
        /// For how long.
        silent_s: f64,
    },
    /// The environment: the process cannot get what it needs to run.
    #[error("the executor cannot run: {0}")]
    Io(#[from] std::io::Error),
    /// One of the executor's servers ended.
    #[error("the executor's server ended: {0}")]
    Server(String),
}

impl ExecutorError {
    /// Whether the same start may succeed later with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::SchedulerLost { .. })
    }
}
