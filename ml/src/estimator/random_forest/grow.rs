//! Growing one tree.
//!
//! Without a limit of leaves the deepest leaf is split next, so that few are open; with one, the leaf that gains most.
//! Where nodes look at most features, the sums of a large node are kept: the smaller child is summed and the other's
//! sums are the difference. Else each node sums the features that it drew.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;

use super::RandomForestParams;
use super::node::{BINS, Found, Node};
use super::side::Rules;
use super::target::{Target, push_values};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::random::{Random, mix};
use crate::estimator::support::trees::{BinTest, Binned, BinnedTree, GrowingNodes, partition};

/// Below this many values (rows times features) a node is summed on one thread: handing work out costs more.
const PARALLEL_FROM: usize = 1 << 16;
/// The most memory of a tree's kept sums; nodes beyond it are summed on their own.
const KEPT_BYTES: usize = 64 << 20;
/// The purpose of the random numbers.
const FEATURES: u64 = 2;

/// What the trees of a candidate grow in.
#[derive(Debug)]
pub(super) struct Task<'a, T> {
    pub(super) binned: &'a Binned,
    pub(super) target: &'a T,
    pub(super) params: &'a RandomForestParams,
    pub(super) ctx: &'a FitContext,
    /// Whether one tree has several threads.
    pub(super) is_parallel: bool,
}

/// The state of a tree that grows.
struct Grower<'a, T: Target> {
    task: &'a Task<'a, T>,
    rules: Rules,
    /// How often the tree sees each row.
    counts: Vec<u8>,
    /// The rows that it sees, grouped by leaf, ascending in each.
    rows: Vec<u32>,
    /// How many features a node draws.
    n_drawn: usize,
    kept: KeptSums,
    /// What the rows of a node add, next to each other, and in total.
    added: Vec<T::Row>,
    total: Vec<i64>,
    /// Reused: rows on the right, the sums of one feature (all 0), and features in the order drawn.
    right: Vec<u32>,
    scratch: Vec<i64>,
    order: Vec<usize>,
}

/// A leaf while its tree grows.
struct Leaf {
    rows: Range<usize>,
    depth: usize,
    /// Stands for the path from the root.
    key: u64,
    test: Option<BinTest>,
    sums: Option<Vec<i64>>,
}

impl<T: Target> Task<'_, T> {
    /// Grows a tree on rows that it sees so many times each.
    ///
    /// # Errors
    /// Cancellation.
    pub(super) fn grow(&self, counts: Vec<u8>, seed: u64) -> Result<BinnedTree> {
        Grower::new(self, counts).grow(seed)
    }

    /// The rows that are seen and have a weight.
    fn rows(&self, counts: &[u8]) -> Vec<u32> {
        let labels = self.target.labels();
        (0..self.binned.n_rows as u32).filter(|row| counts[*row as usize] > 0 && labels.counts(*row)).collect()
    }

    /// How many words the sums of a feature are.
    fn stride(&self) -> usize {
        BINS * self.target.width()
    }
}

impl<'a, T: Target> Grower<'a, T> {
    fn new(task: &'a Task<'a, T>, mut counts: Vec<u8>) -> Self {
        let (n_features, stride) = (task.binned.columns.len(), task.stride());
        let mut rows = task.rows(&counts);
        if rows.is_empty() {
            // Too few rows to draw from: the tree sees all of them.
            counts.fill(1);
            rows = task.rows(&counts);
        }
        let n_drawn = task.params.feature_subset.count(n_features);
        // Sums of all features cost about half of a node's; drawn ones cost their share.
        let keep_bytes = if n_drawn * 2 > n_features { KEPT_BYTES } else { 0 };
        Self {
            rules: Rules::of(task.params),
            rows,
            n_drawn,
            kept: KeptSums::new(n_features * stride, keep_bytes),
            added: Vec::new(),
            total: vec![0; task.target.width()],
            right: Vec::new(),
            scratch: vec![0; stride],
            order: (0..n_features).collect(),
            counts,
            task,
        }
    }

    fn grow(mut self, seed: u64) -> Result<BinnedTree> {
        let mut nodes = GrowingNodes::new();
        let mut leaves = vec![self.root(seed)?];
        let mut open = BinaryHeap::from_iter(self.priority(&leaves[0], 0));
        while leaves.len() < self.task.params.tree.max_leaves {
            let Some((_, Reverse(at))) = open.pop() else { break };
            let Some(test) = leaves[at].test.take() else { break };
            let (left, right) = self.split(&mut leaves[at], &test)?;
            nodes.split(at, test);
            open.extend(self.priority(&left, at));
            open.extend(self.priority(&right, leaves.len()));
            leaves[at] = left;
            leaves.push(right);
        }
        Ok(BinnedTree { nodes: nodes.nodes, values: self.values(&leaves) })
    }

    fn priority(&self, leaf: &Leaf, at: usize) -> Option<Priority> {
        leaf.test.as_ref().map(|test| priority(self.task.params, test, leaf.depth, at))
    }

    fn values(&self, leaves: &[Leaf]) -> Vec<f64> {
        let mut values = Vec::new();
        for leaf in leaves {
            let sums = self.task.target.labels().leaf_sums(&self.rows[leaf.rows.clone()], &self.counts);
            push_values(&sums, &mut values);
        }
        values
    }

    fn root(&mut self, seed: u64) -> Result<Leaf> {
        let mut root = Leaf { rows: 0..self.rows.len(), depth: 0, key: mix(seed), test: None, sums: None };
        self.gather(&root);
        let least = self.task.params.tree.min_weight_fraction_per_node;
        self.rules.min_weight = least * self.task.target.weight(&self.total);
        if self.may_split(&root)
            && self.is_worth_keeping(&root)
            && let Some(mut sums) = self.kept.take()
        {
            self.fill(&root.rows, &mut sums)?;
            root.sums = Some(sums);
        }
        self.search(&mut root)?;
        Ok(root)
    }

    /// Parts a leaf's rows and makes its children, with their best splits.
    fn split(&mut self, leaf: &mut Leaf, test: &BinTest) -> Result<(Leaf, Leaf)> {
        let bins = &self.task.binned.columns[test.feature];
        let n_left =
            partition(&mut self.rows[leaf.rows.clone()], |row| bins[row as usize], &test.left_bins, &mut self.right);
        let middle = leaf.rows.start + n_left;
        let child = |rows, is_left| Leaf {
            rows,
            depth: leaf.depth + 1,
            key: child_key(leaf.key, is_left),
            test: None,
            sums: None,
        };
        let (mut left, mut right) = (child(leaf.rows.start..middle, true), child(middle..leaf.rows.end, false));
        if let Some(sums) = leaf.sums.take() {
            let is_left_smaller = left.rows.len() <= right.rows.len();
            let (small, large) = if is_left_smaller { (&mut left, &mut right) } else { (&mut right, &mut left) };
            self.sum_children(sums, small, large)?;
        }
        self.search(&mut left)?;
        self.search(&mut right)?;
        Ok((left, right))
    }

    /// Sums the smaller child and takes it off the parent for the larger, where that is worth it.
    fn sum_children(&mut self, mut parent: Vec<i64>, small: &mut Leaf, large: &mut Leaf) -> Result<()> {
        if self.may_split(large)
            && self.is_worth_keeping(large)
            && let Some(mut sums) = self.kept.take()
        {
            self.gather(small);
            self.fill(&small.rows, &mut sums)?;
            parent.iter_mut().zip(&sums).for_each(|(a, b)| *a -= b);
            small.sums = Some(sums);
            large.sums = Some(parent);
        } else {
            self.kept.put(parent);
        }
        Ok(())
    }

    /// Whether taking kept sums off costs less than summing a node's rows again.
    fn is_worth_keeping(&self, leaf: &Leaf) -> bool {
        leaf.rows.len() >= self.task.stride()
    }

    fn may_split(&self, leaf: &Leaf) -> bool {
        leaf.depth < self.task.params.tree.max_depth
            && !self.task.target.labels().is_pure(&self.rows[leaf.rows.clone()])
    }

    /// Puts what the rows of a leaf add next to each other, so that each feature reads it in sequence.
    fn gather(&mut self, leaf: &Leaf) {
        let Self { task, counts, added, total, .. } = self;
        let rows = self.rows[leaf.rows.clone()].iter().map(|row| *row as usize);
        added.clear();
        added.extend(rows.map(|row| task.target.row(row, i64::from(counts[row]))));
        total.fill(0);
        added.iter().for_each(|row| task.target.add(total, 0, row));
    }

    /// The gathered rows.
    fn node<'b>(&'b self, rows: &Range<usize>, sums: Option<&'b [i64]>) -> Node<'b, T> {
        let Task { binned, target, ctx, .. } = *self.task;
        let rows = &self.rows[rows.clone()];
        Node { binned, target, rules: &self.rules, ctx, rows, added: &self.added, total: &self.total, sums }
    }

    /// Sums the gathered rows by the bins of each feature.
    fn fill(&self, rows: &Range<usize>, sums: &mut [i64]) -> Result<()> {
        let node = self.node(rows, None);
        let of_feature = |(bins, sums): (&Vec<u8>, &mut [i64])| {
            self.task.ctx.check()?;
            sums.fill(0);
            node.fill(sums, bins);
            Ok(())
        };
        let columns = &self.task.binned.columns;
        let stride = self.task.stride();
        if self.is_shared(rows.len(), columns.len()) {
            columns.par_iter().zip(sums.par_chunks_mut(stride)).try_for_each(of_feature)
        } else {
            columns.iter().zip(sums.chunks_mut(stride)).try_for_each(of_feature)
        }
    }

    /// Whether a node is worth several threads.
    fn is_shared(&self, n_rows: usize, n_features: usize) -> bool {
        self.task.is_parallel && n_rows * n_features >= PARALLEL_FROM
    }

    /// Finds the best split of a leaf.
    fn search(&mut self, leaf: &mut Leaf) -> Result<()> {
        if self.may_split(leaf) {
            self.gather(leaf);
            leaf.test = self.best_test(leaf)?;
        }
        if leaf.test.is_none() || !self.is_worth_keeping(leaf) {
            leaf.sums.take().into_iter().for_each(|sums| self.kept.put(sums));
        }
        Ok(())
    }

    /// The best split of the gathered rows of a leaf on the features that it draws, the first of equals.
    fn best_test(&mut self, leaf: &Leaf) -> Result<Option<BinTest>> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut order = std::mem::take(&mut self.order);
        let mut draw = Draw::new(&mut order, leaf.key, self.n_drawn);
        let node = self.node(&leaf.rows, leaf.sums.as_deref());
        let drawn = draw.first();
        let found = if self.is_shared(leaf.rows.len(), drawn.len()) {
            let of_feature = |scratch: &mut Vec<i64>, feature: &usize| node.find(scratch, *feature);
            drawn.par_iter().map_init(|| vec![0; self.task.stride()], of_feature).collect::<Result<_>>()
        } else {
            drawn.iter().map(|feature| node.find(&mut scratch, *feature)).collect::<Result<Vec<Found>>>()
        };
        let mut found = found?;
        // As scikit-learn: a node whose features are all constant draws until one is not.
        while !found.iter().any(|found| found.varies)
            && let Some(feature) = draw.next()
        {
            found = vec![node.find(&mut scratch, feature)?];
        }
        (self.scratch, self.order) = (scratch, order);
        let tests = found.into_iter().filter_map(|found| found.test);
        Ok(tests.reduce(|a, b| if b.gain > a.gain { b } else { a }))
    }
}

/// A place in the order of splits of a leaf that can be split: the largest first, of equals the first leaf.
pub(super) type Priority = (u64, Reverse<usize>);

/// That of a leaf with a test.
pub(super) fn priority(params: &RandomForestParams, test: &BinTest, depth: usize, at: usize) -> Priority {
    let has_limit = params.tree.max_leaves < usize::MAX;
    // Gains are above 0, and such floats are in the order of their bits.
    (if has_limit { test.gain.to_bits() } else { depth as u64 }, Reverse(at))
}

/// What stands for the path to a node's child.
pub(super) fn child_key(key: u64, is_left: bool) -> u64 {
    mix(key ^ u64::from(is_left))
}

/// The features of a node, in the order drawn; all of them in their own order when it draws all.
pub(super) struct Draw<'a> {
    order: &'a mut [usize],
    random: Random,
    n_drawn: usize,
}

impl<'a> Draw<'a> {
    pub(super) fn new(order: &'a mut [usize], key: u64, n_drawn: usize) -> Self {
        let is_all = n_drawn == order.len();
        let mut draw = Self { order, random: Random::new(key, FEATURES), n_drawn: 0 };
        if is_all {
            draw.n_drawn = n_drawn;
        } else {
            (0..).zip(draw.order.iter_mut()).for_each(|(feature, into)| *into = feature);
            while draw.n_drawn < n_drawn && draw.next().is_some() {}
        }
        draw
    }

    pub(super) fn first(&self) -> &[usize] {
        &self.order[..self.n_drawn]
    }

    pub(super) fn next(&mut self) -> Option<usize> {
        let left = self.order.len() - self.n_drawn;
        if left == 0 {
            return None;
        }
        let at = self.n_drawn;
        self.order.swap(at, at + self.random.below(left));
        self.n_drawn += 1;
        Some(self.order[at])
    }
}

/// The kept sums of a tree's nodes, used again.
struct KeptSums {
    /// How many words the sums of a node are.
    size: usize,
    /// How many more may be made.
    left: usize,
    spare: Vec<Vec<i64>>,
}

impl KeptSums {
    fn new(size: usize, bytes: usize) -> Self {
        Self { size, left: bytes / (size * size_of::<i64>()).max(1), spare: Vec::new() }
    }

    /// Room for the sums of a node, of any content; none when there is no more.
    fn take(&mut self) -> Option<Vec<i64>> {
        if let Some(sums) = self.spare.pop() {
            return Some(sums);
        }
        self.left = self.left.checked_sub(1)?;
        Some(vec![0; self.size])
    }

    fn put(&mut self, sums: Vec<i64>) {
        self.spare.push(sums);
    }
}
