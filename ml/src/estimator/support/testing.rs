//! Data of the tests, by the formulas of `tests/fixtures/estimators.py`.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::random::mix;
use crate::Result;
use crate::estimator::sharded::{Kept, Outline, Shard, ShardRows, Shards};
use crate::estimator::{Estimator, FitContext, Model, Params, ProblemType};
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
    (of_numbers(columns, label, problem), set["cases"].as_array().unwrap().clone())
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

/// A matrix dealt to shards in this process, with an estimator that answers for them.
#[derive(Debug)]
pub(crate) struct TestShards<'a> {
    estimator: &'a dyn Estimator,
    outline: Outline,
    shards: Vec<TestShard>,
}

#[derive(Debug)]
struct TestShard {
    number: usize,
    rows: ShardRows,
    kept: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
    /// Whether nothing is kept, as where memory is short.
    forgets: bool,
}

impl<'a> TestShards<'a> {
    /// `n` shards, one of them without rows to train on where there are several.
    pub(crate) fn new(estimator: &'a dyn Estimator, matrix: &Matrix, n: usize, forgets: bool) -> Self {
        let n_full = n.max(2) as u64 - u64::from(n > 1);
        let shard = |number: usize| {
            let of_shard = |row: &u32| mix(u64::from(*row)) % n_full == number as u64 || n == 1;
            let numbers: Vec<u32> = (0..matrix.x.n_rows as u32).filter(of_shard).collect();
            let rows = (0..numbers.len() as u32).collect();
            let rows = ShardRows { matrix: Arc::new(take(matrix, &numbers)), rows };
            TestShard { number, rows, kept: Mutex::default(), forgets }
        };
        let outline =
            Outline { features: Arc::clone(&matrix.x.features), problem: matrix.problem, n_classes: matrix.n_classes };
        Self { estimator, outline, shards: (0..n).map(shard).collect() }
    }
}

impl Shards for TestShards<'_> {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn pass(&self, request: &str) -> Result<Vec<Vec<f64>>> {
        let sharded = self.estimator.sharded().unwrap();
        self.shards.iter().map(|shard| sharded.pass(shard, request, &FitContext::new(0))).collect()
    }

    fn sum(&self, request: &str) -> Result<Vec<i64>> {
        let sharded = self.estimator.sharded().unwrap();
        let mut all = Vec::new();
        for shard in &self.shards {
            sharded.sum(shard, request, &mut all, &FitContext::new(0))?;
        }
        Ok(all)
    }
}

impl Shard for TestShard {
    fn number(&self) -> usize {
        self.number
    }

    fn read(&self) -> Result<ShardRows> {
        Ok(self.rows.clone())
    }

    fn keep(&self, key: &str, gather: &mut dyn FnMut() -> Result<Kept>) -> Result<Arc<dyn Any + Send + Sync>> {
        if let Some(value) = self.kept.lock().unwrap().get(key) {
            return Ok(Arc::clone(value));
        }
        let value = gather()?.value;
        if !self.forgets {
            self.kept.lock().unwrap().insert(key.to_owned(), Arc::clone(&value));
        }
        Ok(value)
    }
}

/// Some rows of a matrix.
pub(crate) fn take(matrix: &Matrix, rows: &[u32]) -> Matrix {
    let numbers = |all: &Arc<[f64]>| rows.iter().map(|r| all[*r as usize]).collect();
    Matrix {
        x: matrix.x.take(rows),
        label: numbers(&matrix.label),
        weight: matrix.weight.as_ref().map(numbers),
        fold: rows.iter().map(|r| matrix.fold[*r as usize]).collect(),
        ..matrix.clone()
    }
}

/// scikit-learn's data sets, and how well its forests do on them, made by `tests/fixtures/forests.py`.
pub(crate) fn forests_fixture() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/forests.json")).unwrap()
}

/// A list of numbers.
pub(crate) fn number_list(list: &serde_json::Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A matrix of numbers `x0..` and a label.
pub(crate) fn of_numbers(columns: Vec<Vec<f64>>, label: Vec<f64>, problem: ProblemType) -> Matrix {
    let number = |i| Feature { name: format!("x{i}"), kind: FeatureKind::Number };
    let features = (0..columns.len()).map(number).collect();
    let values = columns.into_iter().map(|v| FeatureValues::Number(v.into())).collect();
    Matrix::new(Features { features, values, n_rows: label.len() }, label, problem)
}

/// The rows of a data set of [`forests_fixture`].
pub(crate) fn data_of(set: &serde_json::Value) -> Matrix {
    let problem = match set["name"].as_str().unwrap() {
        "diabetes" => ProblemType::Regression,
        "breast_cancer" => ProblemType::Binary,
        _ => ProblemType::Multiclass,
    };
    of_numbers(
        set["columns"].as_array().unwrap().iter().map(number_list).collect(),
        number_list(&set["label"]),
        problem,
    )
}

/// A third of the rows, as the scripts of the fixtures hold them out.
pub(crate) struct HeldOut {
    pub(crate) train: Vec<u32>,
    x: Features,
    label: Vec<f64>,
    problem: ProblemType,
}

impl HeldOut {
    pub(crate) fn third_of(matrix: &Matrix) -> Self {
        let (test, train): (Vec<u32>, Vec<u32>) = (0..matrix.label.len() as u32).partition(|row| row % 3 == 0);
        let label = test.iter().map(|row| matrix.label[*row as usize]).collect();
        Self { train, x: matrix.x.take(&test), label, problem: matrix.problem }
    }

    /// The share of rows whose most likely class is theirs, or the root mean square error of numbers.
    pub(crate) fn quality(&self, model: &dyn Model) -> f64 {
        let scores = model.predict(&self.x).unwrap();
        let n = self.label.len() as f64;
        if self.problem == ProblemType::Regression {
            return (scores.iter().zip(&self.label).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / n).sqrt();
        }
        let class = |row: &[f64]| match row {
            [one] => f64::from(u8::from(*one > 0.5)),
            _ => (0..row.len()).fold(0, |a, b| if row[b] > row[a] { b } else { a }) as f64,
        };
        let rows = scores.chunks_exact(model.n_outputs()).zip(&self.label);
        rows.filter(|(row, label)| class(row) == **label).count() as f64 / n
    }
}

/// The mean of our qualities, and how many standard errors it is from that of `mean`, `deviation` and `seeds`.
pub(crate) fn standard_errors_apart(ours: &[f64], theirs: &serde_json::Value) -> (f64, f64) {
    let n = ours.len() as f64;
    let mean = ours.iter().sum::<f64>() / n;
    let variance = ours.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    let of = |name: &str| theirs[name].as_f64().unwrap();
    (mean, (mean - of("mean")) / (variance / n + of("deviation") * of("deviation") / of("seeds")).sqrt())
}
