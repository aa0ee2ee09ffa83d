//! Training by mini-batches: candle computes the gradients, Adam moves the weights.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use super::network::{Inputs, Layer, Network};
use super::{MultilayerPerceptronModel, MultilayerPerceptronParams};
use crate::estimator::support::math::sigmoid;
use crate::estimator::support::random::{Random, mix};
use crate::estimator::support::training;
use crate::estimator::{FitContext, Params};
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
        Ok(MultilayerPerceptronModel::new(Arc::clone(&matrix.x.features), network))
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
}

impl TrainingRows {
    fn new(matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        let label = training::binary_labels(matrix, rows)?;
        training::numbers_are_present(matrix, rows)?;
        if matrix.weight.is_some() {
            return Err(MlError::Invalid("multilayer_perceptron takes no row weights; leave out weight".into()));
        }
        let inputs = Inputs::new(&matrix.x.features);
        if inputs.len() == 0 {
            return Err(MlError::Invalid("multilayer_perceptron has no features to train on".into()));
        }
        let mut data = Self {
            n_rows: rows.len(),
            numbers: vec![1.0; rows.len() * (inputs.n_numbers + 1)],
            indicators: Vec::new(),
            sizes: Vec::new(),
            label,
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
    /// Uniform within ±sqrt(6 / fan_in) (He et al. 2015), and `n_zeros` rows of zeros behind.
    fn random(shape: [usize; 2], fan_in: usize, n_zeros: usize, random: &mut Random) -> Result<Self> {
        let limit = (6.0 / fan_in.max(1) as f64).sqrt();
        let n_penalised = shape[0] * shape[1];
        let mut values: Vec<f32> = (0..n_penalised).map(|_| ((random.unit() * 2.0 - 1.0) * limit) as f32).collect();
        values.resize(values.len() + n_zeros * shape[1], 0.0);
        let shape = vec![shape[0] + n_zeros, shape[1]];
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
    label: Vec<f64>,
}

impl<'a> Training<'a> {
    fn new(data: &'a TrainingRows, params: MultilayerPerceptronParams, ctx: &'a FitContext) -> Result<Self> {
        let seed = mix(ctx.seed ^ mix(params.seed));
        let inputs = &data.inputs;
        let fan_in = inputs.n_numbers + data.sizes.len();
        let sizes: Vec<usize> =
            [inputs.n_numbers].into_iter().chain(params.layers.iter().copied()).chain([1]).collect();
        let layer = |(i, pair): (usize, &[usize])| {
            let fan_in = if i == 0 { fan_in } else { pair[0] };
            Weights::random([pair[0], pair[1]], fan_in, 1, &mut Random::new(seed, FIRST_WEIGHTS + i as u64))
        };
        let mut random = Random::new(seed, EMBEDDINGS);
        let embedding = |n: &usize| Weights::random([*n, sizes[1]], fan_in, 0, &mut random);
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
            label: rows.iter().map(|&r| self.data.label[r as usize]).collect(),
        })
    }

    /// The margins of a batch, `[n_rows, 1]`.
    fn forward(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let mut hidden = batch.numbers.matmul(self.layers[0].var.as_tensor())?;
        for (rows, embedding) in batch.indicators.iter().zip(&self.embeddings) {
            hidden = (hidden + embedding.var.index_select(rows, 0)?)?;
        }
        let ones = Tensor::ones((batch.label.len(), 1), candle_core::DType::F32, &DEVICE)?;
        for layer in &self.layers[1..] {
            hidden = Tensor::cat(&[&hidden.relu()?, &ones], 1)?.matmul(layer.var.as_tensor())?;
        }
        Ok(hidden)
    }

    fn step(&mut self, batch: &Batch) -> candle_core::Result<()> {
        let margins = self.forward(batch)?.flatten_all()?;
        let n = batch.label.len();
        // The slope of the mean log loss by margin, in closed form: stable at any margin. Its product with the
        // margins has the loss's gradient.
        let slope: Vec<f32> = margins
            .to_vec1::<f32>()?
            .iter()
            .zip(&batch.label)
            .map(|(z, y)| ((sigmoid(f64::from(*z)) - y) / n as f64) as f32)
            .collect();
        let gradients = (margins * Tensor::from_vec(slope, n, &DEVICE)?)?.sum_all()?.backward()?;
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
