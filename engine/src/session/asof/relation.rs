//! Plans `ASOF JOIN` of SQL.

use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, Result, ScalarValue, plan_datafusion_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, JoinConstraint, JoinOperator, Spanned, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::parse::{KNOWN_AS_OF, TOLERANCE};
use crate::plan::asof::{AsofJoinNode, AsofSpec, Tolerance};

/// Plans each as-of join that stands alone in parentheses; [`super::parse_statement`] puts it there.
#[derive(Debug)]
pub(in crate::session) struct PlanAsofJoin;

impl RelationPlanner for PlanAsofJoin {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::NestedJoin { table_with_joins: from, alias } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [ast::Join { relation: right, join_operator: JoinOperator::AsOf { match_condition, constraint }, .. }] =
            from.joins.as_slice()
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let (left, right) = (context.plan(from.relation.clone())?, context.plan(right.clone())?);
        let both = left.schema().join(right.schema())?;
        let (left, right) = (Side::new("left", left), Side::new("right", right));
        let join = AsofClauses { context, both, left, right, on: Vec::new(), tolerance: None, known_at: None };
        let plan = join.plan(match_condition, constraint)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// The clauses of one as-of join, as far as they are planned.
struct AsofClauses<'a> {
    context: &'a mut dyn RelationPlannerContext,
    both: DFSchema,
    left: Side,
    right: Side,
    on: Vec<(Column, Column)>,
    tolerance: Option<(ScalarValue, Span)>,
    known_at: Option<Column>,
}

/// Whose columns an expression is made of.
enum Of {
    Left,
    Right,
    /// Both or neither.
    Other,
}

impl AsofClauses<'_> {
    fn plan(mut self, matching: &ast::Expr, constraint: &JoinConstraint) -> Result<LogicalPlan> {
        let (left_time, right_time, strict) = self.times(matching)?;
        let JoinConstraint::On(on) = constraint else {
            let got = if let JoinConstraint::Using(_) = constraint { "USING" } else { "none" };
            let message = "an as-of join expects ON with the keys that are equal, as ON l.k = r.k, got ";
            return Err(at(matching.span(), format!("{message}{got}")));
        };
        conjuncts(on).into_iter().try_for_each(|condition| self.condition(condition))?;

        let (left, right) = (self.left.with_computed()?, self.right.with_computed()?);
        let time = left.schema().field_from_column(&left_time)?;
        let tolerance = self.tolerance.map(|(value, span)| Tolerance::new(&value, time).map_err(|e| located(e, span)));
        let tolerance = tolerance.transpose()?;
        let spec = AsofSpec { on: self.on, left_time, right_time, known_at: self.known_at, strict, tolerance };
        let joined = AsofJoinNode::plan(left, right, spec).map_err(|e| located(e, matching.span()))?;
        if joined.schema().fields().len() == self.both.fields().len() {
            return Ok(joined);
        }
        let columns: Vec<Expr> = self.both.columns().into_iter().map(Expr::Column).collect();
        LogicalPlanBuilder::from(joined).project(columns)?.build()
    }

    /// The times that are compared, left and right, and whether equal ones do not match.
    fn times(&mut self, matching: &ast::Expr) -> Result<(Column, Column, bool)> {
        let wrong = || {
            let expected = "MATCH_CONDITION expects a time of the left side >= or > one of the right side";
            at(matching.span(), format!("{expected}, got {matching}"))
        };
        let ast::Expr::BinaryOp { left, op, right } = without_parentheses(matching) else { return Err(wrong()) };
        let strict = match op {
            BinaryOperator::GtEq => false,
            BinaryOperator::Gt => true,
            _ => return Err(wrong()),
        };
        match (self.resolve(left)?, self.resolve(right)?) {
            ((l, Of::Left), (r, Of::Right)) => Ok((self.left.column(l), self.right.column(r), strict)),
            _ => Err(wrong()),
        }
    }

    /// A condition of ON: equal keys, or what a clause was made to.
    fn condition(&mut self, condition: &ast::Expr) -> Result<()> {
        let (left, right) = match condition {
            ast::Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => (left, right),
            other => {
                let got = if let ast::Expr::BinaryOp { op, .. } = other { op.to_string() } else { other.to_string() };
                let expected = "ON of an as-of join expects equalities joined by AND";
                return Err(at(other.span(), format!("{expected}, got {got}")));
            }
        };
        match left.as_ref() {
            ast::Expr::Identifier(name) if name.value == TOLERANCE => self.tolerance(right, name.span),
            ast::Expr::Identifier(name) if name.value == KNOWN_AS_OF => self.known_as_of(right, name.span),
            _ => self.key(left, right),
        }
    }

    fn key(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<()> {
        let (l, r) = match (self.resolve(left)?, self.resolve(right)?) {
            ((l, Of::Left), (r, Of::Right)) | ((r, Of::Right), (l, Of::Left)) => (l, r),
            _ => {
                let expected = "ON of an as-of join expects a key of the left side = one of the right side";
                return Err(at(left.span(), format!("{expected}, got {left} = {right}")));
            }
        };
        self.on.push((self.left.column(l), self.right.column(r)));
        Ok(())
    }

    fn tolerance(&mut self, sql: &ast::Expr, span: Span) -> Result<()> {
        let Expr::Literal(value, _) = self.context.sql_to_expr(sql.clone(), &self.both)? else {
            let expected = "TOLERANCE expects an interval or a number, as interval '2 hours'";
            return Err(at(span, format!("{expected}, got {sql}")));
        };
        match self.tolerance.replace((value, span)) {
            Some(_) => Err(at(span, "an as-of join has one TOLERANCE, got a second".to_owned())),
            None => Ok(()),
        }
    }

    fn known_as_of(&mut self, sql: &ast::Expr, span: Span) -> Result<()> {
        let (expr, Of::Right) = self.resolve(sql)? else {
            return Err(at(span, format!("KNOWN AS OF expects a time of the right side, got {sql}")));
        };
        match self.known_at.replace(self.right.column(expr)) {
            Some(_) => Err(at(span, "an as-of join has one KNOWN AS OF, got a second".to_owned())),
            None => Ok(()),
        }
    }

    fn resolve(&mut self, sql: &ast::Expr) -> Result<(Expr, Of)> {
        let expr = self.context.sql_to_expr(sql.clone(), &self.both)?;
        let of = {
            let refs = expr.column_refs();
            let all_of = |side: &Side| !refs.is_empty() && refs.iter().all(|c| side.columns.contains(c));
            match (all_of(&self.left), all_of(&self.right)) {
                (true, false) => Of::Left,
                (false, true) => Of::Right,
                _ => Of::Other,
            }
        };
        Ok((expr, of))
    }
}

/// A side, and what is computed of it for the join: the join itself takes columns only.
struct Side {
    name: &'static str,
    plan: LogicalPlan,
    columns: Vec<Column>,
    computed: Vec<Expr>,
}

impl Side {
    fn new(name: &'static str, plan: LogicalPlan) -> Self {
        let columns = plan.schema().columns();
        Self { name, plan, columns, computed: Vec::new() }
    }

    fn column(&mut self, expr: Expr) -> Column {
        if let Expr::Column(column) = expr {
            return column;
        }
        let name = format!("__asof_{}_{}", self.name, self.computed.len());
        self.computed.push(expr.alias(&name));
        Column::new_unqualified(name)
    }

    fn with_computed(self) -> Result<LogicalPlan> {
        if self.computed.is_empty() {
            return Ok(self.plan);
        }
        let columns: Vec<Expr> = self.columns.into_iter().map(Expr::Column).chain(self.computed).collect();
        LogicalPlanBuilder::from(self.plan).project(columns)?.build()
    }
}

fn without_parentheses(mut expr: &ast::Expr) -> &ast::Expr {
    while let ast::Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

fn conjuncts(expr: &ast::Expr) -> Vec<&ast::Expr> {
    match without_parentheses(expr) {
        ast::Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            let mut all = conjuncts(left);
            all.extend(conjuncts(right));
            all
        }
        one => vec![one],
    }
}

fn at(span: Span, message: String) -> DataFusionError {
    plan_datafusion_err!("{message}{}", span.start)
}

fn located(e: DataFusionError, span: Span) -> DataFusionError {
    match e {
        DataFusionError::Plan(message) => at(span, message),
        other => other,
    }
}
