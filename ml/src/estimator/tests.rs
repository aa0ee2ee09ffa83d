//! Laws that hold for every estimator.

use serde_json::json;

use super::support::testing::{TestShards, labelled_data, linear_data, params, slice, some_weights, take, tree_data};
use super::*;
use crate::matrix::FeatureValues;

/// Each estimator with two candidates and data that it can train on in a moment.
fn all() -> Vec<(Box<dyn Estimator>, Matrix, Vec<Params>)> {
    vec![
        (
            Box::new(LogisticRegression),
            linear_data(20_000),
            vec![
                params(json!({"reg_param": 0.01, "elastic_net_param": 0.5})),
                params(json!({"reg_param": 0.05, "elastic_net_param": 0.5})),
            ],
        ),
        (
            Box::new(LogisticRegression),
            labelled_data(20_000, "class"),
            vec![params(json!({"reg_param": 0.01, "elastic_net_param": 0.5})), params(json!({"reg_param": 0.05}))],
        ),
        (
            Box::new(LinearRegression),
            labelled_data(20_000, "number"),
            vec![params(json!({"reg_param": 0.01})), params(json!({"reg_param": 0.05, "elastic_net_param": 0.5}))],
        ),
        (
            Box::new(GeneralizedLinearRegression),
            labelled_data(20_000, "count"),
            vec![params(json!({"family": "poisson"})), params(json!({"family": "poisson", "link": "sqrt"}))],
        ),
        (
            Box::new(GeneralizedLinearRegression),
            linear_data(20_000),
            vec![params(json!({"reg_param": 0.01})), params(json!({"link": "probit"}))],
        ),
        (
            Box::new(GradientBoostedTrees),
            tree_data(20_000),
            vec![
                params(json!({"max_iter": 5})),
                params(json!({"max_iter": 5, "max_leaves": 12, "subsampling_rate": 0.5, "feature_subset": 0.6})),
            ],
        ),
        (
            Box::new(RandomForest),
            tree_data(20_000),
            vec![
                params(json!({"num_trees": 5})),
                params(json!({"num_trees": 5, "max_depth": 0, "impurity": "entropy", "feature_subset_strategy": 0.8})),
            ],
        ),
        (
            Box::new(RandomForest),
            classes(6_000),
            vec![params(json!({"num_trees": 3})), params(json!({"num_trees": 3, "bootstrap": false, "max_depth": 0}))],
        ),
        (
            Box::new(DecisionTree),
            tree_data(20_000),
            vec![params(json!({})), params(json!({"max_depth": 0, "max_leaves": 300}))],
        ),
        (
            Box::new(MultilayerPerceptron),
            linear_data(6_000),
            vec![
                params(json!({"max_iter": 2, "layers": [16]})),
                params(json!({"max_iter": 2, "layers": [24, 8], "l2": 1e-4, "batch_size": 1000})),
            ],
        ),
        (
            Box::new(MultilayerPerceptron),
            labelled_data(6_000, "class"),
            vec![params(json!({"max_iter": 1})), params(json!({"max_iter": 1, "layers": [8, 4]}))],
        ),
        (
            Box::new(MultilayerPerceptron),
            labelled_data(6_000, "number"),
            vec![params(json!({"max_iter": 1})), params(json!({"max_iter": 1, "layers": [8, 4]}))],
        ),
    ]
}

/// Data with a label of three classes.
fn classes(n: usize) -> Matrix {
    let mut matrix = tree_data(n);
    let FeatureValues::Number(x) = &matrix.x.values[0] else { unreachable!() };
    let label = matrix.label.iter().zip(x.iter()).map(|(label, x)| label + f64::from(u8::from(*x > 0.4)));
    (matrix.label, matrix.problem, matrix.n_classes) = (label.collect(), ProblemType::Multiclass, 3);
    matrix
}

fn rows(matrix: &Matrix) -> Vec<u32> {
    (0..matrix.label.len() as u32).filter(|r| r % 5 != 0).collect()
}

fn fit(estimator: &dyn Estimator, matrix: &Matrix, candidates: &[Params]) -> Vec<Box<dyn Model>> {
    let fitted = estimator.fit(matrix, &rows(matrix), candidates, &FitContext::new(7));
    fitted.into_iter().map(|m| m.unwrap()).collect()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (estimator, matrix, candidates) in all() {
        let saved = |threads: usize| -> Vec<Artifacts> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let models = pool.install(|| fit(&*estimator, &matrix, &candidates));
            models.iter().map(|m| m.save().unwrap()).collect()
        };
        let one = saved(1);
        assert!(one[0] != one[1], "{}: candidates are alike", estimator.name());
        for threads in [2, 4] {
            assert!(one == saved(threads), "{} differs with {threads} threads", estimator.name());
        }
    }
}

#[test]
fn the_seed_matters_where_there_is_chance() {
    for (estimator, matrix, candidates) in all() {
        let fit = |seed| {
            let fitted = estimator.fit(&matrix, &rows(&matrix), &candidates[1..], &FitContext::new(seed));
            fitted[0].as_ref().unwrap().save().unwrap()
        };
        let has_chance =
            ["gradient_boosted_trees", "multilayer_perceptron", "random_forest"].contains(&estimator.name());
        assert_eq!(fit(1) != fit(2), has_chance, "{}", estimator.name());
    }
}

#[test]
fn saving_and_loading_is_identity() {
    for (estimator, matrix, candidates) in all() {
        for model in fit(&*estimator, &matrix, &candidates) {
            let artifacts = model.save().unwrap();
            let loaded = estimator.load(Arc::clone(&matrix.x.features), &artifacts).unwrap();
            assert_eq!(loaded.save().unwrap(), artifacts);
            assert_eq!(loaded.estimator(), estimator.name());
            assert_eq!(loaded.importances(), model.importances());
            assert_eq!(loaded.split_counts(), model.split_counts());
            assert_eq!(bits(&*loaded, &matrix.x), bits(&*model, &matrix.x));
        }
    }
}

#[test]
fn damaged_artifacts_are_errors() {
    for (estimator, matrix, candidates) in all() {
        let model = fit(&*estimator, &matrix, &candidates[..1]).remove(0);
        let features = Arc::clone(&matrix.x.features);
        let artifacts = model.save().unwrap();
        for name in artifacts.keys() {
            let mut absent = artifacts.clone();
            absent.remove(name);
            assert!(matches!(estimator.load(Arc::clone(&features), &absent), Err(MlError::Corrupt { .. })));
            let mut cut = artifacts.clone();
            cut.insert(name.clone(), artifacts[name][..artifacts[name].len() / 2].to_vec());
            assert!(matches!(estimator.load(Arc::clone(&features), &cut), Err(MlError::Corrupt { .. })));
        }
        let fewer: Arc<[Feature]> = features[1..].into();
        assert!(matches!(estimator.load(fewer, &artifacts), Err(MlError::Corrupt { .. })));
    }
}

fn bits(model: &dyn Model, x: &Features) -> Vec<u64> {
    model.predict(x).unwrap().iter().map(|s| s.to_bits()).collect()
}

#[test]
fn a_score_does_not_depend_on_its_batch() {
    for (estimator, matrix, candidates) in all() {
        for model in fit(&*estimator, &matrix, &candidates) {
            let x = slice(&matrix.x, 0..9_000.min(matrix.x.n_rows));
            let whole = bits(&*model, &x);
            assert_eq!(whole.len(), x.n_rows * model.n_outputs());
            let is_score = |s: &f64| s.is_finite() && (!matrix.problem.is_classification() || (0.0..=1.0).contains(s));
            assert!(model.predict(&x).unwrap().iter().all(is_score));
            for size in [1, 7, 8192] {
                let starts = (0..x.n_rows).step_by(size);
                let pieces: Vec<u64> =
                    starts.flat_map(|s| bits(&*model, &slice(&x, s..(s + size).min(x.n_rows)))).collect();
                assert!(whole == pieces, "{} at {size}", estimator.name());
            }
        }
    }
}

#[test]
fn labels_to_learn_nothing_from_are_errors_that_say_so() {
    for (estimator, mut matrix, mut candidates) in all() {
        let (label, expected) = if matrix.problem.is_classification() {
            (1.0, ["one class only", "training rows are 1"])
        } else {
            (f64::NAN, ["must be a finite number", "training rows have none"])
        };
        matrix.label = vec![label; matrix.label.len()].into();
        candidates.push(params(json!({"no_such": 1})));
        let errors = estimator.fit(&matrix, &rows(&matrix), &candidates, &FitContext::new(1));
        assert_eq!(errors.len(), 3);
        let text = errors[0].as_ref().unwrap_err().to_string();
        assert!(expected.iter().all(|part| text.contains(part)), "{text}");
        let text = errors[2].as_ref().unwrap_err().to_string();
        assert!(text.contains("no parameter \"no_such\""), "{text}");
    }
}

#[test]
fn missing_numbers_are_named_or_handled() {
    for (estimator, mut matrix, candidates) in all() {
        matrix.x.values[2] = match &matrix.x.values[2] {
            FeatureValues::Number(v) => {
                FeatureValues::Number(v.iter().enumerate().map(|(i, v)| if i == 6 { f64::NAN } else { *v }).collect())
            }
            FeatureValues::Category(_) => unreachable!(),
        };
        let mut fitted = estimator.fit(&matrix, &rows(&matrix), &candidates[..1], &FitContext::new(1));
        match fitted.remove(0) {
            Ok(model) => {
                let trees = ["gradient_boosted_trees", "random_forest", "decision_tree"];
                assert!(trees.contains(&estimator.name()) && model.predict(&matrix.x).is_ok());
            }
            Err(e) => assert!(e.to_string().starts_with("column \"x2\" has 1 missing"), "{e}"),
        }
    }
}

#[test]
fn parameters_are_checked_by_name_and_range() {
    let cases: [(Box<dyn Estimator>, _, _); 14] = [
        (Box::new(LogisticRegression), json!({"reg_parm": 1}), "did you mean \"reg_param\"?"),
        (Box::new(LogisticRegression), json!({"elastic_net_param": 1.5}), "expected a number from 0 to 1, got 1.5"),
        (Box::new(LogisticRegression), json!({"fit_intercept": 1}), "expected true or false, got 1"),
        (Box::new(GradientBoostedTrees), json!({"max_bins": 256}), "expected a whole number from 2 to 255, got 256"),
        (Box::new(GradientBoostedTrees), json!({"step_size": 0}), "expected a number above 0, up to 1, got 0"),
        (Box::new(GradientBoostedTrees), json!({"max_iter": "many"}), "got \"many\""),
        (Box::new(RandomForest), json!({"feature_subset_strategy": 1.5}), "or a whole number from 1, got 1.5"),
        (Box::new(RandomForest), json!({"impurity": "variance"}), "expected one of gini, entropy, got \"variance\""),
        (Box::new(DecisionTree), json!({"num_trees": 2}), "no parameter \"num_trees\""),
        (Box::new(MultilayerPerceptron), json!({"layers": [32, 0]}), "a list of whole numbers from 1"),
        (Box::new(MultilayerPerceptron), json!({"batchsize": 1}), "did you mean \"batch_size\"?"),
        (Box::new(LinearRegression), json!({"reg_param": -1}), "expected a number of at least 0, got -1"),
        (Box::new(LinearRegression), json!({"los": "huber"}), "has no parameter \"los\""),
        (Box::new(GeneralizedLinearRegression), json!({"max_iter": 0}), "expected a whole number from 1 to"),
    ];
    for (estimator, wrong, expected) in cases {
        let is_for = |problem: &ProblemType| estimator.validate(&Params::new(), *problem).is_ok();
        let problem = ProblemType::ALL.into_iter().find(is_for).unwrap();
        let error = estimator.validate(&params(wrong), problem).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with(estimator.name()), "{error}");
    }
}

#[test]
fn cancelled_fits_stop() {
    for (estimator, matrix, candidates) in all() {
        let ctx = FitContext::new(1);
        ctx.cancel.store(true, Ordering::Relaxed);
        let fitted = estimator.fit(&matrix, &rows(&matrix), &candidates, &ctx);
        assert!(fitted.iter().all(|m| matches!(m, Err(MlError::Cancelled))), "{}", estimator.name());
    }
}

#[test]
fn other_columns_are_refused() {
    for (estimator, matrix, candidates) in all() {
        let model = fit(&*estimator, &matrix, &candidates[..1]).remove(0);
        let mut x = slice(&matrix.x, 0..3);
        x.features = x.features[..3].into();
        x.values.truncate(3);
        let error = model.predict(&x).unwrap_err().to_string();
        assert!(error.contains("got x0, x1, x2"), "{error}");
    }
}

/// How many rows are dealt to shards: deep trees take many passes.
const SHARDED_ROWS: u32 = 3_000;

/// The estimators that train over shards, with weights or without.
fn all_sharded() -> impl Iterator<Item = (Arc<dyn Estimator>, Matrix, Vec<Params>)> {
    let is_sharded = |(estimator, ..): &(Box<dyn Estimator>, _, _)| estimator.sharded().is_some();
    all().into_iter().filter(is_sharded).flat_map(|(estimator, matrix, candidates)| {
        let matrix = take(&matrix, &(0..SHARDED_ROWS).collect::<Vec<_>>());
        let weighted = Matrix { weight: Some(some_weights(matrix.x.n_rows)), ..matrix.clone() };
        let of_the_same: Arc<dyn Estimator> = estimator.into();
        [(Arc::clone(&of_the_same), matrix, candidates.clone()), (of_the_same, weighted, candidates)]
    })
}

fn fit_shards(estimator: &dyn Estimator, shards: &TestShards<'_>, candidates: &[Params]) -> Vec<Box<dyn Model>> {
    let fitted = estimator.sharded().unwrap().fit_shards(shards, candidates, &FitContext::new(7));
    fitted.into_iter().map(|m| m.unwrap()).collect()
}

#[test]
fn models_over_shards_are_those_in_memory_up_to_rounding() {
    for (estimator, matrix, candidates) in all_sharded() {
        let all: Vec<u32> = (0..matrix.x.n_rows as u32).collect();
        let in_memory = estimator.fit(&matrix, &all, &candidates, &FitContext::new(7));
        // What is drawn goes by rows' numbers, which several shards make others.
        let draws = ["gradient_boosted_trees", "random_forest"].contains(&estimator.name());
        for n_shards in if draws { vec![1] } else { vec![1, 5] } {
            let shards = TestShards::new(&*estimator, &matrix, n_shards, false);
            for (ours, theirs) in fit_shards(&*estimator, &shards, &candidates).iter().zip(&in_memory) {
                let (ours, theirs) =
                    (ours.predict(&matrix.x).unwrap(), theirs.as_ref().unwrap().predict(&matrix.x).unwrap());
                let furthest =
                    ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
                assert!(furthest < 1e-7, "{} over {n_shards} shards is {furthest} off", estimator.name());
            }
        }
    }
}

#[test]
fn what_is_kept_of_shards_changes_no_bit() {
    for (estimator, matrix, candidates) in all_sharded() {
        let saved = |forgets| -> Vec<Artifacts> {
            let shards = TestShards::new(&*estimator, &matrix, 3, forgets);
            fit_shards(&*estimator, &shards, &candidates).iter().map(|m| m.save().unwrap()).collect()
        };
        assert!(saved(false) == saved(true), "{}", estimator.name());
    }
}

#[test]
fn what_is_wrong_with_rows_is_found_over_shards_too() {
    for (estimator, matrix, candidates) in all_sharded() {
        let with_weight = |w: f64| Matrix { weight: Some(vec![w; matrix.x.n_rows].into()), ..matrix.clone() };
        let with_label = |label: f64| Matrix { label: vec![label; matrix.x.n_rows].into(), ..matrix.clone() };
        let mut gaps = matrix.clone();
        gaps.x.values[2] = FeatureValues::Number(vec![f64::NAN; matrix.x.n_rows].into());
        let wrong = [with_weight(-1.0), with_weight(0.0), with_label(f64::NAN), gaps];
        let all: Vec<u32> = (0..matrix.x.n_rows as u32).collect();
        for wrong in wrong {
            let shards = TestShards::new(&*estimator, &wrong, 3, false);
            let in_memory = estimator.fit(&wrong, &all, &candidates[..1], &FitContext::new(7)).remove(0);
            let sharded =
                estimator.sharded().unwrap().fit_shards(&shards, &candidates[..1], &FitContext::new(7)).remove(0);
            match in_memory {
                Ok(_) => assert!(sharded.is_ok()),
                Err(e) => {
                    let (ours, theirs) = (sharded.unwrap_err().to_string(), e.to_string());
                    assert_eq!(ours.split([';', ',']).next(), theirs.split([';', ',']).next());
                }
            }
        }
    }
}
