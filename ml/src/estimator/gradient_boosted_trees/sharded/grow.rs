//! Growing one tree whose rows lie in shards.
//!
//! A pass costs much more than a leaf does, so each parts several leaves: those that would be split next if no better
//! leaf came up. Which leaf is split next is decided as for rows in memory, so the tree is the same; what was parted and
//! is not split after all was in vain.

use std::sync::Arc;

use rayon::prelude::*;

use super::super::histogram::{Histogram, Sums, count, n_used};
use super::super::split::{Open, Part, Search, Split};
use super::super::{GradientBoostedTreesParams, Growth};
use super::{Bounds, ShardedRun};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::sharded::wrong_answer;
use crate::estimator::support::trees::{BinnedTree, GrowingNodes, Meaning, Parting};

/// A tree that grows.
pub(super) struct Growing<'a> {
    params: &'a GradientBoostedTreesParams,
    meanings: Arc<[Meaning]>,
    search: Search<'a>,
    features: Vec<usize>,
    /// How shards part their rows.
    splits: Vec<Parting>,
    nodes: GrowingNodes,
    leaves: Vec<Leaf>,
}

/// A leaf while its tree grows.
#[derive(Debug, Default)]
struct Leaf {
    /// Its number on shards, where they part it from others.
    place: usize,
    depth: usize,
    sums: Sums,
    l2: f64,
    histograms: Vec<Histogram>,
    best: Option<Split>,
    /// Its children, once they are known.
    children: Option<Box<(Leaf, Leaf)>>,
}

impl<'a> Growing<'a> {
    pub(super) fn new(run: &ShardedRun<'a>, features: Vec<usize>, bounds: Bounds) -> Self {
        Self {
            params: run.params,
            meanings: Arc::clone(run.meanings),
            search: Search { params: run.params, scale: bounds.scale() },
            features,
            splits: Vec::new(),
            nodes: GrowingNodes::new(),
            leaves: Vec::new(),
        }
    }

    /// Grows the tree; `sums` gives those of some nodes on given features after some partings.
    ///
    /// # Errors
    /// Cancellation, a pass that failed.
    pub(super) fn grow(
        mut self,
        ctx: &FitContext,
        sums: impl Fn(&[usize], &[Parting], Vec<usize>) -> Result<Vec<i64>>,
    ) -> Result<BinnedTree> {
        let root = self.root(&sums(&self.features, &[], vec![0])?)?;
        self.leaves.push(root);
        loop {
            ctx.check()?;
            self.split_known();
            let next = self.next_leaves();
            if next.is_empty() {
                break;
            }
            let smaller = next.iter().map(|at| self.part(*at)).collect();
            let found = sums(&self.features, &self.splits, smaller)?;
            self.learn(&next, &found)?;
        }
        let values = self.leaves.iter().map(|leaf| self.search.value(leaf.sums, leaf.l2)).collect();
        Ok(BinnedTree { nodes: self.nodes.nodes, values })
    }

    fn root(&self, sums: &[i64]) -> Result<Leaf> {
        let [_, gradient, rest, ..] = *sums else { return Err(wrong_answer()) };
        let total = [gradient, rest];
        let mut histograms = self.histograms(&mut &sums[3..])?;
        let best = self.search.root(&self.meanings, &self.features, &mut histograms, &[], total);
        Ok(Leaf { sums: total, l2: self.params.reg_lambda, histograms, best, ..Leaf::default() })
    }

    /// The histograms of a node, from the beginning of sums.
    fn histograms(&self, sums: &mut &[i64]) -> Result<Vec<Histogram>> {
        let of_feature = |feature: &usize| {
            let n_words = 2 * n_used(&self.meanings[*feature]);
            let (own, rest) = sums.split_at_checked(n_words).ok_or_else(wrong_answer)?;
            *sums = rest;
            let mut histogram = [Sums::default(); 256];
            histogram.as_flattened_mut()[..n_words].copy_from_slice(own);
            Ok(histogram)
        };
        self.features.iter().map(of_feature).collect()
    }

    /// Splits leaves, the next one first, until the children of the next one are not known.
    fn split_known(&mut self) {
        while self.leaves.len() < self.params.max_leaves {
            let next = self.open().min_by(|a, b| self.params.growth.compare(a, b));
            let Some(Open { at, .. }) = next else { return };
            if self.leaves[at].children.is_none() && self.wants_sums(at) {
                return;
            }
            let (left, right) = match self.leaves[at].children.take() {
                Some(children) => *children,
                None => self.children(at),
            };
            self.split(at, left, right);
        }
    }

    /// The leaves that can be split.
    fn open(&self) -> impl Iterator<Item = Open> {
        self.leaves.iter().enumerate().filter_map(|(at, leaf)| Open::new(at, leaf.depth, leaf.best.as_ref()))
    }

    /// Whether one of a leaf's children may be split, so that their sums are needed.
    fn wants_sums(&self, at: usize) -> bool {
        let (left, right) = self.children(at);
        self.leaves.len() + 1 < self.params.max_leaves && (self.may_split(&left) || self.may_split(&right))
    }

    fn may_split(&self, leaf: &Leaf) -> bool {
        leaf.depth < self.params.max_depth && count(leaf.sums) >= 2 * self.params.min_instances_per_node
    }

    /// A leaf's children without their sums by bin.
    fn children(&self, at: usize) -> (Leaf, Leaf) {
        let leaf = &self.leaves[at];
        let child = |sums| {
            let l2 = leaf.best.as_ref().map_or(0.0, |split| split.l2);
            Leaf { depth: leaf.depth + 1, sums, l2, ..Leaf::default() }
        };
        leaf.best.as_ref().map_or_else(Default::default, |split| (child(split.left), child(split.right)))
    }

    fn split(&mut self, at: usize, left: Leaf, right: Leaf) {
        let Some(split) = self.leaves[at].best.take() else { return };
        self.nodes.split(at, split.test);
        self.leaves[at] = left;
        self.leaves.push(right);
    }

    /// The leaves whose children are looked at together: of a depth all, else the best, as many as may still be split.
    fn next_leaves(&self) -> Vec<usize> {
        let left = self.params.max_leaves - self.leaves.len();
        let mut order: Vec<Open> = self.open().collect();
        order.sort_by(|a, b| self.params.growth.compare(a, b));
        let depth = order.first().map_or(0, |open| open.depth);
        let next: Vec<Open> = match self.params.growth {
            Growth::DepthWise => order.into_iter().take(left).take_while(|open| open.depth == depth).collect(),
            Growth::LeafWise => order.into_iter().take(left).collect(),
        };
        let is_unknown = |at: &usize| self.leaves[*at].children.is_none() && self.wants_sums(*at);
        next.into_iter().map(|open| open.at).filter(is_unknown).collect()
    }

    /// Has shards part a leaf's rows; gives the child with fewer of them.
    fn part(&mut self, at: usize) -> usize {
        let (mut left, mut right) = self.children(at);
        let Leaf { place, best: Some(split), .. } = &self.leaves[at] else { return 0 };
        let test = &split.test;
        self.splits.push(Parting { node: *place, feature: test.feature, left_bins: test.left_bins });
        (left.place, right.place) = (2 * self.splits.len() - 1, 2 * self.splits.len());
        let smaller = if count(left.sums) <= count(right.sums) { left.place } else { right.place };
        self.leaves[at].children = Some(Box::new((left, right)));
        smaller
    }

    /// Finds the best splits of the children of leaves, from the sums of the smaller ones.
    fn learn(&mut self, leaves: &[usize], sums: &[i64]) -> Result<()> {
        let mut rest = sums.get(1..).ok_or_else(wrong_answer)?;
        let mut work = Vec::with_capacity(leaves.len());
        for at in leaves {
            let of_smaller = self.histograms(&mut rest)?;
            let leaf = &mut self.leaves[*at];
            let of_larger = std::mem::take(&mut leaf.histograms);
            let Some(children) = leaf.children.take() else { return Err(wrong_answer()) };
            work.push((*at, children, of_smaller, of_larger));
        }
        let searched: Vec<_> = work
            .into_par_iter()
            .map(|(at, mut children, of_smaller, of_larger)| {
                self.search(&mut children, of_smaller, of_larger);
                (at, children)
            })
            .collect();
        searched.into_iter().for_each(|(at, children)| self.leaves[at].children = Some(children));
        Ok(())
    }

    fn search(&self, children: &mut (Leaf, Leaf), of_smaller: Vec<Histogram>, of_larger: Vec<Histogram>) {
        let (left, right) = children;
        let is_left_smaller = count(left.sums) <= count(right.sums);
        let (small, large) = if is_left_smaller { (left, right) } else { (right, left) };
        (small.histograms, large.histograms) = (of_smaller, of_larger);
        let (may_split_small, may_split_large) = (self.may_split(small), self.may_split(large));
        let of_small = Part { histograms: &mut small.histograms, sums: small.sums, may_split: may_split_small };
        let of_large = Part { histograms: &mut large.histograms, sums: large.sums, may_split: may_split_large };
        (small.best, large.best) = self.search.children(&self.meanings, &self.features, of_small, &[], of_large);
    }
}
