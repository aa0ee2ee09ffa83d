//! The engine: sessions, SQL for models, scoring and training as plan operators, and jobs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic"))]

pub mod checks;
pub mod cluster;
pub mod codec;
pub mod dataset;
pub mod error;
pub mod grid;
pub mod jobs;
pub mod plan;
pub mod progress;
pub mod session;
mod time_length;

pub use error::{EngineError, Result};
pub use jobs::{JobFile, RunRecord};
pub use session::{Plugins, Session, SessionOptions, runtime_hooks};

/// The name nearest to a misspelt one, when one is near enough to be meant.
pub(crate) fn nearest<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    names
        .into_iter()
        .map(|n| (strsim::damerau_levenshtein(unknown, n), n))
        .filter(|(d, n)| *d <= n.len().div_ceil(3).max(1))
        .min()
        .map(|(_, n)| n.to_owned())
}
