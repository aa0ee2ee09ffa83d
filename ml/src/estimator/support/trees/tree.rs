//! Trees over raw values, as flat arrays: as they are saved, and as rows are scored with them.
//!
//! Children from 0 on are inner nodes; leaf `i` is written as `-1 - i`.

use serde::{Deserialize, Serialize};

use super::binned_tree::{BinnedNode, BinnedTree, Child, contains};
use super::bins::Meaning;
use crate::codec::exact;
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features};

/// One tree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// By inner node: the feature's place.
    feature: Vec<u32>,
    /// By inner node: the largest number that goes left; 0 for categories.
    #[serde(with = "exact::list")]
    threshold: Vec<f64>,
    /// By inner node: the category indices that go left, ascending; empty for numbers.
    categories: Vec<Vec<u32>>,
    /// By inner node: whether missing values go left.
    missing_left: Vec<bool>,
    left: Vec<i32>,
    right: Vec<i32>,
    /// By inner node: how much the split gained, in units of the algorithm.
    #[serde(with = "exact::list")]
    gain: Vec<f64>,
    /// By leaf, `n_outputs` of each.
    #[serde(with = "exact::list")]
    value: Vec<f64>,
}

/// A tree as rows are scored with it.
#[derive(Debug, Clone)]
pub(crate) struct FlatTree {
    /// How many values a leaf has.
    n_outputs: usize,
    nodes: Vec<Node>,
    /// The category indices that go left, of nodes that test a category.
    sets: Vec<Box<[u64]>>,
    values: Vec<f64>,
}

/// An inner node: small, and its next node is picked by an index, since branches would be mispredicted half the time.
#[derive(Debug, Clone, Copy)]
struct Node {
    threshold: f64,
    /// Right, then left: inner nodes, or leaves above [`LEAF`].
    children: [u32; 2],
    feature: u32,
    /// [`MISSING_RIGHT`], [`MISSING_LEFT`], or the number of a set after them.
    kind: u32,
}

/// Children from here on are leaves.
const LEAF: u32 = 1 << 31;
/// Rows that go down a tree side by side.
const LANES: usize = 8;
/// The node tests a number and sends missing ones right.
const MISSING_RIGHT: u32 = 0;
/// The node tests a number and sends missing ones left.
const MISSING_LEFT: u32 = 1;
/// The kind of the node with the first set.
const FIRST_SET: u32 = 2;

impl Tree {
    /// A grown tree, its bins made thresholds and labels.
    pub(crate) fn new(tree: &BinnedTree, meanings: &[Meaning]) -> Self {
        let mut out = Self { value: tree.values.clone(), ..Self::default() };
        for node in &tree.nodes {
            out.push(node, meanings);
        }
        out
    }

    fn push(&mut self, node: &BinnedNode, meanings: &[Meaning]) {
        let test = &node.test;
        let (threshold, categories) = match &meanings[test.feature] {
            // The last bin has no cut above it: all numbers go left and the missing ones right.
            Meaning::Number { cuts } => (cuts.get(test.last_left_bin).copied().unwrap_or(f64::INFINITY), Vec::new()),
            Meaning::Category { labels } => {
                let left = labels.iter().zip(0..).filter(|(_, bin)| contains(&test.left_bins, *bin));
                let mut left: Vec<u32> = left.map(|(label, _)| *label).collect();
                left.sort_unstable();
                (0.0, left)
            }
        };
        let child = |child| match child {
            Child::Node(node) => node as i32,
            Child::Leaf(leaf) => -1 - leaf as i32,
        };
        self.feature.push(test.feature as u32);
        self.threshold.push(threshold);
        self.categories.push(categories);
        self.missing_left.push(test.missing_left);
        self.left.push(child(node.left));
        self.right.push(child(node.right));
        self.gain.push(test.gain);
    }

    /// Checks that scoring ends at a leaf whatever the row.
    pub(crate) fn check(&self, features: &[Feature], n_outputs: usize) -> Result<(), String> {
        let n = self.feature.len();
        let lengths = [self.threshold.len(), self.categories.len(), self.missing_left.len(), self.gain.len()];
        if lengths.iter().chain(&[self.left.len(), self.right.len()]).any(|len| *len != n)
            || self.value.len() != (n + 1) * n_outputs
        {
            return Err("its arrays differ in length".into());
        }
        if let Some(feature) = self.feature.iter().find(|f| **f as usize >= features.len()) {
            return Err(format!("there is no feature {feature}"));
        }
        for (feature, categories) in self.feature.iter().zip(&self.categories) {
            let n_labels = match &features[*feature as usize].kind {
                FeatureKind::Category { labels, .. } => labels.len(),
                _ => 0,
            };
            if let Some(index) = categories.iter().find(|c| **c as usize >= n_labels) {
                return Err(format!("feature {feature} has no category {index}"));
            }
        }
        for (node, children) in self.left.iter().zip(&self.right).enumerate() {
            for child in [*children.0, *children.1] {
                let is_below =
                    if child >= 0 { child as usize > node && (child as usize) < n } else { (-1 - child) as usize <= n };
                if !is_below {
                    return Err(format!("node {node} points at {child}"));
                }
            }
        }
        Ok(())
    }

    /// The values of the leaves, `n_outputs` of each.
    pub(crate) fn values(&self) -> &[f64] {
        &self.value
    }

    /// The tree as rows are scored with it.
    pub(crate) fn flat(&self, features: &[Feature], n_outputs: usize) -> FlatTree {
        let mut sets = Vec::new();
        let child = |child: i32| if child >= 0 { child as u32 } else { LEAF + (-1 - child) as u32 };
        let nodes = (0..self.feature.len())
            .map(|i| {
                let kind = match (&features[self.feature[i] as usize].kind, self.missing_left[i]) {
                    (FeatureKind::Category { .. }, _) => {
                        sets.push(bitset(&self.categories[i]));
                        FIRST_SET + sets.len() as u32 - 1
                    }
                    (_, false) => MISSING_RIGHT,
                    (_, true) => MISSING_LEFT,
                };
                let children = [child(self.right[i]), child(self.left[i])];
                Node { threshold: self.threshold[i], children, feature: self.feature[i], kind }
            })
            .collect();
        FlatTree { n_outputs, nodes, sets, values: self.value.clone() }
    }
}

/// The gains of all splits on each feature, as shares of 1, in the features' order.
pub(crate) fn gain_shares<'a>(trees: impl Iterator<Item = &'a Tree>, n_features: usize) -> Vec<f64> {
    let mut gains = vec![0.0; n_features];
    for tree in trees {
        for (feature, gain) in tree.feature.iter().zip(&tree.gain) {
            gains[*feature as usize] += gain;
        }
    }
    let total: f64 = gains.iter().sum();
    gains.iter().map(|gain| if total > 0.0 { gain / total } else { 0.0 }).collect()
}

/// How many splits there are on each feature, by name in the features' order.
pub(crate) fn split_counts(trees: &[Tree], features: &[Feature]) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = features.iter().map(|feature| (feature.name.clone(), 0)).collect();
    trees.iter().flat_map(|tree| &tree.feature).for_each(|feature| counts[*feature as usize].1 += 1);
    counts
}

impl FlatTree {
    /// Calls `each` with the number and the values of the leaf of each row of a block, `[n_rows, n_features]`.
    pub(crate) fn for_each_row(&self, block: &[f64], n_features: usize, mut each: impl FnMut(usize, &[f64])) {
        let (groups, rest) = block.split_at(block.len() - block.len() % (n_features * LANES));
        for (i, group) in groups.chunks_exact(n_features * LANES).enumerate() {
            let leaves = self.leaves::<LANES>(group, n_features);
            leaves.into_iter().enumerate().for_each(|(lane, leaf)| each(i * LANES + lane, self.values_of(leaf)));
        }
        let first = groups.len() / n_features;
        for (i, row) in rest.chunks_exact(n_features).enumerate() {
            let [leaf] = self.leaves(row, n_features);
            each(first + i, self.values_of(leaf));
        }
    }

    /// The leaves of some rows, which go down side by side: a step waits for memory, and the others' steps fill the wait.
    #[inline]
    fn leaves<const N: usize>(&self, rows: &[f64], n_features: usize) -> [u32; N] {
        let Some(last) = self.nodes.len().checked_sub(1) else { return [LEAF; N] };
        let mut places = [0; N];
        while places.iter().any(|at| *at < LEAF) {
            for (at, row) in places.iter_mut().zip(rows.chunks_exact(n_features)) {
                // A row at its leaf looks at some node and stays, which is less work than a branch.
                let next = self.next(&self.nodes[(*at as usize).min(last)], row);
                *at = if *at < LEAF { next } else { *at };
            }
        }
        places
    }

    fn values_of(&self, leaf: u32) -> &[f64] {
        let leaf = (leaf - LEAF) as usize;
        &self.values[leaf * self.n_outputs..(leaf + 1) * self.n_outputs]
    }

    /// The child that a row goes to.
    #[inline]
    fn next(&self, node: &Node, row: &[f64]) -> u32 {
        let v = row[node.feature as usize];
        let goes_left = if node.kind < FIRST_SET {
            (v <= node.threshold) | (v.is_nan() & (node.kind == MISSING_LEFT))
        } else {
            self.is_in_set(node.kind - FIRST_SET, v)
        };
        node.children[usize::from(goes_left)]
    }

    fn is_in_set(&self, set: u32, category: f64) -> bool {
        let index = category as u32;
        let word = self.sets[set as usize].get((index >> 6) as usize).copied().unwrap_or(0);
        (word >> (index & 63)) & 1 == 1
    }
}

/// Copies rows of columns into row-major order; categories as numbers, which are exact.
pub(crate) fn load_block(x: &Features, start: usize, len: usize, block: &mut [f64]) {
    let n_features = x.values.len();
    for (j, values) in x.values.iter().enumerate() {
        let into = block.iter_mut().skip(j).step_by(n_features);
        match values {
            FeatureValues::Number(v) => into.zip(&v[start..start + len]).for_each(|(into, v)| *into = *v),
            FeatureValues::Category(v) => into.zip(&v[start..start + len]).for_each(|(into, v)| *into = f64::from(*v)),
        }
    }
}

fn bitset(indices: &[u32]) -> Box<[u64]> {
    let words = indices.iter().max().map_or(0, |last| (*last >> 6) as usize + 1);
    let mut set = vec![0; words];
    for index in indices {
        set[(index >> 6) as usize] |= 1 << (index & 63);
    }
    set.into()
}
