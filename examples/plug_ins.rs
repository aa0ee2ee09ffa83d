//! A user's own function, stage and estimator, in process and on executors of one's own build.
//!
//! ```text
//! cargo run --example plug_ins -- ./own-warehouse
//! ```
//!
//! The program is its own cluster: it starts itself again as scheduler and executor with the same plug-ins.

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::{ColumnarValue, Expr, Volatility, create_udf};
use datafusion::prelude::{cast, ident};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill::estimator::{Artifacts, EstimatorRegistry, FitContext, ParamGrid, Params, ProblemType};
use tidemill::grid::{Parallel, ROWS_PER_SHARD};
use tidemill::matrix::{Feature, FeatureKind, Features, Matrix};
use tidemill::prelude::*;
use tidemill::stage::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams, StageRegistry};
use tidemill::{MlError, executor, runtime_hooks, scheduler};

/// Predicts the share of positives that it saw: what any model has to beat.
#[derive(Debug)]
struct BaseRate;

#[derive(Debug)]
struct Constant(f64);

impl Estimator for BaseRate {
    fn name(&self) -> &str {
        "base_rate"
    }

    fn validate(&self, params: &Params, _: ProblemType) -> Result<(), MlError> {
        if params.is_empty() { Ok(()) } else { Err(MlError::Invalid("base_rate has no parameters".to_owned())) }
    }

    fn fit(&self, m: &Matrix, rows: &[u32], all: &[Params], _: &FitContext) -> Vec<Result<Box<dyn Model>, MlError>> {
        let rate = rows.iter().map(|r| m.label[*r as usize]).sum::<f64>() / rows.len() as f64;
        all.iter().map(|_| Ok(Box::new(Constant(rate)) as _)).collect()
    }

    fn load(&self, _: Arc<[Feature]>, files: &Artifacts) -> Result<Box<dyn Model>, MlError> {
        let bytes = files.get("rate").and_then(|b| b.as_slice().try_into().ok());
        let bytes =
            bytes.ok_or_else(|| MlError::Corrupt { what: "rate".to_owned(), why: "expected 8 bytes".to_owned() })?;
        Ok(Box::new(Constant(f64::from_le_bytes(bytes))))
    }
}

impl Model for Constant {
    fn estimator(&self) -> &str {
        "base_rate"
    }

    fn predict(&self, x: &Features) -> Result<Vec<f64>, MlError> {
        Ok(vec![self.0; x.n_rows])
    }

    fn save(&self) -> Result<Artifacts, MlError> {
        Ok([("rate".to_owned(), self.0.to_le_bytes().to_vec())].into())
    }
}

/// Divides a column by the largest value that it has in training.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct MaxScaler {
    columns: Vec<String>,
    /// Known once it is fitted.
    max: Option<f64>,
}

impl MaxScaler {
    fn parse(params: &Value) -> Result<Arc<dyn Stage>, MlError> {
        Ok(Arc::new(Self { columns: StageParams::new(params, &["inputs"])?.inputs()?, max: None }))
    }

    fn load(saved: &Value) -> Result<Arc<dyn FittedStage>, MlError> {
        let fitted: Self = serde_json::from_value(saved.clone())
            .map_err(|e| MlError::Corrupt { what: "max_scaler".to_owned(), why: e.to_string() })?;
        Ok(Arc::new(fitted))
    }

    fn number(&self) -> Expr {
        cast(ident(self.columns[0].as_str()), DataType::Float64)
    }
}

impl Stage for MaxScaler {
    fn name(&self) -> &str {
        "max_scaler"
    }

    fn inputs(&self) -> &[String] {
        &self.columns
    }

    fn outputs(&self) -> &[String] {
        &self.columns
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>, MlError> {
        let [column] = self.columns.as_slice() else {
            return Err(MlError::Invalid(format!("expected one input, got {:?}", self.columns)));
        };
        scope.number(column)?;
        Ok(vec![StageColumn::number(column)])
    }

    fn aggregates(&self, _: &Scope) -> Result<Vec<Expr>, MlError> {
        Ok(vec![max(self.number())])
    }

    fn fit(&self, _: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>, MlError> {
        match values {
            [ScalarValue::Float64(Some(max))] if *max > 0.0 => Ok(Arc::new(Self { max: Some(*max), ..self.clone() })),
            other => Err(MlError::Invalid(format!("expected a largest value above 0, got {other:?}"))),
        }
    }
}

impl FittedStage for MaxScaler {
    fn name(&self) -> &str {
        "max_scaler"
    }

    fn inputs(&self) -> &[String] {
        &self.columns
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>, MlError> {
        let expr = self.number() / lit(self.max.unwrap_or(1.0));
        Ok(vec![FittedOutput { column: self.columns[0].clone(), expr, kind: FeatureKind::Number }])
    }

    fn save(&self) -> Result<Value, MlError> {
        serde_json::to_value(self).map_err(|e| MlError::Internal(e.to_string()))
    }

    fn describe(&self) -> String {
        format!("{} / {:?}", self.columns[0], self.max)
    }
}

/// The plug-ins that every process is built with.
fn plugins() -> Plugins {
    let minutes = create_udf(
        "hhmm_minutes",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(|args| {
            let hhmm = ColumnarValue::values_to_arrays(args)?.swap_remove(0);
            let minutes: Int64Array =
                hhmm.as_primitive::<Int64Type>().iter().map(|t| t.map(|t| t / 100 * 60 + t % 100)).collect();
            Ok(ColumnarValue::Array(Arc::new(minutes) as ArrayRef))
        }),
    );
    let mut estimators = EstimatorRegistry::default();
    estimators.register(Arc::new(BaseRate));
    let mut stages = StageRegistry::default();
    stages.register("max_scaler", MaxScaler::parse, MaxScaler::load);
    Plugins { estimators, stages, scalar_functions: vec![Arc::new(minutes)], ..Plugins::default() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["scheduler"] => {
            let options = scheduler::SchedulerOptions { bind: "127.0.0.1:0".parse()?, ..Default::default() };
            let mut handle = scheduler::start(options, runtime_hooks(&plugins(), "scheduler")?).await?;
            println!("{}", handle.address());
            Ok(handle.wait().await?)
        }
        ["executor", address] => {
            let options = executor::ExecutorOptions { vcores: 1, ..Default::default() }.with_scheduler(address)?;
            let mut handle = executor::start(options, runtime_hooks(&plugins(), "own executor")?).await?;
            println!("{}", handle.id());
            Ok(handle.wait().await?)
        }
        ref warehouse => {
            let warehouse = warehouse.first().copied().unwrap_or("./own-warehouse");
            train(warehouse, None).await?;
            let (mut scheduler, address) = start(&["scheduler"])?;
            let (mut executor, _) = start(&["executor", &address])?;
            let result = train(warehouse, Some(address)).await;
            executor.kill()?;
            scheduler.kill()?;
            result
        }
    }
}

/// Starts this program in another role; gives what it prints when it is ready.
fn start(args: &[&str]) -> Result<(Child, String), Box<dyn std::error::Error>> {
    let mut child = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    Ok((child, line.trim().to_owned()))
}

/// Trains the estimator on rows that the function and the stage made, wherever the session runs them.
async fn train(warehouse: &str, cluster: Option<String>) -> Result<(), Box<dyn std::error::Error>> {
    let options = SessionOptions { warehouse: warehouse.to_owned(), cluster, plugins: plugins(), ..Default::default() };
    let session = Session::open(options).await?;
    session.register_parquet("flights", "examples/flights/data/flights.parquet").await?;
    let rows = session
        .sql(
            "select time_hour, carrier, flight, day, cast(hhmm_minutes(sched_dep_time) as double) as minutes,
                    case when arr_delay > 15 then 1 when arr_delay <= 15 then 0 end as late
             from flights where month = 1",
        )
        .await?;
    let plugins = session.plugins();
    let search = GridSearch {
        pipeline: Pipeline::from_value(&json!([{"max_scaler": {"inputs": ["minutes"]}}]), &plugins.stages)?,
        candidates: ParamGrid::from_json(&json!({"base_rate": {}, "logistic_regression": {}}))?
            .candidates(ProblemType::Binary, |name| plugins.estimators.get(name))?,
        key: ["time_hour", "carrier", "flight"].map(str::to_owned).to_vec(),
        label: Label::binary("late"),
        folds: Folds::hash(2, "day"),
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
    let found = search.fit(&session, rows, col("day").lt(lit(25)), col("day").gt_eq(lit(25)), &scratch).await?;
    for candidate in &found.candidates {
        println!("{}: {} {:?} on {:?}", session.mode(), candidate.estimator, candidate.mean, candidate.executors);
    }
    assert_eq!(found.candidates[0].mean, Some(0.5), "a constant ranks nothing");
    assert!(found.candidates[1].mean > Some(0.55), "flights late in the day are late");
    Ok(())
}
