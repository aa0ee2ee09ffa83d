//! Training as an operator: rows in are tasks, rows out are outcomes.
//!
//! A task is a group of candidates that share a matrix and its rows; it trains within one process on rows in the
//! matrix's order, so its models do not depend on where it runs. A candidate that fails is an outcome with a reason,
//! never a failed job. Where rows are in shards ([`shards`]), a task is one shard's part of a pass over them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt32Type};
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::writer::StreamWriter;
use arrow::row::{Row, RowConverter, SortField};
use bytes::Bytes;
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{
    DFSchema, DFSchemaRef, DataFusionError, Result, exec_datafusion_err, internal_datafusion_err, internal_err,
};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tidemill_connectors::stores::Location;
use tidemill_ml::MlError;
use tidemill_ml::estimator::{Artifacts, FitContext, FoldKey, Model, Params, ProblemType, fold_hash};
use tidemill_ml::eval::{Evaluation, Metric, PermutationImportance, Predicted, permutation_importances};
use tidemill_ml::matrix::{Feature, Features, Matrix};

use super::shards::{self, Outbox, Question};
use crate::codec::wire;
use crate::session::{Services, services};

/// The fold of rows that are held out of every fit.
pub const HELD_OUT: u32 = u32::MAX;

/// A group of candidates to train on one matrix.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainTask {
    /// The group's number in its grid.
    pub group: usize,
    /// Where the matrix lies.
    pub matrix: MatrixRef,
    /// The fold that is validated on; none trains on all folds and evaluates on the held-out rows.
    pub fold: Option<u32>,
    /// The estimator.
    pub estimator: String,
    /// The candidates: their numbers in the grid and their parameters.
    pub candidates: Vec<(usize, Params)>,
    /// The metric that ranks them.
    pub metric: String,
    /// The score from which a row is predicted to be positive.
    pub threshold: f64,
    /// Whether a fit on all folds is followed by shuffling each feature of the held-out rows.
    #[serde(default)]
    pub permutation_importance: bool,
    /// The share of the rows that is trained on, by hash.
    pub row_share: f64,
    /// The seed.
    pub seed: u64,
    /// Where its outcomes are kept once all its fits went well, for a search that goes on where this one ended.
    pub keep_at: Option<String>,
}

/// A featurised matrix in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatrixRef {
    /// The URLs of its Arrow IPC files. The paths are unique to the run and their content never changes.
    pub urls: Vec<String>,
    /// The files' size, reserved from the task's memory twice (bytes and columns).
    pub size_bytes: u64,
    /// The columns that its rows are put in order by.
    pub key: Vec<String>,
    /// Its feature columns, as JSON of [`Feature`].
    pub features: String,
    /// The label's column.
    pub label: String,
    /// What is to be learnt.
    pub problem: ProblemType,
    /// How many classes the label has.
    pub n_classes: usize,
    /// The weights' column.
    pub weight: Option<String>,
    /// The fold's column: `UInt32`, [`HELD_OUT`] for held-out rows.
    pub fold: String,
    /// By file, the shard that it belongs to; empty where the matrix is not in shards.
    pub shard_of: Vec<u32>,
}

impl MatrixRef {
    /// What it takes in memory where it is trained on whole: its files' bytes twice, for these and for columns. Shards are
    /// kept otherwise.
    pub(crate) fn memory_bytes(&self) -> u64 {
        if self.shard_of.is_empty() { self.size_bytes.saturating_mul(2) } else { 0 }
    }

    /// Its shards, each a matrix, in the order of their numbers. They are of about one size.
    pub(crate) fn shards(&self) -> Vec<Self> {
        let mut urls: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (shard, url) in self.shard_of.iter().zip(&self.urls) {
            urls.entry(*shard).or_default().push(url.clone());
        }
        let size_bytes = self.size_bytes / urls.len().max(1) as u64;
        urls.into_values().map(|urls| Self { urls, size_bytes, shard_of: Vec::new(), ..self.clone() }).collect()
    }
}

/// What came of one candidate of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainOutcome {
    /// The group.
    pub group: usize,
    /// The candidate.
    pub candidate: usize,
    /// The fold that it was validated on.
    pub fold: Option<u32>,
    /// The metric there.
    pub metric: Option<f64>,
    /// All figures on the held-out rows, for a fit on all folds.
    pub evaluation: Option<Evaluation>,
    /// The trained model's files, for a fit on all folds.
    pub artifacts: Option<Artifacts>,
    /// What matters to the model, for a fit on all folds.
    #[serde(default)]
    pub importances: Importances,
    /// The candidate's share of the group's time.
    pub seconds: f64,
    /// The memory that its process set apart for the group; 0 where rows are in shards, or none was.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Where it ran.
    pub executor: String,
}

/// How much each feature matters to a model, of each kind; those that the model does not have are empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Importances {
    /// [`Model::importances`], largest first.
    pub of_model: Vec<(String, f64)>,
    /// [`Model::split_counts`].
    pub split_counts: Vec<(String, u64)>,
    /// By how much the metric on the held-out rows gets worse when the feature is shuffled, most first.
    pub permutation: Vec<PermutationImportance>,
}

/// The plan that runs tasks: one partition for each, so that each is a task of its own on a cluster.
///
/// # Errors
/// None that a caller can cause.
pub fn task_table<T: Serialize>(tasks: &[T]) -> Result<MemTable> {
    let schema = Arc::new(Schema::new(vec![Field::new("task", DataType::Utf8, false)]));
    let partition = |task: &T| {
        let json = String::from_utf8_lossy(&wire::encode(task)?).into_owned();
        let column: ArrayRef = Arc::new(StringArray::from_iter_values([json]));
        Ok(vec![RecordBatch::try_new(Arc::clone(&schema), vec![column])?])
    };
    let partitions = tasks.iter().map(partition).collect::<Result<Vec<_>>>()?;
    MemTable::try_new(Arc::clone(&schema), partitions)
}

/// Reads outcomes back, in the grid's order.
///
/// # Errors
/// Rows that are not outcomes.
pub fn outcomes(batches: &[RecordBatch]) -> Result<Vec<TrainOutcome>> {
    let mut all = Vec::new();
    for batch in batches {
        for json in batch.column(0).as_binary::<i32>().iter().flatten() {
            all.extend(wire::decode::<Vec<TrainOutcome>>(json)?);
        }
    }
    all.sort_by_key(|o| (o.candidate, o.fold));
    Ok(all)
}

/// One row of bytes for each task.
fn outcome_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("outcomes", DataType::Binary, false)]))
}

/// A table in memory as Arrow IPC streams, one for each partition.
pub(crate) fn encode_tasks(table: &MemTable) -> Result<Vec<u8>> {
    let schema = datafusion::catalog::TableProvider::schema(table);
    let mut partitions = Vec::with_capacity(table.batches.len());
    for partition in &table.batches {
        let batches =
            partition.try_read().map_err(|_| exec_datafusion_err!("a table in memory is being written to"))?;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        batches.iter().try_for_each(|b| writer.write(b))?;
        partitions.push(writer.into_inner()?);
    }
    wire::encode(&partitions)
}

pub(crate) fn decode_tasks(bytes: &[u8]) -> Result<Vec<Vec<RecordBatch>>> {
    let partitions: Vec<Vec<u8>> = wire::decode(bytes)?;
    let read = |bytes: Vec<u8>| StreamReader::try_new(&bytes[..], None)?.collect::<Result<Vec<_>, _>>();
    Ok(partitions.into_iter().map(read).collect::<Result<_, arrow::error::ArrowError>>()?)
}

/// Runs the tasks that its input holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrainNode {
    input: LogicalPlan,
    schema: DFSchemaRef,
    question: Option<Arc<Question>>,
}

impl PartialOrd for TrainNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl TrainNode {
    /// A plan over a [`task_table`]: of [`TrainTask`]s, or of the shards that answer a question.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn plan(input: LogicalPlan, question: Option<Arc<Question>>) -> Result<LogicalPlan> {
        let schema = Arc::new(DFSchema::try_from(outcome_schema().as_ref().clone())?);
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self { input, schema, question }) }))
    }

    /// What its tasks answer.
    pub(crate) fn question(&self) -> Option<&Arc<Question>> {
        self.question.as_ref()
    }
}

impl UserDefinedLogicalNodeCore for TrainNode {
    fn name(&self) -> &str {
        "Train"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Train")
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (schema, question) = (Arc::clone(&self.schema), self.question.clone());
        Ok(Self { input: inputs.swap_remove(0), schema, question })
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![vec![0]])
    }
}

/// Runs one task for each row of its input; partition-preserving.
#[derive(Debug)]
pub struct TrainExec {
    input: Arc<dyn ExecutionPlan>,
    question: Option<Arc<Question>>,
    outbox: Arc<Outbox>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl TrainExec {
    /// An operator over the tasks of `input`'s first column.
    pub fn new(input: Arc<dyn ExecutionPlan>, question: Option<Arc<Question>>) -> Self {
        let schema = outcome_schema();
        let from = input.properties();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(from.output_partitioning().partition_count()),
            from.emission_type,
            from.boundedness,
        ));
        Self { input, question, outbox: Arc::default(), schema, properties }
    }

    /// What its tasks answer.
    pub fn question(&self) -> Option<&Arc<Question>> {
        self.question.as_ref()
    }
}

impl DisplayAs for TrainExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "TrainExec")
    }
}

impl ExecutionPlan for TrainExec {
    fn name(&self) -> &str {
        "TrainExec"
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
        Ok(Arc::new(Self::new(children.swap_remove(0), self.question.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, ctx: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&ctx))?;
        let (schema, question, outbox) = (Arc::clone(&self.schema), self.question.clone(), Arc::clone(&self.outbox));
        let n_shards = self.properties.output_partitioning().partition_count();
        let outcomes = input.then(move |batch| {
            let (ctx, schema, question) = (Arc::clone(&ctx), Arc::clone(&schema), question.clone());
            let outbox = Arc::clone(&outbox);
            async move {
                let mut rows = Vec::new();
                for task in batch?.column(0).as_string::<i32>().iter().flatten() {
                    match &question {
                        None => rows.push(wire::encode(&run(wire::decode(task.as_bytes())?, &ctx).await?)?),
                        Some(question) => {
                            let task = wire::decode(task.as_bytes())?;
                            rows.extend(shards::answer(task, question, &outbox, n_shards, &ctx).await?);
                        }
                    }
                }
                let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(rows));
                Ok(RecordBatch::try_new(schema, vec![column])?)
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), outcomes)))
    }
}

/// Sets the flag that stops a fit when the stream that waits for it is dropped.
pub(crate) struct CancelOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn run(task: TrainTask, ctx: &TaskContext) -> Result<Vec<TrainOutcome>> {
    let services = services(ctx.session_config());
    let reservation = reserve(&task, ctx)?;
    let matrix = services.matrix(&task.matrix, &ctx.runtime_env()).await?;
    let fit = FitContext::new(task.seed);
    let guard = CancelOnDrop(Arc::clone(&fit.cancel));
    let task = Arc::new(task);
    let of = Arc::clone(&task);
    let outcomes = tokio::task::spawn_blocking(move || train(&of, &matrix, &services, &fit))
        .await
        .map_err(|e| internal_datafusion_err!("a training task ended badly: {e}"))?;
    drop(guard);
    drop(reservation);
    let outcomes = outcomes?;
    keep(&task, &outcomes).await;
    Ok(outcomes)
}

/// Keeps a group's outcomes where it says so and none is an error. What cannot be kept is warned of: it would only be
/// trained again.
pub(crate) async fn keep(task: &TrainTask, outcomes: &[TrainOutcome]) {
    let Some(url) = task.keep_at.as_ref().filter(|_| outcomes.iter().all(|outcome| outcome.error.is_none())) else {
        return;
    };
    let kept = async {
        let bytes = wire::encode(&outcomes)?;
        Ok::<_, DataFusionError>(Location::parse(url)?.create(bytes).await?)
    };
    if let Err(error) = kept.await {
        tracing::warn!(%error, "the outcomes of a group are not kept at {url}");
    }
}

/// Takes the memory that a task's matrix needs: twice its files' bytes, for these and for columns.
///
/// # Errors
/// Too little of it, with what would do.
fn reserve(task: &TrainTask, ctx: &TaskContext) -> Result<MemoryReservation> {
    let bytes = usize::try_from(task.matrix.memory_bytes()).unwrap_or(usize::MAX);
    let reservation = MemoryConsumer::new(format!("training group {}", task.group)).register(ctx.memory_pool());
    reservation.try_grow(bytes).map_err(|e| {
        DataFusionError::ResourcesExhausted(format!(
            "training group {} ({}) needs {:.1} MB for its matrix and its task has less; give the process more memory, or \
             train over shards with grid.parallel: rows ({e})",
            task.group,
            task.estimator,
            bytes as f64 / 1e6
        ))
    })?;
    Ok(reservation)
}

/// Reads the bytes of a matrix's files.
pub(crate) fn read_matrix(r: &MatrixRef, files: &[Bytes]) -> Result<Matrix> {
    let mut batches = Vec::new();
    for bytes in files {
        for batch in FileReader::try_new(Cursor::new(bytes), None)? {
            batches.push(batch?);
        }
    }
    let batch = in_order(&batches, &r.key)?;
    let features: Vec<Feature> = wire::decode(r.features.as_bytes())?;
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| internal_datafusion_err!("the matrix has no column {name:?}"))
    };
    let numbers = |name: &str| Ok::<_, DataFusionError>(arrow::compute::cast(column(name)?, &DataType::Float64)?);
    let label = numbers(&r.label)?;
    let weight = r.weight.as_ref().map(|name| numbers(name)).transpose()?;
    let fold = arrow::compute::cast(column(&r.fold)?, &DataType::UInt32)?;
    let nulls = label.null_count() + fold.null_count() + weight.as_ref().map_or(0, |weight| weight.null_count());
    if nulls > 0 {
        return internal_err!("the matrix has rows without a label, weight or fold");
    }
    let values = |array: &ArrayRef| Arc::from(&array.as_primitive::<Float64Type>().values()[..]);
    Ok(Matrix {
        x: Features::from_batch(features.into(), &batch)?,
        problem: r.problem,
        label: values(&label),
        n_classes: r.n_classes,
        weight: weight.as_ref().map(values),
        fold: Arc::from(&fold.as_primitive::<UInt32Type>().values()[..]),
    })
}

/// The rows of all batches in ascending order of the key, nulls last.
pub(crate) fn in_order(batches: &[RecordBatch], key: &[String]) -> Result<RecordBatch> {
    let Some(schema) = batches.first().map(RecordBatch::schema) else {
        return internal_err!("the matrix has no rows");
    };
    let columns = key.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let ascending = SortOptions { descending: false, nulls_first: false };
    let field = |&column: &usize| SortField::new_with_options(schema.field(column).data_type().clone(), ascending);
    let converter = RowConverter::new(columns.iter().map(field).collect())?;
    let keys_of = |batch: &RecordBatch| converter.convert_columns(batch.project(&columns)?.columns());
    let mut parts = batches.iter().map(|batch| Ok((keys_of(batch)?, batch))).collect::<Result<Vec<_>>>()?;
    parts.retain(|(_, batch)| batch.num_rows() > 0);
    parts.sort_by(|(a, _), (b, _)| a.row(0).cmp(&b.row(0)));

    let rows = concat_batches(&schema, parts.iter().map(|(_, batch)| *batch))?;
    let keys: Vec<Row<'_>> = parts.iter().flat_map(|(keys, _)| keys).collect();
    if keys.is_sorted() {
        return Ok(rows);
    }
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_by_key(|&row| keys[row as usize]);
    Ok(take_record_batch(&rows, &UInt32Array::from(order))?)
}

fn train(
    task: &TrainTask,
    matrix: &Matrix,
    services: &Services,
    ctx: &FitContext,
) -> Result<Vec<TrainOutcome>, MlError> {
    let estimator = services.plugins.estimators.get(&task.estimator)?;
    let (fit_rows, eval_rows) = rows_of(task, matrix);
    let params: Vec<Params> = task.candidates.iter().map(|(_, p)| p.clone()).collect();
    let started = Instant::now();
    let models = estimator.fit(matrix, &fit_rows, &params, ctx);
    ctx.check()?;
    let seconds = started.elapsed().as_secs_f64() / models.len().max(1) as f64;
    let label = eval_rows.iter().map(|r| matrix.label[*r as usize]).collect();
    let evaluator = Evaluator::new(task, Some(matrix.x.take(&eval_rows)), label)?;
    Ok(task
        .candidates
        .iter()
        .zip(models)
        .map(|((id, _), model)| {
            let result = model.and_then(|m| evaluator.judge(m.as_ref(), ctx));
            outcome(task, *id, result, seconds, &services.process)
        })
        .collect())
}

/// The rows that a task trains on, and those that it evaluates on.
pub(super) fn rows_of(task: &TrainTask, matrix: &Matrix) -> (Vec<u32>, Vec<u32>) {
    let (mut fit_rows, eval_rows) = split(matrix, task.fold);
    if task.row_share < 1.0 {
        let below = (task.row_share * u64::MAX as f64) as u64;
        fit_rows.retain(|row| fold_hash(FoldKey::Number(i64::from(*row)), !task.seed) < below);
    }
    (fit_rows, eval_rows)
}

/// The rows to train on and those to evaluate on.
fn split(matrix: &Matrix, fold: Option<u32>) -> (Vec<u32>, Vec<u32>) {
    let validated = fold.unwrap_or(HELD_OUT);
    let rows = |keep: &dyn Fn(u32) -> bool| {
        matrix.fold.iter().enumerate().filter(|(_, f)| keep(**f)).map(|(i, _)| i as u32).collect()
    };
    (rows(&|f| f != validated && f != HELD_OUT), rows(&|f| f == validated))
}

/// What was found of a candidate that trained.
pub(crate) struct Judgement {
    metric: f64,
    evaluation: Option<Evaluation>,
    artifacts: Option<Artifacts>,
    importances: Importances,
}

/// Rows with their labels, that a task's models are judged by.
pub(crate) struct Evaluator<'a> {
    task: &'a TrainTask,
    metric: Metric,
    x: Option<Features>,
    label: Vec<f64>,
}

impl<'a> Evaluator<'a> {
    /// The rows with these labels; metrics of clusters need their features.
    ///
    /// # Errors
    /// A metric that does not exist.
    pub(crate) fn new(task: &'a TrainTask, x: Option<Features>, label: Vec<f64>) -> Result<Self, MlError> {
        Ok(Self { task, metric: task.metric.parse()?, x, label })
    }

    fn judge(&self, model: &dyn Model, ctx: &FitContext) -> Result<Judgement, MlError> {
        let x = self.x.as_ref().ok_or_else(|| MlError::Internal("rows to judge by have no features".to_owned()))?;
        self.judge_by(model, &model.predict(x)?, ctx)
    }

    /// What there is to say of a model that gave these predictions.
    ///
    /// # Errors
    /// A metric that these rows do not have.
    pub(crate) fn judge_by(
        &self,
        model: &dyn Model,
        predictions: &[f64],
        ctx: &FitContext,
    ) -> Result<Judgement, MlError> {
        let MatrixRef { problem, n_classes, .. } = self.task.matrix;
        let (labels, threshold, x) = (&self.label[..], self.task.threshold, self.x.as_ref());
        let rows = Predicted { problem, n_classes, predictions, labels, threshold, x };
        let metric = self.metric.compute(&rows)?;
        if self.task.fold.is_some() {
            return Ok(Judgement { metric, evaluation: None, artifacts: None, importances: Importances::default() });
        }
        Ok(Judgement {
            metric,
            evaluation: Some(Evaluation::of(&rows)?),
            artifacts: Some(model.save()?),
            importances: self.importances(model, &rows, ctx)?,
        })
    }

    /// Of equal ones, the first stays first.
    fn importances(&self, model: &dyn Model, rows: &Predicted<'_>, ctx: &FitContext) -> Result<Importances, MlError> {
        let mut of_model = model.importances();
        of_model.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let mut permutation = Vec::new();
        if self.task.permutation_importance {
            permutation = permutation_importances(model, self.metric, rows, ctx)?;
            permutation.sort_by(|a, b| b.mean.total_cmp(&a.mean));
        }
        Ok(Importances { of_model, split_counts: model.split_counts(), permutation })
    }
}

/// What came of a candidate.
pub(crate) fn outcome(
    task: &TrainTask,
    candidate: usize,
    result: Result<Judgement, MlError>,
    seconds: f64,
    process: &str,
) -> TrainOutcome {
    let (judgement, error) = match result {
        Ok(j) => (Some(j), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let metric = judgement.as_ref().map(|j| j.metric);
    let (evaluation, artifacts, importances) =
        judgement.map(|j| (j.evaluation, j.artifacts, j.importances)).unwrap_or_default();
    TrainOutcome {
        group: task.group,
        candidate,
        fold: task.fold,
        metric,
        evaluation,
        artifacts,
        importances,
        seconds,
        memory_bytes: task.matrix.memory_bytes(),
        error,
        executor: process.to_owned(),
    }
}

/// Parameters as JSON, for records.
pub fn params_value(params: &Params) -> serde_json::Value {
    serde_json::Value::Object(params.clone().into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use tidemill_ml::estimator::{Estimator, LinearRegression};
    use tidemill_ml::matrix::{FeatureKind, FeatureValues, Features};

    use super::*;

    /// Batches of rows with a key of two columns, and what else the row has.
    fn batch(rows: &[(&str, Option<i64>, i64)]) -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
        let numbers: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
        let values: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>());
        RecordBatch::try_from_iter_with_nullable([("a", texts, true), ("b", numbers, true), ("x", values, true)])
            .unwrap()
    }

    fn ordered(batches: &[RecordBatch]) -> Vec<i64> {
        let rows = in_order(batches, &["a".to_owned(), "b".to_owned()]).unwrap();
        rows["x"].as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    }

    fn task(fold: Option<u32>, permutation_importance: bool) -> TrainTask {
        let matrix = MatrixRef {
            urls: Vec::new(),
            size_bytes: 0,
            key: Vec::new(),
            features: String::new(),
            label: "y".to_owned(),
            problem: ProblemType::Regression,
            n_classes: 0,
            weight: None,
            fold: "fold".to_owned(),
            shard_of: Vec::new(),
        };
        TrainTask {
            group: 0,
            matrix,
            fold,
            estimator: "linear_regression".to_owned(),
            candidates: Vec::new(),
            metric: "rmse".to_owned(),
            threshold: 0.5,
            permutation_importance,
            row_share: 1.0,
            seed: 1,
            keep_at: None,
        }
    }

    #[test]
    fn features_are_shuffled_for_the_fit_on_all_folds_that_asks_for_it() {
        let number = |name: &str| Feature { name: name.to_owned(), kind: FeatureKind::Number };
        let column = |by: usize| (0..300).map(|i| (i * by % 101) as f64).collect::<Vec<_>>();
        let label = column(37).iter().zip(column(53)).map(|(a, b)| 0.5 * a + 4.0 * b).collect();
        let values = [37, 53].map(|by| FeatureValues::Number(column(by).into())).to_vec();
        let x = Features { features: Arc::new([number("a"), number("b")]), values, n_rows: 300 };
        let matrix = Matrix::new(x, label, ProblemType::Regression);
        let (rows, ctx): (Vec<u32>, _) = ((0..300).collect(), FitContext::new(1));
        let model = LinearRegression.fit(&matrix, &rows, &[Params::new()], &ctx).remove(0).unwrap();
        let found = |task: &TrainTask| {
            let evaluator = Evaluator::new(task, Some(matrix.x.clone()), matrix.label.to_vec()).unwrap();
            evaluator.judge(model.as_ref(), &ctx).unwrap().importances
        };
        assert_eq!(found(&task(Some(0), true)), Importances::default());
        let without = found(&task(None, false));
        assert!(without.permutation.is_empty() && without.of_model[0].0 == "b");
        let permutation = found(&task(None, true)).permutation;
        assert_eq!(permutation.iter().map(|i| &i.feature[..]).collect::<Vec<_>>(), ["b", "a"]);
        assert!(permutation[0].mean > 4.0 * permutation[1].mean && permutation[1].mean > 1.0);
    }

    #[test]
    fn rows_are_in_the_order_of_the_key_however_they_are_dealt() {
        let rows = [("a", Some(1), 0), ("a", Some(10), 1), ("a", None, 2), ("b", Some(-5), 3), ("b", Some(2), 4)];
        let none = batch(&[]);
        let dealt = [
            vec![batch(&rows)],
            vec![batch(&rows[2..]), none.clone(), batch(&rows[..2])],
            vec![batch(&[rows[3], rows[0]]), batch(&[rows[4], rows[2], rows[1]])],
        ];
        for batches in dealt {
            assert_eq!(ordered(&batches), [0, 1, 2, 3, 4]);
        }
        assert_eq!(ordered(&[none]), [0i64; 0]);
    }
}
