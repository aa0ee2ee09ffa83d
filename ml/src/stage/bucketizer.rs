//! Numbers to buckets by their bounds.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::Expr;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::number_expr;
use super::string_indexer::UNKNOWN;
use super::{FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::bucket_index::bucket_index;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "bucketizer";
const PARAMS: [&str; 5] = ["inputs", "outputs", "splits", "splits_array", "handle_invalid"];

/// The number of the bucket that a value falls into, as Spark ML's `Bucketizer`; the index is `Float64`.
///
/// Bucket `i` goes from split `i`, which is in it, to split `i + 1`, which is not, but for the last, which has both. A
/// value outside the splits fails, so that they mostly start at `-Infinity` and end at `Infinity`; -0.0 is below 0.0.
/// `handle_invalid` says what becomes of NaN: `error` (default) fails, `skip` leaves the row out, `keep` gives it a
/// bucket of its own after the last. Null stays null, as in Spark, and its row is left out with `skip`.
///
/// Parameters: `inputs`, `outputs`, `splits` (for every input) or `splits_array` (a list for each): at least three
/// numbers in ascending order, infinities written as the texts `-Infinity` and `Infinity`; `handle_invalid`. Learns
/// nothing.
///
/// The output is a category, which a `one_hot_encoder` may follow; without one, linear models see an indicator for each
/// bucket (Spark's see its number) and trees split on it. Differs from Spark: booleans are numbers here, as in other
/// stages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bucketizer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    splits: Vec<Splits>,
    handle_invalid: String,
}

/// The bounds of one column's buckets.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Splits(#[serde(with = "exact::list")] Vec<f64>);

impl Splits {
    fn new(bounds: Vec<f64>) -> Result<Self> {
        if bounds.len() >= 3 && bounds.is_sorted_by(|a, b| a < b) {
            return Ok(Self(bounds));
        }
        Err(MlError::Invalid(format!("splits are at least three numbers in ascending order, got {bounds:?}")))
    }

    /// How many buckets there are.
    fn n_buckets(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// The buckets as intervals.
    fn labels(&self) -> Vec<String> {
        let bounds = self.0.windows(2).enumerate();
        let close = |i| if i + 1 == self.n_buckets() { ']' } else { ')' };
        bounds.map(|(i, bound)| format!("[{:?}, {:?}{}", bound[0], bound[1], close(i))).collect()
    }
}

impl Bucketizer {
    /// Buckets between `splits`, in place; NaN fails.
    ///
    /// # Errors
    /// Fewer than three splits, and splits that do not ascend.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, splits: &[f64]) -> Result<Self> {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self::of(inputs.clone(), inputs.clone(), vec![splits.to_vec(); inputs.len()], Invalid::Error)
    }

    /// The same with another treatment of NaN.
    #[must_use]
    pub fn with_handle_invalid(self, invalid: Invalid) -> Self {
        Self { handle_invalid: invalid.as_str().to_owned(), ..self }
    }

    pub(super) fn of(
        inputs: Vec<String>,
        outputs: Vec<String>,
        splits: Vec<Vec<f64>>,
        invalid: Invalid,
    ) -> Result<Self> {
        let splits = splits.into_iter().map(Splits::new).collect::<Result<_>>()?;
        Ok(Self { inputs, outputs, splits, handle_invalid: invalid.as_str().to_owned() })
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let outputs = params.outputs(&inputs)?;
        let splits = match (params.number_list("splits")?, params.number_lists("splits_array", inputs.len())?) {
            (Some(splits), None) => vec![splits; inputs.len()],
            (None, Some(splits)) => splits,
            (None, None) => {
                return Err(MlError::Invalid("parameter \"splits\" or \"splits_array\" is missing".to_owned()));
            }
            (Some(_), Some(_)) => {
                return Err(MlError::Invalid("expected one of \"splits\" and \"splits_array\", got both".to_owned()));
            }
        };
        Ok(Arc::new(Self::of(inputs, outputs, splits, params.handle_invalid()?)?))
    }

    fn invalid(&self) -> Invalid {
        Invalid::parse(&self.handle_invalid).unwrap_or(Invalid::Error)
    }

    fn kind(&self, splits: &Splits) -> FeatureKind {
        let unknown = (self.invalid() == Invalid::Keep).then(|| UNKNOWN.to_owned());
        let labels: Vec<String> = splits.labels().into_iter().chain(unknown).collect();
        FeatureKind::Category { indicators: labels.len(), labels }
    }
}

impl Stage for Bucketizer {
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
        self.invalid() == Invalid::Skip
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        self.inputs.iter().try_for_each(|name| scope.number(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::category(name)).collect())
    }

    fn fit(&self, _scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(self.clone()))
    }
}

impl FittedStage for Bucketizer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.splits);
        let output = |((input, output), splits): ((&String, &String), &Splits)| FittedOutput {
            column: output.clone(),
            expr: bucket_index(number_expr(input), &splits.0, self.invalid(), input),
            kind: self.kind(splits),
        };
        Ok(columns.map(output).collect())
    }

    fn row_predicate(&self) -> Option<Expr> {
        if self.invalid() != Invalid::Skip {
            return None;
        }
        let present = |column: &String| ident(column).is_not_null().and(!isnan(number_expr(column)));
        self.inputs.iter().map(present).reduce(Expr::and)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.splits);
        let lines: Vec<String> = columns.map(|(c, splits)| format!("{c} in {}", splits.labels().join(" "))).collect();
        format!("{}; invalid: {}", lines.join(", "), self.handle_invalid)
    }
}
