//! Scoring as an operator: `ScoreNode` in logical plans and [`ScoreExec`] in physical ones.
//!
//! A score node appends one column for each call of a model. Its arguments are columns of its input, in the order
//! of the model's signature, so that the wire form holds names alone. Each model runs exactly once per row.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result, internal_err, plan_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tidemill_ml::model::{ModelOutput, ScoringModel};

use crate::codec::wire;
use crate::jobs::Device;
use crate::session::services;

/// A model version, pinned: what a plan carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct PinnedModel {
    /// The URL of the registry that holds it.
    pub registry: String,
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Its digest: what the caches know it by.
    pub digest: String,
}

/// One call of a model: its arguments are columns, in the signature's order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct ScoreCall {
    /// The model.
    pub model: PinnedModel,
    /// Where it runs.
    pub device: Device,
    /// The signature's input names.
    pub inputs: Vec<String>,
    /// The name of the column that the call appends.
    pub output: String,
    /// What the model gives for a row.
    pub returns: ModelOutput,
}

/// Appends a column for each call of a model to its input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScoreNode {
    /// The rows.
    pub input: LogicalPlan,
    /// The calls.
    pub calls: Vec<ScoreCall>,
    /// The arguments of each call.
    pub args: Vec<Vec<Column>>,
    schema: DFSchemaRef,
}

impl PartialOrd for ScoreNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.calls.partial_cmp(&other.calls)
    }
}

/// What a score node is on the wire, without its input.
#[derive(Serialize, Deserialize)]
struct ScoreWire {
    calls: Vec<ScoreCall>,
    args: Vec<Vec<(Option<String>, String)>>,
}

impl ScoreNode {
    /// A plan that appends the calls' columns to `input`'s.
    ///
    /// # Errors
    /// An output name that the input has already.
    pub fn plan(input: LogicalPlan, calls: Vec<ScoreCall>, args: Vec<Vec<Column>>) -> Result<LogicalPlan> {
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self::try_new(input, calls, args)?) }))
    }

    fn try_new(input: LogicalPlan, calls: Vec<ScoreCall>, args: Vec<Vec<Column>>) -> Result<Self> {
        let scores = calls.iter().map(|c| (None, Arc::new(score_field(c)))).collect();
        let scores = DFSchema::new_with_metadata(scores, Default::default())?;
        let schema = Arc::new(input.schema().join(&scores)?);
        Ok(Self { input, calls, args, schema })
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let column = |c: &Column| (c.relation.as_ref().map(ToString::to_string), c.name.clone());
        let args = self.args.iter().map(|a| a.iter().map(column).collect()).collect();
        wire::encode(&ScoreWire { calls: self.calls.clone(), args })
    }

    pub(crate) fn decode(bytes: &[u8], input: LogicalPlan) -> Result<LogicalPlan> {
        let w: ScoreWire = wire::decode(bytes)?;
        let column = |(relation, name): (Option<String>, String)| match relation {
            Some(r) => Column::new(Some(r), name),
            None => Column::new_unqualified(name),
        };
        let args = w.args.into_iter().map(|a| a.into_iter().map(column).collect()).collect();
        Self::plan(input, w.calls, args)
    }

    /// Where each call's arguments stand in the input.
    pub(crate) fn arg_indices(&self) -> Result<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        self.args.iter().map(|a| a.iter().map(|c| schema.index_of_column(c)).collect()).collect()
    }
}

fn score_field(call: &ScoreCall) -> Field {
    Field::new(&call.output, call.returns.data_type(), true)
}

impl UserDefinedLogicalNodeCore for ScoreNode {
    fn name(&self) -> &str {
        "Score"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.args.iter().flatten().cloned().map(Expr::Column).collect()
    }

    /// Filters on a score stay above; all others run before the model.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.calls.iter().map(|c| c.output.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Score: {}", describe(&self.calls))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut columns = exprs.into_iter().map(|e| match e {
            Expr::Column(c) => Ok(c),
            other => internal_err!("an argument of a score node became {other}, expected a column"),
        });
        let args = self
            .args
            .iter()
            .map(|a| columns.by_ref().take(a.len()).collect::<Result<Vec<_>>>())
            .collect::<Result<Vec<_>>>()?;
        Self::try_new(inputs.swap_remove(0), self.calls.clone(), args)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let n_input = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|i| *i < n_input).collect();
        needed.extend(self.arg_indices().ok()?.into_iter().flatten());
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

fn describe(calls: &[ScoreCall]) -> String {
    let one = |c: &ScoreCall| {
        let device = match c.device {
            Device::Cpu => "cpu",
            Device::Gpu => "gpu",
        };
        format!("{} = {}/{} on {device}", c.output, c.model.name, c.model.version)
    };
    calls.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Runs models over batches: partition-preserving, row by row independent, one column appended per call.
#[derive(Debug, Clone)]
pub struct ScoreExec {
    input: Arc<dyn ExecutionPlan>,
    calls: Vec<ScoreCall>,
    args: Vec<Vec<usize>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What a score operator is on the wire, without its input.
#[derive(Serialize, Deserialize)]
struct ScoreExecWire {
    calls: Vec<ScoreCall>,
    args: Vec<Vec<usize>>,
}

impl ScoreExec {
    /// An operator that appends the calls' columns.
    ///
    /// # Errors
    /// An argument that the input does not have.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, calls: Vec<ScoreCall>, args: Vec<Vec<usize>>) -> Result<Self> {
        let n = input.schema().fields().len();
        if let Some(i) = args.iter().flatten().find(|i| **i >= n) {
            return plan_err!("a model's argument is column {i} of {n}");
        }
        let mut fields = input.schema().fields().to_vec();
        fields.extend(calls.iter().map(|c| Arc::new(score_field(c))));
        let schema = Arc::new(Schema::new_with_metadata(fields, input.schema().metadata().clone()));
        let from = input.properties();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(from.output_partitioning().partition_count()),
            from.emission_type,
            from.boundedness,
        ));
        Ok(Self { input, calls, args, schema, properties, metrics: ExecutionPlanMetricsSet::new() })
    }

    /// Whether a call asks for a GPU.
    pub fn needs_gpu(&self) -> bool {
        self.calls.iter().any(|c| c.device == Device::Gpu)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        wire::encode(&ScoreExecWire { calls: self.calls.clone(), args: self.args.clone() })
    }

    pub(crate) fn decode(bytes: &[u8], input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let w: ScoreExecWire = wire::decode(bytes)?;
        Ok(Arc::new(Self::try_new(input, w.calls, w.args)?))
    }
}

impl DisplayAs for ScoreExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ScoreExec: {}", describe(&self.calls))
    }
}

impl ExecutionPlan for ScoreExec {
    fn name(&self) -> &str {
        "ScoreExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.swap_remove(0);
        Ok(Arc::new(Self::try_new(input, self.calls.clone(), self.args.clone())?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![true]
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, ctx: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&ctx))?;
        let run = ScoreRun {
            schema: Arc::clone(&self.schema),
            args: self.args.clone(),
            load: MetricBuilder::new(&self.metrics).subset_time("load_time", partition),
            compute: MetricBuilder::new(&self.metrics).subset_time("compute_time", partition),
            batches: MetricBuilder::new(&self.metrics).counter("batches", partition),
            baseline: BaselineMetrics::new(&self.metrics, partition),
        };
        let calls = self.calls.clone();
        let scored = stream::once(async move {
            let timer = run.load.timer();
            let models = load_all(&calls, &ctx).await?;
            drop(timer);
            let bound = Arc::new(Bound { calls, models });
            Ok::<_, DataFusionError>(input.map(move |batch| run.score(&bound, &batch?)))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), scored)))
    }
}

/// One partition's scoring.
struct ScoreRun {
    schema: SchemaRef,
    args: Vec<Vec<usize>>,
    load: Time,
    compute: Time,
    batches: Count,
    baseline: BaselineMetrics,
}

/// Calls with their models.
struct Bound {
    calls: Vec<ScoreCall>,
    models: Vec<Arc<ScoringModel>>,
}

impl ScoreRun {
    fn score(&self, bound: &Bound, batch: &RecordBatch) -> Result<RecordBatch> {
        let _timer = self.compute.timer();
        let mut columns = batch.columns().to_vec();
        for ((call, model), args) in bound.calls.iter().zip(&bound.models).zip(&self.args) {
            columns.push(score_call(call, model, args, batch)?);
        }
        self.batches.add(1);
        self.baseline.record_output(batch.num_rows());
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn score_call(call: &ScoreCall, model: &ScoringModel, args: &[usize], batch: &RecordBatch) -> Result<ArrayRef> {
    let field = |(name, i): (&String, &usize)| {
        let f = batch.schema().field(*i).clone().with_name(name);
        (Arc::new(f), Arc::clone(batch.column(*i)))
    };
    let (fields, columns): (Vec<_>, Vec<_>) = call.inputs.iter().zip(args).map(field).unzip();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let inputs = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    Ok(model.score(&inputs)?)
}

async fn load_all(calls: &[ScoreCall], ctx: &TaskContext) -> Result<Vec<Arc<ScoringModel>>> {
    let mut models = Vec::with_capacity(calls.len());
    for call in calls {
        models.push(services(ctx.session_config()).model(&call.model, &ctx.runtime_env()).await?);
    }
    Ok(models)
}
