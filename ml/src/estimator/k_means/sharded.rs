//! K-means over shards: k-means|| and Lloyd's steps as passes.
//!
//! A shard keeps its rows, how near they are to the candidates so far, and the bounds of the last step. A process that has
//! lost one of these finds it anew from what the request says, to the same bits.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::init::{self, FIRST, FIRST_STEP, Near, ORDER, bits};
use super::lloyd::{Centres, Chunk, Limits, Passes, Sums, costs, lloyd, sums};
use super::rows::{Layout, Rows, number_columns};
use super::{DistanceMeasure, InitMode, KMeansModel, KMeansParams, fit};
use crate::codec::exact;
use crate::estimator::sharded::{Shard, ShardRows, Shards, decode, encode, kept, wrong_answer};
use crate::estimator::support::chunks::add_into;
use crate::estimator::support::random::{Random, mix};
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params, ProblemType};
use crate::{MlError, Result};

/// What is asked of a shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// Rows, weights that are wrong, the weight; by column of numbers, how many are missing, and the sum.
    Survey,
    /// How many rows have no usable length.
    Check(Frame),
    /// Of one shard, the row where the weights of those before it add up to `left`.
    RowAt {
        frame: Frame,
        shard: usize,
        #[serde(with = "exact")]
        left: f64,
    },
    /// The first `n` rows in a random order that differ, each after its place in the order.
    First { frame: Frame, seed: u64, n: usize },
    /// The weighted squared distances of rows from their nearest candidates, and the weight of each candidate's rows.
    Near(Search),
    /// About `n` rows by their share of the `cost`: before them the cost of the furthest row and that row.
    Choose {
        search: Search,
        purpose: u64,
        n: usize,
        #[serde(with = "exact")]
        cost: f64,
    },
    /// [`Passes::sums`].
    Sums(Step),
    /// [`Passes::costs`].
    Costs(Step),
}

/// What rows are measured in.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Frame {
    measure: DistanceMeasure,
    #[serde(with = "exact::list")]
    shift: Vec<f64>,
}

/// A search for candidates, with those so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Search {
    frame: Frame,
    seed: u64,
    #[serde(with = "exact::list")]
    candidates: Vec<f64>,
}

/// One of Lloyd's steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Step {
    frame: Frame,
    /// The number of the candidate in its group.
    candidate: usize,
    #[serde(with = "exact::list")]
    centres: Vec<f64>,
}

/// A shard's answer.
///
/// # Errors
/// Cancellation, a shard that cannot be read, a request of another version.
pub(super) fn pass(shard: &dyn Shard, request: &str, ctx: &FitContext) -> Result<Vec<f64>> {
    match decode(request)? {
        Request::Survey => survey(&shard.read()?),
        Request::Check(frame) => {
            let rows = rows_of(shard, &frame)?;
            Ok(vec![rows.norms.iter().filter(|norm| !norm.is_finite()).count() as f64])
        }
        Request::RowAt { frame, shard: number, left } if number == shard.number() => {
            let rows = rows_of(shard, &frame)?;
            Ok(rows.expand(init::at((0..rows.n_rows).map(|row| rows.weight(row)), left)))
        }
        Request::RowAt { .. } => Ok(Vec::new()),
        Request::First { frame, seed, n } => Ok(first_rows(&*rows_of(shard, &frame)?, shard.number(), seed, n)),
        Request::Near(search) => with_near(shard, &search, ctx, |rows, near| {
            let mut answer = vec![near.cost(rows)];
            answer.extend(near.weights(rows));
            answer
        }),
        Request::Choose { search, purpose, n, cost } => with_near(shard, &search, ctx, |rows, near| {
            let number = |row| global(shard.number(), row);
            let seed = mix(mix(search.seed) ^ purpose);
            let (furthest, chosen) = near.choose(rows, |row| Random::new(seed, number(row)).unit() * cost, n as f64);
            // A shard may have no row to train on.
            let furthest_row = (rows.n_rows > 0).then_some(furthest.1);
            let mut answer = vec![furthest.0];
            answer.extend(furthest_row.into_iter().chain(chosen).flat_map(|row| rows.expand(row as usize)));
            answer
        }),
        Request::Sums(step) => with_bounds(shard, &step, |rows, centres, chunks| {
            let sums = sums(rows, centres, chunks, ctx)?;
            Ok([sums.totals, sums.weights].concat())
        }),
        Request::Costs(step) => with_bounds(shard, &step, |rows, centres, chunks| {
            let sums = costs(rows, centres, chunks, ctx)?;
            Ok(sums.counts.iter().map(|n| *n as f64).chain([sums.cost]).collect())
        }),
    }
}

/// The number of a row among those of all shards.
fn global(shard: usize, row: usize) -> u64 {
    (shard as u64) << 32 | row as u64
}

fn survey(ShardRows { matrix, rows }: &ShardRows) -> Result<Vec<f64>> {
    let weights = || matrix.weight.iter().flat_map(|all| rows.iter().map(|&r| all[r as usize]));
    let wrong = weights().filter(|w| !training::is_weight(*w)).count();
    let weight = if matrix.weight.is_some() { weights().sum() } else { rows.len() as f64 };
    let mut answer = vec![rows.len() as f64, wrong as f64, weight];
    let columns = number_columns(&matrix.x);
    let values = |column: &'_ [f64]| -> Vec<f64> { rows.iter().map(|&r| column[r as usize]).collect() };
    answer.extend(columns.iter().map(|c| values(c).iter().filter(|v| !v.is_finite()).count() as f64));
    answer.extend(columns.iter().map(|c| values(c).iter().sum::<f64>()));
    Ok(answer)
}

fn rows_of(shard: &dyn Shard, frame: &Frame) -> Result<Arc<Rows>> {
    kept(shard, &format!("k_means rows {:?}", frame.measure), || {
        let ShardRows { matrix, rows } = shard.read()?;
        let layout = Layout::new(&matrix.x.features);
        let mut gathered = Rows::gather(&layout, &matrix.x, &rows, &frame.shift, frame.measure);
        if let Some(all) = &matrix.weight {
            gathered.weights = rows.iter().map(|&r| all[r as usize]).collect();
        }
        let size_bytes = gathered.size_bytes();
        Ok((gathered, size_bytes))
    })
}

/// Rows with a weight in a random order, the first of those that differ.
fn first_rows(rows: &Rows, shard: usize, seed: u64, n: usize) -> Vec<f64> {
    let place = |row: usize| Random::new(mix(mix(seed) ^ ORDER), global(shard, row)).unit();
    let mut order: Vec<(f64, usize)> =
        (0..rows.n_rows).filter(|&row| rows.weight(row) > 0.0).map(|row| (place(row), row)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut seen = HashSet::new();
    let mut answer = Vec::new();
    for (place, row) in order {
        if seen.len() == n {
            break;
        }
        let centre = rows.expand(row);
        if seen.insert(bits(&centre)) {
            answer.push(place);
            answer.extend(centre);
        }
    }
    answer
}

/// What a shard keeps of a search: which one, and how near its rows are to the candidates.
type KeptNear = Mutex<Option<(Vec<u64>, Near)>>;

fn with_near(
    shard: &dyn Shard,
    search: &Search,
    ctx: &FitContext,
    answer: impl Fn(&Rows, &Near) -> Vec<f64>,
) -> Result<Vec<f64>> {
    let rows = rows_of(shard, &search.frame)?;
    let near: Arc<KeptNear> = kept(shard, "k_means search", || Ok((Mutex::default(), 12 * rows.n_rows)))?;
    let mut near = lock(&near);
    let width = rows.layout.width();
    // A search begins with another row than others do, or is the same.
    let name: Vec<u64> = [&[search.seed], &bits(&search.candidates[..width])[..]].concat();
    let state = match near.take() {
        Some((of, state)) if of == name && state.n_candidates() * width <= search.candidates.len() => state,
        _ => Near::new(rows.n_rows),
    };
    let (_, state) = near.insert((name, state));
    let known = state.n_candidates() * width;
    state.add(&rows, &search.candidates[known..], ctx)?;
    Ok(answer(&rows, state))
}

/// What a shard keeps of a fit: the candidate's number, its centres, and the bounds for these.
type KeptBounds = Mutex<Option<(usize, Centres, Vec<Chunk>)>>;

fn with_bounds(
    shard: &dyn Shard,
    step: &Step,
    answer: impl Fn(&Rows, &Centres, &mut Vec<Chunk>) -> Result<Vec<f64>>,
) -> Result<Vec<f64>> {
    let rows = rows_of(shard, &step.frame)?;
    let width = rows.layout.width();
    let start = || Centres::new(step.centres.clone(), width);
    let bounds: Arc<KeptBounds> =
        kept(shard, "k_means bounds", || Ok((Mutex::default(), start().bytes_of_bounds(rows.n_rows))))?;
    let mut bounds = lock(&bounds);
    let of_candidate = bounds.take().filter(|(of, _, _)| *of == step.candidate);
    let state = of_candidate.unwrap_or_else(|| (step.candidate, start(), Vec::new()));
    let (_, centres, chunks) = bounds.insert(state);
    let limits = Limits { max_iter: 0, tol: 0.0, measure: step.frame.measure };
    centres.move_to(&step.centres, limits);
    answer(&rows, centres, chunks)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn fit_shards(shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<KMeansModel>> {
    let parsed: Vec<Result<KMeansParams>> = candidates.iter().map(KMeansParams::parse).collect();
    let all = match Survey::new(shards) {
        Ok(all) => all,
        Err(e) => return training::failed(parsed, &e),
    };
    parsed.into_iter().enumerate().map(|(i, params)| all.fit(i, &params?, ctx)).collect()
}

/// What all rows are like.
#[derive(Debug)]
struct Survey<'a> {
    shards: &'a dyn Shards,
    layout: Layout,
    n_rows: f64,
    /// The weight of each shard's rows.
    weights: Vec<f64>,
    /// The mean of each number.
    means: Vec<f64>,
}

impl<'a> Survey<'a> {
    fn new(shards: &'a dyn Shards) -> Result<Self> {
        let outline = shards.outline();
        training::is_for(super::NAME, outline.problem, &[ProblemType::Clustering])?;
        let answers = ask(shards, &Request::Survey)?;
        let mut all = vec![0.0; answers.first().map_or(0, Vec::len)];
        answers.iter().for_each(|answer| add_into(&mut all, answer));
        let layout = Layout::new(&outline.features);
        let (rows, numbers) = all.split_at_checked(3).ok_or_else(wrong_answer)?;
        let (missing, sums) = numbers.split_at_checked(layout.n_numbers).ok_or_else(wrong_answer)?;
        let (n_rows, weight) = (rows[0], rows[2]);
        training::check_weights(rows[1] as usize, n_rows as usize)?;
        training::none_missing(&outline.features, missing, n_rows as usize)?;
        if n_rows == 0.0 || layout.columns().next().is_none() {
            return Err(MlError::Invalid("k_means needs at least one row and one column".into()));
        }
        if weight == 0.0 {
            return Err(training::no_weight(n_rows as usize));
        }
        let weights = answers.iter().map(|answer| answer[2]).collect();
        Ok(Self { shards, layout, n_rows, weights, means: sums.iter().map(|sum| sum / n_rows).collect() })
    }

    fn fit(&self, candidate: usize, params: &KMeansParams, ctx: &FitContext) -> Result<KMeansModel> {
        let measure = params.distance_measure;
        let shift = match measure {
            DistanceMeasure::Euclidean => self.means.clone(),
            DistanceMeasure::Cosine => vec![0.0; self.means.len()],
        };
        let frame = Frame { measure, shift };
        let wrong: f64 = ask(self.shards, &Request::Check(frame.clone()))?.iter().flatten().sum();
        if wrong > 0.0 {
            return Err(fit::wrong_lengths(measure, wrong as usize, self.n_rows as usize));
        }
        let seed = mix(ctx.seed ^ mix(params.seed));
        let first = match params.init_mode {
            InitMode::Random => self.random(&frame, params.k, seed)?,
            InitMode::Parallel => self.parallel(&frame, params, seed, ctx)?,
        };
        let limits = Limits { max_iter: params.max_iter, tol: params.tol, measure };
        let mut passes = OverShards { shards: self.shards, frame: &frame, candidate, ctx };
        let found = lloyd(&mut passes, &first, self.layout.width(), limits)?;
        Ok(fit::model(&self.shards.outline().features, &self.layout, &frame.shift, measure, found))
    }

    fn random(&self, frame: &Frame, k: usize, seed: u64) -> Result<Vec<f64>> {
        let answers = ask(self.shards, &Request::First { frame: frame.clone(), seed, n: k })?;
        let width = self.layout.width();
        let mut rows: Vec<&[f64]> = answers.iter().flat_map(|answer| answer.chunks_exact(1 + width)).collect();
        rows.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let mut seen = HashSet::new();
        let first = rows.into_iter().map(|row| &row[1..]).filter(|row| seen.insert(bits(row))).take(k);
        Ok(first.flatten().copied().collect())
    }

    fn parallel(&self, frame: &Frame, params: &KMeansParams, seed: u64, ctx: &FitContext) -> Result<Vec<f64>> {
        let width = self.layout.width();
        let first = self.any_row(frame, seed)?;
        let mut search = Search { frame: frame.clone(), seed, candidates: first };
        let (mut cost, mut weights) = self.near(&search)?;
        let mut step = 0;
        while cost > 0.0 && (step < params.init_steps || search.candidates.len() < params.k * width) {
            ctx.check()?;
            search.candidates.extend(self.choose(&search, 2 * params.k, cost, FIRST_STEP + step as u64)?);
            (cost, weights) = self.near(&search)?;
            step += 1;
        }
        init::among(&Rows::of_centres(search.candidates, width, weights), params, seed, ctx)
    }

    /// A row drawn by its weight.
    fn any_row(&self, frame: &Frame, seed: u64) -> Result<Vec<f64>> {
        let left = Random::new(seed, FIRST).unit() * self.weights.iter().sum::<f64>();
        let shard = init::at(self.weights.iter().copied(), left);
        let left = left - self.weights[..shard].iter().sum::<f64>();
        let answers = ask(self.shards, &Request::RowAt { frame: frame.clone(), shard, left })?;
        answers.into_iter().find(|answer| answer.len() == self.layout.width()).ok_or_else(wrong_answer)
    }

    /// The cost of the candidates, and the weight of the rows of each.
    fn near(&self, search: &Search) -> Result<(f64, Vec<f64>)> {
        let mut all = vec![0.0; 1 + search.candidates.len() / self.layout.width()];
        for answer in ask(self.shards, &Request::Near(search.clone()))? {
            add_into(&mut all, &answer);
        }
        Ok((all[0], all.split_off(1)))
    }

    /// About `n` rows by their share of the cost; the furthest one where chance chose none.
    fn choose(&self, search: &Search, n: usize, cost: f64, purpose: u64) -> Result<Vec<f64>> {
        let answers = ask(self.shards, &Request::Choose { search: search.clone(), purpose, n, cost })?;
        let width = self.layout.width();
        let mut seen = HashSet::new();
        let (mut chosen, mut furthest) = (Vec::new(), (f64::NEG_INFINITY, &[][..]));
        for answer in &answers {
            let (own, rows) = answer.split_first().ok_or_else(wrong_answer)?;
            let mut rows = rows.chunks_exact(width);
            let furthest_here = rows.next().unwrap_or_default();
            if *own > furthest.0 && !furthest_here.is_empty() {
                furthest = (*own, furthest_here);
            }
            rows.filter(|row| seen.insert(bits(row))).for_each(|row| chosen.extend(row));
        }
        Ok(if chosen.is_empty() { furthest.1.to_vec() } else { chosen })
    }
}

fn ask(shards: &dyn Shards, request: &Request) -> Result<Vec<Vec<f64>>> {
    shards.pass(&encode(request)?)
}

/// Lloyd's steps over shards.
struct OverShards<'a> {
    shards: &'a dyn Shards,
    frame: &'a Frame,
    candidate: usize,
    ctx: &'a FitContext,
}

impl OverShards<'_> {
    fn step(&self, centres: &Centres) -> Step {
        Step { frame: self.frame.clone(), candidate: self.candidate, centres: centres.values.clone() }
    }
}

impl Passes for OverShards<'_> {
    fn sums(&mut self, centres: &Centres) -> Result<Sums> {
        self.ctx.check()?;
        let mut all = Sums::zero(centres.k, centres.width);
        for answer in ask(self.shards, &Request::Sums(self.step(centres)))? {
            let (totals, weights) = answer.split_at_checked(all.totals.len()).ok_or_else(wrong_answer)?;
            add_into(&mut all.totals, totals);
            add_into(&mut all.weights, weights);
        }
        Ok(all)
    }

    fn costs(&mut self, centres: &Centres) -> Result<Sums> {
        let mut all = Sums::zero(centres.k, 0);
        for answer in ask(self.shards, &Request::Costs(self.step(centres)))? {
            let (cost, counts) = answer.split_last().ok_or_else(wrong_answer)?;
            all.counts.iter_mut().zip(counts).for_each(|(all, n)| *all += *n as u64);
            all.cost += cost;
        }
        Ok(all)
    }
}
