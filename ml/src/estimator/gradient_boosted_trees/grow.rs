//! Growing one tree, the leaf with the most gain first.

use rayon::prelude::*;

use super::histogram::{self, Histogram, Scale, Sums, count, plus};
use super::loss::quantile;
use super::split::{Search, Split};
use super::{GradientBoostedTreesParams, Growth};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::trees::{Binned, BinnedNode, BinnedTree, Child, partition};

/// Below this many values (rows times features) a leaf is summed on one thread: handing work out costs more.
const PARALLEL_FROM: usize = 1 << 16;

/// Leaves whose value is a quantile of what their rows lack.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeafQuantile<'a> {
    pub(super) alpha: f64,
    pub(super) label: &'a [f64],
    pub(super) weight: Option<&'a [f64]>,
}

impl LeafQuantile<'_> {
    fn of(&self, rows: &[u32], scores: &[f64]) -> f64 {
        let lacking = rows.iter().map(|&row| self.label[row as usize] - scores[row as usize]).collect();
        let weight = self.weight.map(|weight| rows.iter().map(|&row| weight[row as usize]).collect());
        quantile(lacking, weight, self.alpha)
    }
}

/// What trees of one boosting run grow in: data, parameters and reused buffers.
pub(super) struct Grower<'a> {
    binned: &'a Binned,
    params: &'a GradientBoostedTreesParams,
    ctx: &'a FitContext,
    /// The units of the tree that grows.
    scale: Scale,
    /// The rows of the tree, grouped by leaf, ascending in each.
    pub(super) rows: Vec<u32>,
    scratch: Vec<u32>,
    gathered: Vec<Sums>,
    spare: Vec<Vec<Histogram>>,
}

/// A leaf while its tree grows.
struct Leaf {
    start: usize,
    len: usize,
    depth: usize,
    sums: Sums,
    l2: f64,
    histograms: Vec<Histogram>,
    best: Option<Split>,
    /// The node and side that point here.
    parent: Option<(usize, bool)>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(binned: &'a Binned, params: &'a GradientBoostedTreesParams, ctx: &'a FitContext) -> Self {
        Self {
            binned,
            params,
            ctx,
            scale: Scale::new(binned.n_rows, 1.0, 1.0),
            rows: Vec::new(),
            scratch: Vec::new(),
            gathered: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Grows a tree on `self.rows` and the given features, and adds its values to the scores of those rows.
    ///
    /// # Errors
    /// Cancellation.
    pub(super) fn grow(
        &mut self,
        scale: Scale,
        sums: &[Sums],
        features: &[usize],
        quantile: Option<LeafQuantile<'_>>,
        scores: &mut [f64],
    ) -> Result<BinnedTree> {
        self.scale = scale;
        let mut nodes: Vec<BinnedNode> = Vec::new();
        let mut leaves = vec![self.root(sums, features)];
        while leaves.len() < self.params.max_leaves {
            self.ctx.check()?;
            let Some(at) = self.next_leaf(&leaves) else { break };
            let Some(split) = leaves[at].best.take() else { break };
            let is_last = leaves.len() + 1 == self.params.max_leaves;
            let node = nodes.len();
            let (left, right) = self.split(&mut leaves[at], &split, node, sums, (!is_last).then_some(features));
            if let Some((parent, is_left)) = leaves[at].parent {
                let side = if is_left { &mut nodes[parent].left } else { &mut nodes[parent].right };
                *side = Child::Node(node);
            }
            nodes.push(BinnedNode { test: split.test, left: Child::Leaf(at), right: Child::Leaf(leaves.len()) });
            self.recycle(std::mem::replace(&mut leaves[at], left));
            leaves.push(right);
        }
        debug_assert!(leaves.iter().all(|leaf| count(leaf.sums) == leaf.len));
        let values: Vec<f64> = match &quantile {
            None => leaves.iter().map(|leaf| self.value_of(leaf)).collect(),
            Some(quantile) => leaves
                .par_iter()
                .map(|leaf| self.params.step_size * quantile.of(&self.rows[leaf.start..leaf.start + leaf.len], scores))
                .collect(),
        };
        for (leaf, value) in leaves.into_iter().zip(&values) {
            for &row in &self.rows[leaf.start..leaf.start + leaf.len] {
                scores[row as usize] += value;
            }
            self.recycle(leaf);
        }
        Ok(BinnedTree { nodes, values })
    }

    fn value_of(&self, leaf: &Leaf) -> f64 {
        let hessian = self.scale.hessian(leaf.sums) + leaf.l2;
        if hessian > 0.0 { -self.params.step_size * self.scale.gradient(leaf.sums) / hessian } else { 0.0 }
    }

    /// The leaf that is split next, the first of equals.
    fn next_leaf(&self, leaves: &[Leaf]) -> Option<usize> {
        match self.params.growth {
            Growth::LeafWise => best_leaf(leaves),
            Growth::DepthWise => {
                let open = leaves.iter().enumerate().filter(|(_, leaf)| leaf.best.is_some());
                open.min_by_key(|(_, leaf)| leaf.depth).map(|(i, _)| i)
            }
        }
    }

    fn root(&mut self, sums: &[Sums], features: &[usize]) -> Leaf {
        let total = self.rows.iter().fold([0, 0], |a, &r| plus(a, sums[r as usize]));
        let mut leaf = Leaf {
            start: 0,
            len: self.rows.len(),
            depth: 0,
            sums: total,
            l2: self.params.reg_lambda,
            histograms: self.histograms(features.len()),
            best: None,
            parent: None,
        };
        self.gather(0, leaf.len, sums);
        let (binned, search) = (self.binned, self.search());
        let (rows, gathered) = (&self.rows[..], &self.gathered[..]);
        let each = |(&feature, histogram): (&usize, &mut Histogram)| {
            let column = &binned.columns[feature];
            histogram::fill(histogram, &column.bins, rows, gathered);
            search.best(feature, column, histogram, total)
        };
        let found: Vec<Option<Split>> = if is_large(leaf.len, features.len()) {
            features.par_iter().zip(&mut leaf.histograms).map(each).collect()
        } else {
            features.iter().zip(&mut leaf.histograms).map(each).collect()
        };
        leaf.best = best_split(found);
        leaf
    }

    /// Parts a leaf's rows and makes its children; with `features`, their histograms and best splits as well.
    fn split(
        &mut self,
        leaf: &mut Leaf,
        split: &Split,
        node: usize,
        sums: &[Sums],
        features: Option<&[usize]>,
    ) -> (Leaf, Leaf) {
        let rows = &mut self.rows[leaf.start..leaf.start + leaf.len];
        let bins = &self.binned.columns[split.test.feature].bins;
        let n_left = partition(rows, bins, &split.test.left_bins, &mut self.scratch);
        let child = |start, len, sums, is_left| Leaf {
            start,
            len,
            depth: leaf.depth + 1,
            sums,
            l2: split.l2,
            histograms: Vec::new(),
            best: None,
            parent: Some((node, is_left)),
        };
        let mut left = child(leaf.start, n_left, split.left, true);
        let mut right = child(leaf.start + n_left, leaf.len - n_left, split.right, false);
        if let Some(features) = features
            && (self.may_split(&left) || self.may_split(&right))
        {
            let parent = std::mem::take(&mut leaf.histograms);
            let (small, large) = if left.len <= right.len { (&mut left, &mut right) } else { (&mut right, &mut left) };
            self.search_children(parent, small, large, sums, features);
        }
        (left, right)
    }

    /// Sums the smaller child, takes it off the parent for the larger, and finds both children's best splits.
    fn search_children(
        &mut self,
        parent: Vec<Histogram>,
        small: &mut Leaf,
        large: &mut Leaf,
        sums: &[Sums],
        features: &[usize],
    ) {
        large.histograms = parent;
        small.histograms = self.histograms(features.len());
        self.gather(small.start, small.len, sums);
        let (binned, search) = (self.binned, self.search());
        let (rows, gathered) = (&self.rows[small.start..small.start + small.len], &self.gathered[..]);
        let wanted = (self.may_split(small), self.may_split(large));
        let (small_sums, large_sums) = (small.sums, large.sums);
        let each = |((&feature, small), large): ((&usize, &mut Histogram), &mut Histogram)| {
            let column = &binned.columns[feature];
            histogram::fill(small, &column.bins, rows, gathered);
            histogram::subtract(large, small);
            (
                wanted.0.then(|| search.best(feature, column, small, small_sums)).flatten(),
                wanted.1.then(|| search.best(feature, column, large, large_sums)).flatten(),
            )
        };
        let (of_small, of_large): (Vec<_>, Vec<_>) = if is_large(small.len, features.len()) {
            features.par_iter().zip(&mut small.histograms).zip(&mut large.histograms).map(each).unzip()
        } else {
            features.iter().zip(&mut small.histograms).zip(&mut large.histograms).map(each).unzip()
        };
        small.best = best_split(of_small);
        large.best = best_split(of_large);
    }

    fn search(&self) -> Search<'a> {
        Search { params: self.params, scale: self.scale }
    }

    fn may_split(&self, leaf: &Leaf) -> bool {
        leaf.depth < self.params.max_depth && leaf.len >= 2 * self.params.min_instances_per_node
    }

    /// Copies the sums of some rows next to each other, so that each feature reads them in sequence.
    fn gather(&mut self, start: usize, len: usize, sums: &[Sums]) {
        self.gathered.clear();
        self.gathered.extend(self.rows[start..start + len].iter().map(|&r| sums[r as usize]));
    }

    fn histograms(&mut self, n: usize) -> Vec<Histogram> {
        let mut histograms = self.spare.pop().unwrap_or_default();
        histograms.resize(n, [[0, 0]; 256]);
        histograms
    }

    fn recycle(&mut self, leaf: Leaf) {
        if leaf.histograms.capacity() > 0 {
            self.spare.push(leaf.histograms);
        }
    }
}

/// Whether a leaf is worth several threads.
fn is_large(n_rows: usize, n_features: usize) -> bool {
    n_rows * n_features >= PARALLEL_FROM
}

/// The leaf whose split gains most, the first of equals.
fn best_leaf(leaves: &[Leaf]) -> Option<usize> {
    let gains = leaves.iter().enumerate().filter_map(|(i, leaf)| Some((i, leaf.best.as_ref()?.test.gain)));
    gains.reduce(|a, b| if b.1 > a.1 { b } else { a }).map(|(i, _)| i)
}

/// The split that gains most, the first feature's of equals.
fn best_split(found: Vec<Option<Split>>) -> Option<Split> {
    found.into_iter().flatten().reduce(|a, b| if b.test.gain > a.test.gain { b } else { a })
}
