//! Shards: the parts of a matrix that no process holds whole, and their answers in passes over all of them.
//!
//! A pass is a plan of [`TrainExec`](super::train::TrainExec) with a [`Question`]: one task for each shard, its row out the
//! shard's answer. What a process gathers of a shard it keeps for the passes that follow; a process that has lost it, or
//! never had it, reads the shard from the store and gathers it anew, to the same bits.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::TaskContext;
use serde::{Deserialize, Serialize};
use tidemill_ml::MlError;
use tidemill_ml::estimator::sharded::{Kept, Shard, ShardRows, ShardedEstimator};
use tidemill_ml::estimator::{Artifacts, Estimator, FitContext, ProblemType};
use tidemill_ml::matrix::FeatureValues;
use tokio::runtime::Handle;

use super::train::{CancelOnDrop, TrainTask, rows_of};
use crate::EngineError;
use crate::codec::wire;
use crate::session::{Services, services};

/// How many times its files' bytes reading a shard takes: these, its batches, and the columns.
const READING: u64 = 3;

/// What all shards of a fit are asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// The name of what is kept of the shards. A shard's tasks of one name go to one process while it lives.
    pub residence: String,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// An estimator's request.
    Fit(String),
    /// What models give for the rows to evaluate on: labels, predictions of each model, and for clusters the features.
    Score(Vec<Artifacts>),
    /// Nothing: what is kept of the shard is not needed any more.
    Release,
}

/// One shard's part of a pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShardTask {
    /// The shard's place among those of the matrix.
    pub shard: usize,
    /// The fit. Its matrix is the shard's.
    pub of: TrainTask,
}

impl Question {
    /// For a plan's codec; no bytes stand for none.
    pub(crate) fn encode(question: Option<&Arc<Self>>) -> Result<Vec<u8>> {
        question.map_or(Ok(Vec::new()), |question| wire::encode(question.as_ref()))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Arc<Self>>> {
        if bytes.is_empty() { Ok(None) } else { wire::decode(bytes).map(|question| Some(Arc::new(question))) }
    }
}

/// What a shard answered.
#[derive(Debug)]
pub struct Answer {
    /// The shard's place among those of the matrix.
    pub shard: u64,
    /// How long it took where it was found, reading and gathering included.
    pub nanoseconds: u64,
    /// The answer itself.
    pub numbers: Vec<f64>,
}

impl Answer {
    /// Eight bytes for each of its numbers.
    fn encode(&self) -> Vec<u8> {
        let head = [self.shard.to_le_bytes(), self.nanoseconds.to_le_bytes()];
        head.into_iter().chain(self.numbers.iter().map(|number| number.to_le_bytes())).flatten().collect()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let (words, rest) = bytes.as_chunks();
        let ([shard, nanoseconds, numbers @ ..], []) = (words, rest) else {
            return Err(internal_datafusion_err!("a shard's answer is cut: {} bytes", bytes.len()));
        };
        Ok(Self {
            shard: u64::from_le_bytes(*shard),
            nanoseconds: u64::from_le_bytes(*nanoseconds),
            numbers: numbers.iter().map(|word| f64::from_le_bytes(*word)).collect(),
        })
    }
}

/// The answers of all shards, in the shards' order.
///
/// # Errors
/// Rows that are not answers.
pub fn answers(batches: &[RecordBatch]) -> Result<Vec<Answer>> {
    let rows = batches.iter().flat_map(|batch| batch.column(0).as_binary::<i32>().iter().flatten());
    let mut all = rows.map(Answer::decode).collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|answer| answer.shard);
    Ok(all)
}

/// Answers for one shard.
pub(super) async fn answer(task: ShardTask, question: &Arc<Question>, ctx: &TaskContext) -> Result<Vec<u8>> {
    let (services, question) = (services(ctx.session_config()), Arc::clone(question));
    let bytes = task.of.matrix.size_bytes.saturating_mul(READING);
    let room = services.kept.reserve(&question.residence, bytes).map_err(EngineError::from)?;
    let fit = FitContext::new(task.of.seed);
    let guard = CancelOnDrop(Arc::clone(&fit.cancel));
    let here = Here { task, services, question, handle: Handle::current() };
    let answer = tokio::task::spawn_blocking(move || here.answer(&fit))
        .await
        .map_err(|e| internal_datafusion_err!("a task over a shard ended badly: {e}"))??;
    drop(guard);
    drop(room);
    Ok(answer.encode())
}

/// A shard in the process that answers for it.
struct Here {
    task: ShardTask,
    services: Arc<Services>,
    question: Arc<Question>,
    handle: Handle,
}

impl Here {
    fn answer(&self, ctx: &FitContext) -> Result<Answer, MlError> {
        let started = Instant::now();
        let estimator = self.services.plugins.estimators.get(&self.task.of.estimator)?;
        let numbers = match &self.question.ask {
            Ask::Fit(request) => sharded(estimator.as_ref())?.pass(self, request, ctx)?,
            Ask::Score(models) => self.score(estimator.as_ref(), models)?,
            Ask::Release => {
                self.services.kept.release(&self.question.residence);
                Vec::new()
            }
        };
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(Answer { shard: self.task.shard as u64, nanoseconds, numbers })
    }

    fn score(&self, estimator: &dyn Estimator, models: &[Artifacts]) -> Result<Vec<f64>, MlError> {
        let matrix = self.read()?.matrix;
        let (_, rows) = rows_of(&self.task.of, &matrix);
        let x = matrix.x.take(&rows);
        let mut all: Vec<f64> = rows.iter().map(|r| matrix.label[*r as usize]).collect();
        for artifacts in models {
            all.extend(estimator.load(Arc::clone(&x.features), artifacts)?.predict(&x)?);
        }
        if matrix.problem == ProblemType::Clustering {
            for values in &x.values {
                match values {
                    FeatureValues::Number(values) => all.extend(values.iter()),
                    FeatureValues::Category(values) => all.extend(values.iter().map(|v| f64::from(*v))),
                }
            }
        }
        Ok(all)
    }
}

impl Shard for Here {
    fn number(&self) -> usize {
        self.task.shard
    }

    fn read(&self) -> Result<ShardRows, MlError> {
        let matrix = Arc::new(self.handle.block_on(self.services.read(&self.task.of.matrix))?);
        let (rows, _) = rows_of(&self.task.of, &matrix);
        Ok(ShardRows { matrix, rows })
    }

    fn keep(
        &self,
        key: &str,
        gather: &mut dyn FnMut() -> Result<Kept, MlError>,
    ) -> Result<Arc<dyn Any + Send + Sync>, MlError> {
        self.services.kept.get_or_gather(&self.question.residence, &format!("{} {key}", self.task.shard), gather)
    }
}

/// An estimator's way of training over shards.
///
/// # Errors
/// One that has none.
pub(crate) fn sharded(estimator: &dyn Estimator) -> Result<&dyn ShardedEstimator, MlError> {
    estimator.sharded().ok_or_else(|| {
        MlError::Invalid(format!(
            "{} trains on rows that one process holds, not over shards; leave out parallel: rows",
            estimator.name()
        ))
    })
}
