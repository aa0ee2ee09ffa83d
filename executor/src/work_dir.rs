//! The folders for shuffle data, results and spilled data: an executor's own, removed at its end.
//!
//! Of shuffle data and results most outputs are small, and making their files can take longer than all the rest of a
//! query while the disk is busy. So there are two folders: one in a file system in memory, where everybody looks for
//! outputs, and one on disk. Small outputs lie in the first, as long as they are few; of all others it has links to the second.
//! Where there is no such file system, or no room in it, one folder on disk has all.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ballista_core::serde::scheduler::TaskKey;

use crate::{ExecutorError, Result};

/// The folder of our executors in the system's temporary folder, and in memory.
const TEMP_NAME: &str = "tidemill-executors";
/// The file system in memory that Linux machines have.
const IN_MEMORY: &str = "/dev/shm";
/// The most bytes that an executor's outputs take there.
const ROOM: u64 = 32 << 20;
/// What must be free there for a failed task to have failed for another reason.
const PROBE: u64 = 1 << 20;
/// How old the data of a job, or of an executor that was killed, must be to be swept. Longer than any job.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How often data is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// An executor's own folders.
#[derive(Debug)]
pub(crate) struct WorkDir {
    disk: PathBuf,
    memory: Option<Memory>,
}

/// The folder in memory.
#[derive(Debug)]
struct Memory {
    path: PathBuf,
    room: u64,
    /// The bytes that tasks take.
    held: Mutex<HashMap<TaskKey, u64>>,
    /// Whether somebody else took the room.
    is_full: AtomicBool,
}

impl WorkDir {
    /// Makes the folders of an executor, and sweeps what executors that were killed long ago left beside them.
    ///
    /// # Errors
    /// When the folder on disk cannot be made.
    pub(crate) fn create(parent: Option<&Path>, executor_id: &str) -> Result<Self> {
        let parent = parent.map_or_else(|| std::env::temp_dir().join(TEMP_NAME), Path::to_owned);
        let in_memory = Path::new(IN_MEMORY).is_dir().then(|| Path::new(IN_MEMORY).join(TEMP_NAME));
        Self::at(&parent, in_memory.as_deref(), executor_id, ROOM)
    }

    fn at(parent: &Path, in_memory: Option<&Path>, executor_id: &str, room: u64) -> Result<Self> {
        let disk = std::path::absolute(parent.join(executor_id))?;
        let create = |source| ExecutorError::WorkDir { path: disk.clone(), source };
        std::fs::create_dir_all(disk.join(SPILL)).map_err(create)?;
        sweep(parent, STALE);
        let memory = in_memory.and_then(|parent| Memory::create(parent, executor_id, room));
        Ok(Self { disk, memory })
    }

    /// Where outputs are looked for.
    pub(crate) fn path(&self) -> &Path {
        self.memory.as_ref().map_or(&self.disk, |memory| &memory.path)
    }

    /// Where operators spill.
    pub(crate) fn spill(&self) -> PathBuf {
        self.disk.join(SPILL)
    }

    /// Whether outputs may lie in memory at all.
    pub(crate) fn has_memory(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| !memory.is_full.load(Ordering::Relaxed))
    }

    /// Whether there is room in memory for a task's outputs of so many bytes, which they then take.
    pub(crate) fn hold(&self, task: &TaskKey, bytes: u64) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.hold(task, bytes))
    }

    /// Tells that a task failed whose outputs lay in memory. Where that was for want of room, as somebody else takes
    /// memory too, no more outputs lie there, and true is given: the task may be tried again.
    pub(crate) fn was_full(&self) -> bool {
        self.memory.as_ref().is_some_and(Memory::was_full)
    }

    /// Lets an output, a file or a folder at this place below [`Self::path`], lie on disk.
    ///
    /// # Errors
    /// When its folders or the link cannot be made.
    pub(crate) fn put_on_disk(&self, place: &Path, kind: Output) -> std::io::Result<()> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let (link, target) = (memory.path.join(place), self.disk.join(place));
        let folder = match kind {
            Output::Folder => Some(target.as_path()),
            Output::File => target.parent(),
        };
        for folder in folder.into_iter().chain(link.parent()) {
            std::fs::create_dir_all(folder)?;
        }
        match link.symlink_metadata() {
            Ok(found) if found.is_symlink() => return Ok(()),
            // What an earlier attempt of the task wrote.
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&link)?,
            Ok(_) => std::fs::remove_file(&link)?,
            Err(_) => {}
        }
        symlink(&target, &link)
    }

    /// Removes a job's data, or only that of some of its stages.
    pub(crate) async fn remove_job(&self, job: &str, stages: &[u32]) -> std::io::Result<()> {
        // A job id is one name: anything else would leave the folder.
        if job.is_empty() || job == SPILL || Path::new(job).components().count() != 1 || job.starts_with('.') {
            return Err(std::io::Error::other(format!("{job:?} is not a job id")));
        }
        if let Some(memory) = &self.memory {
            memory.release(job, stages);
        }
        for folder in self.folders() {
            let job = folder.join(job);
            if stages.is_empty() {
                remove(&job).await?;
            }
            for stage in stages {
                remove(&job.join(stage.to_string())).await?;
            }
        }
        Ok(())
    }

    /// Removes the folders.
    pub(crate) fn remove(&self) {
        for folder in self.folders() {
            match std::fs::remove_dir_all(folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!("cannot remove {}: {error}", folder.display());
                }
                _ => {}
            }
        }
    }

    /// Removes the data of jobs that the scheduler forgot, and says that the executor is there.
    fn sweep(&self) {
        for folder in self.folders() {
            sweep(folder, STALE);
            let touched = File::open(folder).and_then(|folder| folder.set_modified(SystemTime::now()));
            if let Err(error) = touched {
                tracing::warn!("cannot touch {}: {error}", folder.display());
            }
        }
        if let Some(memory) = &self.memory {
            memory.forget_removed();
        }
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        self.memory.iter().map(|memory| memory.path.as_path()).chain([self.disk.as_path()])
    }
}

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// One file.
    File,
    /// A folder of files.
    Folder,
}

impl Memory {
    /// The folder of an executor below `parent`; none where it cannot be made or there is not this much room.
    fn create(parent: &Path, executor_id: &str, room: u64) -> Option<Self> {
        let path = parent.join(executor_id);
        sweep(parent, STALE);
        let made = create_private(&path).and_then(|()| probe(&path, room));
        match made {
            Ok(()) => Some(Self { path, room, held: Mutex::default(), is_full: AtomicBool::new(false) }),
            Err(error) => {
                tracing::info!("small outputs go to disk, for {} cannot be used: {error}", path.display());
                let _ = std::fs::remove_dir_all(&path);
                None
            }
        }
    }

    fn hold(&self, task: &TaskKey, bytes: u64) -> bool {
        let mut held = self.held();
        let others: u64 = held.iter().filter(|(other, _)| *other != task).map(|(_, bytes)| bytes).sum();
        let fits = others + bytes <= self.room;
        if fits {
            held.insert(task.clone(), bytes);
        }
        fits
    }

    fn was_full(&self) -> bool {
        let is_full = probe(&self.path, PROBE).is_err_and(|error| error.kind() == ErrorKind::StorageFull);
        if is_full {
            tracing::warn!("small outputs go to disk from now on: no room in {}", self.path.display());
            self.is_full.store(true, Ordering::Relaxed);
        }
        is_full
    }

    fn release(&self, job: &str, stages: &[u32]) {
        let is_removed = |stage| stages.is_empty() || stages.contains(&(stage as u32));
        self.held().retain(|task, _| task.job_id.as_str() != job || !is_removed(task.stage_id));
    }

    /// Gives the room of stages back whose folders are gone.
    fn forget_removed(&self) {
        let stage = |task: &TaskKey| self.path.join(task.job_id.as_str()).join(task.stage_id.to_string());
        self.held().retain(|task, _| stage(task).exists());
    }

    fn held(&self) -> MutexGuard<'_, HashMap<TaskKey, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An executor that does not start, or whose tasks end after it, leaves nothing either.
impl Drop for WorkDir {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Writes so many bytes to a folder and removes them.
fn probe(folder: &Path, bytes: u64) -> std::io::Result<()> {
    let probe = folder.join("room");
    let written = std::fs::write(&probe, vec![0; bytes as usize]);
    written.and(std::fs::remove_file(&probe))
}

/// Makes a folder and its parent for this user alone. A parent that is another's is an error: it could replace folders.
#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let owner = |path: &Path| path.metadata().map(|found| found.uid());
    match path.parent() {
        Some(parent) if owner(parent)? != owner(path)? => Err(std::io::Error::other("its parent is another user's")),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Small outputs lie in memory on Unix alone.
#[cfg(not(unix))]
fn create_private(_: &Path) -> std::io::Result<()> {
    Err(std::io::Error::from(ErrorKind::Unsupported))
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::Error::from(ErrorKind::Unsupported))
}

/// The folder's own sub-folder for spilled data.
const SPILL: &str = "spill";

/// Removes the data of jobs that the scheduler forgot, forever.
pub(crate) async fn sweep_forever(work_dir: Arc<WorkDir>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let work_dir = Arc::clone(&work_dir);
        let swept = tokio::task::spawn_blocking(move || work_dir.sweep()).await;
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
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_are_removed_and_nothing_outside() {
        let parent = tempfile::tempdir().unwrap();
        let dir = WorkDir::at(parent.path(), None, "cpu.host.1", ROOM).unwrap();
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
        dir.remove();
        assert!(!dir.path().exists() && parent.path().exists());
    }

    fn with_memory(parent: &Path, room: u64) -> WorkDir {
        WorkDir::at(&parent.join("disk"), Some(&parent.join("memory")), "x", room).unwrap()
    }

    #[tokio::test]
    async fn outputs_on_disk_are_found_and_removed_like_those_in_memory() {
        let parent = tempfile::tempdir().unwrap();
        let dir = with_memory(parent.path(), ROOM);
        let (file, folder) = (Path::new("job/1/0/data-3.arrow"), Path::new("job/2/3"));
        let write = |place: &Path| {
            std::fs::create_dir_all(dir.path().join(place).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(place), "rows").unwrap();
        };
        // An earlier attempt wrote them to memory.
        write(file);
        write(&folder.join("data.arrow"));
        for _ in 0..2 {
            dir.put_on_disk(file, Output::File).unwrap();
            dir.put_on_disk(folder, Output::Folder).unwrap();
        }
        for place in [file, &folder.join("data.arrow")] {
            write(place);
            assert_eq!(std::fs::read(parent.path().join("disk/x").join(place)).unwrap(), b"rows");
            assert_eq!(std::fs::read(dir.path().join(place)).unwrap(), b"rows");
        }
        dir.remove_job("job", &[2]).await.unwrap();
        for root in ["disk", "memory"] {
            let job = parent.path().join(root).join("x/job");
            assert!(job.join("1").exists() && !job.join("2").exists(), "{root}");
        }
        dir.remove_job("job", &[]).await.unwrap();
        let is_empty = |root: &str| !parent.path().join(root).join("x/job").exists();
        assert!(is_empty("disk") && is_empty("memory"));
        dir.remove();
        assert!(!parent.path().join("disk/x").exists() && !parent.path().join("memory/x").exists());
    }

    fn task(job: &str, stage_id: usize, task_id: usize) -> TaskKey {
        TaskKey { job_id: job.to_owned().into(), stage_id, task_id }
    }

    #[tokio::test]
    async fn memory_is_held_until_jobs_or_stages_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dir = with_memory(parent.path(), 10);
        assert!(dir.hold(&task("a", 1, 0), 4) && dir.hold(&task("a", 2, 0), 4) && !dir.hold(&task("b", 1, 0), 3));
        assert!(
            dir.hold(&task("a", 2, 0), 6) && !dir.hold(&task("a", 2, 1), 1),
            "an attempt takes the place of another"
        );
        dir.remove_job("a", &[2]).await.unwrap();
        assert!(dir.hold(&task("b", 1, 0), 6) && !dir.hold(&task("b", 1, 1), 1));
        dir.remove_job("a", &[]).await.unwrap();
        assert!(dir.hold(&task("b", 2, 0), 4));
    }

    #[test]
    fn sweeping_gives_room_back_and_shows_that_the_executor_is_there() {
        let parent = tempfile::tempdir().unwrap();
        let dir = with_memory(parent.path(), 10);
        std::fs::create_dir_all(dir.path().join("there/1")).unwrap();
        assert!(dir.hold(&task("gone", 1, 0), 6) && dir.hold(&task("there", 1, 0), 4));
        let long_ago = SystemTime::now() - 2 * STALE;
        dir.folders().for_each(|folder| File::open(folder).unwrap().set_modified(long_ago).unwrap());
        dir.sweep();
        assert!(dir.folders().all(|folder| age(folder, 0).unwrap() < STALE));
        assert!(dir.hold(&task("new", 1, 0), 6) && !dir.hold(&task("new", 1, 1), 1));
    }

    #[test]
    fn with_room_left_a_task_failed_for_another_reason() {
        let parent = tempfile::tempdir().unwrap();
        let dir = with_memory(parent.path(), ROOM);
        assert!(dir.has_memory() && !dir.was_full() && dir.has_memory());
    }

    #[test]
    fn without_memory_all_lies_on_disk() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("memory"), "no folder").unwrap();
        let dir = with_memory(parent.path(), ROOM);
        assert!(!dir.has_memory() && !dir.was_full() && !dir.hold(&task("a", 1, 0), 0));
        assert_eq!(dir.path(), parent.path().join("disk/x"));
        dir.put_on_disk(Path::new("a/1/0/data-0.arrow"), Output::File).unwrap();
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
