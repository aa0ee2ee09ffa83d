//! What algorithms of trees look at in rows that lie in shards: what the rows are like, and what bins are found from.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::binned_tree::BinSet;
use super::bins::{Meaning, Sample, stride};
use super::partition::partition;
use crate::Result;
use crate::estimator::ProblemType;
use crate::estimator::sharded::{Outline, Shard, ShardRows, Shards, kept, wrong_answer};
use crate::estimator::support::chunks::add_into;
use crate::estimator::support::training::{self, Labels};
use crate::matrix::{FeatureKind, Matrix};

/// The first number of an answer of a shard that has lost its rows; else it is 0.
pub(crate) const LOST: i64 = 1;

/// How a node's rows are parted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parting {
    pub(crate) node: usize,
    pub(crate) feature: usize,
    pub(crate) left_bins: BinSet,
}

/// How a tree's rows are parted: the `i`th parting makes the nodes `2 i + 1` and `2 i + 2`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Partings {
    /// How many were told before.
    pub(crate) before: usize,
    pub(crate) new: Vec<Parting>,
}

/// The rows of a tree that grows.
#[derive(Debug)]
pub(crate) struct PartedRows {
    /// Grouped by leaf, ascending in each.
    rows: Vec<u32>,
    /// By node.
    ranges: Vec<Range<usize>>,
}

impl PartedRows {
    /// Rows of one node.
    pub(crate) fn new(rows: Vec<u32>) -> Self {
        let whole = 0..rows.len();
        Self { rows, ranges: vec![whole] }
    }

    /// The rows of a node.
    pub(crate) fn of_node(&self, node: usize) -> &[u32] {
        &self.rows[self.ranges[node].clone()]
    }

    /// Parts rows, by their bins of a feature, as far as they were not yet; whether those partings are known that are not
    /// told.
    pub(crate) fn part(
        &mut self,
        partings: &Partings,
        bin: impl Fn(usize, usize) -> u8 + Sync,
        scratch: &mut Vec<u32>,
    ) -> bool {
        let Some(done) = (self.ranges.len() / 2).checked_sub(partings.before) else { return false };
        for Parting { node, feature, left_bins } in partings.new.iter().skip(done) {
            let range = self.ranges[*node].clone();
            let bin = |row| bin(*feature, row as usize);
            let n_left = partition(&mut self.rows[range.clone()], bin, left_bins, scratch);
            let middle = range.start + n_left;
            self.ranges.extend([range.start..middle, middle..range.end]);
        }
        true
    }
}

/// The number of a shard's first row among those of all shards.
pub(crate) fn first_row(shard: &dyn Shard) -> u64 {
    (shard.number() as u64) << 32
}

/// The labels of a shard's rows, which were looked at.
///
/// # Errors
/// A shard that cannot be read.
pub(crate) fn labels(shard: &dyn Shard) -> Result<Arc<Labels>> {
    kept(shard, "labels", || {
        let ShardRows { matrix, rows } = shard.read()?;
        let labels = labels_of(&matrix, &rows);
        Ok((labels, 16 * rows.len()))
    })
}

/// The labels of rows that were looked at.
pub(crate) fn labels_of(matrix: &Matrix, rows: &[u32]) -> Labels {
    let of = |all: &[f64]| rows.iter().map(|r| all[*r as usize]).collect();
    let n_outputs = if matrix.problem == ProblemType::Multiclass { matrix.n_classes } else { 1 };
    Labels { label: of(&matrix.label), weight: matrix.weight.as_deref().map(of), n_outputs }
}

/// A look at a shard's rows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Look {
    /// How many rows there are, and what is wrong with them: numbers as [`Survey`] reads them.
    Survey,
    /// By column, every so many numbers or how many rows have each label; by shard, the first row whose numbers are taken.
    Sample { every: usize, firsts: Vec<usize> },
}

impl Look {
    /// A shard's answer.
    ///
    /// # Errors
    /// A shard that cannot be read.
    pub(crate) fn answer(&self, shard: &dyn Shard) -> Result<Vec<f64>> {
        let rows = shard.read()?;
        match self {
            Self::Survey => Ok(survey(&rows)),
            Self::Sample { every, firsts } => {
                let first = firsts.get(shard.number()).ok_or_else(wrong_answer)?;
                Ok(sample(&rows, *first, *every))
            }
        }
    }
}

/// How many numbers of a survey stand before the counts of classes.
const HEAD: usize = 6;

fn survey(ShardRows { matrix, rows }: &ShardRows) -> Vec<f64> {
    let count = |is_so: &dyn Fn(f64) -> bool, all: &[f64]| rows.iter().filter(|r| is_so(all[**r as usize])).count();
    let weights = matrix.weight.as_deref();
    let n_classes = n_classes(matrix.problem, matrix.n_classes);
    let is_wrong = |label: f64| match n_classes {
        0 => !label.is_finite(),
        n => training::class_of(label, n).is_none(),
    };
    let of_rows = [
        rows.len(),
        weights.map_or(0, |weights| count(&|w| !training::is_weight(w), weights)),
        weights.map_or(rows.len(), |weights| count(&|w| w > 0.0, weights)),
        count(&is_wrong, &matrix.label),
        count(&|label| label < 0.0, &matrix.label),
        usize::from(weights.is_some()),
    ];
    let of_classes = (0..n_classes).map(|class| count(&|label| label == class as f64, &matrix.label));
    of_rows.into_iter().chain(of_classes).map(|n| n as f64).collect()
}

/// How many classes a label is checked against; none of numbers.
fn n_classes(problem: ProblemType, of_matrix: usize) -> usize {
    match problem {
        ProblemType::Binary => 2,
        ProblemType::Multiclass => of_matrix,
        _ => 0,
    }
}

/// By column of numbers, how many follow and the numbers; of a category, how many rows have each label.
fn sample(ShardRows { matrix, rows }: &ShardRows, first: usize, every: usize) -> Vec<f64> {
    let mut answer = Vec::new();
    for (feature, values) in matrix.x.features.iter().zip(&matrix.x.values) {
        match Sample::of(feature, values, rows, first, every) {
            Sample::Numbers(numbers) => {
                answer.push(numbers.len() as f64);
                answer.extend(numbers);
            }
            Sample::Labels(counts) => answer.extend(counts.iter().map(|n| *n as f64)),
        }
    }
    answer
}

/// Rows in shards that trees can be grown on.
#[derive(Debug)]
pub(crate) struct ShardedRows<'a> {
    shards: &'a dyn Shards,
    /// By shard.
    n_rows: Vec<usize>,
    /// How many labels are below 0.
    pub(crate) negative: usize,
    /// Whether they have weights.
    pub(crate) is_weighted: bool,
}

impl<'a> ShardedRows<'a> {
    /// Looks at all rows, in one pass; `ask` makes a request of a look.
    ///
    /// # Errors
    /// A problem that the estimator is not for, labels that are not the problem's, wrong weights, a pass that failed.
    pub(crate) fn new(
        shards: &'a dyn Shards,
        (estimator, known): (&str, &[ProblemType]),
        ask: impl Fn(Look) -> Result<String>,
    ) -> Result<Self> {
        let outline = shards.outline();
        training::is_for(estimator, outline.problem, known)?;
        let answers = shards.pass(&ask(Look::Survey)?)?;
        let mut all = vec![0.0; HEAD + n_classes(outline.problem, outline.n_classes)];
        for answer in &answers {
            if answer.len() != all.len() {
                return Err(wrong_answer());
            }
            add_into(&mut all, answer);
        }
        check(outline, &all)?;
        let n_rows = answers.iter().map(|answer| answer[0] as usize).collect();
        Ok(Self { shards, n_rows, negative: all[4] as usize, is_weighted: all[5] > 0.0 })
    }

    /// How many rows there are to train on.
    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows.iter().sum()
    }

    /// What the bins of each column stand for, as of rows in memory.
    ///
    /// # Errors
    /// A pass that failed.
    pub(crate) fn meanings(&self, max_bins: usize, ask: impl Fn(Look) -> Result<String>) -> Result<Arc<[Meaning]>> {
        let every = stride(self.n_rows());
        let before = |at: usize| self.n_rows[..at].iter().sum::<usize>();
        let firsts =
            (0..self.n_rows.len()).map(|shard| before(shard).next_multiple_of(every) - before(shard)).collect();
        let answers = self.shards.pass(&ask(Look::Sample { every, firsts })?)?;
        let samples = samples(self.shards.outline(), &answers).ok_or_else(wrong_answer)?;
        Ok(samples.into_iter().map(|sample| sample.meaning(max_bins)).collect())
    }
}

/// The checks that fits in memory make.
fn check(outline: &Outline, all: &[f64]) -> Result<()> {
    let [n_rows, wrong_weights, weighted, wrong_labels] = [all[0], all[1], all[2], all[3]].map(|n| n as usize);
    let classes = &all[HEAD..];
    let present: Vec<usize> = (0..classes.len()).filter(|class| classes[*class] > 0.0).collect();
    if classes.is_empty() && (wrong_labels > 0 || n_rows == 0) {
        return Err(training::no_numbers(wrong_labels, n_rows));
    }
    if wrong_labels > 0 {
        return Err(training::no_classes(outline.problem, classes.len(), wrong_labels, n_rows));
    }
    if !classes.is_empty() && present.len() < 2 {
        let class = present.first().copied().unwrap_or_default();
        return Err(match outline.problem {
            ProblemType::Binary => training::one_class(class as f64, n_rows),
            _ => training::one_of_classes(class, n_rows),
        });
    }
    training::check_weights(wrong_weights, n_rows)?;
    if weighted == 0 { Err(training::no_weight(n_rows)) } else { Ok(()) }
}

/// The samples of all columns, of all shards' answers.
fn samples(outline: &Outline, answers: &[Vec<f64>]) -> Option<Vec<Sample>> {
    let mut rest: Vec<&[f64]> = answers.iter().map(Vec::as_slice).collect();
    let samples = outline.features.iter().map(|feature| match &feature.kind {
        FeatureKind::Category { labels, .. } => {
            let mut counts = vec![0; labels.len()];
            for rest in &mut rest {
                let (own, after) = rest.split_at_checked(labels.len())?;
                counts.iter_mut().zip(own).for_each(|(a, b)| *a += *b as usize);
                *rest = after;
            }
            Some(Sample::Labels(counts))
        }
        _ => {
            let mut numbers = Vec::new();
            for rest in &mut rest {
                let (n, after) = rest.split_first()?;
                let (own, after) = after.split_at_checked(*n as usize)?;
                numbers.extend_from_slice(own);
                *rest = after;
            }
            Some(Sample::Numbers(numbers))
        }
    });
    samples.collect()
}
