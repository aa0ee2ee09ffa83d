//! The fitted trees over raw values.
//!
//! Saved as `model.json`: format, names of the features, problem, number of outputs and the trees.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::estimator::support::chunks::add_into;
use crate::estimator::support::training;
use crate::estimator::support::trees::{FlatTree, Tree, gain_shares, load_block, split_counts};
use crate::estimator::{Artifacts, Model, ProblemType};
use crate::matrix::{Feature, Features};

/// The artifact's name.
const FILE: &str = "model.json";
/// The artifact's format.
const FORMAT: u32 = 1;
/// Values of rows that are scored together: they stay in a cache while all trees read them, and each tree, which may
/// be large, is read once for many rows.
const BLOCK_VALUES: usize = 1 << 16;
/// The fewest rows that are scored together.
const LEAST_ROWS: usize = 64;

/// A fitted random forest, or a decision tree.
#[derive(Debug, Clone)]
pub struct RandomForestModel {
    estimator: &'static str,
    features: Arc<[Feature]>,
    saved: Saved,
    /// The trees as rows are scored with them.
    trees: Vec<FlatTree>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    format: u32,
    features: Vec<String>,
    problem: ProblemType,
    n_outputs: usize,
    trees: Vec<Tree>,
}

impl Saved {
    fn check(&self, features: &[Feature]) -> std::result::Result<(), String> {
        if !self.features.iter().eq(features.iter().map(|f| &f.name)) {
            return Err("its trees are not those of the model's features".into());
        }
        let is_multiclass = self.problem == ProblemType::Multiclass;
        let is_for = super::PROBLEMS.contains(&self.problem) && is_multiclass == (self.n_outputs > 1);
        if !is_for || self.n_outputs == 0 || self.trees.is_empty() {
            let Self { problem, n_outputs, .. } = self;
            return Err(format!("{} trees of {n_outputs} outputs for the problem {problem}", self.trees.len()));
        }
        for (i, tree) in self.trees.iter().enumerate() {
            tree.check(features, self.n_outputs).map_err(|why| format!("tree {i}: {why}"))?;
            if let Some(value) = tree.values().iter().find(|value| !self.may_give(**value)) {
                return Err(format!("tree {i}: a leaf has the value {value}"));
            }
        }
        Ok(())
    }

    fn may_give(&self, value: f64) -> bool {
        if self.problem.is_classification() { (0.0..=1.0).contains(&value) } else { value.is_finite() }
    }
}

impl RandomForestModel {
    pub(super) fn new(
        estimator: &'static str,
        features: Arc<[Feature]>,
        problem: ProblemType,
        n_outputs: usize,
        trees: Vec<Tree>,
    ) -> Self {
        let names = features.iter().map(|f| f.name.clone()).collect();
        Self::from_saved(estimator, features, Saved { format: FORMAT, features: names, problem, n_outputs, trees })
    }

    /// Reads a model of an estimator back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(in crate::estimator) fn load(
        estimator: &'static str,
        features: Arc<[Feature]>,
        artifacts: &Artifacts,
    ) -> Result<Self> {
        training::known_format(FILE, training::format_of(artifacts, FILE)?, FORMAT)?;
        let saved: Saved = training::from_json(artifacts, FILE)?;
        saved.check(&features).map_err(|why| training::corrupt(FILE, why))?;
        Ok(Self::from_saved(estimator, features, saved))
    }

    fn from_saved(estimator: &'static str, features: Arc<[Feature]>, saved: Saved) -> Self {
        let trees = saved.trees.iter().map(|tree| tree.flat(&features, saved.n_outputs)).collect();
        Self { estimator, features, saved, trees }
    }
}

impl Model for RandomForestModel {
    fn estimator(&self) -> &str {
        self.estimator
    }

    fn n_outputs(&self) -> usize {
        self.saved.n_outputs
    }

    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        training::same_columns(&self.features, x)?;
        let (n_features, n_outputs) = (self.features.len().max(1), self.saved.n_outputs);
        let mut scores = vec![0.0; x.n_rows * n_outputs];
        let rows = (BLOCK_VALUES / n_features).max(LEAST_ROWS).min(x.n_rows.max(1));
        let mut block = vec![0.0; rows * n_features];
        let n_trees = self.trees.len() as f64;
        for (piece, scores) in scores.chunks_mut(rows * n_outputs).enumerate() {
            load_block(x, piece * rows, scores.len() / n_outputs, &mut block);
            for tree in &self.trees {
                tree.for_each_row(&block[..scores.len() / n_outputs * n_features], n_features, |row, values| {
                    add_into(&mut scores[row * n_outputs..(row + 1) * n_outputs], values);
                });
            }
            scores.iter_mut().for_each(|score| *score /= n_trees);
        }
        Ok(scores)
    }

    fn save(&self) -> Result<Artifacts> {
        Ok(Artifacts::from([(FILE.to_owned(), training::to_json(&self.saved)?)]))
    }

    /// How much the splits on each feature lower the impurity, weighted by their nodes: shares of each tree, then of the
    /// forest, in the features' order, as Spark ML's `featureImportances`.
    fn importances(&self) -> Vec<(String, f64)> {
        let mut shares = vec![0.0; self.features.len()];
        for tree in &self.saved.trees {
            add_into(&mut shares, &gain_shares(std::iter::once(tree), self.features.len()));
        }
        let total: f64 = shares.iter().sum();
        let share = |share: f64| if total > 0.0 { share / total } else { 0.0 };
        self.features.iter().map(|f| f.name.clone()).zip(shares.into_iter().map(share)).collect()
    }

    fn split_counts(&self) -> Vec<(String, u64)> {
        split_counts(&self.saved.trees, &self.features)
    }
}
