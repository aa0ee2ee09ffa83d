//! Job files: YAML with their SQL beside them.
//!
//! Paths in a job file are relative to the file. An unknown key is an error that suggests the right one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tidemill_ml::estimator::ProblemType;

use crate::checks::Expectation;
use crate::features::FeatureView;
use crate::grid::{Folds, Halving, Parallel, ROWS_PER_SHARD};
use crate::{EngineError, Result};

/// A job file, read and checked, with the SQL files that it names loaded.
#[derive(Debug, Clone)]
pub struct JobFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// The job.
    pub job: Job,
}

/// A job.
#[derive(Debug, Clone)]
pub enum Job {
    /// Trains a grid of candidates and registers the best.
    Train(Box<TrainJob>),
    /// Scores rows into a table.
    Score(Box<ScoreJob>),
}

impl Job {
    /// The job's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Train(j) => &j.name,
            Self::Score(j) => &j.name,
        }
    }
}

/// What kind of job a file holds: read first, so that errors in the rest have a place in the file.
#[derive(Debug, Clone, Deserialize)]
struct Kind {
    job: JobKind,
}

/// The kinds of jobs.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// `job: train`.
    Train,
    /// `job: score`.
    Score,
}

/// `job: train`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainJob {
    /// `train`.
    pub job: JobKind,
    /// The job's name, used in run records.
    pub name: String,
    /// Input tables by name: a Parquet file or folder, relative to the job file, or a URL.
    pub tables: BTreeMap<String, String>,
    /// What is expected of tables, by name: checked before anything is written or trained.
    #[serde(default)]
    pub expect: BTreeMap<String, Vec<Expectation>>,
    /// The feature query: a file with one SELECT.
    pub features: SqlFile,
    /// Feature views that are joined to its rows.
    #[serde(default)]
    pub feature_views: Option<FeatureViews>,
    /// The columns that identify a row; rows are trained on in their order.
    pub key: Vec<String>,
    /// The label's column; clustering has none.
    #[serde(default)]
    pub label: Option<String>,
    /// What is to be learnt of it: `binary`, `multiclass`, `regression` or `clustering`.
    #[serde(default)]
    pub problem_type: ProblemType,
    /// What becomes of rows where the label is null.
    #[serde(default)]
    pub null_labels: NullLabels,
    /// The column that says how much a row counts in training; all count alike when absent.
    #[serde(default)]
    pub weight: Option<String>,
    /// Which rows are trained on and which are held out.
    pub split: Split,
    /// The stages, in order.
    pub pipeline: Vec<Value>,
    /// The candidates and how they are compared.
    pub grid: Grid,
    /// What happens to the best model.
    pub register: Register,
    /// Where the HTML report is written, relative to the working directory; none when absent.
    #[serde(default)]
    pub report: Option<PathBuf>,
    /// Parameters by name.
    #[serde(default)]
    pub params: BTreeMap<String, ParamSpec>,
}

/// `null_labels:`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullLabels {
    /// They are an error.
    #[default]
    Error,
    /// They are neither trained on nor evaluated, and counted.
    LeaveOut,
}

/// A file with one SQL statement.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "PathBuf")]
pub struct SqlFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its text, once loaded.
    #[serde(skip)]
    pub sql: String,
}

impl From<PathBuf> for SqlFile {
    fn from(path: PathBuf) -> Self {
        Self { path, sql: String::new() }
    }
}

/// `feature_views:`, joined to the rows of the feature query as of each row's time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureViews {
    /// The feature query's column with the time at which a row looks at the views.
    pub at: String,
    /// The views: YAML files relative to the job file, or names of declared views (`NAME` or `NAME/VERSION`).
    pub views: Vec<String>,
    /// The features that are taken of them; all without any.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The views of `views` that are files, once read.
    #[serde(skip)]
    pub files: BTreeMap<String, FeatureView>,
}

/// Predicates over the feature query's columns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Rows to train on.
    pub train: String,
    /// Rows held out for the evaluation.
    pub holdout: String,
}

/// `grid:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// How rows are dealt to folds.
    pub folds: Folds,
    /// The metric that ranks candidates; the problem's usual one when absent.
    #[serde(default)]
    pub metric: Option<String>,
    /// The seed of folds, samples and starts.
    #[serde(default)]
    pub seed: u64,
    /// Which candidates there are.
    #[serde(default)]
    pub search: Search,
    /// `search: random`: how many candidates are drawn of each estimator.
    #[serde(default)]
    pub n_candidates: Option<usize>,
    /// Whether each feature of the hold-out is shuffled to see how much the best model's metric misses it.
    #[serde(default)]
    pub permutation_importance: bool,
    /// How hopeless candidates are given up early; all are trained to the end without it.
    #[serde(default)]
    pub halving: Option<Halving>,
    /// What is done at the same time: candidates, or parts of the rows.
    #[serde(default)]
    pub parallel: Parallel,
    /// About how many rows each part of the rows has.
    #[serde(default = "default_rows_per_shard")]
    pub rows_per_shard: u64,
    /// Estimators by name with their parameters; a list of values makes the grid's points.
    pub estimators: BTreeMap<String, BTreeMap<String, Value>>,
}

fn default_rows_per_shard() -> u64 {
    ROWS_PER_SHARD
}

/// `search:`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// Every combination of the values.
    #[default]
    Grid,
    /// Candidates drawn from values and distributions.
    Random,
}

/// `register:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The model's name.
    pub model: String,
    /// The score from which a row is predicted to be positive.
    #[serde(default = "default_threshold")]
    pub threshold: f64,
    /// When an alias moves; never when absent.
    #[serde(default)]
    pub promote: Option<Promote>,
}

fn default_threshold() -> f64 {
    0.5
}

/// `promote:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// The alias, e.g. `live`.
    pub alias: String,
    /// The metric that must be better on the same hold-out; that of the grid when absent.
    #[serde(default)]
    pub metric: Option<String>,
    /// By how much.
    #[serde(default)]
    pub margin: f64,
}

/// `job: score`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreJob {
    /// `score`.
    pub job: JobKind,
    /// The job's name, used in run records.
    pub name: String,
    /// Input tables by name.
    pub tables: BTreeMap<String, String>,
    /// What is expected of tables, by name: checked before anything is written.
    #[serde(default)]
    pub expect: BTreeMap<String, Vec<Expectation>>,
    /// The feature query.
    pub features: SqlFile,
    /// Feature views that are joined to its rows: those that the model was trained with.
    #[serde(default)]
    pub feature_views: Option<FeatureViews>,
    /// Which of its rows are scored, with parameters as `:name`.
    #[serde(rename = "where", default)]
    pub filter: Option<String>,
    /// The model, e.g. `late@live`.
    pub model: String,
    /// Where the model runs: `cpu` or `gpu`.
    #[serde(default)]
    pub device: Device,
    /// The table that is written.
    pub into: Into,
    /// Plain copies of what is written.
    #[serde(default)]
    pub also: Vec<PlainCopy>,
    /// Views to create beside the table: name and SQL file.
    #[serde(default)]
    pub views: BTreeMap<String, SqlFile>,
    /// Parameters by name.
    #[serde(default)]
    pub params: BTreeMap<String, ParamSpec>,
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The CPU of whatever executor.
    #[default]
    Cpu,
    /// A GPU: on a cluster the stage goes to executors that have one.
    Gpu,
}

/// `into:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Into {
    /// The table's name in the warehouse.
    pub table: String,
    /// The column that partitions it; exactly the partitions that the parameters ask for are replaced.
    pub partition_by: String,
    /// The columns of the feature query that are kept.
    pub columns: Vec<String>,
}

/// `also:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainCopy {
    /// `parquet`, `csv` or `json`.
    pub format: String,
    /// The folder, relative to the working directory, or a URL.
    pub path: String,
}

/// A parameter of a job.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamSpec {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// Its value when none is given; may be `:other`, another parameter.
    #[serde(default)]
    pub default: Option<String>,
}

/// Types of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamType {
    /// `2013-11-05`.
    Date,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text.
    String,
}

impl JobFile {
    /// Reads a job file and the SQL files that it names.
    ///
    /// # Errors
    /// A file that is missing, YAML that does not parse (with line and column), a key that no job has (with the
    /// nearest one that exists).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let mut job = parse(path, &text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        match &mut job {
            Job::Train(j) => {
                j.features.load(base)?;
                j.feature_views.iter_mut().try_for_each(|v| v.load(base))?;
                relative_tables(&mut j.tables, base);
            }
            Job::Score(j) => {
                j.features.load(base)?;
                j.feature_views.iter_mut().try_for_each(|v| v.load(base))?;
                j.views.values_mut().try_for_each(|v| v.load(base))?;
                relative_tables(&mut j.tables, base);
            }
        }
        Ok(Self { path: path.to_owned(), job })
    }
}

impl SqlFile {
    fn load(&mut self, base: &Path) -> Result<()> {
        self.path = base.join(&self.path);
        self.sql = read_text(&self.path)?;
        Ok(())
    }
}

impl FeatureViews {
    fn load(&mut self, base: &Path) -> Result<()> {
        let files = self.views.iter().filter(|view| view.ends_with(".yaml") || view.ends_with(".yml"));
        let read = |file: &String| Ok((file.clone(), FeatureView::read(base.join(file))?));
        self.files = files.map(read).collect::<Result<_>>()?;
        Ok(())
    }
}

pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| EngineError::Invalid(format!("cannot read {}: {e}", path.display())))
}

/// Paths in `tables:` are relative to the job file; URLs and absolute paths stay.
fn relative_tables(tables: &mut BTreeMap<String, String>, base: &Path) {
    for location in tables.values_mut() {
        if !location.contains("://") {
            *location = base.join(&*location).to_string_lossy().into_owned();
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Job> {
    let kind: Kind = read_yaml(path, text)?;
    Ok(match kind.job {
        JobKind::Train => Job::Train(read_yaml(path, text)?),
        JobKind::Score => Job::Score(read_yaml(path, text)?),
    })
}

pub(crate) fn read_yaml<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_norway::from_str(text).map_err(|e| {
        let message = e.to_string();
        let hint = suggestion(&message).map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
        EngineError::Invalid(format!("{}: {message}{hint}", path.display()))
    })
}

/// The expected key nearest to the unknown one that serde's message names.
pub(crate) fn suggestion(message: &str) -> Option<String> {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().filter(|_| message.contains("unknown"))?;
    crate::nearest(unknown, names)
}
