use serde_json::json;

use super::*;
use crate::estimator::FitContext;
use crate::estimator::support::testing::{
    TestShards, check_weights, data_set, fixture, labelled_data, linear_data, linear_fixture, params, some_weights,
    unit,
};
use crate::matrix::{FeatureKind, FeatureValues};

fn fit_one(matrix: &Matrix, candidate: Params) -> LogisticRegressionModel {
    let rows: Vec<u32> = (0..matrix.label.len() as u32).collect();
    fit::fit(matrix, &rows, &[candidate], &FitContext::new(0)).remove(0).unwrap()
}

/// scikit-learn minimises the same objective on columns divided by their deviation; both solvers were run to
/// convergence, so coefficients agree to 1e-4 and zeros are the same.
#[test]
fn coefficients_are_those_of_scikit_learn() {
    let matrix = linear_data(600);
    let expected = fixture()["logistic_regression"].as_array().unwrap().clone();
    let candidates: Vec<Params> = expected
        .iter()
        .map(|e| {
            let pick = |k: &str| (k.to_owned(), e[k].clone());
            ["reg_param", "elastic_net_param", "standardization", "fit_intercept"].map(pick).into()
        })
        .collect();
    let rows: Vec<u32> = (0..600).collect();
    let models = fit::fit(&matrix, &rows, &candidates, &FitContext::new(0));
    for (expected, model) in expected.iter().zip(models) {
        let model = model.unwrap();
        let close = |got: f64, want: f64| (got - want).abs() <= 1e-4 * want.abs() + 1e-7;
        assert!(close(model.intercepts()[0], expected["intercept"].as_f64().unwrap()), "{expected} {model:?}");
        for ((name, got), want) in
            model.coefficients().remove(0).iter().zip(expected["coefficients"].as_array().unwrap())
        {
            let want = want.as_f64().unwrap();
            assert!(close(*got, want), "{name}: {got} and {want} of {expected}");
            if expected["elastic_net_param"].as_f64().unwrap() > 0.0 {
                assert_eq!(*got == 0.0, want == 0.0, "{name}: {got} and {want}");
            }
        }
    }
}

#[test]
fn a_path_gives_what_single_fits_give() {
    let matrix = linear_data(5_000);
    let candidates: Vec<Params> =
        [0.001, 0.1, 0.01].iter().map(|r| params(json!({"reg_param": r, "elastic_net_param": 0.5}))).collect();
    let rows: Vec<u32> = (0..5_000).collect();
    let together = fit::fit(&matrix, &rows, &candidates, &FitContext::new(0));
    for (model, candidate) in together.into_iter().zip(candidates) {
        let (model, single) = (model.unwrap(), fit_one(&matrix, candidate));
        for ((name, a), (_, b)) in model.coefficients().remove(0).iter().zip(single.coefficients().remove(0)) {
            assert!((a - b).abs() <= 1e-5 * b.abs() + 1e-7, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn constant_and_dependent_columns_have_finite_coefficients() {
    let mut matrix = linear_data(2_000);
    let FeatureValues::Number(first) = matrix.x.values[0].clone() else { panic!() };
    matrix.x.values[4] = FeatureValues::Number(first.iter().map(|v| v * 2.0).collect());
    matrix.x.values[5] = FeatureValues::Number(vec![3.0; 2_000].into());
    for mixing in [0.0, 0.5, 1.0] {
        for reg in [0.0, 0.01] {
            let model = fit_one(&matrix, params(json!({"reg_param": reg, "elastic_net_param": mixing})));
            let coefficients = model.coefficients().remove(0);
            assert!(coefficients.iter().all(|c| c.1.is_finite() && c.1.abs() < 10.0), "{coefficients:?}");
            assert_eq!(coefficients[5], ("x5".to_owned(), 0.0));
        }
    }
}

#[test]
fn a_label_that_one_category_decides_ends() {
    let mut matrix = linear_data(1_000);
    let FeatureValues::Category(category) = matrix.x.values[6].clone() else { panic!() };
    matrix.label = category.iter().zip(matrix.label.iter()).map(|(c, y)| if *c == 1 { 1.0 } else { *y }).collect();
    let model = fit_one(&matrix, Params::new());
    let scores = model.predict(&matrix.x).unwrap();
    assert!(scores.iter().all(|s| s.is_finite()));
    assert!(category.iter().zip(&scores).all(|(c, s)| *c != 1 || *s > 0.99));
}

#[test]
fn categories_without_an_indicator_add_nothing() {
    let matrix = linear_data(1_000);
    let model = fit_one(&matrix, params(json!({"reg_param": 0.01})));
    let mut x = matrix.x.clone();
    let score = |x: &mut crate::matrix::Features, index: u32| {
        x.values[6] = FeatureValues::Category(vec![index; 1_000].into());
        model.predict(x).unwrap()
    };
    let none = score(&mut x, 5);
    assert_eq!(none, score(&mut x, 77));
    assert_eq!(none, score(&mut x, u32::MAX));
    assert_ne!(none, score(&mut x, 1));
    assert_eq!(model.importances().len(), 6 + 5);
}

#[test]
fn many_labels_converge() {
    let n = 20_000;
    let mut matrix = linear_data(n);
    let mut features = matrix.x.features.to_vec();
    let labels = (0..100).map(|i| format!("d{i}")).collect();
    features.push(Feature { name: "dest".into(), kind: FeatureKind::Category { labels, indicators: 100 } });
    matrix.x.features = features.into();
    // Every label has an indicator: they sum to the intercept's column, and unpenalised fits are not unique.
    let dest = (0..n).map(|i| (unit(i, 30) * unit(i, 31) * 100.0) as u32);
    matrix.x.values.push(FeatureValues::Category(dest.collect()));
    let plain = fit_one(&matrix, Params::new());
    let rate = |scores: &[f64]| scores.iter().sum::<f64>() / n as f64;
    let mean = matrix.label.iter().sum::<f64>() / n as f64;
    assert!((rate(&plain.predict(&matrix.x).unwrap()) - mean).abs() < 1e-6);
    let lasso = fit_one(&matrix, params(json!({"reg_param": 0.01, "elastic_net_param": 1.0})));
    assert!(lasso.coefficients().remove(0).iter().filter(|c| c.1 == 0.0).count() > 90);
}

/// Within bounds: SciPy's and Spark ML's, see `tests/fixtures/linear_models.py`.
#[test]
fn bounded_coefficients_are_those_of_the_references() {
    for case in linear_fixture()["bounded_logistic_regression"].as_array().unwrap() {
        let mut matrix = labelled_data(600, case["label"].as_str().unwrap());
        matrix.weight = case["weights"].as_bool().unwrap().then(|| some_weights(600));
        check(&fit_one(&matrix, params(case["params"].clone())), case);
        let shards = TestShards::new(&LogisticRegression, &matrix, 3, false);
        let candidates = [params(case["params"].clone())];
        let sharded = fit::fit_shards(&shards, &candidates, &FitContext::new(0)).remove(0).unwrap();
        check(&sharded, case);
    }
}

#[test]
fn bounds_that_nothing_reaches_change_nothing() {
    for (label, intercept) in [("binary", json!(-100)), ("class", json!(null))] {
        let matrix = labelled_data(2_000, label);
        for mixing in [0.0, 0.5] {
            let net = json!({"reg_param": 0.01, "elastic_net_param": mixing});
            let mut bounded = params(net.clone());
            bounded.extend(params(json!({
                "lower_bounds_on_coefficients": -100,
                "upper_bounds_on_coefficients": {"x0": 50, "c": 60},
                "lower_bounds_on_intercepts": intercept,
            })));
            let (free, bounded) = (fit_one(&matrix, params(net)), fit_one(&matrix, bounded));
            let all = |model: &LogisticRegressionModel| {
                let coefficients = model.coefficients().into_iter().flatten().map(|c| c.1);
                coefficients.chain(model.intercepts()).collect::<Vec<f64>>()
            };
            for (a, b) in all(&free).into_iter().zip(all(&bounded)) {
                assert!((a - b).abs() <= 1e-5 * b.abs() + 1e-7, "{label} {mixing}: {a} and {b}");
            }
        }
    }
}

#[test]
fn no_coefficient_is_beyond_its_bounds_by_a_bit() {
    let matrix = labelled_data(2_000, "binary");
    for bound in [0.1, 0.07, 0.3, 1.0 / 3.0] {
        let bounds = json!({"lower_bounds_on_coefficients": -bound, "upper_bounds_on_coefficients": bound});
        let coefficients = fit_one(&matrix, params(bounds)).coefficients().remove(0);
        assert!(coefficients.iter().all(|c| c.1.abs() <= bound), "{bound}: {coefficients:?}");
        assert!(coefficients.iter().any(|c| c.1.abs() == bound), "{bound}: {coefficients:?}");
        let equal = json!({"lower_bounds_on_coefficients": bound, "upper_bounds_on_coefficients": bound});
        let coefficients = fit_one(&matrix, params(equal)).coefficients().remove(0);
        assert!(coefficients.iter().all(|c| (c.1 - bound).abs() < 1e-15), "{bound}: {coefficients:?}");
    }
}

/// By name, the mean slope of the loss by a coefficient or the intercept of a model without a penalty, in units of the
/// column's mean absolute value.
fn slopes(matrix: &Matrix, model: &LogisticRegressionModel) -> Vec<(String, f64)> {
    let scores = model.predict(&matrix.x).unwrap();
    let n = scores.len();
    let slope = |value: &dyn Fn(usize) -> f64| {
        let off: f64 = (0..n).map(|i| (scores[i] - matrix.label[i]) * value(i)).sum();
        off / (0..n).map(|i| value(i).abs()).sum::<f64>()
    };
    let mut all = Vec::new();
    for (feature, values) in matrix.x.features.iter().zip(&matrix.x.values) {
        for (k, name) in feature.expanded_names().into_iter().enumerate() {
            let slope = match values {
                FeatureValues::Number(values) => slope(&|i| values[i]),
                FeatureValues::Category(values) => slope(&|i| f64::from(u8::from(values[i] as usize == k))),
            };
            all.push((name, slope));
        }
    }
    all.push(("intercept".to_owned(), slope(&|_| 1.0)));
    all
}

/// Slopes are 0 but at a bound that they press against. The raw intercept of columns far from 0 hangs on their
/// coefficients, and some bounds leave most rows with scores of 0 or 1, where losses are all but flat.
#[test]
fn bounds_far_from_the_free_optimum_are_kept_at_an_optimum() {
    let mut matrix = linear_data(2_000);
    for (j, far) in [(0, 2_000.0), (2, -500.0)] {
        let FeatureValues::Number(values) = matrix.x.values[j].clone() else { panic!() };
        matrix.x.values[j] = FeatureValues::Number(values.iter().map(|v| v + far).collect());
    }
    let free = fit_one(&matrix, Params::new()).intercepts()[0];
    let (lower, upper) = ("lower_bounds_on_coefficients", "upper_bounds_on_coefficients");
    let cases = [
        json!({"lower_bounds_on_intercepts": free + 50.0}),
        json!({"upper_bounds_on_intercepts": free - 50.0}),
        json!({"lower_bounds_on_intercepts": 10.0, lower: -0.01}),
        json!({lower: {"x4": 5, "c": 0}, upper: {"x5": -3}}),
        json!({lower: {"x3": 0.2}}),
        json!({upper: {"x3": -1}, "upper_bounds_on_intercepts": 0}),
    ];
    for case in cases {
        let model = fit_one(&matrix, params(case.clone()));
        let given = LogisticRegressionParams::parse(&params(case.clone())).unwrap();
        let bounds = given.raw_bounds(&matrix.x.features).unwrap().unwrap();
        let values: Vec<f64> =
            model.coefficients().remove(0).into_iter().map(|c| c.1).chain(model.intercepts()).collect();
        for (j, (name, slope)) in slopes(&matrix, &model).into_iter().enumerate() {
            let (value, lower, upper) = (values[j], bounds.lower[j], bounds.upper[j]);
            let rounding = 1e-9 * value.abs();
            assert!(lower - rounding <= value && value <= upper + rounding, "{case} {name}: {value}");
            let presses = (value <= lower + rounding && slope > 0.0) || (value >= upper - rounding && slope < 0.0);
            assert!(presses || slope.abs() < 1e-5, "{case} {name}: slope {slope} at {value}");
        }
    }
}

#[test]
fn candidates_of_other_bounds_find_their_own_optimum() {
    let matrix = linear_data(2_000);
    let (lower, upper) = ("lower_bounds_on_coefficients", "upper_bounds_on_coefficients");
    let candidates = [
        json!({}),
        json!({lower: 0}),
        json!({upper: {"x0": 0.1, "c": -0.5}}),
        json!({"upper_bounds_on_intercepts": -1}),
        json!({"upper_bounds_on_intercepts": -1, "reg_param": 0.01}),
    ]
    .map(params);
    let rows: Vec<u32> = (0..2_000).collect();
    let together = fit::fit(&matrix, &rows, &candidates, &FitContext::new(0));
    for (model, candidate) in together.into_iter().zip(candidates) {
        let (model, single) = (model.unwrap(), fit_one(&matrix, candidate));
        for ((name, a), (_, b)) in model.coefficients().remove(0).iter().zip(single.coefficients().remove(0)) {
            // Steps end a few digits from the optimum, on the side that they came from.
            assert!((a - b).abs() <= 1e-4 * b.abs() + 1e-6, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn wrong_bounds_say_what_is_expected() {
    let (lower, upper) = ("lower_bounds_on_coefficients", "upper_bounds_on_coefficients");
    let cases = [
        (json!({lower: "0"}), "expected a number, or a mapping of numbers by feature, got \"0\""),
        (json!({lower: {"x0": "0"}}), "expected a number, or a mapping of numbers by feature"),
        (json!({lower: 2, upper: 1}), "the lower bound 2 on all coefficients is above its upper bound 1"),
        (json!({lower: {"x0": 2}, upper: 1}), "the lower bound 2 on coefficient \"x0\" is above its upper bound 1"),
        (json!({lower: 0, upper: {"x0": -1}}), "the lower bound 0 on coefficient \"x0\" is above its upper bound -1"),
        (
            json!({"lower_bounds_on_intercepts": 1, "upper_bounds_on_intercepts": 0}),
            "the lower bound 1 on the intercept",
        ),
        (json!({"lower_bounds_on_intercepts": 1, "fit_intercept": false}), "fit_intercept is false; leave it out"),
    ];
    for (wrong, expected) in cases {
        let error = LogisticRegression.validate(&params(wrong), ProblemType::Binary).unwrap_err().to_string();
        assert!(error.starts_with("logistic_regression") && error.contains(expected), "{error}");
    }
    let of_intercepts = params(json!({"upper_bounds_on_intercepts": 1}));
    let error = LogisticRegression.validate(&of_intercepts, ProblemType::Multiclass).unwrap_err().to_string();
    assert!(error.contains("upper_bounds_on_intercepts is for problems of type binary"), "{error}");
}

#[test]
fn bounds_on_what_is_not_there_are_errors_of_their_candidate() {
    let matrix = linear_data(300);
    let candidates = [
        json!({"lower_bounds_on_coefficients": {"x00": 0}}),
        json!({"lower_bounds_on_coefficients": {"c": 1}, "upper_bounds_on_coefficients": {"c=l3": 0}}),
        json!({}),
    ]
    .map(params);
    let rows: Vec<u32> = (0..300).collect();
    let errors: Vec<String> = fit::fit(&matrix, &rows, &candidates, &FitContext::new(0))
        .into_iter()
        .map(|fitted| fitted.map_or_else(|e| e.to_string(), |_| String::new()))
        .collect();
    assert!(
        errors[0].contains("there is no feature \"x00\"; did you mean \"x0\"?; the features are x0, x1"),
        "{errors:?}"
    );
    assert!(errors[1].contains("the lower bound 1 on coefficient \"c=l3\" is above its upper bound 0"), "{errors:?}");
    assert_eq!(errors[2], "");
}

/// With weights, and for more classes than two: scikit-learn's and Spark ML's, see `tests/fixtures/linear_models.py`.
#[test]
fn weighted_and_multinomial_coefficients_are_those_of_the_references() {
    for case in linear_fixture()["logistic_regression"].as_array().unwrap() {
        let mut matrix = labelled_data(600, case["label"].as_str().unwrap());
        matrix.weight = case["weights"].as_bool().unwrap().then(|| some_weights(600));
        check(&fit_one(&matrix, params(case["params"].clone())), case);
    }
}

#[test]
fn classes_of_known_data_have_the_coefficients_of_scikit_learn() {
    for name in ["iris", "wine"] {
        let (matrix, cases) = data_set(name, ProblemType::Multiclass);
        for case in cases {
            check(&fit_one(&matrix, params(case["params"].clone())), &case);
        }
    }
}

fn check(model: &LogisticRegressionModel, case: &serde_json::Value) {
    for (class, (coefficients, intercept)) in model.coefficients().iter().zip(model.intercepts()).enumerate() {
        let expected = (&case["coefficients"][class], &case["intercepts"][class]);
        check_weights(&json!([class, case["by"], case["params"]]), (coefficients, intercept), expected);
    }
}

#[test]
fn rows_of_weight_0_are_as_if_absent() {
    for label in ["binary", "class"] {
        let mut matrix = labelled_data(3_000, label);
        let candidates = [params(json!({"reg_param": 0.01}))];
        let rows: Vec<u32> = (0..3_000).filter(|r| r % 3 > 0).collect();
        let absent = fit::fit(&matrix, &rows, &candidates, &FitContext::new(0)).remove(0).unwrap();
        matrix.weight = Some((0..3_000).map(|r| f64::from(u8::from(r % 3 > 0))).collect());
        assert_eq!(fit_one(&matrix, candidates[0].clone()), absent);
    }
}

#[test]
fn a_class_without_rows_is_all_but_impossible() {
    let matrix = some_classes(1_000);
    let model = fit_one(&matrix, Params::new());
    assert_eq!(model.n_outputs(), 5);
    let scores = model.predict(&matrix.x).unwrap();
    for row in scores.chunks_exact(5) {
        assert!(row[2] < 1e-300 && row[4] < 1e-300 && (row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{row:?}");
    }
}

/// Of five classes, two without rows.
fn some_classes(n: usize) -> Matrix {
    let mut matrix = labelled_data(n, "class");
    matrix.n_classes = 5;
    matrix.label = matrix.label.iter().map(|y| y + f64::from(u8::from(*y == 2.0))).collect();
    matrix
}

#[test]
fn classes_over_shards_are_those_in_memory() {
    let mut matrix = some_classes(3_000);
    let all: Vec<u32> = (0..3_000).collect();
    let candidates = [
        json!({}),
        json!({"reg_param": 0.02, "elastic_net_param": 1.0}),
        json!({"reg_param": 0.05, "fit_intercept": false, "standardization": false}),
    ]
    .map(params);
    for weight in [None, Some(some_weights(3_000))] {
        matrix.weight = weight;
        let in_memory = fit::fit(&matrix, &all, &candidates, &FitContext::new(0));
        for n_shards in [1, 5] {
            let shards = TestShards::new(&LogisticRegression, &matrix, n_shards, false);
            let sharded = fit::fit_shards(&shards, &candidates, &FitContext::new(0));
            for ((ours, theirs), candidate) in sharded.into_iter().zip(&in_memory).zip(&candidates) {
                let (ours, theirs) = (ours.unwrap(), theirs.as_ref().unwrap());
                assert_eq!([2, 4].map(|class| ours.intercepts()[class]), [f64::NEG_INFINITY; 2]);
                let (ours, theirs) = (ours.predict(&matrix.x).unwrap(), theirs.predict(&matrix.x).unwrap());
                let furthest = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(furthest < 1e-7, "{candidate:?} over {n_shards} shards is {furthest} off");
            }
        }
    }
}

#[test]
fn labels_that_are_no_classes_are_found_over_shards_too() {
    let matrix = some_classes(300);
    let with_first = |label: f64| [&[label], &matrix.label[1..]].concat();
    for label in [with_first(0.5), with_first(5.0), with_first(-1.0), with_first(f64::NAN), vec![3.0; 300]] {
        let wrong = Matrix { label: label.into(), ..matrix.clone() };
        let all: Vec<u32> = (0..300).collect();
        let in_memory = fit::fit(&wrong, &all, &[Params::new()], &FitContext::new(0)).remove(0);
        let shards = TestShards::new(&LogisticRegression, &wrong, 3, false);
        let sharded = fit::fit_shards(&shards, &[Params::new()], &FitContext::new(0)).remove(0);
        let (ours, theirs) = (sharded.unwrap_err().to_string(), in_memory.unwrap_err().to_string());
        assert_eq!(ours.split(';').next(), theirs.split(", got").next().and_then(|text| text.split(';').next()));
    }
}

#[test]
fn two_classes_are_the_same_by_both_models() {
    let mut matrix = labelled_data(1_000, "binary");
    let one = fit_one(&matrix, Params::new());
    matrix.problem = ProblemType::Multiclass;
    let both = fit_one(&matrix, Params::new());
    let (one, both) = (one.predict(&matrix.x).unwrap(), both.predict(&matrix.x).unwrap());
    assert!(one.iter().zip(both.chunks_exact(2)).all(|(a, b)| (a - b[1]).abs() < 1e-6));
}

/// Classes that columns tell apart have no optimum without a penalty: fits end, and tell them apart.
#[test]
fn separable_classes_end() {
    let (matrix, _) = data_set("wine", ProblemType::Multiclass);
    let scores = fit_one(&matrix, Params::new()).predict(&matrix.x).unwrap();
    let own = scores.chunks_exact(3).zip(matrix.label.iter()).map(|(row, y)| row[*y as usize]);
    assert!(own.into_iter().all(|p| p > 0.99));
}

#[test]
fn many_classes_converge() {
    let n = 10_000;
    let mut matrix = linear_data(n);
    let class = |i: usize| (unit(i, 40) * unit(i, 0) * 60.0).floor();
    matrix = Matrix::new(matrix.x, (0..n).map(class).collect(), ProblemType::Multiclass);
    let model = fit_one(&matrix, params(json!({"reg_param": 1e-4})));
    let scores = model.predict(&matrix.x).unwrap();
    // With intercepts, which have no penalty, each class' mean probability is its share.
    for k in 0..matrix.n_classes {
        let mean = scores.iter().skip(k).step_by(matrix.n_classes).sum::<f64>() / n as f64;
        let share = matrix.label.iter().filter(|y| **y == k as f64).count() as f64 / n as f64;
        assert!((mean - share).abs() < 1e-6, "{k}: {mean} and {share}");
    }
}

#[test]
fn paths_that_share_passes_do_not_change_each_other() {
    let matrix = labelled_data(1_000, "binary");
    let all: Vec<u32> = (0..1_000).collect();
    let path = |ratio: f64| {
        let of_path = |reg: f64| params(json!({"reg_param": reg, "elastic_net_param": ratio}));
        [0.1, 0.01, 0.001].map(of_path)
    };
    let ratios: Vec<f64> = (0..12).map(|i| f64::from(i) / 11.0).collect();
    let saved = |candidates: &[Params]| -> Vec<_> {
        let fitted = LogisticRegression.fit(&matrix, &all, candidates, &FitContext::new(0));
        fitted.into_iter().map(|model| model.unwrap().save().unwrap()).collect()
    };
    let together = saved(&ratios.iter().flat_map(|ratio| path(*ratio)).collect::<Vec<_>>());
    let alone: Vec<_> = ratios.iter().flat_map(|ratio| saved(&path(*ratio))).collect();
    assert_eq!(together, alone);
}
