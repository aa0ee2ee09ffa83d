//! Holds back what the tasks of a job's last stage report until all of them are done.
//!
//! Ballista adds each reported output of the last stage to the job's result at once, and never takes one off: when an
//! executor is lost before the stage is done, the result names outputs that are gone, or those of tasks that run a
//! second time, twice. Reported together, when nothing is left to run, there is nothing to take off.

use std::collections::HashMap;

use ballista_core::JobId;
use ballista_core::serde::protobuf::{TaskStatus, task_status};
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::ExecutionStage;

/// One attempt of a job's last stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FinalStage {
    job: JobId,
    stage: usize,
    attempt: usize,
}

/// What of a stage is not known to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outstanding {
    /// Partitions that no task has.
    pending: usize,
    /// Tasks that run, as far as Ballista knows, and where.
    running: HashMap<usize, String>,
}

/// The success of a task and who reported it.
pub(crate) type Report = (String, TaskStatus);

/// Reports held back.
#[derive(Debug, Default)]
pub(crate) struct Finals(HashMap<FinalStage, HashMap<usize, Report>>);

impl Finals {
    /// Takes a report. Returns all of the stage when nothing else is outstanding.
    pub(crate) fn hold(&mut self, stage: FinalStage, outstanding: &Outstanding, report: Report) -> Vec<Report> {
        let held = self.0.entry(stage.clone()).or_default();
        held.insert(report.1.task_id as usize, report);
        let done = |(task, executor): (&usize, &String)| held.get(task).is_some_and(|(by, _)| by == executor);
        if outstanding.pending > 0 || !outstanding.running.iter().all(done) {
            return vec![];
        }
        let mut reports = self.0.remove(&stage).unwrap_or_default();
        // What Ballista gave up meanwhile, on an executor that was lost, stays out.
        reports.retain(|task, (by, _)| outstanding.running.get(task) == Some(by));
        reports.into_values().collect()
    }

    /// Forgets jobs that ended.
    pub(crate) fn retain_jobs(&mut self, runs: impl Fn(&JobId) -> bool) {
        self.0.retain(|stage, _| runs(&stage.job));
    }
}

/// The last stage that a status reports a success of, when it runs.
pub(crate) fn final_stage(graph: &ExecutionGraphBox, status: &TaskStatus) -> Option<(FinalStage, Outstanding)> {
    let success = matches!(status.status, Some(task_status::Status::Successful(_)));
    let ExecutionStage::Running(stage) = graph.stages().get(&(status.stage_id as usize))? else { return None };
    if !success || !stage.output_links.is_empty() || stage.stage_attempt_num != status.stage_attempt_num as usize {
        return None;
    }
    let running = stage.task_infos.iter().filter_map(|task| match &task.task_status {
        task_status::Status::Running(on) => Some((task.task_id, on.executor_id.clone())),
        _ => None,
    });
    let outstanding = Outstanding { pending: stage.pending.remaining(), running: running.collect() };
    let key = FinalStage { job: graph.job_id().clone(), stage: stage.stage_id, attempt: stage.stage_attempt_num };
    Some((key, outstanding))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> FinalStage {
        FinalStage { job: "j".to_owned().into(), stage: 2, attempt: 0 }
    }

    fn report(by: &str, task_id: u32) -> Report {
        (by.to_owned(), TaskStatus { task_id, ..Default::default() })
    }

    fn outstanding(pending: usize, running: &[(usize, &str)]) -> Outstanding {
        Outstanding { pending, running: running.iter().map(|(task, on)| (*task, (*on).to_owned())).collect() }
    }

    #[test]
    fn reports_come_together_when_all_are_there() {
        let mut finals = Finals::default();
        let both = [(0, "a"), (1, "b")];
        assert_eq!(finals.hold(stage(), &outstanding(1, &both), report("a", 0)).len(), 0);
        assert_eq!(finals.hold(stage(), &outstanding(0, &both), report("a", 0)).len(), 0);
        assert_eq!(finals.hold(stage(), &outstanding(0, &both), report("b", 1)).len(), 2);
    }

    #[test]
    fn reports_of_lost_executors_stay_out() {
        let mut finals = Finals::default();
        finals.hold(stage(), &outstanding(0, &[(0, "lost"), (1, "b")]), report("lost", 0));
        let after = outstanding(0, &[(1, "b"), (2, "b")]);
        assert_eq!(finals.hold(stage(), &after, report("b", 1)).len(), 0);
        let all = finals.hold(stage(), &after, report("b", 2));
        assert!(all.len() == 2 && all.iter().all(|(by, _)| by == "b"));
    }

    #[test]
    fn ended_jobs_are_forgotten() {
        let mut finals = Finals::default();
        finals.hold(stage(), &outstanding(1, &[]), report("a", 0));
        finals.retain_jobs(|_| false);
        assert!(finals.0.is_empty());
    }
}
