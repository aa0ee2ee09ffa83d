//! What algorithms of trees share: groups of candidates, binned rows, trees over bins while they grow, and trees over raw
//! values.

mod binned_tree;
mod bins;
mod partition;
mod row_bins;
mod runs;
mod tree;

pub(crate) use binned_tree::{BinSet, BinTest, BinnedNode, BinnedTree, Child, insert};
pub(crate) use bins::{Binned, Column, Meaning};
pub(crate) use partition::partition;
pub(crate) use row_bins::{RowBins, RowBlock};
pub(crate) use runs::{Run, TreeParams, fit_runs};
pub(crate) use tree::{FlatTree, Tree, gain_shares, load_block, split_counts};
