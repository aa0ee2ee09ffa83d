//! Tasks that lose one executor after the other: what they run may be what ends them.
//!
//! Ballista gives the tasks of a lost executor to others, however often. A task that ends each process that it comes to
//! would go through all of them, again and again where they are started anew.

use std::collections::HashMap;

use ballista_core::serde::protobuf::failed_task::FailedReason;
use ballista_core::serde::protobuf::task_status;
use ballista_scheduler::state::execution_stage::{RunningStage, TaskInfo};

/// How often the same work may lose its executor: as often as a task may fail, in Ballista as in Spark.
const MAX_LOSSES: usize = 4;

/// How often work of a stage has lost its executor, where that is too often.
pub(crate) fn too_many(stage: &RunningStage) -> Option<usize> {
    // A stage that lost what it reads starts again and knows of no task before.
    let losses = stage.stage_attempt_num + most_of_a_partition(&stage.task_infos);
    (losses >= MAX_LOSSES).then_some(losses)
}

fn most_of_a_partition(tasks: &[TaskInfo]) -> usize {
    let mut losses = HashMap::new();
    for task in tasks.iter().filter(|task| is_lost(task)) {
        task.global_input_partition_ids.iter().for_each(|partition| *losses.entry(partition).or_insert(0) += 1);
    }
    losses.into_values().max().unwrap_or(0)
}

fn is_lost(task: &TaskInfo) -> bool {
    let task_status::Status::Failed(failed) = &task.task_status else { return false };
    matches!(failed.failed_reason, Some(FailedReason::ExecutorLost(_) | FailedReason::ResultLost(_)))
}

#[cfg(test)]
mod tests {
    use ballista_core::serde::protobuf::{ExecutionError, FailedTask, ResultLost};
    use ballista_scheduler::state::execution_graph::create_task_info;

    use super::*;

    #[test]
    fn losses_are_counted_by_partition() {
        let task = |id: usize, partitions: &[usize], reason: Option<FailedReason>| {
            let mut task = create_task_info("x".to_owned(), id);
            task.global_input_partition_ids = partitions.to_vec();
            if reason.is_some() {
                task.task_status =
                    task_status::Status::Failed(FailedTask { failed_reason: reason, ..Default::default() });
            }
            task
        };
        let lost = || Some(FailedReason::ResultLost(ResultLost {}));
        assert_eq!(most_of_a_partition(&[]), 0);
        let wrong = Some(FailedReason::ExecutionError(ExecutionError {}));
        let tasks = [
            task(0, &[0, 1], lost()),
            task(1, &[2], lost()),
            task(2, &[1], lost()),
            task(3, &[1], wrong),
            task(4, &[0, 1], None),
        ];
        assert_eq!(most_of_a_partition(&tasks), 2);
    }
}
