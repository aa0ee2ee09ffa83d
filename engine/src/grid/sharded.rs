//! Groups whose matrix is in shards: the fit runs here, its passes wherever the session runs work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use tidemill_ml::MlError;
use tidemill_ml::estimator::sharded::{Outline, Shards, add_up};
use tidemill_ml::estimator::{Estimator, FitContext, Model, Params, ProblemType};
use tidemill_ml::matrix::{Feature, FeatureKind, FeatureValues, Features, model_features};
use tokio::runtime::Handle;

use crate::jobs::StepRecord;
use crate::plan::shards::{Answer, Ask, Found, Question, ShardTask, answers, sharded};
use crate::plan::train::{
    CancelOnDrop, Evaluator, Judgement, MatrixRef, TrainNode, TrainOutcome, TrainTask, keep, outcome, task_table,
};
use crate::session::Session;
use crate::{EngineError, Result};

/// Where such fits run, in records.
const EVERYWHERE: &str = "all";

/// How often a pass is asked for where processes or connections were lost.
const MAX_ATTEMPTS: usize = 3;

/// Runs groups one after the other, since each keeps all processes busy, and notes what their passes cost.
///
/// # Errors
/// A pass that failed. A candidate that fails is an outcome with its reason.
pub(super) async fn run(
    session: &Session,
    tasks: &[TrainTask],
    steps: &mut Vec<StepRecord>,
) -> Result<Vec<TrainOutcome>> {
    let (cost, mut found) = (Arc::new(PassCost::default()), Vec::new());
    let Some(first) = tasks.first() else { return Ok(found) };
    for task in tasks {
        let outcomes = run_group(session, task, &cost).await?;
        keep(task, &outcomes).await;
        found.extend(outcomes);
    }
    let n_shards = first.matrix.shards().len();
    steps.push(cost.step(n_shards));
    Ok(found)
}

/// What passes cost so far.
#[derive(Debug, Default)]
struct PassCost {
    n_passes: AtomicU64,
    /// From asking to the last answer.
    nanoseconds: AtomicU64,
    /// Of all shards together, where they are.
    busy_nanoseconds: AtomicU64,
    /// How many shards each process takes at a time.
    vcores: Mutex<HashMap<u64, u64>>,
}

impl PassCost {
    fn add(&self, took: Duration, answers: &[Answer]) {
        self.n_passes.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.busy_nanoseconds.fetch_add(answers.iter().map(|a| a.nanoseconds).sum(), Ordering::Relaxed);
        self.vcores().extend(answers.iter().map(|a| a.process));
    }

    fn vcores(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.vcores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, n_shards: usize) -> StepRecord {
        let [n_passes, nanoseconds, busy] =
            [&self.n_passes, &self.nanoseconds, &self.busy_nanoseconds].map(|n| n.load(Ordering::Relaxed));
        let seconds = nanoseconds as f64 / 1e9;
        let vcores: u64 = self.vcores().values().sum();
        let workers = vcores.min(n_shards as u64).max(1) as f64;
        let idle = (1.0 - busy as f64 / 1e9 / (seconds * workers)).max(0.0);
        let summary = format!(
            "{n_passes} passes over {n_shards} shards, {:.0} % of the time of {workers} vcores was not computing",
            idle * 100.0
        );
        StepRecord { step: "passes".to_owned(), seconds, summary }
    }
}

async fn run_group(session: &Session, task: &TrainTask, cost: &Arc<PassCost>) -> Result<Vec<TrainOutcome>> {
    let shards = Arc::new(RemoteShards::new(session, task, cost)?);
    let outcomes = train(&shards, task).await;
    // What a failed group leaves would take memory from all other tasks.
    let released = shards.ask(Ask::Release).await;
    let outcomes = outcomes?;
    released?;
    Ok(outcomes)
}

async fn train(shards: &Arc<RemoteShards>, task: &TrainTask) -> Result<Vec<TrainOutcome>> {
    let started = Instant::now();
    let models = shards.fit().await?;
    let seconds = started.elapsed().as_secs_f64() / models.len().max(1) as f64;
    let trained: Vec<&dyn Model> = models.iter().flatten().map(AsRef::as_ref).collect();
    let mut judgements = shards.judge(&trained).await?.into_iter();
    let outcomes = task.candidates.iter().zip(&models).map(|((id, _), model)| {
        let judgement = match model {
            Ok(_) => judgements.next().unwrap_or_else(|| Err(MlError::Internal("a model was not judged".to_owned()))),
            Err(e) => Err(MlError::Invalid(e.to_string())),
        };
        outcome(task, *id, judgement, seconds, EVERYWHERE)
    });
    Ok(outcomes.collect())
}

/// The shards of a group's matrix.
#[derive(Debug)]
struct RemoteShards {
    session: Session,
    task: TrainTask,
    shards: Vec<ShardTask>,
    residence: String,
    outline: Outline,
    cost: Arc<PassCost>,
    /// Why a pass failed: no fault of the candidate that asked.
    failed: Mutex<Option<EngineError>>,
    handle: Handle,
}

impl RemoteShards {
    fn new(session: &Session, task: &TrainTask, cost: &Arc<PassCost>) -> Result<Self> {
        let shards: Vec<ShardTask> = (0..)
            .zip(task.matrix.shards())
            .map(|(shard, matrix)| ShardTask {
                shard,
                of: TrainTask { matrix, candidates: Vec::new(), ..task.clone() },
            })
            .collect();
        let features: Vec<Feature> = serde_json::from_str(&task.matrix.features)?;
        let MatrixRef { problem, n_classes, .. } = task.matrix;
        // The first file is the matrix's alone.
        let matrix = task.matrix.urls.first().map(String::as_str).unwrap_or_default();
        Ok(Self {
            session: session.clone(),
            residence: format!("{matrix} fold {:?} share {}", task.fold, task.row_share),
            outline: Outline { features: model_features(&features.into()), problem, n_classes },
            task: task.clone(),
            shards,
            cost: Arc::clone(cost),
            failed: Mutex::default(),
            handle: Handle::current(),
        })
    }

    /// Trains the group's candidates.
    async fn fit(self: &Arc<Self>) -> Result<Vec<Result<Box<dyn Model>, MlError>>> {
        let ctx = FitContext::new(self.task.seed);
        let guard = CancelOnDrop(Arc::clone(&ctx.cancel));
        let here = Arc::clone(self);
        let estimator = self.estimator()?;
        let params: Vec<Params> = self.task.candidates.iter().map(|(_, params)| params.clone()).collect();
        let fit = move || Ok::<_, MlError>(sharded(estimator.as_ref())?.fit_shards(here.as_ref(), &params, &ctx));
        let models = tokio::task::spawn_blocking(fit).await;
        drop(guard);
        match self.failed().take() {
            Some(error) => Err(error),
            None => Ok(models.map_err(|e| EngineError::Internal(format!("a fit over shards ended badly: {e}")))??),
        }
    }

    fn failed(&self) -> MutexGuard<'_, Option<EngineError>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges models by the rows to evaluate on.
    async fn judge(&self, models: &[&dyn Model]) -> Result<Vec<Result<Judgement, MlError>>> {
        if models.is_empty() {
            return Ok(Vec::new());
        }
        let saved = models.iter().map(|model| model.save()).collect::<Result<Vec<_>, _>>()?;
        let n_outputs: Vec<usize> = models.iter().map(|model| model.n_outputs()).collect();
        let answers = numbers(self.ask(Ask::Score(saved)).await?);
        let scored = Scored::read(&answers, &n_outputs, &self.outline)?;
        let evaluator = Evaluator::new(&self.task, scored.x, scored.label)?;
        let ctx = FitContext::new(self.task.seed);
        let judge = |(model, predictions): (&&dyn Model, &Vec<f64>)| evaluator.judge_by(*model, predictions, &ctx);
        Ok(models.iter().zip(&scored.predictions).map(judge).collect())
    }

    /// Asks all shards, again where something was lost on the way: a pass changes nothing that it could not find anew.
    async fn ask(&self, ask: Ask) -> Result<Vec<Found>> {
        let question = Arc::new(Question { residence: self.residence.clone(), ask });
        let mut attempt = 1;
        loop {
            match self.ask_once(&question).await {
                Err(e) if e.is_retryable() && attempt < MAX_ATTEMPTS => attempt += 1,
                answers => return answers,
            }
        }
    }

    async fn ask_once(&self, question: &Arc<Question>) -> Result<Vec<Found>> {
        let started = Instant::now();
        let table = provider_as_source(Arc::new(task_table(&self.shards)?));
        let scan = LogicalPlanBuilder::scan("shards", table, None)?.build()?;
        let plan = TrainNode::plan(scan, Some(Arc::clone(question)))?;
        let answers = answers(&self.session.data_frame(plan).collect().await?)?;
        let (expected, got): (u64, u64) =
            (self.shards.len() as u64, answers.iter().map(|answer| answer.n_shards).sum());
        if expected != got {
            return Err(EngineError::Internal(format!("{expected} shards were asked, {got} answered")));
        }
        self.cost.add(started.elapsed(), &answers);
        Ok(answers.into_iter().map(|answer| answer.found).collect())
    }

    /// The same for a fit, which is on a thread of its own and is told no more than that it failed.
    fn ask_blocking(&self, ask: Ask) -> Result<Vec<Found>, MlError> {
        self.handle.block_on(self.ask(ask)).map_err(|error| {
            let told = MlError::Invalid(error.to_string());
            self.failed().get_or_insert(error);
            told
        })
    }

    fn estimator(&self) -> Result<Arc<dyn Estimator>> {
        Ok(self.session.plugins().estimators.get(&self.task.estimator)?)
    }
}

impl Shards for RemoteShards {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn pass(&self, request: &str) -> Result<Vec<Vec<f64>>, MlError> {
        self.ask_blocking(Ask::Fit(request.to_owned())).map(numbers)
    }

    fn sum(&self, request: &str) -> Result<Vec<i64>, MlError> {
        let mut all = Vec::new();
        for found in self.ask_blocking(Ask::Sum(request.to_owned()))? {
            if let Found::Sums(sums) = found {
                add_up(&mut all, &sums);
            }
        }
        Ok(all)
    }
}

/// Answers that are no sums.
fn numbers(answers: Vec<Found>) -> Vec<Vec<f64>> {
    let numbers = |found| match found {
        Found::Numbers(numbers) => Some(numbers),
        Found::Sums(_) => None,
    };
    answers.into_iter().filter_map(numbers).collect()
}

/// The rows to evaluate on, in the order of the shards.
struct Scored {
    label: Vec<f64>,
    /// By model.
    predictions: Vec<Vec<f64>>,
    /// The features, for clusters.
    x: Option<Features>,
}

impl Scored {
    /// Reads the shards' answers to [`Ask::Score`] for models of so many outputs.
    fn read(answers: &[Vec<f64>], n_outputs: &[usize], outline: &Outline) -> Result<Self> {
        let n_features = if outline.problem == ProblemType::Clustering { outline.features.len() } else { 0 };
        let widths: Vec<usize> = [&[1], n_outputs, &vec![1; n_features]].concat();
        let width: usize = widths.iter().sum();
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); widths.len()];
        for answer in answers {
            let n_rows = answer.len() / width;
            let mut rest = &answer[..];
            for (column, width) in columns.iter_mut().zip(&widths) {
                let (own, after) = rest.split_at(n_rows * width);
                column.extend(own);
                rest = after;
            }
        }
        let mut columns = columns.into_iter();
        let label = columns.next().unwrap_or_default();
        let predictions = columns.by_ref().take(n_outputs.len()).collect();
        let is_number = |feature: &Feature| feature.kind == FeatureKind::Number;
        let values = outline.features.iter().zip(columns).map(|(feature, values)| match is_number(feature) {
            true => FeatureValues::Number(values.into()),
            false => FeatureValues::Category(values.iter().map(|v| *v as u32).collect()),
        });
        let (features, n_rows) = (Arc::clone(&outline.features), label.len());
        let x = (n_features > 0).then(|| Features { features, values: values.collect(), n_rows });
        Ok(Self { label, predictions, x })
    }
}
