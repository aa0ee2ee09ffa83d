//! Parameters of a decision tree, and of each tree of a random forest.

use crate::Result;
use crate::estimator::support::options::ParamReader;
use crate::estimator::{Params, ProblemType};

/// The names of the parameters.
pub(in crate::estimator) const KNOWN: [&str; 7] = [
    "max_depth",
    "max_leaves",
    "max_bins",
    "min_instances_per_node",
    "min_info_gain",
    "min_weight_fraction_per_node",
    "impurity",
];

/// The limit that stands for none.
const NO_LIMIT: usize = usize::MAX;
/// Spark ML's default depth.
const DEFAULT_DEPTH: i64 = 5;

/// Parameters of one tree, with Spark ML's names where it has the parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionTreeParams {
    /// The most splits from root to leaf, up to 30; 0 or -1 for no limit. Default 5.
    pub max_depth: usize,
    /// The most leaves, at least 2: the leaf whose split gains most is split first. Default: no limit.
    pub max_leaves: usize,
    /// The most bins of a column, 2 to 255. Default 255 (Spark: 32).
    pub max_bins: usize,
    /// The fewest training rows of a leaf; a row that a bootstrap drew twice counts twice. Default 1.
    pub min_instances_per_node: usize,
    /// The least that a split lowers the impurity of its node by, at least 0. Default 0: any gain will do.
    pub min_info_gain: f64,
    /// The least share of the tree's weight that a leaf has, from 0, below 0.5. Default 0.
    pub min_weight_fraction_per_node: f64,
    /// What splits lower. Default `gini` for classes and `variance` for numbers.
    pub impurity: Impurity,
}

/// How mixed the labels of a node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impurity {
    /// The chance that two rows have different classes.
    Gini,
    /// The entropy of the classes, in bits.
    Entropy,
    /// The variance of numbers.
    Variance,
}

impl DecisionTreeParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name, a value out of its range, or an impurity of another problem.
    pub fn parse(params: &Params, problem: ProblemType) -> Result<Self> {
        Self::read(&ParamReader::new(super::NAME, params, &KNOWN)?, problem)
    }

    /// Reads the parameters of a tree among others.
    ///
    /// # Errors
    /// A value out of its range, or an impurity of another problem.
    pub(in crate::estimator) fn read(read: &ParamReader<'_>, problem: ProblemType) -> Result<Self> {
        let max_depth = match read.integer("max_depth", DEFAULT_DEPTH, -1..=30)? {
            depth if depth <= 0 => NO_LIMIT,
            depth => depth as usize,
        };
        let impurities: &[&str] = if problem.is_classification() { &["gini", "entropy"] } else { &["variance"] };
        Ok(Self {
            max_depth,
            max_leaves: read.size("max_leaves", NO_LIMIT, 2..=i64::from(u32::MAX))?,
            max_bins: read.size("max_bins", 255, 2..=255)?,
            min_instances_per_node: read.size("min_instances_per_node", 1, 1..=i64::from(u32::MAX))?,
            min_info_gain: read.number("min_info_gain", 0.0, "a number of at least 0", |v| v >= 0.0)?,
            min_weight_fraction_per_node: read.number(
                "min_weight_fraction_per_node",
                0.0,
                "a number from 0, below 0.5",
                |v| (0.0..0.5).contains(&v),
            )?,
            impurity: match read.choice("impurity", impurities)? {
                "gini" => Impurity::Gini,
                "entropy" => Impurity::Entropy,
                _ => Impurity::Variance,
            },
        })
    }
}
