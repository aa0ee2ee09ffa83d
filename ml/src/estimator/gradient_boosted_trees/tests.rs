use serde_json::{Value, json};

use super::*;
use crate::MlError;
use crate::estimator::FitContext;
use crate::estimator::support::testing::{
    TestShards, data_of, fixture, forests_fixture, params, slice, standard_errors_apart, tree_data, unit,
};
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
    let text = |p: Value| {
        let model = fit_half(&matrix, &[params(p)]).remove(0);
        let bytes = &model.save().unwrap()["model.json"];
        let json: Value = serde_json::from_slice(bytes).unwrap();
        json["trees"][0].clone()
    };
    let leaves = |tree: &Value| tree["value"].as_array().unwrap().len();
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

/// Rows of [`tree_data`] with a skewed number as label, as `tests/fixtures/boosted_trees.py` makes them.
fn number_data(n: usize, weighted: bool) -> Matrix {
    let label = signal(n).into_iter().enumerate().map(|(i, signal)| {
        let outlier = if unit(i, 10) < 0.02 { 20.0 } else { 0.0 };
        signal * (0.5 + unit(i, 9)) + outlier
    });
    labelled(n, label.collect(), ProblemType::Regression, weighted)
}

/// Rows of [`tree_data`] with one of three classes as label.
fn class_data(n: usize, weighted: bool) -> Matrix {
    let class = |(i, signal): (usize, f64)| ((signal + 2.0 * unit(i, 11)) / 2.0).floor().clamp(0.0, 2.0);
    labelled(n, signal(n).into_iter().enumerate().map(class).collect(), ProblemType::Multiclass, weighted)
}

fn signal(n: usize) -> Vec<f64> {
    let of = |i: usize| {
        let step = if unit(i, 0) > 0.5 && unit(i, 1) > 0.3 { 3.0 } else { 0.0 };
        let category = (unit(i, 6) * 12.0).floor() as u32;
        step + 2.0 * unit(i, 2) * unit(i, 3) + f64::from((category * 7) % 12) / 6.0
    };
    (0..n).map(of).collect()
}

fn labelled(n: usize, label: Vec<f64>, problem: ProblemType, weighted: bool) -> Matrix {
    let mut matrix = Matrix::new(tree_data(n).x, label, problem);
    matrix.weight = weighted.then(|| (0..n).map(|i| 0.2 + 2.0 * unit(i, 12)).collect());
    matrix
}

fn expected(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/boosted_trees.json")).unwrap();
    all[part].as_array().unwrap().clone()
}

/// The same losses, steps and leaves: on 10,000 rows other bins and ties leave about 1 % of the loss.
#[test]
fn losses_of_numbers_are_those_of_lightgbm() {
    let n = 20_000;
    for expected in expected("numbers") {
        let matrix = number_data(n, expected["weighted"] == true);
        let candidate = json!({"max_iter": 60, "max_leaves": 31, "loss_type": expected["loss_type"]});
        let scores = fit_half(&matrix, &[params(candidate)])[0].predict(&slice(&matrix.x, n / 2..n)).unwrap();
        let loss = |y: f64, p: f64| match expected["loss_type"].as_str().unwrap() {
            "squared" => (y - p) * (y - p),
            "absolute" => (y - p).abs(),
            "huber" if (y - p).abs() <= 0.9 => (y - p) * (y - p) / 2.0,
            "huber" => 0.9 * ((y - p).abs() - 0.45),
            "quantile" => (0.9 * (y - p)).max(-0.1 * (y - p)),
            _ => p - y * p.ln(),
        };
        let total: f64 = matrix.label[n / 2..].iter().zip(&scores).map(|(y, p)| loss(*y, *p)).sum();
        let (mean, want) = (total / (n / 2) as f64, expected["loss"].as_f64().unwrap());
        assert!((mean - want).abs() < 0.015 * want.abs(), "{mean}, expected {expected}");
    }
}

#[test]
fn classes_are_as_good_as_those_of_lightgbm() {
    let n = 20_000;
    for expected in expected("classes") {
        let matrix = class_data(n, expected["weighted"] == true);
        let model = &fit_half(&matrix, &[params(json!({"max_iter": 60, "max_leaves": 31}))])[0];
        let scores = model.predict(&slice(&matrix.x, n / 2..n)).unwrap();
        assert_eq!((model.n_outputs(), scores.len()), (3, 3 * n / 2));
        let rows = eval::Predicted {
            problem: ProblemType::Multiclass,
            n_classes: 3,
            predictions: &scores,
            labels: &matrix.label[n / 2..],
            threshold: 0.5,
            x: None,
        };
        let loss = eval::Metric::LogLoss.compute(&rows).unwrap();
        let accuracy = eval::Metric::Accuracy.compute(&rows).unwrap();
        assert!((loss - expected["log_loss"].as_f64().unwrap()).abs() < 0.01, "{loss}, expected {expected}");
        assert!((accuracy - expected["accuracy"].as_f64().unwrap()).abs() < 0.008, "{accuracy}, expected {expected}");
    }
}

/// On data sets of scikit-learn, over the same 20 splits, the means are within two standard errors of LightGBM's.
#[test]
fn small_sets_are_learnt_as_well_as_by_lightgbm() {
    let sets = forests_fixture()["sets"].as_array().unwrap().clone();
    for expected in expected("small_sets") {
        let matrix = data_of(sets.iter().find(|set| set["name"] == expected["name"]).unwrap());
        let names = ["max_iter", "max_leaves", "min_instances_per_node", "reg_lambda"];
        let candidate: Params = names.map(|name| (name.to_owned(), expected[name].clone())).into();
        let values: Vec<f64> = (0..20).map(|split| quality(&matrix, &candidate, split, &expected["metric"])).collect();
        let (mean, apart) = standard_errors_apart(&values, &expected);
        assert!(apart.abs() <= 2.0, "{mean}, {apart:.2} standard errors off {expected}");
    }
}

/// A metric of the rows that a split holds out; the fixture's script splits alike.
fn quality(matrix: &Matrix, candidate: &Params, split: u64, metric: &Value) -> f64 {
    let (test, train): (Vec<u32>, Vec<u32>) =
        (0..matrix.label.len() as u32).partition(|row| unit(*row as usize, 100 + split) < 1.0 / 3.0);
    let model = fit::fit(matrix, &train, std::slice::from_ref(candidate), &FitContext::new(3)).remove(0).unwrap();
    let labels: Vec<f64> = test.iter().map(|row| matrix.label[*row as usize]).collect();
    let rows = eval::Predicted {
        problem: matrix.problem,
        n_classes: matrix.n_classes,
        predictions: &model.predict(&matrix.x.take(&test)).unwrap(),
        labels: &labels,
        threshold: 0.5,
        x: None,
    };
    metric.as_str().unwrap().parse::<eval::Metric>().unwrap().compute(&rows).unwrap()
}

#[test]
fn whole_weights_are_rows_that_are_there_so_often() {
    let mut weighted = number_data(3_000, false);
    let counts: Vec<u32> = (0..3_000).map(|i| (unit(i, 13) * 3.0) as u32).collect();
    weighted.weight = Some(counts.iter().map(|c| f64::from(*c)).collect());
    let repeated: Vec<u32> = (0..3_000).flat_map(|row| vec![row; counts[row as usize] as usize]).collect();
    // Bins are cut by rows, not by weights: few values have a bin each either way.
    for values in &mut weighted.x.values {
        if let FeatureValues::Number(v) = values {
            *values = FeatureValues::Number(v.iter().map(|v| (v * 20.0).floor()).collect());
        }
    }
    let mut plain = weighted.clone();
    plain.weight = None;
    let all: Vec<u32> = (0..3_000).collect();
    for loss in ["squared", "poisson"] {
        let candidate =
            [params(json!({"loss_type": loss, "min_instances_per_node": 1, "max_depth": 3, "max_iter": 5}))];
        let fit = |matrix: &Matrix, rows: &[u32]| {
            let model = fit::fit(matrix, rows, &candidate, &FitContext::new(3)).remove(0).unwrap();
            model.predict(&matrix.x).unwrap()
        };
        let (a, b) = (fit(&weighted, &all), fit(&plain, &repeated));
        let far = a.iter().zip(&b).filter(|(a, b)| (*a - *b).abs() > 1e-6 * b.abs()).count();
        // Rows of weight 0 are in no sum but count as rows of a leaf: a tie may fall to another feature.
        assert!(far * 100 < a.len(), "{loss}: {far} rows differ");
    }
}

#[test]
fn boosting_stops_where_held_out_rows_stop_gaining() {
    let matrix = tree_data(4_000);
    let candidate = |rounds: usize, n: usize| {
        params(json!({"max_iter": n, "step_size": 0.5, "max_leaves": 63, "early_stopping_rounds": rounds}))
    };
    let models = fit_half(&matrix, &[candidate(0, 200), candidate(5, 200), candidate(5, 2)]);
    assert_eq!(models[0].n_trees(), 200);
    assert!(models[1].n_trees() > 2 && models[1].n_trees() < 50, "{}", models[1].n_trees());
    assert_eq!(models[2].n_trees(), 2);
    let test = slice(&matrix.x, 2_000..4_000);
    let loss = |model: &GradientBoostedTreesModel| {
        eval::log_loss(&model.predict(&test).unwrap(), &matrix.label[2_000..]).unwrap()
    };
    assert!(loss(&models[1]) < loss(&models[0]), "{} and {}", loss(&models[1]), loss(&models[0]));
}

#[test]
fn depth_wise_growth_fills_a_depth_before_the_next() {
    let matrix = tree_data(20_000);
    let deepest = |growth: &str| {
        let candidate = params(json!({"max_iter": 1, "max_leaves": 16, "growth": growth}));
        let bytes = fit_half(&matrix, &[candidate])[0].save().unwrap().remove("model.json").unwrap();
        let depths = depths(&serde_json::from_slice::<Value>(&bytes).unwrap()["trees"][0], 0, 0);
        assert_eq!(depths.len(), 16);
        depths.into_iter().max().unwrap()
    };
    assert_eq!(deepest("depth_wise"), 4, "16 leaves fill four depths");
    assert!(deepest("leaf_wise") > 4);
}

/// The depths of the leaves below a node.
fn depths(tree: &Value, node: i64, depth: usize) -> Vec<usize> {
    if node < 0 {
        return vec![depth];
    }
    let child = |side: &str| tree[side][node as usize].as_i64().unwrap();
    [depths(tree, child("left"), depth + 1), depths(tree, child("right"), depth + 1)].concat()
}

#[test]
fn labels_and_weights_that_do_not_fit_are_counted() {
    let rows: Vec<u32> = (0..1_000).collect();
    let error = |matrix: &Matrix, candidate: Value| {
        let fitted = fit::fit(matrix, &rows, &[params(candidate)], &FitContext::new(1)).remove(0);
        match fitted {
            Err(MlError::Invalid(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let mut matrix = number_data(1_000, true);
    let negative: Vec<f64> = matrix.label.iter().enumerate().map(|(i, v)| if i < 3 { -1.0 } else { *v }).collect();
    matrix.label = negative.into();
    assert!(error(&matrix, json!({"loss_type": "poisson"})).contains("3 of 1000 training rows have less"));
    matrix.label = vec![f64::NAN; 1_000].into();
    assert!(error(&matrix, json!({})).contains("1000 of 1000 training rows have none"));
    let mut matrix = number_data(1_000, false);
    matrix.weight = Some((0..1_000).map(|i| if i < 2 { f64::NAN } else { 1.0 }).collect());
    assert!(error(&matrix, json!({})).contains("2 of 1000 training rows have others"));
    matrix.weight = Some(vec![0.0; 1_000].into());
    assert!(error(&matrix, json!({})).contains("all 1000 training rows have the weight 0"));
    assert!(error(&matrix, json!({"loss_type": "logistic"})).contains("expected one of squared, absolute"));
}

#[test]
fn binary_models_of_the_first_format_still_load() {
    let matrix = tree_data(2_000);
    let model = &fit_half(&matrix, &[Params::new()])[0];
    let bytes = model.save().unwrap().remove("model.json").unwrap();
    let mut json: Value = serde_json::from_slice(&bytes).unwrap();
    json["format"] = json!(1);
    json["base"] = json["base"][0].clone();
    json.as_object_mut().unwrap().remove("link");
    let old = Artifacts::from([("model.json".to_owned(), serde_json::to_vec(&json).unwrap())]);
    let loaded = GradientBoostedTreesModel::load(Arc::clone(&matrix.x.features), &old).unwrap();
    assert_eq!(loaded.predict(&matrix.x).unwrap(), model.predict(&matrix.x).unwrap());
}

fn over_shards(
    matrix: &Matrix,
    candidates: &[Params],
    n_shards: usize,
    forgets: bool,
) -> Vec<GradientBoostedTreesModel> {
    let shards = TestShards::new(&GradientBoostedTrees, matrix, n_shards, forgets);
    let fitted = sharded::fit_shards(&shards, candidates, &FitContext::new(3));
    fitted.into_iter().map(|model| model.unwrap()).collect()
}

/// Candidates with everything that is random, and all ways of growing.
fn candidates(problem: ProblemType) -> Vec<Params> {
    let mut candidates = vec![
        json!({"max_iter": 8}),
        json!({"max_iter": 6, "max_leaves": 40, "min_instances_per_node": 3}),
        json!({"max_iter": 4, "max_leaves": 21, "growth": "depth_wise", "max_bins": 30}),
        json!({"max_iter": 5, "subsampling_rate": 0.6, "feature_subset": 0.6, "early_stopping_rounds": 2}),
    ];
    if problem == ProblemType::Regression {
        candidates.extend([json!({"loss_type": "huber"}), json!({"loss_type": "poisson", "max_iter": 5})]);
    }
    candidates.into_iter().map(params).collect()
}

fn data_sets() -> Vec<Matrix> {
    let mut sets = vec![tree_data(3_000)];
    for weighted in [false, true] {
        sets.extend([number_data(3_000, weighted), class_data(3_000, weighted)]);
    }
    sets
}

#[test]
fn one_shard_grows_the_trees_of_rows_in_memory() {
    for matrix in data_sets() {
        let rows: Vec<u32> = (0..matrix.label.len() as u32).collect();
        let candidates = candidates(matrix.problem);
        let in_memory = fit::fit(&matrix, &rows, &candidates, &FitContext::new(3));
        let ours = over_shards(&matrix, &candidates, 1, false);
        for ((ours, theirs), candidate) in ours.iter().zip(in_memory).zip(&candidates) {
            assert!(ours.save().unwrap() == theirs.unwrap().save().unwrap(), "{:?} {candidate:?}", matrix.problem);
        }
    }
}

#[test]
fn rows_of_several_shards_grow_the_trees_of_rows_in_memory() {
    for matrix in data_sets() {
        let rows: Vec<u32> = (0..matrix.label.len() as u32).collect();
        // Nothing random: draws go by the number of a row, which another shard makes another.
        let candidates = &candidates(matrix.problem)[..3];
        let in_memory = fit::fit(&matrix, &rows, candidates, &FitContext::new(3));
        for (ours, theirs) in over_shards(&matrix, candidates, 5, false).iter().zip(in_memory) {
            let (ours, theirs) = (ours.predict(&matrix.x).unwrap(), theirs.unwrap().predict(&matrix.x).unwrap());
            let apart = ours.iter().zip(theirs).filter(|(a, b)| (*a - b).abs() > 1e-6 * b.abs().max(1.0)).count();
            // A sum of scores in another order may tip a split whose two sides gain alike.
            assert!(apart < matrix.x.n_rows / 100, "{:?}: {apart} of {}", matrix.problem, matrix.x.n_rows);
        }
    }
}

#[test]
fn shards_that_are_lost_change_no_bit() {
    // A shard that keeps nothing finds all trees so far anew in each pass.
    for matrix in [tree_data(700), class_data(700, true)] {
        let candidates = &candidates(matrix.problem)[1..4];
        let saved = |forgets| -> Vec<Artifacts> {
            over_shards(&matrix, candidates, 3, forgets).iter().map(|model| model.save().unwrap()).collect()
        };
        assert!(saved(false) == saved(true), "{:?}", matrix.problem);
    }
}

#[test]
fn what_is_wrong_with_rows_is_found_over_shards_too() {
    let of = |label: f64, problem| labelled(100, vec![label; 100], problem, false);
    let negative = Matrix { weight: Some(vec![-1.0; 100].into()), ..tree_data(100) };
    let none = Matrix { weight: Some(vec![0.0; 100].into()), ..tree_data(100) };
    let poisson = json!({"loss_type": "poisson"});
    for (matrix, candidate) in [
        (of(1.0, ProblemType::Binary), json!({})),
        (of(f64::NAN, ProblemType::Regression), json!({})),
        (of(-1.0, ProblemType::Regression), poisson),
        (negative, json!({})),
        (none, json!({})),
    ] {
        let rows: Vec<u32> = (0..100).collect();
        let shards = TestShards::new(&GradientBoostedTrees, &matrix, 3, false);
        let candidate = [params(candidate)];
        let ours = sharded::fit_shards(&shards, &candidate, &FitContext::new(3)).remove(0).unwrap_err();
        let theirs = fit::fit(&matrix, &rows, &candidate, &FitContext::new(3)).remove(0).unwrap_err();
        assert_eq!(ours.to_string(), theirs.to_string());
    }
    let absolute = params(json!({"loss_type": "absolute"}));
    let error = GradientBoostedTrees.validate_sharded(&absolute, ProblemType::Regression).unwrap_err().to_string();
    assert!(error.contains("take loss_type huber"), "{error}");
}
