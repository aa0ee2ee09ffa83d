//! The fitted trees over raw values, as flat arrays.
//!
//! Saved as `model.json`: format, names of the features, base score and, per tree, parallel arrays over its inner
//! nodes and its leaves' values. Children from 0 on are inner nodes; leaf `i` is written as `-1 - i`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::loss::Link;
use crate::Result;
use crate::codec::exact;
use crate::estimator::support::training;
use crate::estimator::support::trees::{BinnedTree, FlatTree, Meaning, Tree, gain_shares, load_block, split_counts};
use crate::estimator::{Artifacts, Model};
use crate::matrix::{Feature, Features};

/// The artifact's name.
const FILE: &str = "model.json";
/// The artifact's format.
const FORMAT: u32 = 2;
/// The format of binary models from before there were others.
const BINARY_FORMAT: u32 = 1;
/// Rows that are scored together: their values stay in the first cache while all trees read them.
const BLOCK: usize = 64;

/// Fitted gradient-boosted trees.
#[derive(Debug, Clone)]
pub struct GradientBoostedTreesModel {
    features: Arc<[Feature]>,
    saved: Saved,
    /// The trees as rows are scored with them.
    trees: Vec<FlatTree>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    format: u32,
    features: Vec<String>,
    /// The scores without trees, by output.
    #[serde(with = "exact::list")]
    base: Vec<f64>,
    link: Link,
    /// The trees, those of an iteration together, in the order of their outputs.
    trees: Vec<Tree>,
}

/// What was saved of a binary model before there were others.
#[derive(Deserialize)]
struct SavedBinary {
    features: Vec<String>,
    #[serde(with = "exact")]
    base: f64,
    trees: Vec<Tree>,
}

impl Saved {
    fn read(artifacts: &Artifacts) -> Result<Self> {
        let format = training::format_of(artifacts, FILE)?;
        if format == BINARY_FORMAT {
            let SavedBinary { features, base, trees } = training::from_json(artifacts, FILE)?;
            return Ok(Self { format: FORMAT, features, base: vec![base], link: Link::Logistic, trees });
        }
        training::known_format(FILE, format, FORMAT)?;
        let saved: Self = training::from_json(artifacts, FILE)?;
        let n_outputs = saved.base.len();
        let is_softmax = saved.link == Link::Softmax;
        if n_outputs == 0 || is_softmax != (n_outputs > 1) || !saved.trees.len().is_multiple_of(n_outputs) {
            return Err(training::corrupt(FILE, format!("{n_outputs} outputs with {} trees", saved.trees.len())));
        }
        Ok(saved)
    }
}

impl GradientBoostedTreesModel {
    pub(super) fn new(
        features: Arc<[Feature]>,
        meanings: &[Meaning],
        base: Vec<f64>,
        link: Link,
        trees: &[BinnedTree],
    ) -> Self {
        let names = features.iter().map(|f| f.name.clone()).collect();
        let trees = trees.iter().map(|tree| Tree::new(tree, meanings)).collect();
        Self::from_saved(features, Saved { format: FORMAT, features: names, base, link, trees })
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let saved = Saved::read(artifacts)?;
        if !saved.features.iter().eq(features.iter().map(|f| &f.name)) {
            return Err(training::corrupt(FILE, "its trees are not those of the model's features"));
        }
        for (i, tree) in saved.trees.iter().enumerate() {
            tree.check(&features, 1).map_err(|why| training::corrupt(FILE, format!("tree {i}: {why}")))?;
        }
        Ok(Self::from_saved(features, saved))
    }

    /// How many trees there are: fewer than asked for where no further split gained anything.
    pub fn n_trees(&self) -> usize {
        self.saved.trees.len()
    }

    fn from_saved(features: Arc<[Feature]>, saved: Saved) -> Self {
        let trees = saved.trees.iter().map(|tree| tree.flat(&features, 1)).collect();
        Self { features, saved, trees }
    }
}

impl Model for GradientBoostedTreesModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    fn n_outputs(&self) -> usize {
        self.saved.base.len()
    }

    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        training::same_columns(&self.features, x)?;
        let (n_features, n_outputs) = (self.features.len().max(1), self.saved.base.len());
        let mut scores = self.saved.base.repeat(x.n_rows);
        let mut block = vec![0.0; BLOCK * n_features];
        for (piece, scores) in scores.chunks_mut(BLOCK * n_outputs).enumerate() {
            load_block(x, piece * BLOCK, scores.len() / n_outputs, &mut block);
            for (tree, output) in self.trees.iter().zip((0..n_outputs).cycle()) {
                tree.for_each_row(&block[..scores.len() / n_outputs * n_features], n_features, |row, values| {
                    scores[row * n_outputs + output] += values[0];
                });
            }
            scores.chunks_exact_mut(n_outputs).for_each(|row| self.saved.link.apply(row));
        }
        Ok(scores)
    }

    fn save(&self) -> Result<Artifacts> {
        Ok(Artifacts::from([(FILE.to_owned(), training::to_json(&self.saved)?)]))
    }

    /// The gain of all splits on each feature, as shares of 1, in the features' order.
    fn importances(&self) -> Vec<(String, f64)> {
        let shares = gain_shares(self.saved.trees.iter(), self.features.len());
        self.features.iter().map(|f| f.name.clone()).zip(shares).collect()
    }

    fn split_counts(&self) -> Vec<(String, u64)> {
        split_counts(&self.saved.trees, &self.features)
    }
}
