//! The executors' errors, kept by job.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ballista_core::serde::protobuf::failed_task::FailedReason;
use ballista_core::serde::protobuf::{FailedTask, TaskStatus, task_status};
use serde::{Deserialize, Serialize};

/// The most jobs whose errors are kept; the oldest are forgotten.
const MAX_JOBS: usize = 500;
/// The most errors kept of one job; the oldest are forgotten: the last ones ended the job.
const MAX_FAILURES: usize = 200;

/// One failure of one task, as its executor told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// When the scheduler heard of it, in milliseconds since 1970.
    pub at_ms: u64,
    /// The executor that ran the task.
    pub executor_id: String,
    /// The task's stage.
    pub stage_id: u32,
    /// Which attempt of the stage.
    pub stage_attempt: u32,
    /// The task within the stage.
    pub task_id: u32,
    /// `execution`, `io`, `fetch`, `cancelled` or `lost`.
    pub kind: String,
    /// Whether the scheduler tries the task again.
    pub retried: bool,
    /// The executor's message.
    pub message: String,
}

/// A bounded log of task failures by job.
#[derive(Debug, Default)]
pub(crate) struct TaskLog(Mutex<Jobs>);

#[derive(Debug, Default)]
struct Jobs {
    failures: HashMap<String, VecDeque<TaskFailure>>,
    order: VecDeque<String>,
}

impl TaskLog {
    /// Keeps the failures among the statuses that an executor reports.
    pub(crate) fn record(&self, executor_id: &str, statuses: &[TaskStatus]) {
        for status in statuses {
            if let Some(task_status::Status::Failed(failed)) = &status.status {
                self.push(&status.job_id, failure(executor_id, status, failed));
            }
        }
    }

    /// The failures of a job, oldest first; none when there were none or the job is long past.
    pub(crate) fn of(&self, job: &str) -> Vec<TaskFailure> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.failures.get(job).map(|f| f.iter().cloned().collect()).unwrap_or_default()
    }

    fn push(&self, job: &str, failure: TaskFailure) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !jobs.failures.contains_key(job) {
            jobs.order.push_back(job.to_owned());
            if jobs.order.len() > MAX_JOBS
                && let Some(oldest) = jobs.order.pop_front()
            {
                jobs.failures.remove(&oldest);
            }
        }
        let kept = jobs.failures.entry(job.to_owned()).or_default();
        if kept.len() == MAX_FAILURES {
            kept.pop_front();
        }
        kept.push_back(failure);
    }
}

fn failure(executor_id: &str, status: &TaskStatus, failed: &FailedTask) -> TaskFailure {
    let fetch = matches!(failed.failed_reason, Some(FailedReason::FetchPartitionError(_)));
    TaskFailure {
        at_ms: now_ms(),
        executor_id: executor_id.to_owned(),
        stage_id: status.stage_id,
        stage_attempt: status.stage_attempt_num,
        task_id: status.task_id,
        kind: kind(failed.failed_reason.as_ref()).to_owned(),
        retried: failed.retryable || fetch,
        message: failed.error.clone(),
    }
}

fn kind(reason: Option<&FailedReason>) -> &'static str {
    match reason {
        Some(FailedReason::FetchPartitionError(_)) => "fetch",
        Some(FailedReason::IoError(_)) => "io",
        Some(FailedReason::TaskKilled(_)) => "cancelled",
        Some(FailedReason::ExecutorLost(_) | FailedReason::ResultLost(_)) => "lost",
        Some(FailedReason::ExecutionError(_)) | None => "execution",
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(job: &str, task_id: u32) -> TaskStatus {
        let failed = FailedTask { error: format!("e{task_id}"), ..Default::default() };
        TaskStatus {
            job_id: job.to_owned(),
            task_id,
            status: Some(task_status::Status::Failed(failed)),
            ..Default::default()
        }
    }

    #[test]
    fn a_job_keeps_its_last_failures() {
        let log = TaskLog::default();
        for task in 0..MAX_FAILURES as u32 + 5 {
            log.record("x", &[failed("j", task)]);
        }
        let kept = log.of("j");
        assert_eq!(kept.len(), MAX_FAILURES);
        assert_eq!(kept[0].message, "e5");
    }

    #[test]
    fn the_oldest_jobs_are_forgotten() {
        let log = TaskLog::default();
        for job in 0..MAX_JOBS + 2 {
            log.record("x", &[failed(&job.to_string(), 0)]);
        }
        assert!(log.of("0").is_empty() && log.of("1").is_empty());
        assert_eq!(log.of("2").len(), 1);
    }

    #[test]
    fn successes_are_not_failures() {
        let log = TaskLog::default();
        log.record("x", &[TaskStatus { job_id: "j".to_owned(), ..Default::default() }]);
        assert!(log.of("j").is_empty());
    }
}
