//! What training made, and the files that it becomes.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::manifest::{FeatureViewRef, FileEntry, MANIFEST_FORMAT_VERSION, Manifest, ModelVersion, Signature};
use super::output::{Classes, ModelOutput};
use super::parity::{self, MAX_PARITY_ROWS};
use super::scoring::{self, ScoringModel};
use crate::codec::{canonical_json, exact};
use crate::estimator::{Artifacts, EstimatorRegistry, Model, Params, ProblemType};
use crate::pipeline::PipelineModel;
use crate::stage::StageRegistry;
use crate::{MlError, Result};

/// The file of the fitted pipeline.
const PIPELINE_FILE: &str = "pipeline.json";
/// The folder of the trained model's files.
const MODEL_FOLDER: &str = "model/";

/// All that is registered with a model.
#[derive(Debug)]
pub struct ModelPackage {
    /// From table columns to features.
    pub pipeline: PipelineModel,
    /// From features to scores.
    pub model: Box<dyn Model>,
    /// What it was trained for.
    pub problem_type: ProblemType,
    /// The classes of a multiclass label.
    pub classes: Option<Classes>,
    /// The parameters that it was trained with.
    pub params: Params,
    /// The metrics that it was chosen and evaluated by.
    pub metrics: BTreeMap<String, f64>,
    /// The score from which a row is predicted to be of class 1.
    pub threshold: f64,
    /// The exact versions of its training data.
    pub training_data: Vec<Value>,
    /// The query that gave its rows, where there was one.
    pub input_query: Option<String>,
    /// The feature views that were joined to them.
    pub feature_views: Vec<FeatureViewRef>,
    /// The run that made it.
    pub run_id: String,
    /// The version of the code that made it.
    pub code_version: String,
    /// Table rows, at least one; the first [`MAX_PARITY_ROWS`] are kept with their scores, and scored again at each load.
    pub parity_sample: RecordBatch,
}

/// A package as files, and its manifest but for name, version and time.
#[derive(Debug, Clone)]
pub struct PackedModel {
    /// The files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    draft: Manifest,
}

impl ModelPackage {
    /// Writes the files, and scores the parity sample.
    ///
    /// # Errors
    /// A sample without rows or that cannot be scored, or a model that cannot be written.
    pub fn pack(&self) -> Result<PackedModel> {
        // The profile goes into the manifest: it is no part of what scores.
        let pipeline = self.pipeline.clone().with_profile(None);
        let mut files = BTreeMap::from([(PIPELINE_FILE.to_owned(), pipeline.to_bytes()?)]);
        for (name, bytes) in self.model.save()? {
            files.insert(format!("{MODEL_FOLDER}{name}"), bytes);
        }
        let signature = Signature::of(self.pipeline.inputs(), self.problem_type, self.classes.clone());
        let digest = digest(&files, &signature, self.model.estimator(), self.threshold)?;
        let sample = self.sample(&signature.model_output())?;
        let parity_sample = format!("parity-{}.arrow", blake3::hash(&sample).to_hex());
        files.insert(parity_sample.clone(), sample);
        let draft = Manifest {
            format_version: MANIFEST_FORMAT_VERSION,
            name: String::new(),
            version: ModelVersion(0),
            digest,
            created_at: DateTime::UNIX_EPOCH,
            signature,
            estimator: self.model.estimator().to_owned(),
            params: self.params.clone(),
            metrics: self.metrics.clone(),
            threshold: self.threshold,
            training_data: self.training_data.clone(),
            input_query: self.input_query.clone(),
            feature_views: self.feature_views.clone(),
            profile: self.pipeline.profile().cloned(),
            run_id: self.run_id.clone(),
            code_version: self.code_version.clone(),
            files: files.iter().map(|(name, bytes)| (name.clone(), FileEntry::of(bytes))).collect(),
            parity_sample,
        };
        Ok(PackedModel { files, draft })
    }

    fn sample(&self, output: &ModelOutput) -> Result<Vec<u8>> {
        let rows = self.parity_sample.slice(0, self.parity_sample.num_rows().min(MAX_PARITY_ROWS));
        if rows.num_rows() == 0 {
            return Err(MlError::Invalid("a model needs a parity sample of at least one row".to_owned()));
        }
        let schema = rows.schema();
        let index = |input: &crate::pipeline::InputColumn| Ok(schema.index_of(&input.name)?);
        let indices = self.pipeline.inputs().iter().map(index).collect::<Result<Vec<_>>>()?;
        let rows = rows.project(&indices)?;
        let compiled = self.pipeline.compile(&self.pipeline.input_schema())?;
        let scores = scoring::score(&compiled, self.model.as_ref(), output, &rows)?;
        parity::write(&rows, scores)
    }
}

impl PackedModel {
    /// The digest of what scores.
    pub fn digest(&self) -> &str {
        &self.draft.digest
    }

    /// The manifest of this package as a version of a model.
    pub fn manifest(&self, name: &str, version: ModelVersion, created_at: DateTime<Utc>) -> Manifest {
        Manifest { name: name.to_owned(), version, created_at, ..self.draft.clone() }
    }
}

/// Loads a model from its files: each has the digest in the manifest, and the parity sample scores as it did.
///
/// # Errors
/// [`MlError::Corrupt`] naming the file, or the row that scores otherwise.
pub(crate) fn unpack(
    manifest: Manifest,
    files: &BTreeMap<String, Vec<u8>>,
    stages: &StageRegistry,
    estimators: &EstimatorRegistry,
) -> Result<ScoringModel> {
    for (name, entry) in &manifest.files {
        check_file(name, entry, file(files, name)?)?;
    }
    let pipeline = PipelineModel::from_bytes(file(files, PIPELINE_FILE)?, stages)?;
    let of_model =
        |(name, bytes): (&String, &Vec<u8>)| Some((name.strip_prefix(MODEL_FOLDER)?.to_owned(), bytes.clone()));
    let artifacts: Artifacts = files.iter().filter_map(of_model).collect();
    let model = estimators.get(&manifest.estimator)?.load(pipeline.model_features(), &artifacts)?;
    let (rows, expected) = parity::read(file(files, &manifest.parity_sample)?)?;
    let model = ScoringModel::new(manifest, pipeline, model)?;
    parity::check(&expected, &model.score(&rows)?)?;
    Ok(model)
}

/// Checks that a file's bytes are those that were registered.
pub(crate) fn check_file(name: &str, entry: &FileEntry, bytes: &[u8]) -> Result<()> {
    let got = FileEntry::of(bytes);
    if got == *entry {
        return Ok(());
    }
    Err(MlError::Corrupt {
        what: format!("file {name:?} of the model"),
        why: format!(
            "it has {} bytes with digest {}, registered were {} bytes with digest {}; restore it or train again",
            got.size_bytes, got.digest, entry.size_bytes, entry.digest
        ),
    })
}

fn file<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a [u8]> {
    files
        .get(name)
        .map(Vec::as_slice)
        .ok_or_else(|| MlError::Corrupt { what: "the model".to_owned(), why: format!("it has no file {name:?}") })
}

fn digest(files: &BTreeMap<String, Vec<u8>>, signature: &Signature, estimator: &str, threshold: f64) -> Result<String> {
    let files: BTreeMap<&String, String> =
        files.iter().map(|(name, bytes)| (name, blake3::hash(bytes).to_hex().to_string())).collect();
    let threshold = exact::to_text(threshold);
    let bytes = canonical_json(&(files, signature, estimator, threshold))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
