//! Parameters of gradient-boosted trees.

use crate::Result;
use crate::estimator::Params;
use crate::estimator::support::options::ParamReader;

const KNOWN: [&str; 10] = [
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
}

impl GradientBoostedTreesParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name or a value out of its range.
    pub fn parse(params: &Params) -> Result<Self> {
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
        })
    }

    /// Whether two candidates are one boosting run up to where the shorter ends.
    pub(super) fn same_run(&self, other: &Self) -> bool {
        Self { max_iter: 0, ..self.clone() } == Self { max_iter: 0, ..other.clone() }
    }
}
