//! Moves of an alias.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::codec::canonical_json;
use crate::model::ModelVersion;
use crate::{MlError, Result};

/// One move of an alias. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasEntry {
    /// The move's number, from 1.
    pub number: u64,
    /// The alias, without `@`.
    pub alias: String,
    /// The version that it stands for from this move on.
    pub version: ModelVersion,
    /// The version before; none for the first move.
    pub previous: Option<ModelVersion>,
    /// Why it moved.
    pub reason: String,
    /// When it moved.
    pub time: DateTime<Utc>,
}

/// A move to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasMove {
    /// The version that the alias is to stand for.
    pub version: ModelVersion,
    /// Why.
    pub reason: String,
    /// Where it must be before.
    pub expected: Expected,
}

/// Where an alias must be for a move to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anywhere.
    Any,
    /// It must not exist yet.
    None,
    /// At this version.
    Version(ModelVersion),
}

impl AliasEntry {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical_json(self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|e| MlError::Corrupt { what: "a move of an alias".to_owned(), why: e.to_string() })
    }
}

impl AliasMove {
    pub(super) fn entry(&self, alias: &str, current: Option<&AliasEntry>) -> AliasEntry {
        AliasEntry {
            number: current.map_or(1, |entry| entry.number + 1),
            alias: alias.to_owned(),
            version: self.version,
            previous: current.map(|entry| entry.version),
            reason: self.reason.clone(),
            time: Utc::now(),
        }
    }
}

impl Expected {
    pub(super) fn check(self, name: &str, alias: &str, current: Option<&AliasEntry>) -> Result<()> {
        let current = current.map(|entry| entry.version);
        let expected = match self {
            Self::Any => return Ok(()),
            Self::None => None,
            Self::Version(version) => Some(version),
        };
        if current == expected {
            return Ok(());
        }
        let show = |version: Option<ModelVersion>| version.map_or("none".to_owned(), |v| format!("version {v}"));
        Err(MlError::Invalid(format!(
            "alias @{alias} of model {name:?} is {}, expected {}; another process moved it: compare again",
            show(current),
            show(expected)
        )))
    }
}
