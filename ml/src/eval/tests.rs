use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch};
use arrow::datatypes::Float64Type;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;
use crate::estimator::testing::{fixture, unit};

fn rows() -> (Vec<f64>, Vec<f64>) {
    let scores: Vec<f64> = (0..1000).map(|i| (unit(i, 20) * 40.0).floor() / 40.0).collect();
    let labels = (0..1000).map(|i| f64::from(u8::from(unit(i, 21) < 0.2 + 0.6 * scores[i]))).collect();
    (scores, labels)
}

fn of_scores<'a>(scores: &'a [f64], labels: &'a [f64]) -> Predicted<'a> {
    Predicted { problem: ProblemType::Binary, n_classes: 2, predictions: scores, labels, threshold: 0.5, x: None }
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let (scores, labels) = rows();
    let expected = fixture()["metrics"].clone();
    for metric in Metric::of(ProblemType::Binary) {
        let got = metric.compute(&of_scores(&scores, &labels)).unwrap();
        let want = expected[metric.name()].as_f64().unwrap();
        // Rounding of 1000 terms.
        assert!((got - want).abs() < 1e-12, "{metric}: {got} and {want}");
    }
}

#[test]
fn metrics_do_not_depend_on_the_order_of_rows() {
    let (mut scores, mut labels) = rows();
    let before = Evaluation::of(&of_scores(&scores, &labels)).unwrap();
    scores.reverse();
    labels.reverse();
    assert_eq!(Evaluation::of(&of_scores(&scores, &labels)).unwrap(), before);
}

#[test]
fn ties_count_half() {
    assert_eq!(area_under_roc(&[0.5, 0.5], &[0.0, 1.0]).unwrap(), 0.5);
    assert_eq!(area_under_roc(&[0.0, -0.0], &[0.0, 1.0]).unwrap(), 0.5);
    assert_eq!(area_under_roc(&[0.1, 0.9, 0.8], &[0.0, 1.0, 1.0]).unwrap(), 1.0);
    assert_eq!(area_under_roc(&[0.9, 0.1], &[0.0, 1.0]).unwrap(), 0.0);
}

#[test]
fn calibration_bins_hold_all_rows() {
    let (scores, labels) = rows();
    let bins = calibration(&scores, &labels, 10).unwrap();
    assert_eq!(bins.iter().map(|b| b.n_rows).sum::<u64>(), 1000);
    assert!(bins.windows(2).all(|w| w[0].max_prediction < w[1].min_prediction && w[0].bin < w[1].bin));
    assert!(bins.iter().all(|b| b.min_prediction <= b.mean_prediction && b.mean_prediction <= b.max_prediction));
    let positives: f64 = bins.iter().map(|b| b.mean_label * b.n_rows as f64).sum();
    assert!((positives - labels.iter().sum::<f64>()).abs() < 1e-9);
    assert_eq!(calibration(&[0.5; 4], &[0.0, 1.0, 1.0, 0.0], 10).unwrap().len(), 1);
}

#[test]
fn curves_go_from_corner_to_corner_and_are_thinned() {
    let scores: Vec<f64> = (0..5000).map(|i| unit(i, 1)).collect();
    let labels: Vec<f64> = (0..5000).map(|i| f64::from(u8::from(unit(i, 2) < scores[i]))).collect();
    let curve = roc_curve(&scores, &labels, 200).unwrap();
    assert_eq!(curve.len(), 200);
    assert_eq!((curve[0].false_positive_rate, curve[0].true_positive_rate), (0.0, 0.0));
    assert_eq!((curve[199].false_positive_rate, curve[199].true_positive_rate), (1.0, 1.0));
    assert!(
        curve
            .windows(2)
            .all(|w| w[0].true_positive_rate <= w[1].true_positive_rate && w[0].threshold >= w[1].threshold)
    );
    assert_eq!(roc_curve(&[0.2, 0.7], &[0.0, 1.0], 200).unwrap().len(), 3);
}

#[test]
fn best_thresholds_are_the_best_of_all() {
    let (scores, labels) = rows();
    let best = best_threshold(&scores, &labels, ThresholdRule::Youden).unwrap();
    let f1 = best_threshold(&scores, &labels, ThresholdRule::F1).unwrap();
    for cut in 0..=40 {
        let cut = f64::from(cut) / 40.0;
        let count = |l: f64, hit: bool| {
            scores.iter().zip(&labels).filter(|(s, y)| **y == l && (**s >= cut) == hit).count() as f64
        };
        let (tp, fp, missed) = (count(1.0, true), count(0.0, true), count(1.0, false));
        assert!(tp / (tp + missed) - fp / (fp + count(0.0, false)) <= best.value + 1e-12);
        assert!(2.0 * tp / (2.0 * tp + fp + missed) <= f1.value + 1e-12);
    }
    assert!(best.threshold > f1.threshold);
}

#[test]
fn bad_input_is_named() {
    let text = |r: Result<f64>| r.unwrap_err().to_string();
    assert!(text(area_under_roc(&[0.1, 0.2], &[1.0, 1.0])).contains("one class only: all 2 rows are 1"));
    assert!(text(area_under_roc(&[0.1, f64::NAN], &[1.0, 0.0])).contains("the score of row 1 is not a number"));
    assert!(text(log_loss(&[0.1], &[2.0])).contains("must be 0 or 1, got 2"));
    assert!(text(log_loss(&[], &[])).contains("at least one row"));
    assert!(log_loss(&[0.3], &[1.0]).is_ok());
    assert!(log_loss(&[0.0], &[1.0]).unwrap() > 36.0);
}

#[test]
fn metric_names_are_ours_and_spark_s() {
    assert_eq!("areaUnderROC".parse::<Metric>().unwrap(), Metric::AreaUnderRoc);
    assert_eq!("area_under_pr".parse::<Metric>().unwrap(), Metric::AreaUnderPr);
    let error = "area_under_rok".parse::<Metric>().unwrap_err().to_string();
    assert!(error.contains("did you mean \"area_under_roc\"?"), "{error}");
    assert_eq!(serde_json::to_string(&Metric::LogLoss).unwrap(), "\"log_loss\"");
    assert_eq!(serde_json::from_str::<Metric>("\"logLoss\"").unwrap(), Metric::LogLoss);
    assert!(Metric::Brier.is_better(0.1, 0.2) && !Metric::AreaUnderRoc.is_better(f64::NAN, 0.0));
}

async fn query(sql: &str) -> Vec<RecordBatch> {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3));
    aggregate_udfs().into_iter().for_each(|f| ctx.register_udaf(f.as_ref().clone()));
    let (scores, labels) = rows();
    let batch = |from: usize, to: usize| {
        RecordBatch::try_from_iter_with_nullable([
            (
                "score",
                Arc::new(Float64Array::from_iter((from..to).map(|i| (i != 3).then_some(scores[i])))) as ArrayRef,
                true,
            ),
            ("late", Arc::new(BooleanArray::from_iter((from..to).map(|i| Some(labels[i] == 1.0)))) as ArrayRef, true),
            (
                "n",
                Arc::new(Int32Array::from_iter((from..to).map(|i| (i != 4).then_some(labels[i] as i32)))) as ArrayRef,
                true,
            ),
        ])
        .unwrap()
    };
    let parts: Vec<Vec<RecordBatch>> = (0..4).map(|p| vec![batch(p * 250, (p + 1) * 250)]).collect();
    let table = MemTable::try_new(parts[0][0].schema(), parts).unwrap();
    ctx.register_table("t", Arc::new(table)).unwrap();
    ctx.sql(sql).await.unwrap().collect().await.unwrap()
}

#[tokio::test]
async fn aggregates_are_the_functions() {
    let (scores, labels) = rows();
    let without = |skip: &[usize]| -> (Vec<f64>, Vec<f64>) {
        (0..1000).filter(|i| !skip.contains(i)).map(|i| (scores[i], labels[i])).unzip()
    };
    let out = query("select roc_auc(score, late), log_loss(score, n), roc_auc(score, n) from t").await;
    let value = |i: usize| out[0].column(i).as_primitive::<Float64Type>().value(0);
    let (s, l) = without(&[3]);
    assert_eq!(value(0), area_under_roc(&s, &l).unwrap());
    let (s, l) = without(&[3, 4]);
    assert_eq!(value(1), log_loss(&s, &l).unwrap());
    assert_eq!(value(2), area_under_roc(&s, &l).unwrap());
}

#[tokio::test]
async fn groups_of_one_class_have_no_area() {
    let out = query("select late, roc_auc(score, late) as a, log_loss(score, late) as b from t group by late").await;
    for batch in &out {
        assert_eq!(batch.column(1).null_count(), batch.num_rows());
        assert_eq!(batch.column(2).null_count(), 0);
    }
    let out = query("select roc_auc(score, late), log_loss(score, late) from t where score > 2").await;
    assert_eq!((out[0].column(0).null_count(), out[0].column(1).null_count()), (1, 1));
}

#[tokio::test]
async fn aggregates_refuse_other_types() {
    let ctx = SessionContext::new();
    aggregate_udfs().into_iter().for_each(|f| ctx.register_udaf(f.as_ref().clone()));
    let error = ctx.sql("select roc_auc('a', true)").await.unwrap_err().to_string();
    assert!(error.contains("takes a score and a label"), "{error}");
}

/// A prediction, a label and a weight.
type Row = (Option<f64>, Option<f64>, Option<f64>);

/// A session with our evaluators and a table `t(prediction, label, weight)` of some partitions.
fn predicted(rows: &[Row], partitions: usize) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    aggregate_udfs().into_iter().for_each(|f| ctx.register_udaf(Arc::unwrap_or_clone(f)));
    let batch = |rows: &[Row]| {
        let column = |of: fn(&Row) -> Option<f64>| Arc::new(rows.iter().map(of).collect::<Float64Array>()) as ArrayRef;
        let columns = [
            ("prediction", column(|r| r.0), true),
            ("label", column(|r| r.1), true),
            ("weight", column(|r| r.2), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let schema = batch(&[]).schema();
    let size = rows.len().div_ceil(partitions).max(1);
    let mut parts: Vec<_> = rows.chunks(size).map(|rows| vec![batch(rows)]).collect();
    parts.resize(partitions, vec![]);
    ctx.register_table("t", Arc::new(MemTable::try_new(schema, parts).unwrap())).unwrap();
    ctx
}

/// The one row of a query as JSON.
async fn one_row(ctx: &SessionContext, sql: &str) -> serde_json::Value {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::JsonArray>(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    serde_json::from_slice::<serde_json::Value>(&writer.into_inner()).unwrap()[0]["found"].take()
}

/// Checks each number that the fixture has.
fn assert_near(got: &serde_json::Value, expected: &serde_json::Value, path: &str) {
    use serde_json::Value;
    match expected {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| assert_near(&got[k], v, &format!("{path}.{k}"))),
        Value::Array(items) => {
            assert_eq!(got.as_array().unwrap().len(), items.len(), "{path}");
            items.iter().enumerate().for_each(|(i, v)| assert_near(&got[i], v, &format!("{path}[{i}]")));
        }
        Value::Null => {}
        expected => {
            let (got, expected) = (got.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{path}: {got} and {expected}");
        }
    }
}

/// What the fixture's kinds are by our functions; `weight` is what follows their arguments.
fn measured(kind: &str, weight: &str) -> String {
    if kind != "scores" {
        return format!("{kind}_metrics(prediction, label{weight})");
    }
    let of = |function: &str| format!("'{function}', {function}(prediction, label{weight})");
    let lift = |share: &str| format!("'lift_{share}', lift(prediction, label, {share}{weight})");
    let all = [of("roc_auc"), of("log_loss"), of("calibration_error"), lift("0.1"), lift("0.37")];
    format!("named_struct({})", all.join(", "))
}

#[tokio::test]
async fn evaluators_are_those_of_spark_and_scikit_learn() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/fixtures/evaluators.json")).unwrap();
    for (name, cases) in fixture.as_object().unwrap() {
        let (kind, weight) = name.strip_prefix("weighted_").map_or((&name[..], ""), |kind| (kind, ", weight"));
        for (n, case) in cases.as_array().unwrap().iter().enumerate() {
            let row = |row: &serde_json::Value| (row[0].as_f64(), row[1].as_f64(), row[2].as_f64());
            let mut rows: Vec<_> = case["rows"].as_array().unwrap().iter().map(row).collect();
            let n_rows = rows.iter().filter(|row| row.2 != Some(0.0)).count();
            rows.extend([(None, Some(1.0), Some(1.0)), (Some(1.0), None, Some(1.0))]);
            let mut found = Vec::new();
            for partitions in [1, 2, 5] {
                rows.reverse();
                let ctx = predicted(&rows, partitions);
                let sql = format!("select {} as found from t", measured(kind, weight));
                let mut all = one_row(&ctx, &sql).await;
                for beta in ["0.5", "2.0"].into_iter().filter(|_| kind == "multiclass") {
                    let sql = format!("select weighted_f_measure(prediction, label, {beta}{weight}) as found from t");
                    all[format!("f_measure_{beta}")] = one_row(&ctx, &sql).await;
                }
                found.push(all);
            }
            assert_near(&found[0], &case["expected"], &format!("{name} {n}"));
            assert!(kind == "scores" || found[0]["count"].as_u64() == Some(n_rows as u64));
            assert!(found.iter().all(|f| *f == found[0]), "{name} {n} depends on the partitions");
        }
    }
}

async fn error_of(ctx: &SessionContext, sql: &str) -> String {
    match ctx.sql(sql).await {
        Ok(df) => df.collect().await.unwrap_err().to_string(),
        Err(e) => e.to_string(),
    }
}

#[tokio::test]
async fn weights_that_are_none_are_errors() {
    let functions = [
        "roc_auc(prediction, label",
        "log_loss(prediction, label",
        "calibration_error(prediction, label",
        "lift(prediction, label, 0.5",
        "weighted_f_measure(prediction, label, 2",
        "regression_metrics(prediction, label",
        "multiclass_metrics(prediction, label",
    ];
    for (weight, got) in [(None, "null"), (Some(f64::NAN), "NaN"), (Some(-1.0), "-1"), (Some(f64::INFINITY), "inf")] {
        let ctx = predicted(&[(Some(0.5), Some(1.0), Some(1.0)), (Some(0.25), Some(0.0), weight)], 2);
        for function in functions {
            let name = function.split('(').next().unwrap();
            let error = error_of(&ctx, &format!("select {function}, weight) from t")).await;
            assert!(
                error.contains(&format!("{name}: a weight must be a finite number of at least 0, got {got}")),
                "{error}"
            );
        }
    }
    let ctx = predicted(&[], 1);
    for function in functions {
        let error = error_of(&ctx, &format!("select {function}, weight, 1) from t")).await;
        assert!(error.contains("takes a"), "{error}");
    }
}

#[tokio::test]
async fn shares_and_betas_are_checked() {
    let ctx = predicted(&[(Some(0.5), Some(1.0), None), (Some(0.25), Some(0.0), None)], 1);
    for (call, expected) in [
        ("lift(prediction, label, 0)", "a number above 0, up to 1, got 0"),
        ("lift(prediction, label, 1.5)", "a number above 0, up to 1, got 1.5"),
        ("lift(prediction, label, prediction)", "the share must be a literal"),
        ("weighted_f_measure(prediction, label, -1)", "a finite number of at least 0, got -1"),
        ("weighted_f_measure(prediction, label, label)", "beta must be a literal"),
    ] {
        let error = error_of(&ctx, &format!("select {call} from t")).await;
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(one_row(&ctx, "select lift(prediction, label, 1) as found from t").await, 1.0);
    assert_eq!(one_row(&ctx, "select lift(prediction, label, 0.5) as found from t").await, 2.0);
    let without = "select lift(prediction, label, 0.5) as found from t where label = 0";
    assert!(one_row(&ctx, without).await.is_null());
}

#[test]
fn calibration_errors_are_of_the_most_probable_class() {
    let probabilities = [0.75, 0.25, 0.0, 0.1, 0.75, 0.15, 0.2, 0.2, 0.6];
    let of = |labels: &[f64]| multiclass_calibration_error(&probabilities, labels, 3).unwrap();
    assert_eq!(of(&[0.0, 1.0, 2.0]), (0.5 + 0.4) / 3.0);
    assert_eq!(of(&[0.0, 2.0, 2.0]), (0.5 + 0.4) / 3.0);
    assert_eq!(of(&[1.0, 2.0, 0.0]), (1.5 + 0.6) / 3.0);
    // 0.1 is of the first bin and 0.10001 of the second.
    assert!((calibration_error(&[0.1, 0.0], &[0.0, 0.1_f64.floor()]).unwrap() - 0.05).abs() < 1e-15);
    let error = calibration_error(&[0.1, 0.10001], &[1.0, 0.0]).unwrap();
    assert!((error - (0.9 + 0.10001) / 2.0).abs() < 1e-15);
}

#[tokio::test]
async fn evaluators_of_few_rows() {
    let all_null = |found: serde_json::Value, but: &[&str]| {
        let fields = found.as_object().unwrap();
        fields.iter().all(|(name, value)| value.is_null() || but.contains(&name.as_str()))
    };
    let none = predicted(&[], 2);
    let found = one_row(&none, "select multiclass_metrics(prediction, label) as found from t").await;
    assert_eq!((found["count"].as_u64(), &found["by_label"]), (Some(0), &serde_json::json!([])));
    assert!(all_null(found, &["count", "by_label"]));
    let found = one_row(&none, "select regression_metrics(prediction, label) as found from t").await;
    assert_eq!(found["count"].as_u64(), Some(0));
    assert!(all_null(found, &["count"]));

    let one = predicted(&[(Some(2.0), Some(5.0), None)], 1);
    let found = one_row(&one, "select regression_metrics(prediction, label) as found from t").await;
    let expected = serde_json::json!(
        {"count": 1, "mse": 9.0, "rmse": 3.0, "mae": 3.0, "r2": null, "explained_variance": 9.0});
    assert_eq!(found, expected);

    let found = one_row(&one, "select multiclass_metrics(prediction, label) as found from t").await;
    assert_eq!((&found["accuracy"], &found["weighted_false_positive_rate"]), (&0.0.into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn classes_are_of_any_type_and_not_too_many() {
    let ctx = predicted(&[], 1);
    let of = |values: &str| format!("select multiclass_metrics(p, l) as found from (values {values}) as t (p, l)");
    let found = one_row(&ctx, &of("('cat', 'dog'), ('dog', 'dog'), ('ant', 'ant')")).await;
    let labels: Vec<&str> =
        found["by_label"].as_array().unwrap().iter().map(|c| c["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["ant", "cat", "dog"]);
    let found = one_row(&ctx, &of("(1, 10), (10, 10), (-2, -2)")).await;
    assert_eq!(found["by_label"][0]["label"], -2);
    let found = one_row(&ctx, &of("(true, false), (false, false)")).await;
    assert_eq!(
        found["by_label"][1],
        serde_json::json!({"label": true, "count": 0, "predicted": 1, "precision": 0.0,
        "recall": 0.0, "f1": 0.0, "false_positive_rate": 0.5})
    );

    let many = "select multiclass_metrics(value, value) from generate_series(1, 10001)";
    assert!(error_of(&ctx, many).await.contains("more than 10000 classes"));
    let lists = error_of(&ctx, "select multiclass_metrics([1], [2])").await;
    assert!(lists.contains("takes a prediction and a label that compare"), "{lists}");
    let text = error_of(&ctx, "select regression_metrics('a', 1.0)").await;
    assert!(text.contains("regression_metrics takes a number, got Utf8"), "{text}");
}
