//! What a search will do, said without doing it: the tree of its shared work.

use std::fmt;

use datafusion::common::DFSchema;
use serde::Serialize;
use tidemill_ml::estimator::Candidate;
use tidemill_ml::pipeline::StageLevel;

use super::search::GridSearch;
use crate::Result;
use crate::plan::train::params_value;
use crate::session::Session;

/// The shared work of a search. Displayed, it is a tree: levels of stages, matrices, groups, candidates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchPlan {
    /// How rows are dealt to folds, in words.
    pub folds: String,
    /// How many folds are validated on.
    pub n_folds: usize,
    /// The stages by level. A level is fitted by one query for all folds and the refit; the first query takes the profile too.
    pub levels: Vec<StageLevel>,
    /// The candidates of each estimator, in words by their numbers: one group on each fold.
    pub groups: Vec<(String, Vec<(usize, String)>)>,
    /// The rounds of the search: one without halving.
    pub rungs: Vec<RungPlan>,
    /// Fits of a candidate on a fold, the refits not counted. By halving, if no candidate fails.
    pub n_fits: usize,
    /// How often rows are run through the fitted stages: once for each matrix.
    pub n_transforms: usize,
    /// How many queries over the rows fit the stages.
    pub n_passes: usize,
    /// `n_transforms` of a search in which each fit has its own stages, fitted and run for it alone.
    pub n_transforms_alone: usize,
    /// `n_passes` of such a search, a query for each stage that learns anything.
    pub n_passes_alone: usize,
}

/// A round of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RungPlan {
    /// How many candidates are in it.
    pub n_candidates: usize,
    /// The share of the resource that they have.
    pub share: f64,
}

impl GridSearch {
    /// What [`Self::fit`] would do over rows with these columns. Nothing is read.
    ///
    /// # Errors
    /// What `fit` refuses before it runs anything.
    pub fn explain(&self, session: &Session, schema: &DFSchema) -> Result<SearchPlan> {
        let levels = self.validated(session, schema)?.levels(schema.as_arrow())?;
        let rungs = self.rungs();
        let n_folds = self.folds.numbers().len();
        let estimators = self.estimators();
        let n_fits: usize = rungs.iter().map(|rung| rung.n_candidates * n_folds).sum();
        let n_models = n_fits + estimators.len();
        let n_learning: usize = levels.iter().map(|level| level.n_learning).sum();
        Ok(SearchPlan {
            folds: self.folds.to_string(),
            n_folds,
            n_transforms: n_folds + 1,
            n_passes: levels.iter().enumerate().filter(|(i, level)| *i == 0 || level.n_learning > 0).count(),
            n_transforms_alone: n_models,
            n_passes_alone: n_models * n_learning,
            levels,
            groups: estimators.into_iter().map(|estimator| self.group(estimator)).collect(),
            rungs,
            n_fits,
        })
    }

    fn rungs(&self) -> Vec<RungPlan> {
        let Some(halving) = self.halving else {
            return vec![RungPlan { n_candidates: self.candidates.len(), share: 1.0 }];
        };
        let mut left = self.candidates.len();
        let rung = |share| {
            let n_candidates = left;
            left = halving.n_survivors(left);
            RungPlan { n_candidates, share }
        };
        halving.shares(self.candidates.len()).into_iter().map(rung).collect()
    }

    fn group(&self, estimator: String) -> (String, Vec<(usize, String)>) {
        let params = |c: &Candidate| match params_value(&c.params) {
            serde_json::Value::Object(params) if !params.is_empty() => {
                params.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
            }
            _ => "defaults".to_owned(),
        };
        let own = self.candidates.iter().filter(|c| c.estimator == estimator).map(|c| (c.id, params(c))).collect();
        (estimator, own)
    }
}

impl fmt::Display for SearchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tree().write(f, "")?;
        writeln!(
            f,
            "{} transform runs and {} passes over the rows instead of {} and {}",
            self.n_transforms, self.n_passes, self.n_transforms_alone, self.n_passes_alone
        )
    }
}

impl SearchPlan {
    fn tree(&self) -> Tree {
        let matrices = format!("{} matrices, one for each fold", self.n_folds);
        let refit = Tree::leaf(format!("the best of each of {} estimators", self.groups.len()));
        let mut below = vec![
            Tree { text: matrices, below: self.rungs_text().chain(self.groups.iter().map(group)).collect() },
            Tree { text: "1 matrix of all folds, for the refit".to_owned(), below: vec![refit] },
        ];
        for (i, level) in self.levels.iter().enumerate().rev() {
            let stages = level.stages.join(", ");
            let fitted = match level.n_learning {
                0 => "nothing to fit".to_owned(),
                _ => format!("fitted by one query for {} folds and the refit", self.n_folds),
            };
            below = vec![Tree { text: format!("level {}: {stages}; {fitted}", i + 1), below }];
        }
        let n_candidates: usize = self.groups.iter().map(|(_, candidates)| candidates.len()).sum();
        let text = format!("{n_candidates} candidates, {} fits; folds: {}", self.n_fits, self.folds);
        Tree { text, below }
    }

    fn rungs_text(&self) -> impl Iterator<Item = Tree> {
        let halved = self.rungs.iter().zip(1..).filter(|_| self.rungs.len() > 1);
        halved.map(|(rung, i)| {
            let RungPlan { n_candidates, share } = rung;
            Tree::leaf(format!("rung {i}: {n_candidates} candidates, {:.1} % of the resource", share * 100.0))
        })
    }
}

fn group((estimator, candidates): &(String, Vec<(usize, String)>)) -> Tree {
    let text = format!("{estimator}: a group on each fold, whose {} candidates share its matrix", candidates.len());
    let candidates = candidates.iter().map(|(id, params)| Tree::leaf(format!("candidate {id}: {params}")));
    Tree { text, below: candidates.collect() }
}

/// Lines below lines.
struct Tree {
    text: String,
    below: Vec<Self>,
}

impl Tree {
    fn leaf(text: String) -> Self {
        Self { text, below: Vec::new() }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for (i, tree) in self.below.iter().enumerate() {
            let (branch, further) = if i + 1 == self.below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            write!(f, "{indent}{branch}")?;
            tree.write(f, &format!("{indent}{further}"))?;
        }
        Ok(())
    }
}
