//! Lloyd's steps with bounds on distances that leave out what cannot change (Ding et al. 2015).
//!
//! Centres are in groups of neighbours. Each row keeps an upper bound of the distance to its own centre and, by group, a
//! lower bound of the distance to the group's other centres. When centres move, the bounds loosen by how far they moved,
//! and a group whose lower bound is still above the upper bound has no centre that is nearer: no distance is computed.
//! Bounds are kept as of the first step, with all movement since in one place, so rows that stay are only read.

use std::ops::Range;

use super::DistanceMeasure;
use super::panels::{LANES, Nearest, Panels};
use super::rows::Rows;
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::chunks::{add_into, try_fold_chunks_mut};

/// Rows of one parallel chunk.
pub(super) const CHUNK: usize = 4096;
/// Bytes of the rows that are worked on at once: they stay in the second cache while groups pass by.
const BLOCK_BYTES: usize = 1 << 18;
/// The most groups: bounds are as many numbers for each row.
const MAX_GROUPS: usize = 32;
/// Movements count this much more, so that rounding cannot make them shorter.
const ROUNDED_UP: f64 = 1.0 + 1e-12;

/// When steps end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_iter: usize,
    pub(super) tol: f64,
    pub(super) measure: DistanceMeasure,
}

/// Centres and what they give.
#[derive(Debug)]
pub(super) struct Clustering {
    /// `[k, width]`, row-major, in the rows' coordinates.
    pub(super) centres: Vec<f64>,
    /// How many rows are nearest to each centre.
    pub(super) sizes: Vec<u64>,
    /// The weighted sum of what the distance measure gives for rows and their centres.
    pub(super) cost: f64,
    /// The steps that were made.
    pub(super) iterations: usize,
}

/// The passes over the rows of a fit, wherever these are.
pub(super) trait Passes {
    /// Weighted sums of the rows that are nearest to each centre.
    ///
    /// # Errors
    /// Cancellation, rows that cannot be reached.
    fn sums(&mut self, centres: &Centres) -> Result<Sums>;

    /// How many rows are nearest to each centre, and their weighted squared distances from it.
    ///
    /// # Errors
    /// Cancellation, rows that cannot be reached.
    fn costs(&mut self, centres: &Centres) -> Result<Sums>;
}

/// Moves centres, `[k, width]`, until none moves further than the tolerance, or to the limit of steps.
///
/// # Errors
/// Those of the passes.
pub(super) fn lloyd(passes: &mut impl Passes, centres: &[f64], width: usize, limits: Limits) -> Result<Clustering> {
    let mut centres = Centres::by_neighbours(centres, width);
    let mut iterations = 0;
    let mut is_done = false;
    while iterations < limits.max_iter && !is_done {
        let sums = passes.sums(&centres)?;
        is_done = centres.move_to(&centres.means(&sums, limits.measure), limits);
        iterations += 1;
    }
    let last = passes.costs(&centres)?;
    let cost = match limits.measure {
        DistanceMeasure::Euclidean => last.cost,
        // The squared distance of vectors of length 1 is twice what their cosine lacks of 1.
        DistanceMeasure::Cosine => last.cost / 2.0,
    };
    Ok(Clustering { centres: centres.values, sizes: last.counts, cost, iterations })
}

/// Rows in memory.
pub(super) struct InMemory<'a> {
    rows: &'a Rows,
    ctx: &'a FitContext,
    /// None before the first pass.
    chunks: Vec<Chunk>,
}

impl<'a> InMemory<'a> {
    pub(super) fn new(rows: &'a Rows, ctx: &'a FitContext) -> Self {
        Self { rows, ctx, chunks: Vec::new() }
    }
}

impl Passes for InMemory<'_> {
    fn sums(&mut self, centres: &Centres) -> Result<Sums> {
        sums(self.rows, centres, &mut self.chunks, self.ctx)
    }

    fn costs(&mut self, centres: &Centres) -> Result<Sums> {
        costs(self.rows, centres, &mut self.chunks, self.ctx)
    }
}

/// [`Passes::sums`] of some rows; chunks are those of the pass before, or none.
///
/// # Errors
/// Cancellation.
pub(super) fn sums(rows: &Rows, centres: &Centres, chunks: &mut Vec<Chunk>, ctx: &FitContext) -> Result<Sums> {
    let width = centres.width;
    Pass { rows, centres, ctx }.run(chunks, Sums::zero(centres.k, width), |sums, row, centre| {
        let weight = rows.weight(row);
        sums.weights[centre] += weight;
        rows.add_to(row, weight, &mut sums.totals[centre * width..(centre + 1) * width]);
    })
}

/// [`Passes::costs`] of some rows.
///
/// # Errors
/// Cancellation.
pub(super) fn costs(rows: &Rows, centres: &Centres, chunks: &mut Vec<Chunk>, ctx: &FitContext) -> Result<Sums> {
    Pass { rows, centres, ctx }.run(chunks, Sums::zero(centres.k, 0), |sums, row, centre| {
        sums.counts[centre] += 1;
        sums.cost += rows.weight(row) * rows.squared_distance(row, centres.centre(centre));
    })
}

/// What is summed over rows.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    /// Weighted sums of rows, `[k, width]`; empty where they are not asked for.
    pub(super) totals: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) cost: f64,
}

impl Sums {
    pub(super) fn zero(k: usize, width: usize) -> Self {
        Self { totals: vec![0.0; k * width], weights: vec![0.0; k], counts: vec![0; k], cost: 0.0 }
    }

    pub(super) fn merge(&mut self, part: &Self) {
        add_into(&mut self.totals, &part.totals);
        add_into(&mut self.weights, &part.weights);
        self.counts.iter_mut().zip(&part.counts).for_each(|(a, b)| *a += b);
        self.cost += part.cost;
    }
}

/// Rows with their bounds.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The chunk's first row.
    start: usize,
    /// The nearest centre of each row.
    assigned: Vec<u32>,
    /// At least the distance to it, less the centre's movement before the bound was made.
    upper: Vec<f64>,
    /// At most the distance to the other centres of each group, plus the group's movement before: `[n_rows, n_groups]`.
    lower: Vec<f32>,
}

/// Room that blocks use one after the other.
#[derive(Debug)]
struct Scratch {
    /// Rows by the group that they need.
    lists: Vec<Vec<u32>>,
    /// Rows whose cluster may change.
    awake: Vec<u32>,
    /// The squared distance to the nearest centre so far, by row of the chunk.
    best: Vec<f64>,
    nearest: Vec<Nearest>,
}

impl Scratch {
    fn new(n_rows: usize, n_groups: usize) -> Self {
        Self {
            lists: vec![Vec::new(); n_groups],
            awake: Vec::new(),
            best: vec![f64::INFINITY; n_rows],
            nearest: Vec::new(),
        }
    }
}

/// The centres between steps.
#[derive(Debug, Clone)]
pub(super) struct Centres {
    pub(super) k: usize,
    pub(super) width: usize,
    /// `[k, width]`, row-major.
    pub(super) values: Vec<f64>,
    panels: Panels,
    /// The squared length of the longest centre.
    longest: f64,
    n_groups: usize,
    panels_per_group: usize,
    /// How far each centre has moved in all, and the sum of each step's furthest movement in each group.
    moved: Vec<f64>,
    group_moved: Vec<f64>,
    /// The share of the squared lengths of a row and a centre that the error of their squared distance stays under.
    error: f64,
    block: usize,
}

impl Centres {
    /// Centres in groups of neighbours.
    fn by_neighbours(centres: &[f64], width: usize) -> Self {
        let n_panels = (centres.len() / width).div_ceil(LANES);
        Self::new(by_neighbours(centres, width, panels_per_group(n_panels) * LANES), width)
    }

    /// Centres in this order.
    pub(super) fn new(values: Vec<f64>, width: usize) -> Self {
        let k = values.len() / width;
        let n_panels = k.div_ceil(LANES);
        let panels_per_group = panels_per_group(n_panels);
        let n_groups = n_panels.div_ceil(panels_per_group);
        let panels = Panels::new(&values, width);
        Self {
            k,
            width,
            longest: panels.longest(),
            panels,
            values,
            n_groups,
            panels_per_group,
            moved: vec![0.0; k],
            group_moved: vec![0.0; n_groups],
            error: rounding_error(width),
            block: (BLOCK_BYTES / (8 * width)).clamp(64, CHUNK),
        }
    }

    /// The bytes that the bounds of so many rows take.
    pub(super) fn bytes_of_bounds(&self, n_rows: usize) -> usize {
        n_rows * (4 + 8 + 4 * self.n_groups)
    }

    fn chunks(&self, n_rows: usize) -> Vec<Chunk> {
        let chunk = |start| {
            let n = CHUNK.min(n_rows - start);
            Chunk {
                start,
                assigned: vec![0; n],
                upper: vec![f64::INFINITY; n],
                lower: vec![f32::NEG_INFINITY; n * self.n_groups],
            }
        };
        (0..n_rows).step_by(CHUNK).map(chunk).collect()
    }

    fn centre(&self, centre: usize) -> &[f64] {
        &self.values[centre * self.width..(centre + 1) * self.width]
    }

    fn group_of(&self, centre: u32) -> usize {
        centre as usize / (LANES * self.panels_per_group)
    }

    /// The means of the centres' rows; a centre without rows, or whose rows cancel out, stays.
    fn means(&self, sums: &Sums, measure: DistanceMeasure) -> Vec<f64> {
        let mut means = self.values.clone();
        for (centre, into) in means.chunks_exact_mut(self.width).enumerate() {
            let total = &sums.totals[centre * self.width..(centre + 1) * self.width];
            if let Some(mean) = self.mean(total, sums.weights[centre], measure) {
                into.copy_from_slice(&mean);
            }
        }
        means
    }

    /// Moves centres; whether none moved further than the tolerance.
    pub(super) fn move_to(&mut self, values: &[f64], limits: Limits) -> bool {
        let (mut is_done, mut group_moves) = (true, vec![0.0f64; self.n_groups]);
        for centre in 0..self.k {
            let range = centre * self.width..(centre + 1) * self.width;
            let squares = self.values[range.clone()].iter().zip(&values[range]).map(|(a, b)| (a - b) * (a - b));
            let squared = squares.sum::<f64>();
            is_done &= match limits.measure {
                DistanceMeasure::Euclidean => squared.sqrt() <= limits.tol,
                DistanceMeasure::Cosine => squared / 2.0 <= limits.tol,
            };
            let distance = squared.sqrt() * ROUNDED_UP;
            self.moved[centre] += distance;
            let group = self.group_of(centre as u32);
            group_moves[group] = group_moves[group].max(distance);
        }
        add_into(&mut self.group_moved, &group_moves);
        self.values.copy_from_slice(values);
        self.panels = Panels::new(&self.values, self.width);
        self.longest = self.panels.longest();
        is_done
    }

    /// The mean of a centre's rows, of length 1 for cosines; none without rows, or when they cancel out.
    fn mean(&self, total: &[f64], weight: f64, measure: DistanceMeasure) -> Option<Vec<f64>> {
        if weight <= 0.0 {
            return None;
        }
        let mut mean: Vec<f64> = total.iter().map(|sum| sum / weight).collect();
        // The column of no indicator.
        mean[self.width - 1] = 0.0;
        if measure == DistanceMeasure::Cosine {
            let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length <= self.error {
                return None;
            }
            mean.iter_mut().for_each(|v| *v /= length);
        }
        Some(mean)
    }
}

/// One look at some rows.
struct Pass<'a> {
    rows: &'a Rows,
    centres: &'a Centres,
    ctx: &'a FitContext,
}

impl Pass<'_> {
    /// Finds the nearest centre of each row, and sums over the rows.
    fn run(&self, chunks: &mut Vec<Chunk>, zero: Sums, add: impl Fn(&mut Sums, usize, usize) + Sync) -> Result<Sums> {
        if chunks.is_empty() {
            *chunks = self.centres.chunks(self.rows.n_rows);
        }
        let empty = zero.clone();
        let map = |chunk: &mut Chunk| {
            let mut sums = empty.clone();
            let n = chunk.assigned.len();
            let mut scratch = Scratch::new(n, self.centres.n_groups);
            for start in (0..n).step_by(self.centres.block) {
                let block = start..(start + self.centres.block).min(n);
                self.assign(chunk, block.clone(), &mut scratch)?;
                for i in block {
                    add(&mut sums, chunk.start + i, chunk.assigned[i] as usize);
                }
            }
            Ok(sums)
        };
        try_fold_chunks_mut(chunks, zero, map, |sums, part| sums.merge(&part))
    }

    /// Finds the nearest centre of each row of a block.
    fn assign(&self, chunk: &mut Chunk, block: Range<usize>, scratch: &mut Scratch) -> Result<()> {
        self.ctx.check()?;
        self.wake(chunk, block, scratch);
        self.compute(chunk, scratch)?;
        self.ask_other_groups(chunk, scratch);
        self.compute(chunk, scratch)?;
        for &i in &scratch.awake {
            let i = i as usize;
            chunk.upper[i] = self.upper(chunk, i, scratch.best[i]);
        }
        Ok(())
    }

    /// Lists the rows that the bounds do not decide, by the group of their centre.
    fn wake(&self, chunk: &Chunk, block: Range<usize>, scratch: &mut Scratch) {
        scratch.awake.clear();
        scratch.lists.iter_mut().for_each(Vec::clear);
        for i in block {
            let limit = self.limit(chunk, i, chunk.upper[i]);
            let lower = &chunk.lower[i * self.centres.n_groups..(i + 1) * self.centres.n_groups];
            // All groups are looked at: without a way out the loop is vector instructions.
            let may_be_nearer = lower
                .iter()
                .zip(&self.centres.group_moved)
                .fold(false, |any, (lower, moved)| any | (f64::from(*lower) - moved <= limit));
            if may_be_nearer {
                scratch.awake.push(i as u32);
                scratch.lists[self.centres.group_of(chunk.assigned[i])].push(i as u32);
            }
        }
    }

    /// Lists, by group, the rows that are awake and may have a nearer centre in it.
    fn ask_other_groups(&self, chunk: &Chunk, scratch: &mut Scratch) {
        scratch.lists.iter_mut().for_each(Vec::clear);
        for &i in &scratch.awake {
            let row = i as usize;
            let limit = self.limit(chunk, row, self.upper(chunk, row, scratch.best[row]));
            let own = self.centres.group_of(chunk.assigned[row]);
            let lower = &chunk.lower[row * self.centres.n_groups..(row + 1) * self.centres.n_groups];
            for (group, (lower, moved)) in lower.iter().zip(&self.centres.group_moved).enumerate() {
                if f64::from(*lower) - moved <= limit && group != own {
                    scratch.lists[group].push(i);
                }
            }
        }
    }

    /// The upper bound to keep for a row with this squared distance to its centre.
    fn upper(&self, chunk: &Chunk, i: usize, squared: f64) -> f64 {
        squared.sqrt() - self.centres.moved[chunk.assigned[i] as usize]
    }

    /// What a lower bound must be above for a row with this upper bound: so far above that the distances computed are in
    /// that order too, whatever their rounding.
    fn limit(&self, chunk: &Chunk, i: usize, upper: f64) -> f64 {
        let row_norm = self.rows.norms[chunk.start + i];
        upper
            + self.centres.moved[chunk.assigned[i] as usize]
            + (self.centres.error * (row_norm + self.centres.longest)).sqrt()
    }

    /// Computes the distances that are listed, and takes what is nearer.
    fn compute(&self, chunk: &mut Chunk, scratch: &mut Scratch) -> Result<()> {
        let Scratch { lists, best, nearest, .. } = scratch;
        for (group, list) in lists.iter_mut().enumerate().filter(|(_, list)| !list.is_empty()) {
            self.ctx.check()?;
            let first = group * self.centres.panels_per_group;
            let panels = first..(first + self.centres.panels_per_group).min(self.centres.panels.all().end);
            list.iter_mut().for_each(|i| *i += chunk.start as u32);
            self.centres.panels.nearest(panels, self.rows, list, nearest);
            for (row, nearest) in list.iter().zip(&*nearest) {
                let i = *row as usize - chunk.start;
                self.take(chunk, i, group, *nearest, &mut best[i]);
            }
        }
        Ok(())
    }

    /// Takes the nearest centre of a group if it is nearer than the row's, the first of equals, and keeps the bounds.
    fn take(&self, chunk: &mut Chunk, i: usize, group: usize, nearest: Nearest, best: &mut f64) {
        let lower = &mut chunk.lower[i * self.centres.n_groups..(i + 1) * self.centres.n_groups];
        let keep = |squared: f64, group: usize| ((squared.sqrt() + self.centres.group_moved[group]) as f32).next_down();
        let assigned = chunk.assigned[i];
        if nearest.first > *best || (nearest.first == *best && nearest.centre > assigned) {
            lower[group] = keep(nearest.first, group);
            return;
        }
        let old = self.centres.group_of(assigned);
        lower[old] = keep(*best, old);
        lower[group] = keep(nearest.second, group);
        *best = nearest.first;
        chunk.assigned[i] = nearest.centre;
    }
}

/// Twice what a squared distance computed by products can be off, as a share of the squared lengths, with room to spare.
pub(super) fn rounding_error(width: usize) -> f64 {
    4.0 * (width + 16) as f64 * f64::EPSILON
}

fn panels_per_group(n_panels: usize) -> usize {
    n_panels.div_ceil(MAX_GROUPS).max(1)
}

/// The centres in groups of neighbours: each group is the first centre left and those next to it.
fn by_neighbours(centres: &[f64], width: usize, group: usize) -> Vec<f64> {
    let mut left: Vec<&[f64]> = centres.chunks_exact(width).collect();
    let mut ordered = Vec::with_capacity(centres.len());
    while let Some(&first) = left.first() {
        let distance = |c: &[f64]| c.iter().zip(first).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let mut near: Vec<(f64, &[f64])> = left.iter().map(|c| (distance(c), *c)).collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = group.min(near.len());
        ordered.extend(near[..size].iter().flat_map(|c| c.1));
        left = near[size..].iter().map(|c| c.1).collect();
    }
    ordered
}
