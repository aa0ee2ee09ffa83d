//! How long the estimators take on 200,000 rows of 25 numbers and 5 categories: `cargo run -p tidemill-ml --example
//! training_time [part of a line's name]`.
#![allow(clippy::print_stdout, reason = "an example's output")]

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tidemill_ml::estimator::{
    DecisionTree, Estimator, FitContext, GradientBoostedTrees, LogisticRegression, MultilayerPerceptron, Params,
    ProblemType, RandomForest,
};
use tidemill_ml::eval::area_under_roc;
use tidemill_ml::matrix::{Feature, FeatureKind, FeatureValues, Features, Matrix};

const ROWS: usize = 200_000;
const NUMBERS: usize = 25;
const LABELS: [usize; 5] = [16, 105, 3, 24, 12];

fn main() {
    let matrix = matrix();
    let params = |text: serde_json::Value| serde_json::from_value::<Params>(text).unwrap_or_default();
    let grid = [0.0, 0.001, 0.01, 0.1]
        .iter()
        .flat_map(|r| [0.0, 0.5, 1.0].iter().map(move |e| params(json!({"reg_param": r, "elastic_net_param": e}))));
    time("logistic regression, 12 candidates", &LogisticRegression, &matrix, &grid.collect::<Vec<_>>());
    let trees = [json!({"max_iter": 100, "max_leaves": 31})].map(params);
    time("100 trees of 31 leaves", &GradientBoostedTrees, &matrix, &trees);
    let trees = [(3, 0.1), (5, 0.1), (7, 0.1), (5, 0.2)]
        .iter()
        .flat_map(|(d, s)| [50, 100].map(|n| params(json!({"max_iter": n, "max_depth": d, "step_size": s}))));
    time("trees, 8 candidates", &GradientBoostedTrees, &matrix, &trees.collect::<Vec<_>>());
    let forest = [json!({"num_trees": 100, "max_depth": 12})].map(params);
    time("forest, 100 trees of depth 12", &RandomForest, &matrix, &forest);
    let forest = [json!({"num_trees": 20, "max_depth": 0})].map(params);
    time("deep forest, 20 trees", &RandomForest, &matrix, &forest);
    let tree = [json!({"max_depth": 12})].map(params);
    time("decision tree of depth 12", &DecisionTree, &matrix, &tree);
    let networks = [json!({"layers": [32], "max_iter": 5}), json!({"layers": [64, 32], "max_iter": 5})].map(params);
    time("perceptron, 2 candidates, 5 epochs", &MultilayerPerceptron, &matrix, &networks);
}

/// Times one estimator, unless the command line names others.
fn time(what: &str, estimator: &dyn Estimator, matrix: &Matrix, candidates: &[Params]) {
    if std::env::args().nth(1).is_some_and(|wanted| !what.contains(&wanted)) {
        return;
    }
    let rows: Vec<u32> = (0..ROWS as u32).collect();
    let start = Instant::now();
    let models = estimator.fit(matrix, &rows, candidates, &FitContext::new(1));
    let fitted = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for model in models.into_iter().take(1).flatten() {
        let area = model.predict(&matrix.x).and_then(|s| area_under_roc(&s, &matrix.label)).unwrap_or(f64::NAN);
        println!(
            "{what}: fit {fitted:.2} s, score and evaluate {:.2} s, area {area:.4}",
            start.elapsed().as_secs_f64()
        );
    }
}

fn matrix() -> Matrix {
    let mut state = 1u64;
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut features = Vec::new();
    let mut values = Vec::new();
    let mut margin = vec![-1.0; ROWS];
    for j in 0..NUMBERS {
        let column: Vec<f64> = (0..ROWS).map(|_| unit() + unit() + unit() - 1.5).collect();
        margin.iter_mut().zip(&column).for_each(|(m, v)| *m += v * 0.8 / (j + 1) as f64);
        features.push(Feature { name: format!("x{j}"), kind: FeatureKind::Number });
        values.push(FeatureValues::Number(column.into()));
    }
    for (j, n) in LABELS.iter().enumerate() {
        let column: Vec<u32> = (0..ROWS).map(|_| (unit() * unit() * *n as f64) as u32).collect();
        margin.iter_mut().zip(&column).for_each(|(m, v)| *m += f64::from(v * 7 % 5) * 0.1);
        let labels = (0..*n).map(|i| i.to_string()).collect();
        features.push(Feature { name: format!("c{j}"), kind: FeatureKind::Category { labels, indicators: n - 1 } });
        values.push(FeatureValues::Category(column.into()));
    }
    let label: Vec<f64> = margin.iter().map(|m| f64::from(u8::from(unit() < 1.0 / (1.0 + (-m).exp())))).collect();
    let features: Arc<[Feature]> = features.into();
    Matrix::new(Features { features, values, n_rows: ROWS }, label, ProblemType::Binary)
}
