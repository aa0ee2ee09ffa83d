//! The model registry: versions and aliases as logs of numbered entries on an object store.
//!
//! Under the registry's prefix: `<name>/artifacts/<digest>/…` (files, written first, never changed),
//! `<name>/versions/<number>.json` (the manifest; creating it is the commit) and
//! `<name>/aliases/<alias>/<number>.json` (each move of an alias; the latest rules). Every entry is created by one
//! conditional put of the next number; who loses the race for a number takes the one after it. Nothing is overwritten
//! or deleted, so any number of processes may register and promote at once, and any may die at any point.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::estimator::EstimatorRegistry;
use crate::model::{FileEntry, Manifest, ModelCache, ModelPackage, ModelVersion, PackedModel, ScoringModel};
use crate::model::{check_file, unpack};
use crate::stage::StageRegistry;
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

mod alias;
mod log;
mod names;
mod reference;

pub use alias::{AliasEntry, AliasMove, Expected};
pub use reference::{ModelRef, ModelSelector};

use log::NumberedLog;

/// Times that a lost race for a number is tried again: each loss means that another writer succeeded.
const MAX_LOST_RACES: usize = 1024;
/// Requests to the store at a time for one call.
const MAX_PARALLEL_REQUESTS: usize = 8;

/// Registered models.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    stages: StageRegistry,
    estimators: EstimatorRegistry,
}

/// What [`Registry::register`] did.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The version that the model has.
    pub version: ModelVersion,
    /// Whether a version with the same digest was there already; nothing was written then.
    pub already_registered: bool,
    /// The version's manifest.
    pub manifest: Manifest,
}

/// A registered model in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// Its latest version.
    pub latest: ModelVersion,
    /// Its aliases and the versions that they stand for.
    pub aliases: BTreeMap<String, ModelVersion>,
}

impl Registry {
    /// The registry under a prefix of a store.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        stages: StageRegistry,
        estimators: EstimatorRegistry,
    ) -> Self {
        Self { store, prefix, stages, estimators }
    }

    /// Registers a package as the next version of a model, unless a version with its digest is there.
    ///
    /// Before anything is committed the files are read back as a model and the parity sample is scored again. What is
    /// left by a writer that died are artifacts without a manifest: no version, and no harm to the next writer.
    ///
    /// # Errors
    /// A name that cannot be one, a package that does not read back to the same scores, or a failing store.
    pub async fn register(&self, name: &str, package: &ModelPackage) -> Result<Registered> {
        names::check("model", name)?;
        let packed = package.pack()?;
        let draft = packed.manifest(name, ModelVersion(0), Utc::now());
        unpack(draft, &packed.files, &self.stages, &self.estimators)?;
        let log = self.version_log(name);
        let numbers = log.numbers().await?;
        if let Some(manifest) = self.with_digest(name, &numbers, packed.digest()).await? {
            return Ok(Registered { version: manifest.version, already_registered: true, manifest });
        }
        self.write_artifacts(name, &packed).await?;
        self.commit(name, &packed, numbers.last().copied().unwrap_or(0) + 1).await
    }

    /// All models, by name.
    ///
    /// # Errors
    /// A failing store.
    pub async fn list(&self) -> Result<Vec<ModelSummary>> {
        let mut summaries = Vec::new();
        for name in self.names().await? {
            let aliases = self.aliases(&name).await?;
            if let Some(&latest) = self.version_log(&name).numbers().await?.last() {
                summaries.push(ModelSummary { name, latest: ModelVersion(latest), aliases });
            }
        }
        Ok(summaries)
    }

    /// The manifests of a model's versions, in their order.
    ///
    /// # Errors
    /// A model that does not exist, or a failing store.
    pub async fn versions(&self, name: &str) -> Result<Vec<Manifest>> {
        let numbers = self.version_numbers(name).await?;
        let reads: Vec<_> = numbers.into_iter().map(|number| self.read_manifest(name, number)).collect();
        futures::stream::iter(reads).buffered(MAX_PARALLEL_REQUESTS).try_collect().await
    }

    /// The manifest of one version.
    ///
    /// # Errors
    /// A model or version that does not exist, a manifest of a newer format, or a failing store.
    pub async fn manifest(&self, name: &str, version: ModelVersion) -> Result<Manifest> {
        let numbers = self.version_numbers(name).await?;
        if !numbers.contains(&version.0) {
            let latest = numbers.last().copied().unwrap_or(0);
            return Err(MlError::NotFound(format!("model {name:?} has no version {version}; the latest is {latest}")));
        }
        self.read_manifest(name, version.0).await
    }

    /// The version that a reference stands for now.
    ///
    /// # Errors
    /// A model, version or alias that does not exist; the message says what to do.
    pub async fn resolve(&self, reference: &ModelRef) -> Result<ModelVersion> {
        let name = &reference.name;
        let numbers = self.version_numbers(name).await?;
        let latest = ModelVersion(numbers.last().copied().unwrap_or(0));
        match &reference.selector {
            ModelSelector::Latest => Ok(latest),
            ModelSelector::Version(version) if numbers.contains(&version.0) => Ok(*version),
            ModelSelector::Version(version) => {
                Err(MlError::NotFound(format!("model {name:?} has no version {version}; the latest is {latest}")))
            }
            ModelSelector::Alias(alias) => match self.current_alias(name, alias).await? {
                Some(entry) => Ok(entry.version),
                None => Err(MlError::NotFound(format!(
                    "model {name:?} has no alias @{alias}; run: tidemill models promote {name} {latest}"
                ))),
            },
        }
    }

    /// Loads a version: each file has its registered digest, and the parity sample scores as when it was registered.
    ///
    /// # Errors
    /// What does not exist, [`MlError::Corrupt`] naming the damaged file, or a failing store.
    pub async fn load(&self, name: &str, version: ModelVersion) -> Result<ScoringModel> {
        let manifest = self.manifest(name, version).await?;
        self.load_manifest(manifest).await
    }

    /// The same through a cache: loaded once for each digest.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn load_cached(
        &self,
        name: &str,
        version: ModelVersion,
        cache: &ModelCache,
    ) -> Result<Arc<ScoringModel>> {
        let manifest = self.manifest(name, version).await?;
        let digest = manifest.digest.clone();
        cache.get_or_load(&digest, || self.load_manifest(manifest)).await
    }

    /// Points an alias at a version, where `expected` still holds. Nothing is written when it points there already.
    ///
    /// # Errors
    /// A version that does not exist, an alias that is elsewhere than expected, or a failing store.
    pub async fn set_alias(&self, name: &str, alias: &str, change: AliasMove) -> Result<AliasEntry> {
        names::check("alias", alias)?;
        self.manifest(name, change.version).await?;
        let log = self.alias_log(name, alias);
        for _ in 0..MAX_LOST_RACES {
            let current = self.current_alias(name, alias).await?;
            change.expected.check(name, alias, current.as_ref())?;
            match current {
                Some(entry) if entry.version == change.version => return Ok(entry),
                current => {
                    let entry = change.entry(alias, current.as_ref());
                    if log.create(entry.number, entry.to_bytes()?).await? {
                        return Ok(entry);
                    }
                }
            }
        }
        Err(MlError::Internal(format!("alias @{alias} of model {name:?} moved {MAX_LOST_RACES} times meanwhile")))
    }

    /// All moves of an alias, in their order; the last one rules.
    ///
    /// # Errors
    /// A model that does not exist, or a failing store.
    pub async fn alias_history(&self, name: &str, alias: &str) -> Result<Vec<AliasEntry>> {
        self.version_numbers(name).await?;
        let log = self.alias_log(name, alias);
        let numbers = log.numbers().await?;
        let reads: Vec<_> = numbers.into_iter().map(|number| log.read(number)).collect();
        let entries: Vec<_> = futures::stream::iter(reads).buffered(MAX_PARALLEL_REQUESTS).try_collect().await?;
        entries.iter().map(|bytes| AliasEntry::from_bytes(bytes)).collect()
    }

    /// What an alias stood for at a time; none before its first move.
    ///
    /// # Errors
    /// As [`Self::alias_history`].
    pub async fn alias_at(&self, name: &str, alias: &str, time: DateTime<Utc>) -> Result<Option<ModelVersion>> {
        let history = self.alias_history(name, alias).await?;
        Ok(history.iter().rev().find(|entry| entry.time <= time).map(|entry| entry.version))
    }

    /// The aliases of a model and the versions that they stand for now.
    ///
    /// # Errors
    /// A failing store.
    pub async fn aliases(&self, name: &str) -> Result<BTreeMap<String, ModelVersion>> {
        let mut aliases = BTreeMap::new();
        for alias in self.folders(&self.model_path(name).join("aliases")).await? {
            if let Some(entry) = self.current_alias(name, &alias).await? {
                aliases.insert(alias, entry.version);
            }
        }
        Ok(aliases)
    }

    async fn commit(&self, name: &str, packed: &PackedModel, first_free: u64) -> Result<Registered> {
        let log = self.version_log(name);
        for number in (first_free..).take(MAX_LOST_RACES) {
            let manifest = packed.manifest(name, ModelVersion(number), Utc::now());
            if log.create(number, manifest.to_bytes()?).await? {
                return Ok(Registered { version: manifest.version, already_registered: false, manifest });
            }
            // Versions up to this one were all compared, so one digest never gets two numbers.
            let winner = self.read_manifest(name, number).await?;
            if winner.digest == packed.digest() {
                return Ok(Registered { version: winner.version, already_registered: true, manifest: winner });
            }
        }
        Err(MlError::Internal(format!("model {name:?} got {MAX_LOST_RACES} other versions meanwhile")))
    }

    async fn with_digest(&self, name: &str, numbers: &[u64], digest: &str) -> Result<Option<Manifest>> {
        let reads: Vec<_> = numbers.iter().rev().map(|&number| self.read_manifest(name, number)).collect();
        let mut manifests = futures::stream::iter(reads).buffered(MAX_PARALLEL_REQUESTS);
        while let Some(manifest) = manifests.try_next().await? {
            if manifest.digest == digest {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    async fn write_artifacts(&self, name: &str, packed: &PackedModel) -> Result<()> {
        let folder = self.artifacts_path(name, packed.digest());
        let write = |(file, bytes): (&String, &Vec<u8>)| {
            let (file, bytes) = (file.clone(), bytes.clone());
            let path = child(&folder, &file);
            async move { self.write_once(&file, path, bytes).await }
        };
        let writes: Vec<_> = packed.files.iter().map(write).collect();
        futures::stream::iter(writes).buffer_unordered(MAX_PARALLEL_REQUESTS).try_collect::<()>().await
    }

    /// Writes a file that is named by its content; one that is there must have that content.
    async fn write_once(&self, file: &str, path: Path, bytes: Vec<u8>) -> Result<()> {
        let entry = FileEntry::of(&bytes);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let there = self.store.get(&path).await?.bytes().await?;
                check_file(file, &entry, &there)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn load_manifest(&self, manifest: Manifest) -> Result<ScoringModel> {
        let folder = self.artifacts_path(&manifest.name, &manifest.digest);
        let read = |file: &String| {
            let (file, path) = (file.clone(), child(&folder, file));
            async move { Ok::<_, MlError>((file.clone(), self.read_file(&file, &path).await?)) }
        };
        let reads: Vec<_> = manifest.files.keys().map(read).collect();
        let files: BTreeMap<String, Vec<u8>> =
            futures::stream::iter(reads).buffer_unordered(MAX_PARALLEL_REQUESTS).try_collect().await?;
        unpack(manifest, &files, &self.stages, &self.estimators)
    }

    async fn read_file(&self, file: &str, path: &Path) -> Result<Vec<u8>> {
        match self.store.get(path).await {
            Ok(got) => Ok(got.bytes().await?.to_vec()),
            Err(object_store::Error::NotFound { .. }) => Err(MlError::Corrupt {
                what: format!("file {file:?} of the model"),
                why: format!("there is nothing at {path}; restore it or train again"),
            }),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_manifest(&self, name: &str, number: u64) -> Result<Manifest> {
        let bytes = self.version_log(name).read(number).await?;
        Manifest::from_bytes(&bytes, &format!("the manifest of {name}/{number}"))
    }

    async fn current_alias(&self, name: &str, alias: &str) -> Result<Option<AliasEntry>> {
        let log = self.alias_log(name, alias);
        match log.numbers().await?.last() {
            Some(&number) => Ok(Some(AliasEntry::from_bytes(&log.read(number).await?)?)),
            None => Ok(None),
        }
    }

    /// The numbers of a model's versions: at least one.
    async fn version_numbers(&self, name: &str) -> Result<Vec<u64>> {
        names::check("model", name)?;
        let numbers = self.version_log(name).numbers().await?;
        if !numbers.is_empty() {
            return Ok(numbers);
        }
        let names = self.names().await?;
        Err(MlError::NotFound(if names.is_empty() {
            format!("unknown model {name:?}; no model is registered yet, run a training job first")
        } else {
            let suggestion = did_you_mean(name, names.iter().map(String::as_str));
            format!("unknown model {name:?}{suggestion}; there are {}", names.join(", "))
        }))
    }

    async fn names(&self) -> Result<Vec<String>> {
        self.folders(&self.prefix).await
    }

    async fn folders(&self, path: &Path) -> Result<Vec<String>> {
        let list = self.store.list_with_delimiter(Some(path)).await?;
        let mut names: Vec<String> =
            list.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    fn model_path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn artifacts_path(&self, name: &str, digest: &str) -> Path {
        self.model_path(name).join("artifacts").join(digest)
    }

    fn version_log(&self, name: &str) -> NumberedLog {
        NumberedLog::new(Arc::clone(&self.store), self.model_path(name).join("versions"))
    }

    fn alias_log(&self, name: &str, alias: &str) -> NumberedLog {
        NumberedLog::new(Arc::clone(&self.store), self.model_path(name).join("aliases").join(alias))
    }
}

/// A file in a folder; its name may have folders of its own.
fn child(folder: &Path, file: &str) -> Path {
    file.split('/').fold(folder.clone(), |path, part| path.join(part))
}

#[cfg(test)]
mod tests;
