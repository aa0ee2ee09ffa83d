//! The fitted model: centres.
//!
//! Saved as `model.json`: format, distance measure, the names of the features, centres by the columns of the one-hot view,
//! the number of training rows of each, their cost and the number of steps.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::DistanceMeasure;
use super::panels::Panels;
use super::rows::{Layout, Rows};
use crate::Result;
use crate::codec::exact;
use crate::estimator::support::training;
use crate::estimator::{Artifacts, Model};
use crate::matrix::{Feature, Features};

/// The artifact's name.
const FILE: &str = "model.json";
/// The artifact's format.
const FORMAT: u32 = 1;
/// Rows that are scored at once.
const CHUNK: usize = 1024;

/// A fitted k-means.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansModel {
    features: Arc<[Feature]>,
    fitted: Fitted,
    layout: Layout,
    /// The mean of the centres, which is taken off numbers before they are squared.
    shift: Vec<f64>,
    panels: Panels,
}

/// What a fit gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitted {
    pub(super) measure: DistanceMeasure,
    /// By the columns of the one-hot view, in the order of the features.
    pub(super) centres: Vec<Vec<f64>>,
    pub(super) sizes: Vec<u64>,
    pub(super) training_cost: f64,
    pub(super) iterations: usize,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    distance_measure: DistanceMeasure,
    features: Vec<String>,
    centers: Vec<Center>,
    #[serde(with = "exact")]
    training_cost: f64,
    iterations: usize,
}

#[derive(Serialize, Deserialize)]
struct Center {
    size: u64,
    #[serde(with = "exact::list")]
    columns: Vec<f64>,
}

impl KMeansModel {
    pub(super) fn new(features: Arc<[Feature]>, fitted: Fitted) -> Self {
        let layout = Layout::new(&features);
        let mut packed = vec![0.0; fitted.centres.len() * layout.width()];
        for (into, centre) in packed.chunks_exact_mut(layout.width()).zip(&fitted.centres) {
            layout.columns().zip(centre).for_each(|(column, v)| into[column] = *v);
        }
        let shift = match fitted.measure {
            DistanceMeasure::Euclidean => means(&packed, layout.width(), layout.n_numbers),
            DistanceMeasure::Cosine => vec![0.0; layout.n_numbers],
        };
        for centre in packed.chunks_exact_mut(layout.width()) {
            centre.iter_mut().zip(&shift).for_each(|(v, shift)| *v -= shift);
        }
        let panels = Panels::new(&packed, layout.width());
        Self { features, fitted, layout, shift, panels }
    }

    /// Reads a model back.
    ///
    /// # Errors
    /// An artifact that is absent, damaged, of a newer format or of other features.
    pub(super) fn load(features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Self> {
        let saved: Saved = training::from_json(artifacts, FILE)?;
        training::known_format(FILE, saved.format, FORMAT)?;
        if !saved.features.iter().eq(features.iter().map(|f| &f.name)) {
            return Err(training::corrupt(FILE, "its features are not those of the model"));
        }
        let n_columns = Layout::new(&features).columns().count();
        let is_centre = |c: &Center| c.columns.len() == n_columns && c.columns.iter().all(|v| v.is_finite());
        if saved.centers.is_empty() || !saved.centers.iter().all(is_centre) {
            return Err(training::corrupt(FILE, format!("expected centers of {n_columns} finite numbers each")));
        }
        if !(saved.training_cost.is_finite() && saved.training_cost >= 0.0) {
            return Err(training::corrupt(FILE, format!("its training cost is {}", saved.training_cost)));
        }
        let fitted = Fitted {
            measure: saved.distance_measure,
            sizes: saved.centers.iter().map(|c| c.size).collect(),
            centres: saved.centers.into_iter().map(|c| c.columns).collect(),
            training_cost: saved.training_cost,
            iterations: saved.iterations,
        };
        Ok(Self::new(features, fitted))
    }

    /// The centres, `[n_clusters, n_columns]` by the columns of the one-hot view; of length 1 for cosines.
    pub fn centers(&self) -> &[Vec<f64>] {
        &self.fitted.centres
    }

    /// How many training rows are in each cluster.
    pub fn sizes(&self) -> &[u64] {
        &self.fitted.sizes
    }

    /// The sum over the training rows of weight times squared distance ("inertia"), or times one less the cosine.
    pub fn training_cost(&self) -> f64 {
        self.fitted.training_cost
    }

    /// How many steps the fit made.
    pub fn iterations(&self) -> usize {
        self.fitted.iterations
    }

    /// Scores some rows, by their numbers.
    fn score(&self, x: &Features, rows: &[u32], into: &mut [f64]) {
        let rows_here = Rows::gather(&self.layout, x, rows, &self.shift, self.fitted.measure);
        let list: Vec<u32> = (0..rows.len() as u32).collect();
        let mut nearest = Vec::new();
        self.panels.nearest(self.panels.all(), &rows_here, &list, &mut nearest);
        for ((into, nearest), norm) in into.iter_mut().zip(&nearest).zip(&rows_here.norms) {
            *into = if norm.is_finite() { f64::from(nearest.centre) } else { f64::NAN };
        }
    }
}

impl Model for KMeansModel {
    fn estimator(&self) -> &str {
        super::NAME
    }

    /// The number of the nearest centre of each row, the first of equals; NaN where a number is missing (NaN), or where a
    /// row has no direction for cosines.
    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        training::same_columns(&self.features, x)?;
        let rows: Vec<u32> = (0..x.n_rows as u32).collect();
        let mut clusters = vec![0.0; x.n_rows];
        clusters.par_chunks_mut(CHUNK).zip(rows.par_chunks(CHUNK)).for_each(|(into, rows)| self.score(x, rows, into));
        Ok(clusters)
    }

    fn save(&self) -> Result<Artifacts> {
        let centres = self.fitted.centres.iter().zip(&self.fitted.sizes);
        let saved = Saved {
            format: FORMAT,
            distance_measure: self.fitted.measure,
            features: self.features.iter().map(|f| f.name.clone()).collect(),
            centers: centres.map(|(columns, &size)| Center { size, columns: columns.clone() }).collect(),
            training_cost: self.fitted.training_cost,
            iterations: self.fitted.iterations,
        };
        Ok(Artifacts::from([(FILE.to_owned(), training::to_json(&saved)?)]))
    }
}

/// The means of the first `n` columns.
fn means(rows: &[f64], width: usize, n: usize) -> Vec<f64> {
    let mut sums = vec![0.0; n];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
    }
    let n_rows = (rows.len() / width) as f64;
    sums.iter().map(|sum| sum / n_rows).collect()
}
