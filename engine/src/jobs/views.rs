//! Feature views in jobs: declared, brought up to the rows' days, and joined.

use std::collections::BTreeSet;

use arrow::datatypes::FieldRef;
use chrono::NaiveDate;
use datafusion::dataframe::DataFrame;
use tidemill_ml::model::FeatureViewRef;
use tidemill_ml::suggest::did_you_mean;

use super::record::{RunRecord, ViewRecord};
use super::spec::FeatureViews;
use crate::features::{DeclaredView, ViewUse};
use crate::progress::Step;
use crate::session::Session;
use crate::{EngineError, Result};

/// The rows with the features of the job's views; days of a view that are missing are materialised first.
pub(super) async fn with_feature_views(
    session: &Session,
    spec: Option<&FeatureViews>,
    rows: DataFrame,
    record: &mut RunRecord,
) -> Result<DataFrame> {
    let Some(spec) = spec else { return Ok(rows) };
    let declared = declare(session, spec).await?;
    let step = Step::start(session.progress(), "feature views", spec.views.join(", "), None);
    let range = session.day_range(&rows, &spec.at).await?;
    // Without a row any day will do: the tables have to be there for the join.
    let days = range.clone().unwrap_or_else(|| NaiveDate::default()..=NaiveDate::default());
    for view in &declared {
        // Where rows may be however old, those from before the view's start are none.
        let first = view.view.first_day_for(*days.start()).or(view.view.start).unwrap_or(*days.start());
        let done = session.materialize_missing(view, &(first..=*days.end())).await?;
        record.feature_views.push(ViewRecord {
            name: view.view.name.clone(),
            version: view.version,
            digest: view.digest.clone(),
            table: view.table(),
            n_days_materialized: done.days.len(),
        });
    }
    let uses = chosen(session, declared, spec).await?;
    let joined = session.join_views(rows, &spec.at, &uses, range.as_ref()).await?;
    record.steps.push(step.finish(summary(record)));
    Ok(joined)
}

/// The features that the job's views would add to its rows. Nothing is declared or materialised.
pub(super) async fn view_fields(session: &Session, spec: Option<&FeatureViews>) -> Result<Vec<FieldRef>> {
    let Some(spec) = spec else { return Ok(Vec::new()) };
    let mut fields = Vec::new();
    for view in &spec.views {
        fields.extend(match spec.files.get(view) {
            Some(view) => session.view_fields(view).await?,
            None => session.view_fields(&session.feature_view(view).await?.view).await?,
        });
    }
    fields.retain(|field| spec.columns.is_empty() || spec.columns.contains(field.name()));
    Ok(fields)
}

async fn declare(session: &Session, spec: &FeatureViews) -> Result<Vec<DeclaredView>> {
    let mut declared = Vec::with_capacity(spec.views.len());
    for view in &spec.views {
        declared.push(match spec.files.get(view) {
            Some(view) => session.declare_feature_view(view).await?,
            None => session.feature_view(view).await?,
        });
    }
    Ok(declared)
}

/// The views with those of their features that the job names.
async fn chosen(session: &Session, declared: Vec<DeclaredView>, spec: &FeatureViews) -> Result<Vec<ViewUse>> {
    if spec.columns.is_empty() {
        return Ok(declared.into_iter().map(ViewUse::all).collect());
    }
    let (mut uses, mut known) = (Vec::new(), BTreeSet::new());
    for view in declared {
        let features = session.view_features(&view).await?;
        let columns: Vec<String> = features.iter().filter(|f| spec.columns.contains(f)).cloned().collect();
        known.extend(features);
        if !columns.is_empty() {
            uses.push(ViewUse { declared: view, columns });
        }
    }
    match spec.columns.iter().find(|column| !known.contains(*column)) {
        None => Ok(uses),
        Some(unknown) => {
            let hint = did_you_mean(unknown, known.iter().map(String::as_str));
            Err(EngineError::Invalid(format!("feature_views.columns: no view has a feature {unknown:?}{hint}")))
        }
    }
}

fn summary(record: &RunRecord) -> String {
    let one = |view: &ViewRecord| match view.n_days_materialized {
        0 => format!("{} version {}", view.name, view.version),
        n => format!("{} version {} ({n} days new)", view.name, view.version),
    };
    record.feature_views.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The views as a model's manifest names them.
pub(super) fn view_refs(record: &RunRecord) -> Vec<FeatureViewRef> {
    let refs = record.feature_views.iter().map(|view| FeatureViewRef {
        name: view.name.clone(),
        version: view.version,
        digest: view.digest.clone(),
    });
    refs.collect()
}

/// Whether the run reads the views that the model was trained with.
pub(super) fn check_views(model: &str, trained: &[FeatureViewRef], record: &RunRecord) -> Result<()> {
    for view in trained {
        let FeatureViewRef { name, version, digest } = view;
        match record.feature_views.iter().find(|joined| joined.name == *name) {
            Some(joined) if joined.digest == *digest => {}
            Some(joined) => {
                return Err(EngineError::Invalid(format!(
                    "the model {model} was trained with feature view {name} version {version}, and the job has version \
                     {}; name {name}/{version} under feature_views.views, or train again",
                    joined.version
                )));
            }
            None => {
                return Err(EngineError::Invalid(format!(
                    "the model {model} was trained with feature view {name} version {version}, which the job does not \
                     join; name it under feature_views.views"
                )));
            }
        }
    }
    Ok(())
}
