//! Products of columns' elements.

use std::slice;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::{number_expr, vector_expr};
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::vector::MAX_SIZE;
use crate::functions::vector::concat::vector;
use crate::functions::vector::outer::vector_outer;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "interaction";
const PARAMS: [&str; 2] = ["inputs", "output"];

/// All products of one element of each input, as one vector, as Spark ML's `Interaction`; the last input's elements
/// come fastest.
///
/// Inputs are numbers, booleans and dense vectors. Parameters: `inputs`, at least two; `output`. Learns nothing.
///
/// Differs from Spark: a null number is NaN and a null vector makes the result null (Spark fails); indexed categories
/// are refused (Spark takes them as indicators).
#[derive(Debug, Clone)]
pub struct Interaction {
    inputs: Vec<String>,
    output: String,
}

impl Interaction {
    /// The products of these columns.
    ///
    /// # Errors
    /// Fewer than two inputs.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, output: impl Into<String>) -> Result<Self> {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        if inputs.len() >= 2 {
            return Ok(Self { inputs, output: output.into() });
        }
        Err(MlError::Invalid(format!("expected at least two columns of \"inputs\", got {inputs:?}")))
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        Ok(Arc::new(Self::new(params.inputs()?, params.output()?)?))
    }
}

/// How many products there are.
fn n_products(sizes: &[Option<usize>]) -> Result<usize> {
    let sizes = sizes.iter().map(|size| size.unwrap_or(1));
    let n = sizes.fold(1usize, usize::saturating_mul);
    if n <= MAX_SIZE {
        return Ok(n);
    }
    Err(MlError::Invalid(format!("the inputs have {n} products; expected at most {MAX_SIZE}")))
}

impl Stage for Interaction {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        slice::from_ref(&self.output)
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        let sizes = self.inputs.iter().map(|name| scope.number_or_vector(name)).collect::<Result<Vec<_>>>()?;
        let columns = self.inputs.iter().map(|name| scope.column(name)).collect::<Result<Vec<_>>>()?;
        let all_known = columns.iter().zip(&sizes).all(|(column, size)| column.is_number() || size.is_some());
        let size = n_products(&sizes)?;
        Ok(vec![StageColumn::vector(&self.output, all_known.then_some(size))])
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let sizes = self.inputs.iter().map(|name| scope.number_or_vector(name)).collect::<Result<Vec<_>>>()?;
        n_products(&sizes)?;
        Ok(Arc::new(FittedInteraction { inputs: self.inputs.clone(), sizes, output: self.output.clone() }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedInteraction {
    inputs: Vec<String>,
    /// The size of each input that is a vector.
    sizes: Vec<Option<usize>>,
    output: String,
}

impl FittedStage for FittedInteraction {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let part = |(input, size): (&String, &Option<usize>)| match size {
            Some(size) => vector_expr(input, *size),
            None => vector(vec![number_expr(input)]),
        };
        let parts = self.inputs.iter().zip(&self.sizes).map(part);
        let Some(expr) = parts.reduce(vector_outer) else {
            return Err(MlError::Corrupt { what: "a fitted stage".to_owned(), why: "it has no inputs".to_owned() });
        };
        let kind = FeatureKind::Vector { size: n_products(&self.sizes)? };
        Ok(vec![FittedOutput { column: self.output.clone(), expr, kind }])
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{} = {}", self.output, self.inputs.join(" * "))
    }
}
