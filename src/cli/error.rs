//! What a command can fail with, and the exit code of each.

use std::io;

use datafusion::error::DataFusionError;
use tidemill::report::ReportError;
use tidemill_connectors::ConnectorError;
use tidemill_engine::EngineError;
use tidemill_engine::cluster::ClusterError;
use tidemill_executor::ExecutorError;
use tidemill_ml::MlError;
use tidemill_scheduler::SchedulerError;

/// The command line's result.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

/// The work failed.
const FAILED: u8 = 1;
/// The input is wrong: for the caller to put right.
const USAGE: u8 = 2;
/// The environment: not reachable, no permission.
const ENVIRONMENT: u8 = 3;
/// Interrupted, as shells number it.
const INTERRUPTED: u8 = 130;

/// What a command can fail with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments do not fit together, or a file that they name cannot be read.
    #[error("{0}")]
    Usage(String),
    /// Work that was done did not succeed.
    #[error("{0}")]
    Failed(String),
    /// The machine or the network.
    #[error("{0}")]
    Environment(String),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The scheduler or its client.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// The executor.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The token or an address.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The HTML report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// The reader of standard output went away: nothing to complain of.
    #[error("standard output was closed")]
    Closed,
    /// The process cannot get its threads.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// Ctrl-C, or a signal to end.
    #[error("interrupted")]
    Interrupted,
    /// A broken invariant of ours.
    #[error("internal error: {0}")]
    Broken(String),
}

impl CliError {
    /// The exit code that the help documents.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Usage(_) | Self::Cluster(_) => USAGE,
            Self::Failed(_) | Self::Report(_) | Self::Broken(_) => FAILED,
            Self::Environment(_) | Self::Stdout(_) | Self::Runtime(_) => ENVIRONMENT,
            Self::Interrupted => INTERRUPTED,
            Self::Engine(e) => engine_code(e),
            Self::Scheduler(e) => scheduler_code(e),
            Self::Executor(e) => executor_code(e),
        }
    }
}

impl From<DataFusionError> for CliError {
    fn from(e: DataFusionError) -> Self {
        Self::Engine(e.into())
    }
}

impl From<MlError> for CliError {
    fn from(e: MlError) -> Self {
        Self::Engine(e.into())
    }
}

fn engine_code(e: &EngineError) -> u8 {
    match e {
        EngineError::Invalid(_) | EngineError::NotFound(_) => USAGE,
        EngineError::Environment { .. } => ENVIRONMENT,
        EngineError::Connector(e) => connector_code(e),
        EngineError::Ml(e) => ml_code(e),
        EngineError::DataFusion(e) => datafusion_code(e),
        _ => FAILED,
    }
}

fn ml_code(e: &MlError) -> u8 {
    match e {
        MlError::Invalid(_) | MlError::NotFound(_) => USAGE,
        MlError::DataFusion(e) => datafusion_code(e),
        MlError::Store(e) => store_code(e),
        _ => FAILED,
    }
}

fn connector_code(e: &ConnectorError) -> u8 {
    match e {
        ConnectorError::NotFound { .. } | ConnectorError::InvalidInput { .. } => USAGE,
        ConnectorError::PermissionDenied { .. } | ConnectorError::Environment { .. } => ENVIRONMENT,
        ConnectorError::Conflict { .. } | ConnectorError::Internal { .. } => FAILED,
    }
}

fn store_code(e: &object_store::Error) -> u8 {
    match e {
        object_store::Error::NotFound { .. } | object_store::Error::InvalidPath { .. } => USAGE,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => FAILED,
        _ => ENVIRONMENT,
    }
}

/// What lies at the bottom decides: our own errors travel through DataFusion's.
fn datafusion_code(e: &DataFusionError) -> u8 {
    match e.find_root() {
        DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => USAGE,
        DataFusionError::IoError(_) => ENVIRONMENT,
        DataFusionError::ObjectStore(e) => store_code(e),
        DataFusionError::Diagnostic(_, inner) => datafusion_code(inner),
        DataFusionError::External(e) => external_code(e.as_ref()),
        _ => FAILED,
    }
}

fn external_code(e: &(dyn std::error::Error + Send + Sync + 'static)) -> u8 {
    if let Some(e) = e.downcast_ref::<EngineError>() {
        engine_code(e)
    } else if let Some(e) = e.downcast_ref::<ConnectorError>() {
        connector_code(e)
    } else if let Some(e) = e.downcast_ref::<MlError>() {
        ml_code(e)
    } else {
        FAILED
    }
}

fn scheduler_code(e: &SchedulerError) -> u8 {
    match e {
        SchedulerError::Options(_) | SchedulerError::UnknownJob { .. } | SchedulerError::NotCancellable { .. } => USAGE,
        SchedulerError::Bind { .. }
        | SchedulerError::Io(_)
        | SchedulerError::Unreachable { .. }
        | SchedulerError::Refused { .. }
        | SchedulerError::Answer { .. } => ENVIRONMENT,
        _ => FAILED,
    }
}

fn executor_code(e: &ExecutorError) -> u8 {
    match e {
        ExecutorError::Options(_) | ExecutorError::Memory { .. } | ExecutorError::Address { .. } => USAGE,
        ExecutorError::Server(_) => FAILED,
        _ => ENVIRONMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_must_act_decides_the_code() {
        let invalid = CliError::from(EngineError::Invalid("x".into()));
        let away = CliError::from(EngineError::Environment { message: "x".into(), retryable: true });
        let denied = CliError::from(EngineError::from(ConnectorError::denied("x")));
        let ours = CliError::from(EngineError::Internal("x".into()));
        assert_eq!([invalid, away, denied, ours].map(|e| e.exit_code()), [USAGE, ENVIRONMENT, ENVIRONMENT, FAILED]);
    }

    #[test]
    fn the_cause_counts_and_not_what_it_travelled_in() {
        let buried = DataFusionError::External(Box::new(MlError::NotFound("no model".into())));
        let buried = CliError::from(DataFusionError::Context("planning".into(), Box::new(buried)));
        assert_eq!(buried.exit_code(), USAGE);
        let store = ConnectorError::Environment { message: "x".into(), retryable: true, source: None };
        assert_eq!(CliError::from(DataFusionError::from(store)).exit_code(), ENVIRONMENT);
    }
}
