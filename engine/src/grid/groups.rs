//! Running groups: what was done before is not done again, and a fit that ends its process ends no other fit.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlanBuilder;
use serde_json::json;
use tidemill_connectors::stores::Location;

use super::matrices::Parallel;
use super::sharded;
use crate::codec::wire;
use crate::jobs::StepRecord;
use crate::plan::train::{Importances, TrainNode, TrainOutcome, TrainTask, outcomes, params_value, task_table};
use crate::progress::Event;
use crate::session::Session;
use crate::{EngineError, Result};

/// What came of groups, by candidate and fold.
pub(super) struct Ran {
    pub(super) outcomes: Vec<TrainOutcome>,
    /// How many of them an earlier run of the search left.
    pub(super) n_resumed: usize,
}

/// Where a group's outcomes are kept: by what decides them, so that two runs can only write the same.
pub(super) fn keep_at(folder: &Location, task: &TrainTask) -> Result<String> {
    let candidates: Vec<_> = task.candidates.iter().map(|(id, params)| (id, params_value(params))).collect();
    let decides = json!({
        "fold": task.fold, "estimator": task.estimator, "candidates": candidates, "metric": task.metric,
        "threshold": task.threshold, "row_share": task.row_share, "seed": task.seed,
    });
    let name = blake3::hash(&wire::encode(&decides)?).to_hex();
    Ok(folder.join(&format!("{}.json", &name[..16])).to_string())
}

/// Runs groups wherever the session runs work, each fit exactly once in the result. Those that an earlier run kept are
/// read.
///
/// Over shards they run one after the other, and note what their passes cost. Else, should that fail, as when an executor
/// dies of a fit on every try, each group that is left runs alone, and then each of its candidates: one that still fails
/// is an outcome with its error.
///
/// # Errors
/// That of the first failure, when nothing that was left could be run or another try may do.
pub(super) async fn run_groups(
    session: &Session,
    tasks: Vec<TrainTask>,
    parallel: Parallel,
    steps: &mut Vec<StepRecord>,
) -> Result<Ran> {
    let (mut found, left) = finished(tasks).await?;
    let n_resumed = found.len();
    let trained = match parallel {
        Parallel::Candidates => run_tasks(session, &left).await,
        Parallel::Rows => Ok(sharded::run(session, &left, steps).await?),
    };
    match trained {
        Ok(trained) => found.extend(trained),
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => found.extend(run_apart(session, left, error).await?),
    }
    found.sort_by_key(|outcome| (outcome.candidate, outcome.fold));
    Ok(Ran { outcomes: found, n_resumed })
}

async fn run_apart(session: &Session, tasks: Vec<TrainTask>, error: EngineError) -> Result<Vec<TrainOutcome>> {
    let message = format!("{error}; the groups that are left run one by one");
    session.progress().event(&Event::Warning { message });
    let (mut found, left) = finished(tasks).await?;
    for group in left {
        match run_tasks(session, std::slice::from_ref(&group)).await {
            Ok(trained) => found.extend(trained),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) if group.candidates.len() == 1 => found.push(failed(&group, group.candidates[0].0, &error)),
            Err(_) => found.extend(run_candidates(session, &group).await?),
        }
    }
    if found.iter().all(|outcome| outcome.error.is_some()) { Err(error) } else { Ok(found) }
}

/// Runs a group's candidates one by one.
async fn run_candidates(session: &Session, group: &TrainTask) -> Result<Vec<TrainOutcome>> {
    let mut found = Vec::with_capacity(group.candidates.len());
    for candidate in &group.candidates {
        let alone = TrainTask { candidates: vec![candidate.clone()], keep_at: None, ..group.clone() };
        match run_tasks(session, &[alone]).await {
            Ok(trained) => found.extend(trained),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => found.push(failed(group, candidate.0, &error)),
        }
    }
    Ok(found)
}

fn failed(group: &TrainTask, candidate: usize, error: &EngineError) -> TrainOutcome {
    TrainOutcome {
        group: group.group,
        candidate,
        fold: group.fold,
        metric: None,
        evaluation: None,
        artifacts: None,
        importances: Importances::default(),
        seconds: 0.0,
        memory_bytes: 0,
        error: Some(error.to_string()),
        executor: String::new(),
    }
}

/// The outcomes that are kept of groups, and the groups that are left.
async fn finished(tasks: Vec<TrainTask>) -> Result<(Vec<TrainOutcome>, Vec<TrainTask>)> {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for task in tasks {
        let kept = match &task.keep_at {
            Some(url) => Location::parse(url)?.read_if_exists().await?,
            None => None,
        };
        // A file that another version wrote, or half a file, is as good as none.
        let kept = kept.and_then(|bytes| wire::decode::<Vec<TrainOutcome>>(&bytes).ok());
        match kept.filter(|kept| kept.len() == task.candidates.len()) {
            Some(kept) => found.extend(kept),
            None => left.push(task),
        }
    }
    Ok((found, left))
}

/// Runs tasks in one plan, each exactly once in the result.
async fn run_tasks(session: &Session, tasks: &[TrainTask]) -> Result<Vec<TrainOutcome>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let table = task_table(tasks)?;
    let scan = LogicalPlanBuilder::scan("tasks", datafusion::datasource::provider_as_source(Arc::new(table)), None)?
        .build()?;
    let batches = session.data_frame(TrainNode::plan(scan, None)?).collect().await?;
    let found = outcomes(&batches)?;
    let expected: usize = tasks.iter().map(|t| t.candidates.len()).sum();
    if found.len() != expected {
        return Err(EngineError::Internal(format!("{expected} fits were asked for, {} came back", found.len())));
    }
    Ok(found)
}
