//! Out-of-fold encoding: scikit-learn's numbers, and what must hold of them.

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use datafusion::datasource::MemTable;
use datafusion::prelude::ident;
use datafusion::prelude::{DataFrame, SessionContext};
use serde_json::json;

use super::*;
use crate::estimator::{FoldKey, fold_hash, fold_of};
use crate::eval::area_under_roc;
use crate::pipeline::{Pipeline, PipelineModel, Subset};
use crate::stage::StageRegistry;

/// Rows of category, key and label, in so many partitions.
fn frame(rows: &RecordBatch, partitions: usize) -> DataFrame {
    let n = rows.num_rows().div_ceil(partitions);
    let part = |i: usize| vec![rows.slice((i * n).min(rows.num_rows()), n.min(rows.num_rows().saturating_sub(i * n)))];
    let table = MemTable::try_new(rows.schema(), (0..partitions).map(part).collect()).unwrap();
    SessionContext::new().read_table(Arc::new(table)).unwrap()
}

fn batch(categories: StringArray, keys: ArrayRef, labels: Float64Array) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [("x", Arc::new(categories)), ("key", keys), ("label", Arc::new(labels))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

async fn fit(stages: &Value, df: DataFrame) -> Result<PipelineModel> {
    let pipeline = Pipeline::from_value(stages, &StageRegistry::default())?;
    Ok(pipeline.fit(df, &[Subset::all("all")]).await?.models.remove(0))
}

async fn column(df: DataFrame, name: &str) -> Vec<f64> {
    let batches = df.collect().await.unwrap();
    let rows = concat_batches(&batches[0].schema(), &batches).unwrap();
    rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

async fn in_training(model: &PipelineModel, rows: &RecordBatch, name: &str) -> Vec<f64> {
    column(model.transform_training(frame(rows, 1), &Subset::all("all"), &[]).unwrap(), name).await
}

fn encoder(params: &Value) -> Value {
    let mut all = json!({"inputs": ["x"], "outputs": ["rate"], "by": "key"});
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    json!([{"target_encoder": all}])
}

/// Noise: 800 categories that say nothing of the label.
fn noise() -> RecordBatch {
    let n = 4_000_i64;
    let drawn = |i: i64, of: u64| fold_hash(FoldKey::Number(i), of);
    let categories = (0..n).map(|i| format!("c{}", drawn(i, 3) % 800));
    let labels = (0..n).map(|i| (drawn(i, 4) % 2) as f64);
    let keys = Arc::new(Int64Array::from_iter_values(0..n));
    batch(StringArray::from_iter_values(categories), keys, labels.collect::<Vec<_>>().into())
}

#[tokio::test]
async fn rows_of_the_fit_are_encoded_as_by_scikit_learn() {
    let fixture = include_str!("../../../tests/fixtures/target_encoder_out_of_fold.json");
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    let numbers = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    for case in fixture["cases"].as_array().unwrap() {
        let rows = case["rows"].as_array().unwrap();
        let categories = rows.iter().map(|row| row[0].as_str()).collect();
        let keys: ArrayRef = match rows.iter().any(|row| row[1].is_string()) {
            true => Arc::new(rows.iter().map(|row| row[1].as_str()).collect::<StringArray>()),
            false => Arc::new(rows.iter().map(|row| row[1].as_i64()).collect::<Int64Array>()),
        };
        let rows = batch(categories, keys, rows.iter().map(|row| row[2].as_f64()).collect());
        let model = fit(&encoder(&case["params"]), frame(&rows, 2)).await.unwrap();
        let training = in_training(&model, &rows, "rate").await;
        let scoring = column(model.transform(frame(&rows, 1), &[]).unwrap(), "rate").await;
        for (found, expected) in [(training, &case["training"]), (scoring, &case["scoring"])] {
            let expected = numbers(expected);
            // Sums of scikit-learn round at each step; ours once.
            let magnitude = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
            let wrong = found.iter().zip(&expected).position(|(a, b)| (a - b).abs() > 1e-12 * magnitude);
            assert!(found.len() == expected.len() && wrong.is_none(), "{}: row {wrong:?}", case["name"]);
        }
    }
}

#[tokio::test]
async fn categories_that_say_nothing_stay_so_out_of_fold() {
    let rows = noise();
    let labels = rows["label"].as_primitive::<Float64Type>().values();
    let model = fit(&encoder(&json!({"cv": 5})), frame(&rows, 3)).await.unwrap();
    let naive = column(model.transform(frame(&rows, 1), &[]).unwrap(), "rate").await;
    let out_of_fold = in_training(&model, &rows, "rate").await;
    let (naive, out_of_fold) = (area_under_roc(&naive, labels).unwrap(), area_under_roc(&out_of_fold, labels).unwrap());
    assert!(naive > 0.7, "{naive}");
    assert!((out_of_fold - 0.5).abs() < 0.03, "{out_of_fold}");
}

#[tokio::test]
async fn later_stages_are_fitted_on_what_training_sees() {
    let rows = noise();
    let stages = json!([encoder(&json!({"cv": 4, "seed": 9}))[0], {"standard_scaler": {"inputs": ["rate"], "outputs": ["scaled"], "with_mean": true}}]);
    let model = fit(&stages, frame(&rows, 3)).await.unwrap();
    let scaled = in_training(&model, &rows, "scaled").await;
    let n = scaled.len() as f64;
    let mean = scaled.iter().sum::<f64>() / n;
    let variance = scaled.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
    assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-12, "mean {mean}, variance {variance}");
}

#[tokio::test]
async fn only_the_rows_of_the_fit_are_out_of_fold() {
    let rows = noise();
    let model = fit(&encoder(&json!({"cv": 5})), frame(&rows, 2)).await.unwrap();
    let fitted_on = Subset::of("few", ident("key").lt(lit(10_i64)));
    let by_row = column(model.transform_training(frame(&rows, 1), &fitted_on, &["label"]).unwrap(), "rate").await;
    let scoring = column(model.transform(frame(&rows, 1), &[]).unwrap(), "rate").await;
    let training = in_training(&model, &rows, "rate").await;
    assert_eq!(by_row[..10], training[..10]);
    assert_eq!(by_row[10..], scoring[10..]);
    assert_ne!(training[..10], scoring[..10]);
}

#[tokio::test]
async fn order_and_partitions_change_no_bit_and_a_saved_encoder_only_scores() {
    let rows = noise();
    let stages = encoder(&json!({"cv": 5, "smoothing": 0.3}));
    let model = fit(&stages, frame(&rows, 1)).await.unwrap();
    let other = fit(&stages, frame(&rows, 7)).await.unwrap();
    assert_eq!(other.to_bytes().unwrap(), model.to_bytes().unwrap());
    assert_eq!(in_training(&other, &rows, "rate").await, in_training(&model, &rows, "rate").await);

    let saved = PipelineModel::from_bytes(&model.to_bytes().unwrap(), &StageRegistry::default()).unwrap();
    let scoring = |model: &PipelineModel| column(model.transform(frame(&rows, 1), &[]).unwrap(), "rate");
    assert_eq!(scoring(&saved).await, scoring(&model).await);
    let error = saved.transform_training(frame(&rows, 1), &Subset::all("all"), &[]).unwrap_err().to_string();
    assert!(error.contains("does not keep the means of its 5 folds"), "{error}");
}

#[tokio::test]
async fn a_key_that_an_earlier_stage_wrote_deals_rows_too() {
    let rows = noise();
    let statement = "SELECT CAST(key / 100 AS BIGINT) AS hundred FROM __THIS__";
    let mut stages = json!([{"sql_transformer": {"statement": statement}}, encoder(&json!({"cv": 3}))[0]]);
    stages[1]["target_encoder"]["by"] = "hundred".into();
    let model = fit(&stages, frame(&rows, 2)).await.unwrap();
    let rates = in_training(&model, &rows, "rate").await;
    // Encoded by hand: the means over the other folds' rows of the category, or of all of them.
    let labels = rows["label"].as_primitive::<Float64Type>().values();
    let categories = rows["x"].as_string::<i32>();
    let fold = |row: usize| fold_of(FoldKey::Number(row as i64 / 100), 1, 3);
    let mean = |of: Vec<usize>| of.iter().map(|&row| labels[row]).sum::<f64>() / of.len() as f64;
    for row in [0, 99, 100, 1_234, 3_999] {
        let others: Vec<usize> = (0..labels.len()).filter(|&other| fold(other) != fold(row)).collect();
        let same: Vec<usize> =
            others.iter().copied().filter(|&other| categories.value(other) == categories.value(row)).collect();
        let expected = if same.is_empty() { mean(others) } else { mean(same) };
        assert!((rates[row] - expected).abs() < 1e-15, "row {row}: {} instead of {expected}", rates[row]);
    }
}

#[tokio::test]
async fn rows_of_one_fold_are_refused() {
    let keys = Arc::new(Int64Array::from(vec![5, 5, 6]));
    let labels = Float64Array::from(vec![Some(1.0), Some(0.0), None]);
    let rows = batch(StringArray::from(vec!["a", "b", "a"]), keys, labels);
    let error = fit(&encoder(&json!({"cv": 5})), frame(&rows, 1)).await.unwrap_err().to_string();
    assert!(error.contains("all rows with a label are in one fold of column \"key\""), "{error}");
}
