//! The search itself: fit the stages, write the matrices, train the groups, refit the best.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, UInt32Type};
use datafusion::common::Column;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit, when};
use tidemill_connectors::stores::Location;
use tidemill_ml::estimator::{Candidate, Model, Params, ProblemType, fold_hash_of};
use tidemill_ml::eval::{Evaluation, Metric};
use tidemill_ml::pipeline::{Fit, Pipeline, PipelineModel, Subset};

use super::halving::{Halving, Resource};
use super::label::Label;
use super::matrices::{FOLD_COLUMN, MatrixWriter};
use crate::jobs::{CandidateRecord, StepRecord};
use crate::plan::train::{HELD_OUT, MatrixRef, TrainNode, TrainOutcome, TrainTask, outcomes, params_value, task_table};
use crate::progress::Step;
use crate::session::Session;
use crate::{EngineError, Result};

/// A grid of candidates over one pipeline, compared by cross-validation.
#[derive(Debug, Clone)]
pub struct GridSearch {
    /// The stages; their selectors choose neither key, label nor what the folds are dealt by.
    pub pipeline: Pipeline,
    /// The candidates, in the grid's order.
    pub candidates: Vec<Candidate>,
    /// The columns that identify a row; rows are trained on in their order.
    pub key: Vec<String>,
    /// What is to be learnt.
    pub label: Label,
    /// How many folds.
    pub n_folds: u32,
    /// The column whose hash deals the rows to folds.
    pub fold_by: String,
    /// The metric that ranks.
    pub metric: Metric,
    /// The score from which a row is predicted to be positive.
    pub threshold: f64,
    /// How hopeless candidates are given up early; all are trained to the end without it.
    pub halving: Option<Halving>,
    /// The seed of folds, samples and starts.
    pub seed: u64,
}

/// A candidate trained on all folds.
#[derive(Debug)]
pub struct Refit {
    /// The candidate.
    pub candidate: usize,
    /// The model.
    pub model: Box<dyn Model>,
    /// Its figures on the held-out rows.
    pub evaluation: Evaluation,
    /// Feature importances, largest first.
    pub importances: Vec<(String, f64)>,
}

/// What a search found.
#[derive(Debug)]
pub struct SearchResult {
    /// Every candidate, in the grid's order.
    pub candidates: Vec<CandidateRecord>,
    /// The best candidate.
    pub best: usize,
    /// The pipeline fitted on all folds.
    pub pipeline: PipelineModel,
    /// The best candidate of each estimator, trained on all folds; the best of all is among them.
    pub refits: Vec<Refit>,
    /// Queries over the data that fitted the stages.
    pub fit_passes: usize,
    /// How many times each stage was fitted.
    pub stage_fits: BTreeMap<String, usize>,
    /// Groups of the grid.
    pub n_groups: usize,
    /// Fits of a candidate on a fold, the refits not counted.
    pub n_fits: usize,
    /// Steps with their times.
    pub steps: Vec<StepRecord>,
}

impl SearchResult {
    /// The best candidate, trained on all folds.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn best(&self) -> Result<&Refit> {
        self.refits
            .iter()
            .find(|r| r.candidate == self.best)
            .ok_or_else(|| EngineError::Internal("the best candidate was not refitted".to_owned()))
    }

    /// The fitted pipeline and the best candidate, trained on all folds.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn into_best(self) -> Result<(PipelineModel, Refit)> {
        let best = self.refits.into_iter().find(|r| r.candidate == self.best);
        let best = best.ok_or_else(|| EngineError::Internal("the best candidate was not refitted".to_owned()))?;
        Ok((self.pipeline, best))
    }
}

impl GridSearch {
    /// Runs the search on the rows that `train` chooses and evaluates the best on those that `holdout` chooses.
    ///
    /// `scratch` takes the matrices; it is the caller's to delete.
    ///
    /// # Errors
    /// A pipeline or parameters that do not fit the rows, a grid in which every candidate failed.
    pub async fn fit(
        &self,
        session: &Session,
        rows: DataFrame,
        train: Expr,
        holdout: Expr,
        scratch: &Location,
    ) -> Result<SearchResult> {
        let pipeline = self.validated(session, &rows)?;
        let rows = self.with_folds(rows, train, holdout)?;
        self.check_folds(&rows).await?;
        let mut steps = Vec::new();

        let step = Step::start(
            session.progress(),
            "fit stages",
            format!("{} folds and the refit together", self.n_folds),
            None,
        );
        let fit = pipeline.fit(rows.clone(), &self.subsets()).await?;
        steps.push(step.finish(format!("{} passes over the data", fit.passes)));

        let matrices = self.write_matrices(session, &rows, &fit, scratch, &mut steps).await?;
        let (folds, all) = matrices.split_at(self.n_folds as usize);
        let [all] = all else { return Err(EngineError::Internal("no matrix for the refit".to_owned())) };

        let (candidates, n_groups, n_fits) = self.compare(session, folds, &mut steps).await?;
        let best = self.best_of(&candidates, None)?;

        let step = Step::start(session.progress(), "refit", "the best of each estimator on all folds", None);
        let refit = run_tasks(session, &self.refit_tasks(&candidates, all, n_groups)).await?;
        let pipeline =
            fit.models.into_iter().next_back().ok_or_else(|| EngineError::Internal("no fitted pipeline".to_owned()))?;
        let refits = self.refits(session, &pipeline, refit, best)?;
        steps.push(step.finish(format!("{} models", refits.len())));
        Ok(SearchResult {
            candidates,
            best,
            pipeline,
            refits,
            fit_passes: fit.passes,
            stage_fits: fit.stage_fits,
            n_groups,
            n_fits,
            steps,
        })
    }

    /// Trains the candidates on their folds, rung by rung; gives them with the numbers of groups and fits.
    async fn compare(
        &self,
        session: &Session,
        folds: &[MatrixRef],
        steps: &mut Vec<StepRecord>,
    ) -> Result<(Vec<CandidateRecord>, usize, usize)> {
        let shares = self.halving.map_or(vec![1.0], |halving| halving.shares(self.candidates.len()));
        let mut records: Vec<CandidateRecord> = Vec::new();
        let mut left: Vec<usize> = (0..self.candidates.len()).collect();
        let (mut n_groups, mut n_fits) = (0, 0);
        for (rung, &share) in shares.iter().enumerate() {
            let chosen: Vec<Candidate> = left.iter().map(|&id| self.candidates[id].clone()).collect();
            let tasks = self.tasks(folds, &chosen, n_groups, share);
            n_groups += tasks.len();
            n_fits += chosen.len() * folds.len();
            let name = if shares.len() == 1 { "grid".to_owned() } else { format!("rung {}", rung + 1) };
            let what = self.describe(chosen.len(), tasks.len(), share);
            let step = Step::start(session.progress(), &name, what, Some(tasks.len() as u64));
            let found = self.summarise(&chosen, &run_tasks(session, &tasks).await?, share);
            if let Some(halving) = self.halving.filter(|_| share < 1.0) {
                left = halving.survivors(&found, self.metric);
            }
            let best = self.best_of(&found, None)?;
            steps.push(
                step.finish(found.iter().find(|c| c.id == best).map(|c| self.describe_best(c)).unwrap_or_default()),
            );
            keep(&mut records, found);
        }
        Ok((records, n_groups, n_fits))
    }

    /// The pipeline over these rows, once everything is checked that can be known before anything runs.
    fn validated(&self, session: &Session, rows: &DataFrame) -> Result<Pipeline> {
        let schema = rows.schema();
        for column in self.key.iter().chain(self.label.columns()).chain([&self.fold_by]) {
            if !schema.has_column_with_unqualified_name(column) {
                let names = schema.fields().iter().map(|f| f.name().as_str());
                let hint = crate::nearest(column, names).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
                return Err(EngineError::Invalid(format!("the feature query has no column {column:?}{hint}")));
            }
        }
        self.metric.check(self.label.problem)?;
        if let Some(halving) = self.halving {
            halving.check()?;
            let without = self.candidates.iter().find(|c| !c.params.get("max_iter").is_some_and(|n| n.is_u64()));
            if let (Resource::Iterations, Some(c)) = (halving.resource, without) {
                return Err(EngineError::Invalid(format!(
                    "halving by iterations needs max_iter in each candidate; candidate {} ({}) has none",
                    c.id, c.estimator
                )));
            }
        }
        for c in &self.candidates {
            let estimator = session.plugins().estimators.get(&c.estimator)?;
            estimator
                .validate(&c.params, self.label.problem)
                .map_err(|e| EngineError::Invalid(format!("candidate {} ({}): {e}", c.id, c.estimator)))?;
        }
        let excluded = self.key.iter().chain(self.label.columns()).chain([&self.fold_by]).map(String::as_str);
        let pipeline = self.pipeline.bind(schema.as_arrow(), &excluded.collect::<Vec<_>>())?;
        pipeline.validate(schema.as_arrow())?;
        Ok(pipeline)
    }

    /// Labelled rows with their fold: `hash(fold_by, seed) % k` where trained on, [`HELD_OUT`] where held out.
    fn with_folds(&self, rows: DataFrame, train: Expr, holdout: Expr) -> Result<DataFrame> {
        let column = |name: &str| Expr::Column(Column::new_unqualified(name));
        let hash = fold_hash_of(column(&self.fold_by), self.seed);
        let fold = cast(hash % lit(u64::from(self.n_folds)), DataType::UInt32);
        let fold = when(train, fold).when(holdout, lit(HELD_OUT)).end()?;
        let labelled = rows.filter(self.label.is_known())?.with_column(FOLD_COLUMN, fold)?;
        Ok(labelled.filter(column(FOLD_COLUMN).is_not_null())?)
    }

    /// Checks that no fold's models are trained without a class, or validated on one class only.
    async fn check_folds(&self, rows: &DataFrame) -> Result<()> {
        if !self.label.problem.is_classification() {
            return Ok(());
        }
        let fold = || Expr::Column(Column::new_unqualified(FOLD_COLUMN));
        let found = rows.clone().filter(fold().not_eq(lit(HELD_OUT)))?;
        let found =
            found.select(vec![cast(self.label.expr()?, DataType::UInt32).alias("class"), fold()])?.distinct()?;
        let mut folds_of = vec![BTreeSet::new(); self.label.n_classes()];
        for batch in found.collect().await? {
            let [classes, folds] = [0, 1].map(|i| batch.column(i).as_primitive::<UInt32Type>());
            for (class, fold) in classes.iter().flatten().zip(folds.values()) {
                if let Some(of_class) = folds_of.get_mut(class as usize) {
                    of_class.insert(*fold);
                }
            }
        }
        let is_binary = self.label.problem == ProblemType::Binary;
        let fewest = if is_binary { self.n_folds as usize } else { 2 };
        let Some(class) = folds_of.iter().position(|folds| folds.len() < fewest) else { return Ok(()) };
        let name = self.label.classes.as_ref().map_or(class.to_string(), |classes| classes.names()[class].clone());
        Err(EngineError::Invalid(format!(
            "class {name} of label {:?} has rows in {} of {} folds, expected {fewest} or more: other folds would be trained or \
             validated without it; take fewer folds, or deal rows by a column other than {:?}",
            self.label.column,
            folds_of[class].len(),
            self.n_folds,
            self.fold_by
        )))
    }

    /// The rows that each fit sees: all folds but one, and all of them last, whose profile the model keeps.
    fn subsets(&self) -> Vec<Subset> {
        let fold = || Expr::Column(Column::new_unqualified(FOLD_COLUMN));
        let train = || fold().not_eq(lit(HELD_OUT));
        let one = |i: u32| Subset::of(format!("fold {i}"), train().and(fold().not_eq(lit(i))));
        (0..self.n_folds).map(one).chain([Subset::of("all folds", train()).profiled()]).collect()
    }

    async fn write_matrices(
        &self,
        session: &Session,
        rows: &DataFrame,
        fit: &Fit,
        scratch: &Location,
        steps: &mut Vec<StepRecord>,
    ) -> Result<Vec<MatrixRef>> {
        let total = fit.models.len() as u64;
        let step = Step::start(session.progress(), "matrices", "one for each fold and one for the refit", Some(total));
        let writer = MatrixWriter { session, search: self, rows, scratch };
        let fold = || Expr::Column(Column::new_unqualified(FOLD_COLUMN));
        let mut matrices = Vec::with_capacity(fit.models.len());
        for (i, (model, fitted_on)) in fit.models.iter().zip(self.subsets()).enumerate() {
            let is_refit = i == self.n_folds as usize;
            let keep = if is_refit { fold().is_not_null() } else { fold().not_eq(lit(HELD_OUT)) };
            let name = if is_refit { "all".to_owned() } else { format!("fold-{i}") };
            matrices.push(writer.write(&name, model, &fitted_on, keep).await?);
            step.advance(i as u64 + 1, name);
        }
        let bytes: u64 = matrices.iter().map(|m| m.size_bytes).sum();
        steps.push(step.finish(format!("{total} matrices, {:.1} MB", bytes as f64 / 1e6)));
        Ok(matrices)
    }

    /// One group for each estimator and fold of these candidates, with a share of the resource.
    fn tasks(&self, folds: &[MatrixRef], chosen: &[Candidate], first_group: usize, share: f64) -> Vec<TrainTask> {
        let resource = self.halving.map_or(Resource::Rows, |halving| halving.resource);
        let params = |c: &Candidate| match resource {
            Resource::Iterations if share < 1.0 => with_iterations(&c.params, share),
            _ => c.params.clone(),
        };
        let row_share = if resource == Resource::Rows { share } else { 1.0 };
        let mut tasks = Vec::new();
        for estimator in self.estimators() {
            let candidates: Vec<_> =
                chosen.iter().filter(|c| c.estimator == estimator).map(|c| (c.id, params(c))).collect();
            if candidates.is_empty() {
                continue;
            }
            for (fold, matrix) in (0..).zip(folds) {
                let group = first_group + tasks.len();
                let task = self.task(group, matrix, Some(fold), &estimator, candidates.clone());
                tasks.push(TrainTask { row_share, ..task });
            }
        }
        tasks
    }

    fn task(
        &self,
        group: usize,
        matrix: &MatrixRef,
        fold: Option<u32>,
        estimator: &str,
        candidates: Vec<(usize, Params)>,
    ) -> TrainTask {
        TrainTask {
            group,
            matrix: matrix.clone(),
            fold,
            estimator: estimator.to_owned(),
            candidates,
            metric: self.metric.to_string(),
            threshold: self.threshold,
            row_share: 1.0,
            seed: self.seed,
        }
    }

    /// The estimators, in the order in which the grid names them.
    fn estimators(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for c in &self.candidates {
            if !names.contains(&c.estimator) {
                names.push(c.estimator.clone());
            }
        }
        names
    }

    fn refit_tasks(&self, candidates: &[CandidateRecord], all: &MatrixRef, first_group: usize) -> Vec<TrainTask> {
        let best = self.estimators().into_iter().filter_map(|e| self.best_of(candidates, Some(&e)).ok());
        best.enumerate()
            .map(|(i, id)| {
                let c = &self.candidates[id];
                self.task(first_group + i, all, None, &c.estimator, vec![(id, c.params.clone())])
            })
            .collect()
    }

    /// Outcomes by candidate: metrics by fold, their mean, time and errors.
    fn summarise(&self, chosen: &[Candidate], found: &[TrainOutcome], share: f64) -> Vec<CandidateRecord> {
        chosen
            .iter()
            .map(|c| {
                let own: Vec<&TrainOutcome> = found.iter().filter(|o| o.candidate == c.id).collect();
                let folds: Vec<Option<f64>> =
                    (0..self.n_folds).map(|f| own.iter().find(|o| o.fold == Some(f)).and_then(|o| o.metric)).collect();
                let values: Option<Vec<f64>> = folds.iter().copied().collect();
                let mut executors: Vec<String> = own.iter().map(|o| o.executor.clone()).collect();
                executors.sort();
                executors.dedup();
                CandidateRecord {
                    id: c.id,
                    estimator: c.estimator.clone(),
                    params: params_value(&c.params),
                    mean: values.map(|v| v.iter().sum::<f64>() / v.len() as f64),
                    folds,
                    seconds: own.iter().map(|o| o.seconds).sum(),
                    error: own.iter().find_map(|o| o.error.clone()),
                    executors,
                    given_up_at: (share < 1.0).then_some(share),
                }
            })
            .collect()
    }

    /// The best candidate by mean over folds, of one estimator or of all; the first of equals.
    ///
    /// Those that were given up early are not among them, unless all of an estimator were.
    fn best_of(&self, candidates: &[CandidateRecord], estimator: Option<&str>) -> Result<usize> {
        let of_estimator = || candidates.iter().filter(|c| estimator.is_none_or(|e| c.estimator == e));
        let share = |c: &CandidateRecord| c.given_up_at.unwrap_or(1.0);
        let most = of_estimator().filter(|c| c.mean.is_some()).map(share).fold(0.0, f64::max);
        let mut best: Option<(usize, f64)> = None;
        for c in of_estimator().filter(|c| share(c) == most) {
            if let Some(mean) = c.mean.filter(|m| m.is_finite())
                && best.is_none_or(|(_, b)| self.metric.is_better(mean, b))
            {
                best = Some((c.id, mean));
            }
        }
        best.map(|(id, _)| id).ok_or_else(|| {
            let reason = candidates.iter().find_map(|c| c.error.as_deref()).unwrap_or("no metric");
            EngineError::Invalid(format!("every candidate of the grid failed; the first said: {reason}"))
        })
    }

    fn refits(
        &self,
        session: &Session,
        pipeline: &PipelineModel,
        found: Vec<TrainOutcome>,
        best: usize,
    ) -> Result<Vec<Refit>> {
        let features: Arc<[_]> = pipeline.model_features();
        let mut refits = Vec::new();
        for o in found {
            let (Some(evaluation), Some(artifacts)) = (o.evaluation, o.artifacts) else {
                if o.candidate == best {
                    return Err(EngineError::Invalid(format!(
                        "the best candidate failed on all folds: {}",
                        o.error.unwrap_or_default()
                    )));
                }
                continue;
            };
            let estimator = session.plugins().estimators.get(&self.candidates[o.candidate].estimator)?;
            let model = estimator.load(Arc::clone(&features), &artifacts)?;
            refits.push(Refit { candidate: o.candidate, model, evaluation, importances: o.importances });
        }
        Ok(refits)
    }

    fn describe(&self, n_candidates: usize, n_groups: usize, share: f64) -> String {
        let of = match self.halving.map(|halving| halving.resource) {
            Some(Resource::Rows) => format!(", {:.0} % of the rows", share * 100.0),
            Some(Resource::Iterations) => format!(", {:.0} % of the iterations", share * 100.0),
            None => String::new(),
        };
        format!("{n_candidates} candidates × {} folds in {n_groups} groups{of}", self.n_folds)
    }

    fn describe_best(&self, best: &CandidateRecord) -> String {
        format!(
            "best {} {} with mean {} {:.4}",
            best.estimator,
            best.params,
            self.metric,
            best.mean.unwrap_or(f64::NAN)
        )
    }
}

/// Puts what a rung found of its candidates in the place of what was known of them.
fn keep(records: &mut Vec<CandidateRecord>, found: Vec<CandidateRecord>) {
    for new in found {
        match records.iter_mut().find(|old| old.id == new.id) {
            Some(old) => {
                let seconds = old.seconds + new.seconds;
                *old = CandidateRecord { seconds, ..new };
            }
            None => records.push(new),
        }
    }
}

/// Parameters with a share of their iterations, at least one.
fn with_iterations(params: &Params, share: f64) -> Params {
    let mut params = params.clone();
    if let Some(n) = params.get("max_iter").and_then(serde_json::Value::as_u64) {
        params.insert("max_iter".to_owned(), ((n as f64 * share).ceil() as u64).max(1).into());
    }
    params
}

/// Runs tasks wherever the session runs work, each exactly once in the result.
async fn run_tasks(session: &Session, tasks: &[TrainTask]) -> Result<Vec<TrainOutcome>> {
    let table = task_table(tasks)?;
    let scan = LogicalPlanBuilder::scan("tasks", datafusion::datasource::provider_as_source(Arc::new(table)), None)?
        .build()?;
    let batches = session.data_frame(TrainNode::plan(scan)?).collect().await?;
    let found = outcomes(&batches)?;
    let expected: usize = tasks.iter().map(|t| t.candidates.len()).sum();
    if found.len() != expected {
        return Err(EngineError::Internal(format!("{expected} fits were asked for, {} came back", found.len())));
    }
    Ok(found)
}
