//! The rows of a boosting run: their scores so far, and what trees are grown on.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::GradientBoostedTreesParams;
use super::grow::rows_between;
use super::histogram::{Scale, Sums};
use super::loss::{Loss, log_sum_exp};
use crate::estimator::support::chunks::fold_chunks;
use crate::estimator::support::random::mix;
use crate::estimator::support::training::Labels;
use crate::estimator::support::trees::{BinnedTree, RowBins};
use crate::estimator::support::vectors::in_wide_vectors;

/// Rows of one parallel piece of work when gradients are computed; each row is on its own.
const ROWS_PER_PIECE: usize = 16_384;
/// The purposes of random numbers.
const ROW_SAMPLE: u64 = 1;
const VALIDATION: u64 = 3;

/// Which rows trees are grown on, by hash.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Draw {
    /// The run's seed.
    seed: u64,
    /// A row is kept for validation below this.
    validation_below: u64,
    /// Of the others, a tree sees a row below this; none where it sees all.
    sample_below: Option<u64>,
}

impl Draw {
    /// That of a run.
    pub(super) fn new(params: &GradientBoostedTreesParams, seed: u64) -> Self {
        let below = |share: f64| (share * u64::MAX as f64) as u64;
        let early = params.early_stopping_rounds > 0;
        Self {
            seed,
            validation_below: if early { below(params.validation_fraction) } else { 0 },
            sample_below: (params.subsampling_rate < 1.0).then(|| below(params.subsampling_rate)),
        }
    }

    /// Whether early stopping looks at a row.
    pub(super) fn is_validation(&self, row: u64) -> bool {
        mix(mix(self.seed ^ mix(VALIDATION)) ^ row) < self.validation_below
    }

    /// Whether the trees of an iteration, which has a seed, see a row.
    fn is_taken(&self, row: u64, seed: u64) -> bool {
        let is_sampled = self.sample_below.is_none_or(|below| mix(mix(seed ^ mix(ROW_SAMPLE)) ^ row) < below);
        is_sampled && !self.is_validation(row)
    }
}

/// The rows of a run, or of one of its shards.
#[derive(Debug)]
pub(super) struct ScoredRows {
    bins: Arc<RowBins>,
    labels: Arc<Labels>,
    loss: Loss,
    draw: Draw,
    /// The number of the first row among those of the run.
    first: u64,
    /// The scores of the rows, by output.
    pub(super) scores: Vec<Vec<f64>>,
    /// The fixed-point derivatives of the rows.
    pub(super) sums: Vec<Sums>,
    /// The rows that early stopping looks at, ascending.
    pub(super) validation_rows: Vec<u32>,
    /// `ln(Σ e^s)` of each row when the iteration began; empty with one output.
    log_sums: Vec<f64>,
}

impl ScoredRows {
    /// Rows that all have the scores of no trees.
    pub(super) fn new(
        bins: &Arc<RowBins>,
        labels: &Arc<Labels>,
        loss: Loss,
        draw: Draw,
        first: u64,
        base: &[f64],
    ) -> Self {
        let n_rows = bins.n_rows();
        let is_kept = |row: &u32| draw.is_validation(first + u64::from(*row));
        Self {
            bins: Arc::clone(bins),
            labels: Arc::clone(labels),
            loss,
            draw,
            first,
            scores: base.iter().map(|base| vec![*base; n_rows]).collect(),
            sums: vec![[0, 0]; n_rows],
            validation_rows: (0..n_rows as u32).filter(is_kept).collect(),
            log_sums: Vec::new(),
        }
    }

    /// The bytes that a row takes beside its bins, and while trees grow on it.
    pub(super) fn bytes_of_row(&self) -> usize {
        let (n_outputs, sums_and_numbers) = (self.scores.len(), 16 + 8);
        let of_labels = 8 * (1 + usize::from(self.labels.weight.is_some()));
        sums_and_numbers + of_labels + 8 * (n_outputs + usize::from(n_outputs > 1))
    }

    /// The same rows at the start of another run.
    pub(super) fn restarted(&self, loss: Loss, draw: Draw, base: &[f64]) -> Self {
        Self::new(&self.bins, &self.labels, loss, draw, self.first, base)
    }

    /// Begins an iteration: the derivatives of its trees are those of the scores now.
    pub(super) fn begin(&mut self) {
        if self.scores.len() == 1 {
            return;
        }
        let of_row = |row: usize, scores: &mut Vec<f64>| {
            scores.clear();
            scores.extend(self.scores.iter().map(|scores| scores[row]));
            log_sum_exp(scores)
        };
        let rows = (0..self.bins.n_rows()).into_par_iter().with_min_len(ROWS_PER_PIECE);
        self.log_sums = rows.map_init(Vec::new, |scores, row| of_row(row, scores)).collect();
    }

    /// Bounds of the derivatives of one output's scores: the largest size of a gradient, and the largest Hessian.
    pub(super) fn bounds(&self, output: usize) -> (f64, f64) {
        if let (Some(bounds), None) = (self.loss.bounds(), &self.labels.weight) {
            return bounds;
        }
        let most = |a: (f64, f64), b: (f64, f64)| (a.0.max(b.0), a.1.max(b.1));
        let rows = (0..self.bins.n_rows()).into_par_iter().with_min_len(ROWS_PER_PIECE);
        let sizes = rows.map(|row| {
            let (gradient, hessian) = self.derivatives(output, row);
            (gradient.abs(), hessian)
        });
        sizes.reduce(|| (0.0, 0.0), most)
    }

    /// Computes the fixed-point derivatives of one output's scores.
    pub(super) fn update_sums(&mut self, output: usize, scale: Scale) {
        let mut sums = std::mem::take(&mut self.sums);
        sums.par_chunks_mut(ROWS_PER_PIECE).enumerate().for_each(|(piece, sums)| {
            let first = piece * ROWS_PER_PIECE;
            if self.loss == Loss::Logistic && self.labels.weight.is_none() {
                let rows = first..first + sums.len();
                let (scores, label) = (&self.scores[output][rows.clone()], &self.labels.label[rows]);
                return pack_logistic(scores, label, scale, sums);
            }
            for (row, into) in (first..).zip(sums) {
                let (gradient, hessian) = self.derivatives(output, row);
                *into = scale.pack(gradient, hessian);
            }
        });
        self.sums = sums;
    }

    #[inline]
    fn derivatives(&self, output: usize, row: usize) -> (f64, f64) {
        let label = self.labels.label[row];
        let label = if self.loss == Loss::Softmax { f64::from(u8::from(label as usize == output)) } else { label };
        let softmax = self.log_sums.get(row).map(|log_sum| (*log_sum, self.scores.len() as f64));
        let (gradient, hessian) = self.loss.derivatives(self.scores[output][row], label, softmax);
        let weight = self.labels.weight.as_ref().map_or(1.0, |weight| weight[row]);
        (gradient * weight, hessian * weight)
    }

    /// Fills `rows` with the rows of an iteration's trees, by its seed, and returns the others.
    pub(super) fn sample(&self, rows: &mut Vec<u32>, seed: u64) -> Vec<u32> {
        rows.clear();
        let n_rows = self.bins.n_rows() as u32;
        if self.draw.sample_below.is_none() && self.validation_rows.is_empty() {
            rows.extend(0..n_rows);
            return Vec::new();
        }
        let is_taken = |row: &u32| self.draw.is_taken(self.first + u64::from(*row), seed);
        let (taken, rest): (Vec<u32>, Vec<u32>) =
            (0..n_rows).into_par_iter().with_min_len(ROWS_PER_PIECE).partition(is_taken);
        *rows = taken;
        rest
    }

    /// Adds a tree's values to the scores of some rows, ascending.
    pub(super) fn add(&mut self, output: usize, tree: &BinnedTree, rows: &[u32]) {
        let bins = &self.bins;
        self.scores[output].par_chunks_mut(ROWS_PER_PIECE).enumerate().for_each(|(piece, scores)| {
            let first = piece * ROWS_PER_PIECE;
            for &row in rows_between(rows, first, first + scores.len()) {
                scores[row as usize - first] += tree.values[tree.leaf(|feature| bins.bin(feature, row as usize))];
            }
        });
    }

    /// The sum of the validation rows' losses, in the order of the rows.
    pub(super) fn validation_loss(&self) -> f64 {
        let (rows, labels) = (&self.validation_rows, &self.labels);
        let of_row = |row: u32, scores: &mut Vec<f64>| {
            let row = row as usize;
            scores.clear();
            scores.extend(self.scores.iter().map(|scores| scores[row]));
            labels.weight.as_ref().map_or(1.0, |w| w[row]) * self.loss.of_row(scores, labels.label[row])
        };
        let sum_of = |range: std::ops::Range<usize>| {
            let mut scores = Vec::new();
            rows[range].iter().map(|row| of_row(*row, &mut scores)).sum::<f64>()
        };
        fold_chunks(rows.len(), ROWS_PER_PIECE, 0.0, sum_of, |sum, part: f64| *sum += part)
    }
}

in_wide_vectors! {
    /// The derivatives of the logistic loss of rows that all count alike.
    fn pack_logistic(scores: &[f64], label: &[f64], scale: Scale, into: &mut [Sums]) {
        for ((score, label), into) in scores.iter().zip(label).zip(into) {
            let (gradient, hessian) = Loss::Logistic.derivatives(*score, *label, None);
            *into = scale.pack(gradient, hessian);
        }
    }
}
