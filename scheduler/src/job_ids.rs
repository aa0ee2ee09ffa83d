//! The names of jobs.

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ballista_scheduler::scheduler_server::JobIdGenerator;

/// Jobs that are named within a millisecond before names run ahead of the clock.
const PER_MILLISECOND: u64 = 1 << 10;

/// Names that sort by time, also over restarts: milliseconds and a number within them, in hexadecimal digits. Ballista's
/// own generator has a thread that wakes each millisecond, whether there are jobs or not.
#[derive(Debug, Default)]
pub(crate) struct JobIds {
    last: AtomicU64,
}

tokio::task_local! {
    /// The name that the job has that a task submits.
    static NAMED: Cell<Option<String>>;
}

/// What a submission gives, and the name of its job, which Ballista does not tell whoever submits it by the network until
/// one of its tasks has ended.
pub(crate) async fn with_name<T>(submission: impl Future<Output = T>) -> (T, Option<String>) {
    NAMED.scope(Cell::default(), async { (submission.await, NAMED.with(Cell::take)) }).await
}

impl JobIds {
    fn next(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let after = |last: u64| (last + 1).max(now * PER_MILLISECOND);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        format!("{:013x}", after(last.unwrap_or_else(|last| last)))
    }
}

#[async_trait]
impl JobIdGenerator for JobIds {
    async fn next_id(&self) -> String {
        let name = self.next();
        // Jobs that this process submits for itself are outside of [`with_name`].
        let _ = NAMED.try_with(|named| named.set(Some(name.clone())));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_submission_learns_its_job_s_name() {
        let ids = JobIds::default();
        let (named, name) = with_name(ids.next_id()).await;
        assert_eq!(Some(named), name);
        assert_eq!(with_name(async {}).await, ((), None));
        ids.next_id().await;
    }

    #[test]
    fn names_sort_and_differ_also_from_many_threads() {
        let ids = JobIds::default();
        let of_thread = || {
            let names: Vec<String> = (0..5_000).map(|_| ids.next()).collect();
            assert!(names.is_sorted() && names.iter().all(|name| name.len() == 13));
            names
        };
        let mut all: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(of_thread)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20_000);
    }
}
