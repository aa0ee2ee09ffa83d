//! Grid search: candidates share features, passes and matrices.
//!
//! The pipeline is fitted once for each fold and once for the refit, all in the same passes over the data. Each
//! fold's matrix is written once, sorted by the row key, and read by every candidate of that fold. The unit of work
//! is a group: the candidates of one estimator on one fold. Groups are formed from the grid alone, never from the
//! executors at hand, so the result does not depend on the cluster. A matrix that no process holds is in shards, and all
//! processes train each group together.

mod explain;
mod folds;
mod groups;
mod halving;
mod label;
mod matrices;
mod search;
mod sharded;
#[cfg(test)]
mod tests;

pub use explain::{RungPlan, SearchPlan};
pub use folds::{FoldKind, Folds, Gap};
pub use halving::{Halving, Resource};
pub use label::Label;
pub use matrices::{FOLD_COLUMN, Parallel, ROWS_PER_SHARD, write_matrix};
pub use search::{GridSearch, Refit, SearchResult};
