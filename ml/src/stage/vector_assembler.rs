//! Chooses the pipeline's features and their order.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::Expr;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::number_expr;
use super::{ColumnRole, FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::functions::require_number::require_number;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "vector_assembler";
const PARAMS: [&str; 2] = ["inputs", "handle_invalid"];

/// The features and their order, as Spark ML's `VectorAssembler`; the last stage of a pipeline. Columns stay columns.
///
/// Inputs are numbers and indexed categories. Without `inputs` they are all columns that stages write and no later
/// stage reads. `handle_invalid` says what becomes of null and NaN: `error` (default) fails, `skip` leaves the row
/// out, `keep` hands NaN to the model. A pipeline without an assembler has the same default inputs and `keep`.
#[derive(Debug, Clone)]
pub struct VectorAssembler {
    inputs: Vec<String>,
    invalid: Invalid,
}

impl VectorAssembler {
    /// These columns in this order; nulls and NaN fail.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        Self { inputs: inputs.into_iter().map(Into::into).collect(), invalid: Invalid::Error }
    }

    /// The same with another treatment of null and NaN.
    #[must_use]
    pub fn with_handle_invalid(self, invalid: Invalid) -> Self {
        Self { invalid, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.columns("inputs")?.unwrap_or_default();
        let invalid = params.choice("handle_invalid", &["error", "skip", "keep"], "error")?;
        Ok(Arc::new(Self { inputs, invalid: Invalid::parse(&invalid).unwrap_or(Invalid::Error) }))
    }

    fn kind(scope: &Scope, name: &str) -> Result<FeatureKind> {
        match &scope.column(name)?.role {
            ColumnRole::Category(Some(c)) => {
                Ok(FeatureKind::Category { labels: c.labels.clone(), indicators: c.indicators })
            }
            ColumnRole::Category(None) => {
                Err(MlError::Internal(format!("the labels of column {name:?} are not known when {NAME} is fitted")))
            }
            ColumnRole::Plain => Ok(FeatureKind::Number),
        }
    }
}

impl Stage for VectorAssembler {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.inputs
    }

    fn drops_rows(&self) -> bool {
        self.invalid == Invalid::Skip
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        let output = |name: &String| {
            let column = scope.column(name)?;
            if matches!(column.role, ColumnRole::Category(_)) {
                return Ok(StageColumn::category(name));
            }
            if !column.is_number() {
                return Err(MlError::Invalid(format!(
                    "column {name:?} is {}; expected a number or an indexed category: put a string_indexer before it",
                    column.describe()
                )));
            }
            Ok(StageColumn::number(name))
        };
        self.inputs.iter().map(output).collect()
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(FittedVectorAssembler {
            inputs: self.inputs.clone(),
            kinds: self.inputs.iter().map(|name| Self::kind(scope, name)).collect::<Result<_>>()?,
            handle_invalid: self.invalid.as_str().to_owned(),
        }))
    }

    fn selects_features(&self) -> bool {
        true
    }

    fn with_default_inputs(&self, inputs: &[String]) -> Option<Arc<dyn Stage>> {
        self.inputs.is_empty().then(|| Arc::new(Self { inputs: inputs.to_vec(), ..self.clone() }) as Arc<dyn Stage>)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedVectorAssembler {
    inputs: Vec<String>,
    kinds: Vec<FeatureKind>,
    handle_invalid: String,
}

impl FittedVectorAssembler {
    fn expr(&self, column: &str, kind: &FeatureKind) -> Expr {
        match kind {
            FeatureKind::Category { .. } => ident(column),
            FeatureKind::Number if self.handle_invalid == "error" => require_number(number_expr(column), NAME, column),
            FeatureKind::Number | FeatureKind::Other => number_expr(column),
        }
    }
}

impl FittedStage for FittedVectorAssembler {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let output = |(column, kind): (&String, &FeatureKind)| FittedOutput {
            column: column.clone(),
            expr: self.expr(column, kind),
            kind: kind.clone(),
        };
        Ok(self.inputs.iter().zip(&self.kinds).map(output).collect())
    }

    fn row_predicate(&self) -> Option<Expr> {
        if self.handle_invalid != "skip" {
            return None;
        }
        let numbers = self.inputs.iter().zip(&self.kinds).filter(|(_, kind)| **kind == FeatureKind::Number);
        let present = |column: &String| ident(column).is_not_null().and(!isnan(number_expr(column)));
        numbers.map(|(column, _)| present(column)).reduce(Expr::and)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{}; invalid: {}", self.inputs.join(", "), self.handle_invalid)
    }
}
