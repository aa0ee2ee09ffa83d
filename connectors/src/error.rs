//! The crate's one error type. Its variants say who must act.

use std::error::Error as StdError;
use std::io;

use datafusion::error::DataFusionError;
use object_store::Error as StoreError;

/// The result of this crate's functions.
pub type Result<T, E = ConnectorError> = std::result::Result<T, E>;

pub(crate) const NO_BUCKET: &str = "the bucket does not exist";

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// Why reading, writing or committing failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The caller named something that is not there: a file, a bucket, a table version.
    #[error("{message}")]
    NotFound {
        /// What was looked for, and where.
        message: String,
        /// The store's own error, when it had one.
        #[source]
        source: Option<Source>,
    },
    /// The store refused the credentials, or the path may not be written.
    #[error("{message}")]
    PermissionDenied {
        /// What was refused, and what to do.
        message: String,
        /// The store's own error, when it had one.
        #[source]
        source: Option<Source>,
    },
    /// The caller's input is not what it has to be: not Parquet, another schema, a malformed URL.
    #[error("{message}")]
    InvalidInput {
        /// Expected against got.
        message: String,
        /// The reader's own error, when it had one.
        #[source]
        source: Option<Source>,
    },
    /// Somebody else committed something that this commit would have undone. Decide anew and try again.
    #[error("{message}")]
    Conflict {
        /// What collided with what.
        message: String,
    },
    /// The store or the network failed.
    #[error("{message}")]
    Environment {
        /// What was tried.
        message: String,
        /// Whether the same request may succeed later.
        retryable: bool,
        /// The store's own error, when it had one.
        #[source]
        source: Option<Source>,
    },
    /// A broken invariant of ours.
    #[error("{message}; this is a bug in tidemill")]
    Internal {
        /// The invariant.
        message: String,
    },
}

impl ConnectorError {
    /// The caller named something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound { message: message.into(), source: None }
    }

    /// The store refused.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::PermissionDenied { message: message.into(), source: None }
    }

    /// The caller's input is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidInput { message: message.into(), source: None }
    }

    /// The caller's input is wrong, and `source` says why.
    pub fn invalid_because(message: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::InvalidInput { message: message.into(), source: Some(Box::new(source)) }
    }

    /// Another commit came first.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }

    /// An invariant of ours does not hold.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// Classifies a store's error; `what` names the action and the place, as in `reading s3://b/x`.
    pub fn from_store(what: impl Into<String>, error: StoreError) -> Self {
        let what = what.into();
        match &error {
            StoreError::NotFound { .. } if says(&error, "NoSuchBucket") => {
                with_source(Kind::NotFound, format!("{what}: {NO_BUCKET}"), error)
            }
            StoreError::NotFound { .. } => with_source(Kind::NotFound, format!("{what}: not found"), error),
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                with_source(Kind::Denied, refused(&what), error)
            }
            StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
                Self::Conflict { message: format!("{what}: already exists") }
            }
            StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => {
                with_source(Kind::Invalid, format!("{what}: {error}"), error)
            }
            StoreError::NotImplemented { .. } | StoreError::NotSupported { .. } => environment(what, false, error),
            _ => from_source_chain(what, error),
        }
    }

    /// Whether the same request may succeed if it is made again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Environment { retryable, .. } if *retryable)
    }
}

/// DataFusion's error carries ours. A retryable one travels as an `IoError`, the only kind that
/// Ballista tries again.
impl From<ConnectorError> for DataFusionError {
    fn from(error: ConnectorError) -> Self {
        if error.is_retryable() {
            DataFusionError::IoError(io::Error::other(error))
        } else {
            DataFusionError::External(Box::new(error))
        }
    }
}

enum Kind {
    NotFound,
    Denied,
    Invalid,
}

fn with_source(kind: Kind, message: String, error: StoreError) -> ConnectorError {
    let source: Option<Source> = Some(Box::new(error));
    match kind {
        Kind::NotFound => ConnectorError::NotFound { message, source },
        Kind::Denied => ConnectorError::PermissionDenied { message, source },
        Kind::Invalid => ConnectorError::InvalidInput { message, source },
    }
}

fn environment(what: String, retryable: bool, error: StoreError) -> ConnectorError {
    ConnectorError::Environment {
        message: format!("{what}: {}", innermost(&error)),
        retryable,
        source: Some(Box::new(error)),
    }
}

/// The stores wrap what the operating system said; the first `io::Error` in the chain decides.
fn from_source_chain(what: String, error: StoreError) -> ConnectorError {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    match io_kind(&error) {
        Some(PermissionDenied | ReadOnlyFilesystem | NotADirectory) => {
            let message = format!("{what}: the path may not be written: {}", innermost(&error));
            with_source(Kind::Denied, message, error)
        }
        Some(NotFound) => with_source(Kind::NotFound, format!("{what}: not found"), error),
        Some(StorageFull) => environment(what, false, error),
        Some(_) => environment(what, true, error),
        None => from_http_status(what, error),
    }
}

/// object_store gives listings no error of their own, and keeps the type that holds the status private.
fn from_http_status(what: String, error: StoreError) -> ConnectorError {
    match http_status(&error) {
        Some(401 | 403) => with_source(Kind::Denied, refused(&what), error),
        Some(404) if says(&error, "NoSuchBucket") => with_source(Kind::NotFound, format!("{what}: {NO_BUCKET}"), error),
        Some(404) => with_source(Kind::NotFound, format!("{what}: not found"), error),
        Some(400..500) => environment(what, false, error),
        _ => environment(what, true, error),
    }
}

fn refused(what: &str) -> String {
    format!(
        "{what}: the store refused the credentials or the access; check AWS_ACCESS_KEY_ID, AWS_PROFILE or the option tidemill_s3.credentials"
    )
}

fn http_status(error: &StoreError) -> Option<u16> {
    let text = innermost(error);
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn io_kind(error: &StoreError) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = current.source();
    }
    None
}

fn innermost(error: &StoreError) -> String {
    let mut current: &dyn StdError = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

/// S3 names the cause in the answer's body alone, and object_store keeps that type private:
/// the text is the only place to look.
fn says(error: &StoreError, code: &str) -> bool {
    error.to_string().contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(kind: io::ErrorKind) -> StoreError {
        StoreError::Generic { store: "test", source: Box::new(io::Error::from(kind)) }
    }

    #[test]
    fn an_unwritable_path_is_denied_and_not_retried() {
        let error = ConnectorError::from_store("writing /x", generic(io::ErrorKind::NotADirectory));
        assert!(matches!(error, ConnectorError::PermissionDenied { .. }));
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_network_failure_is_retryable_and_stays_so_in_datafusion() {
        let error = ConnectorError::from_store("reading s3://b/x", generic(io::ErrorKind::TimedOut));
        assert!(error.is_retryable());
        assert!(matches!(DataFusionError::from(error), DataFusionError::IoError(_)));
    }
}
