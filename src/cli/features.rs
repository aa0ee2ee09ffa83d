//! `tidemill features`.

use std::sync::Arc;

use serde_json::json;
use tidemill::report::{Align, Table};
use tidemill_engine::Session;
use tidemill_engine::features::{Days, DeclaredView, FeatureView, MaterializeOptions, Materialized, ViewCheck};

use super::args::{CheckViewArgs, FeaturesCommand, Global, MaterializeArgs};
use super::error::{CliError, Result};
use super::output::{self, Output};
use super::progress::Reporter;
use super::session;

/// How many days that differ are written out.
const MAX_DIFFERENCES: usize = 5;

/// Lists, shows, materialises or checks feature views.
pub(crate) async fn features(global: &Global, command: FeaturesCommand, output: &Arc<Output>) -> Result<()> {
    let reporter = Reporter::new(output);
    let session = session::open(global, Arc::clone(&reporter) as _).await?;
    match command {
        FeaturesCommand::List => list(&session, output).await,
        FeaturesCommand::Show { view } => show(&session, &view, output).await,
        FeaturesCommand::Materialize(args) => {
            let done = materialize(&session, args).await;
            reporter.close();
            tell(&done?, output)
        }
        FeaturesCommand::Check(args) => {
            let checked = check(&session, args).await;
            reporter.close();
            judge(&checked?, output)
        }
    }
}

/// The view of a file, declared, or the one that is declared under a name.
async fn declared(session: &Session, view: &str) -> Result<DeclaredView> {
    let is_file = view.ends_with(".yaml") || view.ends_with(".yml");
    Ok(match is_file {
        true => session.declare_feature_view(&FeatureView::read(view)?).await?,
        false => session.feature_view(view).await?,
    })
}

async fn list(session: &Session, output: &Output) -> Result<()> {
    let views = session.feature_views().await?;
    let mut table = Table::new([
        ("view", Align::Left),
        ("version", Align::Right),
        ("key", Align::Left),
        ("days", Align::Right),
        ("materialized", Align::Left),
        ("table", Align::Left),
    ]);
    for view in &views {
        let days = session.materialized_days(view).await?;
        if output.is_json() {
            output.object(&json!({"view": view.view.name, "version": view.version, "key": view.view.key,
                "table": view.table(), "materialized": days}))?;
        }
        table.row([
            view.view.name.clone(),
            view.version.to_string(),
            view.view.key.join(", "),
            days.len().to_string(),
            ranges(&days),
            view.table(),
        ]);
    }
    match (output.is_json(), views.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => {
            output.hint("no feature views yet; declare one with: tidemill features materialize FILE");
            Ok(())
        }
        (false, false) => output.write(table),
    }
}

fn ranges(days: &Days) -> String {
    let ranges = days.ranges();
    let text = |range: &std::ops::RangeInclusive<_>| format!("{} to {}", range.start(), range.end());
    match ranges.as_slice() {
        [] => "none".to_owned(),
        [first, .., last] if ranges.len() > 2 => {
            format!("{}, {} more, {}", text(first), ranges.len() - 2, text(last))
        }
        few => few.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}

async fn show(session: &Session, view: &str, output: &Output) -> Result<()> {
    let declared = declared(session, view).await?;
    let days = session.materialized_days(&declared).await?;
    if output.is_json() {
        return output.object(&json!({"declared": declared, "table": declared.table(), "materialized": days}));
    }
    let features = if days.is_empty() { vec![] } else { session.view_features(&declared).await? };
    let view = &declared.view;
    let known = match &view.known_at {
        Some(column) => format!("at {column}"),
        None => format!("{} after {}", view.known_after, view.event_time),
    };
    let facts = [
        ("what", view.description.clone()),
        ("digest", declared.digest.clone()),
        ("key", view.key.join(", ")),
        ("event time", view.event_time.clone()),
        ("known", known),
        ("look-back", view.look_back.to_string()),
        ("joined when not older than", view.max_age.as_ref().map_or("any age".to_owned(), ToString::to_string)),
        ("sources", view.sources.keys().cloned().collect::<Vec<_>>().join(", ")),
        ("features", features.join(", ")),
        ("table", declared.table()),
        ("materialized", ranges(&days)),
    ];
    output.line(&declared)?;
    let said = facts.iter().filter(|(_, value)| !value.is_empty());
    said.into_iter().try_for_each(|(name, value)| output.line(format_args!("  {name:<28}{value}")))?;
    output.line(format_args!("\n{}", view.sql.trim()))
}

async fn materialize(session: &Session, args: MaterializeArgs) -> Result<Materialized> {
    let view = declared(session, &args.view).await?;
    let options = MaterializeOptions { from: args.from, to: args.to, days_per_commit: args.days_per_commit.into() };
    Ok(session.materialize(&view, &options).await?)
}

fn tell(done: &Materialized, output: &Output) -> Result<()> {
    if output.is_json() {
        return output.object(&output::result("materialized", done));
    }
    if output.is_quiet() {
        return Ok(());
    }
    if done.days.is_empty() {
        return output.line(format_args!("{} version {}: every day is done", done.view, done.version));
    }
    output.line(format_args!(
        "{} version {}: {} days, {} rows into {} ({})",
        done.view,
        done.version,
        done.days.len(),
        done.n_rows,
        done.table,
        ranges(&done.days)
    ))
}

async fn check(session: &Session, args: CheckViewArgs) -> Result<ViewCheck> {
    let view = declared(session, &args.view).await?;
    let done = session.materialized_days(&view).await?.ranges();
    let (first, last) = (done.first().map(|range| *range.start()), done.last().map(|range| *range.end()));
    let (Some(from), Some(to)) = (args.from.or(first), args.to.or(last)) else {
        return Err(CliError::Usage(format!("feature view {view} has no day yet; nothing to check")));
    };
    Ok(session.check_feature_view(&view, from..=to).await?)
}

/// Tells what a check found; a difference is a failure.
fn judge(check: &ViewCheck, output: &Output) -> Result<()> {
    if output.is_json() {
        output.object(&output::result("check", check))?;
    } else if !output.is_quiet() {
        for difference in check.differences.iter().take(MAX_DIFFERENCES) {
            output.line(format_args!(
                "{}: {} rows only materialized, {} only computed; {}",
                difference.day, difference.n_only_materialized, difference.n_only_computed, difference.example
            ))?;
        }
    }
    let ViewCheck { view, version, n_days, .. } = check;
    if check.holds() {
        return match output.is_json() || output.is_quiet() {
            true => Ok(()),
            false => output.line(format_args!("{view} version {version}: {n_days} days are as their query gives them")),
        };
    }
    let days: Vec<String> =
        check.differences.iter().take(MAX_DIFFERENCES).map(|difference| difference.day.to_string()).collect();
    let more = if check.differences.len() > MAX_DIFFERENCES { ", …" } else { "" };
    Err(CliError::Failed(format!(
        "feature view {view} version {version}: {} of {n_days} days differ from their query ({}{more}), {} days are not \
         materialized, {} pairs of key and event time come more than once; to compute days anew: tidemill features \
         materialize {view} --from DAY --to DAY",
        check.differences.len(),
        days.join(", "),
        check.missing.len(),
        check.n_duplicates
    )))
}
