//! Parameters of random forests.

use serde_json::Value;

use crate::Result;
use crate::estimator::decision_tree::{self, DecisionTreeParams};
use crate::estimator::support::options::ParamReader;
use crate::estimator::support::trees::TreeParams;
use crate::estimator::{Params, ProblemType};

/// The names of the parameters that a single tree does not have.
const OF_FOREST: [&str; 5] = ["num_trees", "bootstrap", "subsampling_rate", "feature_subset_strategy", "seed"];
/// The forms of `feature_subset_strategy`.
const SUBSETS: &str = "auto, all, onethird, sqrt, log2, a share above 0, up to 1.0, or a whole number from 1";

/// Parameters of one candidate, with Spark ML's names.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomForestParams {
    /// How many trees. Default 20.
    pub num_trees: usize,
    /// Whether each tree draws its rows with replacement. Default true.
    pub bootstrap: bool,
    /// How many rows a tree draws for each row that there is, above 0, up to 1. Default 1.
    pub subsampling_rate: f64,
    /// `feature_subset_strategy`: how many features a node draws to be split on. Default `auto`: all for one tree, else
    /// `sqrt` for classes and `onethird` for numbers.
    pub feature_subset: FeatureSubset,
    /// Mixed into the fit's seed. Default 0.
    pub seed: u64,
    /// The parameters of each tree.
    pub tree: DecisionTreeParams,
}

/// How many features a node draws. Parts are rounded up, as Spark does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeatureSubset {
    /// All of them.
    All,
    /// A third.
    OneThird,
    /// The square root of their number.
    Sqrt,
    /// The binary logarithm of their number.
    Log2,
    /// A share above 0, up to 1.
    Share(f64),
    /// So many, or all when there are fewer.
    Count(usize),
}

impl RandomForestParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name, a value out of its range, or an impurity of another problem.
    pub fn parse(params: &Params, problem: ProblemType) -> Result<Self> {
        let known = [&OF_FOREST[..], &decision_tree::KNOWN].concat();
        let read = ParamReader::new(super::NAME, params, &known)?;
        let num_trees = read.size("num_trees", 20, 1..=100_000)?;
        let auto = match (num_trees, problem.is_classification()) {
            (1, _) => FeatureSubset::All,
            (_, true) => FeatureSubset::Sqrt,
            (_, false) => FeatureSubset::OneThird,
        };
        Ok(Self {
            num_trees,
            bootstrap: read.flag("bootstrap", true)?,
            subsampling_rate: read
                .number("subsampling_rate", 1.0, "a number above 0, up to 1", |v| v > 0.0 && v <= 1.0)?,
            feature_subset: read
                .value("feature_subset_strategy", auto, SUBSETS, |value| FeatureSubset::of(value, auto))?,
            seed: read.integer("seed", 0, 0..=i64::MAX)? as u64,
            tree: DecisionTreeParams::read(&read, problem)?,
        })
    }

    /// The forest that is a single tree without chance.
    pub(in crate::estimator) fn one_tree(tree: DecisionTreeParams) -> Self {
        let feature_subset = FeatureSubset::All;
        Self { num_trees: 1, bootstrap: false, subsampling_rate: 1.0, feature_subset, seed: 0, tree }
    }
}

impl TreeParams for RandomForestParams {
    fn max_bins(&self) -> usize {
        self.tree.max_bins
    }

    fn n_trees(&self) -> usize {
        self.num_trees
    }

    fn with_n_trees(&self, n_trees: usize) -> Self {
        Self { num_trees: n_trees, ..self.clone() }
    }
}

impl FeatureSubset {
    /// Reads a word or a number; numbers may be texts, as Spark has them.
    fn of(value: &Value, auto: Self) -> Option<Self> {
        match value.as_str() {
            Some("auto") => Some(auto),
            Some("all") => Some(Self::All),
            Some("onethird") => Some(Self::OneThird),
            Some("sqrt") => Some(Self::Sqrt),
            Some("log2") => Some(Self::Log2),
            Some(text) => serde_json::from_str(text).ok().as_ref().and_then(Self::of_number),
            None => Self::of_number(value),
        }
    }

    fn of_number(value: &Value) -> Option<Self> {
        match value.as_u64() {
            Some(count) => (count > 0).then_some(Self::Count(count as usize)),
            None => value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0).map(Self::Share),
        }
    }

    /// How many of `n` features.
    pub(super) fn count(self, n: usize) -> usize {
        let count = match self {
            Self::All => n,
            Self::OneThird => n.div_ceil(3),
            Self::Sqrt => (n as f64).sqrt().ceil() as usize,
            Self::Log2 => (usize::BITS - n.saturating_sub(1).leading_zeros()) as usize,
            Self::Share(share) => (n as f64 * share).ceil() as usize,
            Self::Count(count) => count,
        };
        count.max(1).min(n)
    }
}
