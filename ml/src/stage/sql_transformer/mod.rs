//! Columns by SQL expressions.

use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::statement::RowPlan;
use super::{ColumnRole, FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams, VectorShape};
use crate::functions::vector::vector_size;
use crate::matrix::FeatureKind;
use crate::pipeline::normalised;
use crate::{MlError, Result};

mod statement;

const NAME: &str = "sql_transformer";
const PARAMS: [&str; 1] = ["statement"];

/// Computes columns, and leaves rows out, by a SQL statement that looks at one row at a time, as Spark ML's
/// `SQLTransformer` does by any.
///
/// Parameter: `statement`, `SELECT expression [AS name], ... FROM __THIS__ [WHERE condition]`. Its inputs are the
/// columns that it names, its outputs what it selects by name; a selected column keeps its meaning as a category.
/// Names are taken as they are written, quoted or not. Learns nothing.
///
/// Differs from Spark: the dialect is DataFusion's (`7 / 2` of integers is 3); aggregates, joins, subqueries, window
/// functions, `DISTINCT`, `ORDER BY`, `LIMIT` and functions whose value changes from call to call (`random`, `now`) are
/// refused: a row's features must not depend on the rows beside it nor on the time; expressions need names; `*` says
/// nothing, as columns that are not selected stay visible to later stages.
#[derive(Debug, Clone)]
pub struct SqlTransformer {
    statement: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    has_predicate: bool,
}

impl SqlTransformer {
    /// A stage by its statement.
    ///
    /// # Errors
    /// A statement that cannot be read or does not look at one row at a time.
    pub fn new(statement: &str) -> Result<Self> {
        let names = statement::names(statement)?;
        Ok(Self {
            statement: statement.to_owned(),
            inputs: names.inputs,
            outputs: names.outputs,
            has_predicate: names.has_predicate,
        })
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        Ok(Arc::new(Self::new(&params.text("statement", "")?)?))
    }

    fn row_plan(&self, scope: &Scope) -> Result<RowPlan> {
        let column = |name: &String| Ok((name.clone(), normalised(&scope.column(name)?.data_type)));
        let columns = self.inputs.iter().map(column).collect::<Result<Vec<_>>>()?;
        statement::plan(&self.statement, schema_of(columns))
    }
}

fn schema_of(columns: Vec<(String, DataType)>) -> Schema {
    Schema::new(columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect::<Vec<_>>())
}

/// The column of the scope that an output is, unchanged.
fn selected<'s>(scope: &'s Scope, expr: &Expr) -> Option<&'s StageColumn> {
    match expr {
        Expr::Column(column) => scope.get(&column.name),
        _ => None,
    }
}

impl Stage for SqlTransformer {
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
        self.has_predicate
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        let column = |(name, expr, data_type): (String, Expr, DataType)| match selected(scope, &expr) {
            Some(column) => StageColumn { name, ..column.clone() },
            None => StageColumn::of_type(&name, data_type),
        };
        Ok(self.row_plan(scope)?.outputs.into_iter().map(column).collect())
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let plan = self.row_plan(scope)?;
        let kind = |(_, expr, data_type): &(String, Expr, DataType)| match selected(scope, expr).map(|c| &c.role) {
            Some(ColumnRole::Category(Some(categories))) => {
                FeatureKind::Category { labels: categories.labels.clone(), indicators: categories.indicators }
            }
            Some(ColumnRole::Vector(VectorShape::Sparse(Some(size)))) => FeatureKind::SparseVector { size: *size },
            _ if data_type.is_numeric() || *data_type == DataType::Boolean => FeatureKind::Number,
            _ => vector_size(data_type).map_or(FeatureKind::Other, |size| FeatureKind::Vector { size }),
        };
        let column = |name: &String| {
            let data_type = normalised(&scope.column(name)?.data_type);
            Ok((name.clone(), written(name, &data_type)?))
        };
        let saved = Saved {
            statement: self.statement.clone(),
            columns: self.inputs.iter().map(column).collect::<Result<_>>()?,
            kinds: plan.outputs.iter().map(kind).collect(),
        };
        Ok(Arc::new(FittedSqlTransformer { saved, inputs: self.inputs.clone(), plan }))
    }
}

/// A type as it is saved.
fn written(column: &str, data_type: &DataType) -> Result<String> {
    let text = data_type.to_string();
    if DataType::from_str(&text).ok().as_ref() == Some(data_type) {
        return Ok(text);
    }
    Err(MlError::Invalid(format!("column {column:?} is {text}, which models do not read")))
}

/// What is saved; the expressions are planned again when it is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Saved {
    statement: String,
    /// Name and type of each input.
    columns: Vec<(String, String)>,
    /// How models read each output.
    kinds: Vec<FeatureKind>,
}

#[derive(Debug)]
pub(super) struct FittedSqlTransformer {
    saved: Saved,
    inputs: Vec<String>,
    plan: RowPlan,
}

impl FittedSqlTransformer {
    pub(super) fn load(saved: &Value) -> Result<Arc<dyn FittedStage>> {
        let corrupt = |why: String| MlError::Corrupt { what: "a fitted stage".to_owned(), why };
        let saved: Saved = serde_json::from_value(saved.clone()).map_err(|e| corrupt(e.to_string()))?;
        let column = |(name, data_type): &(String, String)| {
            let data_type = DataType::from_str(data_type).map_err(|e| corrupt(e.to_string()))?;
            Ok((name.clone(), data_type))
        };
        let columns = saved.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let inputs = columns.iter().map(|(name, _)| name.clone()).collect();
        let plan = statement::plan(&saved.statement, schema_of(columns)).map_err(|e| corrupt(e.to_string()))?;
        if plan.outputs.len() != saved.kinds.len() {
            return Err(corrupt(format!("{} outputs, {} kinds", plan.outputs.len(), saved.kinds.len())));
        }
        Ok(Arc::new(Self { saved, inputs, plan }))
    }
}

impl FittedStage for FittedSqlTransformer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let outputs = self.plan.outputs.iter().zip(&self.saved.kinds);
        let output = |((name, expr, _), kind): (&(String, Expr, DataType), &FeatureKind)| FittedOutput {
            column: name.clone(),
            expr: expr.clone(),
            kind: kind.clone(),
        };
        Ok(outputs.map(output).collect())
    }

    fn row_predicate(&self) -> Option<Expr> {
        self.plan.predicate.clone()
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(&self.saved)
    }

    fn describe(&self) -> String {
        self.saved.statement.clone()
    }
}

#[cfg(test)]
mod tests;
