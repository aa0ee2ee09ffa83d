//! The fitted network and its scoring kernel.
//!
//! Saved as `model.safetensors` (`layer.N.weight`, `[n_in, n_out]`, and `layer.N.bias`, `[n_out]`, 32-bit) and
//! `model.json` (format, names of the features, activation, hidden sizes). Format 1 is of binary problems; format 2, of
//! the others, says what the output is.

use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::network::{Inputs, Layer, Network, Output, add_scaled, rectify};
use crate::estimator::support::training;
use crate::estimator::{Artifacts, Model};
use crate::matrix::{Feature, FeatureValues, Features};
use crate::{MlError, Result};

/// The description's name.
const FILE: &str = "model.json";
/// The weights' name.
const WEIGHTS: &str = "model.safetensors";
/// The artifacts' format, of binary problems.
const BINARY_FORMAT: u32 = 1;
/// The artifacts' format, of other problems.
const FORMAT: u32 = 2;
/// The only activation of hidden layers.
const ACTIVATION: &str = "relu";

/// A fitted multilayer perceptron.
#[derive(Debug, Clone, PartialEq)]
pub struct MultilayerPerceptronModel {
    features: Arc<[Feature]>,
    inputs: Inputs,
    network: Network,
    output: Output,
}

#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    features: Vec<String>,
    activation: String,
    layers: Vec<usize>,
    #[serde(default, skip_serializing_if = "is_logistic")]
    output: Output,
}

impl Description {
    fn check(&self, features: &[Feature]) -> std::result::Result<(), String> {
        if self.activation != ACTIVATION {
            return Err(format!("expected the activation {ACTIVATION}, got {:?}", self.activation));
        }
        if !self.features.iter().eq(features.iter().map(|f| &f.name)) {
            return Err("its weights are not those of the model's features".to_owned());
        }
        if self.format != format_of(self.output) || self.output == Output::Softmax(0) {
            return Err(format!("format {} has no output {:?}", self.format, self.output));
        }
        Ok(())
    }
}

fn is_logistic(output: &Output) -> bool {
    *output == Output::Logistic
}

fn format_of(output: Output) -> u32 {
    if is_logistic(&output) { BINARY_FORMAT } else { FORMAT }
}

impl MultilayerPerceptronModel {
    pub(super) fn new(features: Arc<[Feature]>, network: Network, output: Output) -> Self {
        let inputs = Inputs::new(&features);
        Self { features, inputs, network, output }
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// Artifacts that are absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let format = training::format_of(artifacts, FILE)?;
        if format != BINARY_FORMAT {
            training::known_format(FILE, format, FORMAT)?;
        }
        let description: Description = training::from_json(artifacts, FILE)?;
        description.check(&features).map_err(|why| training::corrupt(FILE, why))?;
        let bytes = training::artifact(artifacts, WEIGHTS)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| training::corrupt(WEIGHTS, e.to_string()))?;
        let mut n_in = Inputs::new(&features).len();
        let mut layers = Vec::new();
        for (i, n_out) in description.layers.iter().copied().chain([description.output.len()]).enumerate() {
            layers.push(Layer {
                weight: read(&tensors, &format!("layer.{i}.weight"), &[n_in, n_out])?,
                bias: read(&tensors, &format!("layer.{i}.bias"), &[n_out])?,
                n_in,
                n_out,
            });
            n_in = n_out;
        }
        Ok(Self::new(features, Network { layers }, description.output))
    }

    /// Puts one row's margins into `into`. `from` is a buffer.
    fn margins(&self, x: &Features, row: usize, from: &mut Vec<f32>, into: &mut Vec<f32>) {
        let mut layers = self.network.layers.iter();
        let Some(first) = layers.next() else { return };
        start(into, first);
        for (values, (place, size)) in x.values.iter().zip(&self.inputs.places) {
            match values {
                FeatureValues::Number(v) => add_scaled(into, v[row] as f32, first.weights_of(*place)),
                FeatureValues::Category(v) => {
                    let index = v[row] as usize;
                    if index < *size {
                        add_scaled(into, 1.0, first.weights_of(place + index));
                    }
                }
            }
        }
        for layer in layers {
            rectify(into);
            std::mem::swap(from, into);
            start(into, layer);
            layer.add_products(from, into);
        }
    }
}

impl Model for MultilayerPerceptronModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    fn n_outputs(&self) -> usize {
        self.output.len()
    }

    /// Scores rows; a missing number (NaN) gives scores of NaN.
    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        training::same_columns(&self.features, x)?;
        let (mut from, mut into) = (Vec::new(), Vec::new());
        let n_outputs = self.output.len();
        let mut scores = vec![f64::NAN; x.n_rows * n_outputs];
        for (row, scores) in scores.chunks_exact_mut(n_outputs).enumerate() {
            self.margins(x, row, &mut from, &mut into);
            scores.iter_mut().zip(&into).for_each(|(score, margin)| *score = f64::from(*margin));
            self.output.score(scores);
        }
        Ok(scores)
    }

    fn save(&self) -> Result<Artifacts> {
        let hidden = self.network.layers.split_last().map(|(_, hidden)| hidden).unwrap_or_default();
        let description = Description {
            format: format_of(self.output),
            features: self.features.iter().map(|f| f.name.clone()).collect(),
            activation: ACTIVATION.to_owned(),
            layers: hidden.iter().map(|layer| layer.n_out).collect(),
            output: self.output,
        };
        Ok(Artifacts::from([
            (FILE.to_owned(), training::to_json(&description)?),
            (WEIGHTS.to_owned(), weights(&self.network)?),
        ]))
    }
}

/// Sets a buffer to a layer's bias.
fn start(into: &mut Vec<f32>, layer: &Layer) {
    into.clear();
    into.extend_from_slice(&layer.bias);
}

fn weights(network: &Network) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (i, layer) in network.layers.iter().enumerate() {
        tensors.push((format!("layer.{i}.weight"), vec![layer.n_in, layer.n_out], bytes_of(&layer.weight)));
        tensors.push((format!("layer.{i}.bias"), vec![layer.n_out], bytes_of(&layer.bias)));
    }
    let internal = |e| MlError::Internal(format!("weights have no safetensors form: {e}"));
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(internal)?)))
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(internal)
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn read(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = tensors.tensor(name).map_err(|e| training::corrupt(WEIGHTS, e.to_string()))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (dtype, got) = (tensor.dtype(), tensor.shape());
        return Err(training::corrupt(WEIGHTS, format!("{name}: expected F32 {shape:?}, got {dtype:?} {got:?}")));
    }
    Ok(tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
