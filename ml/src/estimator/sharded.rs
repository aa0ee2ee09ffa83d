//! Training one model on rows that lie in shards, for rows that no process holds at once.
//!
//! A fit is a loop of passes: the estimator asks one thing of all shards, each process answers for those that it holds,
//! and the answers merge in the order of the shards. How rows are dealt to shards depends on the rows alone, so the model
//! does not depend on how many processes there are.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Debug;
use std::sync::Arc;

use super::{FitContext, Model, Params, ProblemType};
use crate::matrix::{Feature, Matrix};
use crate::{MlError, Result};

/// An algorithm that trains by passes over shards.
pub trait ShardedEstimator: Debug + Send + Sync {
    /// Trains one model for each candidate, as [`Estimator::fit`](super::Estimator::fit) does on rows in memory: the
    /// models are equal up to rounding.
    fn fit_shards(&self, shards: &dyn Shards, candidates: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>>>;

    /// One shard's answer to what [`Self::fit_shards`] asked.
    ///
    /// # Errors
    /// A shard that cannot be read, a request of another version.
    fn pass(&self, shard: &dyn Shard, request: &str, ctx: &FitContext) -> Result<Vec<f64>>;

    /// Adds one shard's part of a sum that [`Self::fit_shards`] asked for, where it does, to those of other shards: none,
    /// or as many numbers as the request has answers.
    ///
    /// # Errors
    /// A shard that cannot be read, a request of another version; the sum is then of no use.
    fn sum(&self, _shard: &dyn Shard, _request: &str, _into: &mut Vec<i64>, _ctx: &FitContext) -> Result<()> {
        Err(wrong_answer())
    }

    /// Checks, before anything runs, what cannot be had over shards of a candidate that is valid on rows in memory.
    ///
    /// # Errors
    /// [`MlError::Invalid`] naming the parameter and what to take instead.
    fn validate_sharded(&self, _params: &Params, _problem: ProblemType) -> Result<()> {
        Ok(())
    }
}

/// The shards of a fit, wherever they are.
pub trait Shards: Debug + Sync {
    /// What all shards have in common.
    fn outline(&self) -> &Outline;

    /// Asks all shards; gives their answers in the order of the shards.
    ///
    /// # Errors
    /// A shard that did not answer.
    fn pass(&self, request: &str) -> Result<Vec<Vec<f64>>>;

    /// Asks all shards for whole numbers that are added up, which processes do for their own shards: place by place, as
    /// [`add_up`] does.
    ///
    /// # Errors
    /// A shard that did not answer.
    fn sum(&self, request: &str) -> Result<Vec<i64>>;
}

/// Adds whole numbers to others, place by place; a shorter list has zeros for the rest.
pub fn add_up(into: &mut Vec<i64>, numbers: &[i64]) {
    into.resize(into.len().max(numbers.len()), 0);
    into.iter_mut().zip(numbers).for_each(|(a, b)| *a = a.wrapping_add(*b));
}

/// What all shards of a matrix have in common.
#[derive(Debug, Clone)]
pub struct Outline {
    /// The features as models see them; none is a vector.
    pub features: Arc<[Feature]>,
    /// What is to be learnt.
    pub problem: ProblemType,
    /// How many classes the label has.
    pub n_classes: usize,
}

/// One shard, in the process that answers for it.
pub trait Shard: Sync {
    /// The shard's number among those of its matrix.
    fn number(&self) -> usize;

    /// Reads its rows, those to train on as ascending row numbers.
    ///
    /// # Errors
    /// A file that is not there or damaged.
    fn read(&self) -> Result<ShardRows>;

    /// What was kept of it under `key`; gathered now when there is nothing, or when memory was needed for something else.
    ///
    /// # Errors
    /// Those of `gather`, too little memory.
    fn keep(&self, key: &str, gather: &mut dyn FnMut() -> Result<Kept>) -> Result<Arc<dyn Any + Send + Sync>>;
}

/// A shard's rows.
#[derive(Debug, Clone)]
pub struct ShardRows {
    /// All its rows, in the order of the key.
    pub matrix: Arc<Matrix>,
    /// Those to train on.
    pub rows: Vec<u32>,
}

/// Something that is kept of a shard.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The thing.
    pub value: Arc<dyn Any + Send + Sync>,
    /// The bytes that it takes.
    pub size_bytes: usize,
}

/// What is kept of a shard under `key`, of a type that the key stands for, and the bytes that it takes.
///
/// # Errors
/// Those of [`Shard::keep`].
pub(crate) fn kept<T: Any + Send + Sync>(
    shard: &dyn Shard,
    key: &str,
    gather: impl Fn() -> Result<(T, usize)>,
) -> Result<Arc<T>> {
    let value = shard.keep(key, &mut || {
        let (value, size_bytes) = gather()?;
        Ok(Kept { value: Arc::new(value), size_bytes })
    })?;
    value.downcast().map_err(|_| MlError::Internal(format!("something else is kept of a shard under {key:?}")))
}

/// The same where it can only be gathered with what not every request tells; none where that is missing.
///
/// # Errors
/// Those of [`Shard::keep`].
pub(crate) fn kept_or_lost<T: Any + Send + Sync>(
    shard: &dyn Shard,
    key: &str,
    gather: Option<impl Fn() -> Result<(T, usize)>>,
) -> Result<Option<Arc<T>>> {
    let is_lost = Cell::new(false);
    let found = kept(shard, key, || match &gather {
        Some(gather) => gather(),
        None => {
            is_lost.set(true);
            Err(MlError::Internal(format!("what was kept of a shard under {key:?} is lost")))
        }
    });
    if is_lost.get() { Ok(None) } else { found.map(Some) }
}

/// A request as it is sent.
///
/// # Errors
/// None that a caller can cause.
pub(crate) fn encode<T: serde::Serialize>(request: &T) -> Result<String> {
    serde_json::to_string(request).map_err(|e| MlError::Internal(format!("a request to shards does not encode: {e}")))
}

/// A request as it was sent.
///
/// # Errors
/// That of another version.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(request: &str) -> Result<T> {
    let read = serde_json::from_str(request);
    read.map_err(|e| MlError::Internal(format!("a request to shards does not decode: {e}; run one version everywhere")))
}

/// An answer of fewer numbers than were asked for.
pub(crate) fn wrong_answer() -> MlError {
    MlError::Internal("a shard's answer is not what was asked for; run one version everywhere".to_owned())
}
