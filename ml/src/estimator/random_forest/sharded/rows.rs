//! A shard's rows while trees grow.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::super::sample::Sampler;
use super::super::target::{Classes, Numbers, Target};
use super::grow::Wanted;
use super::{At, Kind};
use crate::Result;
use crate::estimator::sharded::{Shard, ShardRows, kept_or_lost};
use crate::estimator::support::training::Labels;
use crate::estimator::support::trees::{Binned, Meaning, PartedRows, first_row, labels_of};

/// What a shard keeps.
pub(super) struct State {
    binned: Binned,
    target: Box<dyn NodeSums>,
    /// The number of the first row.
    first: u64,
    max_bins: usize,
    batch: usize,
    trees: Vec<TreeRows>,
    scratch: Vec<u32>,
}

/// The rows of a tree.
struct TreeRows {
    /// How often it sees each row.
    counts: Vec<u8>,
    rows: PartedRows,
}

/// Sums over a node's rows, of one kind of target.
trait NodeSums: Send + Sync {
    fn labels(&self) -> &Labels;

    /// How many numbers the sums of a node are.
    fn n_sums(&self, binned: &Binned, wanted: &Wanted) -> usize;

    /// Adds those by bin of each of some features, where it is asked for behind those of all rows.
    fn add_sums(&self, binned: &Binned, tree: &TreeRows, wanted: &Wanted, into: &mut [i64]);
}

impl<T: Target> NodeSums for T {
    fn labels(&self) -> &Labels {
        Target::labels(self)
    }

    fn n_sums(&self, binned: &Binned, wanted: &Wanted) -> usize {
        let of_features = wanted.features.iter().map(|feature| binned.meanings[*feature].n_bins() + 1);
        self.width() * (usize::from(wanted.has_total) + of_features.sum::<usize>())
    }

    fn add_sums(&self, binned: &Binned, TreeRows { counts, rows }: &TreeRows, wanted: &Wanted, into: &mut [i64]) {
        let rows = rows.of_node(wanted.node);
        let added: Vec<T::Row> =
            rows.iter().map(|row| self.row(*row as usize, i64::from(counts[*row as usize]))).collect();
        let (total, mut rest) = into.split_at_mut(if wanted.has_total { self.width() } else { 0 });
        if wanted.has_total {
            added.iter().for_each(|row| self.add(total, 0, row));
        }
        for feature in &wanted.features {
            let sums;
            (sums, rest) = rest.split_at_mut((binned.meanings[*feature].n_bins() + 1) * self.width());
            let bins = &binned.columns[*feature];
            for (row, added) in rows.iter().zip(&added) {
                self.add(sums, usize::from(bins[*row as usize]), added);
            }
        }
    }
}

impl State {
    /// An answer of a shard's rows, parted as they are now; none where they are lost and not all is told.
    pub(super) fn with<A>(shard: &dyn Shard, at: &At, answer: impl FnOnce(&Self) -> A) -> Result<Option<A>> {
        let gather = at
            .meanings
            .as_ref()
            .map(|meanings| move || Self::gather(shard, at, meanings).map(|(state, bytes)| (Mutex::new(state), bytes)));
        let Some(state) = kept_or_lost(shard, "random_forest", gather)? else { return Ok(None) };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.is_brought_to(shard, at)?.then(|| answer(&state)))
    }

    fn gather(shard: &dyn Shard, at: &At, meanings: &Arc<[Meaning]>) -> Result<(Self, usize)> {
        let ShardRows { matrix, rows } = shard.read()?;
        let binned = Binned::by(Arc::clone(meanings), &matrix.x, &rows);
        let labels = labels_of(&matrix, &rows);
        let target: Box<dyn NodeSums> = match at.kind {
            Kind::Classes => Box::new(Classes::new(labels, at.units)),
            Kind::Numbers => Box::new(Numbers::<2>::new(labels, at.units)),
            Kind::WeightedNumbers => Box::new(Numbers::<3>::new(labels, at.units)),
        };
        let bytes = rows.len() * (binned.columns.len() + 32 + 5 * at.draws.len());
        let (first, scratch) = (first_row(shard), Vec::new());
        let mut state =
            Self { binned, target, first, max_bins: at.max_bins, batch: at.batch, trees: Vec::new(), scratch };
        state.trees = state.begin(at);
        Ok((state, bytes))
    }

    /// The rows that trees see before they grow.
    fn begin(&self, at: &At) -> Vec<TreeRows> {
        let n_rows = self.binned.n_rows;
        let sampler = Sampler::new(at.bootstrap, at.rate);
        let labels = self.target.labels();
        let of_tree = |draw: &Option<u64>| {
            let numbers = self.first..self.first + n_rows as u64;
            let counts = draw.map_or_else(|| vec![1; n_rows], |seed| sampler.counts(seed, numbers));
            let rows = (0..n_rows as u32).filter(|row| counts[*row as usize] > 0 && labels.counts(*row)).collect();
            TreeRows { counts, rows: PartedRows::new(rows) }
        };
        at.draws.par_iter().map(of_tree).collect()
    }

    /// Parts rows as trees have grown; whether what is told was enough.
    fn is_brought_to(&mut self, shard: &dyn Shard, at: &At) -> Result<bool> {
        if self.max_bins != at.max_bins {
            let Some(meanings) = &at.meanings else { return Ok(false) };
            *self = Self::gather(shard, at, meanings)?.0;
        } else if self.batch != at.batch {
            (self.batch, self.trees) = (at.batch, self.begin(at));
        }
        let Self { trees, binned, scratch, .. } = self;
        let bin = |feature: usize, row: usize| binned.columns[feature][row];
        let mut parted = trees.iter_mut().zip(&at.partings).map(|(tree, new)| tree.rows.part(new, bin, scratch));
        Ok(parted.all(|is_known| is_known))
    }

    /// The least and the largest label of each of some nodes of each tree.
    pub(super) fn extremes(&self, nodes: &[Vec<usize>]) -> Vec<f64> {
        let labels = self.target.labels();
        let of_node = |(tree, node): (&TreeRows, usize)| {
            let of_rows = tree.rows.of_node(node).iter().map(|row| labels.label[*row as usize]);
            let (least, largest) =
                of_rows.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), label| (a.min(label), b.max(label)));
            [least, largest]
        };
        self.nodes(nodes).flat_map(of_node).collect()
    }

    /// The weight of each of some nodes of each tree, and that of the labels; of classes, that of each.
    pub(super) fn leaves(&self, nodes: &[Vec<usize>]) -> Vec<f64> {
        let of_node = |(tree, node): (&TreeRows, usize)| {
            // A leaf may have been parted in vain, which changed the order.
            let mut rows = tree.rows.of_node(node).to_vec();
            rows.sort_unstable();
            self.target.labels().leaf_sums(&rows, &tree.counts)
        };
        self.nodes(nodes).flat_map(of_node).collect()
    }

    fn nodes<'a>(&'a self, nodes: &'a [Vec<usize>]) -> impl Iterator<Item = (&'a TreeRows, usize)> {
        self.trees.iter().zip(nodes).flat_map(|(tree, nodes)| nodes.iter().map(move |node| (tree, *node)))
    }

    /// Adds the sums by bin of some nodes of each tree, behind a number that is 0 where nothing is lost.
    pub(super) fn add_sums(&self, wanted: &[Vec<Wanted>], into: &mut Vec<i64>) {
        let n_sums = |wanted: &Wanted| self.target.n_sums(&self.binned, wanted);
        let n_numbers = 1 + wanted.iter().flatten().map(n_sums).sum::<usize>();
        into.resize(into.len().max(n_numbers), 0);
        let mut rest = &mut into[1..];
        let mut work = Vec::new();
        for (tree, nodes) in self.trees.iter().zip(wanted) {
            for node in nodes {
                let sums;
                (sums, rest) = rest.split_at_mut(n_sums(node));
                work.push((tree, node, sums));
            }
        }
        work.into_par_iter().for_each(|(tree, node, sums)| self.target.add_sums(&self.binned, tree, node, sums));
    }
}
