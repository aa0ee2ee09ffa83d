//! Stages on vectors: what Spark has no rows for, what models see of vectors, and what is refused.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, ListArray, RecordBatch};
use arrow::array::{BooleanArray, Int32Array, StringArray};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Field, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::lit;
use datafusion::prelude::{DataFrame, SessionContext, ident};
use serde_json::{Value, json};

use crate::Result;
use crate::matrix::{FeatureValues, Features};
use crate::pipeline::{Pipeline, PipelineModel, Subset};
use crate::stage::StageRegistry;

fn vectors(rows: &[Option<[f64; 3]>]) -> ArrayRef {
    let rows = rows.iter().map(|row| row.map(|row| row.map(Some)));
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows, 3))
}

/// Six rows: vectors with a null among them, lists of several lengths, and others.
fn table() -> RecordBatch {
    let floats = Float32Array::from(vec![0.5, 1.0, -2.0, 0.25, 3.0, 8.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let floats = FixedSizeListArray::new(
        Arc::new(Field::new("x", floats.data_type().clone(), false)),
        2,
        Arc::new(floats),
        None,
    );
    let lists = [vec![1.0, 2.0], vec![3.0], vec![4.0, 5.0], vec![], vec![6.0, 7.0], vec![8.0, 9.0]];
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>(
        lists.map(|list| Some(list.into_iter().map(Some).collect::<Vec<_>>())),
    );
    let rows = [
        Some([1.0, 2.0, -2.0]),
        None,
        Some([0.0, 0.0, 0.0]),
        Some([f64::NAN, 5.0, 1.0]),
        Some([1.0, -4.0, 8.0]),
        Some([0.1, 0.7, 1e9]),
    ];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("v", vectors(&rows)),
        ("floats", Arc::new(floats)),
        ("list", Arc::new(lists)),
        ("x", Arc::new(Float64Array::from(vec![Some(1.5), Some(-3.0), None, Some(0.1), Some(0.2), Some(1e8)]))),
        ("n", Arc::new(Int32Array::from(vec![4, 5, 6, 7, 8, 9]))),
        ("flag", Arc::new(BooleanArray::from(vec![true, true, false, true, false, true]))),
        ("text", Arc::new(StringArray::from(vec!["a", "b", "a", "c", "b", "a"]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn frame(rows: &RecordBatch, batches: usize) -> DataFrame {
    let size = rows.num_rows().div_ceil(batches);
    let cut = |i: usize| rows.slice(i * size, size.min(rows.num_rows() - i * size));
    let partitions = (0..batches).map(|i| vec![cut(i)]).collect();
    let table = MemTable::try_new(rows.schema(), partitions).unwrap();
    SessionContext::new().read_table(Arc::new(table)).unwrap()
}

async fn fitted(stages: &Value, df: DataFrame) -> Result<PipelineModel> {
    let pipeline = Pipeline::from_value(stages, &StageRegistry::default())?;
    Ok(pipeline.fit(df, &[Subset::all("all")]).await?.models.remove(0))
}

/// The first feature of the table by a pipeline that was fitted on it.
async fn feature(stages: Value) -> Result<ArrayRef> {
    let rows = table();
    let model = fitted(&stages, frame(&rows, 1)).await?;
    let batches = model.transform(frame(&rows, 1), &[])?.collect().await?;
    Ok(Arc::clone(concat_batches(&batches[0].schema(), &batches)?.column(0)))
}

/// A vector's elements; none for a null one.
fn elements(array: &ArrayRef, row: usize) -> Option<Vec<f64>> {
    let lists = array.as_fixed_size_list();
    lists.is_valid(row).then(|| lists.value(row).as_primitive::<Float64Type>().values().to_vec())
}

#[tokio::test]
async fn null_vectors_stay_null() {
    let stages = [
        json!({"normalizer": {}}),
        json!({"elementwise_product": {"scaling_vec": [1, 2, 3]}}),
        json!({"dct": {}}),
        json!({"polynomial_expansion": {}}),
        json!({"vector_slicer": {"indices": [2, 0]}}),
        json!({"vector_indexer": {"max_categories": 2}}),
        json!({"variance_threshold_selector": {"variance_threshold": 2}}),
        json!({"standard_scaler": {}}),
        json!({"min_max_scaler": {}}),
        json!({"max_abs_scaler": {}}),
        json!({"robust_scaler": {}}),
    ];
    for mut stage in stages {
        let params = stage.as_object_mut().unwrap().values_mut().next().unwrap();
        params["inputs"] = json!(["v"]);
        let array = feature(json!([stage])).await.unwrap();
        let nulls: Vec<bool> = (0..6).map(|row| array.is_null(row)).collect();
        assert_eq!(nulls, [false, true, false, false, false, false], "{stage}");
    }
}

#[tokio::test]
async fn null_parts_are_nan_where_they_are_kept() {
    let assembled = feature(json!([
        {"vector_assembler": {"inputs": ["v", "x", "flag"], "output": "all", "handle_invalid": "keep"}},
    ]));
    let array = assembled.await.unwrap();
    assert_eq!(elements(&array, 0).unwrap(), [1.0, 2.0, -2.0, 1.5, 1.0]);
    assert!(elements(&array, 1).unwrap()[..3].iter().all(|x| x.is_nan()));
    assert!(elements(&array, 2).unwrap()[3].is_nan());
    let array = feature(json!([{"interaction": {"inputs": ["x", "v"], "output": "all"}}])).await.unwrap();
    assert_eq!(elements(&array, 0).unwrap(), [1.5, 3.0, -3.0]);
    assert_eq!(elements(&array, 1), None);
}

#[tokio::test]
async fn vectors_of_other_numbers_and_lists_are_read() {
    let array = feature(json!([{"vector_slicer": {"inputs": ["floats"], "indices": [1, 0]}}])).await.unwrap();
    assert_eq!(elements(&array, 1).unwrap(), [0.25, -2.0]);
    let hinted = feature(json!([{"vector_size_hint": {"inputs": ["list"], "size": 2, "handle_invalid": "skip"}}]));
    let array = hinted.await.unwrap();
    assert_eq!((0..array.len()).map(|row| elements(&array, row).unwrap()[0]).collect::<Vec<_>>(), [1.0, 4.0, 6.0, 8.0]);
}

#[tokio::test]
async fn models_see_the_elements_of_vectors() {
    let rows = table();
    let stages = json!([
        {"vector_assembler": {"inputs": ["n", "v"], "output": "all", "handle_invalid": "keep"}},
        {"vector_slicer": {"inputs": ["all"], "indices": [0, 3]}},
        {"string_indexer": {"inputs": ["text"]}},
        {"vector_assembler": {"inputs": ["n", "all", "text"]}},
    ]);
    let model = fitted(&stages, frame(&rows, 1)).await.unwrap();
    assert_eq!(model.feature_names(), ["n", "all", "text"]);
    let features = model.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    assert_eq!(features.features, model.model_features());
    let names: Vec<&str> = features.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["n", "all[0]", "all[1]", "text"]);
    let FeatureValues::Number(last) = &features.values[2] else { panic!("not numbers") };
    assert_eq!((last[0], last[4], last[5]), (-2.0, 8.0, 1e9));
    assert!(last[1].is_nan());
    let batches = model.transform(frame(&rows, 1), &[]).unwrap().collect().await.unwrap();
    let read = Features::from_batch(model.features(), &batches[0]).unwrap();
    assert_eq!(read.features, features.features);
    let explained = model.explain();
    assert!(explained.contains("feature all: vector of 2 numbers"), "{explained}");
    let back = PipelineModel::from_bytes(&model.to_bytes().unwrap(), &StageRegistry::default()).unwrap();
    assert_eq!(back.features(), model.features());
}

/// Everything that is fitted to vectors.
fn all_fitted() -> Value {
    let stage = |name: &str, output: &str| json!({name: {"inputs": ["v"], "outputs": [output]}});
    let regressed = json!({
        "inputs": ["v"], "outputs": ["h"], "label_col": "n", "feature_type": "continuous", "label_type": "continuous",
        "selection_threshold": 1,
    });
    let counted =
        json!({"inputs": ["v"], "outputs": ["i"], "label_col": "n", "selector_type": "percentile", "percentile": 0.7});
    json!([
        stage("standard_scaler", "a"),
        stage("min_max_scaler", "b"),
        stage("max_abs_scaler", "c"),
        stage("robust_scaler", "d"),
        stage("vector_indexer", "e"),
        stage("variance_threshold_selector", "f"),
        {"vector_assembler": {"inputs": ["n", "flag"], "output": "w"}},
        {"pca": {"inputs": ["w"], "outputs": ["g"], "k": 2}},
        {"univariate_feature_selector": regressed},
        {"chi_sq_selector": counted},
    ])
}

#[tokio::test]
async fn a_fit_depends_on_the_rows_alone() {
    let rows = table();
    let expected = fitted(&all_fitted(), frame(&rows, 1)).await.unwrap().to_bytes().unwrap();
    for order in [[5, 4, 3, 2, 1, 0], [2, 0, 4, 1, 5, 3]] {
        let order = arrow::array::UInt32Array::from_iter_values(order);
        let shuffled = take_record_batch(&rows, &order).unwrap();
        for batches in [1, 2, 3, 6] {
            let model = fitted(&all_fitted(), frame(&shuffled, batches)).await.unwrap();
            assert_eq!(model.to_bytes().unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn a_subset_is_fitted_as_if_it_were_all() {
    let rows = table();
    let filter = ident("n").gt(lit(5));
    let mut stages = vec![json!({"vector_size_hint": {"inputs": ["v"], "size": 3, "handle_invalid": "skip"}})];
    stages.extend(all_fitted().as_array().unwrap().clone());
    let stages = Value::Array(stages);
    let pipeline = Pipeline::from_value(&stages, &StageRegistry::default()).unwrap();
    let fit = pipeline.fit(frame(&rows, 2), &[Subset::of("fold", filter.clone()), Subset::all("all")]).await.unwrap();
    let alone = fitted(&stages, frame(&rows, 1).filter(filter).unwrap()).await.unwrap();
    assert_eq!(fit.models[0].to_bytes().unwrap(), alone.to_bytes().unwrap());
    assert_ne!(fit.models[1].to_bytes().unwrap(), alone.to_bytes().unwrap());
}

#[tokio::test]
async fn mistakes_are_named() {
    let cases = [
        (
            json!({"normalizer": {"inputs": ["x"]}}),
            "stage 1 (normalizer): column \"x\" is Float64; expected a vector, such as a vector_assembler with an \
             output makes",
        ),
        (
            json!({"normalizer": {"inputs": ["v"], "p": 0.5}}),
            "stage 1 (normalizer): expected a \"p\" of at least 1, got 0.5",
        ),
        (
            json!({"elementwise_product": {"inputs": ["v"], "scaling_vec": [1, 2]}}),
            "stage 1 (elementwise_product): column \"v\" is a vector of 3 numbers; expected 2, one for each of \
             \"scaling_vec\"",
        ),
        (
            json!({"elementwise_product": {"inputs": ["v"]}}),
            "stage 1 (elementwise_product): parameter \"scaling_vec\" is missing; expected a list of numbers",
        ),
        (
            json!({"vector_slicer": {"inputs": ["v"], "indices": [0, 3]}}),
            "stage 1 (vector_slicer): column \"v\" is a vector of 3 numbers; it has no element 3",
        ),
        (
            json!({"vector_slicer": {"inputs": ["v"]}}),
            "stage 1 (vector_slicer): parameter \"indices\": expected a list of whole numbers, got null",
        ),
        (
            json!({"polynomial_expansion": {"inputs": ["v"], "degree": 200}}),
            "stage 1 (polynomial_expansion): column \"v\" is a vector of 3 numbers, which have more than 1048576 \
             products of degree 200; lower \"degree\"",
        ),
        (
            json!({"interaction": {"inputs": ["v"], "output": "out"}}),
            "stage 1 (interaction): expected at least two columns of \"inputs\", got [\"v\"]",
        ),
        (
            json!({"interaction": {"inputs": ["v", "x"]}}),
            "stage 1 (interaction): parameter \"output\" is missing; expected a column name",
        ),
        (
            json!({"interaction": {"inputs": ["v", "text"], "output": "out"}}),
            "stage 1 (interaction): column \"text\" is Utf8; expected a number",
        ),
        (
            json!({"vector_size_hint": {"inputs": ["v"], "size": 2}}),
            "stage 1 (vector_size_hint): column \"v\" is a vector of 3 numbers; expected a list of numbers or a vector \
             of 2",
        ),
        (
            json!({"vector_size_hint": {"inputs": ["list"]}}),
            "stage 1 (vector_size_hint): parameter \"size\" is missing; expected a whole number",
        ),
        (
            json!({"vector_size_hint": {"inputs": ["list"], "size": 2}}),
            "Execution error: column \"list\": a list has 1 elements; expected 2",
        ),
        (
            json!({"vector_assembler": {"inputs": ["x", "text"], "output": "out"}}),
            "stage 1 (vector_assembler): column \"text\" is Utf8; expected a number or a dense vector",
        ),
        (
            json!({"vector_assembler": {"inputs": ["v"], "output": "out"}}),
            "Execution error: stage vector_assembler: column \"v\" has a null vector in 1 of 6 rows; use \
             handle_invalid = keep or skip",
        ),
        (
            json!({"variance_threshold_selector": {"inputs": ["v"], "variance_threshold": "Infinity"}}),
            "stage 1 (variance_threshold_selector): no element of vector \"v\" is selected; leave it out (rows of \
             \"all\")",
        ),
        (
            json!({"min_max_scaler": {"inputs": ["text"]}}),
            "stage 1 (min_max_scaler): column \"text\" is Utf8; expected a number",
        ),
        (
            json!({"pca": {"inputs": ["v"], "k": 4}}),
            "stage 1 (pca): column \"v\" is a vector of 3 numbers; expected at least \"k\", 4, and at most 360",
        ),
        (
            json!({"pca": {"inputs": ["v"], "k": 1}}),
            "stage 1 (pca): column \"v[0]\" is NaN or infinite somewhere, its squares are, or there are fewer than two \
             vectors; expected finite numbers (rows of \"all\")",
        ),
        (
            json!({"univariate_feature_selector": {"inputs": ["v"], "feature_type": "categorical"}}),
            "stage 1 (univariate_feature_selector): expected \"feature_type\" and \"label_type\" categorical, or \
             continuous features, got \"categorical\" and \"\"",
        ),
        (
            json!({"chi_sq_selector": {"inputs": ["v"], "label_col": "text"}}),
            "stage 1 (chi_sq_selector): column \"text\" is Utf8; expected a number",
        ),
        (
            json!({"chi_sq_selector": {"inputs": ["v"], "label_col": "n", "selector_type": "fdr", "fdr": 2}}),
            "stage 1 (chi_sq_selector): expected a \"fdr\" within 0 and 1, got 2",
        ),
        (
            json!({"imputer": {"inputs": ["v"]}}),
            "stage 1 (imputer): column \"v\" is a vector of 3 numbers; expected a number",
        ),
    ];
    for (stage, expected) in cases {
        let error = feature(json!([stage])).await.unwrap_err().to_string();
        assert_eq!(error, expected, "{stage}");
    }
}

#[tokio::test]
async fn sizes_that_only_the_fit_finds_are_checked_then() {
    let selected = json!({"variance_threshold_selector": {"inputs": ["v"], "variance_threshold": 100}});
    let sliced = |index: u32| json!([selected, {"vector_slicer": {"inputs": ["v"], "indices": [index]}}]);
    let array = feature(sliced(0)).await.unwrap();
    assert_eq!(elements(&array, 5).unwrap(), [1e9]);
    let error = feature(sliced(1)).await.unwrap_err().to_string();
    assert!(error.contains("column \"v\" is a vector of 1 numbers; it has no element 1"), "{error}");
}
