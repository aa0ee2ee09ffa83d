//! A model's figures, from its scores and the labels.

use tidemill_ml::eval::{self, Metric};

use super::record::{CalibrationBin, Evaluation};

/// How many points of an ROC curve are kept.
const ROC_POINTS: usize = 200;

impl Evaluation {
    /// All figures of scores against labels, 0 or 1.
    ///
    /// # Errors
    /// Labels of one class only, scores that are not numbers.
    pub fn of(scores: &[f64], labels: &[f64], threshold: f64) -> tidemill_ml::Result<Self> {
        let e = eval::evaluate(scores, labels, threshold)?;
        let roc = eval::roc_curve(scores, labels, ROC_POINTS)?;
        let bin = |b: &eval::CalibrationBin| CalibrationBin {
            n_rows: b.n_rows,
            mean_score: b.mean_score,
            actual_rate: b.positive_rate,
        };
        Ok(Self {
            n_rows: e.n_rows,
            area_under_roc: e.area_under_roc,
            area_under_pr: e.area_under_pr,
            log_loss: e.log_loss,
            accuracy: e.accuracy,
            brier: e.brier,
            positive_rate: e.n_positives as f64 / e.n_rows as f64,
            roc_curve: roc.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect(),
            calibration: e.calibration.iter().map(bin).collect(),
        })
    }

    /// One metric's figure.
    pub fn get(&self, metric: Metric) -> f64 {
        match metric {
            Metric::AreaUnderRoc => self.area_under_roc,
            Metric::AreaUnderPr => self.area_under_pr,
            Metric::LogLoss => self.log_loss,
            Metric::Accuracy => self.accuracy,
            Metric::Brier => self.brier,
        }
    }
}
