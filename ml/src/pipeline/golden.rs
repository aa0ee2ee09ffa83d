//! Saved pipelines of `tests/golden/pipeline-v1`: they are read for good and give the same bits, and damaged ones are
//! refused in words.
//!
//! `rows.parquet` has the rows, each other file a pipeline as it was saved and the features that it must give. A file
//! there never changes. `TIDEMILL_WRITE_GOLDEN=1 cargo test -p tidemill-ml --lib golden -- --test-threads=1` adds those
//! that are missing.

use std::fs::{self, File};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::PipelineModel;
use super::cases::{self, cases, features, fitted, frame, rows_to_fit, table, transformed};
use crate::Result;
use crate::codec::canonical_json;
use crate::stage::StageRegistry;

fn folder() -> PathBuf {
    cases::golden().join("pipeline-v1")
}

fn is_to_be_written() -> bool {
    std::env::var_os("TIDEMILL_WRITE_GOLDEN").is_some_and(|value| value == "1")
}

/// The rows of all files.
fn rows() -> RecordBatch {
    let path = folder().join("rows.parquet");
    if !path.exists() && is_to_be_written() {
        let rows = rows_to_fit(24).new_tree(&mut TestRunner::deterministic()).unwrap().current();
        write_rows(&path, &table(&rows));
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.into_iter().next().unwrap().unwrap()
}

fn write_rows(path: &PathBuf, rows: &RecordBatch) {
    fs::create_dir_all(folder()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// A file by its case; written now when it is missing and asked for.
async fn file(name: &str, stages: &Value, rows: &RecordBatch) -> Value {
    let path = folder().join(format!("{name}.json"));
    if !path.exists() && is_to_be_written() {
        let model = fitted(stages, rows).await.unwrap();
        let saved: Value = serde_json::from_slice(&model.to_bytes().unwrap()).unwrap();
        let expected = transformed(&model, frame(rows, &[rows.num_rows()])).await.unwrap();
        fs::write(&path, canonical_json(&json!({"pipeline": saved, "expected": expected})).unwrap()).unwrap();
    }
    let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; set TIDEMILL_WRITE_GOLDEN=1", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn load(saved: &Value) -> Result<PipelineModel> {
    PipelineModel::from_bytes(&serde_json::to_vec(saved).unwrap(), &StageRegistry::default())
}

#[tokio::test]
async fn saved_pipelines_give_the_same_bits_for_good() {
    let rows = rows();
    for (name, stages) in cases() {
        let file = file(&name, &stages, &rows).await;
        let model = load(&file["pipeline"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = PipelineModel::from_bytes(&model.to_bytes().unwrap(), &StageRegistry::default()).unwrap();
        for model in [model, again] {
            let got = transformed(&model, frame(&rows, &[rows.num_rows()])).await.unwrap();
            assert_eq!(json!(got), file["expected"], "{name}");
            let (batch, _) = model.compile(&rows.schema()).unwrap().columns(&rows).unwrap();
            assert_eq!(json!(features(&model, &batch)), file["expected"], "{name}, compiled");
        }
    }
}

#[tokio::test]
async fn truncated_and_newer_pipelines_are_refused() {
    let rows = rows();
    for (name, stages) in cases() {
        let mut saved = file(&name, &stages, &rows).await["pipeline"].take();
        let bytes = serde_json::to_vec(&saved).unwrap();
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let error = PipelineModel::from_bytes(&bytes[..length], &StageRegistry::default()).unwrap_err().to_string();
            assert!(error.starts_with("a fitted pipeline is not readable: "), "{name}: {error}");
        }
        saved["format_version"] = json!(7);
        saved["unheard_of"] = json!({});
        assert_eq!(
            load(&saved).unwrap_err().to_string(),
            "a fitted pipeline is not readable: it has format 7, this version reads up to 1; use a newer tidemill",
            "{name}"
        );
    }
}

/// A list that lost its last item, a value of another type: an error or another pipeline, never a panic.
#[tokio::test]
async fn damaged_values_do_not_panic() {
    let rows = rows();
    let mut n_refused = 0;
    for (name, stages) in cases() {
        let saved = file(&name, &stages, &rows).await["pipeline"].take();
        for pointer in places(&saved["stages"], "/stages".to_owned()) {
            for damage in [shorten, replace] {
                let mut damaged = saved.clone();
                damage(damaged.pointer_mut(&pointer).unwrap());
                let applied = load(&damaged).and_then(|model| model.compile(&rows.schema())?.columns(&rows));
                n_refused += usize::from(applied.is_err());
            }
        }
    }
    assert!(n_refused > 500, "only {n_refused} of the damages were found");
}

/// The JSON pointers of all values within a value.
fn places(value: &Value, at: String) -> Vec<String> {
    let within: Vec<String> = match value {
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(i, item)| places(item, format!("{at}/{i}"))).collect()
        }
        Value::Object(map) => {
            map.iter().flat_map(|(key, item)| places(item, format!("{at}/{}", escape(key)))).collect()
        }
        _ => Vec::new(),
    };
    within.into_iter().chain([at]).collect()
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) => drop(items.pop()),
        Value::String(text) => drop(text.pop()),
        Value::Number(number) => *value = json!(number.as_u64().map(|n| n + 1)),
        other => *other = Value::Null,
    }
}

fn replace(value: &mut Value) {
    *value = if value.is_string() { json!(-3) } else { json!("-3") };
}
