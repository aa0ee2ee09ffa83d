//! Boosting over shards: the driver grows the trees, the shards sum their rows by bin.
//!
//! A shard keeps its binned rows with their scores, and parts them as the tree grows. Requests say what it should have
//! come to; a process that has lost a shard answers that it has, and is told all trees so far. Sums are whole numbers:
//! processes add up those of their shards, and the trees are those of rows in memory where bins and scores agree.

mod grow;
mod rows;

use std::cell::Cell;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::grow::Growing;
use self::rows::State;
use super::boost::{Boosted, Seeds, sample_features};
use super::histogram::{MOST_ROWS, Scale};
use super::loss::Loss;
use super::rows::Draw;
use super::{GradientBoostedTreesModel, GradientBoostedTreesParams, PROBLEMS, fit};
use crate::codec::exact;
use crate::estimator::sharded::{Shard, Shards, add_up, decode, encode, wrong_answer};
use crate::estimator::support::chunks::add_into;
use crate::estimator::support::training;
use crate::estimator::support::trees::{BinnedTree, LOST, Look, Meaning, Partings, Run, ShardedRows, fit_runs};
use crate::estimator::{FitContext, Params, ProblemType};
use crate::{MlError, Result};

/// What is asked of a shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Look(Look),
    /// Of the rows that trees are grown on, the weight and that of the labels; of classes, that of each.
    Base(Draw),
    /// Bounds of an output's derivatives.
    Bounds(At, usize),
    /// The loss of the rows kept for validation, and how many they are.
    Loss(At),
    /// Sums by bin.
    Fill(At, Fill),
}

/// A run, and how far it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct At {
    /// The run's number in its group.
    run: usize,
    draw: Draw,
    loss: Loss,
    #[serde(with = "exact::list")]
    base: Vec<f64>,
    /// How many trees there are.
    n_trees: usize,
    /// The last of them.
    last: Option<BinnedTree>,
    /// A [`History`] where a shard lost its rows, as text: only shards that need it read it.
    history: Option<String>,
}

/// All trees so far, and what bins stand for.
#[derive(Debug, Serialize, Deserialize)]
struct History {
    max_bins: usize,
    meanings: Arc<[Meaning]>,
    trees: Vec<BinnedTree>,
}

/// A tree that grows, and which of its nodes are summed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fill {
    output: usize,
    /// Which rows the tree sees.
    row_seed: u64,
    bounds: Bounds,
    features: Vec<usize>,
    /// How its rows are parted so far.
    splits: Partings,
    /// The nodes to sum; with the root, all its rows first.
    nodes: Vec<usize>,
}

/// What the units of a tree's sums follow from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Bounds {
    n_rows: usize,
    #[serde(with = "exact")]
    gradient: f64,
    #[serde(with = "exact")]
    hessian: f64,
}

impl Bounds {
    fn scale(self) -> Scale {
        Scale::new(self.n_rows, self.gradient, self.hessian)
    }
}

/// A shard's answer to what is asked of each.
///
/// # Errors
/// A shard that cannot be read, a request of another version.
pub(super) fn pass(shard: &dyn Shard, request: &str) -> Result<Vec<f64>> {
    match decode(request)? {
        Request::Look(look) => look.answer(shard),
        Request::Base(draw) => rows::base(shard, draw),
        Request::Bounds(at, output) => of_state(shard, &at, |state| {
            let (gradient, hessian) = state.rows.bounds(output);
            vec![0.0, gradient, hessian]
        }),
        Request::Loss(at) => of_state(shard, &at, |state| {
            vec![0.0, state.rows.validation_loss(), state.rows.validation_rows.len() as f64]
        }),
        Request::Fill(..) => Err(wrong_answer()),
    }
}

fn of_state(shard: &dyn Shard, at: &At, answer: impl Fn(&mut State) -> Vec<f64>) -> Result<Vec<f64>> {
    Ok(State::with(shard, at, answer)?.unwrap_or_else(|| vec![LOST as f64]))
}

/// Adds a shard's part of a sum.
///
/// # Errors
/// Those of [`pass`].
pub(super) fn sum(shard: &dyn Shard, request: &str, into: &mut Vec<i64>) -> Result<()> {
    let Request::Fill(at, fill) = decode(request)? else { return Err(wrong_answer()) };
    if State::with(shard, &at, |state| state.add_sums(&fill, into))?.is_none() {
        add_up(into, &[LOST]);
    }
    Ok(())
}

/// Checks that a loss can be had over shards.
///
/// # Errors
/// One whose leaves are quantiles of rows.
pub(super) fn validate(params: &Params, problem: ProblemType) -> Result<()> {
    let params = GradientBoostedTreesParams::parse(params, problem)?;
    match params.loss.leaf_quantile() {
        None => Ok(()),
        Some(_) => Err(MlError::Invalid(format!(
            "{} over shards has no absolute and no quantile loss, whose leaves are medians and quantiles of all their rows; \
             take loss_type huber, or leave out parallel: rows",
            super::NAME
        ))),
    }
}

pub(super) fn fit_shards(
    shards: &dyn Shards,
    candidates: &[Params],
    ctx: &FitContext,
) -> Vec<Result<GradientBoostedTreesModel>> {
    let outline = shards.outline();
    let parse = |params: &Params| {
        validate(params, outline.problem)?;
        GradientBoostedTreesParams::parse(params, outline.problem)
    };
    let parsed: Vec<_> = candidates.iter().map(parse).collect();
    let rows = match rows_of(shards) {
        Ok(rows) => rows,
        Err(e) => return training::failed(parsed, &e),
    };
    let of = Group { shards, rows, ctx, n_runs: Cell::new(0) };
    let grow = |max_bins, runs: &[Run<GradientBoostedTreesParams>]| match of.rows.meanings(max_bins, look) {
        Err(e) => training::failed(runs.iter().map(Ok::<_, MlError>).collect(), &e),
        Ok(meanings) => {
            let boosted = |run: &Run<GradientBoostedTreesParams>| {
                fit::check(of.rows.negative, of.rows.n_rows(), run.params.loss)?;
                let mut run = ShardedRun::new(&of, &meanings, &run.params)?;
                run.boost()?;
                Ok((Arc::clone(&meanings), run.boosted))
            };
            runs.iter().map(boosted).collect()
        }
    };
    let model = |params: &GradientBoostedTreesParams, (meanings, boosted): &(Arc<[Meaning]>, Boosted), max_iter| {
        let (features, base) = (Arc::clone(&outline.features), boosted.base.clone());
        GradientBoostedTreesModel::new(features, meanings, base, params.loss.link(), boosted.first(max_iter))
    };
    fit_runs(super::NAME, parsed, grow, model)
}

fn look(look: Look) -> Result<String> {
    encode(&Request::Look(look))
}

fn rows_of(shards: &dyn Shards) -> Result<ShardedRows<'_>> {
    let rows = ShardedRows::new(shards, (super::NAME, &PROBLEMS), look)?;
    if rows.n_rows() > MOST_ROWS { Err(fit::too_many(rows.n_rows())) } else { Ok(rows) }
}

/// What the candidates of a group share.
struct Group<'a> {
    shards: &'a dyn Shards,
    rows: ShardedRows<'a>,
    ctx: &'a FitContext,
    n_runs: Cell<usize>,
}

/// A run over shards.
struct ShardedRun<'a> {
    of: &'a Group<'a>,
    meanings: &'a Arc<[Meaning]>,
    params: &'a GradientBoostedTreesParams,
    number: usize,
    seeds: Seeds,
    draw: Draw,
    boosted: Boosted,
    /// Whether requests tell all trees so far: shards are lost again and again where memory is short.
    tells_history: Cell<bool>,
}

impl<'a> ShardedRun<'a> {
    fn new(of: &'a Group<'a>, meanings: &'a Arc<[Meaning]>, params: &'a GradientBoostedTreesParams) -> Result<Self> {
        let n_outputs = if params.loss == Loss::Softmax { of.shards.outline().n_classes } else { 1 };
        let seeds = Seeds::new(params, of.ctx, n_outputs);
        let draw = Draw::new(params, seeds.run);
        let mut sums = vec![0.0; n_outputs + 1];
        for answer in of.shards.pass(&encode(&Request::Base(draw))?)? {
            add_into(&mut sums, &answer);
        }
        let base = sums[1..].iter().map(|sum| params.loss.base_of(sum / sums[0])).collect();
        of.n_runs.set(of.n_runs.get() + 1);
        Ok(Self {
            of,
            meanings,
            params,
            number: of.n_runs.get(),
            seeds,
            draw,
            boosted: Boosted::new(base),
            tells_history: Cell::new(true),
        })
    }

    fn boost(&mut self) -> Result<()> {
        for iteration in 0..self.params.max_iter {
            if !self.iterate(iteration)? || self.stops()? {
                break;
            }
        }
        Ok(())
    }

    /// Adds a tree for each output; whether one of them has a split.
    fn iterate(&mut self, iteration: usize) -> Result<bool> {
        let before = self.boosted.trees.len();
        for output in 0..self.boosted.base.len() {
            let bounds = self.bounds(output)?;
            let seed = self.seeds.of_features(iteration, output);
            let features = sample_features(self.meanings.len(), self.params.feature_subset, seed);
            let row_seed = self.seeds.of_rows(iteration);
            let tree = Growing::new(self, features, bounds).grow(self.of.ctx, |features, splits, nodes| {
                let (features, splits) = (features.to_vec(), Partings { before: 0, new: splits.to_vec() });
                self.sums(&Fill { output, row_seed, bounds, features, splits, nodes })
            })?;
            self.boosted.trees.push(tree);
            self.tells_history.set(false);
        }
        let has_grown = self.boosted.trees[before..].iter().any(|tree| !tree.nodes.is_empty());
        if !has_grown {
            self.boosted.trees.truncate(before);
        }
        Ok(has_grown)
    }

    fn bounds(&self, output: usize) -> Result<Bounds> {
        let n_rows = self.of.rows.n_rows();
        if let (Some((gradient, hessian)), false) = (self.params.loss.bounds(), self.of.rows.is_weighted) {
            return Ok(Bounds { n_rows, gradient, hessian });
        }
        let mut bounds = Bounds { n_rows, gradient: 0.0, hessian: 0.0 };
        for answer in self.answers(|at| Request::Bounds(at, output))? {
            let [_, gradient, hessian] = answer[..] else { return Err(wrong_answer()) };
            bounds.gradient = bounds.gradient.max(gradient);
            bounds.hessian = bounds.hessian.max(hessian);
        }
        Ok(bounds)
    }

    /// Whether the validation loss has not fallen for as long as early stopping waits.
    fn stops(&mut self) -> Result<bool> {
        if self.params.early_stopping_rounds == 0 {
            return Ok(false);
        }
        let mut sums = [0.0; 3];
        self.answers(Request::Loss)?.iter().for_each(|answer| add_into(&mut sums, answer));
        let [_, loss, n_rows] = sums;
        Ok(n_rows > 0.0 && self.boosted.stops_after(loss, self.params.early_stopping_rounds))
    }

    /// The answers of all shards, asked again with all trees where some have lost their rows.
    fn answers(&self, request: impl Fn(At) -> Request) -> Result<Vec<Vec<f64>>> {
        let ask = || self.of.shards.pass(&encode(&request(self.at()?))?);
        let answers = ask()?;
        if !answers.iter().any(|answer| answer.first().is_none_or(|lost| *lost != 0.0)) {
            return Ok(answers);
        }
        self.tells_history.set(true);
        ask()
    }

    /// The same for sums.
    fn sums(&self, fill: &Fill) -> Result<Vec<i64>> {
        let ask = || self.of.shards.sum(&encode(&Request::Fill(self.at()?, fill.clone()))?);
        let sums = ask()?;
        if sums.first() == Some(&0) {
            return Ok(sums);
        }
        self.tells_history.set(true);
        ask()
    }

    fn at(&self) -> Result<At> {
        let trees = &self.boosted.trees;
        let history =
            || History { max_bins: self.params.max_bins, meanings: Arc::clone(self.meanings), trees: trees.clone() };
        Ok(At {
            run: self.number,
            draw: self.draw,
            loss: self.params.loss,
            base: self.boosted.base.clone(),
            n_trees: trees.len(),
            last: trees.last().cloned(),
            history: self.tells_history.get().then(|| encode(&history())).transpose()?,
        })
    }
}
