//! The network's shape and weights, apart from what trains or scores it.

use serde::{Deserialize, Serialize};

use crate::codec::exact;
use crate::estimator::support::math::{sigmoid, softmax};
use crate::matrix::{Feature, FeatureKind};

/// Dense weights of one layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    /// `[n_in, n_out]`, row-major.
    pub(super) weight: Vec<f32>,
    /// `[n_out]`.
    pub(super) bias: Vec<f32>,
    pub(super) n_in: usize,
    pub(super) n_out: usize,
}

/// What becomes of a row's margins, the last layer's sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Output {
    /// The probability of class 1; learnt by the log loss.
    #[default]
    Logistic,
    /// The probability of each of so many classes; learnt by the log loss.
    Softmax(usize),
    /// A number of this mean and deviation; learnt by half the squared error of the standardised number.
    Number {
        #[serde(with = "exact")]
        mean: f64,
        #[serde(with = "exact")]
        deviation: f64,
    },
}

impl Output {
    /// How many margins a row has.
    pub(super) fn len(self) -> usize {
        if let Self::Softmax(n_classes) = self { n_classes } else { 1 }
    }

    /// Makes scores of a row's margins; of NaN, NaN.
    pub(super) fn score(self, row: &mut [f64]) {
        match self {
            Self::Logistic => row.iter_mut().for_each(|z| *z = sigmoid(*z)),
            Self::Softmax(_) => softmax(row),
            Self::Number { mean, deviation } => row.iter_mut().for_each(|z| *z = mean + deviation * *z),
        }
    }

    /// Makes the slopes of a row's loss of its margins, in closed form: stable at any margin.
    pub(super) fn slope(self, label: f64, row: &mut [f64]) {
        match self {
            Self::Logistic => row.iter_mut().for_each(|z| *z = sigmoid(*z) - label),
            Self::Softmax(_) => {
                softmax(row);
                row[label as usize] -= 1.0;
            }
            Self::Number { mean, deviation } => row.iter_mut().for_each(|z| *z -= (label - mean) / deviation),
        }
    }
}

/// All weights. The first layer's inputs are the columns of the one-hot view: all numbers, then all indicators.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) layers: Vec<Layer>,
}

/// Where the features lie among the first layer's inputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inputs {
    /// By feature: its first input, and how many it has.
    pub(super) places: Vec<(usize, usize)>,
    pub(super) n_numbers: usize,
    pub(super) n_indicators: usize,
}

impl Inputs {
    /// The inputs of some features.
    pub(super) fn new(features: &[Feature]) -> Self {
        let n_numbers = features.iter().filter(|f| f.kind == FeatureKind::Number).count();
        let (mut number, mut indicator) = (0, n_numbers);
        let places = features
            .iter()
            .map(|feature| {
                let (place, size) = match &feature.kind {
                    FeatureKind::Category { indicators, .. } => (&mut indicator, *indicators),
                    _ => (&mut number, 1),
                };
                *place += size;
                (*place - size, size)
            })
            .collect();
        Self { places, n_numbers, n_indicators: indicator - n_numbers }
    }

    /// How many inputs there are.
    pub(super) fn len(&self) -> usize {
        self.n_numbers + self.n_indicators
    }
}

impl Layer {
    /// Adds this layer's products with its inputs to `into`, which holds the bias, input by input.
    pub(super) fn add_products(&self, inputs: &[f32], into: &mut [f32]) {
        for (input, weights) in inputs.iter().zip(self.weight.chunks_exact(self.n_out)) {
            add_scaled(into, *input, weights);
        }
    }

    /// The weights of one input.
    pub(super) fn weights_of(&self, input: usize) -> &[f32] {
        &self.weight[input * self.n_out..(input + 1) * self.n_out]
    }
}

/// `into += by * weights`.
pub(super) fn add_scaled(into: &mut [f32], by: f32, weights: &[f32]) {
    for (sum, w) in into.iter_mut().zip(weights) {
        *sum += by * w;
    }
}

/// Zero for negative values; NaN stays.
pub(super) fn rectify(values: &mut [f32]) {
    for v in values {
        *v = if *v < 0.0 { 0.0 } else { *v };
    }
}
