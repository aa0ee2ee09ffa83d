//! What training and scoring runs have in common: inputs, plan hash, record.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::Utc;
use datafusion::logical_expr::LogicalPlan;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::params::{ParamValues, resolve_params};
use super::record::RunRecord;
use super::spec::{Job, JobFile};
use crate::grid::SearchPlan;
use crate::progress::Event;
use crate::session::{Session, Warehouse};
use crate::{EngineError, Result};

impl Session {
    /// Runs a job and gives its record, which is also kept under `runs/` in the warehouse, of a failed run too.
    ///
    /// # Errors
    /// Parameters that do not fit, inputs that are missing or damaged or not what the job expects of them, what the job
    /// itself fails with. What a failed run wrote is not visible in any table, but for rows that it put into quarantine.
    pub async fn run(&self, file: &JobFile, params: &BTreeMap<String, String>) -> Result<RunRecord> {
        let specs = match &file.job {
            Job::Train(j) => &j.params,
            Job::Score(j) => &j.params,
        };
        let params = resolve_params(specs, params)?;
        let started = Instant::now();
        let mut record = self.new_record(&file.job, &params);
        self.warehouse().put_record(&record).await?;
        let mut unfinished = Unfinished::new(self.warehouse().clone(), &record);
        self.progress().event(&Event::RunStarted {
            run: record.run.clone(),
            job: record.job.clone(),
            mode: record.mode.clone(),
        });
        let result = match &file.job {
            Job::Train(j) => super::train::train(self, j, &params, &mut record).await,
            Job::Score(j) => super::score::score(self, j, &params, &mut record).await,
        };
        unfinished.ended();
        record.finished_at = Some(Utc::now().to_rfc3339());
        match &result {
            Ok(()) => record.status = "succeeded".to_owned(),
            Err(e) => {
                record.status = "failed".to_owned();
                record.error = Some(e.to_string());
            }
        }
        let location = self.warehouse().put_record(&record).await?;
        result?;
        if let Some(train) = &record.train {
            self.warehouse().delete_search(&train.search).await;
        }
        self.progress().event(&Event::RunFinished {
            run: record.run.clone(),
            seconds: started.elapsed().as_secs_f64(),
            record: location.to_string(),
        });
        Ok(record)
    }

    /// What the search of a training job would do: its shared work as a tree. Nothing is computed or written.
    ///
    /// # Errors
    /// A job that scores, parameters that do not fit, inputs that are missing, what the job would refuse before it
    /// runs.
    pub async fn explain(&self, file: &JobFile, params: &BTreeMap<String, String>) -> Result<SearchPlan> {
        let Job::Train(job) = &file.job else {
            return Err(EngineError::Invalid(format!(
                "{} scores rows; what is explained is the search of a job that trains",
                file.path.display()
            )));
        };
        super::train::explain(self, job, &resolve_params(&job.params, params)?).await
    }

    fn new_record(&self, job: &Job, params: &ParamValues) -> RunRecord {
        RunRecord {
            run: Uuid::now_v7().to_string(),
            job: job.name().to_owned(),
            kind: match job {
                Job::Train(_) => "train",
                Job::Score(_) => "score",
            }
            .to_owned(),
            status: "running".to_owned(),
            started_at: Utc::now().to_rfc3339(),
            mode: self.mode(),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            params: json!(params),
            ..RunRecord::default()
        }
    }

    /// Registers a job's inputs; gives the versions that were pinned.
    pub(super) async fn register_inputs(&self, tables: &BTreeMap<String, String>) -> Result<Value> {
        let mut versions = serde_json::Map::new();
        for (name, location) in tables {
            let table = self.register_parquet(name, location).await?;
            versions.insert(name.clone(), serde_json::to_value(table.version().await?)?);
        }
        Ok(Value::Object(versions))
    }

    /// All run records, oldest first.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub async fn runs(&self) -> Result<Vec<RunRecord>> {
        self.warehouse().records().await
    }

    /// One run's record.
    ///
    /// # Errors
    /// A run that does not exist.
    pub async fn run_record(&self, run: &str) -> Result<RunRecord> {
        self.warehouse()
            .record(run)
            .await?
            .ok_or_else(|| EngineError::NotFound(format!("run {run:?} does not exist; see: tidemill runs list")))
    }

    /// The names of the warehouse's tables and views.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let mut names = self.warehouse().tables().await?;
        names.extend(self.warehouse().views().await?);
        Ok(names)
    }
}

/// A run that is dropped before its end is recorded as interrupted and its scratch files deleted, by a task that the
/// runtime has to outlive.
struct Unfinished {
    warehouse: Warehouse,
    record: Option<RunRecord>,
}

impl Unfinished {
    fn new(warehouse: Warehouse, record: &RunRecord) -> Self {
        Self { warehouse, record: Some(record.clone()) }
    }

    fn ended(&mut self) {
        self.record = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(mut record), Ok(runtime)) = (self.record.take(), Handle::try_current()) else { return };
        let warehouse = self.warehouse.clone();
        runtime.spawn(async move {
            record.status = "interrupted".to_owned();
            record.finished_at = Some(Utc::now().to_rfc3339());
            if let Err(error) = warehouse.put_record(&record).await {
                tracing::warn!(run = record.run, %error, "the record of an interrupted run stays as it was");
            }
            warehouse.delete_scratch(&record.run).await;
        });
    }
}

/// The hash of what a plan computes: tables and models by name and version, no locations, mode or run ids.
pub(super) fn plan_hash(plan: &LogicalPlan) -> String {
    let hash = blake3::hash(plan.display_indent_schema().to_string().as_bytes());
    hash.to_hex()[..16].to_owned()
}
