//! The first centres: k-means|| (Bahmani et al. 2012), or random rows.
//!
//! Whether a row is chosen depends on the seed, the step and the row's number only, never on who looks at it.

use std::collections::HashSet;

use super::lloyd::{CHUNK, InMemory, Limits, lloyd, rounding_error};
use super::panels::{LANES, Panels};
use super::rows::Rows;
use super::{InitMode, KMeansParams};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::chunks::try_fold_chunks_mut;
use crate::estimator::support::math::ln;
use crate::estimator::support::random::{Random, mix};

/// The purposes of random numbers: the rows of `random`, the first row, the centres among the candidates, and from here
/// on one for each step.
pub(super) const ORDER: u64 = 1;
pub(super) const FIRST: u64 = 2;
const LOCAL: u64 = 3;
pub(super) const FIRST_STEP: u64 = 16;
/// Lloyd's steps on the candidates, Spark ML's number.
const LOCAL_ITERATIONS: usize = 30;
/// Rows whose distances are computed between two looks at the cancellation.
const BLOCK: usize = 256;

/// Chooses up to k centres, `[k, width]`, row-major: fewer where fewer rows differ.
///
/// # Errors
/// Cancellation.
pub(super) fn centres(rows: &Rows, params: &KMeansParams, seed: u64, ctx: &FitContext) -> Result<Vec<f64>> {
    match params.init_mode {
        InitMode::Random => random(rows, params.k, seed, ctx),
        InitMode::Parallel => parallel(rows, params, seed, ctx),
    }
}

/// Rows in a random order, those that are new among the first ones.
fn random(rows: &Rows, k: usize, seed: u64, ctx: &FitContext) -> Result<Vec<f64>> {
    let mut order: Vec<u32> = (0..rows.n_rows as u32).filter(|&r| rows.weight(r as usize) > 0.0).collect();
    Random::new(seed, ORDER).shuffle(&mut order);
    let mut seen = HashSet::new();
    let mut centres = Vec::new();
    for row in order {
        if seen.len() == k {
            break;
        }
        ctx.check()?;
        let centre = rows.expand(row as usize);
        if seen.insert(bits(&centre)) {
            centres.extend(centre);
        }
    }
    Ok(centres)
}

fn parallel(rows: &Rows, params: &KMeansParams, seed: u64, ctx: &FitContext) -> Result<Vec<f64>> {
    let weights = (0..rows.n_rows).map(|row| rows.weight(row));
    let mut candidates = vec![weighted(weights, &mut Random::new(seed, FIRST)) as u32];
    let mut near = Near::new(rows.n_rows);
    let expand = |chosen: &[u32]| -> Vec<f64> { chosen.iter().flat_map(|&row| rows.expand(row as usize)).collect() };
    near.add(rows, &expand(&candidates), ctx)?;
    let (mut cost, mut step) = (near.cost(rows), 0);
    // More steps than asked for only where those gave too few; each finds a row at least.
    while cost > 0.0 && (step < params.init_steps || candidates.len() < params.k) {
        let seed = mix(mix(seed) ^ (FIRST_STEP + step as u64));
        let draw = |row: usize| Random::new(seed, row as u64).unit() * cost;
        let (furthest, mut chosen) = near.choose(rows, draw, 2.0 * params.k as f64);
        if chosen.is_empty() {
            chosen.push(furthest.1);
        }
        near.add(rows, &expand(&chosen), ctx)?;
        candidates.extend(chosen);
        (cost, step) = (near.cost(rows), step + 1);
    }
    among(&rows.take(&candidates, near.weights(rows)), params, seed, ctx)
}

/// Chooses centres among candidates by their weights.
pub(super) fn among(candidates: &Rows, params: &KMeansParams, seed: u64, ctx: &FitContext) -> Result<Vec<f64>> {
    let centres = plus_plus(candidates, params.k, seed, ctx)?;
    let limits = Limits { max_iter: LOCAL_ITERATIONS, tol: 0.0, measure: params.distance_measure };
    Ok(lloyd(&mut InMemory::new(candidates, ctx), &centres, candidates.layout.width(), limits)?.centres)
}

/// How near rows are to candidates.
#[derive(Debug)]
pub(super) struct Near {
    chunks: Vec<Chunk>,
    n_candidates: usize,
}

/// Rows with their nearest candidates.
#[derive(Debug)]
struct Chunk {
    start: usize,
    nearest: Vec<u32>,
    /// The squared distance; 0 where it cannot be told from 0.
    costs: Vec<f64>,
}

impl Near {
    /// So many rows, without candidates.
    pub(super) fn new(n_rows: usize) -> Self {
        let chunk = |start| {
            let n = CHUNK.min(n_rows - start);
            Chunk { start, nearest: vec![0; n], costs: vec![f64::INFINITY; n] }
        };
        Self { chunks: (0..n_rows).step_by(CHUNK).map(chunk).collect(), n_candidates: 0 }
    }

    pub(super) fn n_candidates(&self) -> usize {
        self.n_candidates
    }

    /// Adds candidates, and finds the rows that are nearer to them than to those before.
    ///
    /// # Errors
    /// Cancellation.
    pub(super) fn add(&mut self, rows: &Rows, candidates: &[f64], ctx: &FitContext) -> Result<()> {
        let (first, width) = (self.n_candidates as u32, rows.layout.width());
        let panels = Panels::new(candidates, width);
        let error = rounding_error(width);
        let map = |chunk: &mut Chunk| {
            let mut nearest = Vec::new();
            let list: Vec<u32> = (chunk.start as u32..).take(chunk.costs.len()).collect();
            for (block, list) in list.chunks(BLOCK).enumerate() {
                ctx.check()?;
                panels.nearest(panels.all(), rows, list, &mut nearest);
                for ((i, &row), new) in (block * BLOCK..).zip(list).zip(&nearest) {
                    if new.first < chunk.costs[i] {
                        let is_same = new.first <= error * rows.norms[row as usize];
                        chunk.costs[i] = if is_same { 0.0 } else { new.first };
                        chunk.nearest[i] = first + new.centre;
                    }
                }
            }
            Ok(())
        };
        if !candidates.is_empty() {
            try_fold_chunks_mut(&mut self.chunks, (), map, |(), ()| ())?;
        }
        self.n_candidates += candidates.len() / width;
        Ok(())
    }

    /// The weighted sum of the rows' squared distances from their nearest candidates.
    pub(super) fn cost(&self, rows: &Rows) -> f64 {
        let of_chunk = |chunk: &Chunk| -> f64 {
            (chunk.start..).zip(&chunk.costs).map(|(row, cost)| rows.weight(row) * cost).sum()
        };
        self.chunks.iter().map(of_chunk).sum()
    }

    /// About `n` rows that differ, by their share of the cost: those whose draw, up to the cost of all rows, is below
    /// `n` times their own. Before them the cost of the furthest row and its number.
    pub(super) fn choose(&self, rows: &Rows, draw: impl Fn(usize) -> f64, n: f64) -> ((f64, u32), Vec<u32>) {
        let mut seen = HashSet::new();
        let mut chosen: Vec<u32> = Vec::new();
        let mut furthest = (0.0, 0);
        for chunk in &self.chunks {
            for (row, cost) in (chunk.start..).zip(&chunk.costs) {
                let cost = cost * rows.weight(row);
                if cost > furthest.0 {
                    furthest = (cost, row as u32);
                }
                if draw(row) < n * cost && seen.insert(bits(&rows.expand(row))) {
                    chosen.push(row as u32);
                }
            }
        }
        (furthest, chosen)
    }

    /// The weight of the rows that are nearest to each candidate.
    pub(super) fn weights(&self, rows: &Rows) -> Vec<f64> {
        let mut weights = vec![0.0; self.n_candidates];
        for chunk in &self.chunks {
            for (row, &candidate) in (chunk.start..).zip(&chunk.nearest) {
                weights[candidate as usize] += rows.weight(row);
            }
        }
        weights
    }
}

/// Chooses up to k of some weighted rows one after the other (k-means++, Arthur, Vassilvitskii 2007), each time the best of
/// a few that were drawn, as scikit-learn does.
fn plus_plus(rows: &Rows, k: usize, seed: u64, ctx: &FitContext) -> Result<Vec<f64>> {
    let width = rows.layout.width();
    let n_trials = (2 + ln(k as f64) as usize).min(LANES);
    let error = rounding_error(width);
    let mut random = Random::new(seed, LOCAL);
    let mut costs = vec![1.0; rows.n_rows];
    let mut centres = Vec::with_capacity(k * width);
    while centres.len() < k * width && costs.iter().any(|cost| *cost > 0.0) {
        ctx.check()?;
        // The first centre is any row, by its weight.
        let n_trials = if centres.is_empty() { 1 } else { n_trials };
        let shares = || costs.iter().enumerate().map(|(row, cost)| cost * rows.weight(row));
        let trials: Vec<Vec<f64>> = (0..n_trials).map(|_| rows.expand(weighted(shares(), &mut random))).collect();
        let distances = Panels::new(&trials.concat(), width).distances(rows);
        let cost_with = |row: usize, trial: usize| {
            let distance = distances[row][trial];
            let distance = if distance <= error * rows.norms[row] { 0.0 } else { distance };
            if centres.is_empty() { distance } else { distance.min(costs[row]) }
        };
        let total = |trial: usize| (0..rows.n_rows).map(|row| rows.weight(row) * cost_with(row, trial)).sum::<f64>();
        let totals: Vec<f64> = (0..n_trials).map(total).collect();
        let best = (0..n_trials).fold(0, |best, trial| if totals[trial] < totals[best] { trial } else { best });
        costs = (0..rows.n_rows).map(|row| cost_with(row, best)).collect();
        centres.extend(&trials[best]);
    }
    Ok(centres)
}

/// The place of one of some shares, drawn by their sizes; never one of 0 where another is larger.
pub(super) fn weighted(shares: impl Iterator<Item = f64> + Clone, random: &mut Random) -> usize {
    let left = random.unit() * shares.clone().sum::<f64>();
    at(shares, left)
}

/// The place where shares add up to more than `left`, the last share above 0 if they do not.
pub(super) fn at(shares: impl Iterator<Item = f64>, mut left: f64) -> usize {
    let mut last = 0;
    for (place, share) in shares.enumerate().filter(|(_, share)| *share > 0.0) {
        last = place;
        left -= share;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// Columns as what equal rows have in common: 0 and -0 are one.
pub(super) fn bits(columns: &[f64]) -> Vec<u64> {
    columns.iter().map(|v| (v + 0.0).to_bits()).collect()
}
