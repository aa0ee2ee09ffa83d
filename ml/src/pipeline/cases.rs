//! A pipeline for each stage, in `tests/golden/cases.json`, and rows with all that is hard for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, FixedSizeListArray, Float64Array, Int32Array, Int64Array,
    ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::{Pipeline, PipelineModel, Subset};
use crate::Result;
use crate::codec::exact;
use crate::stage::StageRegistry;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
const TEXTS: [&str; 5] = ["", "a", "B6", "UA", "é"];
const SENTENCES: [&str; 5] = ["", "The quick  fox", "a B a", " ", "über\tb"];
const TOKENS: [&str; 6] = ["", "a", "b", "The", "é", "b"];

/// A row of the tables that stages are tried on.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Anything that a number may be.
    x: Option<f64>,
    /// A number that is not infinite, NaN or null.
    y: Option<f64>,
    /// A number.
    z: f64,
    n: Option<i32>,
    flag: Option<bool>,
    t: Option<&'static str>,
    s: &'static str,
    tokens: Vec<&'static str>,
    list: Option<Vec<f64>>,
    v: Option<[Option<f64>; 3]>,
    /// Numbers with ties.
    w: [f64; 3],
    day: Option<i32>,
    label: bool,
}

/// The folder of the golden files.
pub(super) fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The pipelines by name; each stage has one of its own name.
pub(super) fn cases() -> BTreeMap<String, Value> {
    let cases = std::fs::read(golden().join("cases.json")).unwrap();
    let cases: BTreeMap<String, Value> = serde_json::from_slice(&cases).unwrap();
    for name in StageRegistry::default().names() {
        let has = |stages: &Value| stages.as_array().unwrap().iter().any(|stage| stage.get(name).is_some());
        assert!(cases.get(name).is_some_and(has), "stage {name:?} has no case in tests/golden/cases.json");
    }
    cases
}

/// Rows that every case can be fitted to.
pub(super) fn rows_to_fit(n: usize) -> impl Strategy<Value = Vec<Row>> {
    vec(row(), n).prop_map(|mut rows| {
        rows.extend((0..6).map(anchor));
        rows
    })
}

/// Any row.
pub(super) fn row() -> impl Strategy<Value = Row> {
    let number = || -100.0..100.0;
    let hard = || {
        let special = [None, Some(NAN), Some(INF), Some(-INF), Some(-0.0), Some(1e300), Some(5e-324)];
        let ties = [Some(0.0), Some(1.5), Some(-7.25)];
        prop_oneof![select([&special[..], &ties[..]].concat()), number().prop_map(Some)]
    };
    let y = prop_oneof![select(vec![None, Some(NAN), Some(-0.0), Some(1.5), Some(1e9)]), number().prop_map(Some)];
    let z = prop_oneof![select(vec![0.0, -0.0, 1.5, 2.5, 1e6]), number()];
    let w = || prop_oneof![3 => select(vec![0.0, 1.0, 2.0, -1.0]), 1 => number()];
    let list = option::of(vec(number(), 2..5));
    let numbers = (hard(), y, z, option::of(-5..5), option::of(any::<bool>()));
    let texts = (option::of(select(&TEXTS[..])), select(&SENTENCES[..]), vec(select(&TOKENS[..]), 0..5));
    let vectors = (list, option::of([hard(), hard(), hard()]), [w(), w(), w()]);
    let others = (option::of(-40_000..40_000), any::<bool>());
    (numbers, texts, vectors, others).prop_map(|(numbers, texts, vectors, others)| {
        let (x, y, z, n, flag) = numbers;
        let (t, s, tokens) = texts;
        let (list, v, w) = vectors;
        let (day, label) = others;
        Row { x, y, z, n, flag, t, s, tokens, list, v, w, day, label }
    })
}

/// One of some rows in which nothing is missing and each column has several values.
fn anchor(i: usize) -> Row {
    let number = i as f64 - 2.5;
    Row {
        x: Some(number),
        y: Some(number * number),
        z: number,
        n: Some(i as i32),
        flag: Some(i.is_multiple_of(2)),
        t: Some(TEXTS[i % 4]),
        s: SENTENCES[i % 4],
        tokens: TOKENS[..i].to_vec(),
        list: Some(vec![number; 3]),
        v: Some([Some(number), Some(1.0), Some(-number * number)]),
        w: [number, (i % 2) as f64, (i % 3) as f64],
        day: Some(19_700 + i as i32),
        label: i > 2,
    }
}

/// The rows as columns of those names, with their number as `id`.
pub(super) fn table(rows: &[Row]) -> RecordBatch {
    let mut tokens = ListBuilder::new(StringBuilder::new());
    rows.iter().for_each(|row| tokens.append_value(row.tokens.iter().map(Some)));
    let list = |row: &Row| row.list.as_ref().map(|list| list.iter().copied().map(Some).collect::<Vec<_>>());
    let vectors = |rows: Vec<Option<[Option<f64>; 3]>>| {
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows, 3)) as ArrayRef
    };
    let at =
        |row: &Row| row.day.map(|day| i64::from(day) * 86_400_000_000 + i64::from(row.n.unwrap_or(0)) * 77_777_777);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64))),
        ("x", Arc::new(rows.iter().map(|row| row.x).collect::<Float64Array>())),
        ("y", Arc::new(rows.iter().map(|row| row.y).collect::<Float64Array>())),
        ("z", Arc::new(rows.iter().map(|row| Some(row.z)).collect::<Float64Array>())),
        ("n", Arc::new(rows.iter().map(|row| row.n).collect::<Int32Array>())),
        ("flag", Arc::new(rows.iter().map(|row| row.flag).collect::<BooleanArray>())),
        ("t", Arc::new(rows.iter().map(|row| row.t).collect::<StringArray>())),
        ("s", Arc::new(rows.iter().map(|row| Some(row.s)).collect::<StringArray>())),
        ("tokens", Arc::new(tokens.finish())),
        ("list", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows.iter().map(list)))),
        ("v", vectors(rows.iter().map(|row| row.v).collect())),
        ("w", vectors(rows.iter().map(|row| Some(row.w.map(Some))).collect())),
        ("day", Arc::new(rows.iter().map(|row| row.day).collect::<Date32Array>())),
        ("at", Arc::new(rows.iter().map(at).collect::<TimestampMicrosecondArray>())),
        ("label", Arc::new(rows.iter().map(|row| Some(f64::from(row.label))).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// The rows as one partition in batches of these sizes, again and again.
pub(super) fn frame(rows: &RecordBatch, sizes: &[usize]) -> DataFrame {
    let mut start = 0;
    let batch = |size: &usize| {
        let batch = rows.slice(start, (*size).min(rows.num_rows() - start));
        start += batch.num_rows();
        batch
    };
    let batches = sizes.iter().cycle().map(batch).take_while(|batch| batch.num_rows() > 0).collect();
    let table = MemTable::try_new(rows.schema(), vec![batches]).unwrap();
    let config = SessionConfig::new().with_target_partitions(1).with_coalesce_batches(false);
    SessionContext::new_with_config(config).read_table(Arc::new(table)).unwrap()
}

/// The pipeline fitted on rows.
pub(super) async fn fitted(stages: &Value, rows: &RecordBatch) -> Result<PipelineModel> {
    let pipeline = Pipeline::from_value(stages, &StageRegistry::default())?;
    Ok(pipeline.fit(frame(rows, &[rows.num_rows()]), &[Subset::all("all")]).await?.models.remove(0))
}

/// The features of the rows, by a plan.
pub(super) async fn transformed(model: &PipelineModel, df: DataFrame) -> Result<Vec<Vec<Value>>> {
    let batches = model.transform(df, &[])?.collect().await?;
    Ok(batches.iter().flat_map(|batch| features(model, batch)).collect())
}

/// The features in a batch, row by row.
pub(super) fn features(model: &PipelineModel, batch: &RecordBatch) -> Vec<Vec<Value>> {
    let columns: Vec<&ArrayRef> =
        model.feature_names().into_iter().map(|name| batch.column_by_name(name).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| plain(column, row)).collect()).collect()
}

/// A value with all bits of its numbers. NaN is NaN: which of its bits an operation gives is left open by IEEE 754.
fn plain(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Float64 => exact::to_text(array.as_primitive::<Float64Type>().value(row)).into(),
        DataType::List(_) => items(&array.as_list::<i32>().value(row)),
        DataType::FixedSizeList(..) => items(&array.as_fixed_size_list().value(row)),
        DataType::Struct(_) => {
            let array: &StructArray = array.as_struct();
            array.columns().iter().map(|column| plain(column, row)).collect()
        }
        _ => array_value_to_string(array, row).unwrap().into(),
    }
}

fn items(array: &ArrayRef) -> Value {
    (0..array.len()).map(|row| plain(array, row)).collect()
}
