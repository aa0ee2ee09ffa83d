//! Buckets that each hold about as many rows as the others.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use super::bucketizer::Bucketizer;
use super::scope::number_expr;
use super::{FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::functions::exact_quantile;
use crate::{MlError, Result};

const NAME: &str = "quantile_discretizer";
const PARAMS: [&str; 5] = ["inputs", "outputs", "num_buckets", "num_buckets_array", "handle_invalid"];
/// The most buckets: as many as quantiles can tell apart.
const MAX_BUCKETS: u32 = exact_quantile::MAX_EXACT_VALUES as u32;

/// Cuts at quantiles into `num_buckets` buckets, as Spark ML's `QuantileDiscretizer`; fitted, it is a
/// [`Bucketizer`], which says what the output is and what becomes of NaN and null.
///
/// The first bucket starts at `-Infinity` and the last ends at `Infinity`. Quantiles that are equal are one, so there
/// may be fewer buckets. Null and NaN are left out of the fit. A column without any other value, or without a finite
/// number at the cuts, cannot be fitted, as in Spark. Parameters: `inputs`, `outputs`, `num_buckets` (default 2) or
/// `num_buckets_array`, one for each input, `handle_invalid`.
///
/// Differs from Spark: the quantiles are those of [`exact_quantile`], Spark's are within 0.1 % of the rank; there is no
/// `relative_error`.
#[derive(Debug, Clone)]
pub struct QuantileDiscretizer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    num_buckets: Vec<u32>,
    invalid: Invalid,
}

impl QuantileDiscretizer {
    /// Cuts in two at the median, in place; NaN fails.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), num_buckets: vec![2; inputs.len()], inputs, invalid: Invalid::Error }
    }

    /// The same with another number of buckets.
    ///
    /// # Errors
    /// Fewer than 2 or more than 65,536.
    pub fn with_num_buckets(self, num_buckets: u32) -> Result<Self> {
        if !(2..=MAX_BUCKETS).contains(&num_buckets) {
            return Err(MlError::Invalid(format!("num_buckets is 2 to {MAX_BUCKETS}, got {num_buckets}")));
        }
        Ok(Self { num_buckets: vec![num_buckets; self.inputs.len()], ..self })
    }

    /// The same with another treatment of NaN.
    #[must_use]
    pub fn with_handle_invalid(self, invalid: Invalid) -> Self {
        Self { invalid, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let outputs = params.outputs(&inputs)?;
        let num_buckets = params.count("num_buckets", 2..=MAX_BUCKETS, 2)?;
        let for_each = params.counts("num_buckets_array", 2..=MAX_BUCKETS, inputs.len())?;
        let num_buckets = for_each.unwrap_or_else(|| vec![num_buckets; inputs.len()]);
        Ok(Arc::new(Self { inputs, outputs, num_buckets, invalid: params.handle_invalid()? }))
    }
}

impl Stage for QuantileDiscretizer {
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
        self.inputs.iter().try_for_each(|name| scope.number(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::category(name)).collect())
    }

    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        let aggregate = |(column, &num_buckets): (&String, &u32)| {
            let shares: Vec<f64> = (1..num_buckets).map(|i| i as f64 / num_buckets as f64).collect();
            exact_quantile::exact_quantiles(number_expr(column), &shares)
        };
        Ok(self.inputs.iter().zip(&self.num_buckets).map(aggregate).collect())
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let splits = |(column, value): (&String, &ScalarValue)| splits(column, exact_quantile::from_scalar(value)?);
        let splits = self.inputs.iter().zip(values).map(splits).collect::<Result<_>>()?;
        Ok(Arc::new(Bucketizer::of(self.inputs.clone(), self.outputs.clone(), splits, self.invalid)?))
    }
}

/// The quantiles between the infinities, each once.
fn splits(column: &str, quantiles: Option<Vec<f64>>) -> Result<Vec<f64>> {
    let Some(quantiles) = quantiles else {
        return Err(MlError::Invalid(format!("column {column:?} has no value that is present; leave it out")));
    };
    let mut splits = vec![f64::NEG_INFINITY];
    splits.extend(quantiles);
    splits.push(f64::INFINITY);
    splits.dedup();
    if splits.len() < 3 {
        return Err(MlError::Invalid(format!(
            "column {column:?} has only infinite quantiles; expected finite numbers"
        )));
    }
    Ok(splits)
}
