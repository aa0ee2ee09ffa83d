//! A scoring run: pin the model, compute the features, score into exactly the partitions that were asked for.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::dataframe::DataFrame;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{Expr, LogicalPlan, cast, lit};
use serde_json::json;
use tidemill_connectors::files::PartitionValues;
use tidemill_connectors::sink::{PublishMode, SinkFormat, SinkSpec, publish, staging};
use tidemill_connectors::stores::Location;
use tidemill_ml::estimator::ProblemType;
use tidemill_ml::model::{Manifest, ModelOutput, ModelVersion};

use super::expect::{Expectations, check_tables};
use super::params::{ParamValues, bind, date};
use super::record::{RunRecord, ScoreRecord};
use super::run::plan_hash;
use super::spec::{ParamType, PlainCopy, ScoreJob};
use super::views::{check_views, with_feature_views};
use crate::plan::predict::{self, ModelTypes, ResolvedModel};
use crate::progress::Step;
use crate::session::{CommitNote, Session, View, WriteMode};
use crate::{EngineError, Result};

/// The longest range of days that one run replaces.
const MAX_DAYS: usize = 3_660;

pub(super) async fn score(
    session: &Session,
    job: &ScoreJob,
    params: &ParamValues,
    record: &mut RunRecord,
) -> Result<()> {
    let step = Step::start(session.progress(), "pin model", job.model.clone(), None);
    let model = session.resolve_model(&job.model).await?;
    let version = ModelVersion(model.pinned.version);
    let manifest = session.registry().manifest(&model.pinned.name, version).await?;
    record.steps.push(step.finish(format!("{} is version {version}", job.model)));

    let step =
        Step::start(session.progress(), "read inputs", job.tables.keys().cloned().collect::<Vec<_>>().join(", "), None);
    record.inputs = session.register_inputs(&job.tables).await?;
    record.steps.push(step.finish(format!("{} tables", job.tables.len())));
    let expected = Expectations { tables: &job.tables, expect: &job.expect, specs: &job.params, params };
    check_tables(session, &expected, record).await?;

    let step = Step::start(session.progress(), "score", format!("into {}", job.into.table), None);
    let rows = chosen_rows(session, job, params).await?;
    let rows = with_feature_views(session, job.feature_views.as_ref(), rows, record).await?;
    check_views(&job.model, &manifest.feature_views, record)?;
    let values = partitions(job, params, &rows).await?;
    let scored = scored_rows(session, job, record, rows, &model, &manifest)?;
    let mode = WriteMode::ReplacePartitions { column: job.into.partition_by.clone(), values: values.clone() };
    let metadata = json!({"run": record.run, "model": model.pinned, "plan_hash": record.plan_hash});
    let note = CommitNote { metadata, read_version: None };
    let written = session.write_plan(scored, &job.into.table, mode, note).await?;
    record.steps.push(step.finish(format!(
        "{} rows in {} files, {} partitions replaced",
        written.n_rows,
        written.n_files,
        values.len()
    )));

    let copies = write_copies(session, job, record, &values).await?;
    let views = write_views(session, job, params).await?;
    record.score = Some(ScoreRecord {
        model: model.pinned.name.clone(),
        version: model.pinned.version,
        digest: model.pinned.digest.clone(),
        table: job.into.table.clone(),
        location: written.location,
        table_version: written.version,
        n_rows: written.n_rows,
        n_files: written.n_files,
        partitions: values.into_iter().collect(),
        copies,
        views,
    });
    Ok(())
}

/// The feature query's rows that the job's `where` chooses.
async fn chosen_rows(session: &Session, job: &ScoreJob, params: &ParamValues) -> Result<DataFrame> {
    let plan = session.query(&bind(&job.features.sql, &job.params, params)?).await?;
    let rows = session.data_frame(plan);
    let Some(filter) = &job.filter else { return Ok(rows) };
    let condition = rows.parse_sql_expr(&bind(filter, &job.params, params)?)?;
    Ok(rows.filter(condition)?)
}

/// The partitions that the run replaces: every day of the range of its date parameters, those without rows too;
/// without date parameters, the partitions of its rows.
async fn partitions(job: &ScoreJob, params: &ParamValues, rows: &DataFrame) -> Result<BTreeSet<String>> {
    let dates = job.params.iter().filter(|(_, s)| s.kind == ParamType::Date);
    let mut dates: Vec<_> = dates.filter_map(|(name, _)| date(&params[name])).collect();
    dates.sort();
    if let (Some(first), Some(last)) = (dates.first(), dates.last()) {
        let days: BTreeSet<String> =
            first.iter_days().take_while(|d| d <= last).take(MAX_DAYS + 1).map(|d| d.to_string()).collect();
        if days.len() > MAX_DAYS {
            return Err(EngineError::Invalid(format!(
                "{first} to {last} is more than {MAX_DAYS} days; score it in parts"
            )));
        }
        return Ok(days);
    }
    let column = cast(Expr::Column(Column::new_unqualified(&job.into.partition_by)), DataType::Utf8);
    let batches = rows.clone().select(vec![column.alias("p")])?.distinct()?.collect().await?;
    let values = batches.iter().flat_map(|b| {
        let column = b.column(0).as_string::<i32>();
        (0..column.len()).filter(|i| column.is_valid(*i)).map(|i| column.value(i).to_owned()).collect::<Vec<_>>()
    });
    Ok(values.collect())
}

/// The rows as they are written: the chosen columns, what the model gives (`score` and `predicted` of a binary problem,
/// `predicted` and `probability` of more classes, else `predicted`), and what made them.
fn scored_rows(
    session: &Session,
    job: &ScoreJob,
    record: &mut RunRecord,
    rows: DataFrame,
    model: &ResolvedModel,
    manifest: &Manifest,
) -> Result<LogicalPlan> {
    let (threshold, problem) = (manifest.threshold, manifest.signature.problem_type);
    let models = [(job.model.clone(), model.clone())].into();
    let types = ModelTypes::default();
    types.tell(&models);
    let with_score = rows.with_column("score", predict::predict_udf(types).call(vec![lit(job.model.as_str())]))?;
    let (_, plan) = with_score.into_parts();
    let plan = predict::extract(plan, &models, job.device)?;
    record.plan_hash = plan_hash(&plan);
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let mut columns: Vec<Expr> = job.into.columns.iter().map(|c| column(c)).collect();
    if !job.into.columns.contains(&job.into.partition_by) {
        columns.push(column(&job.into.partition_by));
    }
    let part = |name: &str, alias: &str| get_field(column("score"), name).alias(alias);
    columns.extend(match (&model.output, problem) {
        (ModelOutput::Number, ProblemType::Binary) => {
            vec![column("score"), cast(column("score").gt_eq(lit(threshold)), DataType::Int64).alias("predicted")]
        }
        (ModelOutput::Number | ModelOutput::Cluster, _) => vec![column("score").alias("predicted")],
        (ModelOutput::Classes(_), _) => vec![part("prediction", "predicted"), part("probability", "probability")],
    });
    columns.extend([
        lit(model.pinned.name.as_str()).alias("model"),
        lit(model.pinned.version as i64).alias("model_version"),
        lit(record.run.as_str()).alias("run"),
        lit(record.plan_hash.as_str()).alias("plan_hash"),
    ]);
    let (_, plan) = session.data_frame(plan).select(columns)?.into_parts();
    Ok(plan)
}

/// Writes what was scored once more, as plain files.
async fn write_copies(
    session: &Session,
    job: &ScoreJob,
    record: &mut RunRecord,
    values: &BTreeSet<String>,
) -> Result<Vec<(String, String)>> {
    let mut copies = Vec::new();
    for PlainCopy { format, path } in &job.also {
        let step = Step::start(session.progress(), "copy", format!("{format} to {path}"), None);
        let location = Location::parse(path)?;
        let days = values.iter().map(|v| lit(v.as_str())).collect();
        let partition = cast(Expr::Column(Column::new_unqualified(&job.into.partition_by)), DataType::Utf8);
        let rows =
            session.sql(&format!("select * from {}", job.into.table)).await?.filter(partition.in_list(days, false))?;
        let (_, plan) = rows.into_parts();
        let staged = staging(&location, &record.run);
        let by = [job.into.partition_by.clone()];
        let spec = SinkSpec::new(staged.to_string(), plain_format(format)?, &record.run).with_partition_by(&by);
        let files = session.write_files(plan, &spec).await?;
        let replaced = values.iter().map(|v| PartitionValues(vec![Some(v.clone())])).collect();
        publish(&location, &staged, &by, &files, &PublishMode::ReplacePartitions(replaced)).await?;
        record.steps.push(step.finish(format!("{} files", files.len())));
        copies.push((format.clone(), location.to_string()));
    }
    Ok(copies)
}

fn plain_format(name: &str) -> Result<SinkFormat> {
    match name {
        "parquet" => Ok(SinkFormat::Parquet),
        "csv" => Ok(SinkFormat::Csv),
        "json" => Ok(SinkFormat::JsonLines),
        other => Err(EngineError::Invalid(format!("also.format must be parquet, csv or json, got {other:?}"))),
    }
}

/// Creates the job's views over what it wrote and the tables that it read.
async fn write_views(session: &Session, job: &ScoreJob, params: &ParamValues) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, file) in &job.views {
        let sql = bind(&file.sql, &job.params, params)?;
        session.query(&sql).await?;
        let mut tables = std::collections::BTreeMap::new();
        for (table, location) in &job.tables {
            tables.insert(table.clone(), Location::parse(location)?.to_string());
        }
        session.warehouse().put_view(name, &View { sql, tables }).await?;
        names.push(name.clone());
    }
    Ok(names)
}
