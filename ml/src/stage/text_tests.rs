//! The text stages on input that they refuse, and on arrays of every layout.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, LargeStringArray, ListArray, ListBuilder, RecordBatch};
use arrow::array::{StringArray, StringBuilder, StringViewArray, StringViewBuilder};
use arrow::compute::concat_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionContext};
use serde_json::{Value, json};

use crate::Result;
use crate::pipeline::{Pipeline, PipelineModel, Subset};
use crate::stage::StageRegistry;

fn tokens(rows: &[&[Option<&str>]]) -> ListArray {
    let mut lists = ListBuilder::new(StringBuilder::new());
    rows.iter().for_each(|row| lists.append_value(row.iter().copied()));
    lists.finish()
}

fn table() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(StringArray::from(vec!["A b", " c", ""]))),
        ("gap", Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]))),
        ("tokens", Arc::new(tokens(&[&[Some("The"), None, Some("fox")], &[], &[Some("a")]]))),
        ("x", Arc::new(Float64Array::from(vec![0.0, 1.0, 2.0]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn frame(rows: &RecordBatch) -> DataFrame {
    let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
    SessionContext::new().read_table(Arc::new(table)).unwrap()
}

async fn fitted(stages: &Value, rows: &RecordBatch) -> Result<PipelineModel> {
    let pipeline = Pipeline::from_value(stages, &StageRegistry::default())?;
    Ok(pipeline.fit(frame(rows), &[Subset::all("all")]).await?.models.remove(0))
}

/// The first feature of rows, by a pipeline that was fitted on others.
async fn feature(model: &PipelineModel, rows: &RecordBatch) -> Result<ArrayRef> {
    let batches = model.transform(frame(rows), &[])?.collect().await?;
    Ok(Arc::clone(concat_batches(&batches[0].schema(), &batches)?.column(0)))
}

async fn refused(stages: Value) -> String {
    let rows = table();
    match fitted(&stages, &rows).await {
        Err(error) => error.to_string(),
        Ok(model) => feature(&model, &rows).await.unwrap_err().to_string(),
    }
}

#[tokio::test]
async fn mistakes_are_named() {
    let cases = [
        (
            json!({"tokenizer": {"inputs": ["txt"]}}),
            "stage 1 (tokenizer): column \"txt\" does not exist; did you mean \"text\"?",
        ),
        (json!({"tokenizer": {"inputs": ["x"]}}), "stage 1 (tokenizer): column \"x\" is Float64; expected text"),
        (
            json!({"tokenizer": {"inputs": ["text"], "pattern": ","}}),
            "stage 1 (tokenizer): unknown parameter \"pattern\"; it takes inputs, outputs",
        ),
        (
            json!({"tokenizer": {"inputs": ["gap"]}}),
            "Execution error: stage tokenizer: column \"gap\" has a null in 1 of 3 rows; fill it in with coalesce in \
             SQL, or leave such rows out",
        ),
        (
            json!({"regex_tokenizer": {"inputs": ["text"], "pattern": "a("}}),
            "stage 1 (regex_tokenizer): parameter \"pattern\": expected a regular expression of the regex crate, got \
             \"a(\": unclosed group",
        ),
        (
            json!({"regex_tokenizer": {"inputs": ["text"], "pattern": "(?=a)"}}),
            "stage 1 (regex_tokenizer): parameter \"pattern\": expected a regular expression of the regex crate, got \
             \"(?=a)\": look-around, including look-ahead and look-behind, is not supported",
        ),
        (
            json!({"regex_tokenizer": {"inputs": ["text"], "pattern": "a\\"}}),
            "stage 1 (regex_tokenizer): parameter \"pattern\": expected a regular expression of the regex crate, got \
             \"a\\\\\": incomplete escape sequence, reached end of pattern prematurely",
        ),
        (
            json!({"regex_tokenizer": {"inputs": ["text"], "min_token_length": -1}}),
            "stage 1 (regex_tokenizer): parameter \"min_token_length\": expected a whole number of 0 to 4294967295, got -1",
        ),
        (
            json!({"regex_tokenizer": {"inputs": ["text"], "gaps": "no"}}),
            "stage 1 (regex_tokenizer): parameter \"gaps\": expected true or false, got \"no\"",
        ),
        (
            json!({"stop_words_remover": {"inputs": ["text"]}}),
            "stage 1 (stop_words_remover): column \"text\" is Utf8; expected a list of text",
        ),
        (
            json!({"stop_words_remover": {"inputs": ["tokens"], "stop_words": ["a", 1]}}),
            "stage 1 (stop_words_remover): parameter \"stop_words\": expected a list of texts, got [\"a\",1]",
        ),
        (json!({"n_gram": {"inputs": ["x"]}}), "stage 1 (n_gram): column \"x\" is Float64; expected a list of text"),
        (
            json!({"n_gram": {"inputs": ["tokens"], "n": 0}}),
            "stage 1 (n_gram): parameter \"n\": expected a whole number of 1 to 4294967295, got 0",
        ),
        (
            json!({"index_to_string": {"inputs": ["x"]}}),
            "stage 1 (index_to_string): column \"x\" is Float64; expected an indexed category, or labels given",
        ),
        (
            json!({"index_to_string": {"inputs": ["text"], "labels": ["a"]}}),
            "stage 1 (index_to_string): column \"text\" is Utf8; expected indices",
        ),
        (
            json!({"index_to_string": {"inputs": ["x"], "labels": ["a", "b"]}}),
            "Execution error: stage index_to_string: column \"x\" has the index 2; expected one of 2 labels, from 0",
        ),
        (
            json!({"index_to_string": {"inputs": ["gap"], "labels": "a"}}),
            "stage 1 (index_to_string): parameter \"labels\": expected a list of texts, got \"a\"",
        ),
    ];
    for (stage, expected) in cases {
        assert_eq!(refused(json!([stage])).await, expected);
    }
}

#[tokio::test]
async fn models_do_not_read_text() {
    let rows = table();
    let model = fitted(&json!([{"tokenizer": {"inputs": ["text"]}}]), &rows).await.unwrap();
    let error = model.compile(&rows.schema()).unwrap().apply(&rows).unwrap_err().to_string();
    assert!(error.starts_with("feature \"text\" is List("), "{error}");
}

#[tokio::test]
async fn text_of_every_layout_gives_the_same() {
    let model = fitted(&json!([{"tokenizer": {"inputs": ["text"]}}]), &table()).await.unwrap();
    let layouts: [ArrayRef; 3] = [
        Arc::new(StringArray::from(vec!["left out", "A b", " c", ""]).slice(1, 3)),
        Arc::new(LargeStringArray::from(vec!["A b", " c", ""])),
        Arc::new(StringViewArray::from(vec!["A b", " c", ""])),
    ];
    let expected = tokens(&[&[Some("a"), Some("b")], &[Some(""), Some("c")], &[Some("")]]);
    for text in layouts {
        let rows = RecordBatch::try_from_iter([("text", text)]).unwrap();
        assert_eq!(feature(&model, &rows).await.unwrap().as_list::<i32>(), &expected);
    }
}

#[tokio::test]
async fn lists_of_every_layout_give_the_same() {
    let stages = json!([
        {"stop_words_remover": {"inputs": ["tokens"]}},
        {"n_gram": {"inputs": ["tokens"]}},
    ]);
    let model = fitted(&stages, &table()).await.unwrap();
    let rows: [&[Option<&str>]; 3] = [&[Some("left out")], &[Some("Red"), Some("the"), Some("fox"), Some("ran")], &[]];
    let mut views = ListBuilder::new(StringViewBuilder::new());
    rows.iter().for_each(|row| views.append_value(row.iter().copied()));
    let expected = tokens(&[&[Some("Red fox"), Some("fox ran")], &[]]);
    for lists in [Arc::new(tokens(&rows).slice(1, 2)) as ArrayRef, Arc::new(views.finish().slice(1, 2))] {
        let rows = RecordBatch::try_from_iter([("tokens", lists)]).unwrap();
        assert_eq!(feature(&model, &rows).await.unwrap().as_list::<i32>(), &expected);
    }
}
