//! Which shuffle outputs count, after stages were started anew.
//!
//! When an executor is lost, Ballista starts the stages anew that had read from it, all their tasks, also those that
//! were done: their outputs are made a second time, and the stages that read them find both. Rows would count twice.
//! What counts is what the tasks wrote that are successful in the stage's present attempt, each output once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::protobuf::task_status;
use ballista_core::serde::scheduler::PartitionLocation;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::{ExecutionStage, TaskInfo};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;

/// One output: the task that made it, the executor that keeps it, the partition of the stage's result.
type Output = (usize, String, usize);

/// The outputs that count, of the stages that were started more than once.
#[derive(Debug, Default)]
pub(crate) struct Lineage(HashMap<usize, HashSet<Output>>);

impl Lineage {
    /// Reads a job's graph; cheap for jobs that lost nothing.
    pub(crate) fn of(graph: &ExecutionGraphBox) -> Self {
        let stages = graph.stages().iter().filter_map(|(id, stage)| match stage {
            ExecutionStage::Successful(stage) if stage.stage_attempt_num > 0 => Some((*id, outputs(&stage.task_infos))),
            _ => None,
        });
        Self(stages.collect())
    }

    /// The plan with readers that read what counts.
    ///
    /// # Errors
    /// When the plan cannot be rebuilt.
    pub(crate) fn clean(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if self.0.is_empty() {
            return Ok(Arc::clone(plan));
        }
        let clean = |node: Arc<dyn ExecutionPlan>| {
            let reader = node.downcast_ref::<ShuffleReaderExec>();
            let cleaned = reader.and_then(|r| Some(with_outputs(r, self.0.get(&r.stage_id)?)));
            Ok(cleaned.map_or_else(|| Transformed::no(Arc::clone(&node)), Transformed::yes))
        };
        Arc::clone(plan).transform_up(clean).data()
    }
}

/// What the successful tasks of a stage wrote.
fn outputs(tasks: &[TaskInfo]) -> HashSet<Output> {
    let mut outputs = HashSet::new();
    for task in tasks {
        if let task_status::Status::Successful(done) = &task.task_status {
            let written = done.partitions.iter().map(|p| p.partition_id as usize);
            outputs.extend(written.map(|p| (task.task_id, done.executor_id.clone(), p)));
        }
    }
    outputs
}

fn with_outputs(reader: &ShuffleReaderExec, valid: &HashSet<Output>) -> Arc<dyn ExecutionPlan> {
    let mut reader = reader.clone();
    for locations in &mut reader.partition {
        keep_once(locations, valid);
    }
    Arc::new(reader)
}

fn keep_once(locations: &mut Vec<PartitionLocation>, valid: &HashSet<Output>) {
    let mut seen = HashSet::new();
    locations.retain(|location| {
        let partition = location.partition_id.partition_id;
        let output = (location.map_partition_id, location.executor_meta.id.clone(), partition);
        valid.contains(&output) && seen.insert(output)
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use ballista_core::serde::protobuf::{FailedTask, ShuffleWritePartition, SuccessfulTask};
    use ballista_core::serde::scheduler::{
        ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification, PartitionId, PartitionStats,
    };
    use ballista_scheduler::state::execution_graph::create_task_info;

    use super::*;

    fn task(task_id: usize, status: task_status::Status) -> TaskInfo {
        TaskInfo { task_status: status, ..create_task_info("x".to_owned(), task_id) }
    }

    fn done(executor: &str, partitions: &[u64]) -> task_status::Status {
        let written = |p: &u64| ShuffleWritePartition { partition_id: *p, ..Default::default() };
        task_status::Status::Successful(SuccessfulTask {
            executor_id: executor.to_owned(),
            partitions: partitions.iter().map(written).collect(),
            ..Default::default()
        })
    }

    pub(crate) fn location(task: usize, executor: &str, partition_id: usize) -> PartitionLocation {
        PartitionLocation {
            map_partition_id: task,
            partition_id: PartitionId { job_id: "j".to_owned().into(), stage_id: 1, partition_id },
            executor_meta: ExecutorMetadata {
                id: executor.to_owned(),
                host: String::new(),
                port: 0,
                grpc_port: 0,
                specification: ExecutorSpecification::default(),
                os_info: ExecutorOperatingSystemSpecification::default(),
            },
            partition_stats: PartitionStats::default(),
            file_id: Some(task as u64),
            is_sort_shuffle: false,
        }
    }

    #[test]
    fn outputs_of_earlier_attempts_and_second_mentions_do_not_count() {
        let lost = task_status::Status::Failed(FailedTask::default());
        let tasks = [task(0, done("a", &[0, 1])), task(1, lost), task(2, done("b", &[1]))];
        let valid = outputs(&tasks);
        let mut of_one = vec![
            location(0, "a", 1),
            location(0, "a", 1),
            location(0, "b", 1),
            location(1, "b", 1),
            location(2, "b", 1),
            location(2, "b", 0),
        ];
        keep_once(&mut of_one, &valid);
        let kept: Vec<_> = of_one.iter().map(|l| (l.map_partition_id, l.executor_meta.id.as_str())).collect();
        assert_eq!(kept, [(0, "a"), (2, "b")]);
    }
}
