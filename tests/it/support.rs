//! A folder to work in, with small data and jobs, and the command run there.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything that a test waits for may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Days from 1970 to the first day of the data, 2024-01-01.
const FIRST_DAY: i32 = 19_723;
/// Rows of each day.
const ROWS_PER_DAY: i64 = 60;
/// Days of the data; those from the ninth on are held out.
const DAYS: i32 = 12;

/// A folder with `small.parquet`, `train.yaml`, `score.yaml` and their SQL.
pub(crate) struct Workplace {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Workplace {
    /// A folder with data of twelve days and jobs that fit them.
    pub(crate) fn new() -> Self {
        let work = Self { folder: TempDir::new().unwrap(), variables: Vec::new() };
        write_table(&work.path("small.parquet"), |day| if day % 2 == 0 { "AA" } else { "UA" }, late);
        work.write("features.sql", "select id, ds, carrier, x, late from small\n");
        work.write("train.yaml", TRAIN);
        work.write("score.yaml", SCORE);
        work
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Sets an environment variable of the commands run here.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(n, _)| *n != name);
        self.variables.push((name, value.to_owned()));
    }

    /// Replaces text that must be there.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} lacks {from:?}");
        self.write(name, text.replace(from, to));
    }

    /// The command, to be run in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["TIDEMILL_WAREHOUSE", "RUST_LOG", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().cloned());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn tidemill(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// Runs the command, which must succeed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> Ended {
        let ended = self.tidemill(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:#?}");
        ended
    }

    /// Runs a query; its rows as JSON objects.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Value> {
        self.succeed(&["sql", "--format", "json", "-c", sql]).objects()
    }

    /// What lies below a folder of the warehouse, as paths of files.
    pub(crate) fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.path("warehouse").join(below), &mut files);
        files.sort();
        files
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    /// The lines of standard output as JSON objects.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts that it failed with a code and one sentence that says all of these.
    pub(crate) fn fails(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let error = self.stderr.lines().find(|l| l.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("no error is told: {self:#?}"));
        for part in says {
            assert!(error.contains(part), "the error lacks {part:?}: {error}");
        }
    }
}

/// A process that is killed when the test is over. Its errors go where the test's go.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads standard output until an object satisfies the condition.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        for line in self.lines.by_ref() {
            let object: Value = serde_json::from_str(&line.unwrap()).unwrap_or_default();
            if wanted(&object) {
                return object;
            }
        }
        let ended = self.child.wait().unwrap();
        panic!("ended with {ended} before it said what was waited for");
    }

    /// Sends a signal by name, e.g. `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; gives the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        until("the process ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Writes the table of twelve days with this carrier for each day and label for each row.
pub(crate) fn write_table(path: &Path, carrier: impl Fn(i32) -> &'static str, label: impl Fn(i64, f64) -> Option<i64>) {
    let rows: Vec<(i64, i32, f64)> = (0..i64::from(DAYS) * ROWS_PER_DAY)
        .map(|id| (id, (id / ROWS_PER_DAY) as i32, ((id * 37) % 101) as f64 / 10.0))
        .collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())),
        ("ds", Arc::new(Date32Array::from_iter_values(rows.iter().map(|r| FIRST_DAY + r.1)))),
        ("carrier", Arc::new(rows.iter().map(|r| Some(carrier(r.1))).collect::<StringArray>())),
        ("x", Arc::new(rows.iter().map(|r| (r.0 % 17 != 0).then_some(r.2)).collect::<Float64Array>())),
        ("late", Arc::new(rows.iter().map(|r| label(r.0, r.2)).collect::<Int64Array>())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Late when `x` is large, with noise; unknown for every thirteenth row.
pub(crate) fn late(id: i64, x: f64) -> Option<i64> {
    (id % 13 != 0).then_some(i64::from(x + ((id * 7919) % 41) as f64 / 10.0 > 7.0))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// Trains on the first eight days.
const TRAIN: &str = "\
job: train
name: train_small
tables:
  small: small.parquet
features: features.sql
key: [id]
label: late
null_labels: leave_out
split:
  train: ds < date '2024-01-09'
  holdout: ds >= date '2024-01-09'
pipeline:
  - imputer: { inputs: [x] }
  - string_indexer: { inputs: [carrier], handle_invalid: keep }
  - one_hot_encoder: { inputs: [carrier], handle_invalid: keep }
  - standard_scaler: { inputs: [x], with_mean: true }
  - vector_assembler: { inputs: [x, carrier] }
grid:
  folds: { k: 2, by: ds }
  seed: 1
  estimators:
    logistic_regression:
      reg_param: [0.01, 0.1]
register:
  model: small
  promote: { alias: live }
report: report.html
";

/// Scores a day or a range of days.
const SCORE: &str = "\
job: score
name: score_small
tables:
  small: small.parquet
features: features.sql
where: ds between :ds and :to
params:
  ds: { type: date }
  to: { type: date, default: ':ds' }
model: small@live
into:
  table: small_scored
  partition_by: ds
  columns: [id, late]
";
