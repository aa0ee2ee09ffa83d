//! Parameters of k-means.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::estimator::Params;
use crate::estimator::support::options::ParamReader;

const KNOWN: [&str; 7] = ["k", "max_iter", "tol", "init_mode", "init_steps", "seed", "distance_measure"];
/// The most clusters: what the first centres are chosen from is twice as many rows for each step.
const MAX_CLUSTERS: i64 = 10_000;

/// How the first centres are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitMode {
    /// `k-means||`: rows far from those chosen before are likelier.
    Parallel,
    /// `random`: any rows that differ.
    Random,
}

/// What is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceMeasure {
    /// The squared Euclidean distance counts.
    Euclidean,
    /// One less the cosine of the angle counts; centres have length 1.
    Cosine,
}

/// Parameters of one candidate, with Spark ML's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansParams {
    /// How many clusters there are at most, 1 to 10,000. Default 2.
    pub k: usize,
    /// The most steps. Default 20.
    pub max_iter: usize,
    /// Steps end when no centre moves further than this, in the distance measure. Default 1e-4.
    pub tol: f64,
    /// How the first centres are chosen. Default `k-means||`.
    pub init_mode: InitMode,
    /// How often k-means|| chooses about 2 k rows. Default 2.
    pub init_steps: usize,
    /// A number that is mixed with the fit's seed. Default 0.
    pub seed: u64,
    /// What is near. Default `euclidean`.
    pub distance_measure: DistanceMeasure,
}

impl KMeansParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name or a value out of its range.
    pub fn parse(params: &Params) -> Result<Self> {
        let read = ParamReader::new(super::NAME, params, &KNOWN)?;
        Ok(Self {
            k: read.size("k", 2, 1..=MAX_CLUSTERS)?,
            max_iter: read.size("max_iter", 20, 0..=100_000)?,
            tol: read.number("tol", 1e-4, "a number of at least 0", |v| v >= 0.0)?,
            init_mode: match read.choice("init_mode", &["k-means||", "random"])? {
                "random" => InitMode::Random,
                _ => InitMode::Parallel,
            },
            init_steps: read.size("init_steps", 2, 1..=100)?,
            seed: read.integer("seed", 0, 0..=i64::MAX)? as u64,
            distance_measure: match read.choice("distance_measure", &["euclidean", "cosine"])? {
                "cosine" => DistanceMeasure::Cosine,
                _ => DistanceMeasure::Euclidean,
            },
        })
    }
}
