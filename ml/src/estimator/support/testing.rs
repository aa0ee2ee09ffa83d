//! Data of the tests, by the formulas of `tests/fixtures/estimators.py`.

use std::sync::Arc;

use super::random::mix;
use crate::estimator::{Params, ProblemType};
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features, Matrix};

/// The expected numbers, made by `tests/fixtures/estimators.py`.
pub(crate) fn fixture() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/estimators.json")).unwrap()
}

/// The expected clusters, made by `tests/fixtures/clusters.py`.
pub(crate) fn clusters_fixture() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/clusters.json")).unwrap()
}

/// The rows of one data set of [`clusters_fixture`].
pub(crate) fn numbers(data: &serde_json::Value) -> Features {
    let rows: Vec<Vec<f64>> = serde_json::from_value(data["rows"].clone()).unwrap();
    let feature = |i| Feature { name: format!("x{i}"), kind: FeatureKind::Number };
    let column = |i: usize| FeatureValues::Number(rows.iter().map(|row| row[i]).collect());
    let n = rows[0].len();
    Features { features: (0..n).map(feature).collect(), values: (0..n).map(column).collect(), n_rows: rows.len() }
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
    Matrix::new(Features { features: features.into(), values, n_rows }, label, ProblemType::Binary)
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

/// The expected numbers of linear models, made by `tests/fixtures/linear_models.py`.
pub(crate) fn linear_fixture() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/linear_models.json")).unwrap()
}

/// [`linear_data`] with a label of another problem, as `tests/fixtures/linear_models.py` has them: `binary`, `number`,
/// `count`, `positive` or `class`.
pub(crate) fn labelled_data(n: usize, label: &str) -> Matrix {
    let matrix = linear_data(n);
    let effect = [0.5, -1.0, 0.0, 1.0, 0.3, 0.0];
    let FeatureValues::Category(category) = matrix.x.values[6].clone() else { unreachable!() };
    let x = |j: usize, i: usize| match &matrix.x.values[j] {
        FeatureValues::Number(v) => v[i],
        FeatureValues::Category(_) => unreachable!(),
    };
    let value = |i: usize| {
        let effect = effect[category[i] as usize];
        let logit = 0.8 * x(0, i) - 0.5 * x(1, i) + 0.1 * x(2, i) - 0.01 * x(3, i) + effect;
        match label {
            "binary" => matrix.label[i],
            "number" => 3.0 + 2.0 * x(0, i) - x(1, i) + 0.3 * x(2, i) + 0.02 * x(3, i) + effect + 4.0 * unit(i, 9),
            "count" => ((0.3 * x(0, i) - 0.2 * x(1, i) + 0.3 * effect).exp() * 4.0 * unit(i, 10)).floor(),
            "positive" => (0.2 * x(0, i) + 0.1 * x(1, i) - 0.3 * effect).exp() * (0.2 + unit(i, 11)),
            "class" => {
                let scores = [
                    logit + 3.0 * unit(i, 12),
                    0.3 * x(2, i) - x(0, i) + 3.0 * unit(i, 13),
                    1.5 + x(1, i) - effect + 3.0 * unit(i, 14),
                ];
                (0..3).fold(0, |best, k| if scores[k] > scores[best] { k } else { best }) as f64
            }
            other => unreachable!("no label {other}"),
        }
    };
    let labels: Vec<f64> = (0..n).map(value).collect();
    let problem = match label {
        "binary" => ProblemType::Binary,
        "class" => ProblemType::Multiclass,
        _ => ProblemType::Regression,
    };
    Matrix::new(matrix.x, labels, problem)
}

/// Weights of rows, a quarter of them 0.
pub(crate) fn some_weights(n: usize) -> Arc<[f64]> {
    (0..n).map(|i| (unit(i, 15) * 4.0).floor() * 0.5).collect()
}

/// The data set of a name in [`linear_fixture`], and its cases.
pub(crate) fn data_set(name: &str, problem: ProblemType) -> (Matrix, Vec<serde_json::Value>) {
    let fixture = linear_fixture();
    let set = fixture["datasets"].as_array().unwrap().iter().find(|set| set["name"] == name).unwrap().clone();
    let columns: Vec<Vec<f64>> = serde_json::from_value(set["x"].clone()).unwrap();
    let label: Vec<f64> = serde_json::from_value(set["y"].clone()).unwrap();
    let number = |i| Feature { name: format!("x{i}"), kind: FeatureKind::Number };
    let features: Vec<Feature> = (0..columns.len()).map(number).collect();
    let values = columns.into_iter().map(|v| FeatureValues::Number(v.into())).collect();
    let n_rows = label.len();
    let matrix = Matrix::new(Features { features: features.into(), values, n_rows }, label, problem);
    (matrix, set["cases"].as_array().unwrap().clone())
}

/// Checks coefficients and an intercept against a reference's, to 1e-4: both were run to convergence, and the
/// solvers of the references stop a few digits before ours.
pub(crate) fn check_weights(
    what: &serde_json::Value,
    (coefficients, intercept): (&[(String, f64)], f64),
    expected: (&serde_json::Value, &serde_json::Value),
) {
    let close = |got: f64, want: f64| (got - want).abs() <= 1e-4 * want.abs() + 1e-6;
    let wanted: Vec<f64> = serde_json::from_value(expected.0.clone()).unwrap();
    assert_eq!(wanted.len(), coefficients.len());
    let got: Vec<f64> = coefficients.iter().map(|c| c.1).collect();
    assert!(got.iter().zip(&wanted).all(|(a, b)| close(*a, *b)), "{what}: expected {wanted:?}, got {got:?}");
    let wanted = expected.1.as_f64().unwrap();
    assert!(close(intercept, wanted), "{what}: expected the intercept {wanted}, got {intercept}");
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
