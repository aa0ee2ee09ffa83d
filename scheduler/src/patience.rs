//! How long stages have waited for an executor that can take them: pure, told the time.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use ballista_core::JobId;

/// One attempt of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StageKey {
    pub(crate) job: JobId,
    pub(crate) stage: usize,
    pub(crate) attempt: usize,
}

/// What a stage waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// No executor is alive.
    Executor,
    /// No executor alive has a GPU.
    Gpu,
}

impl Lack {
    /// What a stage lacks among the executors alive, given as whether each has a GPU.
    pub(crate) fn among(alive: &[bool], needs_gpu: bool) -> Option<Self> {
        match needs_gpu {
            true if !alive.iter().any(|gpu| *gpu) => Some(Self::Gpu),
            false if alive.is_empty() => Some(Self::Executor),
            _ => None,
        }
    }
}

/// A stage that has waited too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) key: StageKey,
    pub(crate) lack: Lack,
    pub(crate) waited: Duration,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StageKey { job, stage, .. } = &self.key;
        let (needs, start) = match self.lack {
            Lack::Executor => ("an executor", "tidemill executor"),
            Lack::Gpu => ("an executor with a gpu", "tidemill executor --gpus 1"),
        };
        let seconds = self.waited.as_secs_f64();
        write!(
            f,
            "stage {stage} of job {job} needs {needs} and none joined within {seconds:.0} s; start one with: {start}"
        )
    }
}

/// Remembers since when each stage waits.
#[derive(Debug)]
pub(crate) struct Patience {
    timeout: Duration,
    since: HashMap<StageKey, Instant>,
}

impl Patience {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, since: HashMap::new() }
    }

    /// Takes the stages that wait at `now`; forgets those that no longer do, and returns, once, those that have waited
    /// for the whole timeout.
    pub(crate) fn step(&mut self, now: Instant, waiting: Vec<(StageKey, Lack)>) -> Vec<Expired> {
        let mut since = HashMap::with_capacity(waiting.len());
        let mut expired = Vec::new();
        for (key, lack) in waiting {
            let start = self.since.get(&key).copied().unwrap_or(now);
            if now.duration_since(start) >= self.timeout {
                expired.push(Expired { key, lack, waited: self.timeout });
            } else {
                since.insert(key, start);
            }
        }
        self.since = since;
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(stage: usize) -> StageKey {
        StageKey { job: "j1".to_owned().into(), stage, attempt: 0 }
    }

    #[test]
    fn a_stage_expires_after_the_timeout_and_only_once() {
        let mut patience = Patience::new(Duration::from_secs(60));
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(patience.step(at(0), vec![(key(2), Lack::Gpu)]), []);
        assert_eq!(patience.step(at(59), vec![(key(2), Lack::Gpu)]), []);
        let expired = patience.step(at(60), vec![(key(2), Lack::Gpu)]);
        assert_eq!(
            expired[0].to_string(),
            "stage 2 of job j1 needs an executor with a gpu and none joined within 60 s; start one with: tidemill executor --gpus 1"
        );
        assert_eq!(patience.step(at(61), vec![(key(2), Lack::Gpu)]), []);
    }

    #[test]
    fn an_executor_that_comes_and_goes_restarts_the_wait() {
        let mut patience = Patience::new(Duration::from_secs(60));
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        patience.step(at(0), vec![(key(1), Lack::Executor)]);
        patience.step(at(30), vec![]);
        patience.step(at(40), vec![(key(1), Lack::Executor)]);
        assert_eq!(patience.step(at(70), vec![(key(1), Lack::Executor)]), []);
        assert_eq!(patience.step(at(100), vec![(key(1), Lack::Executor)]).len(), 1);
    }

    #[test]
    fn lack_depends_on_who_is_alive() {
        assert_eq!(Lack::among(&[], false), Some(Lack::Executor));
        assert_eq!(Lack::among(&[], true), Some(Lack::Gpu));
        assert_eq!(Lack::among(&[false], true), Some(Lack::Gpu));
        assert_eq!(Lack::among(&[false], false), None);
        assert_eq!(Lack::among(&[false, true], true), None);
    }
}
