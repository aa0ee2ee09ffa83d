//! Every stage against PySpark: the cases of `tests/fixtures/spark/*.json`, made by the scripts beside them.
//!
//! Numbers agree within 1e-9 of the column's largest magnitude, everything else exactly. Each case also shows that the
//! saved pipeline gives the same, and that rows one by one give the same bits as all at once.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Builder, ListBuilder, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use serde_json::{Map, Value};

use crate::Result;
use crate::functions::sparse_to_dense::dense;
use crate::functions::vector::{SPARSE_SIZE_KEY, vector_type};
use crate::matrix::FeatureKind;
use crate::pipeline::{Pipeline, PipelineModel, Subset};
use crate::stage::StageRegistry;

const TOLERANCE: f64 = 1e-9;

#[tokio::test]
async fn stages_do_as_sparks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spark");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for path in files {
        let fixture: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for case in fixture["cases"].as_array().unwrap() {
            if let Some(difference) = difference(case).await {
                wrong.push(format!("{}, {}: {difference}", path.display(), case["name"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How ours differs from Spark in a case, if it does.
async fn difference(case: &Value) -> Option<String> {
    let got = ours(case).await;
    let (expected, got) = match (case["expected"].as_array(), got) {
        (Some(expected), Ok(got)) => (expected, got),
        (None, Err(_)) => return None,
        (None, Ok(got)) => return Some(format!("Spark fails ({}), ours gives {got:?}", case["error"])),
        (Some(_), Err(error)) => return Some(format!("fails: {error}")),
    };
    if got.len() != expected.len() {
        return Some(format!("expected {} rows, got {}", expected.len(), got.len()));
    }
    for column in 0..case["outputs"].as_array().unwrap().len() {
        let magnitude = expected.iter().map(|row| largest(&row[column])).fold(0.0, f64::max);
        for (number, (expected, got)) in expected.iter().zip(&got).enumerate() {
            if !same(&expected[column], &got[column], magnitude) {
                let name = &case["outputs"][column];
                return Some(format!("row {number}, {name}: expected {}, got {}", expected[column], got[column]));
            }
        }
    }
    None
}

fn largest(value: &Value) -> f64 {
    match value {
        Value::Array(items) => items.iter().map(largest).fold(0.0, f64::max),
        Value::Number(number) => number.as_f64().unwrap().abs(),
        _ => 0.0,
    }
}

fn same(expected: &Value, got: &Value, magnitude: f64) -> bool {
    match (expected, got) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, magnitude)),
        (Value::Number(a), Value::Number(b)) => {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= TOLERANCE * magnitude
        }
        _ => expected == got,
    }
}

/// The output rows of our stages, also from the saved pipeline and row by row.
async fn ours(case: &Value) -> Result<Vec<Vec<Value>>> {
    let registry = StageRegistry::default();
    let pipeline = Pipeline::from_value(&case["stages"], &registry)?;
    let schema = schema_of(case);
    let fit = pipeline.fit(frame(&schema, &case["fit"], usize::MAX), &[Subset::all("all")]).await?;
    let model = PipelineModel::from_bytes(&fit.models[0].to_bytes()?, &registry)?;
    let rows = transformed(&model, frame(&schema, &case["transform"], usize::MAX), case).await?;
    for model in [&model, &fit.models[0]] {
        let one_by_one = transformed(model, frame(&schema, &case["transform"], 1), case).await?;
        assert_eq!(one_by_one, rows, "{}, row by row", case["name"]);
    }
    Ok(rows.iter().map(|row| row.iter().map(plain).collect()).collect())
}

async fn transformed(model: &PipelineModel, df: DataFrame, case: &Value) -> Result<Vec<Vec<ScalarValue>>> {
    let batches = model.transform(df, &[])?.collect().await?;
    let names: Vec<&str> = case["outputs"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    let mut rows = Vec::new();
    for batch in &batches {
        let column = |name: &&str| match indicators(model, case, name) {
            Some(n) => indicator_vectors(batch.column_by_name(name).unwrap(), n),
            None => all_elements(batch, name),
        };
        let columns: Vec<ArrayRef> = names.iter().map(column).collect();
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| ScalarValue::try_from_array(column, row).map(one_nan);
            rows.push(columns.iter().map(value).collect::<Result<_, _>>()?);
        }
    }
    Ok(rows)
}

/// How many indicators an encoded category has.
fn indicators(model: &PipelineModel, case: &Value, column: &str) -> Option<usize> {
    let last = case["stages"].as_array()?.last()?;
    let feature = model.features().iter().find(|f| f.name == column && last["one_hot_encoder"].is_object())?.clone();
    match feature.kind {
        FeatureKind::Category { indicators, .. } => Some(indicators),
        _ => None,
    }
}

/// Category indices as vectors of their indicators, as Spark's encoder writes them.
fn indicator_vectors(indices: &ArrayRef, n: usize) -> ArrayRef {
    let mut vectors = ListBuilder::new(Float64Builder::new());
    for index in indices.as_primitive::<Float64Type>() {
        vectors.append_option(index.map(|index| (0..n).map(move |i| Some(f64::from(u8::from(i as f64 == index))))));
    }
    Arc::new(vectors.finish())
}

/// A column, sparse vectors as dense ones.
fn all_elements(batch: &RecordBatch, name: &str) -> ArrayRef {
    let schema = batch.schema();
    let (index, field) = schema.column_with_name(name).unwrap();
    match field.metadata().get(SPARSE_SIZE_KEY) {
        Some(size) => dense(batch.column(index), size.parse().unwrap()).unwrap(),
        None => Arc::clone(batch.column(index)),
    }
}

/// NaN is NaN: which of its bits an operation gives is left open by IEEE 754.
fn one_nan(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Float64(Some(x)) if x.is_nan() => ScalarValue::Float64(Some(f64::NAN)),
        other => other,
    }
}

/// Rows as a table of one partition, in batches of at most `batch_rows`.
fn frame(schema: &SchemaRef, rows: &Value, batch_rows: usize) -> DataFrame {
    let names: Vec<&String> = schema.fields().iter().map(|f| f.name()).collect();
    let object = |row: &Value| {
        let values = names.iter().zip(row.as_array().unwrap()).map(|(name, value)| ((*name).clone(), value.clone()));
        Value::Object(values.collect::<Map<_, _>>())
    };
    let objects: Vec<Value> = rows.as_array().unwrap().iter().map(object).collect();
    let batches: Vec<RecordBatch> =
        objects.chunks(batch_rows.min(objects.len().max(1))).map(|rows| batch(schema, rows)).collect();
    let config = SessionConfig::new().with_target_partitions(1).with_coalesce_batches(false);
    let table = MemTable::try_new(Arc::clone(schema), vec![batches]).unwrap();
    SessionContext::new_with_config(config).read_table(Arc::new(table)).unwrap()
}

fn batch(schema: &SchemaRef, rows: &[Value]) -> RecordBatch {
    // Numbers travel as text, which may be NaN or Infinity, and are cast.
    let text = |field: &Arc<Field>| Field::new(field.name(), type_with_texts(field.data_type()), true);
    let read: Schema = Schema::new(schema.fields().iter().map(text).collect::<Vec<_>>());
    let texts: Vec<Value> = rows.iter().map(|row| numbers_as_text(row, schema)).collect();
    let mut decoder = ReaderBuilder::new(Arc::new(read)).with_batch_size(texts.len()).build_decoder().unwrap();
    decoder.serialize(&texts).unwrap();
    let read = decoder.flush().unwrap().unwrap();
    let columns = read.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()).unwrap());
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
}

/// The type with text for each `Float64` in it.
fn type_with_texts(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float64 => DataType::Utf8,
        DataType::List(item) => DataType::new_list(type_with_texts(item.data_type()), true),
        DataType::FixedSizeList(item, n) => DataType::new_fixed_size_list(type_with_texts(item.data_type()), *n, true),
        other => other.clone(),
    }
}

fn numbers_as_text(row: &Value, schema: &Schema) -> Value {
    let mut row = row.as_object().unwrap().clone();
    for field in schema.fields().iter().filter(|f| type_with_texts(f.data_type()) != *f.data_type()) {
        let value = &mut row[field.name().as_str()];
        *value = with_texts(value);
    }
    Value::Object(row)
}

fn with_texts(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Array(items) => items.iter().map(with_texts).collect(),
        other => other.clone(),
    }
}

/// The size of the vectors in a column of the case.
fn size_of_vectors(case: &Value, column: usize) -> usize {
    let rows = ["fit", "transform"].into_iter().flat_map(|rows| case[rows].as_array().unwrap());
    rows.filter_map(|row| row[column].as_array()).map(Vec::len).max().unwrap_or(0)
}

fn schema_of(case: &Value) -> SchemaRef {
    let field = |(index, column): (usize, &Value)| {
        let data_type = match column[1].as_str().unwrap() {
            "double" => DataType::Float64,
            "array<double>" => DataType::new_list(DataType::Float64, true),
            "vector" => vector_type(size_of_vectors(case, index)),
            "int" => DataType::Int32,
            "bigint" => DataType::Int64,
            "boolean" => DataType::Boolean,
            "string" => DataType::Utf8,
            "array<string>" => DataType::new_list(DataType::Utf8, true),
            other => panic!("no type {other}"),
        };
        Field::new(column[0].as_str().unwrap(), data_type, true)
    };
    let columns = case["schema"].as_array().unwrap().iter().enumerate();
    Arc::new(Schema::new(columns.map(field).collect::<Vec<_>>()))
}

/// A value as the fixtures have it.
fn plain(value: &ScalarValue) -> Value {
    match value {
        value if value.is_null() => Value::Null,
        ScalarValue::Float64(Some(x)) if x.is_nan() => "NaN".into(),
        ScalarValue::Float64(Some(x)) if x.is_infinite() => if *x > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        ScalarValue::Float64(Some(x)) => (*x).into(),
        ScalarValue::Int64(Some(x)) => (*x).into(),
        ScalarValue::Int32(Some(x)) => (*x).into(),
        ScalarValue::Boolean(Some(x)) => (*x).into(),
        ScalarValue::Utf8(Some(text)) => text.as_str().into(),
        ScalarValue::List(list) => plain_items(&list.value(0)),
        ScalarValue::FixedSizeList(list) => plain_items(&list.value(0)),
        other => panic!("a value of type {}", other.data_type()),
    }
}

fn plain_items(items: &ArrayRef) -> Value {
    (0..items.len()).map(|i| plain(&ScalarValue::try_from_array(items, i).unwrap())).collect()
}
