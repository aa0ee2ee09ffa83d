//! Sparse vectors to dense ones, which models read.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams, VectorShape};
use crate::functions::sparse_to_dense::{MAX_DENSE_SIZE, sparse_to_dense};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "sparse_to_dense";
const PARAMS: [&str; 2] = ["inputs", "outputs"];

/// Sparse vectors as dense ones of the same size, of at most 2^14 elements: models read each element as a number. Spark
/// ML has no such stage, since its models read both.
///
/// Null stays null. Parameters: `inputs`, `outputs`. Learns nothing.
#[derive(Debug, Clone)]
pub struct SparseToDense {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl SparseToDense {
    /// Makes vectors dense in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs }))
    }
}

/// The size of a column of sparse vectors; none where only the fit finds it.
fn size_of(scope: &Scope, name: &str) -> Result<Option<usize>> {
    match scope.vector(name)? {
        VectorShape::Sparse(Some(size)) if size > MAX_DENSE_SIZE => Err(MlError::Invalid(format!(
            "column {name:?} is a sparse vector of {size} numbers; expected at most {MAX_DENSE_SIZE}: hash into fewer, \
             or take a smaller vocabulary"
        ))),
        VectorShape::Sparse(size) => Ok(size),
        dense => Err(MlError::Invalid(format!("column {name:?} is {dense}; expected a sparse vector"))),
    }
}

impl Stage for SparseToDense {
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
        let columns = self.inputs.iter().zip(&self.outputs);
        columns.map(|(input, output)| Ok(StageColumn::vector(output, size_of(scope, input)?))).collect()
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let size = |name: &String| {
            size_of(scope, name)?.ok_or_else(|| {
                MlError::Internal(format!("the size of vector {name:?} is not known when {NAME} is fitted"))
            })
        };
        Ok(Arc::new(FittedSparseToDense {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            sizes: self.inputs.iter().map(size).collect::<Result<_>>()?,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedSparseToDense {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    sizes: Vec<usize>,
}

impl FittedStage for FittedSparseToDense {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.sizes);
        let output = |((input, output), &size): ((&String, &String), &usize)| FittedOutput {
            column: output.clone(),
            expr: sparse_to_dense(ident(input), size),
            kind: FeatureKind::Vector { size },
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.sizes);
        columns.map(|(c, size)| format!("{c} as {size} numbers")).collect::<Vec<_>>().join(", ")
    }
}
