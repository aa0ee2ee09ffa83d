//! The statements that a row alone can be transformed by.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::TableReference;
use datafusion::common::config::Dialect;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Volatility};
use datafusion::prelude::{SessionConfig, SessionContext, ident};
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Query, Select, SelectItem, SetExpr, Statement, TableFactor, WildcardAdditionalOptions,
    visit_expressions,
};
use futures::FutureExt;

use crate::functions::scalar_udfs;
use crate::{MlError, Result};

/// What stands for the rows that come in.
const THIS: &str = "__THIS__";

/// The columns that a statement names.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) has_predicate: bool,
}

/// A statement over columns of known types.
#[derive(Debug)]
pub(super) struct RowPlan {
    /// Name, value and type of each output.
    pub(super) outputs: Vec<(String, Expr, DataType)>,
    pub(super) predicate: Option<Expr>,
}

/// The columns that a statement reads and writes; `*` is neither.
///
/// # Errors
/// What is no `SELECT ... FROM __THIS__ [WHERE ...]`.
pub(super) fn names(text: &str) -> Result<Names> {
    let query = parsed(text)?;
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Err(refused("UNION, VALUES and their like"));
    };
    if query.with.is_some() {
        return Err(refused("WITH"));
    }
    check_source(select)?;
    let mut outputs = Vec::new();
    for item in &select.projection {
        outputs.extend(output_name(item)?);
    }
    Ok(Names { inputs: columns(&query)?, outputs, has_predicate: select.selection.is_some() })
}

fn parsed(text: &str) -> Result<Query> {
    let statement = session().state().sql_to_statement(text, &Dialect::Generic).map_err(|e| invalid(&e))?;
    if let DFStatement::Statement(statement) = statement
        && let Statement::Query(query) = *statement
    {
        return Ok(*query);
    }
    Err(refused("what is not a SELECT"))
}

fn check_source(select: &Select) -> Result<()> {
    let [source] = select.from.as_slice() else {
        return Err(MlError::Invalid(format!("expected FROM {THIS} alone, got {} tables", select.from.len())));
    };
    if !source.joins.is_empty() {
        return Err(refused("joins"));
    }
    match &source.relation {
        TableFactor::Table { name, alias: None, .. } if name.to_string() == THIS => Ok(()),
        other => Err(MlError::Invalid(format!("expected FROM {THIS}, got FROM {other}"))),
    }
}

fn output_name(item: &SelectItem) -> Result<Option<String>> {
    match item {
        SelectItem::Wildcard(options) if *options == WildcardAdditionalOptions::default() => Ok(None),
        SelectItem::ExprWithAlias { alias, .. } => Ok(Some(alias.value.clone())),
        SelectItem::UnnamedExpr(expr) => match column_of(expr) {
            Some(column) => Ok(Some(column)),
            None => Err(MlError::Invalid(format!("{expr} has no name; write {expr} AS name"))),
        },
        other => Err(refused(&other.to_string())),
    }
}

/// The column that an expression is.
fn column_of(expr: &SqlExpr) -> Option<String> {
    match expr {
        SqlExpr::Identifier(column) => Some(column.value.clone()),
        SqlExpr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, column, ..] if table.value == THIS => Some(column.value.clone()),
            [column, ..] => Some(column.value.clone()),
            [] => None,
        },
        _ => None,
    }
}

fn columns(query: &Query) -> Result<Vec<String>> {
    let mut columns = Vec::new();
    let visited = visit_expressions(query, |expr| {
        if matches!(expr, SqlExpr::Subquery(_) | SqlExpr::InSubquery { .. } | SqlExpr::Exists { .. }) {
            return ControlFlow::Break(());
        }
        columns.extend(column_of(expr).filter(|column| !columns.contains(column)));
        ControlFlow::Continue(())
    });
    if visited.is_break() {
        return Err(refused("subqueries"));
    }
    if columns.is_empty() {
        return Err(MlError::Invalid("the statement names no column; expected at least one".to_owned()));
    }
    Ok(columns)
}

/// The expressions of a statement over columns of these types.
///
/// # Errors
/// Columns and functions that do not exist or do not fit together, and what does not look at one row alone.
pub(super) fn plan(text: &str, schema: Schema) -> Result<RowPlan> {
    let Projection { expr, input, schema, .. } = projection(text, schema)?;
    let predicate = match input.as_ref() {
        LogicalPlan::Filter(filter) => {
            check_scan(&filter.input)?;
            Some(row_expr(filter.predicate.clone())?)
        }
        other => check_scan(other).map(|()| None)?,
    };
    let outputs = names(text)?.outputs;
    let mut planned = Vec::with_capacity(outputs.len());
    for expr in expr {
        let name = expr.qualified_name().1;
        if outputs.contains(&name) {
            let data_type = schema.field_with_unqualified_name(&name)?.data_type().clone();
            planned.push((name, row_expr(expr.unalias())?, data_type));
        }
    }
    Ok(RowPlan { outputs: planned, predicate })
}

fn projection(text: &str, schema: Schema) -> Result<Projection> {
    let session = session();
    session.register_table(TableReference::bare(THIS), Arc::new(EmptyTable::new(Arc::new(schema))))?;
    let state = session.state();
    // Nothing is waited for: the table is in memory.
    let Some(planned) = state.create_logical_plan(text).now_or_never() else {
        return Err(MlError::Internal("a statement over a table in memory is not planned at once".to_owned()));
    };
    let planned = planned.map_err(|e| invalid(&e))?;
    let analyzed = state.analyzer().execute_and_check(planned, state.config_options(), |_, _| {});
    match analyzed.map_err(|e| invalid(&e))? {
        LogicalPlan::Projection(projection) => Ok(projection),
        other => Err(refused_plan(&other)),
    }
}

/// A session that takes names as they are written, and whose text is `Utf8` as that of all stages.
fn session() -> SessionContext {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.enable_ident_normalization = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let context = SessionContext::new_with_config(config);
    scalar_udfs().into_iter().for_each(|function| context.register_udf(function.as_ref().clone()));
    context
}

fn check_scan(plan: &LogicalPlan) -> Result<()> {
    if matches!(plan, LogicalPlan::TableScan(_)) { Ok(()) } else { Err(refused_plan(plan)) }
}

/// The expression over columns by their names alone.
fn row_expr(expr: Expr) -> Result<Expr> {
    let unqualified = expr.transform_up(|node| {
        Ok(match node {
            Expr::Column(column) => Transformed::yes(ident(column.name)),
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                let message = format!("{}() gives other values from call to call; it is not allowed", call.func.name());
                return Err(MlError::Invalid(message).into());
            }
            other => Transformed::no(other),
        })
    });
    Ok(unqualified.map_err(|e| invalid(&e))?.data)
}

fn refused_plan(plan: &LogicalPlan) -> MlError {
    let what = match plan {
        LogicalPlan::Aggregate(_) => "aggregate functions and GROUP BY",
        LogicalPlan::Distinct(_) => "DISTINCT",
        LogicalPlan::Limit(_) => "LIMIT and OFFSET",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Unnest(_) => "unnest",
        LogicalPlan::Window(_) => "window functions",
        other => return refused(&other.display().to_string()),
    };
    refused(what)
}

fn refused(what: &str) -> MlError {
    MlError::Invalid(format!(
        "the statement looks at one row at a time: SELECT expression AS name, ... FROM {THIS} [WHERE ...]; {what} cannot \
         be in it, do that in the job's SQL"
    ))
}

fn invalid(error: &DataFusionError) -> MlError {
    let message = match error {
        DataFusionError::External(inner) => inner.to_string(),
        other => other.strip_backtrace(),
    };
    MlError::Invalid(format!("parameter \"statement\": {message}"))
}
