//! Principal components of vectors.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::eigen::eigenvectors;
use super::scope::vector_expr;
use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::exact_covariances::{self, MAX_ELEMENTS, exact_covariances};
use crate::functions::vector::project::project;
use crate::matrix::{FeatureKind, element_name};
use crate::{MlError, Result};

mod eigen;

const NAME: &str = "pca";
const PARAMS: [&str; 3] = ["inputs", "outputs", "k"];

/// Projects vectors on their first `k` principal components, as Spark ML's `PCA`; the mean is not taken off.
///
/// Components come by falling variance. Each is fitted up to its sign: here its weight of the largest magnitude is
/// positive. Null vectors are left out of the fit and stay null (Spark fails). Parameters: `inputs`, `outputs`, `k`.
/// The fit takes vectors of up to 360 elements, at least two of them, with finite numbers only.
#[derive(Debug, Clone)]
pub struct Pca {
    inputs: Vec<String>,
    outputs: Vec<String>,
    k: usize,
}

impl Pca {
    /// On this many components, in place.
    ///
    /// # Errors
    /// No component.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, k: usize) -> Result<Self> {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        if k > 0 {
            return Ok(Self { outputs: inputs.clone(), inputs, k });
        }
        Err(MlError::Invalid("expected a \"k\" of at least 1, got 0".to_owned()))
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let outputs = params.outputs(&inputs)?;
        Ok(Arc::new(Self { outputs, ..Self::new(inputs, params.count("k", 0..=u32::MAX, 0)? as usize)? }))
    }

    /// The components of an input.
    fn components(&self, input: &str, size: usize, value: &ScalarValue) -> Result<Vec<Component>> {
        let covariances = exact_covariances::from_scalar(value)?;
        let Some(place) = covariances.iter().position(|covariance| !covariance.is_finite()) else {
            let vectors = eigenvectors(covariances, size).into_iter().take(self.k);
            return Ok(vectors.map(|weights| Component(with_sign(weights))).collect());
        };
        let element = element_name(input, place / size);
        Err(MlError::Invalid(format!(
            "column {element:?} is NaN or infinite somewhere, its squares are, or there are fewer than two vectors; \
             expected finite numbers"
        )))
    }
}

/// The weights with the first of the largest magnitude positive.
fn with_sign(mut weights: Vec<f64>) -> Vec<f64> {
    let largest = weights.iter().fold(0.0f64, |largest, w| if w.abs() > largest.abs() { *w } else { largest });
    if largest < 0.0 {
        weights.iter_mut().for_each(|w| *w = -*w);
    }
    weights
}

impl Stage for Pca {
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
            if let Some(size) = size.filter(|size| !(self.k..=MAX_ELEMENTS).contains(size)) {
                return Err(MlError::Invalid(format!(
                    "column {input:?} is a vector of {size} numbers; expected at least \"k\", {}, and at most \
                     {MAX_ELEMENTS}",
                    self.k
                )));
            }
        }
        Ok(self.outputs.iter().map(|name| StageColumn::vector(name, Some(self.k))).collect())
    }

    fn aggregates(&self, scope: &Scope) -> Result<Vec<Expr>> {
        // A size that was not known when the pipeline was checked.
        self.plan(scope)?;
        let aggregate = |input: &String| Ok(exact_covariances(vector_expr(input, scope.fitted_vector(input)?)));
        self.inputs.iter().map(aggregate).collect()
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let components =
            |(input, value): (&String, &ScalarValue)| self.components(input, scope.fitted_vector(input)?, value);
        Ok(Arc::new(FittedPca {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            components: self.inputs.iter().zip(values).map(components).collect::<Result<_>>()?,
        }))
    }
}

/// The weights of the elements in a component.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Component(#[serde(with = "exact::list")] Vec<f64>);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedPca {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// For each input.
    components: Vec<Vec<Component>>,
}

impl FittedStage for FittedPca {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.components);
        let output = |((input, output), components): ((&String, &String), &Vec<Component>)| {
            let columns: Vec<Vec<f64>> = components.iter().map(|component| component.0.clone()).collect();
            let size = columns.first().map_or(0, Vec::len);
            FittedOutput {
                column: output.clone(),
                expr: project(vector_expr(input, size), &columns),
                kind: FeatureKind::Vector { size: columns.len() },
            }
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.components);
        let line = |(input, components): (&String, &Vec<Component>)| {
            let weights: Vec<&Vec<f64>> = components.iter().map(|component| &component.0).collect();
            format!("{input} on {weights:?}")
        };
        columns.map(line).collect::<Vec<_>>().join(", ")
    }
}
