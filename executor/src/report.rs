//! Reports what became of tasks to the scheduler.

use std::time::Duration;

use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::failed_task::FailedReason;
use ballista_core::serde::protobuf::{FailedTask, OperatorMetricsSet, SuccessfulTask, TaskStatus, task_status};
use ballista_core::serde::scheduler::TaskKey;
use tokio::sync::mpsc;

use crate::link::{Link, is_absence};

/// The most statuses that wait to be sent; tasks that end meanwhile wait for room.
pub(crate) const MAX_WAITING: usize = 1024;
/// How often a report is tried while the scheduler does not answer: a minute together. After that the scheduler has
/// lost this executor anyway and gives its tasks to others.
const MAX_ATTEMPTS: u32 = 120;
/// The pause between attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What identifies a task attempt in reports and logs.
#[derive(Debug, Clone)]
pub(crate) struct TaskRef {
    pub(crate) key: TaskKey,
    pub(crate) stage_attempt: usize,
    pub(crate) task_attempt: usize,
    pub(crate) launch_ms: u64,
    pub(crate) start_ms: u64,
}

impl TaskRef {
    /// The name under which operators and sinks know the attempt: `TID job/stage.attempt/task.attempt`.
    pub(crate) fn name(&self) -> String {
        let TaskKey { job_id, stage_id, task_id } = &self.key;
        format!("TID {job_id}/{stage_id}.{}/{task_id}.{}", self.stage_attempt, self.task_attempt)
    }

    /// The status of this task as it ends now.
    fn status(&self, metrics: Vec<OperatorMetricsSet>, status: task_status::Status) -> TaskStatus {
        TaskStatus {
            task_id: self.key.task_id as u32,
            job_id: self.key.job_id.to_string(),
            stage_id: self.key.stage_id as u32,
            stage_attempt_num: self.stage_attempt as u32,
            launch_time: self.launch_ms,
            start_exec_time: self.start_ms,
            end_exec_time: now_ms(),
            metrics,
            status: Some(status),
        }
    }

    /// The status of a task that is done.
    pub(crate) fn succeeded(&self, metrics: Vec<OperatorMetricsSet>, done: SuccessfulTask) -> TaskStatus {
        self.status(metrics, task_status::Status::Successful(done))
    }

    /// The status of a task that failed. The message says on which executor, for it may reach a person.
    pub(crate) fn failed(&self, executor_id: &str, error: BallistaError) -> TaskStatus {
        let text = error.to_string();
        let mut failed = FailedTask::from(error);
        match failed.failed_reason {
            Some(FailedReason::TaskKilled(_)) => tracing::info!("{} was cancelled", self.name()),
            _ => {
                tracing::error!("{} failed: {text}", self.name());
                failed.error = format!("{text} (on executor {executor_id})");
            }
        }
        self.status(vec![], task_status::Status::Failed(failed))
    }
}

/// Sends statuses as they come, several at once when they come faster than they are sent.
pub(crate) async fn report(link: Link, mut statuses: mpsc::Receiver<TaskStatus>) {
    let mut batch = Vec::new();
    while statuses.recv_many(&mut batch, MAX_WAITING).await > 0 {
        send(&link, std::mem::take(&mut batch)).await;
    }
}

async fn send(link: &Link, batch: Vec<TaskStatus>) {
    for _ in 0..MAX_ATTEMPTS {
        match link.report(batch.clone()).await {
            Ok(()) => return,
            Err(status) if is_absence(&status) => tokio::time::sleep(RETRY_PAUSE).await,
            Err(status) => return tracing::error!("the scheduler refuses {} task statuses: {status}", batch.len()),
        }
    }
    tracing::error!("giving up {} task statuses: scheduler {} does not answer", batch.len(), link.address);
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use datafusion::error::DataFusionError;

    use super::*;

    fn task() -> TaskRef {
        TaskRef {
            key: TaskKey { job_id: "j".to_owned().into(), stage_id: 2, task_id: 3 },
            stage_attempt: 1,
            task_attempt: 0,
            launch_ms: 0,
            start_ms: 0,
        }
    }

    fn failed(error: BallistaError) -> FailedTask {
        match task().failed("cpu.host.1", error).status {
            Some(task_status::Status::Failed(failed)) => failed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_name_the_executor_and_keep_their_class() {
        let plain = failed(DataFusionError::Execution("boom".to_owned()).into());
        assert!(plain.error.contains("boom") && plain.error.contains("cpu.host.1"), "{}", plain.error);
        assert!(!plain.retryable);

        let io = failed(DataFusionError::IoError(std::io::Error::other("disk")).into());
        assert!(io.retryable && io.count_to_failures);

        let fetch = failed(BallistaError::FetchFailed("x".to_owned(), 1, 0, "gone".to_owned()));
        assert!(matches!(fetch.failed_reason, Some(FailedReason::FetchPartitionError(_))));

        let killed = failed(BallistaError::Cancelled);
        assert!(matches!(killed.failed_reason, Some(FailedReason::TaskKilled(_))));
    }

    #[test]
    fn names_tell_attempts_apart() {
        assert_eq!(task().name(), "TID j/2.1/3.0");
    }
}
