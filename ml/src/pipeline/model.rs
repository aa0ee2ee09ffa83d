//! A fitted pipeline.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{DataFrame, cast, ident, when};

use super::columns::replace_columns;
use super::compiled::CompiledPipeline;
use super::conversion;
use super::levels::{Access, levels};
use super::{Subset, format, plan};
use crate::matrix::{Feature, FeatureKind, model_features};
use crate::profile::Profile;
use crate::stage::{FittedOutput, FittedStage, StageColumn, StageRegistry};
use crate::{MlError, Result};

/// Characters of an expression that [`PipelineModel::explain`] shows: labels by the thousand may stand in it.
const MAX_SHOWN: usize = 200;
/// The column that says which rows a pipeline was fitted on.
const IS_FITTED_ON: &str = "__is_fitted_on";

/// A table column that a fitted pipeline reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumn {
    /// Its name.
    pub name: String,
    /// Its type; how text is laid out does not count, all of it is `Utf8`.
    pub data_type: DataType,
    /// Whether it may be null: always, what comes of it is the stages' matter.
    pub nullable: bool,
}

impl InputColumn {
    pub(super) fn of(column: &StageColumn) -> Self {
        Self { name: column.name.clone(), data_type: conversion::normalised(&column.data_type), nullable: true }
    }
}

/// A fitted pipeline: from table columns to features, by expressions with the fitted values inside.
///
/// Evaluated in a plan ([`Self::transform`]) or on record batches ([`Self::compile`]) it gives the same bits.
#[derive(Debug, Clone)]
pub struct PipelineModel {
    inputs: Vec<InputColumn>,
    stages: Vec<Arc<dyn FittedStage>>,
    levels: Vec<Vec<usize>>,
    features: Arc<[Feature]>,
    profile: Option<Arc<Profile>>,
}

/// What one level does: rows that it keeps, and columns that it writes.
pub(super) struct Level {
    pub(super) predicate: Option<Expr>,
    pub(super) outputs: Vec<(String, Expr)>,
}

impl PipelineModel {
    /// A fitted pipeline of these stages, in the order in which they were declared.
    ///
    /// # Errors
    /// A stage or feature that reads a column which is neither an input nor written before.
    pub fn new(inputs: Vec<InputColumn>, stages: Vec<Arc<dyn FittedStage>>, features: Arc<[Feature]>) -> Result<Self> {
        let mut known: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let reads: Vec<_> = stages.iter().map(|stage| [stage.inputs(), stage.training_inputs()].concat()).collect();
        let mut accesses = Vec::with_capacity(stages.len());
        for (index, stage) in stages.iter().enumerate() {
            if let Some(missing) = stage.inputs().iter().find(|name| !known.contains(name)) {
                return Err(plan::at_stage(&plan::label(index + 1, stage.name()), unknown_column(missing)));
            }
            let outputs: Vec<String> = stage.outputs()?.into_iter().map(|output| output.column).collect();
            known.extend(outputs.iter().cloned());
            accesses.push(Access { inputs: &reads[index], outputs, drops_rows: stage.row_predicate().is_some() });
        }
        if let Some(missing) = features.iter().find(|feature| !known.contains(&feature.name)) {
            return Err(unknown_column(&missing.name));
        }
        let levels = levels(&accesses);
        Ok(Self { inputs, levels, features, stages, profile: None })
    }

    /// The same with this profile of the rows that it was fitted on; it is kept beside the stages and changes no value.
    #[must_use]
    pub fn with_profile(self, profile: Option<Profile>) -> Self {
        Self { profile: profile.map(Arc::new), ..self }
    }

    /// What was in the columns that it reads when it was fitted, if that was asked for: [`super::Subset::profiled`].
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_deref()
    }

    /// The table columns that it reads.
    pub fn inputs(&self) -> &[InputColumn] {
        &self.inputs
    }

    /// The same as a schema: what rows to be scored must have.
    pub fn input_schema(&self) -> SchemaRef {
        let field = |input: &InputColumn| Field::new(&input.name, input.data_type.clone(), input.nullable);
        Arc::new(Schema::new(self.inputs.iter().map(field).collect::<Vec<_>>()))
    }

    /// The columns that [`Self::transform`] gives, those that it keeps aside.
    ///
    /// # Errors
    /// Fitted values that make no expression.
    pub fn output_schema(&self) -> Result<SchemaRef> {
        Ok(self.compile(&self.input_schema())?.output_schema())
    }

    /// The features that it gives, in their order: the columns of [`Self::transform`].
    pub fn features(&self) -> Arc<[Feature]> {
        Arc::clone(&self.features)
    }

    /// The same as models see them: a number for each element of a vector.
    pub fn model_features(&self) -> Arc<[Feature]> {
        model_features(&self.features)
    }

    /// The names of the features, in their order.
    pub fn feature_names(&self) -> Vec<&str> {
        self.features.iter().map(|feature| feature.name.as_str()).collect()
    }

    /// The names of the columns that linear models see, in their order: `temp`, `carrier=UA` for each indicator of a
    /// category, and `v[0]` for each element of a vector.
    pub fn matrix_feature_names(&self) -> Vec<String> {
        self.features.iter().flat_map(Feature::expanded_names).collect()
    }

    /// The fitted stages, in their order.
    pub fn stages(&self) -> &[Arc<dyn FittedStage>] {
        &self.stages
    }

    /// Each feature as one expression over the table's columns, for plans that want one projection.
    ///
    /// Where a stage uses an input several times, so does the expression: over long chains of stages it grows with the
    /// product. [`Self::transform`] does not have that cost.
    ///
    /// # Errors
    /// Fitted values that make no expression.
    pub fn expressions(&self) -> Result<Vec<(String, Expr)>> {
        let (columns, _) = self.composed()?;
        let expr = |name: &str| columns.get(name).cloned().unwrap_or_else(|| ident(name));
        Ok(self.features.iter().map(|feature| (feature.name.clone(), expr(&feature.name))).collect())
    }

    /// What rows must satisfy to be kept, over the table's columns; none when all are.
    ///
    /// # Errors
    /// Fitted values that make no expression.
    pub fn row_predicate(&self) -> Result<Option<Expr>> {
        Ok(self.composed()?.1)
    }

    /// The features of the rows of `df`, and the columns of `keep` as they are in it. Other columns are left out, and
    /// so are rows that a stage drops.
    ///
    /// # Errors
    /// An input that is missing or of another type, or a column to keep that has the name of a feature.
    pub fn transform(&self, df: DataFrame, keep: &[&str]) -> Result<DataFrame> {
        self.transform_by(self.level_steps()?, df, &[], keep)
    }

    /// [`Self::transform`], where the rows of `fitted_on`, those that the pipeline was fitted on, get the features to
    /// train on: out of fold, where a stage encodes by the label. All other rows get those of scoring.
    ///
    /// Reads the columns that deal rows to folds beside the inputs.
    ///
    /// # Errors
    /// As [`Self::transform`]; and a pipeline that was saved and read back with a stage that has such features.
    pub fn transform_training(&self, df: DataFrame, fitted_on: &Subset, keep: &[&str]) -> Result<DataFrame> {
        let mut beside: Vec<Expr> = self.training_inputs()?.iter().map(ident).collect();
        beside.push(fitted_on.filter.clone().unwrap_or(lit(true)).alias(IS_FITTED_ON));
        self.transform_by(self.steps(outputs_by_row)?, df, &beside, keep)
    }

    /// The features by these levels, which may read the columns `beside` the inputs.
    fn transform_by(&self, levels: Vec<Level>, df: DataFrame, beside: &[Expr], keep: &[&str]) -> Result<DataFrame> {
        if let Some(clash) = keep.iter().find(|name| self.feature_names().contains(name)) {
            return Err(MlError::Invalid(format!(
                "column {clash:?} is a feature of the pipeline and cannot be kept as it is; give it another name first"
            )));
        }
        let kept: Vec<String> = (0..keep.len()).map(|i| format!("__keep_{i}")).collect();
        let mut columns: Vec<String> = self.inputs.iter().map(|input| input.name.clone()).collect();
        columns.extend(beside.iter().map(|expr| expr.name_for_alias()).collect::<Result<Vec<_>, _>>()?);
        let mut raw = self.inputs.iter().map(|input| input_expr(&df, input)).collect::<Result<Vec<_>>>()?;
        raw.extend(beside.iter().cloned());
        let carried = keep.iter().zip(&kept).map(|(name, kept)| ident(*name).alias(kept));
        let mut df = df.select(raw.into_iter().chain(carried).collect::<Vec<_>>())?;
        for level in levels {
            if let Some(predicate) = level.predicate {
                df = df.filter(predicate)?;
            }
            let passed = columns.iter().chain(&kept).filter(|name| level.outputs.iter().all(|(new, _)| new != *name));
            let written = level.outputs.iter().map(|(name, expr)| expr.clone().alias(name));
            df = df.select(passed.map(ident).chain(written).collect::<Vec<_>>())?;
            columns.extend(level.outputs.into_iter().map(|(name, _)| name));
            columns.sort();
            columns.dedup();
        }
        let features = self.features.iter().map(|feature| ident(&feature.name));
        let carried = keep.iter().zip(&kept).map(|(name, kept)| ident(kept).alias(*name));
        Ok(df.select(features.chain(carried).collect::<Vec<_>>())?)
    }

    /// The pipeline ready for record batches with these columns.
    ///
    /// # Errors
    /// An input that is missing or of another kind of type.
    pub fn compile(&self, schema: &SchemaRef) -> Result<CompiledPipeline> {
        CompiledPipeline::new(self, schema)
    }

    /// What was fitted, stage by stage: in words, the rows that it keeps, and each output's expression, the long ones
    /// cut off. Then the features.
    pub fn explain(&self) -> String {
        let mut lines = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let level = self.levels.iter().position(|level| level.contains(&index)).unwrap_or(0);
            lines.push(format!("{}, level {}: {}", plan::label(index + 1, stage.name()), level + 1, stage.describe()));
            lines.extend(stage.row_predicate().map(|predicate| format!("    where {}", shortened(&predicate))));
            let outputs = stage.outputs().unwrap_or_default();
            lines.extend(outputs.iter().map(|output| format!("    {} = {}", output.column, shortened(&output.expr))));
        }
        let feature = |feature: &Feature| format!("feature {}: {}", feature.name, describe(&feature.kind));
        lines.extend(self.features.iter().map(feature));
        lines.join("\n") + "\n"
    }

    /// Its bytes: JSON with a format number, the same for equal pipelines.
    ///
    /// # Errors
    /// A stage that cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        format::write(self)
    }

    /// Reads back what [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// [`MlError::Corrupt`] for damaged bytes and for those of a newer format.
    pub fn from_bytes(bytes: &[u8], registry: &StageRegistry) -> Result<Self> {
        format::read(bytes, registry)
    }

    /// The levels as predicates and outputs over the columns before each.
    pub(super) fn level_steps(&self) -> Result<Vec<Level>> {
        self.steps(|stage| stage.outputs())
    }

    fn steps(&self, outputs_of: impl Fn(&dyn FittedStage) -> Result<Vec<FittedOutput>>) -> Result<Vec<Level>> {
        let step = |level: &Vec<usize>| {
            let stages: Vec<&Arc<dyn FittedStage>> = level.iter().map(|&index| &self.stages[index]).collect();
            let predicate = stages.iter().filter_map(|stage| stage.row_predicate()).reduce(Expr::and);
            let mut outputs = Vec::new();
            for stage in stages {
                outputs.extend(outputs_of(stage.as_ref())?.into_iter().map(|output| (output.column, output.expr)));
            }
            Ok(Level { predicate, outputs })
        };
        self.levels.iter().map(step).collect()
    }

    /// The table columns that only training reads: those that are neither inputs nor written by a stage before.
    fn training_inputs(&self) -> Result<Vec<String>> {
        let mut known: Vec<String> = self.inputs.iter().map(|input| input.name.clone()).collect();
        let mut columns = Vec::new();
        for stage in &self.stages {
            let new: Vec<_> = stage.training_inputs().iter().filter(|name| !known.contains(name)).cloned().collect();
            known.extend(new.iter().cloned());
            columns.extend(new);
            known.extend(stage.outputs()?.into_iter().map(|output| output.column));
        }
        Ok(columns)
    }

    fn composed(&self) -> Result<(HashMap<String, Expr>, Option<Expr>)> {
        let mut columns: HashMap<String, Expr> = HashMap::new();
        let mut predicates = Vec::new();
        for level in self.level_steps()? {
            if let Some(predicate) = level.predicate {
                predicates.push(replace_columns(predicate, &columns)?);
            }
            let replaced = |(name, expr)| Ok((name, replace_columns(expr, &columns)?));
            let outputs: Vec<(String, Expr)> = level.outputs.into_iter().map(replaced).collect::<Result<_>>()?;
            columns.extend(outputs);
        }
        Ok((columns, predicates.into_iter().reduce(Expr::and)))
    }
}

/// A stage's outputs for the rows that it was fitted on where there are others for these, and for rows to score.
fn outputs_by_row(stage: &dyn FittedStage) -> Result<Vec<FittedOutput>> {
    let outputs = stage.outputs()?;
    let Some(training) = stage.training_outputs()? else { return Ok(outputs) };
    let by_row = |(training, output): (FittedOutput, FittedOutput)| {
        let expr = when(ident(IS_FITTED_ON), training.expr).otherwise(output.expr)?;
        Ok(FittedOutput { expr, ..output })
    };
    training.into_iter().zip(outputs).map(by_row).collect()
}

/// The input column of a data frame, in the type that the pipeline was fitted on.
fn input_expr(df: &DataFrame, input: &InputColumn) -> Result<Expr> {
    let scope = crate::stage::Scope::of(df.schema().as_arrow());
    let data_type = &scope.column(&input.name)?.data_type;
    conversion::check_plan_type(&input.name, data_type, &input.data_type)?;
    let column = ident(&input.name);
    let column = if *data_type == input.data_type { column } else { cast(column, input.data_type.clone()) };
    Ok(column.alias(&input.name))
}

fn unknown_column(name: &str) -> MlError {
    MlError::Invalid(format!("column {name:?} is neither an input nor written by a stage"))
}

/// An expression as text, its end cut off beyond [`MAX_SHOWN`] characters.
fn shortened(expr: &Expr) -> String {
    let text = expr.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn describe(kind: &FeatureKind) -> String {
    match kind {
        FeatureKind::Number => "number".to_owned(),
        FeatureKind::Vector { size } => format!("vector of {size} numbers"),
        FeatureKind::SparseVector { size } => format!("sparse vector of {size} numbers, for tables, not for models"),
        FeatureKind::Other => "for tables, not for models".to_owned(),
        FeatureKind::Category { labels, indicators } => {
            format!("category of {} labels, {indicators} indicators", labels.len())
        }
    }
}
