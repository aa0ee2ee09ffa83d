//! Columns hashed into one vector.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hashing_tf::{MAX_NUM_FEATURES, NUM_FEATURES};
use super::scope::{number_expr, text_expr};
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::feature_hash::feature_hash;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "feature_hasher";
const PARAMS: [&str; 5] = ["inputs", "output", "num_features", "categorical_cols", "signed"];

/// Many columns in one sparse vector of `num_features`, by their hashes, as Spark ML's `FeatureHasher`.
///
/// A number adds itself at the Murmur3 hash (seed 42) of its column's name modulo `num_features`; a text or boolean,
/// and a number of `categorical_cols`, adds 1 at the hash of `name=value`. Nulls add nothing, and NaN makes its element
/// NaN. Parameters: `inputs`, `output` (one column), `num_features` (default 2^18), `categorical_cols`, `signed`
/// (default false). Learns nothing.
///
/// Beyond Spark, `signed` takes off what hashes below 0 instead of adding it, so that columns that share an element
/// cancel out on average, as in scikit-learn. Differs from Spark: numbers as categories are read as their text here
/// (`1e21`, `inf`), not Java's (`1.0E21`, `Infinity`).
#[derive(Debug, Clone)]
pub struct FeatureHasher {
    inputs: Vec<String>,
    output: [String; 1],
    num_features: u32,
    categorical_cols: Vec<String>,
    signed: bool,
}

impl FeatureHasher {
    /// These columns in a vector of 2^18; numbers are numbers.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, output: &str) -> Self {
        Self {
            inputs: inputs.into_iter().map(Into::into).collect(),
            output: [output.to_owned()],
            num_features: NUM_FEATURES,
            categorical_cols: Vec::new(),
            signed: false,
        }
    }

    /// The same with another size.
    ///
    /// # Errors
    /// 0, and more than 2^31 - 1.
    pub fn with_num_features(self, num_features: u32) -> Result<Self> {
        if !(1..=MAX_NUM_FEATURES).contains(&num_features) {
            return Err(MlError::Invalid(format!("num_features is 1 to {MAX_NUM_FEATURES}, got {num_features}")));
        }
        Ok(Self { num_features, ..self })
    }

    /// The same with these columns as categories, whatever their type.
    #[must_use]
    pub fn with_categorical_cols<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        Self { categorical_cols: columns.into_iter().map(Into::into).collect(), ..self }
    }

    /// The same with signs.
    #[must_use]
    pub fn signed(self) -> Self {
        Self { signed: true, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let output = params
            .column("output")?
            .ok_or_else(|| MlError::Invalid("parameter \"output\" is missing; expected a column name".to_owned()))?;
        Ok(Arc::new(Self {
            num_features: params.count("num_features", 1..=MAX_NUM_FEATURES, NUM_FEATURES)?,
            categorical_cols: params.columns("categorical_cols")?.unwrap_or_default(),
            signed: params.flag("signed", false)?,
            ..Self::new(params.inputs()?, &output)
        }))
    }

    fn is_category(&self, scope: &Scope, name: &str) -> Result<bool> {
        let column = scope.column(name)?;
        if !column.has_text() {
            return Err(MlError::Invalid(format!(
                "column {name:?} is {}; expected text, a number or a boolean",
                column.describe()
            )));
        }
        Ok(!column.data_type.is_numeric() || self.categorical_cols.iter().any(|c| c == name))
    }
}

impl Stage for FeatureHasher {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.output
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        self.inputs.iter().try_for_each(|name| self.is_category(scope, name).map(|_| ()))?;
        if let Some(other) = self.categorical_cols.iter().find(|name| !self.inputs.contains(name)) {
            return Err(MlError::Invalid(format!("\"categorical_cols\" has column {other:?}, which is not an input")));
        }
        Ok(vec![StageColumn::sparse_vector(&self.output[0], Some(self.num_features as usize))])
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(FittedFeatureHasher {
            inputs: self.inputs.clone(),
            output: self.output[0].clone(),
            are_categories: self.inputs.iter().map(|name| self.is_category(scope, name)).collect::<Result<_>>()?,
            num_features: self.num_features,
            signed: self.signed,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedFeatureHasher {
    inputs: Vec<String>,
    output: String,
    /// One for each input.
    are_categories: Vec<bool>,
    num_features: u32,
    signed: bool,
}

impl FittedStage for FittedFeatureHasher {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let column = |(name, &is_category): (&String, &bool)| -> (String, Expr) {
            (name.clone(), if is_category { text_expr(name) } else { number_expr(name) })
        };
        let columns = self.inputs.iter().zip(&self.are_categories).map(column).collect();
        Ok(vec![FittedOutput {
            column: self.output.clone(),
            expr: feature_hash(self.num_features, self.signed, columns),
            kind: FeatureKind::SparseVector { size: self.num_features as usize },
        }])
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let signs = if self.signed { ", with signs" } else { "" };
        format!("{} in {} hash buckets{signs}", self.inputs.join(", "), self.num_features)
    }
}
