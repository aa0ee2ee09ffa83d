//! Pipelines: stages in order, fitted together and compiled to expressions.
//!
//! Stages are grouped in levels: a stage comes after those whose outputs it reads. A level is fitted in ONE aggregate
//! query, for all its stages and for all row subsets (the folds of a grid, and all rows) at once. A fitted pipeline is
//! evaluated level by level too, as successive projections, so that no expression is written out more than once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::logical_expr::Expr;
use datafusion::prelude::DataFrame;
use serde::Serialize;
use serde_json::Value;

use crate::stage::{Scope, Stage, StageRegistry};
use crate::{MlError, Result};

mod columns;
mod compiled;
mod conversion;
mod declared;
mod fit;
mod format;
mod levels;
mod model;
mod plan;

use declared::Declared;

pub use compiled::{AppliedRows, CompiledPipeline};
pub(crate) use conversion::normalised;
pub use model::{InputColumn, PipelineModel};

/// Stages in order, not fitted yet.
///
/// ```
/// use tidemill_ml::pipeline::Pipeline;
/// use tidemill_ml::stage::StageRegistry;
///
/// let stages = serde_json::json!([
///     {"imputer": {"inputs": ["temp"], "strategy": "median"}},
///     {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "keep"}},
///     {"one_hot_encoder": {"inputs": ["carrier"]}},
/// ]);
/// let pipeline = Pipeline::from_value(&stages, &StageRegistry::default()).unwrap();
/// assert_eq!(pipeline.input_names(), ["temp", "carrier"]);
/// assert_eq!(pipeline.feature_names(), ["temp", "carrier"]);
/// ```
#[derive(Debug, Clone)]
pub struct Pipeline {
    stages: Vec<Arc<dyn Stage>>,
    /// What each stage is called in messages.
    labels: Vec<String>,
}

/// Rows that a pipeline is fitted on: a fold's training rows, or all.
#[derive(Debug, Clone)]
pub struct Subset {
    /// The name in messages.
    pub name: String,
    /// Which rows; all without it. Null leaves a row out.
    pub filter: Option<Expr>,
    /// Whether the fitted pipeline keeps the profile of the columns that it reads, of these rows.
    pub profiled: bool,
}

impl Subset {
    /// All rows.
    pub fn all(name: impl Into<String>) -> Self {
        Self { name: name.into(), filter: None, profiled: false }
    }

    /// The rows for which `filter` is true.
    pub fn of(name: impl Into<String>, filter: Expr) -> Self {
        Self { name: name.into(), filter: Some(filter), profiled: false }
    }

    /// The same rows; the pipeline that is fitted on them keeps their profile. It is taken in the first query.
    #[must_use]
    pub fn profiled(self) -> Self {
        Self { profiled: true, ..self }
    }
}

/// Stages that are fitted by one query and evaluated by one projection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageLevel {
    /// The stages' labels, as `stage 2 (standard_scaler)`.
    pub stages: Vec<String>,
    /// How many of them learn anything of the rows.
    pub n_learning: usize,
}

/// What a fit gave.
#[derive(Debug, Clone)]
pub struct Fit {
    /// A fitted pipeline for each subset, in their order.
    pub models: Vec<PipelineModel>,
    /// How many queries ran over the rows: one for each level that learns anything, a profile being part of the first.
    pub passes: usize,
    /// How many times each stage was fitted, by its label: once for each subset.
    pub stage_fits: BTreeMap<String, usize>,
}

impl Pipeline {
    /// A pipeline of these stages. A feature-selecting stage without inputs gets the columns that the stages before it
    /// write and none of them reads.
    ///
    /// # Errors
    /// No stage at all, or a feature-selecting stage that is not the last one.
    pub fn new(stages: Vec<Arc<dyn Stage>>) -> Result<Self> {
        let labels = stages.iter().zip(1..).map(|(stage, number)| plan::label(number, stage.name())).collect();
        Self::labelled(stages, labels)
    }

    fn labelled(mut stages: Vec<Arc<dyn Stage>>, labels: Vec<String>) -> Result<Self> {
        if stages.is_empty() {
            return Err(MlError::Invalid("a pipeline needs at least one stage".to_owned()));
        }
        let early = stages[..stages.len() - 1].iter().position(|stage| stage.selects_features());
        if let Some(index) = early {
            let message = "it must be the last stage of the pipeline".to_owned();
            return Err(plan::at_stage(&labels[index], MlError::Invalid(message)));
        }
        // What a selector will choose is not known yet: then this waits for `bind`.
        if stages.iter().all(|stage| stage.input_selector().is_none()) {
            let leaves = plan::leaves(&stages);
            if let Some(bound) = stages.last().and_then(|last| last.with_default_inputs(&leaves)) {
                stages.pop();
                stages.push(bound);
            }
        }
        Ok(Self { stages, labels })
    }

    /// Reads a list of stages, each a map with one key, the stage's name, and its parameters.
    ///
    /// A stage may be `pipeline` and a list of stages: they stand in its place, and messages call them `stage 3.1`.
    /// `inputs` may be an [`InputSelector`](crate::stage::InputSelector) instead of names; it chooses when the pipeline
    /// meets a table ([`Self::bind`]).
    ///
    /// # Errors
    /// An unknown stage or parameter (with the nearest known one), or a value that does not fit; the message has the
    /// stage's number and name.
    pub fn from_value(value: &Value, registry: &StageRegistry) -> Result<Self> {
        let declared = declared::stages(value)?;
        let parse = |stage: &Declared<'_>| {
            registry.parse(stage.name, stage.params).map_err(|e| plan::at_stage(&stage.label, e))
        };
        let stages = declared.iter().map(parse).collect::<Result<_>>()?;
        Self::labelled(stages, declared.into_iter().map(|stage| stage.label).collect())
    }

    /// The pipeline with the columns that its selectors choose out of a table's and those of earlier stages, none of
    /// `exclude` (a key, a label) among them. Without selectors it is the same pipeline.
    ///
    /// # Errors
    /// A selector that chooses nothing, and stages whose columns do not fit.
    pub fn bind(&self, input: &Schema, exclude: &[&str]) -> Result<Self> {
        let mut scope = Scope::of(input);
        let mut stages = Vec::with_capacity(self.stages.len());
        for (stage, label) in self.stages.iter().zip(&self.labels) {
            let at_stage = |e| plan::at_stage(label, e);
            let stage = match stage.input_selector() {
                Some(selector) => selector.bind(&scope, exclude).map_err(at_stage)?,
                None => Arc::clone(stage),
            };
            stages.push(stage);
            // The last one may lack its default inputs, and nothing comes after it.
            if stages.len() < self.stages.len() {
                let columns = stages[stages.len() - 1].plan(&scope).map_err(at_stage)?;
                columns.into_iter().for_each(|column| scope.put(column));
            }
        }
        Self::labelled(stages, self.labels.clone())
    }

    /// The stages in their order.
    pub fn stages(&self) -> &[Arc<dyn Stage>] {
        &self.stages
    }

    /// The table columns that the pipeline reads.
    pub fn input_names(&self) -> Vec<String> {
        plan::inputs(&self.stages)
    }

    /// The names of the features, in their order.
    pub fn feature_names(&self) -> Vec<String> {
        plan::feature_names(&self.stages)
    }

    /// Checks the pipeline against a table's columns, before anything runs.
    ///
    /// # Errors
    /// The first stage and column that do not fit: `stage 2 (standard_scaler): column "tempp" does not exist; did you
    /// mean "temp"?`.
    pub fn validate(&self, input: &Schema) -> Result<()> {
        let bound = self.bind(input, &[])?;
        plan::check(&bound.stages, &bound.labels, input)
    }

    /// The stages by level, as a fit over a table with these columns takes them.
    ///
    /// # Errors
    /// Those of [`Self::validate`].
    pub fn levels(&self, input: &Schema) -> Result<Vec<StageLevel>> {
        let bound = self.bind(input, &[])?;
        plan::check(&bound.stages, &bound.labels, input)?;
        let learning = plan::learning(&bound.stages, input)?;
        let level = |stages: Vec<usize>| StageLevel {
            stages: stages.iter().map(|&i| bound.labels[i].clone()).collect(),
            n_learning: stages.iter().filter(|&&i| learning[i]).count(),
        };
        Ok(plan::stage_levels(&bound.stages).into_iter().map(level).collect())
    }

    /// Fits the pipeline for each of several subsets of the rows of `df` at once.
    ///
    /// The fitted values are functions of the subsets' rows as multisets: their order and partitioning, and the
    /// number of threads or executors, change no bit of them. Runs as many queries as there are levels that learn
    /// anything; only a row of aggregates comes back from each.
    ///
    /// # Errors
    /// Columns that do not fit (nothing ran then), data that a stage cannot be fitted to, or a failing query.
    pub async fn fit(&self, df: DataFrame, subsets: &[Subset]) -> Result<Fit> {
        let bound = self.bind(df.schema().as_arrow(), &[])?;
        plan::check(&bound.stages, &bound.labels, df.schema().as_arrow())?;
        fit::fit(&bound, df, subsets).await
    }
}

#[cfg(test)]
mod batch_law;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod passes;
#[cfg(test)]
mod tests;
