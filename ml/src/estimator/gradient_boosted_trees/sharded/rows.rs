//! A shard's rows in a boosting run.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::super::histogram::{self, Sums, n_used, plus};
use super::super::rows::{Draw, ScoredRows};
use super::{At, Fill, History};
use crate::Result;
use crate::estimator::sharded::{Shard, ShardRows, decode, kept_or_lost};
use crate::estimator::support::trees::{
    Binned, BinnedTree, Meaning, PartedRows, RowBins, first_row, in_blocks, labels, labels_of,
};

/// The weight of the rows that trees are grown on, and that of their labels; of classes, that of each.
pub(super) fn base(shard: &dyn Shard, draw: Draw) -> Result<Vec<f64>> {
    let labels = labels(shard)?;
    let first = first_row(shard);
    let mut sums = vec![0.0; labels.n_outputs + 1];
    for row in (0..labels.label.len()).filter(|row| !draw.is_validation(first + *row as u64)) {
        let (label, weight) = (labels.label[row], labels.weight.as_ref().map_or(1.0, |weight| weight[row]));
        sums[0] += weight;
        match labels.n_outputs {
            1 => sums[1] += label * weight,
            _ => sums[label as usize + 1] += weight,
        }
    }
    Ok(sums)
}

/// What a shard keeps.
pub(super) struct State {
    bins: Arc<RowBins>,
    meanings: Arc<[Meaning]>,
    max_bins: usize,
    /// The run, and how many of its trees the rows' scores are of.
    run: usize,
    n_trees: usize,
    pub(super) rows: ScoredRows,
    /// Those of the tree that grows, and how many trees are before it.
    tree: Option<(usize, PartedRows)>,
    scratch: Vec<u32>,
}

impl State {
    /// An answer of a shard's rows as they are at a point of a run; none where they are lost and all trees are not told.
    pub(super) fn with<T>(shard: &dyn Shard, at: &At, answer: impl FnOnce(&mut Self) -> T) -> Result<Option<T>> {
        let gather = at.history.as_ref().map(|history| {
            || Self::gather(shard, at, &decode(history)?).map(|(state, bytes)| (Mutex::new(state), bytes))
        });
        let Some(state) = kept_or_lost(shard, "gradient_boosted_trees", gather)? else { return Ok(None) };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.is_brought_to(shard, at)?.then(|| answer(&mut state)))
    }

    fn gather(shard: &dyn Shard, at: &At, History { max_bins, meanings, .. }: &History) -> Result<(Self, usize)> {
        let ShardRows { matrix, rows } = shard.read()?;
        // Rows lie by row only: columns would take as much again.
        let bins = Arc::new(RowBins::new(&Binned::by(Arc::clone(meanings), &matrix.x, &rows)));
        let labels = Arc::new(labels_of(&matrix, &rows));
        let rows = ScoredRows::new(&bins, &labels, at.loss, at.draw, first_row(shard), &at.base);
        let bytes = bins.n_rows() * (bins.bytes_of_row() + rows.bytes_of_row());
        let (meanings, max_bins, scratch) = (Arc::clone(meanings), *max_bins, Vec::new());
        let mut state = Self { bins, meanings, max_bins, run: at.run, n_trees: 0, rows, tree: None, scratch };
        state.rows.begin();
        Ok((state, bytes))
    }

    /// Brings scores to where a run is; whether what is told was enough.
    fn is_brought_to(&mut self, shard: &dyn Shard, at: &At) -> Result<bool> {
        if self.run == at.run && self.n_trees == at.n_trees {
            return Ok(true);
        }
        if self.run == at.run && self.n_trees + 1 == at.n_trees {
            at.last.iter().for_each(|tree| self.add(tree));
            return Ok(true);
        }
        let Some(history) = &at.history else { return Ok(false) };
        let history: History = decode(history)?;
        if self.run != at.run || self.n_trees > at.n_trees {
            if self.max_bins == history.max_bins {
                self.rows = self.rows.restarted(at.loss, at.draw, &at.base);
                (self.run, self.n_trees, self.tree) = (at.run, 0, None);
                self.rows.begin();
            } else {
                *self = Self::gather(shard, at, &history)?.0;
            }
        }
        history.trees[self.n_trees..].iter().for_each(|tree| self.add(tree));
        Ok(true)
    }

    /// Adds a tree's values to the scores of all rows.
    fn add(&mut self, tree: &BinnedTree) {
        let n_outputs = self.rows.scores.len();
        let all: Vec<u32> = (0..self.bins.n_rows() as u32).collect();
        self.rows.add(self.n_trees % n_outputs, tree, &all);
        self.n_trees += 1;
        if self.n_trees.is_multiple_of(n_outputs) {
            self.rows.begin();
        }
    }

    /// Adds the sums of nodes by bin, behind a number that is 0 where nothing is lost.
    pub(super) fn add_sums(&mut self, fill: &Fill, into: &mut Vec<i64>) {
        self.part(fill);
        let Some((_, tree)) = &self.tree else { return };
        let n_total = if fill.nodes.contains(&0) { 1 } else { 0 };
        let of_node: usize = fill.features.iter().map(|feature| n_used(&self.meanings[*feature])).sum();
        let n_numbers = 1 + 2 * (n_total + of_node * fill.nodes.len());
        into.resize(into.len().max(n_numbers), 0);
        let (total, by_node) = into[1..].as_chunks_mut().0.split_at_mut(n_total);
        if let [total] = total {
            let of_rows = tree.of_node(0).par_iter().map(|row| self.rows.sums[*row as usize]);
            *total = plus(*total, of_rows.reduce(|| [0, 0], plus));
        }
        let nodes = by_node.par_chunks_mut(of_node.max(1)).zip(&fill.nodes);
        nodes.for_each(|(sums, node)| self.add_node(sums, tree.of_node(*node), &fill.features));
    }

    /// Parts the rows of the tree that grows as far as it has grown.
    fn part(&mut self, Fill { output, row_seed, bounds, splits, .. }: &Fill) {
        if self.tree.as_ref().is_none_or(|(number, _)| *number != self.n_trees) {
            self.rows.update_sums(*output, bounds.scale());
            let mut rows = Vec::new();
            self.rows.sample(&mut rows, *row_seed);
            self.tree = Some((self.n_trees, PartedRows::new(rows)));
        }
        if let Some((_, tree)) = &mut self.tree {
            let bins = &self.bins;
            tree.part(splits, |feature, row| bins.bin(feature, row), &mut self.scratch);
        }
    }

    /// Adds rows to the used bins of features, which lie one after the other.
    fn add_node(&self, mut sums: &mut [Sums], rows: &[u32], features: &[usize]) {
        for features in in_blocks(features) {
            let mut by_feature = Vec::with_capacity(features.len());
            for feature in features {
                let own;
                (own, sums) = sums.split_at_mut(n_used(&self.meanings[*feature]));
                by_feature.push(own);
            }
            let bins = self.bins.block(RowBins::place(features[0]));
            histogram::add(&mut by_feature, features, rows, bins, &self.rows.sums);
        }
    }
}
