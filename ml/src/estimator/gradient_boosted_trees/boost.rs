//! One boosting run: trees fitted to the gradients of those before them.

use rayon::prelude::*;

use super::GradientBoostedTreesParams;
use super::bins::Binned;
use super::grow::{BinnedTree, Grower};
use super::histogram::{Scale, Sums};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::math::{ln, sigmoid};
use crate::estimator::support::random::{Random, mix};

/// Rows of one parallel piece of work when gradients are computed; each row is on its own.
const ROWS_PER_PIECE: usize = 16_384;
/// The purposes of random numbers.
const ROW_SAMPLE: u64 = 1;
const FEATURE_SAMPLE: u64 = 2;

/// What a run gives.
#[derive(Debug)]
pub(super) struct Boosted {
    /// The score before the first tree.
    pub(super) base: f64,
    pub(super) trees: Vec<BinnedTree>,
}

/// Boosts trees on binned rows.
///
/// # Errors
/// Cancellation.
pub(super) fn boost(
    binned: &Binned,
    label: &[f64],
    params: &GradientBoostedTreesParams,
    ctx: &FitContext,
) -> Result<Boosted> {
    let share = label.iter().sum::<f64>() / label.len() as f64;
    let base = ln(share / (1.0 - share));
    let scale = Scale::new(binned.n_rows);
    let mut scores = vec![base; binned.n_rows];
    let mut sums = vec![[0, 0]; binned.n_rows];
    let mut grower = Grower::new(binned, params, scale, ctx);
    let mut trees = Vec::with_capacity(params.max_iter);
    for tree in 0..params.max_iter {
        ctx.check()?;
        update_sums(&mut sums, &scores, label, scale);
        let seed = mix(ctx.seed ^ mix(params.seed)).wrapping_add(tree as u64);
        let rest = sample_rows(&mut grower.rows, binned.n_rows, params.subsampling_rate, seed);
        let features = sample_features(binned.columns.len(), params.feature_subset, seed);
        let grown = grower.grow(&sums, &features, &mut scores)?;
        if grown.nodes.is_empty() {
            break;
        }
        for row in rest {
            scores[row as usize] += grown.value(binned, row as usize);
        }
        trees.push(grown);
    }
    Ok(Boosted { base, trees })
}

fn update_sums(sums: &mut [Sums], scores: &[f64], label: &[f64], scale: Scale) {
    let pieces = sums.par_chunks_mut(ROWS_PER_PIECE).zip(scores.par_chunks(ROWS_PER_PIECE));
    pieces.zip(label.par_chunks(ROWS_PER_PIECE)).for_each(|((sums, scores), label)| {
        for ((into, score), label) in sums.iter_mut().zip(scores).zip(label) {
            let p = sigmoid(*score);
            *into = scale.pack(p - label, p * (1.0 - p));
        }
    });
}

/// Fills `rows` with the rows of a tree and returns the others.
fn sample_rows(rows: &mut Vec<u32>, n_rows: usize, rate: f64, seed: u64) -> Vec<u32> {
    rows.clear();
    if rate >= 1.0 {
        rows.extend(0..n_rows as u32);
        return Vec::new();
    }
    let seed = mix(seed ^ mix(ROW_SAMPLE));
    let below = (rate * u64::MAX as f64) as u64;
    let (taken, rest): (Vec<u32>, Vec<u32>) = (0..n_rows as u32).partition(|&r| mix(seed ^ u64::from(r)) < below);
    *rows = taken;
    rest
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
