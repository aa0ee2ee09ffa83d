//! Indices for the elements of vectors that have few different values.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scaling;
use super::scope::vector_expr;
use super::{FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::distinct_numbers;
use crate::functions::vector::index::vector_index;
use crate::matrix::{FeatureKind, element_name};
use crate::{MlError, Result};

const NAME: &str = "vector_indexer";
const PARAMS: [&str; 4] = ["inputs", "outputs", "max_categories", "handle_invalid"];
/// More values than anybody has categories; comparing is linear in them.
const MAX_CATEGORIES: u32 = 1 << 16;

/// Replaces the values of elements that have at most `max_categories` different ones by their indices, as Spark ML's
/// `VectorIndexer`; 0 has the index 0 where it comes up, the others ascend.
///
/// `handle_invalid` says what becomes of values that the fit did not see: `error` (default) fails, `skip` leaves the
/// row out, `keep` gives them the index after the last. NaN is left out of the fit and is such a value later; an
/// element without any number in the fit stays as it is. Null vectors are left out of the fit; later they stay null,
/// and their rows are left out with `skip` (Spark fails). Parameters: `inputs`, `outputs`, `max_categories` (default
/// 20, at least 2), `handle_invalid`.
#[derive(Debug, Clone)]
pub struct VectorIndexer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    max_categories: u32,
    invalid: Invalid,
}

impl VectorIndexer {
    /// Indexes elements of up to 20 values, in place; unseen values fail.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, max_categories: 20, invalid: Invalid::Error }
    }

    /// The same with another limit.
    ///
    /// # Errors
    /// A limit below 2 or above 65,536.
    pub fn with_max_categories(self, max_categories: u32) -> Result<Self> {
        if (2..=MAX_CATEGORIES).contains(&max_categories) {
            return Ok(Self { max_categories, ..self });
        }
        Err(MlError::Invalid(format!(
            "expected a \"max_categories\" within 2 and {MAX_CATEGORIES}, got {max_categories}"
        )))
    }

    /// The same with another treatment of unseen values.
    #[must_use]
    pub fn with_handle_invalid(self, invalid: Invalid) -> Self {
        Self { invalid, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let max_categories = params.count("max_categories", 2..=MAX_CATEGORIES, 20)?;
        Ok(Arc::new(Self {
            outputs: params.outputs(&inputs)?,
            max_categories,
            invalid: params.handle_invalid()?,
            ..Self::new(inputs)
        }))
    }
}

impl Stage for VectorIndexer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn drops_rows(&self) -> bool {
        self.invalid == Invalid::Skip
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        let column = |(input, output): (&String, &String)| Ok(StageColumn::vector(output, scope.dense_vector(input)?));
        self.inputs.iter().zip(&self.outputs).map(column).collect()
    }

    fn aggregates(&self, scope: &Scope) -> Result<Vec<Expr>> {
        let elements = scaling::scaled(scope, &self.inputs)?;
        let distinct = |expr| distinct_numbers::distinct_numbers(expr, self.max_categories);
        Ok(elements.into_iter().map(|element| distinct(element.expr)).collect())
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let mut values = values.iter();
        let mut categories = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let elements = values.by_ref().take(scope.fitted_vector(input)?);
            let indexed = |value| Ok(Indexed(zero_first(distinct_numbers::from_scalar(value)?.unwrap_or_default())));
            categories.push(elements.map(indexed).collect::<Result<Vec<_>>>()?);
        }
        Ok(Arc::new(FittedVectorIndexer {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            categories,
            handle_invalid: self.invalid.as_str().to_owned(),
        }))
    }
}

fn zero_first(mut values: Vec<f64>) -> Vec<f64> {
    if let Some(zero) = values.iter().position(|value| *value == 0.0) {
        values[..=zero].rotate_right(1);
    }
    values
}

/// The values of an element's categories in the order of their indices; none for one that stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Indexed(#[serde(with = "exact::list")] Vec<f64>);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedVectorIndexer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// For each element of each input.
    categories: Vec<Vec<Indexed>>,
    handle_invalid: String,
}

impl FittedVectorIndexer {
    fn invalid(&self) -> Invalid {
        Invalid::parse(&self.handle_invalid).unwrap_or(Invalid::Error)
    }

    fn expr(&self, input: &str, categories: &[Indexed]) -> Expr {
        let values: Vec<Vec<f64>> = categories.iter().map(|indexed| indexed.0.clone()).collect();
        vector_index(vector_expr(input, categories.len()), &values, self.invalid(), input)
    }
}

impl FittedStage for FittedVectorIndexer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.categories);
        let output = |((input, output), categories): ((&String, &String), &Vec<Indexed>)| FittedOutput {
            column: output.clone(),
            expr: self.expr(input, categories),
            kind: FeatureKind::Vector { size: categories.len() },
        };
        Ok(columns.map(output).collect())
    }

    fn row_predicate(&self) -> Option<Expr> {
        if self.invalid() != Invalid::Skip {
            return None;
        }
        let is_seen = |(input, categories): (&String, &Vec<Indexed>)| self.expr(input, categories).is_not_null();
        self.inputs.iter().zip(&self.categories).map(is_seen).reduce(Expr::and)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let mut lines = Vec::new();
        for (input, categories) in self.inputs.iter().zip(&self.categories) {
            let indexed = categories.iter().enumerate().filter(|(_, indexed)| !indexed.0.is_empty());
            lines.extend(indexed.map(|(i, indexed)| format!("{} in {:?}", element_name(input, i), indexed.0)));
        }
        format!("{}; invalid: {}", lines.join(", "), self.handle_invalid)
    }
}
