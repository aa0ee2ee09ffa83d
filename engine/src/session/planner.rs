//! From our logical nodes to our operators.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use tidemill_connectors::sink::ParallelSinkExec;

use super::one_task::one_task;
use crate::plan::asof::{AsofJoinExec, AsofJoinNode, AsofLookupExec};
use crate::plan::score::{ScoreExec, ScoreNode};
use crate::plan::train::{TrainExec, TrainNode};
use crate::plan::write::WriteNode;

/// DataFusion's planner with ours for our nodes.
#[derive(Debug)]
pub(super) struct TidemillQueryPlanner;

#[async_trait]
impl QueryPlanner for TidemillQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(NodePlanner)]);
        let one_task = state.as_any().downcast_ref().and_then(|state| one_task(plan, state));
        planner.create_physical_plan(plan, one_task.as_ref().map_or(state, |state| state)).await
    }
}

struct NodePlanner;

#[async_trait]
impl ExtensionPlanner for NodePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        state: &dyn Session,
        _planning: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let any = node.as_any();
        if let (Some(n), [left, right]) = (any.downcast_ref::<AsofJoinNode>(), inputs) {
            let (left, right, spec) = (Arc::clone(left), Arc::clone(right), Arc::new(n.positions()?));
            return Ok(Some(if AsofLookupExec::fits(&right, state.config_options())? {
                Arc::new(AsofLookupExec::try_new(left, right, spec)?)
            } else {
                Arc::new(AsofJoinExec::try_new(left, right, spec)?)
            }));
        }
        let [input] = inputs else { return Ok(None) };
        let input = Arc::clone(input);
        Ok(if let Some(n) = any.downcast_ref::<ScoreNode>() {
            Some(Arc::new(ScoreExec::try_new(input, n.calls.clone(), n.arg_indices()?)?))
        } else if let Some(n) = any.downcast_ref::<WriteNode>() {
            Some(Arc::new(ParallelSinkExec::try_new(input, n.spec.clone())?))
        } else if let Some(n) = any.downcast_ref::<TrainNode>() {
            Some(Arc::new(TrainExec::new(input, n.question().cloned())))
        } else {
            None
        })
    }
}
