//! Chooses the pipeline's features and their order, or puts columns into one vector.

use std::slice;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::Expr;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::{number_expr, vector_expr};
use super::{ColumnRole, FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams, VectorShape};
use crate::functions::require_number::require_number;
use crate::functions::vector::concat::vector;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "vector_assembler";
const PARAMS: [&str; 3] = ["inputs", "output", "handle_invalid"];

/// Puts columns into one vector, as Spark ML's `VectorAssembler`, or chooses the pipeline's features and their order.
///
/// With `output` it may stand anywhere and writes one dense vector of its inputs' elements: numbers, booleans and dense
/// vectors. Without, it is the last stage of a pipeline and its inputs, which are numbers, indexed categories and dense
/// vectors, are the features; columns stay columns. Without `inputs` too they are all columns that stages write and no
/// later stage reads.
///
/// `handle_invalid` says what becomes of nulls, and of NaN in columns of numbers: `error` (default) fails, `skip` leaves
/// the row out, `keep` gives NaN, as many as the vector has elements for a null one. NaN within a vector stays in every
/// mode, as in Spark. A pipeline without an assembler has the same default inputs and `keep`.
#[derive(Debug, Clone)]
pub struct VectorAssembler {
    inputs: Vec<String>,
    output: Option<String>,
    invalid: Invalid,
}

impl VectorAssembler {
    /// These columns in this order as features; nulls and NaN fail.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        Self { inputs: inputs.into_iter().map(Into::into).collect(), output: None, invalid: Invalid::Error }
    }

    /// The same as one vector column.
    #[must_use]
    pub fn with_output(self, output: impl Into<String>) -> Self {
        Self { output: Some(output.into()), ..self }
    }

    /// The same with another treatment of null and NaN.
    #[must_use]
    pub fn with_handle_invalid(self, invalid: Invalid) -> Self {
        Self { invalid, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let output = params.column("output")?;
        let inputs = if output.is_some() { params.inputs()? } else { params.columns("inputs")?.unwrap_or_default() };
        Ok(Arc::new(Self { inputs, output, invalid: params.handle_invalid()? }))
    }

    /// How models read an input.
    fn kind(scope: &Scope, name: &str) -> Result<FeatureKind> {
        match &scope.column(name)?.role {
            ColumnRole::Category(Some(c)) => {
                Ok(FeatureKind::Category { labels: c.labels.clone(), indicators: c.indicators })
            }
            ColumnRole::Category(None) => {
                Err(MlError::Internal(format!("the labels of column {name:?} are not known when {NAME} is fitted")))
            }
            ColumnRole::Vector(_) => Ok(FeatureKind::Vector { size: scope.fitted_vector(name)? }),
            ColumnRole::Plain => Ok(FeatureKind::Number),
        }
    }

    /// Checks that an input can be a feature, or with `output` a part of the vector.
    fn check_input(&self, column: &StageColumn) -> Result<()> {
        let is_right = match column.role {
            ColumnRole::Plain => column.is_number(),
            ColumnRole::Vector(shape) => matches!(shape, VectorShape::Dense(_)),
            ColumnRole::Category(_) => self.output.is_none(),
        };
        if is_right {
            return Ok(());
        }
        let expected = match self.output {
            Some(_) => "a number or a dense vector",
            None => "a number, a dense vector or an indexed category: put a string_indexer before it",
        };
        Err(MlError::Invalid(format!("column {:?} is {}; expected {expected}", column.name, column.describe())))
    }

    /// The vector's size; none where that of a part is known only once its stage is fitted.
    fn size(&self, scope: &Scope) -> Result<Option<usize>> {
        let size = |name: &String| match scope.column(name)?.role {
            ColumnRole::Vector(_) => scope.dense_vector(name),
            _ => Ok(Some(1)),
        };
        let sizes = self.inputs.iter().map(size).collect::<Result<Vec<_>>>()?;
        Ok(sizes.into_iter().sum())
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
        match &self.output {
            Some(output) => slice::from_ref(output),
            None => &self.inputs,
        }
    }

    fn drops_rows(&self) -> bool {
        self.invalid == Invalid::Skip
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        let columns = self.inputs.iter().map(|name| scope.column(name)).collect::<Result<Vec<_>>>()?;
        columns.iter().try_for_each(|column| self.check_input(column))?;
        if let Some(output) = &self.output {
            return Ok(vec![StageColumn::vector(output, self.size(scope)?)]);
        }
        let output = |column: &&StageColumn| match column.role {
            ColumnRole::Category(_) => StageColumn::category(&column.name),
            ColumnRole::Vector(VectorShape::Dense(size)) => StageColumn::vector(&column.name, size),
            _ => StageColumn::number(&column.name),
        };
        Ok(columns.iter().map(output).collect())
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(FittedVectorAssembler {
            inputs: self.inputs.clone(),
            kinds: self.inputs.iter().map(|name| Self::kind(scope, name)).collect::<Result<_>>()?,
            output: self.output.clone(),
            handle_invalid: self.invalid.as_str().to_owned(),
        }))
    }

    fn selects_features(&self) -> bool {
        self.output.is_none()
    }

    fn with_default_inputs(&self, inputs: &[String]) -> Option<Arc<dyn Stage>> {
        self.inputs.is_empty().then(|| Arc::new(Self { inputs: inputs.to_vec(), ..self.clone() }) as Arc<dyn Stage>)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedVectorAssembler {
    inputs: Vec<String>,
    kinds: Vec<FeatureKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    handle_invalid: String,
}

impl FittedVectorAssembler {
    fn expr(&self, column: &str, kind: &FeatureKind) -> Expr {
        let value = match kind {
            FeatureKind::Category { .. } => return ident(column),
            FeatureKind::Vector { size } => vector_expr(column, *size),
            _ => number_expr(column),
        };
        if self.handle_invalid == "error" { require_number(value, NAME, column) } else { value }
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
        let parts = self.inputs.iter().zip(&self.kinds);
        let parts = parts.map(|(column, kind)| (column, self.expr(column, kind), kind));
        if let Some(output) = &self.output {
            let size = self.kinds.iter().map(|kind| if let FeatureKind::Vector { size } = kind { *size } else { 1 });
            let kind = FeatureKind::Vector { size: size.sum() };
            let expr = vector(parts.map(|(_, expr, _)| expr).collect());
            return Ok(vec![FittedOutput { column: output.clone(), expr, kind }]);
        }
        let feature = |(column, expr, kind): (&String, Expr, &FeatureKind)| FittedOutput {
            column: column.clone(),
            expr,
            kind: kind.clone(),
        };
        Ok(parts.map(feature).collect())
    }

    fn row_predicate(&self) -> Option<Expr> {
        if self.handle_invalid != "skip" {
            return None;
        }
        let present = |(column, kind): (&String, &FeatureKind)| match kind {
            FeatureKind::Number => Some(ident(column).is_not_null().and(!isnan(number_expr(column)))),
            FeatureKind::Vector { .. } => Some(ident(column).is_not_null()),
            _ => None,
        };
        self.inputs.iter().zip(&self.kinds).filter_map(present).reduce(Expr::and)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let output = self.output.as_ref().map(|output| format!(" into {output}")).unwrap_or_default();
        format!("{}{output}; invalid: {}", self.inputs.join(", "), self.handle_invalid)
    }
}
