//! Growing one tree of a forest whose rows lie in shards.
//!
//! A pass costs much more than a node does, so each looks at many nodes: without a limit of leaves at all that may be
//! split, else at those that would be split next if no better leaf came up. Which leaf is split next is decided as for
//! rows in memory, so the tree is the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::super::RandomForestParams;
use super::super::grow::{Draw, Priority, child_key, priority};
use super::super::node::{Found, find};
use super::super::side::Rules;
use super::super::target::{Target, push_values};
use super::TREES;
use crate::Result;
use crate::estimator::sharded::wrong_answer;
use crate::estimator::support::random::mix;
use crate::estimator::support::trees::{BinTest, BinnedTree, GrowingNodes, Meaning, Parting, Partings, contains};

/// The most words that a tree asks for in one pass, in nodes after the first: 64 MiB for all trees that grow side by side.
const MOST_WORDS: usize = (8 << 20) / TREES;

/// A node that is looked at, and on which features.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) node: usize,
    pub(super) features: Vec<usize>,
    /// Whether the sums of all its rows are wanted too.
    pub(super) has_total: bool,
}

/// A tree that grows.
pub(super) struct Growing<'a, T> {
    target: &'a T,
    params: &'a RandomForestParams,
    meanings: &'a [Meaning],
    n_drawn: usize,
    rules: Rules,
    /// How shards part its rows.
    pub(super) partings: Vec<Parting>,
    /// By number on shards.
    places: Vec<Place>,
    nodes: GrowingNodes,
    /// The place of each leaf.
    leaves: Vec<usize>,
    /// The leaves that can be split.
    open: BinaryHeap<Priority>,
}

/// A node, whether the tree has come to it or not.
#[derive(Debug, Default)]
struct Place {
    depth: usize,
    /// Stands for the path from the root.
    key: u64,
    /// What its rows add up to; of a root nothing until it was looked at.
    total: Vec<i64>,
    /// The features that it is yet to be looked at on.
    wanted: Vec<usize>,
    /// Whether those that it drew first are all constant.
    has_drawn: bool,
    test: Option<BinTest>,
    /// What the left side of the test adds up to.
    left: Vec<i64>,
    /// Its children, where its rows are parted.
    children: Option<(usize, usize)>,
}

impl<'a, T: Target> Growing<'a, T> {
    pub(super) fn new(target: &'a T, params: &'a RandomForestParams, meanings: &'a [Meaning], seed: u64) -> Self {
        let mut growing = Self {
            target,
            params,
            meanings,
            n_drawn: params.feature_subset.count(meanings.len()),
            rules: Rules::of(params),
            partings: Vec::new(),
            places: Vec::new(),
            nodes: GrowingNodes::new(),
            leaves: vec![0],
            open: BinaryHeap::new(),
        };
        growing.push(0, mix(seed), Vec::new());
        growing
    }

    /// Adds a node; it wants to be looked at where it may be split.
    fn push(&mut self, depth: usize, key: u64, total: Vec<i64>) -> usize {
        let is_pure = !total.is_empty() && self.target.is_pure(&total) == Some(true);
        let may_split = depth < self.params.tree.max_depth && !is_pure;
        let wanted = if may_split { self.draw(key, false) } else { Vec::new() };
        self.places.push(Place { depth, key, total, wanted, ..Place::default() });
        self.places.len() - 1
    }

    /// The features that a node draws first, or those that it draws where these are constant.
    fn draw(&self, key: u64, is_rest: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.meanings.len()).collect();
        let mut draw = Draw::new(&mut order, key, self.n_drawn);
        if is_rest { std::iter::from_fn(|| draw.next()).collect() } else { draw.first().to_vec() }
    }

    /// Splits leaves as far as their children are known, and gives the nodes that are to be looked at then.
    pub(super) fn advance(&mut self) -> Vec<usize> {
        if self.partings.is_empty() {
            if self.is_open(0) {
                return vec![0];
            }
            self.open.extend(self.priority(0));
        }
        while self.leaves.len() < self.params.tree.max_leaves {
            let Some(&(_, Reverse(at))) = self.open.peek() else { return Vec::new() };
            let (left, right) = self.part(self.leaves[at]);
            if self.is_open(left) || self.is_open(right) {
                return self.look_ahead();
            }
            let Some(test) = self.places[self.leaves[at]].test.clone() else { return Vec::new() };
            self.open.pop();
            self.nodes.split(at, test);
            self.leaves[at] = left;
            self.leaves.push(right);
            self.open.extend(self.priority(at));
            self.open.extend(self.priority(self.leaves.len() - 1));
        }
        Vec::new()
    }

    fn is_open(&self, place: usize) -> bool {
        !self.places[place].wanted.is_empty()
    }

    fn priority(&self, at: usize) -> Option<Priority> {
        let place = &self.places[self.leaves[at]];
        place.test.as_ref().map(|test| priority(self.params, test, place.depth, at))
    }

    /// Has shards part a node's rows by its test; its children.
    fn part(&mut self, place: usize) -> (usize, usize) {
        let node = &mut self.places[place];
        if let Some(children) = node.children {
            return children;
        }
        let Some(test) = &node.test else { return (place, place) };
        self.partings.push(Parting { node: place, feature: test.feature, left_bins: test.left_bins });
        let (depth, key, left) = (node.depth + 1, node.key, std::mem::take(&mut node.left));
        let right = node.total.iter().zip(&left).map(|(whole, left)| whole - left).collect();
        let children = (self.push(depth, child_key(key, true), left), self.push(depth, child_key(key, false), right));
        self.places[place].children = Some(children);
        children
    }

    /// Parts the leaves that are likely to be split soon, and gives their children that may be split.
    fn look_ahead(&mut self) -> Vec<usize> {
        let left = self.params.tree.max_leaves - self.leaves.len();
        let n = if self.params.tree.max_leaves < usize::MAX { left.div_ceil(2) } else { left };
        let (mut asked, mut n_words) = (Vec::new(), 0);
        let mut next = self.open.clone();
        for (_, Reverse(at)) in std::iter::from_fn(|| next.pop()).take(n) {
            let (left, right) = self.part(self.leaves[at]);
            for child in [left, right].into_iter().filter(|child| self.is_open(*child)) {
                n_words += self.places[child].wanted.iter().map(|feature| self.n_words(*feature)).sum::<usize>();
                asked.push(child);
            }
            if n_words > MOST_WORDS {
                break;
            }
        }
        asked
    }

    /// How many words the sums of a feature are.
    fn n_words(&self, feature: usize) -> usize {
        (self.meanings[feature].n_bins() + 1) * self.target.width()
    }

    /// Those of some nodes whose rows may all have one label.
    pub(super) fn unsure(&self, nodes: &[usize]) -> Vec<usize> {
        let is_unsure = |place: &usize| {
            let total = &self.places[*place].total;
            let unknown = vec![0; self.target.width()];
            self.target.is_pure(if total.is_empty() { &unknown } else { total }).is_none()
        };
        nodes.iter().copied().filter(is_unsure).collect()
    }

    /// Leaves out those of some nodes whose rows all have one label.
    pub(super) fn leave_out(&mut self, nodes: &[usize], is_pure: &mut impl Iterator<Item = bool>) {
        for (place, is_pure) in nodes.iter().zip(is_pure) {
            if is_pure {
                self.places[*place].wanted.clear();
            }
        }
    }

    /// What the nodes are that are looked at now.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let of = |(node, place): (usize, &Place)| Wanted {
            node,
            features: place.wanted.clone(),
            has_total: place.total.is_empty(),
        };
        self.places.iter().enumerate().filter(|(_, place)| !place.wanted.is_empty()).map(of).collect()
    }

    /// Finds the best tests of nodes, from the beginning of sums.
    ///
    /// # Errors
    /// Too few of them.
    pub(super) fn learn(&mut self, wanted: &[Wanted], sums: &mut &[i64]) -> Result<()> {
        for Wanted { node, features, has_total } in wanted {
            if *has_total {
                self.places[*node].total = take(sums, self.target.width())?.to_vec();
                let least = self.params.tree.min_weight_fraction_per_node;
                self.rules.min_weight = least * self.target.weight(&self.places[*node].total);
            }
            let of_features: Vec<&[i64]> =
                features.iter().map(|feature| take(sums, self.n_words(*feature))).collect::<Result<_>>()?;
            self.choose(*node, features, &of_features);
        }
        Ok(())
    }

    fn choose(&mut self, node: usize, features: &[usize], sums: &[&[i64]]) {
        let place = &self.places[node];
        let of = |(feature, sums): (&usize, &&[i64])| {
            find(self.target, (&self.rules, &place.total), (*feature, &self.meanings[*feature]), sums)
        };
        let found: Vec<Found> = features.iter().zip(sums).map(of).collect();
        // As for rows in memory: a node whose features are all constant draws until one is not.
        let rest =
            if place.has_drawn || found.iter().any(|f| f.varies) { Vec::new() } else { self.draw(place.key, true) };
        let test = if place.has_drawn {
            found.into_iter().find(|f| f.varies).and_then(|f| f.test)
        } else {
            found.into_iter().filter_map(|f| f.test).reduce(|a, b| if b.gain > a.gain { b } else { a })
        };
        let width = self.target.width();
        let mut left = vec![0; width];
        if let Some((test, at)) = test.as_ref().and_then(|t| Some((t, features.iter().position(|f| *f == t.feature)?)))
        {
            let bins = sums[at].chunks_exact(width).zip(0..=u8::MAX).filter(|(_, bin)| contains(&test.left_bins, *bin));
            bins.for_each(|(sums, _)| left.iter_mut().zip(sums).for_each(|(a, b)| *a += b));
        }
        let place = &mut self.places[node];
        (place.wanted, place.has_drawn, place.test, place.left) = (rest, true, test, left);
    }

    /// The places of the leaves, in their order.
    pub(super) fn leaf_places(&self) -> Vec<usize> {
        self.leaves.clone()
    }

    /// The partings after so many.
    pub(super) fn partings_after(&self, before: usize) -> Partings {
        Partings { before, new: self.partings[before..].to_vec() }
    }

    /// The tree, with its leaves' values from the beginning of sums; none of a tree that sees no row.
    ///
    /// # Errors
    /// Too few of them.
    pub(super) fn finish(self, sums: &mut &[f64]) -> Result<Option<BinnedTree>> {
        let mut values = Vec::new();
        let mut weight = 0.0;
        for _ in &self.leaves {
            let own = take(sums, 1 + self.target.labels().n_outputs)?;
            weight += own[0];
            push_values(own, &mut values);
        }
        Ok((weight > 0.0).then_some(BinnedTree { nodes: self.nodes.nodes, values }))
    }
}

/// So many from the beginning of numbers.
fn take<'a, N>(numbers: &mut &'a [N], n: usize) -> Result<&'a [N]> {
    let (own, rest) = numbers.split_at_checked(n).ok_or_else(wrong_answer)?;
    *numbers = rest;
    Ok(own)
}
