use serde_json::{Value, json};

use super::*;
use crate::estimator::DecisionTree;
use crate::estimator::support::testing::{
    HeldOut, TestShards, data_of, forests_fixture, number_list as floats, of_numbers, params, slice, some_weights,
    standard_errors_apart, tree_data, unit,
};
use crate::eval;
use crate::matrix::FeatureValues;

fn fit_rows(estimator: &dyn Estimator, matrix: &Matrix, rows: &[u32], of: Value, seed: u64) -> Box<dyn Model> {
    estimator.fit(matrix, rows, &[params(of)], &FitContext::new(seed)).remove(0).unwrap()
}

/// A model of the first half of the rows.
fn fit_half(estimator: &dyn Estimator, matrix: &Matrix, of: Value) -> Box<dyn Model> {
    let rows: Vec<u32> = (0..matrix.label.len() as u32 / 2).collect();
    fit_rows(estimator, matrix, &rows, of, 3)
}

fn saved(model: &dyn Model) -> Value {
    serde_json::from_slice(&model.save().unwrap()["model.json"]).unwrap()
}

fn n_leaves(model: &dyn Model, tree: usize) -> usize {
    saved(model)["trees"][tree]["value"].as_array().unwrap().len() / model.n_outputs()
}

fn parameters(expected: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), expected[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// On data sets of scikit-learn the means over 20 seeds of ours and 60 of theirs differ by no more than the noise: of 15
/// comparisons one beyond two standard errors is to be expected (one is, at 2.06), so each may have three, and their
/// squares the sum that chance alone exceeds in 1 of 20 cases.
#[test]
fn forests_are_as_good_as_scikit_learn_s() {
    let mut lines = Vec::new();
    let (mut worst, mut squares) = (0.0f64, 0.0);
    for set in forests_fixture()["sets"].as_array().unwrap() {
        let matrix = data_of(set);
        let held_out = HeldOut::third_of(&matrix);
        for expected in set["quality"].as_array().unwrap() {
            let of = parameters(expected, &["num_trees", "max_depth", "min_instances_per_node", "bootstrap"]);
            let model = |seed| fit_rows(&RandomForest, &matrix, &held_out.train, of.clone(), seed);
            let ours: Vec<f64> = (0..20).map(|seed| held_out.quality(&*model(seed))).collect();
            let (mean, apart) = standard_errors_apart(&ours, expected);
            lines.push(format!("{}: {mean:.4} for {}, {apart:.2} standard errors\n", set["name"], expected["mean"]));
            worst = worst.max(apart.abs());
            squares += apart * apart;
        }
    }
    assert!(worst <= 3.0 && squares <= 25.0, "{}", lines.concat());
}

/// The areas of scikit-learn's forests are within 0.004, the noise of other draws on 10,000 rows.
#[test]
fn areas_are_those_of_scikit_learn() {
    let n = 20_000;
    let matrix = tree_data(n);
    let test = slice(&matrix.x, n / 2..n);
    for expected in forests_fixture()["areas"].as_array().unwrap() {
        let names = ["num_trees", "max_depth", "min_instances_per_node", "feature_subset_strategy"];
        let model = fit_half(&RandomForest, &matrix, parameters(expected, &names));
        let area = eval::area_under_roc(&model.predict(&test).unwrap(), &matrix.label[n / 2..]).unwrap();
        assert!((area - expected["area_under_roc"].as_f64().unwrap()).abs() < 0.004, "{area} {expected}");
    }
}

/// The columns and labels of `few_values` in `tests/fixtures/forests.py`.
fn few_values(n: usize, problem: ProblemType) -> Matrix {
    let mut columns: Vec<Vec<f64>> =
        [7.0, 5.0, 9.0, 6.0].iter().zip(0..).map(|(k, j)| (0..n).map(|i| (unit(i, j) * k).floor()).collect()).collect();
    let is = |yes: bool| f64::from(u8::from(yes));
    let signal = |i: usize| {
        2.0 * is(columns[0][i] > 3.0)
            + 0.7 * columns[1][i]
            + 1.5 * is(columns[2][i] > 4.0 && columns[3][i] < 4.0)
            + 2.0 * unit(i, 4)
    };
    let label = (0..n).map(|i| match problem {
        ProblemType::Binary => is(signal(i) > 3.5),
        ProblemType::Multiclass => (signal(i) / 1.7).floor().clamp(0.0, 3.0),
        _ => signal(i),
    });
    let label = label.collect();
    (0..n).filter(|i| unit(*i, 5) < 0.1).for_each(|i| columns[2][i] = f64::NAN);
    of_numbers(columns, label, problem)
}

/// With a bin for each value and no equal gains a tree is scikit-learn's: its predictions agree to rounding.
#[test]
fn a_tree_on_few_values_is_scikit_learn_s() {
    let n = 1200;
    for expected in forests_fixture()["exact"].as_array().unwrap() {
        let matrix = few_values(n, expected["problem"].as_str().unwrap().parse().unwrap());
        let of = parameters(expected, &["impurity", "max_depth", "min_instances_per_node"]);
        let model = fit_half(&DecisionTree, &matrix, of);
        let scores = model.predict(&slice(&matrix.x, n / 2..n)).unwrap();
        let right = floats(&expected["predictions"]);
        assert_eq!(scores.len(), right.len());
        let far = scores.iter().zip(&right).filter(|(a, b)| (*a - *b).abs() > 1e-12).count();
        assert_eq!(far, 0, "{} {}", expected["problem"], expected["impurity"]);
    }
}

#[test]
fn candidates_that_differ_in_trees_only_share_them() {
    let matrix = tree_data(4_000);
    let of = |n| params(json!({"num_trees": n, "subsampling_rate": 0.7}));
    let rows: Vec<u32> = (0..2_000).collect();
    let together = RandomForest.fit(&matrix, &rows, &[of(3), of(9), of(5)], &FitContext::new(3));
    for (model, n) in together.iter().zip([3, 9, 5]) {
        let alone = RandomForest.fit(&matrix, &rows, &[of(n)], &FitContext::new(3));
        assert_eq!(model.as_ref().unwrap().save().unwrap(), alone[0].as_ref().unwrap().save().unwrap());
        assert_eq!(saved(&**model.as_ref().unwrap())["trees"].as_array().unwrap().len(), n);
    }
}

#[test]
fn kept_sums_change_nothing() {
    // Of copies of one column a node may draw any; sums are kept only where it draws most of them.
    let data = tree_data(20_000);
    let FeatureValues::Number(x) = &data.x.values[1] else { unreachable!() };
    let matrix = of_numbers(vec![x.to_vec(); 8], data.label.to_vec(), ProblemType::Binary);
    let scores = |drawn: usize| {
        let of = json!({"num_trees": 2, "max_depth": 9, "feature_subset_strategy": drawn});
        fit_half(&RandomForest, &matrix, of).predict(&matrix.x).unwrap()
    };
    assert!(scores(8) == scores(1));
}

#[test]
fn weights_count_as_repeated_rows() {
    for problem in PROBLEMS {
        let mut matrix = few_values(600, problem);
        let times = |row: u32| (unit(row as usize, 30) * 3.0) as u32;
        let repeated: Vec<u32> = (0..600).flat_map(|row| vec![row; times(row) as usize]).collect();
        let of = json!({"max_depth": 4});
        let expected = fit_rows(&DecisionTree, &matrix, &repeated, of.clone(), 1).predict(&matrix.x).unwrap();
        matrix.weight = Some((0..600).map(|row| f64::from(times(row)) * 0.25).collect());
        let rows: Vec<u32> = (0..600).collect();
        let scores = fit_rows(&DecisionTree, &matrix, &rows, of, 1).predict(&matrix.x).unwrap();
        let far = scores.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > 1e-9).count();
        assert_eq!(far, 0, "{problem}");
    }
}

#[test]
fn leaves_and_depth_are_bounded() {
    let matrix = tree_data(6_000);
    let leaves = |of| n_leaves(&*fit_half(&DecisionTree, &matrix, of), 0);
    assert_eq!(leaves(json!({"max_depth": 1})), 2);
    assert_eq!(leaves(json!({"max_depth": 0, "max_leaves": 9})), 9);
    assert!((17..=32).contains(&leaves(json!({}))));
    assert!(leaves(json!({"max_depth": -1})) > 500);
    assert!(leaves(json!({"max_depth": 0, "min_instances_per_node": 200})) <= 15);
    assert!(leaves(json!({"max_depth": 0, "min_weight_fraction_per_node": 0.1})) <= 10);
    let gaining = |gain: f64| leaves(json!({"max_depth": 0, "min_instances_per_node": 50, "min_info_gain": gain}));
    assert!(gaining(0.01) < gaining(0.0));
    assert_eq!(leaves(json!({"min_info_gain": 0.9})), 1);
}

#[test]
fn the_leaf_that_gains_most_is_split_first() {
    // Without a limit of depth a tree of few leaves is a part of the tree of more, and the one with the least error.
    let matrix = tree_data(6_000);
    let gain = |n: usize| -> f64 {
        let model = saved(&*fit_half(&DecisionTree, &matrix, json!({"max_depth": 0, "max_leaves": n})));
        let gains = model["trees"][0]["gain"].as_array().unwrap();
        gains.iter().map(|v| v.as_str().unwrap().parse::<f64>().unwrap()).sum()
    };
    let of_depth = saved(&*fit_half(&DecisionTree, &matrix, json!({"max_depth": 3})));
    let gains = of_depth["trees"][0]["gain"].as_array().unwrap();
    let of_depth: f64 = gains.iter().map(|v| v.as_str().unwrap().parse::<f64>().unwrap()).sum();
    assert!(gain(8) > of_depth && gain(9) > gain(8));
}

/// Labels in three groups that no threshold on their numbers parts.
#[test]
fn categories_of_several_classes_are_parted() {
    for impurity in ["gini", "entropy"] {
        let n = 3_000;
        let mut matrix = tree_data(n);
        let FeatureValues::Category(category) = &matrix.x.values[6] else { unreachable!() };
        let label: Vec<f64> = category.iter().map(|c| f64::from(c * 7 % 12 / 4)).collect();
        (matrix.label, matrix.problem, matrix.n_classes) = (label.into(), ProblemType::Multiclass, 3);
        let model = fit_half(&DecisionTree, &matrix, json!({"max_depth": 2, "impurity": impurity}));
        assert_eq!(HeldOut::third_of(&matrix).quality(&*model), 1.0);
        assert_eq!(n_leaves(&*model, 0), 3);
    }
}

#[test]
fn missing_numbers_and_unknown_categories_are_scored() {
    let matrix = tree_data(4_000);
    let model = fit_half(&RandomForest, &matrix, json!({}));
    let mut x = slice(&matrix.x, 0..10);
    for values in &mut x.values {
        *values = match values {
            FeatureValues::Number(_) => FeatureValues::Number(vec![f64::NAN; 10].into()),
            FeatureValues::Category(_) => FeatureValues::Category(vec![u32::MAX; 10].into()),
        };
    }
    let scores = model.predict(&x).unwrap();
    assert!(scores.iter().all(|s| *s == scores[0] && *s > 0.0 && *s < 1.0));
}

#[test]
fn importances_find_what_matters() {
    let matrix = tree_data(20_000);
    let importances = fit_half(&RandomForest, &matrix, json!({})).importances();
    assert_eq!(importances.len(), 7);
    assert!((importances.iter().map(|i| i.1).sum::<f64>() - 1.0).abs() < 1e-12);
    let noise = importances[4].1 + importances[5].1;
    assert!([0, 1, 6].iter().all(|i| importances[*i].1 > 4.0 * noise), "{importances:?}");
}

#[test]
fn a_leaf_that_is_no_probability_is_refused() {
    let matrix = tree_data(2_000);
    let model = fit_half(&DecisionTree, &matrix, json!({"max_depth": 2}));
    let change = |path: &[&str], to: Value| {
        let mut json = saved(&*model);
        let mut at = &mut json;
        for name in path {
            at = match name.parse::<usize>() {
                Ok(i) => &mut at[i],
                Err(_) => &mut at[*name],
            };
        }
        *at = to;
        let artifacts = Artifacts::from([("model.json".to_owned(), serde_json::to_vec(&json).unwrap())]);
        DecisionTree.load(Arc::clone(&matrix.x.features), &artifacts).unwrap_err().to_string()
    };
    assert!(change(&["trees", "0", "value", "1"], json!("1.5")).contains("a leaf has the value 1.5"));
    assert!(change(&["trees"], json!([])).contains("0 trees"));
    assert!(change(&["n_outputs"], json!(2)).contains("2 outputs for the problem binary"));
    assert!(change(&["format"], json!(9)).contains("expected format 1, got 9"));
}

#[test]
fn subsets_of_features_are_read() {
    let of = |strategy: Value, num_trees: usize, problem| {
        let of = params(json!({"feature_subset_strategy": strategy, "num_trees": num_trees}));
        RandomForestParams::parse(&of, problem).map(|p| p.feature_subset.count(30))
    };
    let binary = |strategy| of(strategy, 20, ProblemType::Binary).unwrap();
    let cases = [
        (json!("auto"), 6),
        (json!("all"), 30),
        (json!("onethird"), 10),
        (json!("sqrt"), 6),
        (json!("log2"), 5),
        (json!(0.35), 11),
        (json!(1), 1),
        (json!(1.0), 30),
        (json!("0.5"), 15),
        (json!("40"), 30),
    ];
    for (strategy, count) in cases {
        assert_eq!(binary(strategy.clone()), count, "{strategy}");
    }
    assert_eq!(of(json!("auto"), 1, ProblemType::Binary).unwrap(), 30);
    assert_eq!(of(json!("auto"), 2, ProblemType::Regression).unwrap(), 10);
    for wrong in [json!(0), json!(1.5), json!("half"), json!(-1), json!(true)] {
        assert!(of(wrong.clone(), 20, ProblemType::Binary).is_err(), "{wrong}");
    }
}

#[test]
fn a_tree_that_draws_no_row_sees_all() {
    let mut matrix = of_numbers(vec![vec![0.0, 1.0, 2.0, 3.0]], vec![0.0, 0.0, 1.0, 1.0], ProblemType::Binary);
    matrix.weight = Some([1.0, 0.0, 1.0, 1e-30].into());
    for bootstrap in [true, false] {
        let of = json!({"subsampling_rate": 1e-12, "bootstrap": bootstrap, "num_trees": 3});
        let model = fit_rows(&RandomForest, &matrix, &[0, 1, 2, 3], of, 1);
        assert_eq!(model.predict(&matrix.x).unwrap(), [0.0, 0.0, 1.0, 1.0]);
    }
}

#[test]
fn large_and_small_numbers_are_parted() {
    for size in [1e300, 1.0, 1e-280] {
        let label = [-1.0, -1.0, 0.5, 1.0].map(|v| v * size);
        let matrix = of_numbers(vec![vec![0.0, 1.0, 2.0, 3.0]], label.to_vec(), ProblemType::Regression);
        let model = fit_rows(&DecisionTree, &matrix, &[0, 1, 2, 3], json!({}), 1);
        assert_eq!(model.predict(&matrix.x).unwrap(), label, "{size}");
    }
}

#[test]
fn every_split_is_counted_at_its_feature() {
    let matrix = tree_data(2_000);
    let model = fit_half(&RandomForest, &matrix, json!({"num_trees": 3}));
    let counts = model.split_counts();
    assert!(counts.iter().map(|(name, _)| name).eq(matrix.x.features.iter().map(|feature| &feature.name)));
    let n_splits: usize = (0..3).map(|tree| n_leaves(&*model, tree) - 1).sum();
    assert_eq!(counts.iter().map(|(_, n)| *n).sum::<u64>(), n_splits as u64);
    assert!(counts.iter().zip(model.importances()).all(|((_, n), (_, share))| (*n > 0) == (share > 0.0)));
}

fn over_shards(estimator: &dyn Estimator, matrix: &Matrix, of: &[Value], n_shards: usize, forgets: bool) -> Vec<Value> {
    let candidates: Vec<Params> = of.iter().cloned().map(params).collect();
    let shards = TestShards::new(estimator, matrix, n_shards, forgets);
    let fitted = estimator.sharded().unwrap().fit_shards(&shards, &candidates, &FitContext::new(3));
    fitted.into_iter().map(|model| saved(&*model.unwrap())).collect()
}

fn in_memory(estimator: &dyn Estimator, matrix: &Matrix, of: &[Value]) -> Vec<Value> {
    let rows: Vec<u32> = (0..matrix.label.len() as u32).collect();
    of.iter().map(|of| saved(&*fit_rows(estimator, matrix, &rows, of.clone(), 3))).collect()
}

/// Rows of all problems, with and without weights.
fn data_sets(n: usize) -> Vec<Matrix> {
    let classes = |i: usize| f64::from((unit(i, 0) * 2.0 + unit(i, 9)) as u8);
    let numbers = |i: usize| unit(i, 0) + unit(i, 2) * unit(i, 3) + 0.2 * unit(i, 9).floor();
    let of = |label: Vec<f64>, problem| Matrix::new(tree_data(n).x, label, problem);
    let mut multiclass = of((0..n).map(classes).collect(), ProblemType::Multiclass);
    multiclass.n_classes = 3;
    let sets = [tree_data(n), multiclass, of((0..n).map(numbers).collect(), ProblemType::Regression)];
    let weighted = |matrix: &Matrix| Matrix { weight: Some(some_weights(n)), ..matrix.clone() };
    sets.iter().flat_map(|matrix| [matrix.clone(), weighted(matrix)]).collect()
}

#[test]
fn one_shard_grows_the_trees_of_rows_in_memory() {
    let forests = [
        json!({"num_trees": 11}),
        json!({"num_trees": 3, "max_depth": 12, "min_instances_per_node": 4, "feature_subset_strategy": "all"}),
        json!({"num_trees": 2, "max_depth": 0, "max_leaves": 23, "bootstrap": false, "subsampling_rate": 0.7}),
    ];
    let trees = [json!({"max_depth": 30}), json!({"max_bins": 16, "min_weight_fraction_per_node": 0.05})];
    for matrix in data_sets(1_500) {
        for (estimator, of) in [(&RandomForest as &dyn Estimator, &forests[..]), (&DecisionTree, &trees)] {
            let ours = over_shards(estimator, &matrix, of, 1, false);
            for ((ours, theirs), of) in ours.iter().zip(in_memory(estimator, &matrix, of)).zip(of) {
                assert!(*ours == theirs, "{:?}, {}: {of}", matrix.problem, matrix.weight.is_some());
            }
        }
    }
}

#[test]
fn rows_of_several_shards_grow_the_trees_of_rows_in_memory() {
    // The mean of numbers, which is taken off them, and leaves are sums of floats: gains and values differ in rounding.
    let tests = |models: Vec<Value>| -> Vec<Value> {
        let trees = models.iter().flat_map(|model| model["trees"].as_array().unwrap());
        trees.map(|tree| json!([tree["feature"], tree["threshold"], tree["categories"], tree["left"]])).collect()
    };
    let trees = [json!({"max_depth": 30}), json!({"max_leaves": 40})];
    for matrix in data_sets(1_500) {
        let ours = tests(over_shards(&DecisionTree, &matrix, &trees, 5, false));
        assert!(ours == tests(in_memory(&DecisionTree, &matrix, &trees)), "{:?}", matrix.problem);
    }
}

#[test]
fn shards_that_are_lost_change_no_bit() {
    let of = [json!({"num_trees": 9, "max_depth": 4}), json!({"num_trees": 2, "max_leaves": 9, "max_bins": 20})];
    for matrix in data_sets(500) {
        let models = |forgets| over_shards(&RandomForest, &matrix, &of, 3, forgets);
        assert!(models(false) == models(true), "{:?}", matrix.problem);
    }
}

#[test]
fn a_tree_that_draws_no_row_sees_all_over_shards_too() {
    let matrix = slice_of(&tree_data(40), 6);
    let of = [json!({"num_trees": 20, "subsampling_rate": 0.05})];
    assert!(over_shards(&RandomForest, &matrix, &of, 1, false) == in_memory(&RandomForest, &matrix, &of));
    assert!(over_shards(&RandomForest, &matrix, &of, 4, false)[0]["trees"].as_array().unwrap().len() == 20);
}

/// The first rows.
fn slice_of(matrix: &Matrix, n: usize) -> Matrix {
    Matrix::new(slice(&matrix.x, 0..n), (0..n).map(|i| (i % 2) as f64).collect(), ProblemType::Binary)
}

#[test]
fn what_is_wrong_with_rows_is_found_over_shards_too() {
    let of = |label: f64, problem| Matrix::new(tree_data(100).x, vec![label; 100], problem);
    let negative = Matrix { weight: Some(vec![-1.0; 100].into()), ..tree_data(100) };
    let sets = [of(1.0, ProblemType::Binary), of(f64::NAN, ProblemType::Regression), negative];
    for matrix in sets {
        let rows: Vec<u32> = (0..100).collect();
        let shards = TestShards::new(&RandomForest, &matrix, 3, false);
        let error = |models: Vec<Result<Box<dyn Model>>>| models.into_iter().next().unwrap().unwrap_err().to_string();
        let ours = error(RandomForest.fit_shards(&shards, &[Params::new()], &FitContext::new(3)));
        assert_eq!(ours, error(RandomForest.fit(&matrix, &rows, &[Params::new()], &FitContext::new(3))));
    }
}
