//! Moves filters below as-of joins.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::AsofJoinNode;

/// Moves the conditions on the left's columns alone below the join: each left row comes out once, whatever the others
/// are. DataFusion's own rule would move a condition to both sides, and so is given none.
///
/// It goes before `push_down_filter`, which moves them further, and which does move conditions on no column at all
/// (`random() < 0.1`) to both sides.
#[derive(Debug)]
pub(crate) struct PushLeftFilters;

impl OptimizerRule for PushLeftFilters {
    fn name(&self) -> &str {
        "push_filters_below_asof_join"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Extension(extension) = filter.input.as_ref() else { return Ok(Transformed::no(plan)) };
        let Some(join) = extension.node.as_any().downcast_ref::<AsofJoinNode>() else {
            return Ok(Transformed::no(plan));
        };
        let left = join.left.schema().columns();
        let of_left = |e: &Expr| e.column_refs().iter().all(|c| left.contains(c));
        let (push, keep): (Vec<_>, Vec<_>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(of_left);
        let Some(push) = conjunction(push) else { return Ok(Transformed::no(plan)) };
        let left = LogicalPlan::Filter(Filter::try_new(push, Arc::new(join.left.clone()))?);
        let joined = AsofJoinNode::plan(left, join.right.clone(), join.spec.clone())?;
        Ok(Transformed::yes(match conjunction(keep) {
            Some(keep) => LogicalPlan::Filter(Filter::try_new(keep, Arc::new(joined))?),
            None => joined,
        }))
    }
}
