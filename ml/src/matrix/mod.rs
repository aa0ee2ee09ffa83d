//! The training matrix: feature columns as models read them, in the order of the pipeline's output.
//!
//! A matrix is columnar. Numbers are `f64`; a category is an index into its labels, and a one-hot encoding of it is
//! a *property* of the column ([`FeatureKind::Category`]), never materialised: linear models look the weight up,
//! trees split on the index. A vector column becomes one number column for each of its elements.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::estimator::ProblemType;

/// One feature column of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// The column's name in the pipeline's output.
    pub name: String,
    /// How models read it.
    pub kind: FeatureKind,
}

/// How models read a feature column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureKind {
    /// A number, `Float64`.
    Number,
    /// A dense vector; models read it as this many numbers.
    Vector {
        /// How many elements it has.
        size: usize,
    },
    /// A sparse vector, for later stages and for tables; no model reads it.
    SparseVector {
        /// How many elements it has, the absent zeros among them.
        size: usize,
    },
    /// Text or a list, for later stages and for tables; no model reads it.
    Other,
    /// A category, `Float64` or integer index in `0..labels.len()`.
    Category {
        /// The labels by index; with `handle_invalid = keep` the last one is `__unknown`.
        labels: Vec<String>,
        /// How many of the indices have an indicator of their own in the one-hot view: an index at or above it
        /// has the all-zero vector (`drop_last`).
        indicators: usize,
    },
}

impl Feature {
    /// The names of the columns that the feature has in the one-hot view: `temp`, `carrier=UA` for each indicator, or
    /// `v[0]` for each element.
    pub fn expanded_names(&self) -> Vec<String> {
        match &self.kind {
            FeatureKind::Number | FeatureKind::SparseVector { .. } | FeatureKind::Other => vec![self.name.clone()],
            FeatureKind::Category { labels, indicators } => {
                labels.iter().take(*indicators).map(|l| format!("{}={l}", self.name)).collect()
            }
            FeatureKind::Vector { size } => (0..*size).map(|i| element_name(&self.name, i)).collect(),
        }
    }
}

/// Features as models see them: a number for each element where a pipeline's output has a vector.
pub fn model_features(features: &Arc<[Feature]>) -> Arc<[Feature]> {
    if !features.iter().any(|feature| matches!(feature.kind, FeatureKind::Vector { .. })) {
        return Arc::clone(features);
    }
    let number = |name: String| Feature { name, kind: FeatureKind::Number };
    let seen = |feature: &Feature| -> Vec<Feature> {
        match feature.kind {
            FeatureKind::Vector { .. } => feature.expanded_names().into_iter().map(number).collect(),
            _ => vec![feature.clone()],
        }
    };
    features.iter().flat_map(seen).collect()
}

/// The name of an element of a vector column.
pub(crate) fn element_name(column: &str, index: usize) -> String {
    format!("{column}[{index}]")
}

/// The values of one feature column, `n_rows` long.
#[derive(Debug, Clone)]
pub enum FeatureValues {
    /// Numbers; NaN where missing.
    Number(Arc<[f64]>),
    /// Category indices; `u32::MAX` where missing.
    Category(Arc<[u32]>),
}

/// Features of some rows: `[n_rows, n_features]`, columnar.
#[derive(Debug, Clone)]
pub struct Features {
    /// The columns' meanings; none is a vector.
    pub features: Arc<[Feature]>,
    /// The columns' values, in the same order.
    pub values: Vec<FeatureValues>,
    /// How many rows each column has.
    pub n_rows: usize,
}

impl Features {
    /// Reads the feature columns out of a batch by name; a vector becomes one number column for each of its elements.
    ///
    /// Null numbers, null elements and the elements of null vectors become NaN, and null categories missing.
    ///
    /// # Errors
    /// A column that is absent or of a type that is not numeric, and a vector of another size.
    pub fn from_batch(features: Arc<[Feature]>, batch: &RecordBatch) -> Result<Self> {
        read::features_from_batch(features, batch)
    }

    /// The rows with these numbers, in this order.
    pub fn take(&self, rows: &[u32]) -> Self {
        let take = |v: &FeatureValues| match v {
            FeatureValues::Number(x) => FeatureValues::Number(rows.iter().map(|r| x[*r as usize]).collect()),
            FeatureValues::Category(x) => FeatureValues::Category(rows.iter().map(|r| x[*r as usize]).collect()),
        };
        Self {
            features: Arc::clone(&self.features),
            values: self.values.iter().map(take).collect(),
            n_rows: rows.len(),
        }
    }
}

/// Rows to train on, in the order given by the row key.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// The features, `[n_rows, n_features]`.
    pub x: Features,
    /// What is to be learnt.
    pub problem: ProblemType,
    /// The label of each row: 0 or 1, the number of its class, or a number; all 0 for clustering.
    pub label: Arc<[f64]>,
    /// How many classes the label has: 2 for binary problems, 0 where labels are no classes.
    pub n_classes: usize,
    /// How much each row counts in training, at least 0; all alike when absent.
    pub weight: Option<Arc<[f64]>>,
    /// The fold of each row, `0..k`.
    pub fold: Arc<[u32]>,
}

impl Matrix {
    /// Rows of one fold and equal weights; of a multiclass problem, the classes are those up to the largest label.
    pub fn new(x: Features, label: Vec<f64>, problem: ProblemType) -> Self {
        let n_classes = match problem {
            ProblemType::Binary => 2,
            ProblemType::Multiclass => label.iter().fold(0.0f64, |a, b| a.max(*b)) as usize + 1,
            ProblemType::Regression | ProblemType::Clustering => 0,
        };
        let fold = vec![0; x.n_rows].into();
        Self { x, problem, label: label.into(), n_classes, weight: None, fold }
    }
}

mod read;
