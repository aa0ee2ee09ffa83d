//! Forests over shards: the driver grows some trees side by side, the shards sum their rows by bin.
//!
//! A shard keeps its binned rows, and for each of those trees the rows that it sees, parted as it grows. A process that
//! has lost a shard answers that it has, and is told all partings so far. Sums are whole numbers: processes add up those
//! of their shards, and the trees are those of rows in memory where bins agree.

mod grow;
mod rows;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::grow::{Growing, Wanted};
use self::rows::State;
use super::fit::seed_of;
use super::target::{Classes, Numbers, Target, Units};
use super::{RandomForestModel, RandomForestParams};
use crate::codec::exact;
use crate::estimator::sharded::{Shard, Shards, add_up, decode, encode, wrong_answer};
use crate::estimator::support::chunks::add_into;
use crate::estimator::support::training::{self, Labels};
use crate::estimator::support::trees::{
    BinnedTree, LOST, Look, Meaning, Partings, Run, ShardedRows, Tree, fit_runs, labels,
};
use crate::estimator::{FitContext, Model, ProblemType};
use crate::{MlError, Result};

/// How many trees grow side by side: a row of each takes 5 bytes where it is kept.
const TREES: usize = 8;

/// What is asked of a shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Look(Look),
    /// A part of the mean of the labels of so many rows, and the largest weight.
    Mean(usize),
    /// The largest size of a weighted label less this mean.
    MostValue(#[serde(with = "exact")] f64),
    /// By tree, of some nodes the least and the largest label.
    Extremes(At, Vec<Vec<usize>>),
    /// By tree, of some nodes the weight and that of the labels; of classes, that of each.
    Leaves(At, Vec<Vec<usize>>),
    /// By tree, of some nodes the sums by bin of some features; before those of a root, its sums in total.
    Fill(At, Vec<Vec<Wanted>>),
}

/// Trees that grow, and how far they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct At {
    kind: Kind,
    /// Stands for the trees among all of the group.
    batch: usize,
    max_bins: usize,
    units: Units,
    /// By tree, what decides how often it sees a row; none sees each once.
    draws: Vec<Option<u64>>,
    bootstrap: bool,
    #[serde(with = "exact")]
    rate: f64,
    /// By tree, how its rows are parted.
    partings: Vec<Partings>,
    /// What bins stand for, where a shard lost its rows; partings are all told then.
    meanings: Option<Arc<[Meaning]>>,
}

/// Of what rows are sums.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Classes,
    Numbers,
    WeightedNumbers,
}

/// A shard's answer to what is asked of each.
///
/// # Errors
/// A shard that cannot be read, a request of another version.
pub(in crate::estimator) fn pass(shard: &dyn Shard, request: &str) -> Result<Vec<f64>> {
    let found = match decode(request)? {
        Request::Look(look) => return look.answer(shard),
        Request::Mean(n_rows) => {
            let labels = labels(shard)?;
            return Ok(vec![labels.part_of_mean(n_rows), labels.most_weight()]);
        }
        Request::MostValue(mean) => return Ok(vec![labels(shard)?.most_value(mean)]),
        Request::Extremes(at, nodes) => State::with(shard, &at, |state| state.extremes(&nodes))?,
        Request::Leaves(at, nodes) => State::with(shard, &at, |state| state.leaves(&nodes))?,
        Request::Fill(..) => return Err(wrong_answer()),
    };
    Ok(found.map_or_else(|| vec![LOST as f64], |found| [vec![0.0], found].concat()))
}

/// Adds a shard's part of a sum.
///
/// # Errors
/// Those of [`pass`].
pub(in crate::estimator) fn sum(shard: &dyn Shard, request: &str, into: &mut Vec<i64>) -> Result<()> {
    let Request::Fill(at, wanted) = decode(request)? else { return Err(wrong_answer()) };
    if State::with(shard, &at, |state| state.add_sums(&wanted, into))?.is_none() {
        add_up(into, &[LOST]);
    }
    Ok(())
}

/// Trains forests for an estimator of this name.
pub(in crate::estimator) fn fit_shards(
    name: &'static str,
    shards: &dyn Shards,
    parsed: Vec<Result<RandomForestParams>>,
    ctx: &FitContext,
) -> Vec<Result<Box<dyn Model>>> {
    let rows = match ShardedRows::new(shards, (name, &super::PROBLEMS), look) {
        Ok(rows) => rows,
        Err(e) => return training::failed(parsed, &e),
    };
    let of = Group { name, shards, rows, ctx, n_batches: Cell::new(0) };
    training::boxed(match (shards.outline().problem, of.rows.is_weighted) {
        (ProblemType::Multiclass, _) => of.fit::<Classes>(Kind::Classes, parsed),
        (_, false) => of.fit::<Numbers<2>>(Kind::Numbers, parsed),
        (_, true) => of.fit::<Numbers<3>>(Kind::WeightedNumbers, parsed),
    })
}

fn look(look: Look) -> Result<String> {
    encode(&Request::Look(look))
}

/// What the candidates of a group share.
struct Group<'a> {
    name: &'static str,
    shards: &'a dyn Shards,
    rows: ShardedRows<'a>,
    ctx: &'a FitContext,
    n_batches: Cell<usize>,
}

impl Group<'_> {
    fn fit<T: Target>(&self, kind: Kind, parsed: Vec<Result<RandomForestParams>>) -> Vec<Result<RandomForestModel>> {
        let outline = self.shards.outline();
        let n_outputs = if outline.problem == ProblemType::Multiclass { outline.n_classes } else { 1 };
        let units = match self.units() {
            Ok(units) => units,
            Err(e) => return training::failed(parsed, &e),
        };
        let target = T::new(Labels { label: Vec::new(), weight: None, n_outputs }, units);
        let grow = |max_bins, runs: &[Run<RandomForestParams>]| match self.rows.meanings(max_bins, look) {
            Err(e) => training::failed(runs.iter().map(Ok::<_, MlError>).collect(), &e),
            Ok(meanings) => {
                let of = |params| Forest { params, meanings: &meanings, target: &target, kind, units };
                runs.iter().map(|run| self.forest(&of(&run.params))).collect()
            }
        };
        let model = |_: &RandomForestParams, trees: &Vec<Tree>, num_trees: usize| {
            let features = Arc::clone(&outline.features);
            RandomForestModel::new(self.name, features, outline.problem, n_outputs, trees[..num_trees].to_vec())
        };
        fit_runs(self.name, parsed, grow, model)
    }

    /// In what the labels and weights of all rows are whole numbers.
    fn units(&self) -> Result<Units> {
        let n_rows = self.rows.n_rows();
        let (mut mean, mut most_weight) = (0.0, 0.0_f64);
        for answer in self.shards.pass(&encode(&Request::Mean(n_rows))?)? {
            let [part, most] = answer[..] else { return Err(wrong_answer()) };
            mean += part;
            most_weight = most_weight.max(most);
        }
        if self.shards.outline().problem.is_classification() {
            return Ok(Units::of_classes(n_rows, most_weight));
        }
        let answers = self.shards.pass(&encode(&Request::MostValue(mean))?)?;
        Ok(Units::of_numbers(n_rows, most_weight, mean, answers.iter().flatten().fold(0.0, |a, b| a.max(*b))))
    }

    fn forest<T: Target>(&self, of: &Forest<'_, T>) -> Result<Vec<Tree>> {
        let seeds: Vec<u64> = (0..of.params.num_trees).map(|tree| seed_of(of.params, tree, self.ctx)).collect();
        let mut trees = Vec::with_capacity(seeds.len());
        for seeds in seeds.chunks(TREES) {
            trees.extend(self.grow(of, seeds)?.iter().map(|tree| Tree::new(tree, of.meanings)));
        }
        Ok(trees)
    }

    /// Grows the trees of some seeds. Where there are too few rows to draw from, a tree sees all of them.
    fn grow<T: Target>(&self, of: &Forest<'_, T>, seeds: &[u64]) -> Result<Vec<BinnedTree>> {
        let mut draws: Vec<Option<u64>> = seeds.iter().copied().map(Some).collect();
        loop {
            let at = self.begin(of, draws.clone());
            let batch =
                Batch { shards: self.shards, at, meanings: of.meanings, told: RefCell::new(vec![0; seeds.len()]) };
            let growing = seeds.iter().map(|seed| Growing::new(of.target, of.params, of.meanings, *seed)).collect();
            let grown = batch.grow(growing, self.ctx)?;
            let sees_none = |i: &usize| grown[*i].is_none();
            let empty: Vec<usize> = (0..grown.len()).filter(sees_none).collect();
            if empty.is_empty() {
                return Ok(grown.into_iter().flatten().collect());
            }
            if empty.iter().any(|i| draws[*i].is_none()) {
                return Err(wrong_answer());
            }
            empty.into_iter().for_each(|i| draws[i] = None);
        }
    }

    fn begin<T>(&self, of: &Forest<'_, T>, draws: Vec<Option<u64>>) -> At {
        self.n_batches.set(self.n_batches.get() + 1);
        At {
            kind: of.kind,
            batch: self.n_batches.get(),
            max_bins: of.params.tree.max_bins,
            units: of.units,
            draws,
            bootstrap: of.params.bootstrap,
            rate: of.params.subsampling_rate,
            partings: Vec::new(),
            meanings: None,
        }
    }
}

/// A forest, and what its trees grow on.
struct Forest<'a, T> {
    params: &'a RandomForestParams,
    meanings: &'a Arc<[Meaning]>,
    target: &'a T,
    kind: Kind,
    units: Units,
}

/// Trees that grow side by side.
struct Batch<'a> {
    shards: &'a dyn Shards,
    /// How they begin.
    at: At,
    meanings: &'a Arc<[Meaning]>,
    /// By tree, how many partings all shards know.
    told: RefCell<Vec<usize>>,
}

impl Batch<'_> {
    /// Grows trees; none for those that see no row.
    fn grow<T: Target>(&self, mut trees: Vec<Growing<'_, T>>, ctx: &FitContext) -> Result<Vec<Option<BinnedTree>>> {
        loop {
            ctx.check()?;
            let asked: Vec<Vec<usize>> = trees.iter_mut().map(Growing::advance).collect();
            if asked.iter().all(Vec::is_empty) {
                break;
            }
            self.look_for_pure(&mut trees, &asked)?;
            loop {
                let wanted: Vec<Vec<Wanted>> = trees.iter().map(Growing::wanted).collect();
                if wanted.iter().all(Vec::is_empty) {
                    break;
                }
                let sums = self.sums(&trees, &wanted)?;
                let mut sums = sums.get(1..).ok_or_else(wrong_answer)?;
                trees.iter_mut().zip(&wanted).try_for_each(|(tree, wanted)| tree.learn(wanted, &mut sums))?;
            }
        }
        self.finish(trees)
    }

    /// Has nodes left out whose rows all have one label, where sums do not tell.
    fn look_for_pure<T: Target>(&self, trees: &mut [Growing<'_, T>], asked: &[Vec<usize>]) -> Result<()> {
        let nodes: Vec<Vec<usize>> = trees.iter().zip(asked).map(|(tree, nodes)| tree.unsure(nodes)).collect();
        let n_nodes = nodes.iter().map(Vec::len).sum();
        if n_nodes == 0 {
            return Ok(());
        }
        let mut all = vec![(f64::INFINITY, f64::NEG_INFINITY); n_nodes];
        for answer in self.answers(trees, |at| Request::Extremes(at, nodes.clone()))? {
            let (extremes, []) = answer[1..].as_chunks() else { return Err(wrong_answer()) };
            for ((least, largest), [a, b]) in all.iter_mut().zip(extremes) {
                (*least, *largest) = (least.min(*a), largest.max(*b));
            }
        }
        let mut is_pure = all.into_iter().map(|(least, largest)| least >= largest);
        trees.iter_mut().zip(&nodes).for_each(|(tree, nodes)| tree.leave_out(nodes, &mut is_pure));
        Ok(())
    }

    fn finish<T: Target>(&self, trees: Vec<Growing<'_, T>>) -> Result<Vec<Option<BinnedTree>>> {
        let leaves: Vec<Vec<usize>> = trees.iter().map(Growing::leaf_places).collect();
        let mut sums = Vec::new();
        for answer in self.answers(&trees, |at| Request::Leaves(at, leaves.clone()))? {
            sums.resize(answer.len(), 0.0);
            add_into(&mut sums, &answer);
        }
        let mut rest = sums.get(1..).ok_or_else(wrong_answer)?;
        trees.into_iter().map(|tree| tree.finish(&mut rest)).collect()
    }

    /// The answers of all shards, asked again with all partings where some have lost their rows.
    fn answers<T: Target>(&self, trees: &[Growing<'_, T>], request: impl Fn(At) -> Request) -> Result<Vec<Vec<f64>>> {
        let is_lost = |answers: &Vec<Vec<f64>>| answers.iter().any(|a| a.first().is_none_or(|lost| *lost != 0.0));
        self.ask(trees, |at| self.shards.pass(&encode(&request(at))?), is_lost)
    }

    /// The same for sums by bin.
    fn sums<T: Target>(&self, trees: &[Growing<'_, T>], wanted: &[Vec<Wanted>]) -> Result<Vec<i64>> {
        let ask = |at| self.shards.sum(&encode(&Request::Fill(at, wanted.to_vec()))?);
        self.ask(trees, ask, |sums: &Vec<i64>| sums.first() != Some(&0))
    }

    fn ask<T: Target, A>(
        &self,
        trees: &[Growing<'_, T>],
        ask: impl Fn(At) -> Result<A>,
        is_lost: impl Fn(&A) -> bool,
    ) -> Result<A> {
        let mut told = self.told.borrow_mut();
        let mut answers = ask(self.at(trees, &told, false))?;
        if is_lost(&answers) {
            told.fill(0);
            answers = ask(self.at(trees, &told, true))?;
        }
        told.iter_mut().zip(trees).for_each(|(told, tree)| *told = tree.partings.len());
        Ok(answers)
    }

    fn at<T: Target>(&self, trees: &[Growing<'_, T>], told: &[usize], tells_meanings: bool) -> At {
        let partings = trees.iter().zip(told).map(|(tree, told)| tree.partings_after(*told));
        let meanings = tells_meanings.then(|| Arc::clone(self.meanings));
        At { partings: partings.collect(), meanings, ..self.at.clone() }
    }
}
