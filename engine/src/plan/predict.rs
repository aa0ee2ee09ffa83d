//! `predict('model@alias', …)` in SQL: found in a plan, resolved to a pinned version, and taken out into a score node.
//!
//! With the model alone, its columns are taken by the signature's names from the scope of the call; further
//! arguments are the signature's inputs in order. The same call twice in one node is computed once.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::parser::{CopyToSource, CopyToStatement, Statement};
use datafusion::sql::sqlparser::ast;
use tidemill_ml::model::{ModelOutput, SignatureColumn};

use super::score::{PinnedModel, ScoreCall, ScoreNode};
use crate::jobs::Device;

/// The function's name in SQL.
pub const PREDICT: &str = "predict";

/// A model that a query names, resolved.
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    /// The version that the query keeps.
    pub pinned: PinnedModel,
    /// The signature's inputs.
    pub inputs: Vec<SignatureColumn>,
    /// What it gives for a row.
    pub output: ModelOutput,
}

/// Models that queries name, resolved.
pub type ResolvedModels = BTreeMap<String, ResolvedModel>;

/// What models give for a row, by the names that queries have for them: a session tells it before it plans a statement.
#[derive(Debug, Clone, Default)]
pub struct ModelTypes(Arc<Mutex<BTreeMap<String, DataType>>>);

impl ModelTypes {
    /// Remembers what resolved models give.
    pub fn tell(&self, models: &ResolvedModels) {
        let types = models.iter().map(|(name, model)| (name.clone(), model.output.data_type()));
        self.lock().extend(types);
    }

    /// The type of what a model gives; a number for those that nothing was told of.
    fn of(&self, name: &str) -> DataType {
        self.lock().get(name).cloned().unwrap_or(DataType::Float64)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DataType>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `predict`, as the SQL planner knows it; it never runs, because [`extract`] takes every call out.
pub fn predict_udf(types: ModelTypes) -> ScalarUDF {
    ScalarUDF::from(Predict { signature: Signature::variadic_any(Volatility::Stable), types })
}

#[derive(Debug)]
struct Predict {
    signature: Signature,
    types: ModelTypes,
}

/// One function, whatever it was told of models.
impl PartialEq for Predict {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for Predict {}

impl Hash for Predict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for Predict {
    fn name(&self) -> &str {
        PREDICT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let model = args.scalar_arguments.first().copied().flatten().and_then(|model| model.try_as_str().flatten());
        let data_type = model.map_or(DataType::Float64, |model| self.types.of(model));
        Ok(Arc::new(Field::new(PREDICT, data_type, true)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!(
            "predict(…) can stand in SELECT, WHERE, GROUP BY, HAVING and ORDER BY; compute it in a subquery and use its column here"
        )
    }
}

/// The models that a statement's `predict` calls name, without duplicates.
pub fn names_in(statement: &Statement) -> Vec<String> {
    let mut names = Vec::new();
    let mut visit = |expr: &ast::Expr| {
        if let Some(name) = model_of(expr).filter(|name| !names.contains(name)) {
            names.push(name);
        }
        ControlFlow::<()>::Continue(())
    };
    match statement {
        Statement::Statement(statement) => {
            let _ = ast::visit_expressions(statement.as_ref(), &mut visit);
        }
        Statement::Explain(explain) => return names_in(&explain.statement),
        Statement::CopyTo(CopyToStatement { source: CopyToSource::Query(query), .. }) => {
            let _ = ast::visit_expressions(query.as_ref(), &mut visit);
        }
        _ => {}
    }
    names
}

/// The model that an expression calls, where it is a call of `predict`.
fn model_of(expr: &ast::Expr) -> Option<String> {
    let ast::Expr::Function(function) = expr else { return None };
    let ast::FunctionArguments::List(args) = &function.args else { return None };
    let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(value))) = args.args.first()? else {
        return None;
    };
    let is_predict = function.name.to_string().eq_ignore_ascii_case(PREDICT);
    value.value.clone().into_string().filter(|_| is_predict)
}

/// The models that a plan's `predict` calls name, without duplicates.
///
/// # Errors
/// A call whose first argument is not a text literal.
pub fn references(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut names = Vec::new();
    plan.apply_with_subqueries(|node| {
        for call in calls_in(node)? {
            let name = reference(&call)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// Takes every `predict` call out into score nodes below the nodes that use them.
///
/// # Errors
/// A signature's column that the scope lacks or holds twice, a column of another type, a call where none can stand.
pub fn extract(plan: LogicalPlan, models: &ResolvedModels, device: Device) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(|node| extract_node(node, models, device))?.data)
}

fn extract_node(node: LogicalPlan, models: &ResolvedModels, device: Device) -> Result<Transformed<LogicalPlan>> {
    let calls = calls_in(&node)?;
    if calls.is_empty() {
        return Ok(Transformed::no(node));
    }
    let [input] = node.inputs()[..] else {
        return plan_err!(
            "predict(…) cannot stand in a join's condition; compute it in a subquery and join on its column"
        );
    };
    let (input, columns) = score_below(input.clone(), &calls, models, device)?;
    let exprs =
        node.expressions().into_iter().map(|e| replace_calls(e, &calls, &columns)).collect::<Result<Vec<_>>>()?;
    let rewritten = node.with_new_exprs(exprs, vec![input])?;
    Ok(Transformed::yes(with_schema_of(rewritten, node.schema())?))
}

/// The distinct `predict` calls in a node's own expressions.
fn calls_in(node: &LogicalPlan) -> Result<Vec<ScalarFunction>> {
    let mut found: Vec<ScalarFunction> = Vec::new();
    for expr in node.expressions() {
        expr.apply(|e| {
            if let Expr::ScalarFunction(f) = e
                && f.name() == PREDICT
                && !found.contains(f)
            {
                found.push(f.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(found)
}

fn reference(call: &ScalarFunction) -> Result<String> {
    let literal = call.args.first().map(|a| match a {
        Expr::Literal(v, _) => v.try_as_str().flatten().map(str::to_owned),
        _ => None,
    });
    literal.flatten().ok_or_else(|| {
        plan_datafusion_err!(
            "predict(…) takes the model first, as text, e.g. predict('late@live'); got {}",
            Expr::ScalarFunction(call.clone())
        )
    })
}

fn replace_calls(expr: Expr, calls: &[ScalarFunction], columns: &[Column]) -> Result<Expr> {
    let replaced = expr.transform_up(|e| {
        let at = match &e {
            Expr::ScalarFunction(f) => calls.iter().position(|c| c == f),
            _ => None,
        };
        Ok(match at {
            Some(i) => Transformed::yes(Expr::Column(columns[i].clone())),
            None => Transformed::no(e),
        })
    })?;
    Ok(replaced.data)
}

/// Gives a rewritten node the columns, names and qualifiers that its parents know.
fn with_schema_of(plan: LogicalPlan, wanted: &DFSchema) -> Result<LogicalPlan> {
    let new = Arc::clone(plan.schema());
    let columns = wanted.iter().zip(new.iter()).map(|((q, f), (nq, nf))| {
        let column = Expr::Column(Column::new(nq.cloned(), nf.name()));
        if q == nq && f.name() == nf.name() { column } else { column.alias_qualified(q.cloned(), f.name()) }
    });
    LogicalPlanBuilder::from(plan).project(columns.collect::<Vec<_>>())?.build()
}

/// Puts a score node with the calls over `input`; gives it with the columns that hold the calls' results.
fn score_below(
    input: LogicalPlan,
    calls: &[ScalarFunction],
    models: &ResolvedModels,
    device: Device,
) -> Result<(LogicalPlan, Vec<Column>)> {
    let mut computed: Vec<Expr> = Vec::new();
    let (mut score_calls, mut args) = (Vec::new(), Vec::new());
    for (i, call) in calls.iter().enumerate() {
        let name = reference(call)?;
        let Some(model) = models.get(&name) else {
            return plan_err!("model {name:?} was not resolved");
        };
        args.push(arguments(call, model, input.schema(), &mut computed)?);
        score_calls.push(ScoreCall {
            model: model.pinned.clone(),
            device,
            inputs: model.inputs.iter().map(|c| c.name.clone()).collect(),
            output: output_name(input.schema(), i),
            returns: model.output.clone(),
        });
    }
    let input = if computed.is_empty() {
        input
    } else {
        let all = input.schema().columns().into_iter().map(Expr::Column).chain(computed);
        LogicalPlanBuilder::from(input.clone()).project(all.collect::<Vec<_>>())?.build()?
    };
    let columns = score_calls.iter().map(|c| Column::new_unqualified(&c.output)).collect();
    Ok((ScoreNode::plan(input, score_calls, args)?, columns))
}

/// A name that the input does not have.
fn output_name(schema: &DFSchema, i: usize) -> String {
    let mut name = format!("__score_{i}");
    while schema.has_column_with_unqualified_name(&name) {
        name.insert(0, '_');
    }
    name
}

fn arguments(
    call: &ScalarFunction,
    model: &ResolvedModel,
    scope: &DFSchema,
    computed: &mut Vec<Expr>,
) -> Result<Vec<Column>> {
    let given = &call.args[1..];
    if given.is_empty() {
        return model.inputs.iter().map(|c| by_name(c, model, scope)).collect();
    }
    if given.len() != model.inputs.len() {
        let names = model.inputs.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        let PinnedModel { name, version, .. } = &model.pinned;
        return plan_err!(
            "model {name}/{version} takes {} columns ({names}), got {}; leave them all out to take them by name",
            model.inputs.len(),
            given.len()
        );
    }
    let column = |e: &Expr| match e {
        Expr::Column(c) => c.clone(),
        other => {
            let name = format!("__argument_{}", computed.len());
            computed.push(other.clone().alias(&name));
            Column::new_unqualified(name)
        }
    };
    Ok(given.iter().map(column).collect())
}

fn by_name(input: &SignatureColumn, model: &ResolvedModel, scope: &DFSchema) -> Result<Column> {
    let PinnedModel { name, version, .. } = &model.pinned;
    let found = scope.qualified_fields_with_unqualified_name(&input.name);
    match found[..] {
        [(qualifier, field)] => {
            check_type(input, model, field.data_type())?;
            Ok(Column::new(qualifier.cloned(), field.name()))
        }
        [] => {
            let names = scope.fields().iter().map(|f| f.name().as_str());
            let hint = crate::nearest(&input.name, names).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
            plan_err!(
                "model {name}/{version} reads the column {:?}, which the query does not have here{hint}",
                input.name
            )
        }
        _ => plan_err!(
            "model {name}/{version} reads the column {:?}, which the query has more than once; select it from one table",
            input.name
        ),
    }
}

/// Numbers go where numbers are expected, text where text is.
fn check_type(input: &SignatureColumn, model: &ResolvedModel, got: &DataType) -> Result<()> {
    let numeric = |t: &DataType| t.is_numeric() || matches!(t, DataType::Boolean);
    let text = |t: &DataType| {
        matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..))
    };
    let expected: &DataType = &input.data_type.parse()?;
    if expected == got || (numeric(expected) && numeric(got)) || (text(expected) && text(got)) || got == &DataType::Null
    {
        return Ok(());
    }
    let PinnedModel { name, version, .. } = &model.pinned;
    plan_err!("model {name}/{version} expects column {:?} of type {expected}, got {got}", input.name)
}
