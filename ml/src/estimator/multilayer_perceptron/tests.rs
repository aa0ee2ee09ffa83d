use serde_json::{Value, json};

use super::*;
use crate::MlError;
use crate::estimator::FitContext;
use crate::estimator::support::testing::{
    HeldOut, data_of, forests_fixture, labelled_data, linear_data, params, slice, some_weights, standard_errors_apart,
    tree_data,
};
use crate::eval;
use crate::matrix::FeatureValues;

#[test]
fn a_network_learns_a_product_of_steps() {
    let n = 20_000;
    let mut matrix = tree_data(n);
    for values in &mut matrix.x.values {
        if let FeatureValues::Number(v) = values {
            *v = v.iter().map(|v| if v.is_nan() { 0.0 } else { (v - 0.5) * 3.5 }).collect();
        }
    }
    let rows: Vec<u32> = (0..n as u32 / 2).collect();
    let candidate = params(json!({"layers": [32], "max_iter": 30, "step_size": 0.01, "batch_size": 256}));
    let model = fit::fit(&matrix, &rows, &[candidate], &FitContext::new(1)).remove(0).unwrap();
    let scores = model.predict(&slice(&matrix.x, n / 2..n)).unwrap();
    let area = eval::area_under_roc(&scores, &matrix.label[n / 2..]).unwrap();
    // Trees reach 0.80 with the missing values as they are.
    assert!(area > 0.77, "{area}");
}

/// Scores of the kernel against candle's own forward pass would need the tensors back; instead the smallest network
/// is recomputed by hand from the saved weights.
#[test]
fn the_kernel_is_the_network_of_the_saved_weights() {
    let matrix = linear_data(2_000);
    let rows: Vec<u32> = (0..2_000).collect();
    let candidate = params(json!({"layers": [3], "max_iter": 1}));
    let model = fit::fit(&matrix, &rows, &[candidate], &FitContext::new(1)).remove(0).unwrap();
    let artifacts = model.save().unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&artifacts["model.safetensors"]).unwrap();
    let read = |name: &str| -> Vec<f64> {
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
    };
    let (w0, b0, w1, b1) = (read("layer.0.weight"), read("layer.0.bias"), read("layer.1.weight"), read("layer.1.bias"));
    assert_eq!((w0.len(), b0.len(), w1.len(), b1.len()), ((6 + 5) * 3, 3, 3, 1));
    for (row, score) in model.predict(&matrix.x).unwrap().iter().enumerate().take(200) {
        let mut hidden = b0.clone();
        for (j, values) in matrix.x.values.iter().enumerate() {
            let (input, by) = match values {
                FeatureValues::Number(v) => (Some(j), v[row]),
                FeatureValues::Category(v) => ((v[row] < 5).then_some(6 + v[row] as usize), 1.0),
            };
            for k in 0..3 {
                hidden[k] += input.map_or(0.0, |input| by * w0[input * 3 + k]);
            }
        }
        let z: f64 = b1[0] + (0..3).map(|k| hidden[k].max(0.0) * w1[k]).sum::<f64>();
        assert!((1.0 / (1.0 + (-z).exp()) - score).abs() < 1e-5);
    }
}

#[test]
fn a_missing_number_has_no_score() {
    let matrix = linear_data(500);
    let rows: Vec<u32> = (0..500).collect();
    let model = fit::fit(&matrix, &rows, &[params(json!({"max_iter": 1}))], &FitContext::new(1)).remove(0).unwrap();
    let mut x = slice(&matrix.x, 0..2);
    x.values[0] = FeatureValues::Number(vec![f64::NAN, 0.0].into());
    let scores = model.predict(&x).unwrap();
    assert!(scores[0].is_nan() && !scores[1].is_nan());
}

/// Columns of mean 0 and deviation 1 in some rows.
fn standardise(matrix: &mut Matrix, rows: &[u32]) {
    for values in &mut matrix.x.values {
        let FeatureValues::Number(v) = values else { continue };
        let n = rows.len() as f64;
        let mean = rows.iter().map(|r| v[*r as usize]).sum::<f64>() / n;
        let deviation = (rows.iter().map(|r| (v[*r as usize] - mean).powi(2)).sum::<f64>() / n).sqrt();
        *v = v.iter().map(|v| (v - mean) / if deviation > 0.0 { deviation } else { 1.0 }).collect();
    }
}

/// The means over 20 seeds of ours and 60 of scikit-learn's differ by no more than the noise: of 12 comparisons one
/// beyond two standard errors is to be expected, so each may have three, and their squares the sum that chance alone
/// exceeds in 1 of 20 cases.
#[test]
fn perceptrons_are_as_good_as_scikit_learn_s() {
    let fixture: Value = serde_json::from_str(include_str!("../../../tests/fixtures/perceptrons.json")).unwrap();
    let (sets, mut lines, mut worst, mut squares) = (forests_fixture(), Vec::new(), 0.0f64, 0.0);
    for of in fixture["sets"].as_array().unwrap() {
        let set = sets["sets"].as_array().unwrap().iter().find(|set| set["name"] == of["name"]).unwrap();
        let mut matrix = data_of(set);
        let held_out = HeldOut::third_of(&matrix);
        standardise(&mut matrix, &held_out.train);
        let held_out = HeldOut::third_of(&matrix);
        for expected in of["quality"].as_array().unwrap() {
            let names = ["layers", "max_iter", "step_size", "batch_size", "l2"];
            let candidate: Params = names.map(|name| (name.to_owned(), expected[name].clone())).into();
            let has_weights = expected["weights"].as_bool().unwrap();
            matrix.weight = has_weights.then(|| some_weights(matrix.label.len()));
            let quality = |seed| {
                let fitted =
                    fit::fit(&matrix, &held_out.train, std::slice::from_ref(&candidate), &FitContext::new(seed))
                        .remove(0);
                held_out.quality(&fitted.unwrap())
            };
            let (mean, apart) = standard_errors_apart(&(0..20).map(quality).collect::<Vec<_>>(), expected);
            lines.push(format!("{}: {mean:.4} for {}, {apart:.2} standard errors\n", of["name"], expected["mean"]));
            worst = worst.max(apart.abs());
            squares += apart * apart;
        }
    }
    assert!(worst <= 3.0 && squares <= 21.0, "{}", lines.concat());
}

fn fit_one(matrix: &Matrix, candidate: Value) -> MultilayerPerceptronModel {
    let rows: Vec<u32> = (0..matrix.label.len() as u32).collect();
    fit::fit(matrix, &rows, &[params(candidate)], &FitContext::new(1)).remove(0).unwrap()
}

#[test]
fn rows_of_weight_0_are_as_good_as_absent_and_equal_weights_as_none() {
    for label in ["binary", "class", "number"] {
        let mut matrix = labelled_data(3_000, label);
        let without = fit_one(&matrix, json!({"max_iter": 1}));
        matrix.weight = Some(vec![0.3; 3_000].into());
        assert_eq!(fit_one(&matrix, json!({"max_iter": 1})), without);

        matrix.weight = Some(some_weights(3_000));
        let weighted = fit_one(&matrix, json!({"max_iter": 1}));
        assert_ne!(weighted, without);
        let weights = matrix.weight.clone().unwrap();
        let rows: Vec<u32> = (0..3_000).filter(|row| weights[*row as usize] > 0.0).collect();
        let candidate = params(json!({"max_iter": 1}));
        let kept = fit::fit(&matrix, &rows, &[candidate], &FitContext::new(1)).remove(0).unwrap();
        assert_eq!(weighted, kept);
    }
}

/// The best constant of a weighted loss is the weighted mean, to which a network without inputs that vary comes.
#[test]
fn weights_move_what_is_learnt() {
    let mut matrix = labelled_data(4_000, "binary");
    for values in &mut matrix.x.values {
        *values = match values {
            FeatureValues::Number(_) => FeatureValues::Number(vec![0.0; 4_000].into()),
            FeatureValues::Category(_) => FeatureValues::Category(vec![5; 4_000].into()),
        };
    }
    let share = matrix.label.iter().sum::<f64>() / 4_000.0;
    matrix.weight = Some(matrix.label.iter().map(|y| 1.0 + 3.0 * y).collect());
    let score = fit_one(&matrix, json!({"layers": [4], "max_iter": 20, "step_size": 0.02})).predict(&matrix.x).unwrap();
    assert!((score[0] - 4.0 * share / (1.0 + 3.0 * share)).abs() < 0.02, "{} of {share}", score[0]);
}

#[test]
fn numbers_far_from_zero_are_learnt() {
    let mut matrix = labelled_data(4_000, "number");
    let plain = fit_one(&matrix, json!({"max_iter": 3})).predict(&matrix.x).unwrap();
    matrix.label = matrix.label.iter().map(|y| 1e9 + 1024.0 * y).collect();
    let moved = fit_one(&matrix, json!({"max_iter": 3})).predict(&matrix.x).unwrap();
    // Labels of 1e9 are rounded to 1e-7, a thousandth of which the shares have.
    assert!(plain.iter().zip(&moved).all(|(a, b)| ((b - 1e9) / 1024.0 - a).abs() < 1e-3));
    matrix.label = vec![7.0; 4_000].into();
    assert!(fit_one(&matrix, json!({"max_iter": 3})).predict(&matrix.x).unwrap().iter().all(|y| y.is_finite()));
    matrix.label = (0..4_000).map(|i| f64::from(i) * 1e300).collect();
    let rows: Vec<u32> = (0..4_000).collect();
    let error = fit::fit(&matrix, &rows, &[Params::new()], &FitContext::new(1)).remove(0).unwrap_err().to_string();
    assert!(error.contains("scale them"), "{error}");
}

#[test]
fn formats_are_of_their_problems() {
    for (label, format) in [("binary", 1), ("class", 2), ("number", 2)] {
        let matrix = labelled_data(500, label);
        let artifacts = fit_one(&matrix, json!({"max_iter": 1})).save().unwrap();
        let saved: Value = serde_json::from_slice(&artifacts["model.json"]).unwrap();
        assert_eq!((saved["format"].as_u64(), saved.get("output").is_some()), (Some(format), format == 2));
        for (wrong, expected) in [(3 - format, "has no output"), (3, "a newer build may read it")] {
            let mut other = saved.clone();
            other["format"] = wrong.into();
            let mut artifacts = artifacts.clone();
            artifacts.insert("model.json".to_owned(), serde_json::to_vec(&other).unwrap());
            let error = MultilayerPerceptron.load(Arc::clone(&matrix.x.features), &artifacts).unwrap_err();
            assert!(matches!(error, MlError::Corrupt { .. }) && error.to_string().contains(expected), "{error}");
        }
    }
}
