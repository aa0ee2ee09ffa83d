//! The metric by which candidates are compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::multiclass::ClassMeans;
use super::regression::RegressionMetrics;
use super::report::confusion;
use super::{
    Predicted, accuracy, area_under_pr, area_under_roc, brier, calibration_error, f1, log_loss,
    multiclass_calibration_error, multiclass_log_loss, silhouette,
};
use crate::estimator::ProblemType::{self, Binary, Clustering, Multiclass, Regression};
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

/// A metric of predictions against labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// See [`area_under_roc`].
    AreaUnderRoc,
    /// See [`area_under_pr`].
    AreaUnderPr,
    /// See [`log_loss`] and [`multiclass_log_loss`].
    LogLoss,
    /// See [`accuracy`], at the threshold; of more classes, the share whose most probable class is right.
    Accuracy,
    /// See [`brier`].
    Brier,
    /// See [`calibration_error`] and [`multiclass_calibration_error`].
    CalibrationError,
    /// See [`f1`], at the threshold; of more classes, the mean weighted by how often each is a label, as Spark ML's `f1`.
    F1,
    /// The mean precision of the classes, weighted by how often each is a label.
    WeightedPrecision,
    /// The mean recall of the classes, weighted by how often each is a label.
    WeightedRecall,
    /// The plain mean of the classes' f1, as scikit-learn's `f1_macro`.
    MacroF1,
    /// The root of the mean squared error.
    Rmse,
    /// The mean squared error.
    Mse,
    /// The mean absolute error.
    Mae,
    /// One less the squared error's share of the label's variation.
    R2,
    /// The variance that the predictions explain, as Spark ML's `var`.
    ExplainedVariance,
    /// See [`silhouette`].
    Silhouette,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 16] = [
        Self::AreaUnderRoc,
        Self::AreaUnderPr,
        Self::LogLoss,
        Self::Accuracy,
        Self::Brier,
        Self::CalibrationError,
        Self::F1,
        Self::WeightedPrecision,
        Self::WeightedRecall,
        Self::MacroF1,
        Self::Rmse,
        Self::Mse,
        Self::Mae,
        Self::R2,
        Self::ExplainedVariance,
        Self::Silhouette,
    ];

    /// The name in job files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::AreaUnderRoc => "area_under_roc",
            Self::AreaUnderPr => "area_under_pr",
            Self::LogLoss => "log_loss",
            Self::Accuracy => "accuracy",
            Self::Brier => "brier",
            Self::CalibrationError => "calibration_error",
            Self::F1 => "f1",
            Self::WeightedPrecision => "weighted_precision",
            Self::WeightedRecall => "weighted_recall",
            Self::MacroF1 => "macro_f1",
            Self::Rmse => "rmse",
            Self::Mse => "mse",
            Self::Mae => "mae",
            Self::R2 => "r2",
            Self::ExplainedVariance => "explained_variance",
            Self::Silhouette => "silhouette",
        }
    }

    /// The problems that it measures.
    pub fn problems(self) -> &'static [ProblemType] {
        match self {
            Self::AreaUnderRoc | Self::AreaUnderPr | Self::Brier => &[Binary],
            Self::LogLoss | Self::Accuracy | Self::CalibrationError | Self::F1 => &[Binary, Multiclass],
            Self::WeightedPrecision | Self::WeightedRecall | Self::MacroF1 => &[Multiclass],
            Self::Rmse | Self::Mse | Self::Mae | Self::R2 | Self::ExplainedVariance => &[Regression],
            Self::Silhouette => &[Clustering],
        }
    }

    /// The metrics of a problem.
    pub fn of(problem: ProblemType) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |metric| metric.problems().contains(&problem))
    }

    /// What candidates are ranked by when nothing else is said: Spark ML's defaults.
    pub fn default_of(problem: ProblemType) -> Self {
        match problem {
            Binary => Self::AreaUnderRoc,
            Multiclass => Self::F1,
            Regression => Self::Rmse,
            Clustering => Self::Silhouette,
        }
    }

    /// Checks that it measures a problem.
    ///
    /// # Errors
    /// The metrics that do.
    pub fn check(self, problem: ProblemType) -> Result<()> {
        if self.problems().contains(&problem) {
            return Ok(());
        }
        let names = Self::of(problem).map(Self::name).collect::<Vec<_>>().join(", ");
        Err(MlError::Invalid(format!("metric {self} does not measure a {problem} problem; expected one of {names}")))
    }

    /// Whether more is better.
    pub fn larger_is_better(self) -> bool {
        !matches!(self, Self::LogLoss | Self::Brier | Self::CalibrationError | Self::Rmse | Self::Mse | Self::Mae)
    }

    /// Whether one value beats another; NaN beats nothing.
    pub fn is_better(self, value: f64, than: f64) -> bool {
        if self.larger_is_better() { value > than } else { value < than }
    }

    /// The metric of some rows.
    ///
    /// # Errors
    /// Those of the metric's function; a problem that it does not measure.
    pub fn compute(self, rows: &Predicted<'_>) -> Result<f64> {
        self.check(rows.problem)?;
        let (predictions, labels) = (rows.predictions, rows.labels);
        let is_binary = rows.problem == Binary;
        match self {
            Self::AreaUnderRoc => area_under_roc(predictions, labels),
            Self::AreaUnderPr => area_under_pr(predictions, labels),
            Self::LogLoss if is_binary => log_loss(predictions, labels),
            Self::LogLoss => multiclass_log_loss(predictions, labels, rows.n_classes),
            Self::Accuracy if is_binary => accuracy(predictions, labels, rows.threshold),
            Self::Brier => brier(predictions, labels),
            Self::CalibrationError if is_binary => calibration_error(predictions, labels),
            Self::CalibrationError => multiclass_calibration_error(predictions, labels, rows.n_classes),
            Self::F1 if is_binary => f1(predictions, labels, rows.threshold),
            Self::Accuracy | Self::F1 | Self::WeightedPrecision | Self::WeightedRecall | Self::MacroF1 => {
                let means = ClassMeans::of_confusion(&confusion(predictions, labels, rows.n_classes)?);
                Ok(match self {
                    Self::Accuracy => means.accuracy,
                    Self::F1 => means.weighted_f1,
                    Self::WeightedPrecision => means.weighted_precision,
                    Self::WeightedRecall => means.weighted_recall,
                    _ => means.macro_f1,
                })
            }
            Self::Silhouette => match rows.x {
                Some(x) => silhouette(x, predictions),
                None => Err(MlError::Invalid("a silhouette needs the features of the rows".to_owned())),
            },
            Self::Rmse | Self::Mse | Self::Mae | Self::R2 | Self::ExplainedVariance => {
                let mut metrics = RegressionMetrics::empty();
                predictions.iter().zip(labels).for_each(|(prediction, label)| metrics.add(*prediction, *label));
                let [mse, rmse, mae, r2, explained] = metrics.numbers();
                let number = match self {
                    Self::Mse => mse,
                    Self::Rmse => rmse,
                    Self::Mae => mae,
                    Self::R2 => r2,
                    _ => explained,
                };
                Ok(number.unwrap_or(f64::NAN))
            }
        }
    }
}

impl FromStr for Metric {
    type Err = MlError;

    /// Reads our names and Spark's (`areaUnderROC`, `logLoss`).
    fn from_str(text: &str) -> Result<Self> {
        let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
        Self::ALL.into_iter().find(|m| plain(m.name()) == plain(text)).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            MlError::Invalid(format!(
                "there is no metric {text:?}{}; expected one of {}",
                did_you_mean(text, names),
                names.join(", ")
            ))
        })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<String> for Metric {
    type Error = MlError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.name().to_owned()
    }
}
