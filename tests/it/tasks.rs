//! Seven tasks over three executors: each runs exactly once in the result.

use serde_json::json;
use tidemill::estimator::ParamGrid;
use tidemill::prelude::*;

use crate::cluster::LocalCluster;

#[tokio::test(flavor = "multi_thread")]
async fn seven_tasks_over_three_executors_run_once_each() {
    let cluster = LocalCluster::start(3);
    let warehouse = tempfile::tempdir().unwrap();
    let options = SessionOptions {
        warehouse: warehouse.path().to_str().unwrap().to_owned(),
        cluster: Some(cluster.address.clone()),
        ..SessionOptions::default()
    };
    let session = Session::open(options).await.unwrap();
    let flights = format!("{}/examples/flights/data/flights.parquet", env!("CARGO_MANIFEST_DIR"));
    session.register_parquet("flights", &flights).await.unwrap();
    let sql = "select time_hour, carrier, flight, day, cast(hour as double) as hour,
               case when arr_delay > 15 then 1 when arr_delay <= 15 then 0 end as late from flights where month = 1";
    let rows = session.sql(sql).await.unwrap();
    let plugins = session.plugins();
    let stages = json!([{"standard_scaler": {"inputs": ["hour"]}}]);
    let grid = ParamGrid::from_json(&json!({"logistic_regression": {"reg_param": [0.0, 0.1]}})).unwrap();
    let search = GridSearch {
        pipeline: Pipeline::from_value(&stages, &plugins.stages).unwrap(),
        candidates: grid.candidates(|name| plugins.estimators.get(name)).unwrap(),
        key: ["time_hour", "carrier", "flight"].map(str::to_owned).to_vec(),
        label: "late".to_owned(),
        n_folds: 7,
        fold_by: "day".to_owned(),
        metric: "area_under_roc".parse().unwrap(),
        threshold: 0.5,
        seed: 1,
    };
    let scratch = session.warehouse().root().join("scratch");
    let (train, holdout) = (col("day").lt(lit(28)), col("day").gt_eq(lit(28)));
    let found = search.fit(&session, rows, train, holdout, &scratch).await.unwrap();
    assert_eq!(found.n_groups, 7);
    for candidate in &found.candidates {
        assert!(candidate.folds.len() == 7 && candidate.folds.iter().all(Option::is_some), "{candidate:?}");
        assert!(candidate.executors.len() > 1, "all tasks ran on {:?}", candidate.executors);
    }
    assert_eq!(found.stage_fits.values().copied().collect::<Vec<_>>(), [8], "seven folds and the refit");
    assert_eq!(found.fit_passes, 1);
}
