//! How much memory tasks may use.

use std::path::Path;
use std::sync::Arc;

use ballista_executor::runtime_cache::MemoryPoolPolicy;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use tidemill_engine::cluster::KeptShards;

use crate::{ExecutorError, Result};

/// The share of the machine's memory that tasks get: the rest is for what no pool counts (decoding, network, code).
const SHARE_PERCENT: u64 = 70;
/// The least memory of a vcore: below, sorts cannot even spill.
const LEAST_BYTES_PER_VCORE: u64 = 16 * 1024 * 1024;

/// The memory for all tasks together: as configured, else a share of what this process may use; none when that
/// cannot be told.
pub(crate) fn budget_bytes(configured: Option<u64>) -> Option<u64> {
    configured.or_else(|| available_bytes().map(|bytes| bytes / 100 * SHARE_PERCENT))
}

/// Gives each task a pool of its own, in proportion to the vcores that it occupies. What is kept of shards when it starts
/// is taken off the memory for all.
///
/// # Errors
/// When there is too little memory for the vcores.
pub(crate) fn pool_policy(budget_bytes: Option<u64>, vcores: usize, kept: Arc<KeptShards>) -> Result<MemoryPoolPolicy> {
    let Some(memory_bytes) = budget_bytes else { return Ok(Arc::new(|base, _, _| Ok(base))) };
    let per_vcore = memory_bytes / vcores.max(1) as u64;
    if per_vcore < LEAST_BYTES_PER_VCORE {
        let least_bytes = LEAST_BYTES_PER_VCORE * vcores as u64;
        return Err(ExecutorError::Memory { memory_bytes, vcores, least_bytes });
    }
    let all = vcores.max(1) as u64;
    Ok(Arc::new(move |base, _, vcores| {
        let free_per_vcore = memory_bytes.saturating_sub(kept.bytes()) / all;
        let bytes = free_per_vcore.saturating_mul(u64::from(vcores.max(1)));
        let pool = FairSpillPool::new(usize::try_from(bytes).unwrap_or(usize::MAX));
        RuntimeEnvBuilder::from_runtime_env(&base).with_memory_pool(Arc::new(pool)).build_arc()
    }))
}

/// What the machine or this process's control group has, whichever is less.
fn available_bytes() -> Option<u64> {
    let host = read(Path::new("/proc/meminfo")).as_deref().and_then(total_of_meminfo);
    let group_v2 = read(Path::new("/sys/fs/cgroup/memory.max"));
    let group_v1 = read(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let group = group_v2.or(group_v1).and_then(|limit| limit.trim().parse::<u64>().ok());
    match (host, group) {
        (Some(host), Some(group)) => Some(host.min(group)),
        (host, group) => host.or(group),
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::prelude::SessionConfig;

    use super::*;

    #[test]
    fn meminfo_is_read_in_kib() {
        let text = "MemTotal:       24000000 kB\nMemFree:  1 kB\n";
        assert_eq!(total_of_meminfo(text), Some(24_000_000 * 1024));
        assert_eq!(total_of_meminfo("nothing"), None);
    }

    #[test]
    fn a_task_gets_memory_by_its_vcores() {
        let policy = pool_policy(Some(4 * 64 * 1024 * 1024), 4, Arc::default()).unwrap();
        let base = Arc::new(RuntimeEnv::default());
        let task = policy(base, &SessionConfig::new(), 2).unwrap();
        let pool: Arc<dyn MemoryPool> = Arc::clone(&task.memory_pool);
        let reservation = MemoryConsumer::new("test").register(&pool);
        assert!(reservation.try_grow(128 * 1024 * 1024).is_ok());
        assert!(reservation.try_grow(1).is_err());
    }

    #[test]
    fn too_little_memory_is_refused_with_what_would_do() {
        let error = pool_policy(Some(1024), 2, Arc::default()).err().unwrap();
        assert!(error.to_string().contains("give at least 33554432"), "{error}");
    }
}
