use serde_json::json;

use super::*;
use crate::MlError;
use crate::estimator::FitContext;
use crate::estimator::support::testing::{
    check_weights, data_set, labelled_data, linear_data, linear_fixture, params, some_weights, unit,
};
use crate::matrix::FeatureValues;

fn fit_one(matrix: &Matrix, candidate: Params) -> LinearRegressionModel {
    let rows: Vec<u32> = (0..matrix.label.len() as u32).collect();
    fit::fit(matrix, &rows, &[candidate], &FitContext::new(0)).remove(0).unwrap()
}

fn numbers(matrix: &Matrix, column: usize) -> Vec<f64> {
    match &matrix.x.values[column] {
        FeatureValues::Number(values) => values.to_vec(),
        FeatureValues::Category(_) => panic!("a category"),
    }
}

#[test]
fn coefficients_are_those_of_the_references() {
    let mut matrix = labelled_data(600, "number");
    for case in linear_fixture()["linear_regression"].as_array().unwrap() {
        matrix.weight = case["weights"].as_bool().unwrap().then(|| some_weights(600));
        let model = fit_one(&matrix, params(case["params"].clone()));
        let got = model.coefficients();
        check_weights(
            &json!([case["by"], case["params"]]),
            (&got, model.intercept()),
            (&case["coefficients"], &case["intercept"]),
        );
        if case["by"] == "scikit-learn" && case["params"]["elastic_net_param"].as_f64().unwrap() > 0.0 {
            let zeros = case["coefficients"].as_array().unwrap().iter().map(|c| c.as_f64() == Some(0.0));
            assert!(got.iter().map(|c| c.1 == 0.0).eq(zeros), "{got:?} {case}");
        }
    }
}

#[test]
fn known_data_has_the_coefficients_of_scikit_learn() {
    let (matrix, cases) = data_set("diabetes", ProblemType::Regression);
    for case in cases {
        let model = fit_one(&matrix, params(case["params"].clone()));
        let expected = (&case["coefficients"][0], &case["intercepts"][0]);
        check_weights(&case["params"], (&model.coefficients(), model.intercept()), expected);
    }
}

#[test]
fn a_path_gives_what_single_fits_give() {
    let matrix = labelled_data(5_000, "number");
    let grid = [0.0, 0.01, 1.0].iter().flat_map(|r| [0.0, 0.5].map(|e| (*r, e)));
    let candidates: Vec<Params> = grid.map(|(r, e)| params(json!({"reg_param": r, "elastic_net_param": e}))).collect();
    let rows: Vec<u32> = (0..5_000).collect();
    let together = fit::fit(&matrix, &rows, &candidates, &FitContext::new(0));
    for (model, candidate) in together.into_iter().zip(candidates) {
        let (model, single) = (model.unwrap(), fit_one(&matrix, candidate));
        for ((name, a), (_, b)) in model.coefficients().iter().zip(single.coefficients()) {
            assert!((a - b).abs() <= 1e-6 * b.abs() + 1e-9, "{name}: {a} and {b}");
        }
    }
}

/// Columns between 1e-9 and 1e9 in size, one of them far from 0, and two that differ in their last digits only.
#[test]
fn columns_of_all_sizes_and_nearly_dependent_ones_are_solved() {
    let n = 2_000;
    let mut matrix = linear_data(n);
    let first = numbers(&matrix, 0);
    let scaled = |column: usize, by: f64, plus: f64| -> FeatureValues {
        FeatureValues::Number(numbers(&matrix, column).iter().map(|v| v * by + plus).collect())
    };
    let values = [(1, scaled(1, 1e9, 0.0)), (2, scaled(2, 1e-9, 0.0)), (3, scaled(3, 1.0, 1e6))];
    values.into_iter().for_each(|(column, values)| matrix.x.values[column] = values);
    let near: Vec<f64> = first.iter().enumerate().map(|(i, v)| v + 1e-4 * unit(i, 50)).collect();
    matrix.x.values[4] = FeatureValues::Number(near.into());
    let columns: Vec<Vec<f64>> = (0..6).map(|j| numbers(&matrix, j)).collect();
    let truth = [5.0, 2e-9, -3e9, 0.25, -4.0, 1.0];
    let label: Vec<f64> = (0..n).map(|i| 7.0 + (0..6).map(|j| truth[j] * columns[j][i]).sum::<f64>()).collect();
    matrix = Matrix::new(matrix.x, label, ProblemType::Regression);
    let model = fit_one(&matrix, Params::new());
    for ((name, got), want) in model.coefficients().iter().zip(truth) {
        assert!((got - want).abs() < 1e-6 * want.abs(), "{name}: {got} and {want}");
    }
}

#[test]
fn constant_and_dependent_columns_have_finite_coefficients() {
    let mut matrix = labelled_data(2_000, "number");
    matrix.x.values[4] = FeatureValues::Number(numbers(&matrix, 0).iter().map(|v| v * 2.0).collect());
    matrix.x.values[5] = FeatureValues::Number(vec![3.0; 2_000].into());
    for mixing in [0.0, 0.5, 1.0] {
        for reg in [0.0, 0.01] {
            let model = fit_one(&matrix, params(json!({"reg_param": reg, "elastic_net_param": mixing})));
            let coefficients = model.coefficients();
            assert!(coefficients.iter().all(|c| c.1.is_finite() && c.1.abs() < 10.0), "{coefficients:?}");
            assert_eq!(coefficients[5], ("x5".to_owned(), 0.0));
        }
    }
}

#[test]
fn constant_labels_are_the_intercept() {
    let matrix = linear_data(500);
    for value in [0.0, 2.5] {
        let matrix = Matrix::new(matrix.x.clone(), vec![value; 500], ProblemType::Regression);
        for candidate in [json!({}), json!({"reg_param": 0.1}), json!({"reg_param": 0.1, "elastic_net_param": 0.5})] {
            let scores = fit_one(&matrix, params(candidate)).predict(&matrix.x).unwrap();
            assert!(scores.iter().all(|s| (s - value).abs() < 1e-12));
        }
    }
}

#[test]
fn rows_of_weight_0_are_as_if_absent() {
    let mut matrix = labelled_data(3_000, "number");
    let candidates = [params(json!({"reg_param": 0.01}))];
    let rows: Vec<u32> = (0..3_000).filter(|r| r % 3 > 0).collect();
    let absent = fit::fit(&matrix, &rows, &candidates, &FitContext::new(0)).remove(0).unwrap();
    matrix.weight = Some((0..3_000).map(|r| f64::from(u8::from(r % 3 > 0))).collect());
    assert_eq!(fit_one(&matrix, candidates[0].clone()), absent);
}

#[test]
fn labels_of_classes_are_refused() {
    let error = LinearRegression.validate(&Params::new(), ProblemType::Binary).unwrap_err();
    assert!(matches!(&error, MlError::Invalid(text) if text.contains("type regression")), "{error}");
    let rows: Vec<u32> = (0..100).collect();
    let fitted = LinearRegression.fit(&linear_data(100), &rows, &[Params::new()], &FitContext::new(0)).remove(0);
    assert!(fitted.unwrap_err().to_string().contains("problem type is binary"));
}
