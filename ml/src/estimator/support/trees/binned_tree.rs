//! Trees over bins, as they are grown.

use serde::{Deserialize, Serialize};

use crate::codec::exact;

/// Which bins go left, as a bitset.
pub(crate) type BinSet = [u64; 4];

/// What an inner node asks of a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BinTest {
    pub(crate) feature: usize,
    /// How much the split gained.
    #[serde(with = "exact")]
    pub(crate) gain: f64,
    /// The bins that go left, that of missing values included.
    pub(crate) left_bins: BinSet,
    /// For numbers: the last bin of the left side.
    pub(crate) last_left_bin: usize,
    pub(crate) missing_left: bool,
}

/// A tree over bins.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct BinnedTree {
    pub(crate) nodes: Vec<BinnedNode>,
    /// By leaf, `n_outputs` of each.
    #[serde(with = "exact::list")]
    pub(crate) values: Vec<f64>,
}

/// An inner node of a tree over bins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BinnedNode {
    pub(crate) test: BinTest,
    pub(crate) left: Child,
    pub(crate) right: Child,
}

/// What is below an inner node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Child {
    Node(usize),
    Leaf(usize),
}

impl BinnedTree {
    /// The leaf of a row, by its bin of a feature.
    pub(crate) fn leaf(&self, bin: impl Fn(usize) -> u8) -> usize {
        let mut at = if self.nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
        loop {
            match at {
                Child::Leaf(leaf) => return leaf,
                Child::Node(node) => {
                    let node = &self.nodes[node];
                    let goes_left = contains(&node.test.left_bins, bin(node.test.feature));
                    at = if goes_left { node.left } else { node.right };
                }
            }
        }
    }
}

/// The inner nodes of a tree that grows, and where its leaves hang.
#[derive(Debug)]
pub(crate) struct GrowingNodes {
    pub(crate) nodes: Vec<BinnedNode>,
    /// By leaf, the node and side that point there.
    parents: Vec<Option<(usize, bool)>>,
}

impl GrowingNodes {
    /// A tree of one leaf.
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), parents: vec![None] }
    }

    /// Makes a leaf a node: its left child is the leaf from now on, the right one a new leaf after all others.
    pub(crate) fn split(&mut self, leaf: usize, test: BinTest) {
        let (node, right) = (self.nodes.len(), self.parents.len());
        if let Some((parent, is_left)) = self.parents[leaf] {
            let side = if is_left { &mut self.nodes[parent].left } else { &mut self.nodes[parent].right };
            *side = Child::Node(node);
        }
        self.parents[leaf] = Some((node, true));
        self.parents.push(Some((node, false)));
        self.nodes.push(BinnedNode { test, left: Child::Leaf(leaf), right: Child::Leaf(right) });
    }
}

/// Puts a bin into a set.
pub(crate) fn insert(set: &mut BinSet, bin: usize) {
    set[bin >> 6] |= 1 << (bin & 63);
}

/// Whether a set has a bin.
#[inline]
pub(crate) fn contains(set: &BinSet, bin: u8) -> bool {
    set[usize::from(bin >> 6)] >> (bin & 63) & 1 == 1
}
