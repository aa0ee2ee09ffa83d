//! Stages that do something to each vector by itself and learn nothing.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::vector_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::Result;
use crate::matrix::FeatureKind;

/// What a stage does to each vector. Null stays null.
pub trait VectorMap: Debug + Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// The stage's name.
    const NAME: &'static str;

    /// Its parameters; `inputs` and `outputs` are among them.
    const PARAMS: &'static [&'static str];

    /// Reads its parameters.
    ///
    /// # Errors
    /// Values that do not fit.
    fn parse(params: &StageParams<'_>) -> Result<Self>;

    /// How many elements come of `size`.
    ///
    /// # Errors
    /// A size that it cannot be applied to; `column` is for the message.
    fn output_size(&self, column: &str, size: usize) -> Result<usize>;

    /// What comes of a vector.
    fn expr(&self, vector: Expr) -> Expr;

    /// What it does, in a line.
    fn describe(&self) -> String;
}

/// A [`VectorMap`] over columns of dense vectors. Parameters: `inputs`, `outputs` and its own.
#[derive(Debug, Clone)]
pub struct VectorStage<M> {
    inputs: Vec<String>,
    outputs: Vec<String>,
    map: M,
}

impl<M: VectorMap> VectorStage<M> {
    /// Applies `map` in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, map: M) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, map }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, M::PARAMS)?;
        let inputs = params.inputs()?;
        Ok(Arc::new(Self { outputs: params.outputs(&inputs)?, inputs, map: M::parse(&params)? }))
    }
}

impl<M: VectorMap> Stage for VectorStage<M> {
    fn name(&self) -> &str {
        M::NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        let column = |(input, output): (&String, &String)| {
            let size = scope.dense_vector(input)?.map(|size| self.map.output_size(input, size)).transpose()?;
            Ok(StageColumn::vector(output, size))
        };
        self.inputs.iter().zip(&self.outputs).map(column).collect()
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let sizes = |input: &String| {
            let size = scope.fitted_vector(input)?;
            Ok((size, self.map.output_size(input, size)?))
        };
        Ok(Arc::new(FittedVectorStage {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            sizes: self.inputs.iter().map(sizes).collect::<Result<_>>()?,
            map: self.map.clone(),
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "M: VectorMap")]
pub(super) struct FittedVectorStage<M> {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The sizes of each input and output.
    sizes: Vec<(usize, usize)>,
    map: M,
}

impl<M: VectorMap> FittedStage for FittedVectorStage<M> {
    fn name(&self) -> &str {
        M::NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.sizes);
        let output = |((input, output), sizes): ((&String, &String), &(usize, usize))| FittedOutput {
            column: output.clone(),
            expr: self.map.expr(vector_expr(input, sizes.0)),
            kind: FeatureKind::Vector { size: sizes.1 },
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{}: {}", self.inputs.join(", "), self.map.describe())
    }
}
