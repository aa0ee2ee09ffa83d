//! Grid search: candidates share features, passes and matrices.
//!
//! The pipeline is fitted once for each fold and once for the refit, all in the same passes over the data. Each
//! fold's matrix is written once, sorted by the row key, and read by every candidate of that fold. The unit of work
//! is a group: the candidates of one estimator on one fold. Groups are formed from the grid alone, never from the
//! executors at hand, so the result does not depend on the cluster.

mod halving;
mod label;
mod matrices;
mod search;
#[cfg(test)]
mod tests;

pub use halving::{Halving, Resource};
pub use label::Label;
pub use matrices::{FOLD_COLUMN, write_matrix};
pub use search::{GridSearch, Refit, SearchResult};
