//! The passes over rows that lie in shards: each shard's sums come back as numbers and merge in the order of the shards.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::columns::{Sums, number_columns};
use super::design::{Evaluation, GradientSums, HessianSums};
use super::{ClassEvaluation, Columns, Design, LabelMoments, Logistic, Moments, Passes, RowLoss, Rows};
use crate::codec::exact;
use crate::estimator::ProblemType;
use crate::estimator::sharded::{Outline, Shard, ShardRows, Shards, decode, encode, kept, wrong_answer};
use crate::estimator::support::training;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

/// The most numbers of an answer, 8 MiB, where it can be had in parts: those of all shards are held at once.
const MOST_ANSWERED: usize = 1 << 20;

/// What is asked of a shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound = "L: RowLoss")]
enum Request<L> {
    /// What the rows are like, as [`Survey::to_numbers`].
    Survey,
    /// By point, sums of the loss and its gradient.
    Gradients(At<L>),
    /// Sums of the Hessian at one point.
    Hessian(At<L>),
    /// By class, sums of the log loss and its gradient; `places` has the point of each class.
    ClassGradients { at: At<L>, places: Vec<u32> },
    /// Of some classes, sums of their Hessians.
    ClassHessians { at: At<L>, classes: Range<usize> },
}

/// Points, of a multiclass problem one for each class, and how rows are standardised there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "L: RowLoss")]
struct At<L> {
    columns: Columns,
    loss: L,
    /// One point behind the other.
    #[serde(with = "exact::list")]
    points: Vec<f64>,
}

impl<L> At<L> {
    fn points(&self) -> Vec<Vec<f64>> {
        self.points.chunks_exact(self.columns.n_coordinates()).map(<[f64]>::to_vec).collect()
    }
}

/// A shard's answer.
///
/// # Errors
/// A shard that cannot be read, a request of another version.
pub(crate) fn pass_of_shard<L: RowLoss>(shard: &dyn Shard, request: &str) -> Result<Vec<f64>> {
    match decode::<Request<L>>(request)? {
        Request::Survey => Ok(Survey::of(&shard.read()?).to_numbers()),
        Request::Gradients(at) => {
            let points = at.points();
            Ok(numbers(design(shard, at.columns)?.gradient_sums(&at.loss, &points)))
        }
        Request::Hessian(at) => Ok(design(shard, at.columns)?.hessian_sums_of(&at.loss, &at.points).into_numbers()),
        Request::ClassGradients { at, places } => {
            let points = at.points();
            Ok(numbers(design(shard, at.columns)?.class_gradient_sums(&places, &points)))
        }
        Request::ClassHessians { at, classes } => {
            let points = at.points();
            let design = design(shard, at.columns)?;
            Ok(numbers(design.class_hessian_sums(&points, classes)))
        }
    }
}

fn numbers<S: Sums>(sums: impl IntoIterator<Item = S>) -> Vec<f64> {
    sums.into_iter().flat_map(S::into_numbers).collect()
}

/// A shard's rows, standardised.
fn design(shard: &dyn Shard, columns: Columns) -> Result<Arc<Design>> {
    // All linear estimators standardise the same rows alike.
    let key = format!("standardised, intercept {}", columns.has_intercept);
    kept(shard, &key, || {
        let ShardRows { matrix, rows } = shard.read()?;
        let rows = Rows::counted(&matrix, &rows).0;
        let label: Vec<f64> = rows.numbers.iter().map(|&r| matrix.label[r as usize]).collect();
        let labels = Moments::of(&matrix, &rows, &label).label();
        let design = Design::gather(&matrix, &rows, label.into(), columns.clone(), labels);
        let size_bytes = design.size_bytes();
        Ok((design, size_bytes))
    })
}

/// What the rows of a shard are like.
#[derive(Debug)]
struct Survey {
    n_rows: f64,
    wrong_weights: f64,
    /// Labels that are not those of the problem.
    wrong_labels: f64,
    /// By column of numbers, how many are missing or infinite.
    missing: Vec<f64>,
    /// The weight of each class of a multiclass problem.
    class_weights: Vec<f64>,
    moments: Moments,
}

/// How many numbers of a survey stand before the missing ones.
const HEAD: usize = 3;

impl Survey {
    fn of(shard: &ShardRows) -> Self {
        let ShardRows { matrix, rows } = shard;
        let (counted, wrong_weights) = Rows::counted(matrix, rows);
        let label: Vec<f64> = counted.numbers.iter().map(|&r| matrix.label[r as usize]).collect();
        let count = |is_wrong: &dyn Fn(f64) -> bool, values: &mut dyn Iterator<Item = f64>| {
            values.filter(|v| is_wrong(*v)).count() as f64
        };
        let is_wrong = |label: f64| match matrix.problem {
            ProblemType::Binary => label != 0.0 && label != 1.0,
            ProblemType::Multiclass => training::class_of(label, matrix.n_classes).is_none(),
            _ => !label.is_finite(),
        };
        let missing =
            |column: &&[f64]| count(&|v| !v.is_finite(), &mut counted.numbers.iter().map(|&r| column[r as usize]));
        Self {
            n_rows: rows.len() as f64,
            wrong_weights: wrong_weights as f64,
            wrong_labels: count(&is_wrong, &mut label.iter().copied()),
            missing: number_columns(matrix).iter().map(missing).collect(),
            class_weights: class_weights(&counted, &label, n_weighed(matrix.problem, matrix.n_classes)),
            moments: Moments::of(matrix, &counted, &label),
        }
    }

    fn to_numbers(&self) -> Vec<f64> {
        let mut all = vec![self.n_rows, self.wrong_weights, self.wrong_labels];
        all.extend(&self.missing);
        all.extend(&self.class_weights);
        all.extend(self.moments.to_numbers());
        all
    }

    fn from_numbers(outline: &Outline, all: &[f64]) -> Option<Self> {
        let n_numbers = outline.features.iter().filter(|f| f.kind == FeatureKind::Number).count();
        let (head, rest) = all.split_at_checked(HEAD)?;
        let (missing, rest) = rest.split_at_checked(n_numbers)?;
        let (class_weights, moments) = rest.split_at_checked(n_weighed(outline.problem, outline.n_classes))?;
        Some(Self {
            n_rows: head[0],
            wrong_weights: head[1],
            wrong_labels: head[2],
            missing: missing.to_vec(),
            class_weights: class_weights.to_vec(),
            moments: Moments::from_numbers(&outline.features, moments)?,
        })
    }

    fn merge(self, part: &Self) -> Self {
        Self {
            n_rows: self.n_rows + part.n_rows,
            wrong_weights: self.wrong_weights + part.wrong_weights,
            wrong_labels: self.wrong_labels + part.wrong_labels,
            missing: added(&self.missing, &part.missing),
            class_weights: added(&self.class_weights, &part.class_weights),
            moments: self.moments.merge(&part.moments),
        }
    }

    /// The checks that fits in memory make.
    fn check(&self, outline: &Outline) -> Result<()> {
        training::check_weights(self.wrong_weights as usize, self.n_rows as usize)?;
        if self.moments.is_empty() {
            return Err(training::no_weight(self.n_rows as usize));
        }
        let n_rows = self.moments.n_rows;
        training::none_missing(&outline.features, &self.missing, n_rows as usize)?;
        let LabelMoments { least, largest, .. } = self.moments.label();
        let wrong = self.wrong_labels as usize;
        match outline.problem {
            ProblemType::Binary | ProblemType::Multiclass if wrong > 0 => {
                Err(training::no_classes(outline.problem, outline.n_classes, wrong, n_rows as usize))
            }
            ProblemType::Binary if least == largest => Err(training::one_class(least, n_rows as usize)),
            ProblemType::Multiclass if least == largest => Err(training::one_of_classes(least, n_rows as usize)),
            _ if wrong > 0 => Err(training::no_numbers(wrong, n_rows as usize)),
            _ => Ok(()),
        }
    }
}

/// How many classes have their weights in a survey.
fn n_weighed(problem: ProblemType, n_classes: usize) -> usize {
    if problem == ProblemType::Multiclass { n_classes } else { 0 }
}

/// The weight of each class; labels that are none count nowhere.
fn class_weights(rows: &Rows, label: &[f64], n_classes: usize) -> Vec<f64> {
    let mut weights = vec![0.0; n_classes];
    for (place, label) in label.iter().enumerate() {
        if let Some(class) = training::class_of(*label, n_classes) {
            weights[class] += rows.weight(place);
        }
    }
    weights
}

fn added(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The rows of a fit, in shards.
#[derive(Debug)]
pub(crate) struct ShardedRows<'a> {
    shards: &'a dyn Shards,
    moments: Moments,
    class_weights: Vec<f64>,
}

impl<'a> ShardedRows<'a> {
    /// Looks at all rows, in one pass.
    ///
    /// # Errors
    /// Wrong weights, missing numbers, labels that are not the problem's, all of one class; a pass that failed.
    pub(crate) fn new(shards: &'a dyn Shards) -> Result<Self> {
        // A survey needs no loss: any does.
        let request = encode(&Request::<super::Squared>::Survey)?;
        let mut all: Option<Survey> = None;
        for answer in shards.pass(&request)? {
            let part = Survey::from_numbers(shards.outline(), &answer).ok_or_else(wrong_answer)?;
            all = Some(match all {
                Some(all) => all.merge(&part),
                None => part,
            });
        }
        let survey = all.ok_or_else(|| MlError::Invalid("there are no rows to train on".to_owned()))?;
        survey.check(shards.outline())?;
        Ok(Self { shards, moments: survey.moments, class_weights: survey.class_weights })
    }

    /// The weight of each class of a multiclass problem; those of other problems have none.
    pub(crate) fn class_weights(&self) -> &[f64] {
        &self.class_weights
    }

    /// The rows, standardised.
    pub(crate) fn design(&self, has_intercept: bool) -> ShardedDesign<'a> {
        let columns = Columns::new(&self.moments, has_intercept);
        ShardedDesign { shards: self.shards, columns, labels: self.moments.label() }
    }
}

/// The standardised rows of a fit, in shards.
#[derive(Debug)]
pub(crate) struct ShardedDesign<'a> {
    shards: &'a dyn Shards,
    columns: Columns,
    labels: LabelMoments,
}

impl ShardedDesign<'_> {
    fn at<L: RowLoss>(&self, loss: &L, points: &[Vec<f64>]) -> At<L> {
        At { columns: self.columns.clone(), loss: loss.clone(), points: points.concat() }
    }

    /// Asks all shards for `n` sums, and merges them in the order of the shards.
    fn sums<L: RowLoss, S: Sums>(&self, request: &Request<L>, n: usize) -> Result<Vec<S>> {
        let n_numbers = S::n_numbers(&self.columns);
        let mut all: Vec<S> = (0..n).map(|_| S::zero(&self.columns)).collect();
        for answer in self.shards.pass(&encode(request)?)? {
            if answer.len() != n * n_numbers {
                return Err(wrong_answer());
            }
            for (into, part) in all.iter_mut().zip(answer.chunks_exact(n_numbers)) {
                into.merge(S::from_numbers(&self.columns, part).ok_or_else(wrong_answer)?);
            }
        }
        Ok(all)
    }
}

impl Passes for ShardedDesign<'_> {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn labels(&self) -> LabelMoments {
        self.labels
    }

    fn evaluate<L: RowLoss>(&self, loss: &L, points: &[Vec<f64>]) -> Result<Vec<Evaluation>> {
        let sums: Vec<GradientSums> = self.sums(&Request::Gradients(self.at(loss, points)), points.len())?;
        Ok(sums.iter().map(|sums| Evaluation::new(&self.columns, sums)).collect())
    }

    fn hessian<L: RowLoss>(&self, loss: &L, point: &[f64]) -> Result<Vec<f64>> {
        let request = Request::Hessian(self.at(loss, &[point.to_vec()]));
        let sums: HessianSums = self.sums(&request, 1)?.pop().ok_or_else(wrong_answer)?;
        Ok(self.columns.hessian(&sums))
    }

    fn evaluate_classes(&self, places: &[u32], points: &[Vec<f64>]) -> Result<ClassEvaluation> {
        let request = Request::ClassGradients { at: self.at(&Logistic, points), places: places.to_vec() };
        let sums: Vec<GradientSums> = self.sums(&request, points.len())?;
        Ok(ClassEvaluation::new(&self.columns, &sums))
    }

    fn class_hessians(&self, points: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
        let at_once = (MOST_ANSWERED / HessianSums::n_numbers(&self.columns)).max(1);
        let mut hessians = Vec::with_capacity(points.len());
        for start in (0..points.len()).step_by(at_once) {
            let classes = start..(start + at_once).min(points.len());
            let n = classes.len();
            let request = Request::ClassHessians { at: self.at(&Logistic, points), classes };
            let sums: Vec<HessianSums> = self.sums(&request, n)?;
            hessians.extend(sums.iter().map(|sums| self.columns.hessian(sums)));
        }
        Ok(hessians)
    }
}
