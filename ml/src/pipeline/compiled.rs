//! A fitted pipeline over record batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;

use super::conversion;
use super::model::{InputColumn, Level, PipelineModel};
use crate::matrix::{Feature, Features};
use crate::stage::Scope;
use crate::{MlError, Result};

/// A fitted pipeline as physical expressions, evaluated level by level on record batches of table columns.
///
/// A row's features do not depend on the rows beside it, and are those of [`PipelineModel::transform`] to the bit.
#[derive(Debug, Clone)]
pub struct CompiledPipeline {
    inputs: Vec<InputColumn>,
    input_schema: SchemaRef,
    levels: Vec<CompiledLevel>,
    features: Arc<[Feature]>,
}

/// Features of the rows that a pipeline kept.
#[derive(Debug, Clone)]
pub struct AppliedRows {
    /// The features of the rows that were kept, in their order.
    pub features: Features,
    /// The kept rows' numbers in the batch; none when all were kept.
    pub kept: Option<UInt32Array>,
}

#[derive(Debug, Clone)]
struct CompiledLevel {
    predicate: Option<Arc<dyn PhysicalExpr>>,
    columns: Vec<CompiledColumn>,
    schema: SchemaRef,
}

#[derive(Debug, Clone)]
enum CompiledColumn {
    Passed(usize),
    Computed(Arc<dyn PhysicalExpr>),
}

impl CompiledPipeline {
    pub(super) fn new(model: &PipelineModel, schema: &SchemaRef) -> Result<Self> {
        let scope = Scope::of(schema);
        for input in model.inputs() {
            conversion::check_batch_type(&input.name, &scope.column(&input.name)?.data_type, &input.data_type)?;
        }
        let input_schema = model.input_schema();
        let context = SessionContext::new();
        let mut levels: Vec<CompiledLevel> = Vec::new();
        for level in model.level_steps()? {
            let before = levels.last().map_or(&input_schema, |level| &level.schema);
            levels.push(CompiledLevel::new(&context, before, level)?);
        }
        Ok(Self { inputs: model.inputs().to_vec(), input_schema, levels, features: model.features() })
    }

    pub(super) fn output_schema(&self) -> SchemaRef {
        let all = self.levels.last().map_or(&self.input_schema, |level| &level.schema);
        let fields = self.features.iter().filter_map(|feature| all.field_with_name(&feature.name).ok().cloned());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The features that it gives, in their order, as columns: of a vector, [`Self::apply`] gives each element.
    pub fn features(&self) -> Arc<[Feature]> {
        Arc::clone(&self.features)
    }

    /// The features of a batch's rows, without those that a stage drops.
    ///
    /// Columns are found by name; numbers of another type are converted where nothing is lost.
    ///
    /// # Errors
    /// An input that is missing or cannot be converted, or a value that a stage with `handle_invalid = error` refuses.
    pub fn apply(&self, batch: &RecordBatch) -> Result<Features> {
        Ok(self.apply_rows(batch)?.features)
    }

    /// The same, saying which rows were kept.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_rows(&self, batch: &RecordBatch) -> Result<AppliedRows> {
        let (batch, kept) = self.columns(batch)?;
        Ok(AppliedRows { features: Features::from_batch(Arc::clone(&self.features), &batch)?, kept })
    }

    /// All columns after the last level, of the rows that were kept, and the numbers of those if not all were.
    pub(super) fn columns(&self, batch: &RecordBatch) -> Result<(RecordBatch, Option<UInt32Array>)> {
        let mut batch = self.read_inputs(batch)?;
        let mut kept = None;
        for level in &self.levels {
            batch = level.evaluate(batch, &mut kept)?;
        }
        Ok((batch, kept))
    }

    fn read_inputs(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |input: &InputColumn| match batch.column_by_name(&input.name) {
            Some(array) => conversion::convert(&input.name, array, &input.data_type),
            None => Err(missing(&input.name, batch)),
        };
        let columns = self.inputs.iter().map(column).collect::<Result<Vec<ArrayRef>>>()?;
        record_batch(&self.input_schema, columns, batch.num_rows())
    }
}

impl CompiledLevel {
    fn new(context: &SessionContext, before: &SchemaRef, level: Level) -> Result<Self> {
        let df_schema = DFSchema::try_from(before.as_ref().clone())?;
        let df_schema = Arc::new(df_schema);
        let compile = |expr: Expr| physical(context, expr, &df_schema);
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for (index, field) in before.fields().iter().enumerate() {
            if level.outputs.iter().all(|(name, _)| name != field.name()) {
                columns.push(CompiledColumn::Passed(index));
                fields.push(field.as_ref().clone());
            }
        }
        for (name, expr) in level.outputs {
            let expr = compile(expr)?;
            // With its metadata, which has the size of a sparse vector.
            fields.push(expr.return_field(before)?.as_ref().clone().with_name(name).with_nullable(true));
            columns.push(CompiledColumn::Computed(expr));
        }
        let predicate = level.predicate.map(compile).transpose()?;
        Ok(Self { predicate, columns, schema: Arc::new(Schema::new(fields)) })
    }

    fn evaluate(&self, batch: RecordBatch, kept: &mut Option<UInt32Array>) -> Result<RecordBatch> {
        let batch = match &self.predicate {
            Some(predicate) => filtered(predicate, batch, kept)?,
            None => batch,
        };
        let column = |column: &CompiledColumn| match column {
            CompiledColumn::Passed(index) => Ok(Arc::clone(batch.column(*index))),
            CompiledColumn::Computed(expr) => evaluate(expr, &batch),
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        record_batch(&self.schema, columns, batch.num_rows())
    }
}

/// The expression as a plan would compute it: simplified first, which some functions need.
fn physical(
    context: &SessionContext,
    expr: Expr,
    schema: &Arc<DFSchema>,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(schema)).build());
    let expr = simplifier.simplify(simplifier.coerce(expr, schema)?)?;
    context.create_physical_expr(expr, schema)
}

fn filtered(
    predicate: &Arc<dyn PhysicalExpr>,
    batch: RecordBatch,
    kept: &mut Option<UInt32Array>,
) -> Result<RecordBatch> {
    let mask = evaluate(predicate, &batch)?;
    let mask: &BooleanArray = mask.as_boolean();
    if mask.true_count() == batch.num_rows() {
        return Ok(batch);
    }
    let rows = kept.take().unwrap_or_else(|| UInt32Array::from_iter_values(0..batch.num_rows() as u32));
    *kept = Some(filter(&rows, mask)?.as_primitive().clone());
    Ok(filter_record_batch(&batch, mask)?)
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    let value = expr.evaluate(batch).map_err(of_the_data)?;
    Ok(value.into_array(batch.num_rows())?)
}

/// An error of a stage's own function is about the caller's data.
fn of_the_data(error: DataFusionError) -> MlError {
    match error {
        DataFusionError::Execution(message) => MlError::Invalid(message),
        DataFusionError::Context(_, inner) => of_the_data(*inner),
        other => MlError::DataFusion(other),
    }
}

fn record_batch(schema: &SchemaRef, columns: Vec<ArrayRef>, n_rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn missing(name: &str, batch: &RecordBatch) -> MlError {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    MlError::Invalid(format!(
        "column {name:?} does not exist{}",
        crate::suggest::did_you_mean(name, names.iter().copied())
    ))
}
