//! Making the files of a sink the content of a plain directory.
//!
//! A directory has no log, so its content cannot change in one step. What is guaranteed: files are
//! written elsewhere first (`_staging/<run>`, which readers skip); a run that fails while it writes
//! leaves the directory as it was; so does one that fails while its files are moved in; old files go
//! only after all new ones are there. A reader in between may see rows of both, and a driver that dies
//! between the last move and the last removal leaves both until the same run is made again, which
//! removes them. Who needs more writes a Delta table.

use std::collections::HashSet;
use std::path::Path as FsPath;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;

use super::written::WrittenFile;
use crate::error::{ConnectorError, Result};
use crate::files::PartitionValues;
use crate::files::partition::directory;
use crate::stores::Location;

/// Files moved or deleted at a time.
const CONCURRENT_MOVES: usize = 16;
const STAGING: &str = "_staging";

/// Which files of the directory the new ones replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishMode {
    /// None.
    Append,
    /// Those of exactly these partitions, partitions without new files included.
    ReplacePartitions(Vec<PartitionValues>),
    /// All.
    ReplaceAll,
}

/// Where a sink writes the files of a run that are published to `target` afterwards.
pub fn staging(target: &Location, run_id: &str) -> Location {
    target.join(STAGING).join(run_id)
}

/// Moves `files`, written by a sink to `staged`, into the directory `target`, and then removes the
/// files that they replace. See the module for what is guaranteed.
///
/// # Errors
/// `InvalidInput` for a file outside the partitions to be replaced; the store's. When a file cannot be
/// moved, those that were are removed again.
pub async fn publish(
    target: &Location,
    staged: &Location,
    partition_by: &[String],
    files: &[WrittenFile],
    mode: &PublishMode,
) -> Result<()> {
    check(files, mode)?;
    let old = replaced(target, partition_by, mode).await?;
    let moves: Vec<_> = files.iter().map(|file| rename(staged.join(&file.path), target.join(&file.path))).collect();
    let moved = stream::iter(moves).buffer_unordered(CONCURRENT_MOVES).try_collect::<Vec<()>>().await;
    if let Err(error) = moved {
        delete_all(files.iter().map(|file| target.join(&file.path))).await?;
        return Err(error);
    }
    let new: HashSet<Location> = files.iter().map(|file| target.join(&file.path)).collect();
    delete_all(old.into_iter().filter(|file| !new.contains(file))).await?;
    remove_staging(staged).await
}

/// Moves the one file of a single-file sink to `target`, replacing a file that is there: in one step
/// on the local disk, and on S3 as far as readers can tell.
///
/// # Errors
/// `Internal` unless there is one file; the store's.
pub async fn publish_file(target: &Location, staged: &Location, files: &[WrittenFile]) -> Result<()> {
    let [file] = files else {
        return Err(ConnectorError::internal(format!("expected one file to publish, got {}", files.len())));
    };
    rename(staged.join(&file.path), target.clone()).await?;
    remove_staging(staged).await
}

/// Deletes what a run wrote below `location` and did not commit: the files that bear its name and are
/// not in `committed`. For a driver that gives up, or takes up a run that died.
///
/// # Errors
/// The store's.
pub async fn discard_run(location: &Location, run_id: &str, committed: &[WrittenFile]) -> Result<usize> {
    let keep: HashSet<Location> = committed.iter().map(|file| location.join(&file.path)).collect();
    let mark = format!("part-{run_id}-");
    let found = location.list().await?;
    let leftovers: Vec<Location> = found
        .iter()
        .filter(|meta| meta.location.filename().is_some_and(|name| name.starts_with(&mark)))
        .map(|meta| location.at(&meta.location))
        .filter(|file| !keep.contains(file))
        .collect();
    let count = leftovers.len();
    delete_all(leftovers.into_iter()).await?;
    remove_staging(&staging(location, run_id)).await?;
    Ok(count)
}

fn check(files: &[WrittenFile], mode: &PublishMode) -> Result<()> {
    let PublishMode::ReplacePartitions(partitions) = mode else {
        return Ok(());
    };
    match files.iter().find(|file| !partitions.contains(&file.partition_values)) {
        None => Ok(()),
        Some(file) => Err(ConnectorError::invalid(format!(
            "rows were written to the partition {}, which is not among those to be replaced",
            file.partition_values
        ))),
    }
}

async fn replaced(target: &Location, partition_by: &[String], mode: &PublishMode) -> Result<Vec<Location>> {
    let places = match mode {
        PublishMode::Append => vec![],
        PublishMode::ReplaceAll => vec![target.clone()],
        PublishMode::ReplacePartitions(partitions) => {
            partitions.iter().map(|values| partition_directory(target, partition_by, values)).collect()
        }
    };
    let mut old = vec![];
    for place in places {
        let prefix = target.prefix();
        let found = place.list().await?;
        let visible = found.iter().filter(|meta| {
            let mut parts = meta.location.prefix_match(&prefix).into_iter().flatten();
            parts.next().is_some_and(|part| part.as_ref() != STAGING)
        });
        old.extend(visible.map(|meta| target.at(&meta.location)));
    }
    Ok(old)
}

fn partition_directory(target: &Location, names: &[String], values: &PartitionValues) -> Location {
    let parts = names.iter().zip(&values.0).map(|(name, value)| directory(name, value.as_deref()));
    target.join(&parts.collect::<Vec<_>>().join("/"))
}

async fn rename(from: Location, to: Location) -> Result<()> {
    let moved = from.store()?.rename(&from.prefix(), &to.prefix()).await;
    moved.map_err(|error| to.failed("writing", error))
}

async fn delete_all(files: impl Iterator<Item = Location>) -> Result<()> {
    let deletions: Vec<_> = files.map(|file| async move { file.delete().await }).collect();
    stream::iter(deletions).buffer_unordered(CONCURRENT_MOVES).try_collect().await
}

/// Whatever a run left in its staging directory, and on a disk the directories as well.
async fn remove_staging(staged: &Location) -> Result<()> {
    let found = staged.list().await?;
    delete_all(found.iter().map(|meta| staged.at(&meta.location))).await?;
    if let Some(path) = staged.local_path() {
        remove_empty_directories(&path);
        if let Some(parent) = path.parent().filter(|parent| parent.ends_with(STAGING)) {
            // Fails while another run still stages there, as it should.
            drop(std::fs::remove_dir(parent));
        }
    }
    Ok(())
}

/// Best effort: an empty directory is no data.
fn remove_empty_directories(path: &FsPath) {
    if let Ok(entries) = std::fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_empty_directories(&entry.path());
            }
        }
        drop(std::fs::remove_dir(path));
    }
}
