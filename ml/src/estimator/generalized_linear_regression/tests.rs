use serde_json::json;

use super::*;
use crate::MlError;
use crate::estimator::FitContext;
use crate::estimator::support::testing::{
    check_weights, labelled_data, linear_data, linear_fixture, params, some_weights,
};

fn fit_one(matrix: &Matrix, candidate: Params) -> Result<GeneralizedLinearRegressionModel> {
    let rows: Vec<u32> = (0..matrix.label.len() as u32).collect();
    fit::fit(matrix, &rows, &[candidate], &FitContext::new(0)).remove(0)
}

#[test]
fn coefficients_are_those_of_the_references() {
    let fixture = linear_fixture();
    let cases = fixture["generalized_linear_regression"].as_array().unwrap();
    assert!(cases.len() > 25);
    for case in cases {
        let mut matrix = labelled_data(600, case["label"].as_str().unwrap());
        matrix.weight = case["weights"].as_bool().unwrap().then(|| some_weights(600));
        let mut candidate = params(case["params"].clone());
        // Links that are not canonical converge more slowly.
        candidate.insert("max_iter".to_owned(), json!(200));
        let model = fit_one(&matrix, candidate).unwrap();
        check_weights(
            &json!([case["by"], case["params"]]),
            (&model.coefficients(), model.intercept()),
            (&case["coefficients"], &case["intercept"]),
        );
    }
}

#[test]
fn defaults_are_the_canonical_links_and_converge() {
    for (label, family) in [("number", "gaussian"), ("count", "poisson"), ("positive", "gamma"), ("binary", "binomial")]
    {
        let matrix = labelled_data(3_000, label);
        let model = fit_one(&matrix, params(json!({"family": family}))).unwrap();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        // With its canonical link and an intercept, a family's means sum to those of the labels.
        let (got, want) = (mean(&model.predict(&matrix.x).unwrap()), mean(&matrix.label));
        assert!((got - want).abs() < 1e-6 * want.abs(), "{family}: {got} and {want}");
    }
    let matrix = linear_data(500);
    let default = GeneralizedLinearRegressionParams::parse(&Params::new(), matrix.problem).unwrap();
    assert_eq!((default.family, default.link), (Family::Binomial, Link::Logit));
}

#[test]
fn links_without_a_start_at_0_start_from_least_squares() {
    let mut matrix = labelled_data(1_000, "positive");
    // Means above 0 for all rows, without an intercept: one column of positive numbers.
    let first = match &matrix.x.values[4] {
        crate::matrix::FeatureValues::Number(v) => v.iter().map(|v| v + 0.5).collect(),
        crate::matrix::FeatureValues::Category(_) => unreachable!(),
    };
    matrix.x.features = matrix.x.features[..1].into();
    matrix.x.values = vec![crate::matrix::FeatureValues::Number(first)];
    for link in ["inverse", "identity"] {
        let candidate = params(json!({"family": "gamma", "link": link, "fit_intercept": false}));
        let scores = fit_one(&matrix, candidate).unwrap().predict(&matrix.x).unwrap();
        assert!(scores.iter().all(|s| *s > 0.0));
    }
}

#[test]
fn labels_out_of_range_are_errors() {
    let mut matrix = labelled_data(100, "count");
    let error = fit_one(&matrix, params(json!({"family": "gamma"}))).unwrap_err().to_string();
    assert!(error.contains("must be above 0; those of the training rows are from 0 to"), "{error}");
    matrix.label = matrix.label.iter().enumerate().map(|(i, y)| if i < 3 { -1.0 } else { *y }).collect();
    let error = fit_one(&matrix, params(json!({"family": "poisson"}))).unwrap_err().to_string();
    assert!(error.contains("must be at least 0; those of the training rows are from -1 to"), "{error}");
    assert!(fit_one(&matrix, Params::new()).is_ok());
}

#[test]
fn families_are_for_their_problems_and_links_for_their_families() {
    let check = |candidate, problem| GeneralizedLinearRegression.validate(&params(candidate), problem);
    assert!(check(json!({"family": "binomial", "link": "probit"}), ProblemType::Binary).is_ok());
    let error = check(json!({"family": "binomial"}), ProblemType::Regression).unwrap_err().to_string();
    assert!(error.contains("expected one of gaussian, poisson, gamma"), "{error}");
    let error = check(json!({"family": "gamma", "link": "logit"}), ProblemType::Regression).unwrap_err().to_string();
    assert!(error.contains("expected one of inverse, identity, log"), "{error}");
    assert!(check(json!({}), ProblemType::Multiclass).is_err());
}

#[test]
fn models_of_impossible_links_are_corrupt() {
    let matrix = labelled_data(500, "count");
    let model = fit_one(&matrix, params(json!({"family": "poisson"}))).unwrap();
    let mut artifacts = model.save().unwrap();
    let text = String::from_utf8(artifacts["model.json"].clone()).unwrap().replace("\"log\"", "\"logit\"");
    artifacts.insert("model.json".to_owned(), text.into_bytes());
    let loaded = GeneralizedLinearRegressionModel::load(Arc::clone(&matrix.x.features), &artifacts);
    assert!(matches!(loaded, Err(MlError::Corrupt { .. })));
}
