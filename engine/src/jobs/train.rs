//! A training run: features, search, evaluation, registration, promotion.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, FieldRef, Float64Type, Schema};
use datafusion::common::{Column, DFSchema, DataFusionError};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::Expr;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use serde_json::{Value, json};
use tidemill_connectors::files::FileTable;
use tidemill_connectors::sink::{SinkFormat, SinkSpec};
use tidemill_connectors::stores::Location;
use tidemill_ml::estimator::{Candidate, ParamGrid, ProblemType};
use tidemill_ml::eval::{Metric, Predicted};
use tidemill_ml::model::{Classes, ModelPackage, ModelVersion};
use tidemill_ml::pipeline::Pipeline;
use tidemill_ml::registry::{AliasMove, Expected};

use super::expect::{Expectations, check_tables};
use super::label;
use super::params::{ParamValues, bind};
use super::record::{RunRecord, TrainRecord};
use super::run::plan_hash;
use super::spec::{Promote, Search, TrainJob};
use super::views::{view_fields, view_refs, with_feature_views};
use crate::grid::{GridSearch, Label, Parallel, SearchPlan, SearchResult};
use crate::plan::train::Importances;
use crate::progress::Step;
use crate::session::Session;
use crate::{EngineError, Result};

/// How many rows of the training data a model carries to prove that it scores them alike wherever it is loaded.
const PARITY_ROWS: usize = 64;

/// The feature rows of a run, written once.
pub(super) struct FeatureRows {
    pub(super) rows: DataFrame,
    /// The digest of the rows' file.
    digest: String,
    pub(super) train: Expr,
    pub(super) holdout: Expr,
}

pub(super) async fn train(
    session: &Session,
    job: &TrainJob,
    params: &ParamValues,
    record: &mut RunRecord,
) -> Result<()> {
    let search = grid_search(session, job)?;
    let step =
        Step::start(session.progress(), "read inputs", job.tables.keys().cloned().collect::<Vec<_>>().join(", "), None);
    record.inputs = session.register_inputs(&job.tables).await?;
    record.steps.push(step.finish(input_summary(&record.inputs)));
    let expected = Expectations { tables: &job.tables, expect: &job.expect, specs: &job.params, params };
    check_tables(session, &expected, record).await?;

    let scratch = session.warehouse().scratch(&record.run);
    let result = run(session, job, params, record, &search, &scratch).await;
    session.warehouse().delete_scratch(&record.run).await;
    result
}

async fn run(
    session: &Session,
    job: &TrainJob,
    params: &ParamValues,
    record: &mut RunRecord,
    search: &GridSearch,
    scratch: &Location,
) -> Result<()> {
    let features = write_features(session, job, params, record, scratch).await?;
    let (mut train, label) = label::read(job, &features).await?;
    train.search = search_digest(job, record, &features, &label)?;
    let keep_at = Some(session.warehouse().search(&train.search));
    let search = &GridSearch { label, keep_at, ..search.clone() };
    let found =
        search.fit(session, features.rows.clone(), features.train.clone(), features.holdout.clone(), scratch).await?;
    record.steps.extend(found.steps.iter().cloned());
    fill(&mut train, search, &found)?;

    let step = Step::start(session.progress(), "register", format!("model {}", job.register.model), None);
    let package = package(job, record, &features, search, found).await?;
    let registered = session.registry().register(&job.register.model, &package).await?;
    train.model = job.register.model.clone();
    train.version = registered.version.0;
    train.digest = registered.manifest.digest.clone();
    train.already_registered = registered.already_registered;
    let what = if registered.already_registered { "was registered before" } else { "registered" };
    record.steps.push(step.finish(format!("{} version {} {what}", train.model, train.version)));

    decide(session, job, record, &features, search, &mut train).await?;
    record.train = Some(train);
    Ok(())
}

/// What the search of a job would do, the feature query and its views planned and not run.
pub(super) async fn explain(session: &Session, job: &TrainJob, params: &ParamValues) -> Result<SearchPlan> {
    let search = grid_search(session, job)?;
    session.register_inputs(&job.tables).await?;
    let query = session.query(&bind(&job.features.sql, &job.params, params)?).await?;
    let mut fields: Vec<FieldRef> = query.schema().fields().iter().cloned().collect();
    fields.extend(view_fields(session, job.feature_views.as_ref()).await?);
    search.explain(session, &DFSchema::try_from(Schema::new(fields))?)
}

/// The search that a job file describes, checked before anything is read.
fn grid_search(session: &Session, job: &TrainJob) -> Result<GridSearch> {
    let problem = job.problem_type;
    let label = label::of(job)?;
    let metric = match &job.grid.metric {
        Some(metric) => metric.parse()?,
        None => Metric::default_of(problem),
    };
    metric.check(problem)?;
    if problem == ProblemType::Clustering && job.register.promote.is_some() {
        return Err(EngineError::Invalid(
            "register.promote compares predictions with labels, and clusters have none; move the alias with: tidemill models \
             promote"
                .to_owned(),
        ));
    }
    if let Some(metric) = job.register.promote.as_ref().and_then(|promote| promote.metric.as_ref()) {
        metric.parse::<Metric>()?.check(problem)?;
    }
    job.grid.folds.check()?;
    if job.key.is_empty() {
        return Err(EngineError::Invalid("key must name at least one column".to_owned()));
    }
    Ok(GridSearch {
        pipeline: Pipeline::from_value(&Value::Array(job.pipeline.clone()), &session.plugins().stages)?,
        candidates: candidates(session, job)?,
        key: job.key.clone(),
        label,
        folds: job.grid.folds.clone(),
        metric,
        threshold: job.register.threshold,
        permutation_importance: job.grid.permutation_importance,
        halving: job.grid.halving,
        parallel: job.grid.parallel,
        rows_per_shard: job.grid.rows_per_shard,
        seed: job.grid.seed,
        keep_at: None,
    })
}

/// The digest of all that the outcome of a group follows from, but for the group itself.
fn search_digest(job: &TrainJob, record: &RunRecord, features: &FeatureRows, label: &Label) -> Result<String> {
    let decides = json!({
        "code": record.code_version,
        "rows": features.digest,
        "split": [&job.split.train, &job.split.holdout],
        "key": job.key,
        "label": format!("{label:?}"),
        "pipeline": job.pipeline,
        "folds": format!("{:?}", job.grid.folds),
        "shards": (job.grid.parallel == Parallel::Rows).then_some(job.grid.rows_per_shard),
        "seed": job.grid.seed,
    });
    Ok(blake3::hash(&serde_json::to_vec(&decides)?).to_hex()[..16].to_owned())
}

fn candidates(session: &Session, job: &TrainJob) -> Result<Vec<Candidate>> {
    let (grid, problem) = (ParamGrid(job.grid.estimators.clone()), job.problem_type);
    let estimator_of = |name: &str| session.plugins().estimators.get(name);
    match (job.grid.search, job.grid.n_candidates) {
        (Search::Grid, None) => Ok(grid.candidates(problem, estimator_of)?),
        (Search::Random, Some(n)) if n > 0 => Ok(grid.sample(n, job.grid.seed, problem, estimator_of)?),
        (Search::Random, _) => {
            Err(EngineError::Invalid("search: random needs grid.n_candidates, a number of at least 1".to_owned()))
        }
        (Search::Grid, Some(_)) => Err(EngineError::Invalid(
            "grid.n_candidates is for search: random; a grid has every combination of its values".to_owned(),
        )),
    }
}

fn input_summary(inputs: &Value) -> String {
    let one = |(name, v): (&String, &Value)| format!("{name} {} rows", v["num_rows"]);
    inputs.as_object().map(|o| o.iter().map(one).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

/// Runs the feature query once and keeps its rows, sorted by key, for all that follows.
async fn write_features(
    session: &Session,
    job: &TrainJob,
    params: &ParamValues,
    record: &mut RunRecord,
    scratch: &Location,
) -> Result<FeatureRows> {
    let step = Step::start(session.progress(), "features", job.features.path.display().to_string(), None);
    let plan = session.query(&bind(&job.features.sql, &job.params, params)?).await?;
    let query = with_feature_views(session, job.feature_views.as_ref(), session.data_frame(plan), record).await?;
    record.plan_hash = plan_hash(query.logical_plan());
    for name in job.key.iter().chain(label::of(job)?.columns()).chain([&job.grid.folds.by]) {
        require_column(&query, name)?;
    }
    let order = job.key.iter().map(|k| column(k).sort(true, false)).collect();
    let (_, sorted) = query.sort(order)?.into_parts();
    let location = scratch.join("features");
    let spec = SinkSpec::new(location.to_string(), SinkFormat::Parquet, "features").with_single_file();
    let files = session.write_files(sorted, &spec).await?;
    let n_rows: u64 = files.iter().map(|f| f.num_rows).sum();
    if n_rows == 0 {
        return Err(EngineError::Invalid(format!("the feature query {} gives no rows", job.features.path.display())));
    }
    let digest = digest(files.iter().map(|file| location.join(&file.path))).await?;
    let rows = session.context().read_table(Arc::new(FileTable::open(&location).await?))?;
    let train = rows.parse_sql_expr(&job.split.train)?;
    let holdout = rows.parse_sql_expr(&job.split.holdout)?;
    record.steps.push(step.finish(format!("{n_rows} rows, {} columns", rows.schema().fields().len())));
    Ok(FeatureRows { rows, digest, train, holdout })
}

/// The digest of files, read in pieces.
async fn digest(files: impl Iterator<Item = Location>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let read = file.store()?.get(&file.prefix()).await.map_err(DataFusionError::from)?;
        let mut pieces = read.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(DataFusionError::from)? {
            hasher.update(&piece);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn require_column(df: &DataFrame, name: &str) -> Result<()> {
    if df.schema().has_column_with_unqualified_name(name) {
        return Ok(());
    }
    let names = df.schema().fields().iter().map(|f| f.name().as_str());
    let hint = crate::nearest(name, names).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
    Err(EngineError::Invalid(format!("the feature query has no column {name:?}{hint}")))
}

fn fill(record: &mut TrainRecord, search: &GridSearch, found: &SearchResult) -> Result<()> {
    let best = found.best()?;
    record.n_folds = search.folds.k;
    record.folds = search.folds.to_string();
    record.n_candidates = search.candidates.len();
    record.n_fits = found.n_fits;
    record.n_resumed = found.n_resumed;
    record.n_groups = found.n_groups;
    record.fit_passes = found.fit_passes;
    record.stage_fits = found.stage_fits.clone();
    record.problem_type = search.label.problem;
    record.classes = search.label.classes.as_ref().map(Classes::names).unwrap_or_default();
    record.metric = search.metric.to_string();
    record.candidates = found.candidates.clone();
    record.best = found.best;
    record.evaluation = best.evaluation.clone();
    let Importances { of_model, split_counts, permutation } = best.importances.clone();
    record.importances = of_model;
    record.split_counts = split_counts.into_iter().collect();
    record.permutation_importances = permutation;
    for r in &found.refits {
        let estimator = search.candidates[r.candidate].estimator.clone();
        record.holdout_by_estimator.insert(estimator, r.evaluation.get(search.metric));
    }
    Ok(())
}

/// Everything that is registered of the best model.
async fn package(
    job: &TrainJob,
    record: &RunRecord,
    features: &FeatureRows,
    search: &GridSearch,
    found: SearchResult,
) -> Result<ModelPackage> {
    let (pipeline, best) = found.into_best()?;
    let inputs = pipeline.inputs().iter().map(|c| column(&c.name)).collect::<Vec<_>>();
    let order = job.key.iter().map(|k| column(k).sort(true, false)).collect();
    let sample = features.rows.clone().sort(order)?.limit(0, Some(PARITY_ROWS))?.select(inputs)?;
    let schema = Arc::new(sample.schema().as_arrow().clone());
    let sample = arrow::compute::concat_batches(&schema, &sample.collect().await?)?;
    Ok(ModelPackage {
        pipeline,
        model: best.model,
        problem_type: search.label.problem,
        classes: search.label.classes.clone(),
        params: search.candidates[best.candidate].params.clone(),
        metrics: best.evaluation.metrics,
        threshold: job.register.threshold,
        training_data: vec![record.inputs.clone()],
        input_query: Some(job.features.sql.clone()),
        feature_views: view_refs(record),
        run_id: record.run.clone(),
        code_version: record.code_version.clone(),
        parity_sample: sample,
    })
}

/// Moves the alias when the job says so, and says why or why not.
async fn decide(
    session: &Session,
    job: &TrainJob,
    record: &mut RunRecord,
    features: &FeatureRows,
    search: &GridSearch,
    train: &mut TrainRecord,
) -> Result<()> {
    let Some(promote) = &job.register.promote else {
        train.decision = "no alias moves: the job file has no promote".to_owned();
        return Ok(());
    };
    let step = Step::start(session.progress(), "promote", format!("@{}", promote.alias), None);
    let (model, alias) = (&job.register.model, &promote.alias);
    let live = session.registry().aliases(model).await?.get(alias).copied();
    let new = ModelVersion(train.version);
    (train.promoted, train.decision) = match live {
        None => (true, format!("@{alias} moves to version {new}: there was no @{alias} yet")),
        Some(live) if live == new => (false, format!("@{alias} stays at version {new}: it is this model")),
        Some(live) if !knows_the_same(session, model, live, search).await? => (
            false,
            format!(
                "@{alias} stays at version {live}: it was trained for another problem or for other classes, which no \
                 metric compares; move it with: tidemill models promote"
            ),
        ),
        Some(live) => {
            let holdout = features.rows.clone().filter(features.holdout.clone())?.filter(search.label.is_known())?;
            let metric = match &promote.metric {
                Some(metric) => metric.parse()?,
                None => search.metric,
            };
            let old = metric_of(session, holdout, &format!("{model}/{live}"), search, metric).await?;
            compare(promote, metric, new, live, train, old)
        }
    };
    if train.promoted {
        let expected = live.map_or(Expected::None, Expected::Version);
        let change = AliasMove { version: new, reason: train.decision.clone(), expected };
        session.registry().set_alias(model, alias, change).await?;
    }
    record.steps.push(step.finish(train.decision.clone()));
    Ok(())
}

/// Whether a version gives what this search's models give: the same problem, and the same classes in the same order.
async fn knows_the_same(session: &Session, model: &str, live: ModelVersion, search: &GridSearch) -> Result<bool> {
    let signature = session.registry().manifest(model, live).await?.signature;
    Ok(signature.problem_type == search.label.problem && signature.classes == search.label.classes)
}

fn compare(
    promote: &Promote,
    metric: Metric,
    new: ModelVersion,
    live: ModelVersion,
    train: &TrainRecord,
    old: f64,
) -> (bool, String) {
    let Promote { alias, margin, .. } = promote;
    let ours = train.evaluation.get(metric);
    let gain = if metric.larger_is_better() { ours - old } else { old - ours };
    let figures =
        format!("{metric} {ours:.5} against {old:.5} of version {live} on the same hold-out, margin {margin}");
    if gain > *margin {
        (true, format!("@{alias} moves to version {new}: {figures}"))
    } else {
        (false, format!("@{alias} stays at version {live}: {figures}"))
    }
}

/// A registered model's metric on labelled rows.
async fn metric_of(
    session: &Session,
    rows: DataFrame,
    model: &str,
    search: &GridSearch,
    metric: Metric,
) -> Result<f64> {
    let Label { problem, .. } = search.label;
    let scored = session.predict(rows, model, "__live").await?;
    let probability = || datafusion::functions::core::expr_fn::get_field(column("__live"), "probability");
    let live = if problem == ProblemType::Multiclass { probability() } else { column("__live") };
    let scored = scored.select(vec![live, search.label.expr()?.alias("__label")])?;
    let (mut predictions, mut labels) = (Vec::new(), Vec::new());
    for batch in scored.collect().await? {
        let values = match batch.column(0).as_list_opt::<i32>() {
            Some(lists) => Arc::clone(lists.values()),
            None => arrow::compute::cast(batch.column(0), &DataType::Float64)?,
        };
        predictions.extend(values.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)));
        labels.extend(batch.column(1).as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)));
    }
    let (predictions, labels, n_classes) = (&predictions[..], &labels[..], search.label.n_classes());
    let rows = Predicted { problem, n_classes, predictions, labels, threshold: search.threshold, x: None };
    Ok(metric.compute(&rows)?)
}
