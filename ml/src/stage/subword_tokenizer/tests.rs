//! The numbers of Hugging Face's `tokenizers`, and what is refused.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionContext};
use serde_json::json;

use super::*;
use crate::pipeline::{Pipeline, PipelineModel, Subset};
use crate::stage::StageRegistry;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/subword_tokenizer.json")).unwrap()
}

fn rows(fixture: &Value) -> RecordBatch {
    let texts: StringArray = fixture["texts"].as_array().unwrap().iter().map(Value::as_str).collect();
    RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap()
}

fn frame(rows: &RecordBatch, batch_rows: usize) -> DataFrame {
    let starts = (0..rows.num_rows()).step_by(batch_rows);
    let batches = starts.map(|i| rows.slice(i, batch_rows.min(rows.num_rows() - i))).collect();
    let table = MemTable::try_new(rows.schema(), vec![batches]).unwrap();
    SessionContext::new().read_table(Arc::new(table)).unwrap()
}

async fn fitted(params: Value, rows: &RecordBatch) -> Result<PipelineModel> {
    let stages = json!([{"subword_tokenizer": params}]);
    let pipeline = Pipeline::from_value(&stages, &StageRegistry::default())?;
    Ok(pipeline.fit(frame(rows, 100), &[Subset::all("all")]).await?.models.remove(0))
}

async fn transformed(model: &PipelineModel, df: DataFrame) -> Result<RecordBatch> {
    let batches = model.transform(df, &[])?.collect().await?;
    Ok(concat_batches(&batches[0].schema(), &batches)?)
}

/// A column of lists as the fixture has it.
fn lists(column: &ArrayRef) -> Vec<Value> {
    let list = |row: usize| {
        let items = match column.data_type() {
            DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
            _ => column.as_list::<i32>().value(row),
        };
        items.as_primitive::<Int64Type>().values().to_vec().into()
    };
    (0..column.len()).map(|row| if column.is_null(row) { Value::Null } else { list(row) }).collect()
}

#[tokio::test]
async fn tokens_are_those_of_hugging_face() {
    let fixture = fixture();
    let rows = rows(&fixture);
    for case in fixture["cases"].as_array().unwrap() {
        let mut params = case["params"].clone();
        params["inputs"] = "text".into();
        params["tokenizer"] = fixture["contents"][case["tokenizer"].as_str().unwrap()].clone();
        let model = fitted(params, &rows).await.unwrap();
        let saved = PipelineModel::from_bytes(&model.to_bytes().unwrap(), &StageRegistry::default()).unwrap();
        let found = transformed(&saved, frame(&rows, 100)).await;
        let Some(expected) = case["rows"].as_array() else {
            let error = found.unwrap_err().to_string();
            let reason = "tokens, more than \"max_length\", 8; use truncation = true";
            assert!(error.contains("stage subword_tokenizer: column \"text\"") && error.contains(reason), "{error}");
            continue;
        };
        let found = found.unwrap();
        assert_eq!(transformed(&model, frame(&rows, 1)).await.unwrap(), found, "row by row");
        for (number, name) in ["input_ids", "attention_mask"].into_iter().enumerate() {
            let expected: Vec<Value> = expected.iter().map(|row| row[number].clone()).collect();
            assert_eq!(lists(found.column_by_name(name).unwrap()), expected, "{name}, {}", case["params"]);
        }
        let is_fixed = matches!(found.column(0).data_type(), DataType::FixedSizeList(..));
        assert_eq!(is_fixed, case["params"]["padding"] == true);
    }
}

#[tokio::test]
async fn a_tokenizer_is_read_from_its_path_once() {
    let fixture = fixture();
    let rows = rows(&fixture);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, fixture["contents"]["unigram"].to_string()).unwrap();
    let params = json!({"inputs": "text", "outputs": ["a", "b"], "tokenizer": path.to_str().unwrap()});
    let model = fitted(params, &rows).await.unwrap();
    folder.close().unwrap();
    let found = transformed(&model, frame(&rows, 4)).await.unwrap();
    assert_eq!(found.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(found.column(0).as_fixed_size_list().value_length(), 512);
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let fixture = fixture();
    let content = &fixture["contents"]["word_piece"];
    let rows = rows(&fixture);
    for (params, expected) in [
        (json!({"inputs": "text"}), "expected the path of a tokenizer.json, or its content, got null"),
        (json!({"inputs": "text", "tokenizer": "no such file"}), "the tokenizer \"no such file\" cannot be read"),
        (json!({"inputs": "text", "tokenizer": {"model": 3}}), "the tokenizer cannot be used"),
        (json!({"inputs": ["text", "b"], "tokenizer": content}), "\"inputs\" is one column of text"),
        (json!({"inputs": "text", "outputs": ["a"], "tokenizer": content}), "\"outputs\" is two columns"),
        (json!({"inputs": "text", "tokenizer": content, "max_length": 2}), "has no room beside its 2 special tokens"),
        (json!({"inputs": "texts", "tokenizer": content}), "column \"texts\" does not exist; did you mean \"text\"?"),
    ] {
        let error = fitted(params, &rows).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
