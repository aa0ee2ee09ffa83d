//! The crate's error: variants by who must act.

use datafusion::error::DataFusionError;
use tidemill_connectors::ConnectorError;
use tidemill_ml::MlError;

/// The crate's result.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// What went wrong in a session or a job.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The caller's job file, SQL, parameters or data.
    #[error("{0}")]
    Invalid(String),
    /// What the caller named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Data that is not what a job expects of it.
    #[error("{0}")]
    Data(String),
    /// The cluster or the machine: another try, or another address, may do.
    #[error("{message}")]
    Environment {
        /// What was tried, what came, what to do.
        message: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The store or a table format.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Features, training or the registry.
    #[error(transparent)]
    Ml(#[from] MlError),
    /// The query engine.
    #[error("{}", root_message(.0))]
    DataFusion(#[from] DataFusionError),
    /// A broken invariant of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl EngineError {
    /// Whether the same call may succeed when it is made again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Environment { retryable, .. } => *retryable,
            Self::Connector(e) => e.is_retryable(),
            Self::Ml(e) => e.is_retryable(),
            Self::DataFusion(e) => {
                matches!(e.find_root(), DataFusionError::IoError(_) | DataFusionError::ObjectStore(_))
            }
            Self::Invalid(_) | Self::NotFound(_) | Self::Data(_) | Self::Internal(_) => false,
        }
    }
}

/// The innermost message: what a person needs, without the layers that it came through.
fn root_message(e: &DataFusionError) -> String {
    match e.find_root() {
        DataFusionError::SQL(parser, _) => format!("SQL does not parse: {parser}"),
        DataFusionError::Plan(m) | DataFusionError::Execution(m) => m.clone(),
        DataFusionError::External(e) => e.to_string(),
        DataFusionError::Diagnostic(_, inner) => root_message(inner),
        other => other.to_string(),
    }
}

impl From<arrow::error::ArrowError> for EngineError {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::DataFusion(e.into())
    }
}

impl From<serde_json::Error> for EngineError {
    fn from(e: serde_json::Error) -> Self {
        Self::Internal(format!("JSON of a record: {e}"))
    }
}

impl From<EngineError> for DataFusionError {
    fn from(e: EngineError) -> Self {
        match e {
            EngineError::DataFusion(e) => e,
            other => Self::External(Box::new(other)),
        }
    }
}
