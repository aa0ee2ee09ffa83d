//! Bad input of stages on numbers: each is named before anything runs.

use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};

use super::{Scope, StageRegistry};
use crate::Result;

/// What a stage makes of columns `x`, a number, and `t`, a text.
fn planned(name: &str, params: &Value) -> Result<()> {
    let number = Field::new("x", DataType::Float64, true);
    let text = Field::new("t", DataType::Utf8, true);
    let stage = StageRegistry::default().parse(name, params)?;
    stage.plan(&Scope::of(&Schema::new(vec![number, text]))).map(|_| ())
}

fn check(name: &str, params: Value, expected: &str) {
    assert_eq!(planned(name, &params).unwrap_err().to_string(), expected, "{name} {params}");
}

#[test]
fn columns_are_there_and_are_numbers() {
    let stages = [
        ("bucketizer", json!({"splits": [0, 1, 2]})),
        ("max_abs_scaler", json!({})),
        ("min_max_scaler", json!({})),
        ("quantile_discretizer", json!({})),
        ("robust_scaler", json!({})),
    ];
    for (name, mut params) in stages {
        check(name, params.clone(), "parameter \"inputs\" is missing; expected a list of column names");
        params["inputs"] = json!(["y"]);
        check(name, params.clone(), "column \"y\" does not exist");
        params["inputs"] = json!(["t"]);
        check(name, params.clone(), "column \"t\" is Utf8; expected a number");
        params["inputs"] = json!(["x"]);
        assert!(planned(name, &params).is_ok());
        params["outputs"] = json!(["a", "b"]);
        check(name, params.clone(), "parameter \"outputs\" has 2 columns; expected 1, one for each input");
        params["relative_error"] = json!(0.1);
        let message = planned(name, &params).unwrap_err().to_string();
        assert!(message.starts_with("unknown parameter \"relative_error\""), "{message}");
    }
}

#[test]
fn bucketizer_takes_splits_that_ascend() {
    let check = |splits: Value, expected: &str| {
        check("bucketizer", json!({"inputs": ["x"], "splits": splits}), expected);
    };
    check(Value::Null, "parameter \"splits\" or \"splits_array\" is missing");
    check(json!([0, 1]), "splits are at least three numbers in ascending order, got [0.0, 1.0]");
    check(json!([0, 2, 1]), "splits are at least three numbers in ascending order, got [0.0, 2.0, 1.0]");
    check(json!([0, "NaN", 1]), "parameter \"splits\": expected a list of numbers, got [0,\"NaN\",1]");
    check(json!(3), "parameter \"splits\": expected a list of numbers, got 3");
    let infinite = json!({"inputs": ["x"], "splits": ["-Infinity", 0, "Infinity"]});
    assert!(planned("bucketizer", &infinite).is_ok());
}

#[test]
fn bucketizer_takes_a_list_of_splits_for_each_input() {
    let arrays = json!({"inputs": ["x"], "splits_array": [[0, 1, 2], [0, 1, 2]]});
    let expected = "parameter \"splits_array\": expected 1 lists of numbers, one for each input, got [[0,1,2],[0,1,2]]";
    check("bucketizer", arrays, expected);
    let both = json!({"inputs": ["x"], "splits": [0, 1, 2], "splits_array": [[0, 1, 2]]});
    check("bucketizer", both, "expected one of \"splits\" and \"splits_array\", got both");
    let mode = json!({"inputs": ["x"], "splits": [0, 1, 2], "handle_invalid": "drop"});
    check("bucketizer", mode, "parameter \"handle_invalid\": expected one of error, skip, keep, got \"drop\"");
}

#[test]
fn discretizer_takes_two_buckets_or_more() {
    let params = json!({"inputs": ["x"], "num_buckets": 1});
    let expected = "parameter \"num_buckets\": expected a whole number of 2 to 65536, got 1";
    check("quantile_discretizer", params, expected);
    let params = json!({"inputs": ["x"], "num_buckets_array": [2, 3]});
    let expected =
        "parameter \"num_buckets_array\": expected 1 whole numbers of 2 to 65536, one for each input, got [2,3]";
    check("quantile_discretizer", params, expected);
}

#[test]
fn target_encoder_takes_a_label_that_is_a_number() {
    check("target_encoder", json!({"inputs": ["t"]}), "column \"label\" does not exist");
    let params = json!({"inputs": ["x"], "label_col": "t"});
    check("target_encoder", params, "column \"t\" is Utf8; expected a number");
    let params = json!({"inputs": ["t"], "label_col": ["x", "t"]});
    check("target_encoder", params, "\"label_col\" is one column, got [\"x\", \"t\"]");
    let params = json!({"inputs": ["t"], "label_col": "x", "smoothing": -1});
    check("target_encoder", params, "expected a finite \"smoothing\" of at least 0, got -1");
    let params = json!({"inputs": ["t"], "label_col": "x", "handle_invalid": "skip"});
    check("target_encoder", params, "parameter \"handle_invalid\": expected one of error, keep, got \"skip\"");
    let cross_fit = |more: Value| {
        let mut params = json!({"inputs": ["t"], "label_col": "x"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let missing = "\"cv\" of 5 needs \"by\", a column whose hash deals rows to folds, such as a row's key";
    check("target_encoder", cross_fit(json!({"cv": 5})), missing);
    check("target_encoder", cross_fit(json!({"by": "t"})), "\"by\" deals rows to folds; give their number as \"cv\"");
    check(
        "target_encoder",
        cross_fit(json!({"cv": 51, "by": "t"})),
        "parameter \"cv\": expected a whole number of 1 to 50, got 51",
    );
    check("target_encoder", cross_fit(json!({"cv": 5, "by": "z"})), "column \"z\" does not exist");
    let kind = "column \"x\" is Float64; expected a whole number, a date or text to deal rows to folds by";
    check("target_encoder", cross_fit(json!({"cv": 5, "by": "x"})), kind);
    assert!(planned("target_encoder", &json!({"inputs": ["t", "x"], "label_col": "x"})).is_ok());
}

#[test]
fn scalers_take_bounds_in_order() {
    let params = json!({"inputs": ["x"], "min": 1});
    check("min_max_scaler", params, "expected finite \"min\" below \"max\", got 1 and 1");
    let params = json!({"inputs": ["x"], "max": "NaN"});
    check("min_max_scaler", params, "expected finite \"min\" below \"max\", got 0 and NaN");
    let params = json!({"inputs": ["x"], "lower": 0.8});
    check("robust_scaler", params, "expected 0 < \"lower\" < \"upper\" < 1, got 0.8 and 0.75");
    let params = json!({"inputs": ["x"], "with_centering": 1});
    check("robust_scaler", params, "parameter \"with_centering\": expected true or false, got 1");
}
