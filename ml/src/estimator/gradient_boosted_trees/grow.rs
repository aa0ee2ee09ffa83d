//! Growing one tree, the leaf with the most gain first.

use std::ops::Range;

use rayon::prelude::*;

use super::GradientBoostedTreesParams;
use super::histogram::{self, Histogram, Scale, Sums, count, plus};
use super::loss::quantile;
use super::split::{Open, Part, Search, Split};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::trees::{Binned, BinnedTree, GrowingNodes, RowBins, in_blocks, partition};

/// The fewest rows of a piece of work: adding its histograms to those of others costs little beside summing them.
const ROWS_PER_PIECE: usize = 4_096;
/// Rows of one piece of work when scores are added to.
const SCORES_PER_PIECE: usize = 16_384;

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
    row_bins: &'a RowBins,
    params: &'a GradientBoostedTreesParams,
    ctx: &'a FitContext,
    /// The units of the tree that grows.
    scale: Scale,
    /// The rows of the tree, grouped by leaf, ascending in each.
    pub(super) rows: Vec<u32>,
    scratch: Vec<u32>,
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
}

impl<'a> Grower<'a> {
    pub(super) fn new(
        binned: &'a Binned,
        row_bins: &'a RowBins,
        params: &'a GradientBoostedTreesParams,
        ctx: &'a FitContext,
    ) -> Self {
        Self {
            binned,
            row_bins,
            params,
            ctx,
            scale: Scale::new(binned.n_rows, 1.0, 1.0),
            rows: Vec::new(),
            scratch: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// How many features there are.
    pub(super) fn n_features(&self) -> usize {
        self.binned.columns.len()
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
        let mut nodes = GrowingNodes::new();
        let mut leaves = vec![self.root(sums, features)];
        while leaves.len() < self.params.max_leaves {
            self.ctx.check()?;
            let Some(at) = self.next_leaf(&leaves) else { break };
            let Some(split) = leaves[at].best.take() else { break };
            let is_last = leaves.len() + 1 == self.params.max_leaves;
            let (left, right) = self.split(&mut leaves[at], &split, sums, (!is_last).then_some(features));
            nodes.split(at, split.test);
            self.recycle(std::mem::replace(&mut leaves[at], left).histograms);
            leaves.push(right);
        }
        debug_assert!(leaves.iter().all(|leaf| count(leaf.sums) == leaf.len));
        let search = self.search();
        let values: Vec<f64> = match &quantile {
            None => leaves.iter().map(|leaf| search.value(leaf.sums, leaf.l2)).collect(),
            Some(quantile) => leaves
                .par_iter()
                .map(|leaf| self.params.step_size * quantile.of(&self.rows[leaf.start..leaf.start + leaf.len], scores))
                .collect(),
        };
        self.add_values(&leaves, &values, scores);
        leaves.into_iter().for_each(|leaf| self.recycle(leaf.histograms));
        Ok(BinnedTree { nodes: nodes.nodes, values })
    }

    /// Adds the leaves' values to the scores of their rows.
    fn add_values(&self, leaves: &[Leaf], values: &[f64], scores: &mut [f64]) {
        scores.par_chunks_mut(SCORES_PER_PIECE).enumerate().for_each(|(piece, scores)| {
            let first = piece * SCORES_PER_PIECE;
            for (leaf, value) in leaves.iter().zip(values) {
                let rows = &self.rows[leaf.start..leaf.start + leaf.len];
                for &row in rows_between(rows, first, first + scores.len()) {
                    scores[row as usize - first] += value;
                }
            }
        });
    }

    fn next_leaf(&self, leaves: &[Leaf]) -> Option<usize> {
        let open = |(at, leaf): (usize, &Leaf)| Open::new(at, leaf.depth, leaf.best.as_ref());
        let open = leaves.iter().enumerate().filter_map(open);
        open.min_by(|a, b| self.params.growth.compare(a, b)).map(|open| open.at)
    }

    fn root(&mut self, sums: &[Sums], features: &[usize]) -> Leaf {
        let total = self.rows.par_iter().with_min_len(ROWS_PER_PIECE).map(|&row| sums[row as usize]);
        let total = total.reduce(|| [0, 0], plus);
        let (mut histograms, others) = self.fill(0..self.rows.len(), sums, features);
        let best = self.search().root(&self.binned.meanings, features, &mut histograms, &others, total);
        others.into_iter().for_each(|other| self.recycle(other));
        Leaf { start: 0, len: self.rows.len(), depth: 0, sums: total, l2: self.params.reg_lambda, histograms, best }
    }

    /// Parts a leaf's rows and makes its children; with `features`, their histograms and best splits as well.
    fn split(&mut self, leaf: &mut Leaf, split: &Split, sums: &[Sums], features: Option<&[usize]>) -> (Leaf, Leaf) {
        let rows = &mut self.rows[leaf.start..leaf.start + leaf.len];
        let bins = &self.binned.columns[split.test.feature];
        let n_left = partition(rows, |row| bins[row as usize], &split.test.left_bins, &mut self.scratch);
        let child = |start, len, sums| Leaf {
            start,
            len,
            depth: leaf.depth + 1,
            sums,
            l2: split.l2,
            histograms: Vec::new(),
            best: None,
        };
        let mut left = child(leaf.start, n_left, split.left);
        let mut right = child(leaf.start + n_left, leaf.len - n_left, split.right);
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
        let others;
        (small.histograms, others) = self.fill(small.start..small.start + small.len, sums, features);
        let (may_split_small, may_split_large) = (self.may_split(small), self.may_split(large));
        let of_small = Part { histograms: &mut small.histograms, sums: small.sums, may_split: may_split_small };
        let of_large = Part { histograms: &mut large.histograms, sums: large.sums, may_split: may_split_large };
        (small.best, large.best) = self.search().children(&self.binned.meanings, features, of_small, &others, of_large);
        others.into_iter().for_each(|other| self.recycle(other));
    }

    /// Sums some of the rows by feature and bin, in parts that threads fill at once: the first, and others to be added to it.
    /// There are more parts with more threads, but sums are exact: what they add up to is the same.
    fn fill(&mut self, rows: Range<usize>, sums: &[Sums], features: &[usize]) -> (Vec<Histogram>, Vec<Vec<Histogram>>) {
        let n_blocks = in_blocks(features).count().max(1);
        let most_parts = (2 * rayon::current_num_threads()).div_ceil(n_blocks);
        let n_parts = (rows.len() / ROWS_PER_PIECE).clamp(1, most_parts);
        let mut first = self.histograms(features.len());
        let mut others: Vec<Vec<Histogram>> = (1..n_parts).map(|_| self.histograms(features.len())).collect();
        let rows = &self.rows[rows];
        let mut pieces = Vec::with_capacity(n_parts * n_blocks);
        for (i, part) in std::iter::once(&mut first).chain(&mut others).enumerate() {
            let rows = &rows[i * rows.len() / n_parts..(i + 1) * rows.len() / n_parts];
            let mut part = &mut part[..];
            for features in in_blocks(features) {
                let histograms;
                (histograms, part) = part.split_at_mut(features.len());
                pieces.push((rows, features, histograms));
            }
        }
        pieces.into_par_iter().for_each(|(rows, features, histograms)| {
            let bins = self.row_bins.block(RowBins::place(features[0]));
            histogram::fill(histograms, features, &self.binned.meanings, rows, bins, sums);
        });
        (first, others)
    }

    fn search(&self) -> Search<'a> {
        Search { params: self.params, scale: self.scale }
    }

    fn may_split(&self, leaf: &Leaf) -> bool {
        leaf.depth < self.params.max_depth && leaf.len >= 2 * self.params.min_instances_per_node
    }

    fn histograms(&mut self, n: usize) -> Vec<Histogram> {
        let mut histograms = self.spare.pop().unwrap_or_default();
        histograms.resize(n, [[0, 0]; 256]);
        histograms
    }

    fn recycle(&mut self, histograms: Vec<Histogram>) {
        if histograms.capacity() > 0 {
            self.spare.push(histograms);
        }
    }
}

/// Those of some rows, ascending, that are at least `first` and below `end`.
pub(super) fn rows_between(rows: &[u32], first: usize, end: usize) -> &[u32] {
    let at = |bound: usize| rows.partition_point(|row| (*row as usize) < bound);
    &rows[at(first)..at(end)]
}
