//! The metric by which candidates are compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{accuracy, area_under_pr, area_under_roc, brier, log_loss};
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

/// The threshold of [`Metric::Accuracy`].
const THRESHOLD: f64 = 0.5;

/// A metric of scores against labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// See [`area_under_roc`].
    AreaUnderRoc,
    /// See [`area_under_pr`].
    AreaUnderPr,
    /// See [`log_loss`].
    LogLoss,
    /// See [`accuracy`], at the threshold 0.5.
    Accuracy,
    /// See [`brier`].
    Brier,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 5] = [Self::AreaUnderRoc, Self::AreaUnderPr, Self::LogLoss, Self::Accuracy, Self::Brier];

    /// The name in job files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::AreaUnderRoc => "area_under_roc",
            Self::AreaUnderPr => "area_under_pr",
            Self::LogLoss => "log_loss",
            Self::Accuracy => "accuracy",
            Self::Brier => "brier",
        }
    }

    /// Whether more is better.
    pub fn larger_is_better(self) -> bool {
        matches!(self, Self::AreaUnderRoc | Self::AreaUnderPr | Self::Accuracy)
    }

    /// Whether one value beats another; NaN beats nothing.
    pub fn is_better(self, value: f64, than: f64) -> bool {
        if self.larger_is_better() { value > than } else { value < than }
    }

    /// The metric of some rows.
    ///
    /// # Errors
    /// Those of the metric's function.
    pub fn compute(self, scores: &[f64], labels: &[f64]) -> Result<f64> {
        match self {
            Self::AreaUnderRoc => area_under_roc(scores, labels),
            Self::AreaUnderPr => area_under_pr(scores, labels),
            Self::LogLoss => log_loss(scores, labels),
            Self::Accuracy => accuracy(scores, labels, THRESHOLD),
            Self::Brier => brier(scores, labels),
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
