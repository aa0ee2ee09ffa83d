//! One boosting run: trees fitted to the gradients of those before them.

use rayon::prelude::*;

use super::GradientBoostedTreesParams;
use super::grow::{Grower, LeafQuantile, rows_between};
use super::histogram::{Scale, Sums};
use super::loss::{Loss, log_sum_exp};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::chunks::fold_chunks;
use crate::estimator::support::random::{Random, mix};
use crate::estimator::support::training::Labels;
use crate::estimator::support::trees::{Binned, BinnedTree, RowBins};

/// Rows of one parallel piece of work when gradients are computed; each row is on its own.
const ROWS_PER_PIECE: usize = 16_384;
/// The purposes of random numbers.
const ROW_SAMPLE: u64 = 1;
const FEATURE_SAMPLE: u64 = 2;
const VALIDATION: u64 = 3;

/// What a run gives.
#[derive(Debug)]
pub(super) struct Boosted {
    /// The scores before the first tree, by output.
    pub(super) base: Vec<f64>,
    /// The trees, those of an iteration together, in the order of their outputs.
    pub(super) trees: Vec<BinnedTree>,
    /// The loss on the rows kept for validation after each iteration; empty without early stopping.
    validation: Vec<f64>,
}

impl Boosted {
    /// The trees of a candidate with so many iterations: up to where its validation loss was lowest.
    pub(super) fn first(&self, max_iter: usize) -> &[BinnedTree] {
        let n_outputs = self.base.len();
        let done = (self.trees.len() / n_outputs).min(max_iter);
        let seen = &self.validation[..done.min(self.validation.len())];
        let best = seen.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i + 1);
        &self.trees[..best.unwrap_or(done) * n_outputs]
    }
}

/// Boosts trees on binned rows.
///
/// # Errors
/// Cancellation.
pub(super) fn boost(
    binned: &Binned,
    row_bins: &RowBins,
    labels: &Labels,
    params: &GradientBoostedTreesParams,
    ctx: &FitContext,
) -> Result<Boosted> {
    let mut run = Run::new(binned, labels, params, ctx);
    let mut grower = Grower::new(binned, row_bins, params, ctx);
    for iteration in 0..params.max_iter {
        ctx.check()?;
        if !run.iterate(iteration, &mut grower)? || run.has_stopped_falling() {
            break;
        }
    }
    Ok(run.boosted)
}

/// The state of a run between iterations.
struct Run<'a> {
    binned: &'a Binned,
    labels: &'a Labels,
    params: &'a GradientBoostedTreesParams,
    seed: u64,
    /// The scores of the rows, by output.
    scores: Vec<Vec<f64>>,
    sums: Vec<Sums>,
    /// The rows that early stopping looks at, ascending.
    validation_rows: Vec<u32>,
    boosted: Boosted,
}

impl<'a> Run<'a> {
    fn new(binned: &'a Binned, labels: &'a Labels, params: &'a GradientBoostedTreesParams, ctx: &FitContext) -> Self {
        let n_rows = binned.n_rows;
        let seed = mix(ctx.seed ^ mix(params.seed));
        let is_kept = |row: &u32| is_validation(params, seed, *row);
        let validation_rows: Vec<u32> = (0..n_rows as u32).filter(is_kept).collect();
        let base = base(labels, params, |row| is_kept(&row));
        Self {
            binned,
            labels,
            params,
            seed,
            scores: base.iter().map(|base| vec![*base; n_rows]).collect(),
            sums: vec![[0, 0]; n_rows],
            validation_rows,
            boosted: Boosted { base, trees: Vec::new(), validation: Vec::new() },
        }
    }

    /// Adds a tree for each output; whether one of them has a split.
    fn iterate(&mut self, iteration: usize, grower: &mut Grower<'_>) -> Result<bool> {
        let n_outputs = self.labels.n_outputs;
        let softmax = (n_outputs > 1).then(|| self.log_sums());
        let mut grown = Vec::with_capacity(n_outputs);
        for output in 0..n_outputs {
            let seed = self.seed.wrapping_add((iteration * n_outputs + output) as u64);
            let row_seed = self.seed.wrapping_add((iteration * n_outputs) as u64);
            let scale = self.update_sums(output, softmax.as_deref());
            let rest = self.sample_rows(&mut grower.rows, row_seed);
            let features = sample_features(self.binned.columns.len(), self.params.feature_subset, seed);
            let quantile = self.params.loss.leaf_quantile().map(|alpha| LeafQuantile {
                alpha,
                label: &self.labels.label,
                weight: self.labels.weight.as_deref(),
            });
            let scores = &mut self.scores[output];
            let tree = grower.grow(scale, &self.sums, &features, quantile, scores)?;
            add_values(self.binned, &tree, &rest, scores);
            grown.push(tree);
        }
        if grown.iter().all(|tree| tree.nodes.is_empty()) {
            return Ok(false);
        }
        self.boosted.trees.extend(grown);
        if !self.validation_rows.is_empty() {
            let loss = self.validation_loss();
            self.boosted.validation.push(loss);
        }
        Ok(true)
    }

    /// Whether the validation loss has not fallen for as long as early stopping waits.
    fn has_stopped_falling(&self) -> bool {
        let losses = &self.boosted.validation;
        let best = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        !losses.is_empty() && losses.len() - 1 - best >= self.params.early_stopping_rounds
    }

    /// The sum of the validation rows' losses, in the order of the rows.
    fn validation_loss(&self) -> f64 {
        let (rows, labels, loss) = (&self.validation_rows, self.labels, self.params.loss);
        let of_row = |row: u32, scores: &mut Vec<f64>| {
            let row = row as usize;
            scores.clear();
            scores.extend(self.scores.iter().map(|scores| scores[row]));
            labels.weight.as_ref().map_or(1.0, |w| w[row]) * loss.of_row(scores, labels.label[row])
        };
        let sum_of = |range: std::ops::Range<usize>| {
            let mut scores = Vec::new();
            rows[range].iter().map(|row| of_row(*row, &mut scores)).sum::<f64>()
        };
        fold_chunks(rows.len(), ROWS_PER_PIECE, 0.0, sum_of, |sum, part: f64| *sum += part)
    }

    /// `ln(Σ e^s)` of each row.
    fn log_sums(&self) -> Vec<f64> {
        let of_row = |row: usize, scores: &mut Vec<f64>| {
            scores.clear();
            scores.extend(self.scores.iter().map(|scores| scores[row]));
            log_sum_exp(scores)
        };
        let rows = (0..self.binned.n_rows).into_par_iter().with_min_len(ROWS_PER_PIECE);
        rows.map_init(Vec::new, |scores, row| of_row(row, scores)).collect()
    }

    /// Computes the fixed-point derivatives of one output's scores, in units that fit them.
    fn update_sums(&mut self, output: usize, log_sums: Option<&[f64]>) -> Scale {
        let Self { labels, params, scores, sums, .. } = self;
        let (loss, scores, weight) = (params.loss, &scores[output], labels.weight.as_deref());
        let n_outputs = labels.n_outputs as f64;
        let derivatives = |row: usize| {
            let label = labels.label[row];
            let label = if loss == Loss::Softmax { f64::from(u8::from(label as usize == output)) } else { label };
            let softmax = log_sums.map(|log_sums| (log_sums[row], n_outputs));
            let (gradient, hessian) = loss.derivatives(scores[row], label, softmax);
            let weight = weight.map_or(1.0, |weight| weight[row]);
            (gradient * weight, hessian * weight)
        };
        let n_rows = sums.len();
        let most = |a: (f64, f64), b: (f64, f64)| (a.0.max(b.0), a.1.max(b.1));
        let (gradient, hessian) = match (loss.bounds(), weight) {
            (Some(bounds), None) => bounds,
            _ => (0..n_rows)
                .into_par_iter()
                .with_min_len(ROWS_PER_PIECE)
                .map(|row| {
                    let (gradient, hessian) = derivatives(row);
                    (gradient.abs(), hessian)
                })
                .reduce(|| (0.0, 0.0), most),
        };
        let scale = Scale::new(n_rows, gradient, hessian);
        sums.par_chunks_mut(ROWS_PER_PIECE).enumerate().for_each(|(piece, sums)| {
            for (row, into) in (piece * ROWS_PER_PIECE..).zip(sums) {
                let (gradient, hessian) = derivatives(row);
                *into = scale.pack(gradient, hessian);
            }
        });
        scale
    }

    /// Fills `rows` with the rows of a tree and returns the others.
    fn sample_rows(&self, rows: &mut Vec<u32>, seed: u64) -> Vec<u32> {
        rows.clear();
        let (n_rows, rate) = (self.binned.n_rows as u32, self.params.subsampling_rate);
        if rate >= 1.0 && self.validation_rows.is_empty() {
            rows.extend(0..n_rows);
            return Vec::new();
        }
        let seed = mix(seed ^ mix(ROW_SAMPLE));
        let below = (rate * u64::MAX as f64) as u64;
        let is_taken = |row: &u32| {
            (rate >= 1.0 || mix(seed ^ u64::from(*row)) < below) && !is_validation(self.params, self.seed, *row)
        };
        let (taken, rest): (Vec<u32>, Vec<u32>) =
            (0..n_rows).into_par_iter().with_min_len(ROWS_PER_PIECE).partition(is_taken);
        *rows = taken;
        rest
    }
}

/// Adds a tree's values to the scores of rows that it was not grown on, ascending.
fn add_values(binned: &Binned, tree: &BinnedTree, rows: &[u32], scores: &mut [f64]) {
    scores.par_chunks_mut(ROWS_PER_PIECE).enumerate().for_each(|(piece, scores)| {
        let first = piece * ROWS_PER_PIECE;
        for &row in rows_between(rows, first, first + scores.len()) {
            scores[row as usize - first] += tree.values[tree.leaf(binned, row as usize)];
        }
    });
}

/// Whether early stopping looks at a row.
fn is_validation(params: &GradientBoostedTreesParams, seed: u64, row: u32) -> bool {
    let below = (params.validation_fraction * u64::MAX as f64) as u64;
    params.early_stopping_rounds > 0 && mix(mix(seed ^ mix(VALIDATION)) ^ u64::from(row)) < below
}

/// The scores before the first tree, of the rows that trees are grown on.
fn base(labels: &Labels, params: &GradientBoostedTreesParams, is_kept: impl Fn(u32) -> bool) -> Vec<f64> {
    let grown_on: Vec<usize> = (0..labels.label.len()).filter(|row| !is_kept(*row as u32)).collect();
    let label: Vec<f64> = grown_on.iter().map(|row| labels.label[*row]).collect();
    let weight: Option<Vec<f64>> = labels.weight.as_ref().map(|w| grown_on.iter().map(|row| w[*row]).collect());
    let of_class = |class: usize| -> Vec<f64> {
        label.iter().map(|label| f64::from(u8::from(*label as usize == class))).collect()
    };
    match params.loss {
        Loss::Softmax => (0..labels.n_outputs).map(|c| Loss::Softmax.base(&of_class(c), weight.as_deref())).collect(),
        loss => vec![loss.base(&label, weight.as_deref())],
    }
}

/// The features of a tree, ascending.
fn sample_features(n: usize, share: f64, seed: u64) -> Vec<usize> {
    let mut features: Vec<usize> = (0..n).collect();
    let keep = ((n as f64 * share).ceil() as usize).clamp(1.min(n), n);
    if keep < n {
        Random::new(seed, FEATURE_SAMPLE).shuffle(&mut features);
        features.truncate(keep);
        features.sort_unstable();
    }
    features
}
