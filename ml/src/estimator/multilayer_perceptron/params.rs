//! Parameters of the multilayer perceptron.

use crate::Result;
use crate::estimator::Params;
use crate::estimator::support::options::ParamReader;

const KNOWN: [&str; 6] = ["layers", "max_iter", "step_size", "batch_size", "l2", "seed"];

/// Parameters of one candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct MultilayerPerceptronParams {
    /// The sizes of the hidden layers; input and output sizes follow from the data (Spark lists them too).
    /// Default one of 32.
    pub layers: Vec<usize>,
    /// How many times the rows are gone through. Default 10.
    pub max_iter: usize,
    /// Adam's step size. Default 0.001.
    pub step_size: f64,
    /// Rows per step. Default 512.
    pub batch_size: usize,
    /// The L2 penalty on weights (not biases), at least 0. Default 0.
    pub l2: f64,
    /// Mixed into the fit's seed. Default 0.
    pub seed: u64,
}

impl MultilayerPerceptronParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name or a value out of its range.
    pub fn parse(params: &Params) -> Result<Self> {
        let read = ParamReader::new(super::NAME, params, &KNOWN)?;
        Ok(Self {
            layers: read.sizes("layers", &[32], 1..=65_536)?,
            max_iter: read.size("max_iter", 10, 1..=100_000)?,
            step_size: read.number("step_size", 0.001, "a number above 0, up to 1", |v| v > 0.0 && v <= 1.0)?,
            batch_size: read.size("batch_size", 512, 1..=1 << 20)?,
            l2: read.number("l2", 0.0, "a number of at least 0", |v| v >= 0.0)?,
            seed: read.integer("seed", 0, 0..=i64::MAX)? as u64,
        })
    }
}
