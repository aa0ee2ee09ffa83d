//! Decodes tasks, runs them on threads of their own, and cancels them.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ballista_core::client_pool::BallistaClientPool;
use ballista_core::error::BallistaError;
use ballista_core::execution_plans::{
    RangeShuffleReaderExec, RangeShuffleWriterExec, ShuffleReaderExec, ShuffleWriterExec, SortShuffleWriterExec,
    create_shuffle_path,
};
use ballista_core::extension::SessionConfigHelperExt;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::{
    KeyValuePair, MultiTaskDefinition, OperatorMetricsSet, SuccessfulTask, TaskId, TaskStatus,
};
use ballista_core::serde::scheduler::{TaskDefinition, TaskKey};
use ballista_core::{ConfigProducer, JobId};
use ballista_executor::execution_engine::{DefaultQueryStageExec, QueryStageExecutor, ShuffleWriterVariant};
use ballista_executor::runtime_cache::SessionRuntimeCache;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::FutureExt;
use tidemill_engine::cluster::{FetchPool, RuntimeHooks};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::report::{TaskRef, now_ms};
use crate::task_input::TaskInput;
use crate::work_dir::{Output, WorkDir};

/// What tasks of one executor have in common.
pub(crate) struct TaskRunner {
    pub(crate) executor_id: String,
    pub(crate) hooks: RuntimeHooks,
    /// The hooks' configuration with what this process adds to it.
    pub(crate) config: ConfigProducer,
    pub(crate) codec: BallistaCodec,
    pub(crate) runtimes: Arc<dyn SessionRuntimeCache>,
    /// Connections to other executors.
    pub(crate) fetches: Arc<FetchPool>,
    pub(crate) work_dir: Arc<WorkDir>,
    /// The threads that tasks run on, apart from those that answer the network.
    pub(crate) threads: Handle,
    pub(crate) statuses: mpsc::Sender<TaskStatus>,
    pub(crate) running: Running,
    /// The latest first.
    pub(crate) prepared: Mutex<VecDeque<Arc<Prepared>>>,
}

/// The most bytes of rows that a task's outputs are kept in memory for.
const SMALL_OUTPUT_BYTES: usize = 64 << 10;
/// The most bytes beside the rows.
const MAX_OVERHEAD_BYTES: usize = 192 << 10;
/// What each stream of batches takes beside its rows, and what it takes for each column.
const STREAM_BYTES: usize = 1 << 10;
const COLUMN_BYTES: usize = 512;
/// What each file takes more than its bytes: file systems in memory give out whole pages.
const FILE_BYTES: usize = 8 << 10;

/// How many sets of options an executor keeps contexts for: few clusters' sessions have more at a time.
const MAX_PREPARED: usize = 16;

/// What tasks are decoded with whose sessions have the same options.
pub(crate) struct Prepared {
    options: Vec<KeyValuePair>,
    context: TaskContext,
}

/// The tasks that run, and how to cancel them.
#[derive(Debug, Default)]
pub(crate) struct Running {
    tasks: Mutex<Tasks>,
    /// Wakes who waits for a task to end.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Tasks {
    /// By task and attempt of its stage.
    tokens: HashMap<(TaskKey, usize), CancellationToken>,
    /// Cancellations that overtook the launch of their task.
    early: HashMap<TaskKey, Instant>,
}

/// How long a cancellation waits for a task that it may have overtaken. One that meets a later attempt of the task
/// instead does no harm: the scheduler starts a cancelled task again if it still needs it.
const EARLY: Duration = Duration::from_secs(2);

impl Running {
    fn add(&self, task: &TaskRef) -> CancellationToken {
        let token = CancellationToken::new();
        let mut tasks = self.lock();
        if tasks.early.remove(&task.key).is_some_and(|at| at.elapsed() < EARLY) {
            token.cancel();
        }
        tasks.tokens.insert((task.key.clone(), task.stage_attempt), token.clone());
        token
    }

    fn remove(&self, task: &TaskRef) {
        self.lock().tokens.remove(&(task.key.clone(), task.stage_attempt));
        self.ended.notify_waiters();
    }

    /// Cancels tasks of earlier attempts of a task's stage and waits until they have ended: they write the same files.
    async fn outlast_earlier(&self, task: &TaskRef) {
        loop {
            let ended = self.ended.notified();
            if !self.cancel_earlier(task) {
                return;
            }
            ended.await;
        }
    }

    /// Whether there were any.
    fn cancel_earlier(&self, task: &TaskRef) -> bool {
        let tasks = self.lock();
        let earlier = tasks.tokens.iter().filter(|((key, attempt), _)| {
            (&key.job_id, key.stage_id) == (&task.key.job_id, task.key.stage_id) && *attempt < task.stage_attempt
        });
        earlier.map(|(_, token)| token.cancel()).count() > 0
    }

    /// Cancels a task; whether it was running.
    pub(crate) fn cancel(&self, key: &TaskKey) -> bool {
        let mut tasks = self.lock();
        let found = tasks.tokens.iter().filter(|((task, _), _)| task == key);
        let running = found.map(|(_, token)| token.cancel()).count() > 0;
        if !running {
            tasks.early.retain(|_, at| at.elapsed() < EARLY);
            tasks.early.insert(key.clone(), Instant::now());
        }
        running
    }

    /// Cancels all tasks.
    pub(crate) fn cancel_all(&self) {
        self.lock().tokens.values().for_each(CancellationToken::cancel);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskRunner {
    /// Starts the tasks of one stage that the scheduler sent, without waiting for it: the scheduler gives out tasks while
    /// others are decoded. What cannot be decoded is reported as failed, with the reason, rather than refused: a refusal
    /// would reach the user without one.
    pub(crate) fn launch(self: &Arc<Self>, tasks: MultiTaskDefinition) {
        let refs: Vec<_> = refs_of(&tasks).into_iter().map(|task| (self.running.add(&task), task)).collect();
        let runner = Arc::clone(self);
        tokio::spawn(async move {
            let decoded = panic::catch_unwind(AssertUnwindSafe(|| runner.decode(tasks)));
            match decoded.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
                Ok(tasks) => {
                    for (task, (token, task_ref)) in tasks.into_iter().zip(refs) {
                        runner.threads.spawn(Arc::clone(&runner).run(task, task_ref, token));
                    }
                }
                Err(error) => runner.refuse(refs.into_iter().map(|(_, task)| task).collect(), &error).await,
            }
        });
    }

    fn decode(&self, tasks: MultiTaskDefinition) -> Result<Vec<TaskDefinition>, BallistaError> {
        let prepared = self.prepared(&tasks.session_id, tasks.props)?;
        let plan = PhysicalPlanNode::try_decode(&tasks.plan)?;
        let plan = plan.try_into_physical_plan(&prepared.context, self.codec.physical_extension_codec())?;
        let job_id: JobId = tasks.job_id.into();
        let define = |task: TaskId| {
            Ok(TaskDefinition {
                task_id: task.task_id as usize,
                task_attempt_num: task.task_attempt_num as usize,
                job_id: job_id.clone(),
                stage_id: tasks.stage_id as usize,
                stage_attempt_num: tasks.stage_attempt_num as usize,
                global_output_partition_ids: task.global_output_partition_ids.iter().map(|id| *id as usize).collect(),
                vcores_consumed: task.vcores_consumed,
                plan: with_own_metrics(&plan)?,
                launch_time: tasks.launch_time,
                session_id: tasks.session_id.clone(),
                session_config: prepared.context.session_config().clone(),
                function_registry: Arc::clone(&self.hooks.functions),
            })
        };
        tasks.task_ids.into_iter().map(define).collect()
    }

    /// What tasks with these options are decoded with. A session's tasks have the same hundreds of options.
    fn prepared(&self, session: &str, options: Vec<KeyValuePair>) -> Result<Arc<Prepared>, BallistaError> {
        let mut known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|prepared| prepared.options == options) {
            return Ok(Arc::clone(found));
        }
        let config = (self.config)().update_from_key_value_pair(&options);
        let runtime = self.runtimes.produce_runtime(session, &config, 1)?;
        let context = task_context(&self.hooks.functions, None, session.to_owned(), config, runtime);
        let prepared = Arc::new(Prepared { options, context });
        known.truncate(MAX_PREPARED - 1);
        known.push_front(Arc::clone(&prepared));
        Ok(prepared)
    }

    async fn refuse(&self, refs: Vec<TaskRef>, error: &BallistaError) {
        for task_ref in refs {
            self.running.remove(&task_ref);
            let error = BallistaError::General(format!("the task's plan cannot be decoded: {error}"));
            self.send(task_ref.failed(&self.executor_id, error)).await;
        }
    }

    async fn run(self: Arc<Self>, task: TaskDefinition, mut task_ref: TaskRef, token: CancellationToken) {
        // When this future is dropped, at shutdown, what the stage spawned ends too.
        let _guard = token.clone().drop_guard();
        self.running.outlast_earlier(&task_ref).await;
        task_ref.start_ms = now_ms();
        let work = AssertUnwindSafe(self.execute(task, &task_ref, &token)).catch_unwind();
        let result = work.await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        self.running.remove(&task_ref);
        let status = match result {
            Ok((metrics, done)) => task_ref.succeeded(metrics, done),
            Err(_) if token.is_cancelled() => task_ref.failed(&self.executor_id, BallistaError::Cancelled),
            Err(error) => task_ref.failed(&self.executor_id, error),
        };
        self.send(status).await;
    }

    async fn execute(
        &self,
        task: TaskDefinition,
        task_ref: &TaskRef,
        token: &CancellationToken,
    ) -> Result<(Vec<OperatorMetricsSet>, SuccessfulTask), BallistaError> {
        let input = Arc::new(TaskInput::new(self.input(&task)?, token.clone()));
        let writer = self.writer(&task, Arc::clone(&input))?;
        let outputs = outputs_of(&task, &writer)?;
        let overhead = overhead(&writer, outputs.len());
        let context = self.context(task, task_ref.name())?;
        let mut is_in_memory = false;
        if self.work_dir.has_memory() && overhead <= MAX_OVERHEAD_BYTES {
            let bytes = input.begin(&context, SMALL_OUTPUT_BYTES).await?;
            is_in_memory = bytes.is_some_and(|bytes| self.work_dir.hold(&task_ref.key, (bytes + overhead) as u64));
        }
        if !is_in_memory {
            outputs.iter().try_for_each(|(place, kind)| self.work_dir.put_on_disk(place, *kind))?;
        }
        let stage = DefaultQueryStageExec::new(writer);
        let written = stage.execute_query_stage(task_ref.key.task_id, context).await;
        if written.is_err() && is_in_memory && self.work_dir.was_full() {
            // The scheduler tries a task again whose input or output failed: on disk this time.
            return Err(BallistaError::IoError(ErrorKind::StorageFull.into()));
        }
        let partitions = written?;
        let done = SuccessfulTask {
            executor_id: self.executor_id.clone(),
            partitions,
            runtime_stats: stage.collect_runtime_stats_reports(),
            task_column_stats: stage.collect_column_stats(),
            window_state: stage.collect_window_state_reports()?,
        };
        Ok((metrics_of(&stage)?, done))
    }

    /// What a task's shuffle writer reads, with readers of other stages that know this executor.
    fn input(&self, task: &TaskDefinition) -> Result<Arc<dyn ExecutionPlan>, BallistaError> {
        let [input] = task.plan.children()[..] else {
            return Err(BallistaError::Internal(format!("{} is not a shuffle writer", task.plan.name())));
        };
        let known = |node: Arc<dyn ExecutionPlan>| {
            let fetches: Arc<dyn BallistaClientPool> = Arc::<FetchPool>::clone(&self.fetches);
            let known: Arc<dyn ExecutionPlan> = if let Some(reader) = node.downcast_ref::<ShuffleReaderExec>() {
                Arc::new(reader.with_work_dir(self.work_path()).with_client_pool(fetches))
            } else if let Some(reader) = node.downcast_ref::<RangeShuffleReaderExec>() {
                Arc::new(reader.with_work_dir(self.work_path()).with_client_pool(fetches))
            } else {
                return Ok(Transformed::no(node));
            };
            Ok(Transformed::yes(known))
        };
        Ok(Arc::clone(input).transform_up(known).data()?)
    }

    /// A task's shuffle writer over its input.
    fn writer(&self, task: &TaskDefinition, input: Arc<TaskInput>) -> Result<ShuffleWriterVariant, BallistaError> {
        let (job, stage, id) = (task.job_id.clone(), task.stage_id, task.task_id);
        let partitions = task.global_output_partition_ids.clone();
        if let Some(writer) = task.plan.downcast_ref::<SortShuffleWriterExec>() {
            let (by, config) = (writer.shuffle_output_partitioning().clone(), writer.config().clone());
            let writer = SortShuffleWriterExec::try_new(job, stage, input, self.work_path(), by, config)?;
            let writer = writer.with_task_id(id).with_global_output_partition_ids(partitions);
            return Ok(ShuffleWriterVariant::Sort(writer));
        }
        if task.plan.is::<RangeShuffleWriterExec>() {
            let writer = RangeShuffleWriterExec::try_new(job, stage, input, self.work_path())?;
            return Ok(ShuffleWriterVariant::Range(writer.with_task_id(id)));
        }
        if !task.plan.is::<ShuffleWriterExec>() {
            return Err(BallistaError::Internal(format!("expected a shuffle writer, got {}", task.plan.name())));
        }
        let writer = ShuffleWriterExec::try_new(job, stage, input, self.work_path())?;
        let writer = writer.with_task_id(id).with_global_output_partition_ids(partitions);
        Ok(ShuffleWriterVariant::Passthrough(writer))
    }

    fn work_path(&self) -> String {
        self.work_dir.path().display().to_string()
    }

    fn context(&self, task: TaskDefinition, name: String) -> Result<Arc<TaskContext>, BallistaError> {
        let runtime = self.runtimes.produce_runtime(&task.session_id, &task.session_config, task.vcores_consumed)?;
        let functions = task.function_registry;
        Ok(Arc::new(task_context(&functions, Some(name), task.session_id, task.session_config, runtime)))
    }

    async fn send(&self, status: TaskStatus) {
        if self.statuses.send(status).await.is_err() {
            tracing::debug!("a task ended after its executor");
        }
    }
}

/// The places that a task's writer makes its outputs at, below the work directory.
fn outputs_of(task: &TaskDefinition, writer: &ShuffleWriterVariant) -> Result<Vec<(PathBuf, Output)>, BallistaError> {
    let is_sorted = matches!(writer, ShuffleWriterVariant::Sort(_));
    let id = Some(task.task_id as u64);
    let file = |partition| create_shuffle_path("", &task.job_id, task.stage_id, partition, id, is_sorted);
    let folder = |file: PathBuf| (file.parent().map(Path::to_owned).unwrap_or_default(), Output::Folder);
    let partitions = task.global_output_partition_ids.iter();
    match writer {
        ShuffleWriterVariant::Sort(_) => Ok(vec![folder(file(0)?)]),
        ShuffleWriterVariant::Range(_) => partitions.map(|partition| Ok(folder(file(*partition)?))).collect(),
        ShuffleWriterVariant::Passthrough(_) => {
            partitions.map(|partition| Ok((file(*partition)?, Output::File))).collect()
        }
    }
}

/// The most bytes that a writer's outputs take beside their rows. Those of range shuffles always lie on disk.
fn overhead(writer: &ShuffleWriterVariant, n_outputs: usize) -> usize {
    let (n_streams, n_files, schema) = match writer {
        ShuffleWriterVariant::Sort(writer) => {
            let partitions = writer.shuffle_output_partitioning().partition_count();
            (1 + writer.input_partition_count() * partitions, 2, writer.schema())
        }
        ShuffleWriterVariant::Passthrough(writer) => (n_outputs, n_outputs, writer.schema()),
        ShuffleWriterVariant::Range(_) => return usize::MAX,
    };
    n_streams * (STREAM_BYTES + COLUMN_BYTES * schema.fields().len()) + n_files * FILE_BYTES
}

/// The tasks that a message describes.
fn refs_of(tasks: &MultiTaskDefinition) -> Vec<TaskRef> {
    let task_ref = |task_id: usize, task_attempt| TaskRef {
        key: TaskKey { job_id: tasks.job_id.clone().into(), stage_id: tasks.stage_id as usize, task_id },
        stage_attempt: tasks.stage_attempt_num as usize,
        task_attempt,
        launch_ms: tasks.launch_time,
        start_ms: now_ms(),
    };
    let ids = tasks.task_ids.iter();
    ids.map(|id| task_ref(id.task_id as usize, id.task_attempt_num as usize)).collect()
}

fn task_context(
    functions: &BallistaFunctionRegistry,
    name: Option<String>,
    session: String,
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
) -> TaskContext {
    TaskContext::new(
        name,
        session,
        config,
        functions.scalar_functions.clone(),
        functions.higher_order_functions.clone(),
        functions.aggregate_functions.clone(),
        functions.window_functions.clone(),
        runtime,
    )
}

/// The plan with metrics of its own: tasks that are decoded together would add to each other's.
fn with_own_metrics(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, BallistaError> {
    let reset = Arc::clone(plan).transform(|node| node.reset_state().map(Transformed::yes));
    Ok(reset.data()?)
}

fn metrics_of(stage: &dyn QueryStageExecutor) -> Result<Vec<OperatorMetricsSet>, BallistaError> {
    stage.collect_plan_metrics().into_iter().map(TryInto::try_into).collect()
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> BallistaError {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    BallistaError::Internal(format!("the task panicked: {}", text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(stage_attempt: usize) -> TaskRef {
        TaskRef {
            key: TaskKey { job_id: "j".to_owned().into(), stage_id: 1, task_id: 0 },
            stage_attempt,
            task_attempt: 0,
            launch_ms: 0,
            start_ms: 0,
        }
    }

    #[test]
    fn a_cancellation_reaches_the_task_even_when_it_comes_first() {
        let running = Running::default();
        assert!(!running.cancel(&task(0).key));
        assert!(running.add(&task(0)).is_cancelled());
        assert!(!running.add(&task(1)).is_cancelled(), "it is used up");
    }

    #[tokio::test]
    async fn a_later_attempt_waits_for_the_end_of_an_earlier() {
        let running = Arc::new(Running::default());
        let earlier = running.add(&task(0));
        running.add(&task(1));
        let waiting = Arc::clone(&running);
        let waiting = tokio::spawn(async move { waiting.outlast_earlier(&task(1)).await });
        earlier.cancelled().await;
        assert!(!waiting.is_finished());
        running.remove(&task(0));
        waiting.await.unwrap();
    }

    #[test]
    fn attempts_do_not_take_each_others_place() {
        let running = Running::default();
        let (old, new) = (running.add(&task(0)), running.add(&task(1)));
        running.remove(&task(0));
        assert!(running.cancel(&task(1).key));
        assert!(new.is_cancelled() && !old.is_cancelled());
    }
}
