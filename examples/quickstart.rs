//! From a Parquet file to a scored table in one program: pipeline, grid, registry, `predict`.
//!
//! ```text
//! cargo run --example quickstart -- ./quickstart-warehouse
//! ```

use serde_json::json;
use tidemill::estimator::{ParamGrid, ProblemType};
use tidemill::grid::{Parallel, ROWS_PER_SHARD};
use tidemill::model::ModelPackage;
use tidemill::prelude::*;
use tidemill::registry::{AliasMove, Expected};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let warehouse = std::env::args().nth(1).unwrap_or_else(|| "./quickstart-warehouse".to_owned());
    let session = Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await?;
    session.register_parquet("flights", "examples/flights/data/flights.parquet").await?;

    // Rows: SQL gives a DataFusion DataFrame.
    let rows = session
        .sql(
            "select time_hour, carrier, flight, origin, month, hour, cast(distance as double) as miles,
                    make_date(cast(year as int), cast(month as int), cast(day as int)) as ds,
                    case when arr_delay > 15 then 1 when arr_delay <= 15 then 0 end as late
             from flights where month <= 3",
        )
        .await?;

    // Stages and candidates, compared by cross-validation over days.
    let plugins = session.plugins();
    let stages = json!([
        {"string_indexer": {"inputs": ["carrier", "origin"], "handle_invalid": "keep"}},
        {"one_hot_encoder": {"inputs": ["carrier", "origin"], "handle_invalid": "keep"}},
        {"standard_scaler": {"inputs": ["hour", "miles"], "with_mean": true}},
    ]);
    let candidates =
        json!({"logistic_regression": {"reg_param": [0.001, 0.01]}, "gradient_boosted_trees": {"max_iter": 10}});
    let search = GridSearch {
        pipeline: Pipeline::from_value(&stages, &plugins.stages)?,
        candidates: ParamGrid::from_json(&candidates)?
            .candidates(ProblemType::Binary, |name| plugins.estimators.get(name))?,
        key: ["time_hour", "carrier", "flight"].map(str::to_owned).to_vec(),
        label: Label::binary("late"),
        folds: Folds::hash(3, "ds"),
        metric: "area_under_roc".parse()?,
        threshold: 0.5,
        permutation_importance: false,
        halving: None,
        parallel: Parallel::Candidates,
        rows_per_shard: ROWS_PER_SHARD,
        seed: 1,
        keep_at: None,
    };
    let scratch = session.warehouse().root().join("scratch");
    let found = search.fit(&session, rows.clone(), col("month").lt(lit(3)), col("month").eq(lit(3)), &scratch).await?;
    assert_eq!(found.candidates.len(), 3);

    // The registry keeps the model with a sample of rows that proves it scores them alike wherever it is loaded.
    let (pipeline, best) = found.into_best()?;
    assert!(best.evaluation.get(search.metric) > 0.5);
    let sample = rows.clone().limit(0, Some(16))?.collect().await?.swap_remove(0);
    let package = ModelPackage {
        pipeline,
        model: best.model,
        problem_type: search.label.problem,
        classes: search.label.classes.clone(),
        params: search.candidates[best.candidate].params.clone(),
        metrics: best.evaluation.metrics,
        threshold: 0.5,
        training_data: Vec::new(),
        input_query: None,
        feature_views: vec![],
        run_id: "quickstart".to_owned(),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        parity_sample: sample,
    };
    let registered = session.registry().register("quick", &package).await?;
    let change = AliasMove { version: registered.version, reason: "first".to_owned(), expected: Expected::Any };
    session.registry().set_alias("quick", "live", change).await?;

    // Scores: by DataFrame into a table, and in SQL.
    let scored = session.predict(rows, "quick@live", "score").await?;
    let written = session.write_table(scored, "scored_quick", WriteMode::Replace).await?;
    assert_eq!(written.n_rows, 80_789);
    session
        .sql("select origin, avg(score) as score from scored_quick group by origin order by origin")
        .await?
        .show()
        .await?;
    Ok(())
}
