use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, Schema};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext, ident};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::matrix::{FeatureKind, FeatureValues, Features};
use crate::profile::Values;

/// Twelve rows: missing values, ties, nulls, a constant.
fn table() -> RecordBatch {
    let temp: Vec<Option<f64>> = vec![
        Some(1.5),
        None,
        Some(3.25),
        Some(f64::NAN),
        Some(-7.0),
        Some(1.5),
        Some(1e9),
        Some(0.1),
        None,
        Some(0.2),
        Some(0.3),
        Some(-0.0),
    ];
    let seats: Vec<Option<i32>> = (0..12).map(|i| (i % 5 != 0).then_some(i * i)).collect();
    let carrier: Vec<Option<&str>> = vec![
        Some("UA"),
        Some("AA"),
        Some("UA"),
        Some("B6"),
        Some("AA"),
        None,
        Some("DL"),
        Some("UA"),
        Some("B6"),
        Some("AA"),
        Some("DL"),
        Some("UA"),
    ];
    let flag: Vec<bool> = (0..12).map(|i| i % 3 == 0).collect();
    let constant = vec![4.5; 12];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("temp", Arc::new(Float64Array::from(temp))),
        ("seats", Arc::new(Int32Array::from(seats))),
        ("carrier", Arc::new(StringArray::from(carrier))),
        ("flag", Arc::new(BooleanArray::from(flag))),
        ("constant", Arc::new(Float64Array::from(constant))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn context(target_partitions: usize) -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(target_partitions))
}

/// The rows cut into `parts` partitions of batches of `batch_rows`.
fn frame_of(context: &SessionContext, rows: &RecordBatch, parts: usize, batch_rows: usize) -> DataFrame {
    let mut partitions = vec![Vec::new(); parts];
    let mut start = 0;
    while start < rows.num_rows() {
        let len = batch_rows.min(rows.num_rows() - start);
        partitions[(start / batch_rows) % parts].push(rows.slice(start, len));
        start += len;
    }
    let table = MemTable::try_new(rows.schema(), partitions).unwrap();
    context.read_table(Arc::new(table)).unwrap()
}

fn frame(rows: &RecordBatch) -> DataFrame {
    frame_of(&context(2), rows, 1, 100)
}

fn pipeline(stages: Value) -> Pipeline {
    Pipeline::from_value(&stages, &StageRegistry::default()).unwrap()
}

async fn fitted(stages: Value, rows: &RecordBatch) -> PipelineModel {
    pipeline(stages).fit(frame(rows), &[Subset::all("all").profiled()]).await.unwrap().models.remove(0)
}

fn all_stages() -> Value {
    json!([
        {"imputer": {"inputs": ["temp", "seats"], "strategy": "median"}},
        {"imputer": {"inputs": ["constant"]}},
        {"string_indexer": {"inputs": ["carrier", "flag"], "handle_invalid": "keep"}},
        {"one_hot_encoder": {"inputs": ["carrier"]}},
        {"standard_scaler": {"inputs": ["temp", "seats", "constant"], "with_mean": true}},
        {"vector_assembler": {"inputs": ["seats", "temp", "carrier", "flag", "constant"]}},
    ])
}

fn numbers(features: &Features, name: &str) -> Vec<f64> {
    let index = features.features.iter().position(|f| f.name == name).unwrap();
    match &features.values[index] {
        FeatureValues::Number(values) => values.to_vec(),
        FeatureValues::Category(values) => values.iter().map(|&v| f64::from(v)).collect(),
    }
}

fn bits(features: &Features) -> Vec<Vec<u64>> {
    let names: Vec<&str> = features.features.iter().map(|f| f.name.as_str()).collect();
    names.iter().map(|name| numbers(features, name).into_iter().map(f64::to_bits).collect()).collect()
}

async fn collect(df: DataFrame) -> RecordBatch {
    let schema = Arc::new(df.schema().as_arrow().clone());
    let batches = df.collect().await.unwrap();
    let schema = batches.first().map_or(schema, |b| b.schema());
    concat_batches(&schema, &batches).unwrap()
}

async fn transformed(model: &PipelineModel, rows: &RecordBatch) -> Features {
    let batch = collect(model.transform(frame(rows), &[]).unwrap()).await;
    Features::from_batch(model.features(), &batch).unwrap()
}

fn error(stages: Value, rows: &RecordBatch) -> String {
    match Pipeline::from_value(&stages, &StageRegistry::default()) {
        Ok(pipeline) => pipeline.validate(&rows.schema()).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn imputer_fills_mean_median_and_mode() {
    let rows = table();
    for (strategy, expected) in [("mean", (1e9 - 0.15) / 9.0), ("median", 0.3), ("mode", 1.5)] {
        let stages = json!([{"imputer": {"inputs": ["temp"], "strategy": strategy}}]);
        let features = fitted(stages, &rows).await.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
        let temp = numbers(&features, "temp");
        // The decimals of the table are not exact, so the mean written down here may be off in its last bit.
        assert!((temp[1] - expected).abs() <= 1e-15 * expected.abs(), "{strategy}: {}", temp[1]);
        assert_eq!((temp[3], temp[8]), (temp[1], temp[1]));
        assert_eq!((temp[0], temp[11].to_bits()), (1.5, (-0.0f64).to_bits()));
    }
}

#[tokio::test]
async fn imputer_takes_a_placeholder() {
    let rows = table();
    let stages = json!([{"imputer": {"inputs": ["temp"], "strategy": "mode", "missing_value": 1.5}}]);
    let features = fitted(stages, &rows).await.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    // Without 1.5 every value comes once: the smallest is the mode.
    assert_eq!(numbers(&features, "temp")[0], -7.0);
}

#[tokio::test]
async fn indexer_orders_labels_as_spark_does() {
    let rows = table();
    let orders = [
        ("frequencyDesc", ["UA", "AA", "B6", "DL"]),
        ("frequencyAsc", ["B6", "DL", "AA", "UA"]),
        ("alphabetDesc", ["UA", "DL", "B6", "AA"]),
        ("alphabetAsc", ["AA", "B6", "DL", "UA"]),
    ];
    for (order, expected) in orders {
        let stages = json!([{"string_indexer": {
            "inputs": ["carrier"], "handle_invalid": "keep", "string_order_type": order}}]);
        let model = fitted(stages, &rows).await;
        let FeatureKind::Category { labels, indicators } = &model.features()[0].kind else { panic!("not a category") };
        assert_eq!((&labels[..4], labels[4].as_str(), *indicators), (&expected.map(str::to_owned)[..], "__unknown", 5));
    }
}

#[tokio::test]
async fn invalid_values_are_kept_refused_or_left_out() {
    let rows = table();
    let unseen = RecordBatch::try_from_iter(vec![(
        "carrier",
        Arc::new(StringArray::from(vec![Some("UA"), Some("ZZ"), None, Some("AA")])) as ArrayRef,
    )])
    .unwrap();
    let stages = |mode: &str| json!([{"string_indexer": {"inputs": ["carrier"], "handle_invalid": mode}}]);

    let keep = fitted(stages("keep"), &rows).await.compile(&unseen.schema()).unwrap();
    assert_eq!(numbers(&keep.apply(&unseen).unwrap(), "carrier"), [0.0, 4.0, 4.0, 1.0]);

    let skip = fitted(stages("skip"), &rows).await;
    let applied = skip.compile(&unseen.schema()).unwrap().apply_rows(&unseen).unwrap();
    assert_eq!(numbers(&applied.features, "carrier"), [0.0, 1.0]);
    assert_eq!(applied.kept.unwrap().values(), &[0, 3]);
    assert_eq!(numbers(&transformed(&skip, &unseen).await, "carrier"), [0.0, 1.0]);
    assert!(skip.row_predicate().unwrap().is_some());

    let model = fitted(stages("error"), &rows).await;
    let message = model.compile(&unseen.schema()).unwrap().apply(&unseen).unwrap_err().to_string();
    let expected = "stage string_indexer: column \"carrier\" has the value \"ZZ\" in 1 of 4 rows, unseen when it \
                    was fitted; use handle_invalid = keep or skip";
    assert_eq!(message, expected);
    let message = model.transform(frame(&unseen), &[]).unwrap().collect().await.unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
    let null = unseen.slice(2, 1);
    let message = model.compile(&unseen.schema()).unwrap().apply(&null).unwrap_err().to_string();
    assert!(message.contains("column \"carrier\" has a null"), "{message}");
}

#[tokio::test]
async fn one_hot_encoder_counts_indicators_as_spark_does() {
    let rows = table();
    for (drop_last, invalid, expected) in
        [(true, "error", (5, 4)), (false, "error", (5, 5)), (true, "keep", (6, 5)), (false, "keep", (6, 6))]
    {
        let model = fitted(
            json!([
                {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "keep"}},
                {"one_hot_encoder": {"inputs": ["carrier"], "drop_last": drop_last, "handle_invalid": invalid}},
            ]),
            &rows,
        )
        .await;
        let FeatureKind::Category { labels, indicators } = &model.features()[0].kind else { panic!("not a category") };
        assert_eq!((labels.len(), *indicators), expected);
    }
}

#[tokio::test]
async fn scaler_divides_by_the_sample_deviation() {
    let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
    let rows =
        RecordBatch::try_from_iter(vec![("x", Arc::new(Float64Array::from(values.to_vec())) as ArrayRef)]).unwrap();
    let std = (32.0f64 / 7.0).sqrt();
    let model = fitted(json!([{"standard_scaler": {"inputs": ["x"]}}]), &rows).await;
    let features = model.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    assert_eq!(numbers(&features, "x"), values.map(|v| v * (1.0 / std)));
    let model =
        fitted(json!([{"standard_scaler": {"inputs": ["x"], "with_mean": true, "with_std": false}}]), &rows).await;
    let features = model.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    assert_eq!(numbers(&features, "x"), values.map(|v| v - 5.0));
}

#[tokio::test]
async fn a_constant_column_scales_to_zero() {
    let rows = table();
    let model = fitted(json!([{"standard_scaler": {"inputs": ["constant"]}}]), &rows).await;
    let features = model.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    assert_eq!(numbers(&features, "constant"), [0.0; 12]);
}

#[tokio::test]
async fn a_profile_is_of_the_columns_that_the_pipeline_reads() {
    let model = fitted(json!([{"imputer": {"inputs": ["temp", "seats"]}}]), &table()).await;
    let profile = model.profile().unwrap();
    assert_eq!((profile.n_rows, profile.columns.len()), (12, 2));
    assert_eq!((profile.columns[0].name.as_str(), profile.columns[0].nulls, profile.columns[1].nulls), ("temp", 2, 3));
    let Values::Number { nan, min, max, distribution, .. } = &profile.columns[0].values else { panic!("not a number") };
    assert_eq!((*nan, *min, *max), (1, Some(-7.0), Some(1e9)));
    assert_eq!(distribution.bin_edges, [-7.0, 0.0, 0.1, 0.2, 0.3, 1.5, 3.25, 1e9]);
    assert_eq!(distribution.bin_counts, [1, 1, 1, 1, 1, 2, 1, 1]);
}

#[tokio::test]
async fn fit_reads_the_rows_once_a_level() {
    let rows = table();
    let subsets = [Subset::all("all"), Subset::of("fold 0", ident("seats").gt(lit(10)))];
    let fit = pipeline(all_stages()).fit(frame(&rows), &subsets).await.unwrap();
    assert_eq!(fit.passes, 2);
    assert_eq!(fit.models.len(), 2);
    assert_eq!(fit.stage_fits["stage 3 (string_indexer)"], 2);
    assert_eq!(fit.stage_fits.len(), 6);
}

#[tokio::test]
async fn a_subset_is_fitted_as_if_it_were_all() {
    let rows = table();
    let filters: Vec<Expr> = vec![ident("seats").gt(lit(10)), ident("carrier").not_eq(lit("UA")), ident("flag")];
    let subsets: Vec<Subset> = filters.iter().map(|f| Subset::of("fold", f.clone()).profiled()).collect();
    let skipping = json!([
        {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "skip"}},
        {"imputer": {"inputs": ["temp"]}},
        {"standard_scaler": {"inputs": ["temp", "constant"], "with_mean": true}},
    ]);
    for stages in [all_stages(), skipping] {
        let fit = pipeline(stages.clone()).fit(frame(&rows), &subsets).await.unwrap();
        for (model, filter) in fit.models.iter().zip(&filters) {
            let df = frame(&rows).filter(filter.clone()).unwrap();
            let alone = pipeline(stages.clone()).fit(df, &[Subset::all("all").profiled()]).await.unwrap();
            assert_eq!(model.to_bytes().unwrap(), alone.models[0].to_bytes().unwrap());
        }
    }
}

#[tokio::test]
async fn rows_of_other_folds_do_not_fail_a_strict_stage() {
    // The scaler's level evaluates the strict indexer's output; the other fold's carriers are unseen in it.
    let rows = table();
    let stages = json!([
        {"imputer": {"inputs": ["temp"]}},
        {"string_indexer": {"inputs": ["carrier"], "outputs": ["carrier_index"]}},
        {"standard_scaler": {"inputs": ["temp"]}},
    ]);
    let subset = Subset::of("fold 0", ident("carrier").eq(lit("UA")));
    let model = pipeline(stages).fit(frame(&rows), &[subset]).await.unwrap().models.remove(0);
    assert_eq!(model.feature_names(), ["temp", "carrier_index"]);
}

#[tokio::test]
async fn dropped_rows_are_not_fitted_on_later() {
    let rows = table();
    let stages = json!([
        {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "skip"}},
        {"standard_scaler": {"inputs": ["seats"], "with_mean": true, "with_std": false}},
    ]);
    let model = fitted(stages, &rows).await;
    // Row 5 has no carrier and no seats either; rows with seats but row 5: mean over 1, 4, 9, 16, 36, 49, 64, 81, 121.
    let features = transformed(&model, &rows).await;
    assert_eq!(features.n_rows, 11);
    assert_eq!(numbers(&features, "seats")[1], 1.0 - 381.0 / 9.0);
}

#[tokio::test]
async fn transform_and_compiled_agree_to_the_bit() {
    let rows = table();
    let model = fitted(all_stages(), &rows).await;
    let expected = bits(&model.compile(&rows.schema()).unwrap().apply(&rows).unwrap());
    assert_eq!(bits(&transformed(&model, &rows).await), expected);
    let composed: Vec<Expr> = model.expressions().unwrap().into_iter().map(|(name, e)| e.alias(name)).collect();
    let batch = collect(frame(&rows).select(composed).unwrap()).await;
    assert_eq!(bits(&Features::from_batch(model.features(), &batch).unwrap()), expected);
}

#[tokio::test]
async fn one_row_is_the_batch() {
    let rows = table();
    let compiled = fitted(all_stages(), &rows).await.compile(&rows.schema()).unwrap();
    let all = bits(&compiled.apply(&rows).unwrap());
    for row in 0..rows.num_rows() {
        let one = bits(&compiled.apply(&rows.slice(row, 1)).unwrap());
        let expected: Vec<Vec<u64>> = all.iter().map(|column| vec![column[row]]).collect();
        assert_eq!(one, expected);
    }
    assert_eq!(compiled.apply(&rows.slice(0, 0)).unwrap().n_rows, 0);
}

#[tokio::test]
async fn save_and_load_is_identity() {
    let rows = table();
    let model = fitted(all_stages(), &rows).await;
    let bytes = model.to_bytes().unwrap();
    let back = PipelineModel::from_bytes(&bytes, &StageRegistry::default()).unwrap();
    assert_eq!(back.to_bytes().unwrap(), bytes);
    let schema = rows.schema();
    let expected = bits(&model.compile(&schema).unwrap().apply(&rows).unwrap());
    assert_eq!(bits(&back.compile(&schema).unwrap().apply(&rows).unwrap()), expected);
    assert_eq!(back.explain(), model.explain());
}

#[tokio::test]
async fn assembler_refuses_drops_or_keeps_what_is_missing() {
    let rows = table();
    let stages = |mode: &str| {
        json!([
            {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "keep"}},
            {"vector_assembler": {"inputs": ["temp", "carrier"], "handle_invalid": mode}},
        ])
    };
    let keep = fitted(stages("keep"), &rows).await.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    assert!(numbers(&keep, "temp")[1].is_nan() && numbers(&keep, "temp")[3].is_nan());
    let skip = fitted(stages("skip"), &rows).await;
    assert_eq!(skip.compile(&rows.schema()).unwrap().apply(&rows).unwrap().n_rows, 9);
    assert_eq!(transformed(&skip, &rows).await.n_rows, 9);
    let strict = fitted(stages("error"), &rows).await.compile(&rows.schema()).unwrap();
    let message = strict.apply(&rows).unwrap_err().to_string();
    assert!(message.starts_with("stage vector_assembler: column \"temp\" has a null or NaN"), "{message}");
}

#[test]
fn mistakes_are_named_before_anything_runs() {
    let rows = table();
    let unknown_stage = format!(
        "stage 1 (string_index): unknown stage \"string_index\"; did you mean \"string_indexer\"?; there are {}",
        StageRegistry::default().names().join(", ")
    );
    let cases = [
        (
            json!([{"imputer": {"inputs": ["temp"]}}, {"standard_scaler": {"inputs": ["tempp"]}}]),
            "stage 2 (standard_scaler): column \"tempp\" does not exist; did you mean \"temp\"?",
        ),
        (
            json!([{"standard_scaler": {"inputs": ["carrier"]}}]),
            "stage 1 (standard_scaler): column \"carrier\" is Utf8; expected a number",
        ),
        (
            json!([{"one_hot_encoder": {"inputs": ["carrier"]}}]),
            "stage 1 (one_hot_encoder): column \"carrier\" is Utf8; expected an indexed category: put a string_indexer \
             before it",
        ),
        (
            json!([{"imputer": {"input": ["temp"]}}]),
            "stage 1 (imputer): unknown parameter \"input\"; did you mean \"inputs\"?; it takes inputs, outputs, \
             strategy, missing_value",
        ),
        (
            json!([{"imputer": {"inputs": ["temp"], "strategy": "avg"}}]),
            "stage 1 (imputer): parameter \"strategy\": expected one of mean, median, mode, got \"avg\"",
        ),
        (json!([{"string_index": {"inputs": ["carrier"]}}]), &unknown_stage),
        (
            json!([{"imputer": {"inputs": ["temp", "seats"], "outputs": ["t"]}}]),
            "stage 1 (imputer): parameter \"outputs\" has 1 columns; expected 2, one for each input",
        ),
        (
            json!([{"vector_assembler": {"inputs": ["carrier"]}}]),
            "stage 1 (vector_assembler): column \"carrier\" is Utf8; expected a number, a dense vector or an indexed \
             category: put a string_indexer before it",
        ),
        (
            json!([{"vector_assembler": {"inputs": ["temp"]}}, {"imputer": {"inputs": ["temp"]}}]),
            "stage 1 (vector_assembler): it must be the last stage of the pipeline",
        ),
        (json!([]), "a pipeline needs at least one stage"),
        (
            json!([{"imputer": {}, "standard_scaler": {}}]),
            "stage 1: expected a map with one key, the stage's name, and its parameters, got \
             {\"imputer\":{},\"standard_scaler\":{}}",
        ),
    ];
    for (stages, expected) in cases {
        assert_eq!(error(stages, &rows), expected);
    }
}

#[tokio::test]
async fn a_column_without_values_is_named_with_its_rows() {
    let rows = table();
    let stages = json!([{"imputer": {"inputs": ["temp"]}}]);
    let subset = Subset::of("fold 1", ident("temp").is_null());
    let message = pipeline(stages).fit(frame(&rows), &[subset]).await.unwrap_err().to_string();
    assert_eq!(
        message,
        "stage 1 (imputer): column \"temp\" has no value that is present; leave it out (rows of \"fold 1\")"
    );
}

#[tokio::test]
async fn a_label_is_read_by_the_fit_alone() {
    let rows = table();
    let stages = json!([{"target_encoder": {"inputs": ["carrier"], "outputs": ["rate"], "label_col": "flag"}}]);
    let subset = Subset::of("fold 0", ident("carrier").not_eq(lit("DL")));
    let fit = pipeline(stages).fit(frame(&rows), &[Subset::all("all"), subset]).await.unwrap();
    let carriers = rows.project(&[2]).unwrap();
    let found = fit.models[0].compile(&carriers.schema()).unwrap().apply(&carriers).unwrap();
    // Flagged are rows 0, 3, 6 and 9: one of four UA, one of three AA, one of two B6, one of two DL, no null.
    assert_eq!(numbers(&found, "rate")[..7], [0.25, 1.0 / 3.0, 0.25, 0.5, 1.0 / 3.0, 0.0, 0.5]);
    let unseen = carriers.slice(6, 1);
    let message = fit.models[1].compile(&unseen.schema()).unwrap().apply(&unseen).unwrap_err().to_string();
    assert!(message.starts_with("stage target_encoder: column \"carrier\" has the value \"DL\""), "{message}");
}

#[tokio::test]
async fn kept_columns_come_along_as_they_are() {
    let rows = table();
    let stages = json!([{"string_indexer": {"inputs": ["carrier"], "outputs": ["index"], "handle_invalid": "keep"}}]);
    let model = fitted(stages, &rows).await;
    let batch = collect(model.transform(frame(&rows), &["carrier", "temp"]).unwrap()).await;
    let schema = batch.schema();
    let names: Vec<&String> = schema.fields().iter().map(|f| f.name()).collect();
    assert_eq!(names, ["index", "carrier", "temp"]);
    assert_eq!(batch.column(1).as_ref(), rows.column_by_name("carrier").unwrap().as_ref());
    let in_place = fitted(json!([{"imputer": {"inputs": ["temp"]}}]), &rows).await;
    let message = in_place.transform(frame(&rows), &["temp"]).unwrap_err().to_string();
    assert!(message.contains("column \"temp\" is a feature of the pipeline"), "{message}");
}

#[tokio::test]
async fn layout_of_text_and_width_of_integers_change_nothing() {
    let rows = table();
    let model = fitted(all_stages(), &rows).await;
    let casted = |columns: &[(&str, DataType)]| {
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
            let to = columns.iter().find(|(name, _)| *name == field.name()).map(|(_, to)| to);
            let column = to.map_or(Arc::clone(column), |to| arrow::compute::cast(column, to).unwrap());
            (field.name().clone(), column)
        });
        RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()
    };
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let expected = bits(&model.compile(&rows.schema()).unwrap().apply(&rows).unwrap());
    for (carrier, seats) in [(DataType::Utf8View, DataType::Int64), (dictionary, DataType::Float64)] {
        let other = casted(&[("carrier", carrier.clone()), ("seats", seats)]);
        assert_eq!(bits(&model.compile(&other.schema()).unwrap().apply(&other).unwrap()), expected);
        let text_only = casted(&[("carrier", carrier)]);
        assert_eq!(fitted(all_stages(), &text_only).await.to_bytes().unwrap(), model.to_bytes().unwrap());
    }
}

#[test]
fn features_without_an_assembler_are_what_no_stage_reads() {
    let p = pipeline(json!([
        {"string_indexer": {"inputs": ["carrier"], "outputs": ["index"]}},
        {"imputer": {"inputs": ["temp", "seats"]}},
        {"one_hot_encoder": {"inputs": ["index"], "outputs": ["one_hot"]}},
        {"standard_scaler": {"inputs": ["temp"]}},
    ]));
    assert_eq!(p.feature_names(), ["temp", "seats", "one_hot"]);
    assert_eq!(p.input_names(), ["carrier", "temp", "seats"]);
    let with_assembler = pipeline(json!([{"imputer": {"inputs": ["temp"]}}, {"vector_assembler": {}}]));
    assert_eq!(with_assembler.feature_names(), ["temp"]);
    let _: &Schema = &table().schema();
}

#[tokio::test]
async fn a_category_counts_as_text_whatever_its_type() {
    let rows = table();
    let model =
        fitted(json!([{"string_indexer": {"inputs": ["flag", "seats"], "handle_invalid": "keep"}}]), &rows).await;
    let FeatureKind::Category { labels, .. } = &model.features()[0].kind else { panic!("not a category") };
    assert_eq!(labels, &["false", "true", "__unknown"]);
    let batch = collect(model.transform(frame(&rows), &[]).unwrap()).await;
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(0), 1.0);
}

/// A stage that a user may write: divides by the largest value.
mod max_scaler {
    use datafusion::common::ScalarValue;
    use datafusion::functions_aggregate::expr_fn::max;

    use super::*;
    use crate::stage::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};

    #[derive(Debug)]
    struct MaxScaler(Vec<String>);

    #[derive(Debug)]
    struct FittedMaxScaler {
        columns: Vec<String>,
        max: f64,
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        Ok(Arc::new(MaxScaler(StageParams::new(value, &["inputs"])?.inputs()?)))
    }

    pub(super) fn load(saved: &Value) -> Result<Arc<dyn FittedStage>> {
        let column = saved["column"].as_str().unwrap().to_owned();
        let max = crate::codec::exact::from_text(saved["max"].as_str().unwrap()).unwrap();
        Ok(Arc::new(FittedMaxScaler { columns: vec![column], max }))
    }

    impl Stage for MaxScaler {
        fn name(&self) -> &str {
            "max_scaler"
        }

        fn inputs(&self) -> &[String] {
            &self.0
        }

        fn outputs(&self) -> &[String] {
            &self.0
        }

        fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
            Ok(vec![StageColumn::number(&scope.number(&self.0[0])?.name)])
        }

        fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
            Ok(vec![max(ident(&self.0[0]))])
        }

        fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
            let ScalarValue::Int32(Some(max)) = values[0] else { panic!("{values:?}") };
            Ok(Arc::new(FittedMaxScaler { columns: self.0.clone(), max: f64::from(max) }))
        }
    }

    impl FittedStage for FittedMaxScaler {
        fn name(&self) -> &str {
            "max_scaler"
        }

        fn inputs(&self) -> &[String] {
            &self.columns
        }

        fn outputs(&self) -> Result<Vec<FittedOutput>> {
            let column = self.columns[0].clone();
            let expr = datafusion::prelude::cast(ident(&column), DataType::Float64) / lit(self.max);
            Ok(vec![FittedOutput { column, expr, kind: FeatureKind::Number }])
        }

        fn save(&self) -> Result<Value> {
            Ok(json!({"column": self.columns[0], "max": crate::codec::exact::to_text(self.max)}))
        }

        fn describe(&self) -> String {
            format!("{} / {}", self.columns[0], self.max)
        }
    }
}

#[tokio::test]
async fn a_stage_of_the_user_is_fitted_on_its_subset_and_comes_back() {
    let rows = table();
    let mut registry = StageRegistry::default();
    registry.register("max_scaler", max_scaler::parse, max_scaler::load);
    let pipeline = Pipeline::from_value(&json!([{"max_scaler": {"inputs": ["seats"]}}]), &registry).unwrap();
    let subsets = [Subset::all("all"), Subset::of("few", ident("seats").lt(lit(80)))];
    let fit = pipeline.fit(frame(&rows), &subsets).await.unwrap();
    for (model, max) in fit.models.iter().zip([121.0, 64.0]) {
        let back = PipelineModel::from_bytes(&model.to_bytes().unwrap(), &registry).unwrap();
        let features = back.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
        assert_eq!(numbers(&features, "seats")[1], 1.0 / max);
    }
    let message = PipelineModel::from_bytes(&fit.models[0].to_bytes().unwrap(), &StageRegistry::default());
    assert!(message.unwrap_err().to_string().starts_with("unknown stage \"max_scaler\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn order_and_partitioning_of_rows_change_no_bit(
        order in Just((0..12u32).collect::<Vec<_>>()).prop_shuffle(),
        parts in 1usize..5,
        batch_rows in 1usize..13,
        target_partitions in 1usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (expected, got) = runtime.block_on(async {
            let rows = table();
            let subsets = [Subset::all("all").profiled(), Subset::of("fold", ident("seats").gt(lit(10))).profiled()];
            let shuffled = take_record_batch(&rows, &arrow::array::UInt32Array::from(order)).unwrap();
            let df = frame_of(&context(target_partitions), &shuffled, parts, batch_rows);
            let bytes = |fit: Fit| fit.models.iter().map(|m| m.to_bytes().unwrap()).collect::<Vec<_>>();
            let expected = pipeline(all_stages()).fit(frame(&rows), &subsets).await.unwrap();
            (bytes(expected), bytes(pipeline(all_stages()).fit(df, &subsets).await.unwrap()))
        });
        prop_assert_eq!(expected, got);
    }
}

#[tokio::test]
async fn inputs_are_chosen_by_what_columns_are() {
    let rows = table();
    let stages = json!([
        {"imputer": {"inputs": {"type": "number", "except": ["constant"]}}},
        {"string_indexer": {"inputs": {"matches": "^carr|lag$"}, "handle_invalid": "keep"}},
        {"one_hot_encoder": {"inputs": {"type": "category", "matches": "carr"}}},
        {"vector_assembler": {}},
    ]);
    let bound = pipeline(stages.clone()).bind(&rows.schema(), &["seats"]).unwrap();
    let inputs: Vec<&[String]> = bound.stages().iter().map(|stage| stage.inputs()).collect();
    assert_eq!(inputs[..3], [&["temp"][..], &["carrier", "flag"], &["carrier"]]);
    assert_eq!(bound.feature_names(), ["temp", "carrier", "flag"]);
    // Without a job, a fit binds to all columns; saved and fitted pipelines have names only.
    let model = fitted(stages, &rows).await;
    assert_eq!(model.feature_names(), ["temp", "seats", "carrier", "flag"]);
    let kinds = [("number", "temp"), ("string", "carrier"), ("boolean", "flag")];
    for (kind, expected) in kinds {
        let stage = json!([{"frequency_encoder": {"inputs": {"type": kind}}}]);
        let bound = pipeline(stage).bind(&rows.schema(), &["seats", "constant"]).unwrap();
        assert_eq!(bound.feature_names(), [expected], "{kind}");
    }
}

#[test]
fn selectors_that_choose_nothing_or_are_wrong_are_named() {
    let rows = table();
    let cases = [
        (
            json!([{"standard_scaler": {"inputs": ["temp"]}}, {"date_parts": {"inputs": {"type": "time"}}}]),
            "stage 2 (date_parts): inputs {\"type\":\"time\"} choose none of the columns temp (Float64), seats (Int32), \
             carrier (Utf8), flag (Boolean), constant (Float64)",
        ),
        (
            json!([{"imputer": {"inputs": {"type": "numbers"}}}]),
            "stage 1 (imputer): parameter \"type\": expected one of number, string, boolean, time, category, vector, \
             got \"numbers\"",
        ),
        (
            json!([{"imputer": {"inputs": {"types": "number"}}}]),
            "stage 1 (imputer): unknown parameter \"types\"; did you mean \"type\"?; it takes type, matches, except",
        ),
        (
            json!([{"imputer": {"inputs": {"except": ["tmp"]}}}]),
            "stage 1 (imputer): column \"tmp\" does not exist; did you mean \"temp\"?",
        ),
        (
            json!([{"imputer": {"inputs": {}}}]),
            "stage 1 (imputer): parameter \"inputs\" selects by type, matches, except, got {}",
        ),
    ];
    for (stages, expected) in cases {
        assert_eq!(error(stages, &rows), expected);
    }
}

#[tokio::test]
async fn a_pipeline_within_a_pipeline_stands_in_its_place() {
    let rows = table();
    let nested = json!([
        {"pipeline": [{"imputer": {"inputs": ["temp"]}}, {"pipeline": [{"standard_scaler": {"inputs": ["temp"]}}]}]},
        {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "keep"}},
    ]);
    let flat = json!([
        {"imputer": {"inputs": ["temp"]}},
        {"standard_scaler": {"inputs": ["temp"]}},
        {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "keep"}},
    ]);
    let fit = pipeline(nested).fit(frame(&rows), &[Subset::all("all").profiled()]).await.unwrap();
    assert_eq!(fit.models[0].to_bytes().unwrap(), fitted(flat, &rows).await.to_bytes().unwrap());
    let labels: Vec<&str> = fit.stage_fits.keys().map(String::as_str).collect();
    assert_eq!(labels, ["stage 1.1 (imputer)", "stage 1.2.1 (standard_scaler)", "stage 2 (string_indexer)"]);
    let wrong = json!([{"imputer": {"inputs": ["temp"]}}, {"pipeline": [{"imputer": {"inputs": ["tmp"]}}]}]);
    assert_eq!(error(wrong, &rows), "stage 2.1 (imputer): column \"tmp\" does not exist; did you mean \"temp\"?");
    let wrong = json!([{"pipeline": [{"imputers": {"inputs": ["tmp"]}}]}]);
    assert!(error(wrong, &rows).starts_with("stage 1.1 (imputers): unknown stage \"imputers\""));
    let wrong = json!([{"pipeline": {"imputer": {"inputs": ["tmp"]}}}]);
    assert!(error(wrong, &rows).starts_with("a pipeline is a list of stages, got {"));
}

#[tokio::test]
async fn a_model_shows_what_it_reads_gives_and_does() {
    let model = fitted(all_stages(), &table()).await;
    assert_eq!(
        model.matrix_feature_names(),
        [
            "seats",
            "temp",
            "carrier=UA",
            "carrier=AA",
            "carrier=B6",
            "carrier=DL",
            "flag=false",
            "flag=true",
            "flag=__unknown",
            "constant"
        ]
    );
    let inputs = model.input_schema();
    let inputs: Vec<(&str, &DataType)> = inputs.fields().iter().map(|f| (f.name().as_str(), f.data_type())).collect();
    assert_eq!(inputs[..2], [("temp", &DataType::Float64), ("seats", &DataType::Int32)]);
    let outputs = model.output_schema().unwrap();
    let transformed = collect(model.transform(frame(&table()), &[]).unwrap()).await;
    let type_of = |schema: &Schema| -> Vec<_> {
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
    };
    assert_eq!(type_of(&outputs), type_of(&transformed.schema()));
    let explained = model.explain();
    let scaler = explained.lines().position(|line| line.starts_with("stage 5 (standard_scaler), level 2")).unwrap();
    let temp = explained.lines().nth(scaler + 1).unwrap();
    assert!(temp.starts_with("    temp = ") && temp.contains('*'), "{explained}");
    assert!(explained.contains("feature carrier: category of 5 labels, 4 indicators"), "{explained}");
    let skipping = json!([{"string_indexer": {"inputs": ["carrier"], "handle_invalid": "skip"}}]);
    assert!(fitted(skipping, &table()).await.explain().contains("\n    where "));
}
