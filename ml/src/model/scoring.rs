//! A model ready to score table rows.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;

use super::{Manifest, ModelOutput, ModelVersion};
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
    output: ModelOutput,
}

impl ScoringModel {
    /// Of its parts.
    ///
    /// # Errors
    /// A pipeline that does not compile.
    pub fn new(manifest: Manifest, pipeline: PipelineModel, model: Box<dyn Model>) -> Result<Self> {
        let compiled = pipeline.compile(&pipeline.input_schema())?;
        let output = manifest.signature.model_output();
        Ok(Self { manifest, pipeline, compiled, model, output })
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

    /// What it gives for a row.
    pub fn output(&self) -> &ModelOutput {
        &self.output
    }

    /// What the model gives for each row, of the type of [`Self::output`]; null for a row that a stage drops.
    ///
    /// Columns are found by name, in any order; numbers of another type are converted where nothing is lost. A row's
    /// score does not depend on the rows beside it.
    ///
    /// # Errors
    /// An input that is missing or cannot be converted (naming it), or a value that a stage refuses.
    pub fn score(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        score(&self.compiled, self.model.as_ref(), &self.output, batch)
    }
}

/// Scores the rows that the pipeline keeps, and puts nulls where it dropped one.
pub(super) fn score(
    pipeline: &CompiledPipeline,
    model: &dyn Model,
    output: &ModelOutput,
    batch: &RecordBatch,
) -> Result<ArrayRef> {
    let rows = pipeline.apply_rows(batch)?;
    let scores = model.predict(&rows.features)?;
    let expected = rows.features.n_rows * output.n_outputs();
    if scores.len() != expected {
        return Err(MlError::Internal(format!(
            "estimator {:?} gave {} numbers for {} rows, expected {expected}",
            model.estimator(),
            scores.len(),
            rows.features.n_rows
        )));
    }
    let scored = output.array(scores)?;
    let Some(kept) = rows.kept else {
        return Ok(scored);
    };
    let mut places = vec![None; batch.num_rows()];
    for (&row, place) in kept.values().iter().zip(0..) {
        places[row as usize] = Some(place);
    }
    Ok(take(&scored, &UInt32Array::from(places), None)?)
}
