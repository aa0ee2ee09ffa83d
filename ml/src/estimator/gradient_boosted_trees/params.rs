//! Parameters of gradient-boosted trees.

use super::loss::Loss;
use crate::Result;
use crate::estimator::support::options::ParamReader;
use crate::estimator::support::trees::TreeParams;
use crate::estimator::{Params, ProblemType};

const KNOWN: [&str; 15] = [
    "max_iter",
    "step_size",
    "max_depth",
    "max_leaves",
    "min_instances_per_node",
    "max_bins",
    "reg_lambda",
    "subsampling_rate",
    "feature_subset",
    "seed",
    "loss_type",
    "alpha",
    "growth",
    "early_stopping_rounds",
    "validation_fraction",
];

/// The depth limit that stands for none: deeper than any tree within [`MOST_LEAVES`].
const NO_DEPTH_LIMIT: usize = usize::MAX;
/// The most leaves of a tree, whatever its depth.
const MOST_LEAVES: i64 = 65_536;
/// The leaves of a tree without a depth limit, as LightGBM has them.
const DEFAULT_LEAVES: usize = 31;
/// Spark ML's default depth.
const DEFAULT_DEPTH: i64 = 5;

/// Parameters of one candidate, with Spark ML's names where it has the parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientBoostedTreesParams {
    /// How many trees. Default 20.
    pub max_iter: usize,
    /// What each tree's values are multiplied by, above 0, up to 1. Default 0.1.
    pub step_size: f64,
    /// The most splits from root to leaf; 0 or -1 for no limit. Default 5, or no limit when `max_leaves` is given.
    pub max_depth: usize,
    /// The most leaves of a tree. Default: what `max_depth` allows, or 31 without a depth limit.
    pub max_leaves: usize,
    /// The fewest training rows of a leaf. Default 20 (Spark: 1).
    pub min_instances_per_node: usize,
    /// The most bins of a column, 2 to 255. Default 255 (Spark: 32).
    pub max_bins: usize,
    /// The L2 penalty on leaf values, at least 0. Default 0.
    pub reg_lambda: f64,
    /// The share of rows that each tree sees, above 0, up to 1. Default 1.
    pub subsampling_rate: f64,
    /// The share of features that each tree sees, above 0, up to 1. Default 1.
    pub feature_subset: f64,
    /// Mixed into the fit's seed. Default 0.
    pub seed: u64,
    /// `loss_type`: for a number `squared` (the default), `absolute`, `huber`, `quantile` or `poisson`; for classes
    /// `logistic`.
    pub(super) loss: Loss,
    /// Which leaf is split next: the one that gains most (`leaf_wise`, the default, as LightGBM), or all of a depth before the
    /// next (`depth_wise`, as Spark and XGBoost). They differ where `max_leaves` ends a tree.
    pub growth: Growth,
    /// Boosting ends when the loss on `validation_fraction` of the rows has not fallen for so many iterations, and keeps the
    /// trees up to the lowest. Default 0: never.
    pub early_stopping_rounds: usize,
    /// The share of rows, by the seed, that early stopping looks at and trees are not grown on, above 0, below 1. Default 0.1.
    pub validation_fraction: f64,
}

/// The order in which leaves are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// The leaf that gains most first.
    LeafWise,
    /// The leaves of a depth before those below them.
    DepthWise,
}

impl GradientBoostedTreesParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name or a value out of its range, or a loss of another problem.
    pub fn parse(params: &Params, problem: ProblemType) -> Result<Self> {
        let read = ParamReader::new(super::NAME, params, &KNOWN)?;
        let share = |v: f64| v > 0.0 && v <= 1.0;
        let default_depth = if read.has("max_leaves") { 0 } else { DEFAULT_DEPTH };
        let max_depth = match read.integer("max_depth", default_depth, -1..=30)? {
            depth if depth <= 0 => NO_DEPTH_LIMIT,
            depth => depth as usize,
        };
        let default_leaves = match max_depth {
            NO_DEPTH_LIMIT => DEFAULT_LEAVES,
            depth => (1usize << depth).min(MOST_LEAVES as usize),
        };
        Ok(Self {
            max_iter: read.size("max_iter", 20, 1..=100_000)?,
            step_size: read.number("step_size", 0.1, "a number above 0, up to 1", share)?,
            max_depth,
            max_leaves: read.size("max_leaves", default_leaves, 2..=MOST_LEAVES)?,
            min_instances_per_node: read.size("min_instances_per_node", 20, 1..=i64::from(u32::MAX))?,
            max_bins: read.size("max_bins", 255, 2..=255)?,
            reg_lambda: read.number("reg_lambda", 0.0, "a number of at least 0", |v| v >= 0.0)?,
            subsampling_rate: read.number("subsampling_rate", 1.0, "a number above 0, up to 1", share)?,
            feature_subset: read.number("feature_subset", 1.0, "a number above 0, up to 1", share)?,
            seed: read.integer("seed", 0, 0..=i64::MAX)? as u64,
            loss: Self::loss(&read, problem)?,
            growth: match read.choice("growth", &["leaf_wise", "depth_wise"])? {
                "depth_wise" => Growth::DepthWise,
                _ => Growth::LeafWise,
            },
            early_stopping_rounds: read.size("early_stopping_rounds", 0, 0..=100_000)?,
            validation_fraction: read
                .number("validation_fraction", 0.1, "a number above 0, below 1", |v| v > 0.0 && v < 1.0)?,
        })
    }

    /// The loss of a problem. `alpha` is the quantile, or where Huber's loss turns linear; its default is LightGBM's 0.9.
    fn loss(read: &ParamReader<'_>, problem: ProblemType) -> Result<Loss> {
        let known: &[&str] = match problem {
            ProblemType::Binary | ProblemType::Multiclass => &["logistic"],
            _ => &["squared", "absolute", "huber", "quantile", "poisson"],
        };
        let loss = read.choice("loss_type", known)?;
        let alpha = match loss {
            "quantile" => read.number("alpha", 0.9, "a number above 0, below 1", |v| v > 0.0 && v < 1.0)?,
            _ => read.number("alpha", 0.9, "a number above 0", |v| v > 0.0)?,
        };
        Ok(match loss {
            "logistic" if problem == ProblemType::Multiclass => Loss::Softmax,
            "logistic" => Loss::Logistic,
            "absolute" => Loss::Absolute,
            "huber" => Loss::Huber { delta: alpha },
            "quantile" => Loss::Quantile { alpha },
            "poisson" => Loss::Poisson,
            _ => Loss::Squared,
        })
    }
}

impl TreeParams for GradientBoostedTreesParams {
    fn max_bins(&self) -> usize {
        self.max_bins
    }

    fn n_trees(&self) -> usize {
        self.max_iter
    }

    fn with_n_trees(&self, n_trees: usize) -> Self {
        Self { max_iter: n_trees, ..self.clone() }
    }
}
