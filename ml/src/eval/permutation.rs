//! Importance by permutation: how much worse a model does when it cannot tell a feature.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Metric, Predicted};
use crate::estimator::{FitContext, FoldKey, Model, fold_hash};
use crate::matrix::{FeatureValues, Features};
use crate::{MlError, Result};

/// How often each feature is shuffled.
pub const N_REPEATS: u64 = 5;
/// The most rows that are predicted; of more, those with the lowest hashes of their numbers. It bounds the cost: a
/// prediction of them for each feature and repeat.
pub const MOST_ROWS: usize = 20_000;

/// How much one feature matters to a metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PermutationImportance {
    /// The feature.
    pub feature: String,
    /// By how much the metric gets worse when the feature is shuffled, the mean of [`N_REPEATS`]; below 0 when better.
    pub mean: f64,
    /// The deviation over the repeats, by their number.
    pub deviation: f64,
}

/// Shuffles each feature's values among the rows and compares the metric with that of the rows as they are (Breiman
/// 2001), as scikit-learn's `permutation_importance` does: in the features' order.
///
/// The context's seed chooses rows and shuffles, by hash, the same on any machine and for any number of threads.
/// Features that tell the same hide each other.
///
/// # Errors
/// Rows without their features, errors of the model and the metric, [`MlError::Cancelled`].
pub fn permutation_importances(
    model: &dyn Model,
    metric: Metric,
    rows: &Predicted<'_>,
    ctx: &FitContext,
) -> Result<Vec<PermutationImportance>> {
    let Some(x) = rows.x else {
        return Err(MlError::Invalid("permutation importances need the features of the rows".to_owned()));
    };
    let sample = sample(x.n_rows, ctx.seed);
    let x = x.take(&sample);
    let labels: Vec<f64> = sample.iter().map(|row| rows.labels[*row as usize]).collect();
    let score = |permuted: &Features| {
        ctx.check()?;
        let predictions = &model.predict(permuted)?[..];
        metric.compute(&Predicted { predictions, labels: &labels, x: Some(&x), ..*rows })
    };
    let before = score(&x)?;
    let worse = |after: f64| if metric.larger_is_better() { before - after } else { after - before };
    let of_feature = |(place, feature): (usize, &crate::matrix::Feature)| {
        let of_repeat = |repeat| Ok(worse(score(&with_shuffled(&x, place, repeat, ctx.seed))?));
        let changes = (0..N_REPEATS).map(of_repeat).collect::<Result<Vec<f64>>>()?;
        Ok(importance(feature.name.clone(), &changes))
    };
    x.features.par_iter().enumerate().map(of_feature).collect()
}

/// The rows that are predicted, ascending.
fn sample(n_rows: usize, seed: u64) -> Vec<u32> {
    let mut rows = by_hash(n_rows, seed);
    rows.truncate(MOST_ROWS);
    rows.sort_unstable();
    rows
}

/// Row numbers in the order of their hashes.
fn by_hash(n_rows: usize, seed: u64) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..n_rows as u32).collect();
    rows.sort_unstable_by_key(|row| (fold_hash(FoldKey::Number(i64::from(*row)), seed), *row));
    rows
}

fn with_shuffled(x: &Features, place: usize, repeat: u64, seed: u64) -> Features {
    let number = place as u64 * N_REPEATS + repeat + 1;
    let order = by_hash(x.n_rows, fold_hash(FoldKey::Number(number as i64), seed));
    let mut shuffled = x.clone();
    shuffled.values[place] = match &x.values[place] {
        FeatureValues::Number(v) => FeatureValues::Number(in_order(v, &order)),
        FeatureValues::Category(v) => FeatureValues::Category(in_order(v, &order)),
    };
    shuffled
}

fn in_order<T: Copy>(values: &[T], order: &[u32]) -> Arc<[T]> {
    order.iter().map(|row| values[*row as usize]).collect()
}

fn importance(feature: String, changes: &[f64]) -> PermutationImportance {
    let n = changes.len() as f64;
    let mean = changes.iter().sum::<f64>() / n;
    let variance = changes.iter().map(|change| (change - mean) * (change - mean)).sum::<f64>() / n;
    PermutationImportance { feature, mean, deviation: variance.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimator::testing::{of_numbers, unit};
    use crate::estimator::{Artifacts, ProblemType};

    /// A sum of features, each times its weight.
    #[derive(Debug)]
    struct Linear([f64; 4]);

    impl Model for Linear {
        fn estimator(&self) -> &str {
            "linear"
        }

        fn predict(&self, x: &Features) -> Result<Vec<f64>> {
            let value = |j: usize, row: usize| match &x.values[j] {
                FeatureValues::Number(v) => v[row],
                FeatureValues::Category(_) => unreachable!(),
            };
            let predict = |row| self.0.iter().enumerate().map(|(j, weight)| weight * value(j, row)).sum();
            Ok((0..x.n_rows).map(predict).collect())
        }

        fn save(&self) -> Result<Artifacts> {
            unreachable!()
        }
    }

    fn importances(n: usize, metric: Metric, seed: u64) -> Vec<PermutationImportance> {
        let columns: Vec<Vec<f64>> = (0..4).map(|j| (0..n).map(|i| unit(i, j)).collect()).collect();
        let label = (0..n).map(|i| 3.0 * columns[0][i] - columns[1][i] + 0.5 * columns[2][i] + unit(i, 4)).collect();
        let matrix = of_numbers(columns, label, ProblemType::Regression);
        let rows = Predicted {
            problem: ProblemType::Regression,
            n_classes: 0,
            predictions: &[],
            labels: &matrix.label,
            threshold: 0.5,
            x: Some(&matrix.x),
        };
        permutation_importances(&Linear([3.0, -1.0, 0.5, 0.0]), metric, &rows, &FitContext::new(seed)).unwrap()
    }

    /// Each of our means of 5 repeats is within three standard errors of scikit-learn's of 200.
    #[test]
    fn importances_are_those_of_scikit_learn() {
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/permutation.json")).unwrap();
        for (metric, expected) in fixture["importances"].as_object().unwrap() {
            let ours = importances(1_000, metric.parse().unwrap(), 1);
            for (ours, theirs) in ours.iter().zip(expected.as_array().unwrap()) {
                let of = |name: &str| theirs[name].as_f64().unwrap();
                let error = of("deviation") * (1.0f64 / 5.0 + 1.0 / 200.0).sqrt();
                let apart = (ours.mean - of("mean")).abs();
                assert!(apart <= 3.0 * error + 1e-12, "{metric} {ours:?} {theirs}");
            }
            assert_eq!((ours[3].mean, ours[3].deviation), (0.0, 0.0));
        }
    }

    #[test]
    fn the_seed_decides_and_rows_are_bounded() {
        let of = |n, seed| importances(n, Metric::Rmse, seed);
        assert_eq!(of(300, 1), of(300, 1));
        assert_ne!(of(300, 1), of(300, 2));
        let rows = sample(MOST_ROWS + 500, 3);
        assert!(rows.len() == MOST_ROWS && rows.is_sorted() && rows != sample(MOST_ROWS + 500, 4));
        let bounded = of(MOST_ROWS + 500, 3);
        assert!((bounded[0].mean / of(MOST_ROWS, 3)[0].mean - 1.0).abs() < 0.05);
    }

    #[test]
    fn cancelled_work_stops() {
        let ctx = FitContext::new(1);
        ctx.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        let matrix = of_numbers(vec![vec![0.0, 1.0]; 4], vec![0.0, 1.0], ProblemType::Regression);
        let rows = Predicted {
            problem: ProblemType::Regression,
            n_classes: 0,
            predictions: &[],
            labels: &matrix.label,
            threshold: 0.5,
            x: Some(&matrix.x),
        };
        let found = permutation_importances(&Linear([1.0; 4]), Metric::Rmse, &rows, &ctx);
        assert!(matches!(found, Err(MlError::Cancelled)));
    }
}
