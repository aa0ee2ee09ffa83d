//! The crate's error: variants by who must act.

use datafusion::error::DataFusionError;

/// The crate's result.
pub type Result<T, E = MlError> = std::result::Result<T, E>;

/// What went wrong in feature stages, training, scoring or the registry.
#[derive(Debug, thiserror::Error)]
pub enum MlError {
    /// The caller's pipeline, parameters, columns or data do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// A model, version or alias that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Saved bytes that are damaged or of a newer format.
    #[error("{what} is not readable: {why}")]
    Corrupt {
        /// The file or record.
        what: String,
        /// What was expected and what came.
        why: String,
    },
    /// Work that was cancelled by its owner.
    #[error("cancelled")]
    Cancelled,
    /// The query engine failed underneath.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
    /// Arrow failed underneath.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// The object store failed underneath.
    #[error(transparent)]
    Store(#[from] object_store::Error),
    /// A broken invariant of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl MlError {
    /// Whether the same call may succeed when it is made again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(e) if !matches!(e,
            object_store::Error::NotFound { .. }
            | object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
            | object_store::Error::NotSupported { .. }))
    }
}

impl From<MlError> for DataFusionError {
    fn from(e: MlError) -> Self {
        match e {
            MlError::DataFusion(e) => e,
            other => Self::External(Box::new(other)),
        }
    }
}
