//! Shards: the parts of a matrix that no process holds whole, and their answers in passes over all of them.
//!
//! A pass is a plan of [`TrainExec`](super::train::TrainExec) with a [`Question`]: one partition for each shard, its row out
//! the shard's answer. An executor has all its shards in one task, takes as many at a time as it has vcores, and adds up
//! the answers that are sums. What a process gathers of a shard it keeps for the passes that follow; a process that has
//! lost it, or never had it, reads the shard from the store and gathers it anew, to the same bits.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::TaskContext;
use serde::{Deserialize, Serialize};
use tidemill_ml::MlError;
use tidemill_ml::estimator::sharded::{Kept, Shard, ShardRows, ShardedEstimator, add_up};
use tidemill_ml::estimator::{Artifacts, Estimator, FitContext, FoldKey, ProblemType, fold_hash};
use tidemill_ml::matrix::FeatureValues;
use tokio::runtime::Handle;

use super::train::{CancelOnDrop, TrainTask, rows_of};
use crate::codec::wire;
use crate::session::{Room, Services, services};

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
    /// An estimator's request for whole numbers that are added up.
    Sum(String),
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

/// What shards answered: one, or where the answer is a sum, some of those of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The first of the shards, by place among those of the matrix.
    pub shard: u64,
    /// How many shards they are.
    pub n_shards: u64,
    /// How long each took where it was found, reading and gathering included, in all.
    pub nanoseconds: u64,
    /// Where it was found: a number that stands for the process, and how many shards that takes at a time.
    pub process: (u64, u64),
    /// The answer itself.
    pub found: Found,
}

/// The numbers of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Those of a shard.
    Numbers(Vec<f64>),
    /// Those of all shards of the answer, added up.
    Sums(Vec<i64>),
}

/// The words of an answer before its numbers.
const HEAD: usize = 6;

impl Answer {
    /// Eight bytes for each of its numbers.
    fn encode(&self) -> Vec<u8> {
        let (kind, n_words) = match &self.found {
            Found::Numbers(numbers) => (0, numbers.len()),
            Found::Sums(sums) => (1, sums.len()),
        };
        let head = [self.shard, self.n_shards, self.nanoseconds, self.process.0, self.process.1, kind];
        let mut bytes = Vec::with_capacity(8 * (HEAD + n_words));
        let mut put = |word: u64| bytes.extend_from_slice(&word.to_le_bytes());
        head.into_iter().for_each(&mut put);
        match &self.found {
            Found::Numbers(numbers) => numbers.iter().for_each(|n| put(n.to_bits())),
            Found::Sums(sums) => sums.iter().for_each(|n| put(n.cast_unsigned())),
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let (words, rest) = bytes.as_chunks();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (Some((&[shard, n_shards, nanoseconds, process, vcores, kind], words)), []) =
            (words.split_first_chunk::<HEAD>(), rest)
        else {
            return Err(internal_datafusion_err!("a shard's answer is cut: {} bytes", bytes.len()));
        };
        let found = match kind {
            0 => Found::Numbers(words.iter().map(|word| f64::from_bits(*word)).collect()),
            _ => Found::Sums(words.iter().map(|word| word.cast_signed()).collect()),
        };
        Ok(Self { shard, n_shards, nanoseconds, process: (process, vcores), found })
    }

    /// Its sums, which leaves it none.
    fn take_sums(&mut self) -> Vec<i64> {
        match &mut self.found {
            Found::Sums(sums) => std::mem::take(sums),
            Found::Numbers(_) => Vec::new(),
        }
    }

    /// Adds the answer of other shards, where both are sums.
    fn add(&mut self, other: &Self) {
        if let (Found::Sums(sums), Found::Sums(others)) = (&mut self.found, &other.found) {
            add_up(sums, others);
            self.shard = self.shard.min(other.shard);
            self.n_shards += other.n_shards;
            self.nanoseconds += other.nanoseconds;
        }
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

/// The answers of a task's shards on their way out: sums leave as one, with the last.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    /// How many shards have answered.
    n_answered: u64,
    /// Those that no shard is added to at the moment.
    spare: Vec<Answer>,
}

impl Outbox {
    /// The sum of other shards, to be added to.
    fn begun(&self) -> Option<Answer> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).spare.pop()
    }

    /// What leaves with the answer of one more shard, of a task of so many.
    fn send(&self, answer: Answer, n_shards: u64) -> Option<Vec<u8>> {
        if matches!(answer.found, Found::Numbers(_)) {
            return Some(answer.encode());
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.n_answered += 1;
        sums.spare.push(answer);
        if sums.n_answered < n_shards {
            return None;
        }
        let mut all = sums.spare.pop()?;
        sums.spare.drain(..).for_each(|other| all.add(&other));
        Some(all.encode())
    }
}

/// Answers for one of a task's shards; gives what leaves with the answer.
pub(super) async fn answer(
    task: ShardTask,
    question: &Arc<Question>,
    outbox: &Arc<Outbox>,
    n_shards: usize,
    ctx: &TaskContext,
) -> Result<Option<Vec<u8>>> {
    let (services, question) = (services(ctx.session_config()), Arc::clone(question));
    let kept = Arc::clone(&services.kept);
    let slot = kept.slot().await;
    let fit = FitContext::new(task.of.seed);
    let guard = CancelOnDrop(Arc::clone(&fit.cancel));
    let here = Here { task, services, question, handle: Handle::current(), room: Mutex::default() };
    let outbox = Arc::clone(outbox);
    let sent = tokio::task::spawn_blocking(move || Ok(outbox.send(here.answer(&outbox, &fit)?, n_shards as u64)))
        .await
        .map_err(|e| internal_datafusion_err!("a task over a shard ended badly: {e}"))?;
    drop(guard);
    drop(slot);
    sent
}

/// A shard in the process that answers for it.
struct Here {
    task: ShardTask,
    services: Arc<Services>,
    question: Arc<Question>,
    handle: Handle,
    /// For what is read of the shard, once it is.
    room: Mutex<Option<Room>>,
}

impl Here {
    /// The shard's answer; of a sum, with those of other shards.
    fn answer(&self, outbox: &Outbox, ctx: &FitContext) -> Result<Answer, MlError> {
        let started = Instant::now();
        let estimator = self.services.plugins.estimators.get(&self.task.of.estimator)?;
        let mut others = None;
        let found = match &self.question.ask {
            Ask::Fit(request) => Found::Numbers(sharded(estimator.as_ref())?.pass(self, request, ctx)?),
            Ask::Sum(request) => {
                others = outbox.begun();
                let mut sums = others.as_mut().map(Answer::take_sums).unwrap_or_default();
                sharded(estimator.as_ref())?.sum(self, request, &mut sums, ctx)?;
                Found::Sums(sums)
            }
            Ask::Score(models) => Found::Numbers(self.score(estimator.as_ref(), models)?),
            Ask::Release => {
                self.services.kept.release(&self.question.residence);
                Found::Numbers(Vec::new())
            }
        };
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let process = fold_hash(FoldKey::Text(&self.services.process), 0);
        let process = (process, self.services.kept.vcores() as u64);
        let mut answer = Answer { shard: self.task.shard as u64, n_shards: 1, nanoseconds, process, found };
        others.iter().for_each(|others| answer.add(others));
        Ok(answer)
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
        let bytes = self.task.of.matrix.size_bytes.saturating_mul(READING);
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.is_none() {
            // Not before it is needed: room for one shard would take that of others which are kept.
            *room = Some(self.services.kept.reserve(&self.question.residence, bytes)?);
        }
        drop(room);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shard: u64, found: Found) -> Answer {
        Answer { shard, n_shards: 1, nanoseconds: 10 + shard, process: (7, 2), found }
    }

    #[test]
    fn answers_come_back_to_the_bit() {
        for found in
            [Found::Numbers(vec![f64::NAN, -0.0, 1.5]), Found::Sums(vec![i64::MIN, -1, 7]), Found::Sums(vec![])]
        {
            let answer = answer(3, found);
            assert_eq!(Answer::decode(&answer.encode()).unwrap().encode(), answer.encode());
        }
        assert!(Answer::decode(&[0; 47]).is_err() && Answer::decode(&[0; 49]).is_err());
    }

    #[test]
    fn sums_leave_as_one_and_other_answers_at_once() {
        let outbox = Outbox::default();
        assert!(outbox.send(answer(2, Found::Numbers(vec![1.0])), 3).is_some());
        assert!(outbox.send(answer(2, Found::Sums(vec![1, 2])), 3).is_none());
        let mut others = outbox.begun().unwrap();
        assert!(outbox.begun().is_none());
        // A shard that answers meanwhile begins another sum.
        assert!(outbox.send(answer(1, Found::Sums(vec![-4, 1, 5])), 3).is_none());
        let mut sums = others.take_sums();
        sums[0] += 1;
        let mut both = answer(0, Found::Sums(sums));
        both.add(&others);
        let sent = outbox.send(both, 3).unwrap();
        let expected = Answer { n_shards: 3, nanoseconds: 33, ..answer(0, Found::Sums(vec![-2, 3, 5])) };
        assert_eq!(Answer::decode(&sent).unwrap(), expected);
    }
}
