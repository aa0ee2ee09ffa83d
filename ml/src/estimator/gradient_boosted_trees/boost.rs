//! One boosting run: trees fitted to the gradients of those before them.

use std::sync::Arc;

use super::GradientBoostedTreesParams;
use super::grow::{Grower, LeafQuantile};
use super::histogram::Scale;
use super::loss::Loss;
use super::rows::{Draw, ScoredRows};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::random::{Random, mix};
use crate::estimator::support::training::Labels;
use crate::estimator::support::trees::{Binned, BinnedTree, RowBins};

/// The purpose of random numbers.
const FEATURE_SAMPLE: u64 = 2;

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
    /// No trees yet.
    pub(super) fn new(base: Vec<f64>) -> Self {
        Self { base, trees: Vec::new(), validation: Vec::new() }
    }

    /// The trees of a candidate with so many iterations: up to where its validation loss was lowest.
    pub(super) fn first(&self, max_iter: usize) -> &[BinnedTree] {
        let n_outputs = self.base.len();
        let done = (self.trees.len() / n_outputs).min(max_iter);
        let seen = &self.validation[..done.min(self.validation.len())];
        let best = seen.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i + 1);
        &self.trees[..best.unwrap_or(done) * n_outputs]
    }

    /// Notes the validation loss after an iteration; whether it has not fallen for so many.
    pub(super) fn stops_after(&mut self, loss: f64, rounds: usize) -> bool {
        self.validation.push(loss);
        let best = self.validation.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        self.validation.len() - 1 - best >= rounds
    }
}

/// Boosts trees on binned rows.
///
/// # Errors
/// Cancellation.
pub(super) fn boost(
    binned: &Binned,
    row_bins: &Arc<RowBins>,
    labels: &Arc<Labels>,
    params: &GradientBoostedTreesParams,
    ctx: &FitContext,
) -> Result<Boosted> {
    let mut run = Run::new(row_bins, labels, params, ctx);
    let mut grower = Grower::new(binned, row_bins, params, ctx);
    for iteration in 0..params.max_iter {
        ctx.check()?;
        if !run.iterate(iteration, &mut grower)? || run.stops() {
            break;
        }
    }
    Ok(run.boosted)
}

/// The state of a run between iterations.
struct Run<'a> {
    labels: &'a Labels,
    params: &'a GradientBoostedTreesParams,
    seeds: Seeds,
    rows: ScoredRows,
    boosted: Boosted,
}

impl<'a> Run<'a> {
    fn new(
        bins: &Arc<RowBins>,
        labels: &'a Arc<Labels>,
        params: &'a GradientBoostedTreesParams,
        ctx: &FitContext,
    ) -> Self {
        let seeds = Seeds::new(params, ctx, labels.n_outputs);
        let draw = Draw::new(params, seeds.run);
        let base = base(labels, params.loss, |row| draw.is_validation(u64::from(row)));
        Self {
            labels,
            params,
            seeds,
            rows: ScoredRows::new(bins, labels, params.loss, draw, 0, &base),
            boosted: Boosted::new(base),
        }
    }

    /// Adds a tree for each output; whether one of them has a split.
    fn iterate(&mut self, iteration: usize, grower: &mut Grower<'_>) -> Result<bool> {
        let mut grown = Vec::with_capacity(self.labels.n_outputs);
        self.rows.begin();
        for output in 0..self.labels.n_outputs {
            let (gradient, hessian) = self.rows.bounds(output);
            let scale = Scale::new(self.rows.sums.len(), gradient, hessian);
            self.rows.update_sums(output, scale);
            let rest = self.rows.sample(&mut grower.rows, self.seeds.of_rows(iteration));
            let seed = self.seeds.of_features(iteration, output);
            let features = sample_features(grower.n_features(), self.params.feature_subset, seed);
            let quantile = self.params.loss.leaf_quantile().map(|alpha| LeafQuantile {
                alpha,
                label: &self.labels.label,
                weight: self.labels.weight.as_deref(),
            });
            let tree = grower.grow(scale, &self.rows.sums, &features, quantile, &mut self.rows.scores[output])?;
            self.rows.add(output, &tree, &rest);
            grown.push(tree);
        }
        if grown.iter().all(|tree| tree.nodes.is_empty()) {
            return Ok(false);
        }
        self.boosted.trees.extend(grown);
        Ok(true)
    }

    /// Whether the validation loss has not fallen for as long as early stopping waits.
    fn stops(&mut self) -> bool {
        !self.rows.validation_rows.is_empty()
            && self.boosted.stops_after(self.rows.validation_loss(), self.params.early_stopping_rounds)
    }
}

/// The seeds of what is random in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds {
    pub(super) run: u64,
    n_outputs: u64,
}

impl Seeds {
    pub(super) fn new(params: &GradientBoostedTreesParams, ctx: &FitContext, n_outputs: usize) -> Self {
        Self { run: mix(ctx.seed ^ mix(params.seed)), n_outputs: n_outputs as u64 }
    }

    /// Which rows the trees of an iteration see.
    pub(super) fn of_rows(self, iteration: usize) -> u64 {
        self.of_features(iteration, 0)
    }

    /// Which features a tree sees.
    pub(super) fn of_features(self, iteration: usize, output: usize) -> u64 {
        self.run.wrapping_add(iteration as u64 * self.n_outputs + output as u64)
    }
}

/// The scores before the first tree, of the rows that trees are grown on.
fn base(labels: &Labels, loss: Loss, is_kept: impl Fn(u32) -> bool) -> Vec<f64> {
    let grown_on: Vec<usize> = (0..labels.label.len()).filter(|row| !is_kept(*row as u32)).collect();
    let label: Vec<f64> = grown_on.iter().map(|row| labels.label[*row]).collect();
    let weight: Option<Vec<f64>> = labels.weight.as_ref().map(|w| grown_on.iter().map(|row| w[*row]).collect());
    let of_class = |class: usize| -> Vec<f64> {
        label.iter().map(|label| f64::from(u8::from(*label as usize == class))).collect()
    };
    match loss {
        Loss::Softmax => (0..labels.n_outputs).map(|c| Loss::Softmax.base(&of_class(c), weight.as_deref())).collect(),
        loss => vec![loss.base(&label, weight.as_deref())],
    }
}

/// The features of a tree, ascending.
pub(super) fn sample_features(n: usize, share: f64, seed: u64) -> Vec<usize> {
    let mut features: Vec<usize> = (0..n).collect();
    let keep = ((n as f64 * share).ceil() as usize).clamp(1.min(n), n);
    if keep < n {
        Random::new(seed, FEATURE_SAMPLE).shuffle(&mut features);
        features.truncate(keep);
        features.sort_unstable();
    }
    features
}
