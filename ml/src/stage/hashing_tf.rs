//! Tokens to how often each hash bucket comes.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::hashing_tf::hashing_tf;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "hashing_tf";
const PARAMS: [&str; 4] = ["inputs", "outputs", "num_features", "binary"];
/// How many buckets there are by default.
pub(super) const NUM_FEATURES: u32 = 1 << 18;
/// The most buckets, as in Spark.
pub(super) const MAX_NUM_FEATURES: u32 = i32::MAX as u32;

/// How often tokens come, by their hash, as Spark ML's `HashingTF`; the outputs are sparse vectors of `num_features`.
///
/// A token's index is the Murmur3 hash of its UTF-8 (seed 42) modulo `num_features`, so tokens may share one. A null
/// token hashes to 42, as in Spark; a null list fails. Parameters: `inputs`, `outputs`, `num_features` (default 2^18),
/// `binary` (default false: with it, 1 for each index that comes at all). Learns nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HashingTf {
    inputs: Vec<String>,
    outputs: Vec<String>,
    num_features: u32,
    binary: bool,
}

impl HashingTf {
    /// Counts in 2^18 buckets, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, num_features: NUM_FEATURES, binary: false }
    }

    /// The same with another number of buckets.
    ///
    /// # Errors
    /// 0, and more than 2^31 - 1.
    pub fn with_num_features(self, num_features: u32) -> Result<Self> {
        if !(1..=MAX_NUM_FEATURES).contains(&num_features) {
            return Err(MlError::Invalid(format!("num_features is 1 to {MAX_NUM_FEATURES}, got {num_features}")));
        }
        Ok(Self { num_features, ..self })
    }

    /// The same with 1 for each bucket that comes at all.
    #[must_use]
    pub fn binary(self) -> Self {
        Self { binary: true, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self {
            outputs: params.outputs(&inputs)?,
            inputs,
            num_features: params.count("num_features", 1..=MAX_NUM_FEATURES, NUM_FEATURES)?,
            binary: params.flag("binary", false)?,
        }))
    }
}

impl Stage for HashingTf {
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
        self.inputs.iter().try_for_each(|name| scope.tokens(name).map(|_| ()))?;
        let size = Some(self.num_features as usize);
        Ok(self.outputs.iter().map(|name| StageColumn::sparse_vector(name, size)).collect())
    }

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FittedStage for HashingTf {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let output = |(input, output): (&String, &String)| FittedOutput {
            column: output.clone(),
            expr: hashing_tf(ident(input), self.num_features, self.binary, NAME, input),
            kind: FeatureKind::SparseVector { size: self.num_features as usize },
        };
        Ok(self.inputs.iter().zip(&self.outputs).map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let what = if self.binary { "presence" } else { "counts" };
        format!("{what} of tokens of {} in {} hash buckets", self.inputs.join(", "), self.num_features)
    }
}
