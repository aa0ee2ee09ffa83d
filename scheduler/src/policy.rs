//! Ballista's distribution policy over [`placement`](crate::placement): reads graphs and budgets, binds tasks.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::config::BallistaConfig;
use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use ballista_core::serde::protobuf::{AvailableVcores, job_status, task_status};
use ballista_core::serde::scheduler::TaskKey;
use ballista_scheduler::cluster::{BoundTask, DistributionPolicy};
use ballista_scheduler::state::execution_graph::{ExecutionGraphBox, TaskDescription, create_task_info};
use ballista_scheduler::state::execution_stage::{RunningStage, TaskInfo};
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use tidemill_engine::cluster::{GPU_LABEL, has_label};
use tidemill_engine::plan::shards::Question;
use tidemill_engine::plan::train::TrainExec;

use crate::NeedsGpu;
use crate::lineage::Lineage;
use crate::placement::{Demand, Free, Slice, order_jobs, place};
use crate::residence::{Executors, Residences};

/// The most bytes, as the stages before wrote them, that one task reads rather than several: they take it less time than
/// the scheduler takes to give out a task.
const SMALL_BYTES: u64 = 64 << 10;

/// Sends stages that need a GPU to executors that have one, passes over shards to those that keep them, spreads other
/// tasks evenly, and serves the job that holds the fewest vcores first.
pub(crate) struct Placement {
    needs_gpu: NeedsGpu,
    turn: AtomicUsize,
    residences: Mutex<Residences>,
}

impl Placement {
    pub(crate) fn new(needs_gpu: NeedsGpu) -> Self {
        Self { needs_gpu, turn: AtomicUsize::new(0), residences: Mutex::default() }
    }

    /// Binds what fits of one job's runnable stages.
    fn bind_job(
        &self,
        job: &JobId,
        graph: &mut ExecutionGraphBox,
        budgets: &mut [&mut AvailableVcores],
        busy: &HashSet<String>,
    ) -> Vec<BoundTask> {
        let mut bound = Vec::new();
        let mut seen = Vec::new();
        let session = graph.session_id().to_owned();
        let lineage = Lineage::of(graph);
        while let Some(stage) = graph.fetch_running_stage(&seen) {
            seen.push(stage.stage_id);
            // A plan that cannot be rebuilt keeps its partitions pending: no result rather than a wrong one.
            let Ok(plan) = lineage.clean(&stage.plan) else { continue };
            if let Some(question) = question_of(&stage.plan) {
                for (place, shards) in self.place_shards(stage, &question, budgets, busy).into_iter().enumerate() {
                    if shards.is_empty() {
                        continue;
                    }
                    let budget = &mut budgets[place];
                    let vcores = budget.vcores.min(shards.len() as u32);
                    let slice = Slice { executor: place, partitions: shards.len(), vcores };
                    budget.vcores -= slice.vcores;
                    to_front(stage, &shards);
                    let task = bind(stage, &plan, &session, job, &budget.executor_id, slice);
                    bound.push((budget.executor_id.clone(), task));
                }
                continue;
            }
            let mut free: Vec<Free> = budgets.iter().map(|b| free_of(b)).collect();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            for slice in place(self.demand(stage), &mut free, turn) {
                let budget = &mut budgets[slice.executor];
                budget.vcores -= slice.vcores;
                let task = bind(stage, &plan, &session, job, &budget.executor_id, slice);
                bound.push((budget.executor_id.clone(), task));
            }
        }
        bound
    }

    /// The shards that each executor is to answer for now.
    fn place_shards(
        &self,
        stage: &mut RunningStage,
        question: &Question,
        budgets: &[&mut AvailableVcores],
        busy: &HashSet<String>,
    ) -> Vec<Vec<usize>> {
        let pending = stage.pending.next_slice(usize::MAX);
        let free = budgets.iter().map(|b| (b.executor_id.as_str(), b.vcores)).collect();
        let mut residences = self.residences.lock().unwrap_or_else(PoisonError::into_inner);
        let given = residences.place(&question.residence, &pending, stage.partitions, &Executors { free, busy });
        stage.pending.reschedule(pending);
        given
    }

    fn demand(&self, stage: &RunningStage) -> Demand {
        let options = stage.session_config.options();
        let cap = options.extensions.get::<BallistaConfig>().map(BallistaConfig::max_partitions_per_task);
        Demand {
            pending: stage.pending.remaining(),
            collapse: collapses(&stage.plan) || is_small(&stage.plan),
            cap: cap.filter(|n| *n > 0).unwrap_or(usize::MAX),
            needs_gpu: (self.needs_gpu)(&stage.plan),
        }
    }
}

#[async_trait]
impl DistributionPolicy for Placement {
    async fn bind_tasks(
        &self,
        mut budgets: Vec<&mut AvailableVcores>,
        running_jobs: Arc<HashMap<JobId, JobInfoCache>>,
    ) -> datafusion::error::Result<Vec<BoundTask>> {
        budgets.sort_by(|a, b| a.executor_id.cmp(&b.executor_id));
        let mut order = Vec::with_capacity(running_jobs.len());
        let mut busy = HashSet::new();
        for (job, info) in running_jobs.iter().filter(|(_, info)| is_running(info)) {
            let graph = info.execution_graph.read().await;
            order.push((vcores_held(&graph), job));
            busy.extend(running_tasks(&graph).map(|(_, executor_id)| executor_id.to_owned()));
        }
        order_jobs(&mut order);
        let mut bound = Vec::new();
        for (_, job) in order {
            let Some(info) = running_jobs.get(job) else { continue };
            let mut graph = info.execution_graph.write().await;
            bound.extend(self.bind_job(job, &mut graph, &mut budgets, &busy));
        }
        Ok(bound)
    }

    fn name(&self) -> &str {
        "tidemill placement"
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement").field("turn", &self.turn).finish_non_exhaustive()
    }
}

fn free_of(budget: &AvailableVcores) -> Free {
    Free { vcores: budget.vcores, gpu: has_label(&budget.executor_id, GPU_LABEL) }
}

/// Whether a job is past planning and not at its end.
pub(crate) fn is_running(info: &JobInfoCache) -> bool {
    matches!(info.status, Some(job_status::Status::Running(_)))
}

/// The vcores that a job's running tasks occupy.
fn vcores_held(graph: &ExecutionGraphBox) -> u32 {
    running_tasks(graph).map(|(vcores, _)| vcores).sum()
}

/// A job's running tasks: the vcores that each occupies, and its executor.
fn running_tasks(graph: &ExecutionGraphBox) -> impl Iterator<Item = (u32, &str)> {
    let tasks = graph.stages().values().filter_map(|stage| stage.task_infos()).flatten();
    tasks.filter_map(|task| match &task.task_status {
        task_status::Status::Running(running) => Some((task.vcores_consumed, running.executor_id.as_str())),
        _ => None,
    })
}

/// What the shards of a stage are asked, where it is a pass over shards.
fn question_of(writer: &Arc<dyn ExecutionPlan>) -> Option<Arc<Question>> {
    let mut node = writer;
    while let [child] = node.children()[..] {
        if let Some(train) = child.downcast_ref::<TrainExec>() {
            return train.question().cloned();
        }
        node = child;
    }
    None
}

/// Puts some of a stage's pending partitions before the others.
fn to_front(stage: &mut RunningStage, chosen: &[usize]) {
    let pending = stage.pending.next_slice(usize::MAX);
    stage.pending.reschedule(pending.into_iter().filter(|partition| !chosen.contains(partition)));
    stage.pending.reschedule(chosen.iter().copied());
}

/// Makes a task of a slice of a stage's pending partitions.
fn bind(
    stage: &mut RunningStage,
    plan: &Arc<dyn ExecutionPlan>,
    session: &str,
    job: &JobId,
    executor_id: &str,
    slice: Slice,
) -> TaskDescription {
    let info = take_slice(stage, executor_id, slice.partitions, slice.vcores);
    let attempts = info.global_input_partition_ids.iter().map(|p| stage.task_failure_numbers[*p]);
    TaskDescription {
        session_id: session.to_owned(),
        key: TaskKey { job_id: job.clone(), stage_id: stage.stage_id, task_id: info.task_id },
        stage_attempt_num: stage.stage_attempt_num,
        task_attempt: attempts.max().unwrap_or(0),
        global_input_partition_ids: info.global_input_partition_ids,
        vcores_consumed: slice.vcores,
        plan: Arc::clone(plan),
        session_config: Arc::clone(&stage.session_config),
    }
}

/// Takes pending partitions off a stage and records the task that has them.
pub(crate) fn take_slice(stage: &mut RunningStage, executor_id: &str, partitions: usize, vcores: u32) -> TaskInfo {
    // A task's id is its place in the stage's list, which only grows.
    let mut info = create_task_info(executor_id.to_owned(), stage.task_infos.len());
    info.global_input_partition_ids = stage.pending.next_slice(partitions);
    info.vcores_consumed = vcores;
    stage.task_infos.push(info.clone());
    info
}

/// Whether an operator of the stage, on the way from its writer down to a branch or another stage, has one output
/// partition: it merges its input, which therefore cannot be split over tasks.
fn collapses(writer: &Arc<dyn ExecutionPlan>) -> bool {
    let [mut node] = writer.children()[..] else { return false };
    loop {
        if node.downcast_ref::<ShuffleReaderExec>().is_some() || node.downcast_ref::<RangeShuffleReaderExec>().is_some()
        {
            return false;
        }
        if node.properties().output_partitioning().partition_count() == 1 {
            return true;
        }
        match node.children()[..] {
            [child] => node = child,
            _ => return false,
        }
    }
}

/// Whether a stage has so little to do that a second task would cost more than it saves.
fn is_small(writer: &Arc<dyn ExecutionPlan>) -> bool {
    let [node] = writer.children()[..] else { return false };
    bytes_read(node).is_some_and(|bytes| bytes <= SMALL_BYTES)
}

/// The bytes that a plan reads of other stages; none where they do not tell how long it takes, as they do of operators
/// that take time in proportion to their rows.
fn bytes_read(node: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    if let Some(reader) = node.downcast_ref::<ShuffleReaderExec>() {
        return reader.partition.iter().flatten().map(|location| location.partition_stats.num_bytes()).sum();
    }
    let is_linear = node.is::<AggregateExec>()
        || node.is::<ProjectionExec>()
        || node.is::<FilterExec>()
        || node.is::<SortExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<CooperativeExec>();
    match node.children()[..] {
        [child] if is_linear => bytes_read(child),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use ballista_core::serde::scheduler::{PartitionLocation, PartitionStats};
    use datafusion::physical_plan::Partitioning;
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
    use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;

    use super::*;
    use crate::lineage::tests::location;

    fn reader(bytes: &[Option<u64>]) -> Arc<dyn ExecutionPlan> {
        let location = |(number, bytes): (usize, &Option<u64>)| PartitionLocation {
            partition_stats: PartitionStats::new(None, None, *bytes),
            ..location(number, "a", number)
        };
        let partitions: Vec<_> = bytes.iter().enumerate().map(|part| vec![location(part)]).collect();
        let partitioning = Partitioning::UnknownPartitioning(partitions.len());
        Arc::new(ShuffleReaderExec::try_new(1, partitions, Arc::new(Schema::empty()), partitioning).unwrap())
    }

    #[test]
    fn what_a_stage_reads_is_known_of_linear_operators_over_other_stages() {
        let limited = |input| -> Arc<dyn ExecutionPlan> { Arc::new(LocalLimitExec::new(input, 5)) };
        assert_eq!(bytes_read(&limited(limited(reader(&[Some(100), Some(20)])))), Some(120));
        assert_eq!(bytes_read(&limited(reader(&[Some(100), None]))), None);
        let merged: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(reader(&[Some(1)])));
        assert_eq!(bytes_read(&limited(merged)), None);
        let rows: Arc<dyn ExecutionPlan> = Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty())));
        assert_eq!(bytes_read(&limited(rows)), None);
    }

    #[test]
    fn a_stage_is_small_up_to_a_bound() {
        let writer = |bytes| -> Arc<dyn ExecutionPlan> { Arc::new(LocalLimitExec::new(reader(&[Some(bytes)]), 5)) };
        assert!(is_small(&writer(SMALL_BYTES)));
        assert!(!is_small(&writer(SMALL_BYTES + 1)));
    }
}
