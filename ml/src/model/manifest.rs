//! What is known of a registered model.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::output::{Classes, ModelOutput};
use crate::codec::{canonical_json, exact, metrics};
use crate::estimator::{Params, ProblemType};
use crate::pipeline::InputColumn;
use crate::profile::Profile;
use crate::{MlError, Result};

/// The format of manifests that this version writes, and the newest that it reads.
pub const MANIFEST_FORMAT_VERSION: u64 = 1;

/// The number of a registered version, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelVersion(pub u64);

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One column that a model reads or gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: String,
}

/// What a model reads and gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The table columns that it reads.
    pub inputs: Vec<SignatureColumn>,
    /// The column that it gives.
    pub output: SignatureColumn,
    /// What it was trained for.
    #[serde(default, skip_serializing_if = "is_binary")]
    pub problem_type: ProblemType,
    /// The classes of a multiclass label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
}

/// Manifests from before there were other problems say nothing of theirs.
fn is_binary(problem: &ProblemType) -> bool {
    *problem == ProblemType::Binary
}

impl Signature {
    /// Of a model that reads these columns.
    pub fn of(inputs: &[InputColumn], problem_type: ProblemType, classes: Option<Classes>) -> Self {
        let column = |name: &str, data_type: String| SignatureColumn { name: name.to_owned(), data_type };
        let name = if is_binary(&problem_type) { "score" } else { "prediction" };
        let output = ModelOutput::of(problem_type, classes.as_ref());
        Self {
            inputs: inputs.iter().map(|i| column(&i.name, i.data_type.to_string())).collect(),
            output: column(name, output.data_type().to_string()),
            problem_type,
            classes,
        }
    }

    /// What it gives for a row.
    pub fn model_output(&self) -> ModelOutput {
        ModelOutput::of(self.problem_type, self.classes.as_ref())
    }
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The BLAKE3 digest of its bytes, in hexadecimal.
    pub digest: String,
    /// Its size.
    pub size_bytes: u64,
}

impl FileEntry {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: blake3::hash(bytes).to_hex().to_string(), size_bytes: bytes.len() as u64 }
    }
}

/// A feature view that a model reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureViewRef {
    /// Its name.
    pub name: String,
    /// The version of its definition.
    pub version: u64,
    /// The digest of its definition.
    pub digest: String,
}

/// What is known of a registered version. It never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this manifest.
    pub format_version: u64,
    /// The model's name.
    pub name: String,
    /// The version's number.
    pub version: ModelVersion,
    /// The digest of what scores: pipeline, artifacts, signature and threshold; not of times, metrics or origin.
    pub digest: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// What it reads and gives.
    pub signature: Signature,
    /// The estimator that trained it and reads it back.
    pub estimator: String,
    /// The parameters that it was trained with.
    pub params: Params,
    /// The metrics that it was chosen and evaluated by.
    #[serde(with = "metrics")]
    pub metrics: BTreeMap<String, f64>,
    /// The score from which a row is predicted to be of class 1.
    #[serde(with = "exact")]
    pub threshold: f64,
    /// The exact versions of its training data.
    pub training_data: Vec<Value>,
    /// The query that gave the rows that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_query: Option<String>,
    /// The feature views that were joined to them, and have to be wherever it scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature_views: Vec<FeatureViewRef>,
    /// What was in the columns that it reads when it was trained: what later data is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The run that made it.
    pub run_id: String,
    /// The version of the code that made it.
    pub code_version: String,
    /// Its files by name.
    pub files: BTreeMap<String, FileEntry>,
    /// The file with table rows and the scores that they must get.
    pub parity_sample: String,
}

impl Manifest {
    /// Its JSON.
    ///
    /// # Errors
    /// Parameters or data versions that have no JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical_json(self)
    }

    /// Reads its JSON.
    ///
    /// # Errors
    /// [`MlError::Corrupt`] for damaged bytes and for those of a newer format.
    pub fn from_bytes(bytes: &[u8], what: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let corrupt = |why: String| MlError::Corrupt { what: what.to_owned(), why };
        let version: Version = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        if version.format_version > MANIFEST_FORMAT_VERSION {
            return Err(corrupt(format!(
                "it has format {}, this version reads up to {MANIFEST_FORMAT_VERSION}; use a newer tidemill",
                version.format_version
            )));
        }
        serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))
    }
}
