//! The folder for shuffle data, results and spilled data: one per executor, removed at its end.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{ExecutorError, Result};

/// The folder of our executors in the system's temporary folder.
const TEMP_NAME: &str = "tidemill-executors";
/// How old the data of a job, or of an executor that was killed, must be to be swept. Longer than any job.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How often data is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// An executor's own folder. Dropping it removes the folder.
#[derive(Debug)]
pub(crate) struct WorkDir(PathBuf);

impl WorkDir {
    /// Makes the folder of an executor, and sweeps what executors that were killed long ago left beside it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn create(parent: Option<&Path>, executor_id: &str) -> Result<Self> {
        let parent = parent.map_or_else(|| std::env::temp_dir().join(TEMP_NAME), Path::to_owned);
        let path = std::path::absolute(parent.join(executor_id))?;
        let create = |source| ExecutorError::WorkDir { path: path.clone(), source };
        std::fs::create_dir_all(path.join(SPILL)).map_err(create)?;
        sweep(&parent, STALE);
        Ok(Self(path))
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where operators spill.
    pub(crate) fn spill(&self) -> PathBuf {
        self.0.join(SPILL)
    }

    /// Removes a job's data, or only that of some of its stages.
    pub(crate) async fn remove_job(&self, job: &str, stages: &[u32]) -> std::io::Result<()> {
        // A job id is one name: anything else would leave the folder.
        if job.is_empty() || job == SPILL || Path::new(job).components().count() != 1 || job.starts_with('.') {
            return Err(std::io::Error::other(format!("{job:?} is not a job id")));
        }
        let job = self.0.join(job);
        if stages.is_empty() {
            return remove(&job).await;
        }
        for stage in stages {
            remove(&job.join(stage.to_string())).await?;
        }
        Ok(())
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// The folder's own sub-folder for spilled data.
const SPILL: &str = "spill";

/// Removes the data of jobs that the scheduler forgot, forever.
pub(crate) async fn sweep_forever(path: PathBuf) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let path = path.clone();
        let swept = tokio::task::spawn_blocking(move || sweep(&path, STALE)).await;
        if let Err(error) = swept {
            tracing::warn!("sweeping shuffle data failed: {error}");
        }
    }
}

/// Removes folders in which nothing changed for so long.
fn sweep(parent: &Path, stale: Duration) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let keep = path.file_name().is_some_and(|name| name == SPILL);
        if !keep && path.is_dir() && age(&path, 2).is_some_and(|age| age > stale) {
            tracing::info!("removing stale {}", path.display());
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
        }
    }
}

/// How long ago anything changed in a folder, looking so many levels down.
fn age(path: &Path, levels: usize) -> Option<Duration> {
    let modified = path.metadata().ok()?.modified().ok()?;
    let own = SystemTime::now().duration_since(modified).unwrap_or_default();
    if levels == 0 {
        return Some(own);
    }
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    Some(below.filter_map(|entry| age(&entry.path(), levels - 1)).fold(own, Duration::min))
}

async fn remove(path: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_are_removed_and_nothing_outside() {
        let parent = tempfile::tempdir().unwrap();
        let dir = WorkDir::create(Some(parent.path()), "cpu.host.1").unwrap();
        for stage in ["1", "2"] {
            std::fs::create_dir_all(dir.path().join("job").join(stage)).unwrap();
        }
        dir.remove_job("job", &[1]).await.unwrap();
        assert!(!dir.path().join("job/1").exists() && dir.path().join("job/2").exists());
        dir.remove_job("job", &[]).await.unwrap();
        assert!(!dir.path().join("job").exists());
        dir.remove_job("job", &[]).await.unwrap();
        for wrong in ["", ".", "..", "../x", "a/b", "/etc", SPILL] {
            assert!(dir.remove_job(wrong, &[]).await.is_err(), "{wrong}");
        }
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists() && parent.path().exists());
    }

    #[test]
    fn only_stale_folders_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(parent.path().join("job/1")).unwrap();
        sweep(parent.path(), STALE);
        assert!(parent.path().join("job").exists());
        sweep(parent.path(), Duration::ZERO);
        assert!(!parent.path().join("job").exists());
    }
}
