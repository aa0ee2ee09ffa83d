//! The search itself: fit the stages, write the matrices, train the groups, refit the best.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, UInt32Type};
use datafusion::common::DFSchema;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, cast, lit, when};
use datafusion::prelude::ident;
use tidemill_connectors::stores::Location;
use tidemill_ml::estimator::{Candidate, Model, Params, ProblemType};
use tidemill_ml::eval::{Evaluation, Metric};
use tidemill_ml::pipeline::{Fit, Pipeline, PipelineModel, Subset};

use super::folds::{DealtFolds, Folds};
use super::groups::{keep_at, run_groups};
use super::halving::{Halving, Resource};
use super::label::Label;
use super::matrices::{FOLD_COLUMN, MatrixWriter, Parallel};
use crate::jobs::{CandidateRecord, StepRecord};
use crate::plan::shards::sharded as of_shards;
use crate::plan::train::{HELD_OUT, Importances, MatrixRef, TrainOutcome, TrainTask, params_value};
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
    /// How rows are dealt to folds.
    pub folds: Folds,
    /// The metric that ranks.
    pub metric: Metric,
    /// The score from which a row is predicted to be positive.
    pub threshold: f64,
    /// Whether the best model's features are shuffled on the held-out rows, to see which the metric misses.
    pub permutation_importance: bool,
    /// How hopeless candidates are given up early; all are trained to the end without it.
    pub halving: Option<Halving>,
    /// What is done at the same time.
    pub parallel: Parallel,
    /// About how many rows a shard has where rows are in shards; which one a row is in depends on its key and the number
    /// of rows.
    pub rows_per_shard: u64,
    /// The seed of folds, samples and starts.
    pub seed: u64,
    /// Where the outcomes of finished groups are kept, and read by a search that goes on where another was killed: a
    /// folder for these rows, pipeline and folds alone, the caller's to delete. Nothing is kept without it.
    pub keep_at: Option<Location>,
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
    /// What matters to it.
    pub importances: Importances,
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
    /// Those of them that an earlier run had done.
    pub n_resumed: usize,
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
        let pipeline = self.validated(session, rows.schema())?;
        let (rows, dealt) = self.with_folds(rows, train, holdout).await?;
        self.check_folds(&rows, &dealt).await?;
        let mut steps = Vec::new();

        let step = Step::start(
            session.progress(),
            "fit stages",
            format!("{} folds and the refit together", self.folds.k),
            None,
        );
        let fit = pipeline.fit(rows.clone(), &subsets(&dealt)).await?;
        steps.push(step.finish(format!("{} passes over the data", fit.passes)));

        let matrices = self.write_matrices(session, &rows, (&fit, &dealt), scratch, &mut steps).await?;
        let (folds, all) = matrices.split_at(self.folds.k as usize);
        let [all] = all else { return Err(EngineError::Internal("no matrix for the refit".to_owned())) };

        let Compared { candidates, n_groups, n_fits, n_resumed } = self.compare(session, folds, &mut steps).await?;
        let best = self.best_of(&candidates, None)?;

        let step = Step::start(session.progress(), "refit", "the best of each estimator on all folds", None);
        let refit = self.refit_tasks(&candidates, all, n_groups, best);
        let refit = run_groups(session, refit, self.parallel, &mut steps).await?.outcomes;
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
            n_resumed,
            steps,
        })
    }

    /// Trains the candidates on their folds, rung by rung.
    async fn compare(&self, session: &Session, folds: &[MatrixRef], steps: &mut Vec<StepRecord>) -> Result<Compared> {
        let shares = self.halving.map_or(vec![1.0], |halving| halving.shares(self.candidates.len()));
        let mut compared = Compared::default();
        let mut left: Vec<usize> = (0..self.candidates.len()).collect();
        for (rung, &share) in shares.iter().enumerate() {
            let chosen: Vec<Candidate> = left.iter().map(|&id| self.candidates[id].clone()).collect();
            let tasks = self.tasks(folds, &chosen, compared.n_groups, share)?;
            let n_fits = chosen.len() * folds.len();
            compared.n_groups += tasks.len();
            compared.n_fits += n_fits;
            let name = if shares.len() == 1 { "grid".to_owned() } else { format!("rung {}", rung + 1) };
            let what = self.describe(chosen.len(), tasks.len(), share);
            let step = Step::start(session.progress(), &name, what, Some(tasks.len() as u64));
            let ran = run_groups(session, tasks, self.parallel, steps).await?;
            compared.n_resumed += ran.n_resumed;
            let found = self.summarise(&chosen, &ran.outcomes, share);
            if let Some(halving) = self.halving.filter(|_| share < 1.0) {
                left = halving.survivors(&found, self.metric);
            }
            let best = self.best_of(&found, None)?;
            let mut summary = found.iter().find(|c| c.id == best).map(|c| self.describe_best(c)).unwrap_or_default();
            if ran.n_resumed > 0 {
                summary.push_str(&format!("; resumed: {} of {n_fits} fits were done before", ran.n_resumed));
            }
            steps.push(step.finish(summary));
            keep(&mut compared.candidates, found);
        }
        Ok(compared)
    }

    /// The pipeline over these rows, once everything is checked that can be known before anything runs.
    pub(super) fn validated(&self, session: &Session, schema: &DFSchema) -> Result<Pipeline> {
        for column in self.key.iter().chain(self.label.columns()).chain([&self.folds.by]) {
            if !schema.has_column_with_unqualified_name(column) {
                let names = schema.fields().iter().map(|f| f.name().as_str());
                let hint = crate::nearest(column, names).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
                return Err(EngineError::Invalid(format!("the feature query has no column {column:?}{hint}")));
            }
        }
        self.folds.check()?;
        self.folds.check_type(schema.field_with_unqualified_name(&self.folds.by)?.data_type(), &self.label)?;
        self.metric.check(self.label.problem)?;
        if self.permutation_importance && self.parallel == Parallel::Rows {
            return Err(EngineError::Invalid(
                "permutation_importance shuffles features on rows that one process holds; leave it out with parallel: rows"
                    .to_owned(),
            ));
        }
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
            let validated = estimator.validate(&c.params, self.label.problem).and_then(|()| match self.parallel {
                Parallel::Candidates => Ok(()),
                Parallel::Rows => of_shards(estimator.as_ref())?.validate_sharded(&c.params, self.label.problem),
            });
            validated.map_err(|e| EngineError::Invalid(format!("candidate {} ({}): {e}", c.id, c.estimator)))?;
        }
        let excluded = self.key.iter().chain(self.label.columns()).chain([&self.folds.by]).map(String::as_str);
        let pipeline = self.pipeline.bind(schema.as_arrow(), &excluded.collect::<Vec<_>>())?;
        pipeline.validate(schema.as_arrow())?;
        Ok(pipeline)
    }

    /// Labelled rows with their fold where trained on, [`HELD_OUT`] where held out.
    async fn with_folds(&self, rows: DataFrame, train: Expr, holdout: Expr) -> Result<(DataFrame, DealtFolds)> {
        let labelled = rows.filter(self.label.is_known())?;
        let trained = labelled.clone().filter(train.clone())?;
        let dealt = self.folds.deal(&trained, &self.key, &self.label, self.seed).await?;
        let fold = when(train, dealt.column()).when(holdout, lit(HELD_OUT)).end()?;
        let labelled = labelled.with_column(FOLD_COLUMN, fold)?;
        Ok((labelled.filter(ident(FOLD_COLUMN).is_not_null())?, dealt))
    }

    /// Checks that each fold has rows to train on and to validate on, that no models are trained without a class, and
    /// that those of two classes are validated on both.
    async fn check_folds(&self, rows: &DataFrame, dealt: &DealtFolds) -> Result<()> {
        let of_classes = self.label.problem.is_classification();
        let class = if of_classes { cast(self.label.expr()?, DataType::UInt32) } else { lit(0_u32) };
        let of_fold = |fold| [(fold, "trained", dealt.training(fold)), (fold, "validated", dealt.validation(fold))];
        let parts: Vec<_> = dealt.numbers().flat_map(of_fold).collect();
        let n = |(i, (.., part)): (usize, &(u32, &str, Expr))| {
            Ok(count(when(part.clone(), lit(1)).end()?).alias(format!("__part_{i}")))
        };
        let counts = parts.iter().enumerate().map(n).collect::<Result<Vec<_>>>()?;
        let batches = rows.clone().aggregate(vec![class.alias("__class")], counts)?.collect().await?;
        let mut n_rows = vec![vec![0; parts.len()]; if of_classes { self.label.n_classes() } else { 1 }];
        for batch in batches {
            for (row, class) in batch.column(0).as_primitive::<UInt32Type>().iter().enumerate() {
                let Some(of_class) = class.and_then(|class| n_rows.get_mut(class as usize)) else { continue };
                let counts = batch.columns()[1..].iter().map(|column| column.as_primitive::<Int64Type>().value(row));
                of_class.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        }
        let is_binary = self.label.problem == ProblemType::Binary;
        for (i, (fold, done, _)) in parts.iter().enumerate() {
            let without = n_rows.iter().position(|of_class| of_class[i] == 0);
            let missing = match without {
                _ if n_rows.iter().all(|of_class| of_class[i] == 0) => "on no row".to_owned(),
                Some(class) if of_classes && (is_binary || *done == "trained") => {
                    format!("without class {} of label {:?}", self.label.class_name(class), self.label.column)
                }
                _ => continue,
            };
            return Err(EngineError::Invalid(format!(
                "models of fold {fold} ({} folds) would be {done} {missing}; {}",
                self.folds.k,
                self.folds.advice()
            )));
        }
        Ok(())
    }

    async fn write_matrices(
        &self,
        session: &Session,
        rows: &DataFrame,
        (fit, dealt): (&Fit, &DealtFolds),
        scratch: &Location,
        steps: &mut Vec<StepRecord>,
    ) -> Result<Vec<MatrixRef>> {
        let total = fit.models.len() as u64;
        let step = Step::start(session.progress(), "matrices", "one for each fold and one for the refit", Some(total));
        let writer = MatrixWriter { session, search: self, rows, scratch };
        // A fold's matrix has the rows that it is trained or validated on and no others.
        let of_fold = |fold| (format!("fold-{fold}"), dealt.training(fold).or(dealt.validation(fold)));
        let wanted = dealt.numbers().map(of_fold).chain([("all".to_owned(), lit(true))]);
        let mut matrices = Vec::with_capacity(fit.models.len());
        for ((model, fitted_on), (name, keep)) in fit.models.iter().zip(subsets(dealt)).zip(wanted) {
            matrices.push(writer.write(&name, model, &fitted_on, keep).await?);
            step.advance(matrices.len() as u64, name);
        }
        let bytes: u64 = matrices.iter().map(|m| m.size_bytes).sum();
        steps.push(step.finish(format!("{total} matrices, {:.1} MB", bytes as f64 / 1e6)));
        Ok(matrices)
    }

    /// One group for each estimator and fold of these candidates, with a share of the resource.
    fn tasks(
        &self,
        folds: &[MatrixRef],
        chosen: &[Candidate],
        first_group: usize,
        share: f64,
    ) -> Result<Vec<TrainTask>> {
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
            for (fold, matrix) in self.folds.numbers().zip(folds) {
                let group = first_group + tasks.len();
                let task = self.task(group, matrix, Some(fold), &estimator, candidates.clone());
                let task = TrainTask { row_share, ..task };
                let keep_at = self.keep_at.as_ref().map(|folder| keep_at(folder, &task)).transpose()?;
                tasks.push(TrainTask { keep_at, ..task });
            }
        }
        Ok(tasks)
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
            permutation_importance: false,
            row_share: 1.0,
            seed: self.seed,
            keep_at: None,
        }
    }

    /// The estimators, in the order in which the grid names them.
    pub(super) fn estimators(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for c in &self.candidates {
            if !names.contains(&c.estimator) {
                names.push(c.estimator.clone());
            }
        }
        names
    }

    fn refit_tasks(
        &self,
        candidates: &[CandidateRecord],
        all: &MatrixRef,
        first_group: usize,
        best: usize,
    ) -> Vec<TrainTask> {
        let of_estimators = self.estimators().into_iter().filter_map(|e| self.best_of(candidates, Some(&e)).ok());
        of_estimators
            .enumerate()
            .map(|(i, id)| {
                let c = &self.candidates[id];
                let task = self.task(first_group + i, all, None, &c.estimator, vec![(id, c.params.clone())]);
                TrainTask { permutation_importance: self.permutation_importance && id == best, ..task }
            })
            .collect()
    }

    /// Outcomes by candidate: metrics by fold, their mean, time and errors.
    fn summarise(&self, chosen: &[Candidate], found: &[TrainOutcome], share: f64) -> Vec<CandidateRecord> {
        chosen
            .iter()
            .map(|c| {
                let own: Vec<&TrainOutcome> = found.iter().filter(|o| o.candidate == c.id).collect();
                let numbers = self.folds.numbers();
                let folds: Vec<Option<f64>> =
                    numbers.map(|f| own.iter().find(|o| o.fold == Some(f)).and_then(|o| o.metric)).collect();
                let values: Option<Vec<f64>> = folds.iter().copied().collect();
                let mut executors: Vec<String> = own.iter().map(|o| o.executor.clone()).collect();
                executors.retain(|executor| !executor.is_empty());
                executors.sort();
                executors.dedup();
                CandidateRecord {
                    id: c.id,
                    estimator: c.estimator.clone(),
                    params: params_value(&c.params),
                    mean: values.map(|v| v.iter().sum::<f64>() / v.len() as f64),
                    folds,
                    seconds: own.iter().map(|o| o.seconds).sum(),
                    memory_bytes: own.iter().map(|o| o.memory_bytes).max().unwrap_or_default(),
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
        format!("{n_candidates} candidates × {} folds in {n_groups} groups{of}", self.folds.k)
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

/// What a search learnt of its candidates.
#[derive(Default)]
struct Compared {
    candidates: Vec<CandidateRecord>,
    n_groups: usize,
    n_fits: usize,
    n_resumed: usize,
}

/// The rows that each fit sees: those of each fold's training, and all of them last, whose profile the model keeps.
fn subsets(dealt: &DealtFolds) -> Vec<Subset> {
    let one = |fold| Subset::of(format!("fold {fold}"), dealt.training(fold));
    let all = Subset::of("all folds", ident(FOLD_COLUMN).not_eq(lit(HELD_OUT))).profiled();
    dealt.numbers().map(one).chain([all]).collect()
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
