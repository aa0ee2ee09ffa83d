//! The versions of feature views, kept in the warehouse.
//!
//! `features/NAME/` is a log of numbered entries, each one definition with its version, created once by a conditional
//! put. A definition that has been there before keeps its version; an entry that only moves sources or changes what is
//! expected has the version of the one before.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_connectors::stores::Location;
use tidemill_ml::suggest::did_you_mean;

use super::FeatureView;
use crate::session::{Session, Warehouse};
use crate::{EngineError, Result};

/// How often a writer tries for the next number before it gives up.
const MAX_ATTEMPTS: usize = 16;

/// A feature view as it stands in the warehouse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredView {
    /// Counts definitions, from 1.
    pub version: u64,
    /// The definition's digest.
    pub digest: String,
    /// When this entry was written.
    pub declared_at: DateTime<Utc>,
    /// The definition.
    pub view: FeatureView,
}

impl DeclaredView {
    /// The warehouse table with its rows.
    pub fn table(&self) -> String {
        format!("{}_v{}", self.view.name, self.version)
    }
}

impl fmt::Display for DeclaredView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.view.name, self.version)
    }
}

impl Session {
    /// Makes a view known to the warehouse: a definition that is new gets the next version, one that was there keeps
    /// its own. Nothing is computed.
    ///
    /// # Errors
    /// A view that cannot be, a store that cannot be written.
    pub async fn declare_feature_view(&self, view: &FeatureView) -> Result<DeclaredView> {
        view.validate()?;
        let digest = view.digest();
        for _ in 0..MAX_ATTEMPTS {
            let entries = entries(self.warehouse(), &view.name).await?;
            let known = entries.iter().rev().find(|entry| entry.digest == digest);
            let newest = entries.iter().map(|entry| entry.version).max().unwrap_or(0);
            if let Some(known) = known.filter(|known| known.view == *view) {
                return Ok(known.clone());
            }
            let version = known.map_or(newest + 1, |known| known.version);
            let declared =
                DeclaredView { version, digest: digest.clone(), declared_at: Utc::now(), view: view.clone() };
            let entry = entry(self.warehouse(), &view.name, entries.len() + 1);
            if entry.create(serde_json::to_vec_pretty(&declared)?).await? {
                return Ok(declared);
            }
        }
        let message = format!("feature view {:?}: lost {MAX_ATTEMPTS} races for the next entry in a row", view.name);
        Err(EngineError::Environment { message, retryable: true })
    }

    /// A view by `NAME` (its newest version) or `NAME/VERSION`.
    ///
    /// # Errors
    /// A view or version that was never declared.
    pub async fn feature_view(&self, reference: &str) -> Result<DeclaredView> {
        let (name, version) = match reference.split_once('/') {
            None => (reference, None),
            Some((name, version)) => {
                let wrong = |_| EngineError::Invalid(format!("expected NAME or NAME/VERSION, got {reference:?}"));
                (name, Some(version.parse::<u64>().map_err(wrong)?))
            }
        };
        let entries = entries(self.warehouse(), name).await?;
        if entries.is_empty() {
            let known = names(self.warehouse()).await?;
            let hint = did_you_mean(name, known.iter().map(String::as_str));
            return Err(EngineError::NotFound(format!(
                "feature view {name:?} does not exist{hint}; declare it with: tidemill features materialize FILE"
            )));
        }
        let newest = entries.iter().map(|entry| entry.version).max().unwrap_or(0);
        let wanted = version.unwrap_or(newest);
        entries.into_iter().rev().find(|entry| entry.version == wanted).ok_or_else(|| {
            EngineError::NotFound(format!("feature view {name:?} has no version {wanted}; its newest is {newest}"))
        })
    }

    /// The newest version of every view, by name.
    ///
    /// # Errors
    /// A store that cannot be reached, an entry that is damaged.
    pub async fn feature_views(&self) -> Result<Vec<DeclaredView>> {
        let mut views = Vec::new();
        for name in names(self.warehouse()).await? {
            views.push(self.feature_view(&name).await?);
        }
        Ok(views)
    }
}

async fn names(warehouse: &Warehouse) -> Result<Vec<String>> {
    let mut names = warehouse.features().list_directories().await?;
    names.sort();
    Ok(names)
}

async fn entries(warehouse: &Warehouse, name: &str) -> Result<Vec<DeclaredView>> {
    let folder = warehouse.features().join(name);
    let mut entries = Vec::new();
    for file in folder.list().await? {
        let location = folder.at(&file.location);
        let damaged = |e: serde_json::Error| EngineError::Invalid(format!("{location} is damaged: {e}"));
        entries.push(serde_json::from_slice(&location.read().await?).map_err(damaged)?);
    }
    Ok(entries)
}

/// Names of entries sort as their numbers do.
fn entry(warehouse: &Warehouse, name: &str, number: usize) -> Location {
    warehouse.features().join(name).join(&format!("{number:020}.json"))
}
