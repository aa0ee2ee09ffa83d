//! Training by mini-batches: candle computes the gradients, Adam moves the weights.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use super::network::{Inputs, Layer, Network, Output};
use super::{MultilayerPerceptronModel, MultilayerPerceptronParams, NAME, PROBLEMS};
use crate::estimator::support::random::{Random, mix};
use crate::estimator::support::training::{self, Labels};
use crate::estimator::{FitContext, Params, ProblemType};
use crate::matrix::{FeatureValues, Matrix};
use crate::{MlError, Result};

/// Adam's decay of the gradient's mean and of its square's, and what keeps its division finite (Kingma, Ba 2015).
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// The purposes of random numbers: shuffles, embeddings, and from here on one for each layer's first weights.
const SHUFFLE: u64 = 1;
const EMBEDDINGS: u64 = 2;
const FIRST_WEIGHTS: u64 = 16;
/// candle reads this index as a row of zeros and gives it no gradient.
const NO_INDICATOR: u32 = u32::MAX;
/// Where networks train. A build with GPU support would choose here; this one has the CPU only.
const DEVICE: Device = Device::Cpu;

type Fitted = Result<MultilayerPerceptronModel>;

pub(super) fn fit(matrix: &Matrix, rows: &[u32], candidates: &[Params], ctx: &FitContext) -> Vec<Fitted> {
    let parsed: Vec<_> = candidates.iter().map(MultilayerPerceptronParams::parse).collect();
    let data = match TrainingRows::new(matrix, rows) {
        Ok(data) => data,
        Err(e) => return training::failed(parsed, &e),
    };
    let train = |params: Result<MultilayerPerceptronParams>| {
        let network = Training::new(&data, params?, ctx)?.run()?;
        Ok(MultilayerPerceptronModel::new(Arc::clone(&matrix.x.features), network, data.output))
    };
    parsed.into_par_iter().map(train).collect()
}

/// The rows to train on, row-major.
struct TrainingRows {
    inputs: Inputs,
    n_rows: usize,
    /// `[n_rows, n_numbers + 1]`: a one for the bias behind the numbers.
    numbers: Vec<f32>,
    /// By category with indicators, of each row: the row of its embedding.
    indicators: Vec<Vec<u32>>,
    /// By category with indicators: how many it has.
    sizes: Vec<usize>,
    label: Vec<f64>,
    /// Each row's weight over the mean weight.
    weight: Vec<f64>,
    output: Output,
}

impl TrainingRows {
    fn new(matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        let rows = &counted_rows(matrix, rows)?[..];
        let labels = Labels::new(NAME, &PROBLEMS, matrix, rows)?;
        training::numbers_are_present(matrix, rows)?;
        let inputs = Inputs::new(&matrix.x.features);
        if inputs.len() == 0 {
            return Err(MlError::Invalid("multilayer_perceptron has no features to train on".into()));
        }
        let mut data = Self {
            n_rows: rows.len(),
            numbers: vec![1.0; rows.len() * (inputs.n_numbers + 1)],
            indicators: Vec::new(),
            sizes: Vec::new(),
            output: output(matrix.problem, &labels)?,
            weight: relative_weights(&labels),
            label: labels.label,
            inputs,
        };
        for (i, values) in matrix.x.values.iter().enumerate() {
            let (place, size) = data.inputs.places[i];
            match values {
                FeatureValues::Number(v) => {
                    let width = data.inputs.n_numbers + 1;
                    let into = data.numbers.iter_mut().skip(place).step_by(width);
                    into.zip(rows).for_each(|(into, &row)| *into = v[row as usize] as f32);
                }
                FeatureValues::Category(v) if size > 0 => {
                    let row_of = |index: u32| if (index as usize) < size { index } else { NO_INDICATOR };
                    data.indicators.push(rows.iter().map(|&row| row_of(v[row as usize])).collect());
                    data.sizes.push(size);
                }
                FeatureValues::Category(_) => {}
            }
        }
        Ok(data)
    }
}

/// The rows that count.
fn counted_rows(matrix: &Matrix, rows: &[u32]) -> Result<Vec<u32>> {
    let Some(weights) = training::weights(matrix, rows)? else { return Ok(rows.to_vec()) };
    Ok(rows.iter().zip(weights).filter(|(_, weight)| *weight > 0.0).map(|(row, _)| *row).collect())
}

fn relative_weights(labels: &Labels) -> Vec<f64> {
    let Some(weights) = &labels.weight else { return vec![1.0; labels.label.len()] };
    // Shares of the largest do not overflow in a sum.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let mean = weights.iter().map(|w| w / largest).sum::<f64>() / weights.len() as f64;
    weights.iter().map(|w| w / largest / mean).collect()
}

fn output(problem: ProblemType, labels: &Labels) -> Result<Output> {
    Ok(match problem {
        ProblemType::Binary => Output::Logistic,
        ProblemType::Multiclass => Output::Softmax(labels.n_outputs),
        _ => standardised(&labels.label, &relative_weights(labels))?,
    })
}

/// The mean and deviation of labels; a deviation of 1 where they do not vary.
fn standardised(label: &[f64], weight: &[f64]) -> Result<Output> {
    let n = label.len() as f64;
    let mean = label.iter().zip(weight).map(|(y, w)| y * w).sum::<f64>() / n;
    let variance = label.iter().zip(weight).map(|(y, w)| (y - mean) * (y - mean) * w).sum::<f64>() / n;
    if !variance.is_finite() {
        return Err(MlError::Invalid(format!("{NAME}: the squares of the labels are beyond all numbers; scale them")));
    }
    Ok(Output::Number { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } })
}

/// One tensor that is trained, with Adam's moments.
struct Weights {
    values: Vec<f32>,
    shape: Vec<usize>,
    var: Var,
    mean: Vec<f32>,
    square: Vec<f32>,
    /// How many of the values, from the first, have the L2 penalty: all but biases.
    n_penalised: usize,
}

impl Weights {
    /// Uniform within ±sqrt(6 / (fan_in + n_out)) (Glorot, Bengio 2010), as scikit-learn's; `n_biases` rows are biases.
    fn random(n_in: usize, n_biases: usize, n_out: usize, fan_in: usize, random: &mut Random) -> Result<Self> {
        let limit = (6.0 / (fan_in + n_out) as f64).sqrt();
        let n_penalised = n_in * n_out;
        let shape = vec![n_in + n_biases, n_out];
        let n_values = shape[0] * n_out;
        let values: Vec<f32> = (0..n_values).map(|_| ((random.unit() * 2.0 - 1.0) * limit) as f32).collect();
        let var = Var::from_slice(&values, &shape[..], &DEVICE).map_err(candle)?;
        let zeros = vec![0.0; values.len()];
        Ok(Self { values, shape, var, mean: zeros.clone(), square: zeros, n_penalised })
    }

    /// The weights without the bias, which is the last row, and the bias.
    fn into_parts(mut self) -> (Vec<f32>, Vec<f32>) {
        let bias = self.values.split_off(self.n_penalised);
        (self.values, bias)
    }
}

/// One network in training.
///
/// Biases are the last row of their layer's weights: a matrix product with a column of ones, whose gradient is a
/// matrix product too. Embeddings are one tensor per category, looked up one after the other.
struct Training<'a> {
    data: &'a TrainingRows,
    params: MultilayerPerceptronParams,
    ctx: &'a FitContext,
    seed: u64,
    /// The weights of each layer; the first's are those of the numbers.
    layers: Vec<Weights>,
    /// The first layer's weights of each category's indicators.
    embeddings: Vec<Weights>,
    /// Adam's decays to the power of the steps taken.
    decay_1: f64,
    decay_2: f64,
}

/// One mini-batch.
struct Batch {
    numbers: Tensor,
    indicators: Vec<Tensor>,
    rows: Vec<u32>,
}

impl<'a> Training<'a> {
    fn new(data: &'a TrainingRows, params: MultilayerPerceptronParams, ctx: &'a FitContext) -> Result<Self> {
        let seed = mix(ctx.seed ^ mix(params.seed));
        let inputs = &data.inputs;
        let fan_in = inputs.n_numbers + data.sizes.len();
        let sizes: Vec<usize> =
            [inputs.n_numbers].into_iter().chain(params.layers.iter().copied()).chain([data.output.len()]).collect();
        let layer = |(i, pair): (usize, &[usize])| {
            let fan_in = if i == 0 { fan_in } else { pair[0] };
            Weights::random(pair[0], 1, pair[1], fan_in, &mut Random::new(seed, FIRST_WEIGHTS + i as u64))
        };
        let mut random = Random::new(seed, EMBEDDINGS);
        let embedding = |n: &usize| Weights::random(*n, 0, sizes[1], fan_in, &mut random);
        Ok(Self {
            embeddings: data.sizes.iter().map(embedding).collect::<Result<_>>()?,
            layers: sizes.windows(2).enumerate().map(layer).collect::<Result<_>>()?,
            data,
            params,
            ctx,
            seed,
            decay_1: 1.0,
            decay_2: 1.0,
        })
    }

    fn run(mut self) -> Result<Network> {
        let mut order: Vec<u32> = (0..self.data.n_rows as u32).collect();
        let mut random = Random::new(self.seed, SHUFFLE);
        for _ in 0..self.params.max_iter {
            random.shuffle(&mut order);
            for rows in order.chunks(self.params.batch_size) {
                self.ctx.check()?;
                self.step(&self.batch(rows).map_err(candle)?).map_err(candle)?;
            }
        }
        Ok(self.network())
    }

    fn batch(&self, rows: &[u32]) -> candle_core::Result<Batch> {
        let width = self.data.inputs.n_numbers + 1;
        let numbers = Tensor::from_vec(rows_of(&self.data.numbers, width, rows), (rows.len(), width), &DEVICE)?;
        let of_category = |all: &Vec<u32>| Tensor::from_vec(rows_of(all, 1, rows), rows.len(), &DEVICE);
        Ok(Batch {
            numbers,
            indicators: self.data.indicators.iter().map(of_category).collect::<candle_core::Result<_>>()?,
            rows: rows.to_vec(),
        })
    }

    /// The margins of a batch, `[n_rows, n_outputs]`.
    fn forward(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let mut hidden = batch.numbers.matmul(self.layers[0].var.as_tensor())?;
        for (rows, embedding) in batch.indicators.iter().zip(&self.embeddings) {
            hidden = (hidden + embedding.var.index_select(rows, 0)?)?;
        }
        let ones = Tensor::ones((batch.rows.len(), 1), candle_core::DType::F32, &DEVICE)?;
        for layer in &self.layers[1..] {
            hidden = Tensor::cat(&[&hidden.relu()?, &ones], 1)?.matmul(layer.var.as_tensor())?;
        }
        Ok(hidden)
    }

    fn step(&mut self, batch: &Batch) -> candle_core::Result<()> {
        let margins = self.forward(batch)?.flatten_all()?;
        // The product of the margins with the loss's slopes has the loss's gradient.
        let slopes = self.slopes(&margins.to_vec1::<f32>()?, &batch.rows);
        let gradients = (&margins * Tensor::from_vec(slopes, margins.dims1()?, &DEVICE)?)?.sum_all()?.backward()?;
        self.decay_1 *= BETA_1;
        self.decay_2 *= BETA_2;
        let adam = Adam {
            step_size: self.params.step_size * (1.0 - self.decay_2).sqrt() / (1.0 - self.decay_1),
            epsilon: EPSILON * (1.0 - self.decay_2).sqrt(),
            l2: self.params.l2,
        };
        for weights in self.layers.iter_mut().chain(&mut self.embeddings) {
            if let Some(gradient) = gradients.get(weights.var.as_tensor()) {
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                adam.update(weights, &gradient);
                weights.var.set(&Tensor::from_slice(&weights.values, &weights.shape[..], &DEVICE)?)?;
            }
        }
        Ok(())
    }

    /// The slopes of the mean loss of some rows by their margins.
    fn slopes(&self, margins: &[f32], rows: &[u32]) -> Vec<f32> {
        let n_outputs = self.data.output.len();
        let mut slopes: Vec<f64> = margins.iter().map(|z| f64::from(*z)).collect();
        for (row, slopes) in rows.iter().zip(slopes.chunks_exact_mut(n_outputs)) {
            self.data.output.slope(self.data.label[*row as usize], slopes);
            let by = self.data.weight[*row as usize] / rows.len() as f64;
            slopes.iter_mut().for_each(|slope| *slope *= by);
        }
        slopes.into_iter().map(|slope| slope as f32).collect()
    }

    fn network(self) -> Network {
        let mut n_in = self.data.inputs.len();
        let mut embeddings: Vec<f32> = self.embeddings.into_iter().flat_map(|w| w.values).collect();
        let mut layers = Vec::new();
        for weights in self.layers {
            let n_out = weights.shape[1];
            let (mut weight, bias) = weights.into_parts();
            // The first layer's indicators follow its numbers.
            weight.append(&mut embeddings);
            layers.push(Layer { weight, bias, n_in, n_out });
            n_in = n_out;
        }
        Network { layers }
    }
}

/// One step of Adam with its corrections folded in.
struct Adam {
    step_size: f64,
    epsilon: f64,
    l2: f64,
}

impl Adam {
    fn update(&self, weights: &mut Weights, gradient: &[f32]) {
        let (beta_1, beta_2) = (BETA_1 as f32, BETA_2 as f32);
        let (step_size, epsilon) = (self.step_size as f32, self.epsilon as f32);
        let moments = weights.mean.iter_mut().zip(&mut weights.square);
        let values = weights.values.iter_mut().enumerate();
        for (((i, value), (mean, square)), gradient) in values.zip(moments).zip(gradient) {
            let l2 = if i < weights.n_penalised { self.l2 as f32 } else { 0.0 };
            let gradient = gradient + l2 * *value;
            *mean = beta_1 * *mean + (1.0 - beta_1) * gradient;
            *square = beta_2 * *square + (1.0 - beta_2) * gradient * gradient;
            *value -= step_size * *mean / (square.sqrt() + epsilon);
        }
    }
}

/// Copies some rows of a row-major array.
fn rows_of<T: Copy>(values: &[T], width: usize, rows: &[u32]) -> Vec<T> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(&values[row as usize * width..(row as usize + 1) * width]);
    }
    out
}

fn candle(error: candle_core::Error) -> MlError {
    MlError::Internal(format!("training a multilayer_perceptron: {error}"))
}
