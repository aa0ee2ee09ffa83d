//! Run records: what a run read, did, decided and wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use tidemill_ml::estimator::ProblemType;
use tidemill_ml::eval::{Evaluation, PermutationImportance};

use crate::checks::CheckResult;

/// The record of one run, kept as JSON under `runs/` in the warehouse.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// The run's id (a version-7 UUID: ids sort by time).
    pub run: String,
    /// The job's name.
    pub job: String,
    /// `train` or `score`.
    pub kind: String,
    /// `running`, `succeeded` or `failed`.
    pub status: String,
    /// Why it failed.
    pub error: Option<String>,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
    /// `in process` or the scheduler's address.
    pub mode: String,
    /// The version of the code.
    pub code_version: String,
    /// The job's parameters.
    pub params: Value,
    /// The exact versions of what was read, by table.
    pub inputs: Value,
    /// The feature views that were joined.
    pub feature_views: Vec<ViewRecord>,
    /// What the checks found, by table.
    pub checks: BTreeMap<String, Vec<CheckResult>>,
    /// The hash of the logical plan, without locations, mode and run ids.
    pub plan_hash: String,
    /// Steps with their times.
    pub steps: Vec<StepRecord>,
    /// Training: counts, candidates, evaluation, decision.
    pub train: Option<TrainRecord>,
    /// Scoring: model and output.
    pub score: Option<ScoreRecord>,
}

/// A feature view that a run read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewRecord {
    /// The view.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The digest of its definition.
    pub digest: String,
    /// Its table in the warehouse.
    pub table: String,
    /// Days that the run materialised.
    pub n_days_materialized: usize,
}

/// A step that ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name.
    pub step: String,
    /// How long it took.
    pub seconds: f64,
    /// What came of it.
    pub summary: String,
}

/// What a training run found and decided.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainRecord {
    /// Rows of the feature query.
    pub n_rows: u64,
    /// Rows without a label: left out of training and evaluation.
    pub n_unlabelled: u64,
    /// Rows without a label in the hold-out's range.
    pub n_unlabelled_holdout: u64,
    /// Rows trained on.
    pub n_train: u64,
    /// Rows held out with a label.
    pub n_holdout: u64,
    /// Folds.
    pub n_folds: u32,
    /// How rows were dealt to them, in words.
    pub folds: String,
    /// Candidates.
    pub n_candidates: usize,
    /// Candidate × fold fits that were made, the refit not counted.
    pub n_fits: usize,
    /// Those of them that an earlier run of the same search, which did not end, had done.
    pub n_resumed: usize,
    /// The digest of what the search's outcomes follow from beside its grid: rows, pipeline, folds, seed, code.
    pub search: String,
    /// Groups (tasks) that the grid was cut into.
    pub n_groups: usize,
    /// Queries over the data that fitted the stages, for all folds and the refit together.
    pub fit_passes: usize,
    /// How many times each stage was fitted: once for each fold and once for the refit.
    pub stage_fits: BTreeMap<String, usize>,
    /// What was to be learnt.
    pub problem_type: ProblemType,
    /// The classes of a multiclass label, by their numbers.
    pub classes: Vec<String>,
    /// The metric that ranks.
    pub metric: String,
    /// Every candidate, in grid order.
    pub candidates: Vec<CandidateRecord>,
    /// The best candidate's id.
    pub best: usize,
    /// The best model on the hold-out.
    pub evaluation: Evaluation,
    /// The best candidate of each estimator, refitted, on the hold-out: its metric's value.
    pub holdout_by_estimator: BTreeMap<String, f64>,
    /// The model's name.
    pub model: String,
    /// The registered version.
    pub version: u64,
    /// The model's digest.
    pub digest: String,
    /// Whether a model with this digest was there before.
    pub already_registered: bool,
    /// What was decided about the alias, and why.
    pub decision: String,
    /// Whether the alias moved.
    pub promoted: bool,
    /// Feature importances of the best model, largest first.
    pub importances: Vec<(String, f64)>,
    /// How many splits each feature has in a best model of trees.
    pub split_counts: BTreeMap<String, u64>,
    /// By how much the metric on the hold-out gets worse when a feature is shuffled, most first; when the job asks for it.
    pub permutation_importances: Vec<PermutationImportance>,
}

/// One candidate of a grid.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CandidateRecord {
    /// Its number in the grid.
    pub id: usize,
    /// The estimator.
    pub estimator: String,
    /// Its parameters.
    pub params: Value,
    /// The metric on each fold; null where it failed.
    pub folds: Vec<Option<f64>>,
    /// The mean over folds; null when one failed.
    pub mean: Option<f64>,
    /// Seconds spent on it (its share of its groups).
    pub seconds: f64,
    /// The most memory that a process set apart for one of its groups; 0 where rows are in shards.
    pub memory_bytes: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// The executors that worked on it.
    pub executors: Vec<String>,
    /// The share of the rows or iterations that it had when it was given up; none when it was trained to the end.
    pub given_up_at: Option<f64>,
}

/// What a scoring run wrote.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScoreRecord {
    /// The model's name.
    pub model: String,
    /// The version that was pinned.
    pub version: u64,
    /// Its digest.
    pub digest: String,
    /// The table.
    pub table: String,
    /// Where it lies.
    pub location: String,
    /// The table's version after the commit.
    pub table_version: u64,
    /// Rows written.
    pub n_rows: u64,
    /// Files written.
    pub n_files: u64,
    /// The partitions that were replaced.
    pub partitions: Vec<String>,
    /// Plain copies: format and location.
    pub copies: Vec<(String, String)>,
    /// Views that were created.
    pub views: Vec<String>,
}
