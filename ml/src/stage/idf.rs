//! Vectors weighed by how rare each element is.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::vector_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams, VectorShape};
use crate::codec::exact;
use crate::functions::document_counts::{self, DocumentCounts};
use crate::functions::weigh_elements::{Weights, weigh_elements};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "idf";
const PARAMS: [&str; 3] = ["inputs", "outputs", "min_doc_freq"];

/// Multiplies each element of a vector by its inverse document frequency, as Spark ML's `IDF`: `ln((m + 1) / (d + 1))`
/// where `d` of `m` rows have the element above 0.
///
/// Elements that fewer than `min_doc_freq` rows have become 0. Vectors stay dense or sparse as they are; NaN is not
/// above 0, and stays NaN. Null vectors fail. Parameters: `inputs`, `outputs`, `min_doc_freq` (default 0).
#[derive(Debug, Clone)]
pub struct Idf {
    inputs: Vec<String>,
    outputs: Vec<String>,
    min_doc_freq: u32,
}

impl Idf {
    /// Weighs all elements, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, min_doc_freq: 0 }
    }

    /// The same with 0 for elements that fewer rows have.
    #[must_use]
    pub fn with_min_doc_freq(self, min_doc_freq: u32) -> Self {
        Self { min_doc_freq, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self {
            outputs: params.outputs(&inputs)?,
            inputs,
            min_doc_freq: params.count("min_doc_freq", 0..=u32::MAX, 0)?,
        }))
    }

    fn fit_column(&self, scope: &Scope, column: &str, counts: DocumentCounts) -> Result<Frequencies> {
        if counts.nulls > 0 {
            return Err(MlError::Invalid(format!(
                "column {column:?} has {} null vectors; leave such rows out in SQL",
                counts.nulls
            )));
        }
        if counts.documents == 0 {
            return Err(MlError::Invalid(format!("column {column:?} has no rows to fit to")));
        }
        let weight = |d: u64| {
            if d < u64::from(self.min_doc_freq) {
                0.0
            } else {
                ((counts.documents as f64 + 1.0) / (d as f64 + 1.0)).ln()
            }
        };
        let (is_sparse, size) = match scope.vector(column)? {
            VectorShape::Sparse(size) => (true, size),
            VectorShape::Dense(size) => (false, size),
        };
        let size = size.and_then(|size| u32::try_from(size).ok()).ok_or_else(|| {
            MlError::Internal(format!("the size of vector {column:?} is not known when {NAME} is fitted"))
        })?;
        Ok(Frequencies {
            is_sparse,
            size,
            weights: counts.counts.iter().map(|&d| weight(d)).collect(),
            indices: counts.indices,
            other: weight(0),
        })
    }
}

impl Stage for Idf {
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
        let column = |(input, output): (&String, &String)| {
            Ok(match scope.vector(input)? {
                VectorShape::Dense(size) => StageColumn::vector(output, size),
                VectorShape::Sparse(size) => StageColumn::sparse_vector(output, size),
            })
        };
        self.inputs.iter().zip(&self.outputs).map(column).collect()
    }

    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        Ok(self.inputs.iter().map(|column| document_counts::document_counts(ident(column))).collect())
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let column = |(column, value): (&String, &ScalarValue)| {
            self.fit_column(scope, column, document_counts::from_scalar(value)?)
        };
        Ok(Arc::new(FittedIdf {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            frequencies: self.inputs.iter().zip(values).map(column).collect::<Result<_>>()?,
        }))
    }
}

/// The weights of one column's elements.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Frequencies {
    is_sparse: bool,
    size: u32,
    /// The elements that any row of the fit had, ascending.
    indices: Vec<u32>,
    /// One for each of them.
    #[serde(with = "exact::list")]
    weights: Vec<f64>,
    /// That of all other elements.
    #[serde(with = "exact")]
    other: f64,
}

impl Frequencies {
    fn expr(&self, column: &str) -> Expr {
        let vectors = if self.is_sparse { ident(column) } else { vector_expr(column, self.size as usize) };
        let weights = Weights { indices: &self.indices, weights: &self.weights, other: self.other };
        weigh_elements(vectors, self.size, weights, NAME, column)
    }

    fn kind(&self) -> FeatureKind {
        let size = self.size as usize;
        if self.is_sparse { FeatureKind::SparseVector { size } } else { FeatureKind::Vector { size } }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedIdf {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    frequencies: Vec<Frequencies>,
}

impl FittedStage for FittedIdf {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.frequencies);
        let output = |((input, output), frequencies): ((&String, &String), &Frequencies)| FittedOutput {
            column: output.clone(),
            expr: frequencies.expr(input),
            kind: frequencies.kind(),
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.frequencies);
        let line = |(c, f): (&String, &Frequencies)| format!("{} of {} elements of {c} came", f.indices.len(), f.size);
        columns.map(line).collect::<Vec<_>>().join(", ")
    }
}
