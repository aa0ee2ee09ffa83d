//! What can be said of a pipeline before it is fitted.

use std::fmt::Display;
use std::sync::Arc;

use arrow::datatypes::Schema;

use super::levels::{Access, levels};
use crate::stage::{Scope, Stage};
use crate::{MlError, Result};

/// A stage's name in messages and reports: `stage 2 (standard_scaler)`, `stage 3.1 (imputer)` within a pipeline that is
/// the third stage.
pub(super) fn label(number: impl Display, name: &str) -> String {
    format!("stage {number} ({name})")
}

/// The error with the stage's label in front, where it is the caller's.
pub(super) fn at_stage(label: &str, error: MlError) -> MlError {
    match error {
        MlError::Invalid(message) => MlError::Invalid(format!("{label}: {message}")),
        other => other,
    }
}

/// Checks each stage on the columns that the stages before it leave.
pub(super) fn check(stages: &[Arc<dyn Stage>], labels: &[String], input: &Schema) -> Result<()> {
    let mut scope = Scope::of(input);
    for (stage, label) in stages.iter().zip(labels) {
        let columns = stage.plan(&scope).map_err(|e| at_stage(label, e))?;
        columns.into_iter().for_each(|column| scope.put(column));
    }
    let no_features = feature_names(stages).is_empty();
    if no_features { Err(MlError::Invalid("the pipeline has no features".to_owned())) } else { Ok(()) }
}

/// Which stages ask for aggregates of the rows. One that cannot say before others are fitted is taken to.
pub(super) fn learning(stages: &[Arc<dyn Stage>], input: &Schema) -> Result<Vec<bool>> {
    let mut scope = Scope::of(input);
    let mut learning = Vec::with_capacity(stages.len());
    for stage in stages {
        learning.push(stage.aggregates(&scope).map_or(true, |aggregates| !aggregates.is_empty()));
        stage.plan(&scope)?.into_iter().for_each(|column| scope.put(column));
    }
    Ok(learning)
}

/// The levels of declared stages.
pub(super) fn stage_levels(stages: &[Arc<dyn Stage>]) -> Vec<Vec<usize>> {
    let reads: Vec<Vec<String>> = stages.iter().map(|stage| [stage.inputs(), stage.fit_inputs()].concat()).collect();
    let accesses: Vec<Access<'_>> = stages
        .iter()
        .zip(&reads)
        .map(|(stage, inputs)| Access { inputs, outputs: stage.outputs().to_vec(), drops_rows: stage.drops_rows() })
        .collect();
    levels(&accesses)
}

/// The table's columns that the fitted stages read: those that no stage before wrote.
pub(super) fn inputs(stages: &[Arc<dyn Stage>]) -> Vec<String> {
    not_written_before(stages, |stage| stage.inputs().to_vec())
}

/// The table's columns that the fit reads, those of the fitted stages first.
pub(super) fn all_inputs(stages: &[Arc<dyn Stage>]) -> Vec<String> {
    let mut inputs = inputs(stages);
    let fit_inputs = not_written_before(stages, |stage| stage.fit_inputs().to_vec());
    inputs.extend(fit_inputs.into_iter().filter(|name| !inputs.contains(name)).collect::<Vec<_>>());
    inputs
}

fn not_written_before(stages: &[Arc<dyn Stage>], reads: impl Fn(&Arc<dyn Stage>) -> Vec<String>) -> Vec<String> {
    let mut inputs: Vec<String> = Vec::new();
    let mut written: Vec<&String> = Vec::new();
    for stage in stages {
        for name in reads(stage) {
            if !written.contains(&&name) && !inputs.contains(&name) {
                inputs.push(name);
            }
        }
        written.extend(stage.outputs());
    }
    inputs
}

/// The columns that a stage writes and no later one reads, in the order in which they were first written.
pub(super) fn leaves(stages: &[Arc<dyn Stage>]) -> Vec<String> {
    let mut columns: Vec<(&String, bool)> = Vec::new();
    for stage in stages {
        columns.iter_mut().filter(|(name, _)| stage.inputs().contains(name)).for_each(|(_, leaf)| *leaf = false);
        for output in stage.outputs() {
            match columns.iter_mut().find(|(name, _)| *name == output) {
                Some((_, leaf)) => *leaf = true,
                None => columns.push((output, true)),
            }
        }
    }
    columns.into_iter().filter(|(_, leaf)| *leaf).map(|(name, _)| name.clone()).collect()
}

/// The features: what the last stage selects, or else the leaves.
pub(super) fn feature_names(stages: &[Arc<dyn Stage>]) -> Vec<String> {
    match stages.last() {
        Some(last) if last.selects_features() => last.outputs().to_vec(),
        _ => leaves(stages),
    }
}
