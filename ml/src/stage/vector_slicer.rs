//! Chooses elements of vectors by their places.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use serde_json::Value;

use super::selector::FittedSelector;
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::{MlError, Result};

const NAME: &str = "vector_slicer";
const PARAMS: [&str; 3] = ["inputs", "outputs", "indices"];

/// The elements at `indices`, from 0, in this order, as Spark ML's `VectorSlicer`.
///
/// Null stays null (Spark fails). Parameters: `inputs`, `outputs`, `indices`, a list of whole numbers without twins.
/// Differs from Spark: there is no `names`, as elements have none of their own.
#[derive(Debug, Clone)]
pub struct VectorSlicer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    indices: Vec<usize>,
}

impl VectorSlicer {
    /// Keeps these elements, in place.
    ///
    /// # Errors
    /// No index, or one that comes twice.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, indices: &[usize]) -> Result<Self> {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        let comes_twice = |(i, index): (usize, &usize)| indices[..i].contains(index);
        if indices.is_empty() || indices.iter().enumerate().any(comes_twice) {
            return Err(MlError::Invalid(format!("expected \"indices\" that differ, at least one, got {indices:?}")));
        }
        Ok(Self { outputs: inputs.clone(), inputs, indices: indices.to_vec() })
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let outputs = params.outputs(&inputs)?;
        let indices: Vec<usize> = params.count_list("indices")?.into_iter().map(|index| index as usize).collect();
        Ok(Arc::new(Self { outputs, ..Self::new(inputs, &indices)? }))
    }
}

impl Stage for VectorSlicer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        for input in &self.inputs {
            let size = scope.dense_vector(input)?;
            if let Some(index) = self.indices.iter().find(|index| size.is_some_and(|size| **index >= size)) {
                return Err(MlError::Invalid(format!(
                    "column {input:?} is {}; it has no element {index}",
                    scope.column(input)?.describe()
                )));
            }
        }
        Ok(self.outputs.iter().map(|name| StageColumn::vector(name, Some(self.indices.len()))).collect())
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        // A size that was not known when the pipeline was checked.
        self.plan(scope)?;
        let indices = vec![self.indices.clone(); self.inputs.len()];
        FittedSelector::fitted(NAME, scope, &self.inputs, &self.outputs, indices)
    }
}
