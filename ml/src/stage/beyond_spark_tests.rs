//! The stages that Spark ML does not have, and what holds for the hashing and counting ones beyond its numbers.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use serde_json::{Value, json};

use crate::Result;
use crate::matrix::FeatureValues;
use crate::pipeline::{Pipeline, PipelineModel, Subset};
use crate::stage::StageRegistry;

const NAN: f64 = f64::NAN;
const DAY_US: i64 = 86_400_000_000;

/// One column of each type, with what is hard for each.
fn table() -> RecordBatch {
    let mut tokens = ListBuilder::new(StringBuilder::new());
    for row in ["b a b", "", "c b", "a", "d a c", "b"] {
        tokens.append_value(row.split_whitespace().map(Some));
    }
    let days = [Some(0), Some(19_782), None, Some(-1), Some(19_358), Some(20_088)];
    let times = days.map(|day| day.map(|day| i64::from(day) * DAY_US + 3 * DAY_US / 4 + 61_000_000));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Float64Array::from(vec![Some(6.0), None, Some(-0.0), Some(NAN), Some(40.25), Some(-3.0)]))),
        ("t", Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("a"), Some(""), Some("a")]))),
        ("tokens", Arc::new(tokens.finish())),
        ("day", Arc::new(Date32Array::from(days.to_vec()))),
        ("at", Arc::new(TimestampMicrosecondArray::from(times.to_vec()))),
        ("there", Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("+07:00"))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// Rows as a table of these partitions, each of batches of at most `batch_rows`.
fn frame(partitions: &[RecordBatch], batch_rows: usize) -> DataFrame {
    let batches = |rows: &RecordBatch| -> Vec<RecordBatch> {
        let starts = (0..rows.num_rows()).step_by(batch_rows);
        starts.map(|start| rows.slice(start, batch_rows.min(rows.num_rows() - start))).collect()
    };
    let table = MemTable::try_new(partitions[0].schema(), partitions.iter().map(batches).collect()).unwrap();
    let config = SessionConfig::new().with_target_partitions(partitions.len()).with_coalesce_batches(false);
    SessionContext::new_with_config(config).read_table(Arc::new(table)).unwrap()
}

async fn fit(stages: &Value, df: DataFrame) -> Result<PipelineModel> {
    let pipeline = Pipeline::from_value(stages, &StageRegistry::default())?;
    Ok(pipeline.fit(df, &[Subset::all("all")]).await?.models.remove(0))
}

async fn transformed(model: &PipelineModel, df: DataFrame) -> Result<RecordBatch> {
    let batches = model.transform(df, &[])?.collect().await?;
    Ok(concat_batches(&batches[0].schema(), &batches)?)
}

/// What a pipeline makes of the rows that it is fitted to, however they come: in another order and other partitions,
/// saved and read back, and one by one.
async fn outputs(stages: Value, rows: &RecordBatch) -> RecordBatch {
    let whole = std::slice::from_ref(rows);
    let model = fit(&stages, frame(whole, usize::MAX)).await.unwrap();
    let backwards: UInt32Array = (0..rows.num_rows() as u32).rev().collect();
    let backwards = take_record_batch(rows, &backwards).unwrap();
    let (first, rest) = (backwards.slice(0, 1), backwards.slice(1, rows.num_rows() - 1));
    let other = fit(&stages, frame(&[rest, first], 2)).await.unwrap();
    assert_eq!(other.to_bytes().unwrap(), model.to_bytes().unwrap(), "{stages}: fitted to other partitions");

    let saved = PipelineModel::from_bytes(&model.to_bytes().unwrap(), &StageRegistry::default()).unwrap();
    let at_once = transformed(&model, frame(whole, usize::MAX)).await.unwrap();
    for model in [&model, &saved] {
        assert_eq!(transformed(model, frame(whole, 1)).await.unwrap(), at_once, "{stages}: row by row");
    }
    if at_once.columns().iter().all(|column| *column.data_type() == DataType::Float64) {
        check_compiled(&saved, rows, &at_once);
    }
    at_once
}

/// Checks that scoring reads the same numbers, null as NaN.
fn check_compiled(model: &PipelineModel, rows: &RecordBatch, expected: &RecordBatch) {
    let features = model.compile(&rows.schema()).unwrap().apply(rows).unwrap();
    for (feature, values) in features.features.iter().zip(&features.values) {
        let FeatureValues::Number(found) = values else { panic!("{} is not a number", feature.name) };
        let same = |(found, expected): (&f64, Option<f64>)| match expected {
            Some(expected) if !expected.is_nan() => found.to_bits() == expected.to_bits(),
            _ => found.is_nan(),
        };
        assert!(found.iter().zip(numbers(expected, &feature.name)).all(same), "{}: {found:?}", feature.name);
    }
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    batch.column_by_name(column).unwrap().as_primitive::<Float64Type>().iter().collect()
}

fn check(found: &[Option<f64>], expected: &[Option<f64>], tolerance: f64) {
    let same = |(found, expected): (&Option<f64>, &Option<f64>)| match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= tolerance || found.is_nan() && expected.is_nan(),
        _ => found == expected,
    };
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(same), "{found:?}, expected {expected:?}");
}

/// Why a pipeline fails on rows, after a fit to others.
async fn refused(stages: Value, fitted: &RecordBatch, rows: &RecordBatch) -> String {
    match fit(&stages, frame(std::slice::from_ref(fitted), usize::MAX)).await {
        Err(error) => error.to_string(),
        Ok(model) => transformed(&model, frame(std::slice::from_ref(rows), usize::MAX)).await.unwrap_err().to_string(),
    }
}

#[tokio::test]
async fn frequencies_are_shares_or_counts() {
    let rows = table();
    let out = outputs(json!([{"frequency_encoder": {"inputs": ["t", "x"]}}]), &rows).await;
    let (half, sixth) = (Some(0.5), Some(1.0 / 6.0));
    check(&numbers(&out, "t"), &[half, sixth, sixth, half, sixth, half], 0.0);
    check(&numbers(&out, "x"), &[sixth; 6], 0.0);
    let out = outputs(json!([{"frequency_encoder": {"inputs": ["t"], "measure": "count"}}]), &rows).await;
    check(&numbers(&out, "t"), &[3.0, 1.0, 1.0, 3.0, 1.0, 3.0].map(Some), 0.0);
}

#[tokio::test]
async fn unseen_values_have_frequency_zero_or_fail() {
    let rows = table();
    let seen = rows.slice(3, 3);
    let stage = |invalid: &str| json!([{"frequency_encoder": {"inputs": ["t"], "handle_invalid": invalid}}]);
    let model = fit(&stage("keep"), frame(std::slice::from_ref(&seen), usize::MAX)).await.unwrap();
    let out = transformed(&model, frame(&[rows.slice(0, 3)], usize::MAX)).await.unwrap();
    check(&numbers(&out, "t"), &[Some(2.0 / 3.0), Some(0.0), Some(0.0)], 0.0);
    assert_eq!(
        refused(stage("error"), &seen, &rows.slice(2, 1)).await,
        "Execution error: stage frequency_encoder: column \"t\" has the value \"b\" in 1 of 1 rows, unseen when it was \
         fitted; use handle_invalid = keep or skip"
    );
    let error = refused(stage("error"), &seen, &rows.slice(1, 1)).await;
    assert!(error.contains("column \"t\" has a null"), "{error}");
}

#[tokio::test]
async fn numbers_that_come_round_are_on_a_circle() {
    let x = [
        Some(0.0),
        Some(6.0),
        Some(12.0),
        Some(23.0),
        Some(-1.0),
        Some(24e9 + 6.0),
        None,
        Some(NAN),
        Some(f64::INFINITY),
    ];
    let rows = RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(x.to_vec())) as ArrayRef)]).unwrap();
    let out = outputs(json!([{"cyclical_encoder": {"inputs": ["x"], "period": 24}}]), &rows).await;
    let (s, c) = (0.258_819_045_102_520_74, 0.965_925_826_289_068_3);
    let sines = [Some(0.0), Some(1.0), Some(0.0), Some(-s), Some(-s), Some(1.0), None, Some(NAN), Some(NAN)];
    let cosines = [Some(1.0), Some(0.0), Some(-1.0), Some(c), Some(c), Some(0.0), None, Some(NAN), Some(NAN)];
    check(&numbers(&out, "x_sin"), &sines, 1e-14);
    check(&numbers(&out, "x_cos"), &cosines, 1e-14);
}

#[tokio::test]
async fn times_of_every_unit_have_one_angle() {
    let rows = table();
    // 1970-01-01 was a Thursday; 2024-02-29, which is day 19,782, was another.
    let week = json!([{"cyclical_encoder": {"inputs": ["day"], "period": "week", "outputs": ["s", "c"]}}]);
    let out = outputs(week, &rows).await;
    assert_eq!(numbers(&out, "s")[..3], [Some(0.0), Some(0.0), None]);
    let before = Some((-std::f64::consts::TAU / 7.0).sin());
    check(&numbers(&out, "s")[3..4], &[before], 1e-15);
    let day = json!([{"cyclical_encoder": {"inputs": ["at", "there"], "period": "day"}}]);
    let out = outputs(day, &rows).await;
    let angle = std::f64::consts::TAU * (0.75 + 61.0 / 86_400.0);
    let (sine, cosine) = (Some(angle.sin()), Some(angle.cos()));
    for column in ["at", "there"] {
        check(&numbers(&out, &format!("{column}_sin")), &[sine, sine, None, sine, sine, sine], 1e-12);
        check(&numbers(&out, &format!("{column}_cos")), &[cosine, cosine, None, cosine, cosine, cosine], 1e-12);
    }
    let hours = json!([{"cyclical_encoder": {"inputs": ["day"], "period": 1_209_600}}]);
    let out = outputs(hours, &rows).await;
    check(&numbers(&out, "day_cos")[..2], &[Some(1.0), Some(1.0)], 1e-12);
}

#[tokio::test]
async fn dates_have_their_parts() {
    let rows = table();
    let parts = ["year", "quarter", "month", "week", "day", "day_of_week", "day_of_year", "hour", "minute", "second"];
    let out = outputs(json!([{"date_parts": {"inputs": ["day", "at"], "parts": parts}}]), &rows).await;
    // 2024-02-29, 2023-01-01, of the week before, and 2024-12-31, of the week after.
    let expected = [
        (1, [2024.0, 1.0, 2.0, 9.0, 29.0, 4.0, 60.0, 18.0, 1.0, 1.0]),
        (3, [1969.0, 4.0, 12.0, 1.0, 31.0, 3.0, 365.0, 18.0, 1.0, 1.0]),
        (4, [2023.0, 1.0, 1.0, 52.0, 1.0, 7.0, 1.0, 18.0, 1.0, 1.0]),
        (5, [2024.0, 4.0, 12.0, 1.0, 31.0, 2.0, 366.0, 18.0, 1.0, 1.0]),
    ];
    for (row, expected) in expected {
        for (part, expected) in parts.iter().zip(expected) {
            let of_date = if matches!(*part, "hour" | "minute" | "second") { 0.0 } else { expected };
            assert_eq!(numbers(&out, &format!("at_{part}"))[row], Some(expected), "{part} of row {row}");
            assert_eq!(numbers(&out, &format!("day_{part}"))[row], Some(of_date), "{part} of row {row}");
        }
    }
    assert!(parts.iter().all(|part| numbers(&out, &format!("day_{part}"))[2].is_none()));
    let out = outputs(json!([{"date_parts": {"inputs": ["there"], "parts": ["day", "hour"]}}]), &rows).await;
    check(&numbers(&out, "there_day"), &[Some(2.0), Some(1.0), None, Some(1.0), Some(2.0), Some(1.0)], 0.0);
    check(&numbers(&out, "there_hour")[..1], &[Some(1.0)], 0.0);
}

#[tokio::test]
async fn powers_are_those_of_scikit_learn() {
    // sklearn.preprocessing.PowerTransformer of scikit-learn 1.9.1: transform(x) after fit(x).
    let x = [3.0, -1.5, 0.0, 12.25, 2.0, NAN, 40.0, 0.5, 3.0].map(Some);
    let rows = RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(x.to_vec())) as ArrayRef)]).unwrap();
    let out = outputs(json!([{"power_transformer": {"inputs": ["x"]}}]), &rows).await;
    let expected =
        [0.118016289, -1.820278, -0.638477381, 0.909926601, -0.052064918, NAN, 1.797997419, -0.433136299, 0.118016289];
    check(&numbers(&out, "x"), &expected.map(Some), 1e-6);
    let out = outputs(json!([{"power_transformer": {"inputs": ["x"], "standardize": false}}]), &rows).await;
    let expected = [1.539793964, -2.40547877, 0.0, 3.151676215, 1.193604662, NAN, 4.95928696, 0.417958497, 1.539793964];
    check(&numbers(&out, "x"), &expected.map(Some), 1e-6);
    let constant = Float64Array::from(vec![Some(2.5), None, Some(2.5)]);
    let rows = RecordBatch::try_from_iter([("x", Arc::new(constant) as ArrayRef)]).unwrap();
    let out = outputs(json!([{"power_transformer": {"inputs": ["x"]}}]), &rows).await;
    check(&numbers(&out, "x"), &[Some(0.0), None, Some(0.0)], 0.0);
}

#[tokio::test]
async fn numbers_are_clipped_at_quantiles() {
    let rows = table();
    let stage =
        |lower: f64, upper: f64| json!([{"quantile_clipper": {"inputs": ["x"], "lower": lower, "upper": upper}}]);
    let clipped = |out: &RecordBatch| numbers(out, "x");
    let out = outputs(stage(0.3, 0.7), &rows).await;
    check(&clipped(&out), &[Some(6.0), None, Some(0.0), Some(NAN), Some(6.0), Some(0.0)], 0.0);
    let out = outputs(stage(0.0, 1.0), &rows).await;
    check(&clipped(&out), &numbers(&rows, "x"), 0.0);
}

#[tokio::test]
async fn hashed_and_counted_rows_do_not_depend_on_how_they_come() {
    let rows = table();
    let idf = |stage: Value| json!([stage, {"idf": {"inputs": ["v"], "min_doc_freq": 2}}]);
    outputs(idf(json!({"hashing_tf": {"inputs": ["tokens"], "outputs": ["v"], "num_features": 5}})), &rows).await;
    outputs(idf(json!({"count_vectorizer": {"inputs": ["tokens"], "outputs": ["v"], "min_df": 2}})), &rows).await;
    let hasher = json!({"inputs": ["x", "t", "day"], "output": "v"});
    let error = refused(json!([{"feature_hasher": hasher}]), &rows, &rows).await;
    assert_eq!(error, "stage 1 (feature_hasher): column \"day\" is Date32; expected text, a number or a boolean");
}

#[tokio::test]
async fn models_read_sparse_vectors_that_were_made_dense() {
    let rows = table();
    let mut hasher = json!({"inputs": ["t", "x"], "output": "v", "num_features": 3, "signed": true});
    hasher["categorical_cols"] = json!(["x"]);
    let stages = json!([{"feature_hasher": hasher}, {"sparse_to_dense": {"inputs": ["v"]}}]);
    outputs(stages.clone(), &rows).await;
    let model = fit(&stages, frame(std::slice::from_ref(&rows), usize::MAX)).await.unwrap();
    let features = model.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    let names: Vec<&str> = features.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["v[0]", "v[1]", "v[2]"]);
    let magnitude = |row: usize| -> f64 {
        let elements = features.values.iter().map(|values| match values {
            FeatureValues::Number(numbers) => numbers[row].abs(),
            FeatureValues::Category(_) => NAN,
        });
        elements.sum()
    };
    // Two categories in the first row, none in the second.
    assert!([0.0, 2.0].contains(&magnitude(0)) && magnitude(1) == 0.0);
    let sparse = fit(&json!([stages[0]]), frame(std::slice::from_ref(&rows), usize::MAX)).await.unwrap();
    assert!(sparse.compile(&rows.schema()).unwrap().apply(&rows).is_err());
}

#[tokio::test]
async fn mistakes_are_named() {
    let rows = table();
    let null_tokens = json!([{"count_vectorizer": {"inputs": ["tokens"]}}]);
    let mut tokens = ListBuilder::new(StringBuilder::new());
    tokens.append_value([Some("a"), None]);
    tokens.append_null();
    let nulls = RecordBatch::try_from_iter([("tokens", Arc::new(tokens.finish()) as ArrayRef)]).unwrap();
    assert_eq!(
        refused(null_tokens, &nulls, &nulls).await,
        "stage 1 (count_vectorizer): column \"tokens\" has 2 nulls, lists or tokens; leave such rows out in SQL (rows \
         of \"all\")"
    );
    let cases = [
        (
            json!({"hashing_tf": {"inputs": ["t"]}}),
            "stage 1 (hashing_tf): column \"t\" is Utf8; expected a list of text",
        ),
        (
            json!({"hashing_tf": {"inputs": ["tokens"], "num_features": 0}}),
            "stage 1 (hashing_tf): parameter \"num_features\": expected a whole number of 1 to 2147483647, got 0",
        ),
        (
            json!({"count_vectorizer": {"inputs": ["tokens"], "min_tf": -1}}),
            "stage 1 (count_vectorizer): expected \"min_tf\" of at least 0, got -1",
        ),
        (
            json!({"count_vectorizer": {"inputs": ["tokens"], "min_df": 0.9, "max_df": 2}}),
            "stage 1 (count_vectorizer): expected \"min_df\" of at most \"max_df\", got 5.4 and 2 of 6 rows (rows of \
             \"all\")",
        ),
        (
            json!({"count_vectorizer": {"inputs": ["tokens"], "vocab_size": 262145}}),
            "stage 1 (count_vectorizer): parameter \"vocab_size\": expected a whole number of 1 to 262144, got 262145",
        ),
        (
            json!({"idf": {"inputs": ["x"]}}),
            "stage 1 (idf): column \"x\" is Float64; expected a vector, such as a vector_assembler with an output \
             makes",
        ),
        (
            json!({"feature_hasher": {"inputs": ["x"]}}),
            "stage 1 (feature_hasher): parameter \"output\" is missing; expected a column name",
        ),
        (
            json!({"feature_hasher": {"inputs": ["x"], "output": "v", "categorical_cols": ["t"]}}),
            "stage 1 (feature_hasher): \"categorical_cols\" has column \"t\", which is not an input",
        ),
        (
            json!({"frequency_encoder": {"inputs": ["tokens"]}}),
            "stage 1 (frequency_encoder): column \"tokens\" is List(Utf8); expected text, a number or a boolean",
        ),
        (
            json!({"frequency_encoder": {"inputs": ["t"], "measure": "rank"}}),
            "stage 1 (frequency_encoder): parameter \"measure\": expected one of share, count, got \"rank\"",
        ),
        (
            json!({"cyclical_encoder": {"inputs": ["x"]}}),
            "stage 1 (cyclical_encoder): parameter \"period\": expected a number, or one of minute, hour, day, week, \
             year, got null",
        ),
        (
            json!({"cyclical_encoder": {"inputs": ["x"], "period": 0}}),
            "stage 1 (cyclical_encoder): expected a finite \"period\" above 0, got 0",
        ),
        (
            json!({"cyclical_encoder": {"inputs": ["x"], "period": "day"}}),
            "stage 1 (cyclical_encoder): column \"x\" is Float64; expected a date or a time, or \"period\" as a number",
        ),
        (
            json!({"cyclical_encoder": {"inputs": ["t"], "period": 7}}),
            "stage 1 (cyclical_encoder): column \"t\" is Utf8; expected a number, a date or a time",
        ),
        (
            json!({"cyclical_encoder": {"inputs": ["x"], "period": 7, "outputs": ["a"]}}),
            "stage 1 (cyclical_encoder): parameter \"outputs\" has 1 columns; expected 2, a sine and a cosine for each \
             input",
        ),
        (
            json!({"date_parts": {"inputs": ["t"]}}),
            "stage 1 (date_parts): column \"t\" is Utf8; expected a date or a timestamp: cast it in SQL",
        ),
        (
            json!({"date_parts": {"inputs": ["day"], "parts": ["day_of_weak"]}}),
            "stage 1 (date_parts): unknown part \"day_of_weak\"; did you mean \"day_of_week\"?; there are year, \
             quarter, month, week, day, day_of_week, day_of_year, hour, minute, second",
        ),
        (json!({"date_parts": {"inputs": ["day"], "parts": []}}), "stage 1 (date_parts): parameter \"parts\" is empty"),
        (
            json!({"power_transformer": {"inputs": ["t"]}}),
            "stage 1 (power_transformer): column \"t\" is Utf8; expected a number",
        ),
        (
            json!({"quantile_clipper": {"inputs": ["x"], "lower": 0.5, "upper": 0.5}}),
            "stage 1 (quantile_clipper): expected 0 <= \"lower\" < \"upper\" <= 1, got 0.5 and 0.5",
        ),
        (
            json!({"sparse_to_dense": {"inputs": ["x"]}}),
            "stage 1 (sparse_to_dense): column \"x\" is Float64; expected a vector, such as a vector_assembler with an \
             output makes",
        ),
    ];
    for (stage, expected) in cases {
        assert_eq!(refused(json!([stage]), &rows, &rows).await, expected);
    }
}

#[tokio::test]
async fn large_sparse_vectors_are_not_made_dense() {
    let rows = table();
    let stages = json!([{"hashing_tf": {"inputs": ["tokens"]}}, {"sparse_to_dense": {"inputs": ["tokens"]}}]);
    assert_eq!(
        refused(stages, &rows, &rows).await,
        "stage 2 (sparse_to_dense): column \"tokens\" is a sparse vector of 262144 numbers; expected at most 16384: \
         hash into fewer, or take a smaller vocabulary"
    );
}
