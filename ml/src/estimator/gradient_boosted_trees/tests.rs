use serde_json::json;

use super::*;
use crate::estimator::FitContext;
use crate::estimator::support::testing::{fixture, params, slice, tree_data};
use crate::eval;
use crate::matrix::FeatureValues;

fn fit_half(matrix: &Matrix, candidates: &[Params]) -> Vec<GradientBoostedTreesModel> {
    let rows: Vec<u32> = (0..matrix.label.len() as u32 / 2).collect();
    fit::fit(matrix, &rows, candidates, &FitContext::new(3)).into_iter().map(|m| m.unwrap()).collect()
}

/// The same kind of tree on the same data: areas within 0.004 and log losses within 0.006 of LightGBM's, the noise
/// that other bins and other ties leave on 10,000 rows.
#[test]
fn trees_are_as_good_as_lightgbm_s() {
    let n = 20_000;
    let matrix = tree_data(n);
    let test = slice(&matrix.x, n / 2..n);
    let labels = &matrix.label[n / 2..];
    for expected in fixture()["gradient_boosted_trees"].as_array().unwrap() {
        let pick = |k: &str| (k.to_owned(), expected[k].clone());
        let candidate: Params = ["max_iter", "max_leaves", "max_depth"].map(pick).into();
        let scores = fit_half(&matrix, &[candidate])[0].predict(&test).unwrap();
        let area = eval::area_under_roc(&scores, labels).unwrap();
        let loss = eval::log_loss(&scores, labels).unwrap();
        assert!((area - expected["area_under_roc"].as_f64().unwrap()).abs() < 0.004, "{area} {expected}");
        assert!((loss - expected["log_loss"].as_f64().unwrap()).abs() < 0.006, "{loss} {expected}");
    }
}

#[test]
fn candidates_that_differ_in_trees_only_are_one_run() {
    let matrix = tree_data(6_000);
    let sampled = |n| params(json!({"max_iter": n, "subsampling_rate": 0.7, "feature_subset": 0.7}));
    let together = fit_half(&matrix, &[sampled(3), sampled(9), sampled(5)]);
    for (model, n) in together.iter().zip([3, 9, 5]) {
        assert_eq!(model.n_trees(), n);
        assert_eq!(model.save().unwrap(), fit_half(&matrix, &[sampled(n)])[0].save().unwrap());
    }
}

#[test]
fn training_scores_are_those_of_the_saved_thresholds() {
    // A threshold that did not match its bin would send rows of training elsewhere than in the fit: the mean of the
    // scores would leave that of the labels, to which boosting brings it.
    let matrix = tree_data(6_000);
    let model = &fit_half(&matrix, &[params(json!({"max_iter": 60, "max_bins": 16}))])[0];
    let scores = model.predict(&slice(&matrix.x, 0..3_000)).unwrap();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    assert!((mean(&scores) - mean(&matrix.label[..3_000])).abs() < 1e-3);
}

#[test]
fn importances_find_what_matters() {
    let matrix = tree_data(20_000);
    let importances = fit_half(&matrix, &[Params::new()])[0].importances();
    assert_eq!(importances.len(), 7);
    assert!((importances.iter().map(|i| i.1).sum::<f64>() - 1.0).abs() < 1e-12);
    let noise = importances[4].1 + importances[5].1;
    assert!([0, 1, 6].iter().all(|i| importances[*i].1 > 5.0 * noise), "{importances:?}");
}

#[test]
fn leaves_and_depth_are_bounded() {
    let matrix = tree_data(6_000);
    let text = |p: serde_json::Value| {
        let model = fit_half(&matrix, &[params(p)]).remove(0);
        let bytes = &model.save().unwrap()["model.json"];
        let json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        json["trees"][0].clone()
    };
    let leaves = |tree: &serde_json::Value| tree["value"].as_array().unwrap().len();
    assert_eq!(leaves(&text(json!({"max_iter": 1, "max_leaves": 7}))), 7);
    assert_eq!(leaves(&text(json!({"max_iter": 1, "max_depth": 1}))), 2);
    assert!(leaves(&text(json!({"max_iter": 1, "max_depth": 3, "min_instances_per_node": 1}))) <= 8);
    assert_eq!(leaves(&text(json!({"max_iter": 1, "max_depth": 5, "min_instances_per_node": 1500}))), 2);
}

#[test]
fn missing_numbers_and_unknown_categories_are_scored() {
    let matrix = tree_data(4_000);
    let model = &fit_half(&matrix, &[Params::new()])[0];
    let mut x = slice(&matrix.x, 0..10);
    x.values = x
        .values
        .iter()
        .map(|v| match v {
            FeatureValues::Number(_) => FeatureValues::Number(vec![f64::NAN; 10].into()),
            FeatureValues::Category(_) => FeatureValues::Category(vec![u32::MAX; 10].into()),
        })
        .collect();
    let scores = model.predict(&x).unwrap();
    assert!(scores.iter().all(|s| *s == scores[0] && *s > 0.0 && *s < 1.0));
}
