//! Bad input of stages: parameters and columns are named before anything runs, values with their column and remedy.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::prelude::SessionContext;
use serde_json::{Value, json};

use super::{Scope, StageRegistry};
use crate::Result;
use crate::functions::category_counts::MAX_CATEGORIES;
use crate::pipeline::{Pipeline, Subset};

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

/// The first feature of rows, by a stage that was fitted on them.
async fn feature(stage: Value, columns: Vec<(&str, ArrayRef)>) -> Result<ArrayRef> {
    let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?;
    let frame = || SessionContext::new().read_batch(rows.clone());
    let pipeline = Pipeline::from_value(&json!([stage]), &StageRegistry::default())?;
    let model = pipeline.fit(frame()?, &[Subset::all("all")]).await?.models.remove(0);
    let batches = model.transform(frame()?, &[])?.collect().await?;
    Ok(Arc::clone(batches[0].column(0)))
}

async fn refused(stage: Value, columns: Vec<(&str, ArrayRef)>) -> String {
    feature(stage, columns).await.unwrap_err().to_string()
}

fn numbers(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

#[tokio::test]
async fn too_many_categories_are_refused_with_their_limit() {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..=MAX_CATEGORIES).map(|i| i.to_string())));
    let label: ArrayRef = Arc::new(Float64Array::from_iter_values((0..=MAX_CATEGORIES).map(|i| (i % 2) as f64)));
    for name in ["string_indexer", "frequency_encoder", "target_encoder"] {
        let columns = vec![("t", Arc::clone(&texts)), ("label", Arc::clone(&label))];
        let message = refused(json!({name: {"inputs": ["t"]}}), columns).await;
        let expected = format!(
            "stage 1 ({name}): column \"t\" has more than 50000 distinct values; group the rare ones in SQL, or leave"
        );
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[tokio::test]
async fn a_column_without_any_number_is_named() {
    let stages = [
        "imputer",
        "max_abs_scaler",
        "min_max_scaler",
        "power_transformer",
        "quantile_clipper",
        "quantile_discretizer",
        "robust_scaler",
        "standard_scaler",
    ];
    for name in stages {
        let message = refused(json!({name: {"inputs": ["x"]}}), vec![("x", numbers(&[None, Some(f64::NAN)]))]).await;
        assert_eq!(
            message,
            format!("stage 1 ({name}): column \"x\" has no value that is present; leave it out (rows of \"all\")")
        );
    }
}

#[tokio::test]
async fn scalers_take_a_constant_column() {
    let middle = [("standard_scaler", 0.0), ("min_max_scaler", 0.5), ("max_abs_scaler", -1.0), ("robust_scaler", 0.0)];
    for (name, expected) in middle.into_iter().chain([("power_transformer", 0.0)]) {
        let constant = numbers(&[Some(-2.5), Some(-2.5), None]);
        let found = feature(json!({name: {"inputs": ["x"]}}), vec![("x", constant)]).await.unwrap();
        let found: Vec<Option<f64>> = found.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(found, [Some(expected), Some(expected), None], "{name}");
    }
}

#[tokio::test]
async fn missing_values_are_refused_with_their_rows_and_column() {
    let x = || numbers(&[Some(1.0), Some(f64::NAN), None, Some(2.0), Some(f64::NAN)]);
    let cases = [
        (
            json!({"vector_assembler": {"inputs": ["x"]}}),
            "stage vector_assembler: column \"x\" has a null or NaN in 3 of 5 rows; add an imputer before it, or use \
             handle_invalid = keep or skip",
        ),
        (
            json!({"bucketizer": {"inputs": ["x"], "splits": [0, 1, 2]}}),
            "stage bucketizer: column \"x\" has a NaN in 2 of 5 rows; use handle_invalid = keep or skip",
        ),
        (
            json!({"string_indexer": {"inputs": ["x"]}}),
            "stage string_indexer: column \"x\" has the value \"NaN\" in 2 of 5 rows, unseen when it was fitted; use \
             handle_invalid = keep or skip",
        ),
    ];
    for (stage, expected) in cases {
        let message = refused(stage, vec![("x", x())]).await;
        assert!(message.ends_with(expected), "{message}");
    }
}
