//! The passes over rows that lie in shards: each shard's sums come back as numbers and merge in the order of the shards.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::columns::number_columns;
use super::design::{Evaluation, GradientSums, HessianSums};
use super::{Columns, Design, LabelMoments, Moments, Passes, RowLoss, Rows};
use crate::codec::exact;
use crate::estimator::ProblemType;
use crate::estimator::sharded::{Outline, Shard, ShardRows, Shards, decode, encode, kept, wrong_answer};
use crate::estimator::support::training;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

/// What is asked of a shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound = "L: RowLoss")]
enum Request<L> {
    /// What the rows are like, as [`Survey::to_numbers`].
    Survey,
    /// Sums of the loss and its gradient.
    Gradient(At<L>),
    /// Sums of the Hessian.
    Hessian(At<L>),
}

/// A point, and how rows are standardised there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "L: RowLoss")]
struct At<L> {
    columns: Columns,
    loss: L,
    #[serde(with = "exact::list")]
    point: Vec<f64>,
}

/// A shard's answer.
///
/// # Errors
/// A shard that cannot be read, a request of another version.
pub(crate) fn pass_of_shard<L: RowLoss>(shard: &dyn Shard, request: &str) -> Result<Vec<f64>> {
    match decode::<Request<L>>(request)? {
        Request::Survey => Ok(Survey::of(&shard.read()?).to_numbers()),
        Request::Gradient(at) => Ok(design(shard, at.columns)?.gradient_sums(&at.loss, &at.point).into_numbers()),
        Request::Hessian(at) => Ok(design(shard, at.columns)?.hessian_sums_of(&at.loss, &at.point).into_numbers()),
    }
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
            _ => !label.is_finite(),
        };
        let missing =
            |column: &&[f64]| count(&|v| !v.is_finite(), &mut counted.numbers.iter().map(|&r| column[r as usize]));
        Self {
            n_rows: rows.len() as f64,
            wrong_weights: wrong_weights as f64,
            wrong_labels: count(&is_wrong, &mut label.iter().copied()),
            missing: number_columns(matrix).iter().map(missing).collect(),
            moments: Moments::of(matrix, &counted, &label),
        }
    }

    fn to_numbers(&self) -> Vec<f64> {
        let mut all = vec![self.n_rows, self.wrong_weights, self.wrong_labels];
        all.extend(&self.missing);
        all.extend(self.moments.to_numbers());
        all
    }

    fn from_numbers(outline: &Outline, all: &[f64]) -> Option<Self> {
        let n_numbers = outline.features.iter().filter(|f| f.kind == FeatureKind::Number).count();
        let (head, rest) = all.split_at_checked(HEAD)?;
        let (missing, moments) = rest.split_at_checked(n_numbers)?;
        Some(Self {
            n_rows: head[0],
            wrong_weights: head[1],
            wrong_labels: head[2],
            missing: missing.to_vec(),
            moments: Moments::from_numbers(&outline.features, moments)?,
        })
    }

    fn merge(self, part: &Self) -> Self {
        Self {
            n_rows: self.n_rows + part.n_rows,
            wrong_weights: self.wrong_weights + part.wrong_weights,
            wrong_labels: self.wrong_labels + part.wrong_labels,
            missing: self.missing.iter().zip(&part.missing).map(|(a, b)| a + b).collect(),
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
        match outline.problem {
            ProblemType::Binary if self.wrong_labels > 0.0 => Err(MlError::Invalid(format!(
                "the label must be 0 or 1; {} of {n_rows} training rows have something else",
                self.wrong_labels
            ))),
            ProblemType::Binary if least == largest => Err(training::one_class(least, n_rows as usize)),
            _ if self.wrong_labels > 0.0 => Err(training::no_numbers(self.wrong_labels as usize, n_rows as usize)),
            _ => Ok(()),
        }
    }
}

/// The rows of a fit, in shards.
#[derive(Debug)]
pub(crate) struct ShardedRows<'a> {
    shards: &'a dyn Shards,
    moments: Moments,
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
        Ok(Self { shards, moments: survey.moments })
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
    fn at<L: RowLoss>(&self, loss: &L, point: &[f64]) -> At<L> {
        At { columns: self.columns.clone(), loss: loss.clone(), point: point.to_vec() }
    }
}

impl Passes for ShardedDesign<'_> {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn labels(&self) -> LabelMoments {
        self.labels
    }

    fn evaluate<L: RowLoss>(&self, loss: &L, point: &[f64]) -> Result<Evaluation> {
        let request = encode(&Request::Gradient(self.at(loss, point)))?;
        let mut sums = GradientSums::zero(&self.columns);
        for answer in self.shards.pass(&request)? {
            sums.merge(GradientSums::from_numbers(&self.columns, &answer).ok_or_else(wrong_answer)?);
        }
        Ok(Evaluation::new(&self.columns, &sums))
    }

    fn hessian<L: RowLoss>(&self, loss: &L, point: &[f64]) -> Result<Vec<f64>> {
        let request = encode(&Request::Hessian(self.at(loss, point)))?;
        let mut sums = HessianSums::zero(&self.columns);
        for answer in self.shards.pass(&request)? {
            sums.merge(HessianSums::from_numbers(&self.columns, &answer).ok_or_else(wrong_answer)?);
        }
        Ok(self.columns.hessian(&sums))
    }
}
