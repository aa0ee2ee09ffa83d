//! Who holds which vcores: pure bookkeeping, task by task.
//!
//! Ballista counts free vcores per executor and looks up what a task held when it ends. When a stage is rolled back,
//! because an executor was lost, that lookup finds nothing and the vcores of the stage's other tasks stay taken for
//! ever. Here a task holds its vcores until its executor says that it ended, or is removed, whatever became of the
//! stage meanwhile; so a cancelled task also keeps them until its work has really stopped.

use std::collections::{HashMap, HashSet};

use ballista_core::JobId;
use ballista_core::serde::protobuf::{AvailableVcores, TaskStatus, task_status};
use ballista_scheduler::state::execution_graph::TaskDescription;

/// One attempt of one task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    job: JobId,
    stage: usize,
    stage_attempt: usize,
    task: usize,
}

impl Attempt {
    /// The attempt that a bound task is.
    pub(crate) fn of_task(task: &TaskDescription) -> Self {
        Self {
            job: task.key.job_id.clone(),
            stage: task.key.stage_id,
            stage_attempt: task.stage_attempt_num,
            task: task.key.task_id,
        }
    }

    /// The attempt that a status ends; none when it says that the task goes on.
    pub(crate) fn ended_by(status: &TaskStatus) -> Option<Self> {
        let ended = !matches!(status.status, None | Some(task_status::Status::Running(_)));
        ended.then(|| Self {
            job: status.job_id.clone().into(),
            stage: status.stage_id as usize,
            stage_attempt: status.stage_attempt_num as usize,
            task: status.task_id as usize,
        })
    }
}

/// The vcores of all registered executors.
#[derive(Debug, Default)]
pub(crate) struct Budgets(HashMap<String, Budget>);

#[derive(Debug)]
struct Budget {
    total: u32,
    held: HashMap<Attempt, u32>,
}

impl Budget {
    fn free(&self) -> u32 {
        self.total.saturating_sub(self.held.values().sum())
    }
}

impl Budgets {
    /// An executor joins with all its vcores free.
    pub(crate) fn register(&mut self, executor_id: &str, total: u32) {
        self.0.insert(executor_id.to_owned(), Budget { total, held: HashMap::new() });
    }

    /// An executor is gone, and what it held with it.
    pub(crate) fn remove(&mut self, executor_id: &str) {
        self.0.remove(executor_id);
    }

    /// The executors with free vcores, only those among `alive` when that is given.
    pub(crate) fn free(&self, alive: Option<&HashSet<String>>) -> Vec<AvailableVcores> {
        let alive = |id: &String| alive.is_none_or(|alive| alive.contains(id));
        let free = self.0.iter().filter(|(id, budget)| alive(id) && budget.free() > 0);
        let offer =
            |(id, budget): (&String, &Budget)| AvailableVcores { executor_id: id.clone(), vcores: budget.free() };
        free.map(offer).collect()
    }

    /// A task takes vcores of an executor.
    pub(crate) fn hold(&mut self, executor_id: &str, attempt: Attempt, vcores: u32) {
        if let Some(budget) = self.0.get_mut(executor_id) {
            budget.held.insert(attempt, vcores);
        }
    }

    /// A task has ended; whether it held anything, which it did not when that was reported before, or when its
    /// executor was removed meanwhile.
    pub(crate) fn release(&mut self, executor_id: &str, attempt: &Attempt) -> bool {
        self.0.get_mut(executor_id).is_some_and(|budget| budget.held.remove(attempt).is_some())
    }

    /// Whether an executor is registered.
    pub(crate) fn knows(&self, executor_id: &str) -> bool {
        self.0.contains_key(executor_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(stage_attempt: usize, task: usize) -> Attempt {
        Attempt { job: "j".to_owned().into(), stage: 1, stage_attempt, task }
    }

    fn free(budgets: &Budgets) -> Vec<(String, u32)> {
        let mut free: Vec<_> = budgets.free(None).into_iter().map(|b| (b.executor_id, b.vcores)).collect();
        free.sort();
        free
    }

    #[test]
    fn a_task_holds_its_vcores_until_it_ends_once() {
        let mut budgets = Budgets::default();
        budgets.register("a", 4);
        budgets.hold("a", attempt(0, 0), 3);
        assert_eq!(free(&budgets), [("a".to_owned(), 1)]);
        assert!(budgets.release("a", &attempt(0, 0)));
        assert!(!budgets.release("a", &attempt(0, 0)), "a second report is known as one");
        assert_eq!(free(&budgets), [("a".to_owned(), 4)]);
    }

    #[test]
    fn attempts_of_a_stage_are_told_apart() {
        let mut budgets = Budgets::default();
        budgets.register("a", 2);
        budgets.hold("a", attempt(0, 0), 1);
        budgets.hold("a", attempt(1, 0), 1);
        assert_eq!(free(&budgets), []);
        budgets.release("a", &attempt(0, 0));
        assert_eq!(free(&budgets), [("a".to_owned(), 1)]);
    }

    #[test]
    fn a_removed_executor_comes_back_whole() {
        let mut budgets = Budgets::default();
        budgets.register("a", 2);
        budgets.hold("a", attempt(0, 0), 2);
        budgets.remove("a");
        assert!(!budgets.release("a", &attempt(0, 0)));
        assert_eq!(free(&budgets), []);
        budgets.register("a", 2);
        assert_eq!(free(&budgets), [("a".to_owned(), 2)]);
    }

    #[test]
    fn only_the_living_are_offered() {
        let mut budgets = Budgets::default();
        budgets.register("a", 1);
        budgets.register("b", 1);
        let alive = HashSet::from(["b".to_owned()]);
        let offered = budgets.free(Some(&alive));
        assert_eq!(offered.len(), 1);
        assert_eq!(offered[0].executor_id, "b");
    }
}
