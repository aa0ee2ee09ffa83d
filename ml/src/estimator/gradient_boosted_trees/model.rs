//! The fitted trees over raw values, as flat arrays.
//!
//! Saved as `model.json`: format, names of the features, base score and, per tree, parallel arrays over its inner
//! nodes and its leaves' values. Children from 0 on are inner nodes; leaf `i` is written as `-1 - i`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bins::{Binned, Meaning};
use super::grow::{BinnedNode, BinnedTree, Child};
use super::split::contains;
use crate::Result;
use crate::codec::exact;
use crate::estimator::support::math::sigmoid;
use crate::estimator::support::training;
use crate::estimator::{Artifacts, Model};
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features};

/// The artifact's name.
const FILE: &str = "model.json";
/// The artifact's format.
const FORMAT: u32 = 1;
/// Rows that are scored together: their values stay in the first cache while all trees read them.
const BLOCK: usize = 64;

/// Fitted gradient-boosted trees.
#[derive(Debug, Clone)]
pub struct GradientBoostedTreesModel {
    features: Arc<[Feature]>,
    saved: Saved,
    /// The trees as rows are scored with them.
    trees: Vec<FlatTree>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    format: u32,
    features: Vec<String>,
    #[serde(with = "exact")]
    base: f64,
    trees: Vec<Tree>,
}

/// One tree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Tree {
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
    /// By inner node: how much the split lowered the training loss, times two.
    #[serde(with = "exact::list")]
    gain: Vec<f64>,
    /// By leaf.
    #[serde(with = "exact::list")]
    value: Vec<f64>,
}

/// A tree as rows are scored with it.
#[derive(Debug, Clone)]
struct FlatTree {
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
/// The node tests a number and sends missing ones right.
const MISSING_RIGHT: u32 = 0;
/// The node tests a number and sends missing ones left.
const MISSING_LEFT: u32 = 1;
/// The kind of the node with the first set.
const FIRST_SET: u32 = 2;

impl GradientBoostedTreesModel {
    pub(super) fn new(features: Arc<[Feature]>, binned: &Binned, base: f64, trees: &[BinnedTree]) -> Self {
        let names = features.iter().map(|f| f.name.clone()).collect();
        let trees = trees.iter().map(|tree| Tree::new(tree, binned)).collect();
        Self::from_saved(features, Saved { format: FORMAT, features: names, base, trees })
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let saved: Saved = training::from_json(artifacts, FILE)?;
        training::known_format(FILE, saved.format, FORMAT)?;
        if !saved.features.iter().eq(features.iter().map(|f| &f.name)) {
            return Err(training::corrupt(FILE, "its trees are not those of the model's features"));
        }
        for (i, tree) in saved.trees.iter().enumerate() {
            tree.check(&features).map_err(|why| training::corrupt(FILE, format!("tree {i}: {why}")))?;
        }
        Ok(Self::from_saved(features, saved))
    }

    /// How many trees there are: fewer than asked for where no further split gained anything.
    pub fn n_trees(&self) -> usize {
        self.saved.trees.len()
    }

    fn from_saved(features: Arc<[Feature]>, saved: Saved) -> Self {
        let trees = saved.trees.iter().map(|tree| tree.flat(&features)).collect();
        Self { features, saved, trees }
    }
}

impl Model for GradientBoostedTreesModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        training::same_columns(&self.features, x)?;
        let n_features = self.features.len();
        let mut scores = vec![self.saved.base; x.n_rows];
        let mut block = vec![0.0; BLOCK * n_features];
        for (piece, scores) in scores.chunks_mut(BLOCK).enumerate() {
            load_block(x, piece * BLOCK, scores.len(), &mut block);
            for tree in &self.trees {
                for (score, row) in scores.iter_mut().zip(block.chunks_exact(n_features.max(1))) {
                    *score += tree.value(row);
                }
            }
            scores.iter_mut().for_each(|score| *score = sigmoid(*score));
        }
        Ok(scores)
    }

    fn save(&self) -> Result<Artifacts> {
        Ok(Artifacts::from([(FILE.to_owned(), training::to_json(&self.saved)?)]))
    }

    /// The gain of all splits on each feature, as shares of 1, in the features' order.
    fn importances(&self) -> Vec<(String, f64)> {
        let mut gains: BTreeMap<u32, f64> = BTreeMap::new();
        for tree in &self.saved.trees {
            for (feature, gain) in tree.feature.iter().zip(&tree.gain) {
                *gains.entry(*feature).or_default() += gain;
            }
        }
        let total: f64 = gains.values().sum();
        let share = |i: u32| if total > 0.0 { gains.get(&i).copied().unwrap_or(0.0) / total } else { 0.0 };
        self.features.iter().zip(0..).map(|(f, i)| (f.name.clone(), share(i))).collect()
    }
}

impl Tree {
    fn new(tree: &BinnedTree, binned: &Binned) -> Self {
        let mut out = Self { value: tree.values.clone(), ..Self::default() };
        for node in &tree.nodes {
            out.push(node, binned);
        }
        out
    }

    fn push(&mut self, node: &BinnedNode, binned: &Binned) {
        let split = &node.split;
        let (threshold, categories) = match &binned.columns[split.feature].meaning {
            // The last bin has no cut above it: all numbers go left and the missing ones right.
            Meaning::Number { cuts } => (cuts.get(split.last_left_bin).copied().unwrap_or(f64::INFINITY), Vec::new()),
            Meaning::Category { labels } => {
                let left = labels.iter().zip(0..).filter(|(_, bin)| contains(&split.left_bins, *bin));
                let mut left: Vec<u32> = left.map(|(label, _)| *label).collect();
                left.sort_unstable();
                (0.0, left)
            }
        };
        let child = |child| match child {
            Child::Node(node) => node as i32,
            Child::Leaf(leaf) => -1 - leaf as i32,
        };
        self.feature.push(split.feature as u32);
        self.threshold.push(threshold);
        self.categories.push(categories);
        self.missing_left.push(split.missing_left);
        self.left.push(child(node.left));
        self.right.push(child(node.right));
        self.gain.push(split.gain);
    }

    /// Checks that scoring ends at a leaf whatever the row.
    fn check(&self, features: &[Feature]) -> Result<(), String> {
        let n = self.feature.len();
        let lengths = [self.threshold.len(), self.categories.len(), self.missing_left.len(), self.gain.len()];
        if lengths.iter().chain(&[self.left.len(), self.right.len()]).any(|len| *len != n) || self.value.len() != n + 1
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

    fn flat(&self, features: &[Feature]) -> FlatTree {
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
        FlatTree { nodes, sets, values: self.value.clone() }
    }
}

impl FlatTree {
    /// A row's value.
    fn value(&self, row: &[f64]) -> f64 {
        let mut at = if self.nodes.is_empty() { LEAF } else { 0 };
        while at < LEAF {
            at = self.next(at, row);
        }
        self.values[(at - LEAF) as usize]
    }

    /// The child that a row goes to.
    #[inline]
    fn next(&self, at: u32, row: &[f64]) -> u32 {
        let node = &self.nodes[at as usize];
        let v = row[node.feature as usize];
        let goes_left = match node.kind {
            MISSING_RIGHT => v <= node.threshold,
            MISSING_LEFT => v <= node.threshold || v.is_nan(),
            kind => self.is_in_set(kind - FIRST_SET, v),
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
fn load_block(x: &Features, start: usize, len: usize, block: &mut [f64]) {
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
