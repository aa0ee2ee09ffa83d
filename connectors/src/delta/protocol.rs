//! Which Delta tables we read and write. What we do not know is refused by name.

use std::collections::HashMap;

use deltalake_core::kernel::EagerSnapshot;
use serde_json::Value;

use crate::error::{ConnectorError, Result};
use crate::stores::Location;

/// Reader features that change nothing for a reader of whole files, or that kernel handles.
/// A table may allow deletion vectors; a file that has one is refused.
const READ: [&str; 5] = ["timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors", "columnMapping"];
/// Writer features that ask nothing of a commit that adds and removes whole files.
const WRITE: [&str; 8] = [
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "deletionVectors",
    "columnMapping",
    "appendOnly",
    "invariants",
    "changeDataFeed",
];

/// # Errors
/// `InvalidInput` naming the feature that this reader lacks.
pub(super) fn check_readable(location: &Location, snapshot: &EagerSnapshot) -> Result<()> {
    let features = features(snapshot, "readerFeatures");
    if let Some(unknown) = features.iter().find(|name| !READ.contains(&name.as_str())) {
        return Err(refused(location, &format!("the reader feature {unknown:?}")));
    }
    let mode = configuration(snapshot).remove("delta.columnMapping.mode");
    match mode {
        Some(mode) if mode != "none" => Err(refused(location, &format!("column mapping by {mode}"))),
        _ => Ok(()),
    }
}

/// # Errors
/// `InvalidInput` naming the feature or rule that this writer lacks.
pub(super) fn check_writable(location: &Location, snapshot: &EagerSnapshot, removes: bool) -> Result<()> {
    check_readable(location, snapshot)?;
    let features = features(snapshot, "writerFeatures");
    if let Some(unknown) = features.iter().find(|name| !WRITE.contains(&name.as_str())) {
        return Err(refused(location, &format!("the writer feature {unknown:?}")));
    }
    let configuration = configuration(snapshot);
    if let Some(rule) = configuration.keys().find(|key| key.starts_with("delta.constraints.")) {
        return Err(refused(location, &format!("the check constraint {rule:?}")));
    }
    if removes && configuration.get("delta.appendOnly").is_some_and(|value| value == "true") {
        return Err(ConnectorError::invalid(format!("{location} is append-only; its rows cannot be replaced")));
    }
    check_fields(location, snapshot)
}

fn check_fields(location: &Location, snapshot: &EagerSnapshot) -> Result<()> {
    const RULES: [&str; 3] = ["delta.invariants", "delta.generationExpression", "delta.identity.start"];
    for field in snapshot.arrow_schema().fields() {
        if let Some(rule) = RULES.iter().find(|rule| field.metadata().contains_key(**rule)) {
            return Err(refused(location, &format!("the rule {rule:?} of column {:?}", field.name())));
        }
    }
    Ok(())
}

fn refused(location: &Location, what: &str) -> ConnectorError {
    ConnectorError::invalid(format!("{location} uses {what}, which tidemill does not support"))
}

/// Kernel's types keep these to themselves; their JSON is the protocol's own.
fn features(snapshot: &EagerSnapshot, key: &str) -> Vec<String> {
    let json = serde_json::to_value(snapshot.protocol()).unwrap_or_default();
    json.get(key)
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        .unwrap_or_default()
}

fn configuration(snapshot: &EagerSnapshot) -> HashMap<String, String> {
    snapshot.metadata().configuration().clone()
}
