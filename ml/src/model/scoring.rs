//! A model ready to score table rows.

use arrow::array::{Float64Array, RecordBatch};

use super::{Manifest, ModelVersion};
use crate::estimator::Model;
use crate::pipeline::{CompiledPipeline, PipelineModel};
use crate::{MlError, Result};

/// A fitted pipeline and a trained model: table rows in, scores out.
#[derive(Debug)]
pub struct ScoringModel {
    manifest: Manifest,
    pipeline: PipelineModel,
    compiled: CompiledPipeline,
    model: Box<dyn Model>,
}

impl ScoringModel {
    /// Of its parts.
    ///
    /// # Errors
    /// A pipeline that does not compile.
    pub fn new(manifest: Manifest, pipeline: PipelineModel, model: Box<dyn Model>) -> Result<Self> {
        let compiled = pipeline.compile(&pipeline.input_schema())?;
        Ok(Self { manifest, pipeline, compiled, model })
    }

    /// What is known of it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its version.
    pub fn version(&self) -> ModelVersion {
        self.manifest.version
    }

    /// Its digest.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// The score from which a row is predicted to be of class 1.
    pub fn threshold(&self) -> f64 {
        self.manifest.threshold
    }

    /// Its pipeline.
    pub fn pipeline(&self) -> &PipelineModel {
        &self.pipeline
    }

    /// Its trained model.
    pub fn model(&self) -> &dyn Model {
        self.model.as_ref()
    }

    /// The score of each row, `[n_rows]`; null for a row that a stage drops.
    ///
    /// Columns are found by name, in any order; numbers of another type are converted where nothing is lost. A row's
    /// score does not depend on the rows beside it.
    ///
    /// # Errors
    /// An input that is missing or cannot be converted (naming it), or a value that a stage refuses.
    pub fn score(&self, batch: &RecordBatch) -> Result<Float64Array> {
        score(&self.compiled, self.model.as_ref(), batch)
    }
}

/// Scores the rows that the pipeline keeps, and puts nulls where it dropped one.
pub(super) fn score(pipeline: &CompiledPipeline, model: &dyn Model, batch: &RecordBatch) -> Result<Float64Array> {
    let rows = pipeline.apply_rows(batch)?;
    let scores = model.predict(&rows.features)?;
    if scores.len() != rows.features.n_rows {
        return Err(MlError::Internal(format!(
            "estimator {:?} gave {} scores for {} rows",
            model.estimator(),
            scores.len(),
            rows.features.n_rows
        )));
    }
    let Some(kept) = rows.kept else {
        return Ok(scores.into());
    };
    let mut all = vec![None; batch.num_rows()];
    for (&row, score) in kept.values().iter().zip(scores) {
        all[row as usize] = Some(score);
    }
    Ok(all.into())
}
