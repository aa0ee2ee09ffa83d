//! Elements of vectors chosen by their places: what selectors fit to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::vector_expr;
use super::{FittedOutput, FittedStage, Scope};
use crate::functions::vector::slice::vector_slice;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

/// The elements that a stage keeps of each of its inputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedSelector {
    /// The name of the stage that was fitted.
    stage: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The size of each input.
    sizes: Vec<usize>,
    /// The places of the elements that are kept, for each input, in the order of the output.
    indices: Vec<Vec<usize>>,
}

impl FittedSelector {
    /// A stage that keeps these elements of each input.
    ///
    /// # Errors
    /// An input of which nothing is kept: there are no vectors without elements here.
    pub(super) fn fitted(
        stage: &str,
        scope: &Scope,
        inputs: &[String],
        outputs: &[String],
        indices: Vec<Vec<usize>>,
    ) -> Result<Arc<dyn FittedStage>> {
        if let Some((input, _)) = inputs.iter().zip(&indices).find(|(_, indices)| indices.is_empty()) {
            return Err(MlError::Invalid(format!("no element of vector {input:?} is selected; leave it out")));
        }
        Ok(Arc::new(Self {
            stage: stage.to_owned(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            sizes: inputs.iter().map(|input| scope.fitted_vector(input)).collect::<Result<_>>()?,
            indices,
        }))
    }
}

impl FittedStage for FittedSelector {
    fn name(&self) -> &str {
        &self.stage
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(self.sizes.iter().zip(&self.indices));
        let output = |((input, output), (&size, indices)): ((&String, &String), (&usize, &Vec<usize>))| FittedOutput {
            column: output.clone(),
            expr: vector_slice(vector_expr(input, size), indices),
            kind: FeatureKind::Vector { size: indices.len() },
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(self.sizes.iter().zip(&self.indices));
        let lines: Vec<String> =
            columns.map(|(input, (size, indices))| format!("{input}{indices:?} of {size} elements")).collect();
        lines.join(", ")
    }
}
