//! Fitting: one aggregate query for each level, for all stages and subsets.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{DataFrame, ident, when};

use super::columns::replace_columns;
use super::model::{InputColumn, PipelineModel};
use super::plan;
use super::{Fit, Pipeline, Subset};
use crate::functions::takes_condition;
use crate::matrix::{Feature, FeatureKind};
use crate::profile::{self, Profile};
use crate::stage::{FittedStage, Scope, Stage};
use crate::{MlError, Result};

pub(super) async fn fit(pipeline: &Pipeline, df: DataFrame, subsets: &[Subset]) -> Result<Fit> {
    let mut fitting = Fitting::new(pipeline, df, subsets)?;
    let mut profiles = fitting.profile_requests(subsets)?;
    for level in plan::stage_levels(&pipeline.stages) {
        fitting.fit_level(&level, std::mem::take(&mut profiles)).await?;
        fitting.apply_level(&level)?;
    }
    fitting.finish()
}

/// A fit on its way: the rows with what the levels so far made of them, once for each subset.
struct Fitting<'a> {
    stages: &'a [Arc<dyn Stage>],
    labels: &'a [String],
    inputs: Vec<InputColumn>,
    df: DataFrame,
    subsets: Vec<SubsetFit>,
    passes: usize,
}

/// What is known of one subset.
struct SubsetFit {
    index: usize,
    name: String,
    /// Whether there is a column that says which rows belong to it.
    has_membership: bool,
    scope: Scope,
    /// What stands for a column that stages wrote.
    columns: HashMap<String, Expr>,
    kinds: HashMap<String, FeatureKind>,
    fitted: Vec<Arc<dyn FittedStage>>,
    /// The numbers of the stages in `fitted`.
    order: Vec<usize>,
    profile: Option<Profile>,
}

/// Where the aggregates of a stage for a subset are in the level's query.
struct Request {
    subset: usize,
    stage: usize,
    values: Range<usize>,
}

/// The aggregates of a subset's profile.
struct ProfileRequest {
    subset: usize,
    aggregates: Vec<Expr>,
}

impl<'a> Fitting<'a> {
    fn new(pipeline: &'a Pipeline, df: DataFrame, subsets: &[Subset]) -> Result<Self> {
        if subsets.is_empty() {
            return Err(MlError::Invalid("a fit needs at least one subset of the rows".to_owned()));
        }
        let Pipeline { stages, labels } = pipeline;
        let scope = Scope::of(df.schema().as_arrow());
        let names = plan::inputs(stages);
        let inputs = names.iter().map(|name| Ok(InputColumn::of(scope.column(name)?))).collect::<Result<Vec<_>>>()?;
        let memberships = subsets
            .iter()
            .enumerate()
            .filter_map(|(i, subset)| subset.filter.clone().map(|filter| filter.alias(membership_name(i))));
        let raw = plan::all_inputs(stages).into_iter().map(|name| ident(&name).alias(name));
        let selected: Vec<Expr> = raw.chain(memberships).collect();
        Ok(Self {
            stages,
            labels,
            inputs,
            df: df.select(selected)?,
            subsets: subsets.iter().enumerate().map(|(i, s)| SubsetFit::new(i, s, scope.clone())).collect(),
            passes: 0,
        })
    }

    /// What profiles need of the rows as they are before the first level.
    fn profile_requests(&self, subsets: &[Subset]) -> Result<Vec<ProfileRequest>> {
        let aggregates = profile::aggregates(&self.profiled_columns()?)?;
        let request = |subset: &SubsetFit| {
            let aggregates = aggregates.iter().map(|aggregate| subset.restrict(aggregate.clone()));
            Ok(ProfileRequest { subset: subset.index, aggregates: aggregates.collect::<Result<_>>()? })
        };
        self.subsets.iter().zip(subsets).filter(|(_, s)| s.profiled).map(|(subset, _)| request(subset)).collect()
    }

    /// The columns that the fitted pipeline reads, in the types that it knows: a layout of text changes no profile.
    fn profiled_columns(&self) -> Result<DFSchema> {
        let field = |input: &InputColumn| Field::new(&input.name, input.data_type.clone(), input.nullable);
        Ok(DFSchema::try_from(Schema::new(self.inputs.iter().map(field).collect::<Vec<_>>()))?)
    }

    async fn fit_level(&mut self, level: &[usize], profiles: Vec<ProfileRequest>) -> Result<()> {
        let mut exprs = Vec::new();
        let mut requests = Vec::new();
        for subset in &self.subsets {
            for &stage in level {
                let aggregates = self.aggregates(subset, stage)?;
                let values = exprs.len()..exprs.len() + aggregates.len();
                requests.push(Request { subset: subset.index, stage, values });
                exprs.extend(aggregates);
            }
        }
        let n_of_stages = exprs.len();
        exprs.extend(profiles.iter().flat_map(|profile| profile.aggregates.iter().cloned()));
        let mut values = self.query(exprs).await?;
        self.keep_profiles(&profiles, values.split_off(n_of_stages))?;
        for request in requests {
            let stage = &self.stages[request.stage];
            let subset = &mut self.subsets[request.subset];
            let fitted = stage
                .fit(&subset.scope, &values[request.values])
                .map_err(|e| plan::at_stage(&self.labels[request.stage], subset.in_message(e)))?;
            subset.fitted.push(fitted);
            subset.order.push(request.stage);
        }
        Ok(())
    }

    fn keep_profiles(&mut self, requests: &[ProfileRequest], values: Vec<ScalarValue>) -> Result<()> {
        let mut values = values.into_iter();
        for request in requests {
            let values = values.by_ref().take(request.aggregates.len());
            self.subsets[request.subset].profile = Some(Profile::from_values(&self.profiled_columns()?, values)?);
        }
        Ok(())
    }

    fn aggregates(&self, subset: &SubsetFit, stage: usize) -> Result<Vec<Expr>> {
        let declared = &self.stages[stage];
        let aggregates = declared.aggregates(&subset.scope);
        let aggregates = aggregates.and_then(|all| all.into_iter().map(|e| subset.restrict(e)).collect());
        aggregates.map_err(|e| plan::at_stage(&self.labels[stage], e))
    }

    async fn query(&mut self, aggregates: Vec<Expr>) -> Result<Vec<ScalarValue>> {
        if aggregates.is_empty() {
            return Ok(Vec::new());
        }
        self.passes += 1;
        let named = aggregates.into_iter().enumerate().map(|(i, e)| e.alias(format!("__value_{i}")));
        let df = self.df.clone().aggregate(Vec::new(), named.collect())?;
        let batches = df.collect().await?;
        let Some(first) = batches.first() else {
            return Err(MlError::Internal("an aggregate query gave no row".to_owned()));
        };
        let row = concat_batches(&first.schema(), &batches)?;
        if row.num_rows() != 1 {
            return Err(MlError::Internal(format!("an aggregate query gave {} rows", row.num_rows())));
        }
        Ok(row.columns().iter().map(|c| ScalarValue::try_from_array(c, 0)).collect::<Result<_, _>>()?)
    }

    /// Puts a fitted level's outputs beside the columns, for the levels after it.
    fn apply_level(&mut self, level: &[usize]) -> Result<()> {
        let mut memberships = Vec::new();
        for subset in &mut self.subsets {
            memberships.extend(subset.membership_after(level)?);
        }
        self.replace(memberships)?;
        let mut outputs = Vec::new();
        for subset in &mut self.subsets {
            outputs.extend(subset.outputs_of(level, self.stages)?);
        }
        self.replace(outputs)
    }

    /// Adds columns by name, or replaces them.
    fn replace(&mut self, columns: Vec<(String, Expr)>) -> Result<()> {
        if columns.is_empty() {
            return Ok(());
        }
        let kept = self.df.schema().fields().iter().map(|f| f.name().clone());
        let kept = kept.filter(|name| columns.iter().all(|(new, _)| new != name)).map(ident);
        let selected: Vec<Expr> = kept.collect();
        let new = columns.iter().map(|(name, expr)| expr.clone().alias(name));
        self.df = self.df.clone().select(selected.into_iter().chain(new).collect::<Vec<_>>())?;
        Ok(())
    }

    fn finish(self) -> Result<Fit> {
        let names = plan::feature_names(self.stages);
        let models = self.subsets.iter().map(|subset| subset.model(&self.inputs, &names));
        Ok(Fit {
            models: models.collect::<Result<_>>()?,
            passes: self.passes,
            stage_fits: self.labels.iter().map(|label| (label.clone(), self.subsets.len())).collect::<BTreeMap<_, _>>(),
        })
    }
}

impl SubsetFit {
    fn new(index: usize, subset: &Subset, scope: Scope) -> Self {
        Self {
            index,
            name: subset.name.clone(),
            has_membership: subset.filter.is_some(),
            scope,
            columns: HashMap::new(),
            kinds: HashMap::new(),
            fitted: Vec::new(),
            order: Vec::new(),
            profile: None,
        }
    }

    fn in_message(&self, error: MlError) -> MlError {
        match error {
            MlError::Invalid(message) => MlError::Invalid(format!("{message} (rows of {:?})", self.name)),
            other => other,
        }
    }

    fn membership(&self) -> Option<Expr> {
        self.has_membership.then(|| ident(membership_name(self.index)))
    }

    /// The aggregate over this subset's rows and columns alone.
    fn restrict(&self, aggregate: Expr) -> Result<Expr> {
        let Expr::AggregateFunction(mut call) = replace_columns(aggregate.unalias(), &self.columns)? else {
            return Err(MlError::Invalid("a stage's aggregate must be a call of an aggregate function".to_owned()));
        };
        if let Some(membership) = self.membership() {
            restrict_call(&mut call, membership);
        }
        Ok(Expr::AggregateFunction(call))
    }

    /// The membership column once the rows that a level's stages drop are out of it.
    fn membership_after(&mut self, level: &[usize]) -> Result<Option<(String, Expr)>> {
        let predicates = self.fitted_in(level).filter_map(|(_, stage)| stage.row_predicate());
        let Some(predicate) = predicates.reduce(Expr::and) else {
            return Ok(None);
        };
        let predicate = replace_columns(predicate, &self.columns)?;
        let expr = match self.membership() {
            Some(membership) => when(membership, predicate).otherwise(lit(false))?,
            None => predicate,
        };
        self.has_membership = true;
        Ok(Some((membership_name(self.index), expr)))
    }

    /// The level's outputs under names of this subset. They are computed for its rows alone: a stage that fails on
    /// values unseen in its fit must not see the other rows.
    fn outputs_of(&mut self, level: &[usize], stages: &[Arc<dyn Stage>]) -> Result<Vec<(String, Expr)>> {
        let mut planned = HashMap::new();
        for &index in level {
            let columns = stages[index].plan(&self.scope)?;
            planned.extend(columns.into_iter().map(|column| (column.name.clone(), column)));
        }
        let mut columns = Vec::new();
        let fitted: Vec<_> = self.fitted_in(level).map(|(index, stage)| (index, Arc::clone(stage))).collect();
        for (index, stage) in fitted {
            let outputs = stage.training_outputs()?.map_or_else(|| stage.outputs(), Ok)?;
            for output in outputs {
                let expr = replace_columns(output.expr, &self.columns)?;
                let expr = match self.membership() {
                    Some(membership) => when(membership, expr).end()?,
                    None => expr,
                };
                let Some(mut column) = planned.remove(&output.column) else {
                    return Err(MlError::Invalid(format!(
                        "{} wrote column {:?}, which it did not declare",
                        plan::label(index + 1, stage.name()),
                        output.column
                    )));
                };
                column.learn(&output.kind);
                self.kinds.insert(output.column.clone(), output.kind);
                columns.push((output.column, column, expr));
            }
        }
        Ok(columns.into_iter().map(|(name, column, expr)| self.put(name, column, expr)).collect())
    }

    fn put(&mut self, name: String, column: crate::stage::StageColumn, expr: Expr) -> (String, Expr) {
        let own_name = format!("__{}_{name}", self.index);
        self.scope.put(column);
        self.columns.insert(name, ident(&own_name));
        (own_name, expr)
    }

    fn fitted_in<'s>(&'s self, level: &'s [usize]) -> impl Iterator<Item = (usize, &'s Arc<dyn FittedStage>)> {
        self.order.iter().copied().zip(&self.fitted).filter(|(index, _)| level.contains(index))
    }

    fn model(&self, inputs: &[InputColumn], names: &[String]) -> Result<PipelineModel> {
        let feature = |name: &String| Feature {
            name: name.clone(),
            kind: self.kinds.get(name).cloned().unwrap_or(FeatureKind::Number),
        };
        let mut stages: Vec<_> = self.order.iter().zip(&self.fitted).collect();
        stages.sort_by_key(|(index, _)| **index);
        let stages = stages.into_iter().map(|(_, stage)| Arc::clone(stage)).collect();
        let model = PipelineModel::new(inputs.to_vec(), stages, names.iter().map(feature).collect())?;
        Ok(model.with_profile(self.profile.clone()))
    }
}

/// Leaves rows out of an aggregate. Ours take a condition as their last argument, which copies nothing; for others a
/// filter copies the batch.
fn restrict_call(call: &mut AggregateFunction, membership: Expr) {
    if takes_condition(call.func.name()) {
        call.params.args.push(membership);
        return;
    }
    let filter = call.params.filter.take();
    let both = filter.map_or(membership.clone(), |filter| membership.and(*filter));
    call.params.filter = Some(Box::new(both));
}

fn membership_name(subset: usize) -> String {
    format!("__subset_{subset}")
}
