//! Data of the tests, by the formulas of `tests/fixtures/estimators.py`.

use std::sync::Arc;

use super::random::mix;
use crate::estimator::Params;
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features, Matrix};

/// The expected numbers, made by `tests/fixtures/estimators.py`.
pub(crate) fn fixture() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/estimators.json")).unwrap()
}

/// The number in 0..1 of a row and column.
pub(crate) fn unit(row: usize, column: u64) -> f64 {
    (mix(mix(row as u64) ^ column) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Parameters from JSON.
pub(crate) fn params(json: serde_json::Value) -> Params {
    serde_json::from_value(json).unwrap()
}

/// A matrix of numbers `x0..`, a category `c` and a label.
pub(crate) fn matrix(numbers: Vec<Vec<f64>>, category: Vec<u32>, n_labels: usize, label: Vec<f64>) -> Matrix {
    let n_rows = label.len();
    let number = |i| Feature { name: format!("x{i}"), kind: FeatureKind::Number };
    let labels = (0..n_labels).map(|i| format!("l{i}")).collect();
    let kind = FeatureKind::Category { labels, indicators: n_labels - 1 };
    let features: Vec<Feature> = (0..numbers.len()).map(number).chain([Feature { name: "c".into(), kind }]).collect();
    let values = numbers.into_iter().map(|v| FeatureValues::Number(v.into()));
    let values = values.chain([FeatureValues::Category(category.into())]).collect();
    Matrix {
        x: Features { features: features.into(), values, n_rows },
        label: label.into(),
        fold: vec![0; n_rows].into(),
    }
}

/// Data with a linear margin.
pub(crate) fn linear_data(n: usize) -> Matrix {
    let column = |f: &dyn Fn(usize) -> f64| (0..n).map(f).collect::<Vec<f64>>();
    let numbers = vec![
        column(&|i| unit(i, 0) * 4.0 - 2.0),
        column(&|i| (unit(i, 0) * 4.0 - 2.0) * 0.5 + unit(i, 1) * 3.0),
        column(&|i| unit(i, 2) * 10.0),
        column(&|i| unit(i, 3) * unit(i, 3) * 100.0),
        column(&|i| unit(i, 6)),
        column(&|i| unit(i, 7)),
    ];
    let category: Vec<u32> = (0..n).map(|i| (unit(i, 4) * 6.0) as u32).collect();
    let effect = [0.5, -1.0, 0.0, 1.0, 0.3, 0.0];
    let label = column(&|i| {
        let margin = 0.8 * numbers[0][i] - 0.5 * numbers[1][i] + 0.1 * numbers[2][i] - 0.01 * numbers[3][i]
            + effect[category[i] as usize];
        f64::from(u8::from(unit(i, 5) < 1.0 / (1.0 + (-margin).exp())))
    });
    matrix(numbers, category, 6, label)
}

/// Data with steps, products, missing values and a category of 12 labels.
pub(crate) fn tree_data(n: usize) -> Matrix {
    let mut numbers: Vec<Vec<f64>> = (0..6).map(|j| (0..n).map(|i| unit(i, j)).collect()).collect();
    let category: Vec<u32> = (0..n).map(|i| (unit(i, 6) * 12.0) as u32).collect();
    let label = (0..n).map(|i| {
        let step = if numbers[0][i] > 0.5 && numbers[1][i] > 0.3 { 3.0 } else { 0.0 };
        let effect = f64::from((category[i] * 7) % 12) / 6.0;
        let margin = step + 2.0 * numbers[2][i] * numbers[3][i] + effect - 2.5;
        f64::from(u8::from(unit(i, 7) < 1.0 / (1.0 + (-margin).exp())))
    });
    let label: Vec<f64> = label.collect();
    for i in (0..n).filter(|&i| unit(i, 8) < 0.1) {
        numbers[1][i] = f64::NAN;
    }
    matrix(numbers, category, 12, label)
}

/// Some rows of a matrix's features.
pub(crate) fn slice(x: &Features, range: std::ops::Range<usize>) -> Features {
    let values = x.values.iter().map(|values| match values {
        FeatureValues::Number(v) => FeatureValues::Number(v[range.clone()].into()),
        FeatureValues::Category(v) => FeatureValues::Category(v[range.clone()].into()),
    });
    Features { features: Arc::clone(&x.features), values: values.collect(), n_rows: range.len() }
}
