//! `tidemill models`.

use std::fmt::{self, Write};
use std::sync::Arc;

use serde_json::json;
use tidemill::report::{self, Align, Table};
use tidemill_engine::progress::Silent;
use tidemill_ml::model::{Manifest, ModelVersion};
use tidemill_ml::registry::{AliasEntry, AliasMove, Expected, ModelRef, ModelSelector, ModelSummary, Registry};

use super::args::{Global, ModelsCommand};
use super::error::{CliError, Result};
use super::output::Output;
use super::session;

/// Lists, shows or promotes models, or shows how aliases moved.
pub(crate) async fn models(global: &Global, command: ModelsCommand, output: &Arc<Output>) -> Result<()> {
    let session = session::local(global, Arc::new(Silent)).await?;
    let registry = session.registry();
    match command {
        ModelsCommand::List => list(registry, output).await,
        ModelsCommand::Show { model, features: false } => show(registry, &model, output).await,
        ModelsCommand::Show { model, features: true } => features(registry, &model, output).await,
        ModelsCommand::Promote { name, version, alias, reason } => {
            let reason = reason.unwrap_or_else(|| "promoted by hand".to_owned());
            promote(registry, &name, ModelVersion(version), &alias, reason, output).await
        }
        ModelsCommand::History { name } => history(registry, &name, output).await,
    }
}

async fn list(registry: &Registry, output: &Output) -> Result<()> {
    let models = registry.list().await?;
    if output.is_json() {
        return models.iter().try_for_each(|m| output.object(&summary(m)));
    }
    if models.is_empty() {
        output.hint("no models yet; train one with: tidemill demo");
        return Ok(());
    }
    let mut table = Table::new([("model", Align::Left), ("newest", Align::Right), ("aliases", Align::Left)]);
    for model in &models {
        let aliases = model.aliases.iter().map(|(alias, version)| format!("@{alias} -> {version}"));
        table.row([model.name.clone(), model.latest.to_string(), aliases.collect::<Vec<_>>().join(", ")]);
    }
    output.write(table)
}

fn summary(model: &ModelSummary) -> serde_json::Value {
    json!({"name": model.name, "latest": model.latest, "aliases": model.aliases})
}

async fn show(registry: &Registry, model: &str, output: &Output) -> Result<()> {
    let reference: ModelRef = model.parse()?;
    let manifest = manifest(registry, &reference).await?;
    if output.is_json() {
        return output.object(&manifest);
    }
    let aliases = registry.aliases(&reference.name).await?;
    let here = aliases.into_iter().filter(|(_, v)| *v == manifest.version).map(|(alias, _)| format!("@{alias}"));
    output.write(manifest_text(&manifest, &here.collect::<Vec<_>>()))
}

/// Shows the fitted pipeline and what the model sees of it.
async fn features(registry: &Registry, model: &str, output: &Output) -> Result<()> {
    let reference: ModelRef = model.parse()?;
    let version = registry.resolve(&reference).await?;
    let model = registry.load(&reference.name, version).await?;
    let (pipeline, names) = (model.pipeline().explain(), model.pipeline().matrix_feature_names());
    if output.is_json() {
        return output.object(&json!({"pipeline": pipeline, "features": names}));
    }
    output.line(format_args!("{pipeline}\n{} features that the model sees\n  {}", names.len(), names.join("\n  ")))
}

async fn manifest(registry: &Registry, reference: &ModelRef) -> Result<Manifest> {
    let version = registry.resolve(reference).await?;
    Ok(registry.manifest(&reference.name, version).await?)
}

fn manifest_text(manifest: &Manifest, aliases: &[String]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_manifest(&mut text, manifest, aliases);
    text
}

fn write_manifest(text: &mut String, manifest: &Manifest, aliases: &[String]) -> fmt::Result {
    let params = json!(manifest.params);
    let aliases = if aliases.is_empty() { "none".to_owned() } else { aliases.join(", ") };
    writeln!(text, "{} version {}", manifest.name, manifest.version)?;
    let facts = [
        ("aliases", aliases),
        ("digest", manifest.digest.clone()),
        ("registered", manifest.created_at.format("%Y-%m-%d %H:%M:%S UTC").to_string()),
        ("run", manifest.run_id.clone()),
        ("code version", manifest.code_version.clone()),
        ("estimator", manifest.estimator.clone()),
        ("parameters", report::params_text(&params)),
        ("threshold", manifest.threshold.to_string()),
    ];
    facts.iter().try_for_each(|(name, value)| writeln!(text, "  {name:<28}{value}"))?;
    writeln!(text, "\nMetrics")?;
    let mut metrics = manifest.metrics.iter();
    metrics.try_for_each(|(name, value)| writeln!(text, "  {:<28}{value:.5}", report::metric_name(name)))?;
    writeln!(text, "\nTrained on")?;
    manifest.training_data.iter().try_for_each(|data| writeln!(text, "  {}", report::input_text(data)))?;
    if !manifest.feature_views.is_empty() {
        writeln!(text, "\nFeature views")?;
        let mut views = manifest.feature_views.iter();
        views.try_for_each(|v| writeln!(text, "  {:<28}version {}", v.name, v.version))?;
    }
    writeln!(text, "\nColumns that it reads\n{}", columns(manifest))?;
    write!(text, "Files\n{}", files(manifest))
}

/// The columns with what was in them in training, where that was kept.
fn columns(manifest: &Manifest) -> Table {
    if let Some(profile) = &manifest.profile {
        return report::profile_table(profile);
    }
    let mut table = Table::new([("column", Align::Left), ("type", Align::Left)]);
    manifest.signature.inputs.iter().for_each(|c| table.row([&c.name, &c.data_type]));
    table
}

fn files(manifest: &Manifest) -> Table {
    let mut table = Table::new([("file", Align::Left), ("bytes", Align::Right), ("digest", Align::Left)]);
    for (name, file) in &manifest.files {
        table.row([name.as_str(), &report::thousands(file.size_bytes), report::short_id(&file.digest)]);
    }
    table
}

async fn promote(
    registry: &Registry,
    name: &str,
    version: ModelVersion,
    alias: &str,
    reason: String,
    output: &Output,
) -> Result<()> {
    let change = AliasMove { version, reason, expected: Expected::Any };
    let moved = registry.set_alias(name, alias, change).await?;
    if output.is_json() {
        return output.object(&moved);
    }
    if output.is_quiet() {
        return Ok(());
    }
    match moved.previous {
        Some(previous) if previous != moved.version => {
            output.line(format_args!("{name}@{alias} moved from version {previous} to {version}"))
        }
        _ => output.line(format_args!("{name}@{alias} is version {version}")),
    }
}

async fn history(registry: &Registry, name: &str, output: &Output) -> Result<()> {
    let moves = moves(registry, name).await?;
    if output.is_json() {
        return moves.iter().try_for_each(|m| output.object(m));
    }
    if moves.is_empty() {
        output.hint(format_args!("no alias of {name} was ever set; run: tidemill models promote {name} 1"));
        return Ok(());
    }
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new([("when", left), ("alias", left), ("from", right), ("to", right), ("why", left)]);
    for entry in moves {
        let when = entry.time.format("%Y-%m-%d %H:%M:%S").to_string();
        let from = entry.previous.map_or_else(|| "-".to_owned(), |v| v.to_string());
        table.row([when, format!("@{}", entry.alias), from, entry.version.to_string(), entry.reason]);
    }
    output.write(table)
}

/// All moves of all aliases of a model, oldest first.
async fn moves(registry: &Registry, name: &str) -> Result<Vec<AliasEntry>> {
    let latest = ModelRef { name: name.to_owned(), selector: ModelSelector::Latest };
    registry.resolve(&latest).await.map_err(CliError::from)?;
    let mut moves = Vec::new();
    for alias in registry.aliases(name).await?.into_keys() {
        moves.extend(registry.alias_history(name, &alias).await?);
    }
    moves.sort_by_key(|entry| entry.time);
    Ok(moves)
}
