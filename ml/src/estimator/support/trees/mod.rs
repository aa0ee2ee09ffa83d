//! What algorithms of trees share: groups of candidates, binned rows, trees over bins while they grow, and trees over raw
//! values.

mod binned_tree;
mod bins;
mod partition;
mod row_bins;
mod runs;
mod sharded;
mod tree;

pub(crate) use binned_tree::{BinSet, BinTest, BinnedTree, GrowingNodes, contains, insert};
pub(crate) use bins::{Binned, Meaning};
pub(crate) use partition::partition;
pub(crate) use row_bins::{RowBins, RowBlock, in_blocks};
pub(crate) use runs::{Run, TreeParams, fit_runs};
pub(crate) use sharded::{LOST, Look, PartedRows, Parting, Partings, ShardedRows, first_row, labels, labels_of};
pub(crate) use tree::{FlatTree, Tree, gain_shares, load_block, split_counts};
