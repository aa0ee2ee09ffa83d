//! As-of joins in logical plans.

use std::fmt;
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef, JoinType, Result, internal_err};
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::AsofSpec;
use crate::codec::wire;

/// Each left row with the latest right row of its key at its time; see the [module](super).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AsofJoinNode {
    pub(super) left: LogicalPlan,
    pub(super) right: LogicalPlan,
    pub(super) spec: AsofSpec<Column>,
    schema: DFSchemaRef,
}

impl PartialOrd for AsofJoinNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.spec.to_string().partial_cmp(&other.spec.to_string())
    }
}

impl AsofJoinNode {
    /// A plan of the join: all columns of the left, then all of the right.
    ///
    /// # Errors
    /// A column that is not there, a name that both sides have, types that cannot be joined so.
    pub fn plan(left: LogicalPlan, right: LogicalPlan, spec: AsofSpec<Column>) -> Result<LogicalPlan> {
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self::try_new(left, right, spec)?) }))
    }

    fn try_new(left: LogicalPlan, right: LogicalPlan, spec: AsofSpec<Column>) -> Result<Self> {
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &JoinType::Left)?);
        let node = Self { left, right, spec, schema };
        node.positions()?.check(node.left.schema().as_arrow(), node.right.schema().as_arrow())?;
        Ok(node)
    }

    /// The join's columns by their positions in the inputs.
    pub(crate) fn positions(&self) -> Result<AsofSpec<usize>> {
        let (left, right) = (self.left.schema(), self.right.schema());
        self.spec.try_map(|c| left.index_of_column(c), |c| right.index_of_column(c))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        wire::encode(&self.positions()?)
    }

    pub(crate) fn decode(bytes: &[u8], left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
        Self::at_positions(left, right, &wire::decode(bytes)?)
    }

    /// A plan of the join by the columns at these positions of the inputs.
    pub(crate) fn at_positions(left: LogicalPlan, right: LogicalPlan, spec: &AsofSpec<usize>) -> Result<LogicalPlan> {
        let column = |plan: &LogicalPlan, i: usize| match plan.schema().columns().into_iter().nth(i) {
            Some(column) => Ok(column),
            None => internal_err!("an as-of join's column {i} is not in its input"),
        };
        let spec = spec.try_map(|i| column(&left, *i), |i| column(&right, *i))?;
        Self::plan(left, right, spec)
    }
}

impl UserDefinedLogicalNodeCore for AsofJoinNode {
    fn name(&self) -> &str {
        "AsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// The left's columns, then the right's: keys, time and, of the right, known-at.
    fn expressions(&self) -> Vec<Expr> {
        let AsofSpec { on, left_time, right_time, known_at, .. } = &self.spec;
        let left = on.iter().map(|(l, _)| l).chain([left_time]);
        let right = on.iter().map(|(_, r)| r).chain([right_time]).chain(known_at);
        left.chain(right).cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "AsofJoin: {}", self.spec)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        for (is, was) in exprs.iter().zip(self.expressions()) {
            if *is != was {
                return internal_err!("the column {was} of an as-of join became {is}, expected the same column");
            }
        }
        match <[LogicalPlan; 2]>::try_from(inputs) {
            Ok([left, right]) => Self::try_new(left, right, self.spec.clone()),
            Err(inputs) => internal_err!("an as-of join has 2 inputs, got {}", inputs.len()),
        }
    }

    /// The right side keeps all its columns, because equal times are ranked by them.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let n_left = self.left.schema().fields().len();
        let spec = self.positions().ok()?;
        let mut left: Vec<usize> = output_columns.iter().copied().filter(|i| *i < n_left).collect();
        left.extend(spec.on.iter().map(|(l, _)| *l).chain([spec.left_time]));
        left.sort_unstable();
        left.dedup();
        Some(vec![left, (0..self.right.schema().fields().len()).collect()])
    }
}
