//! How much nearer rows are to their own cluster than to the next.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::estimator::{add_into, fold_chunks};
use crate::matrix::{FeatureKind, FeatureValues, Features};
use crate::{MlError, Result};

/// Rows of one parallel chunk.
const CHUNK: usize = 4096;

/// The mean silhouette by squared Euclidean distances, Spark ML's `ClusteringEvaluator`: of `(b - a) / max(a, b)`, where
/// `a` is a row's mean distance to the others of its cluster and `b` that to the rows of the nearest other cluster.
///
/// A row that is alone in its cluster counts 0. Categories count as their indicators. The cost is that of the distances of
/// all rows to one point for each cluster; the result is the same for any number of threads.
///
/// # Errors
/// Other than one cluster for each row, a cluster or a number that is NaN or infinite, fewer than two clusters.
pub fn silhouette(x: &Features, clusters: &[f64]) -> Result<f64> {
    let places = places(x, clusters)?;
    let view = View::new(x);
    let zero = vec![ClusterSums::zero(view.width); places.len()];
    let sums = |rows: Range<usize>| {
        let mut sums = zero.clone();
        let mut row_values = vec![0.0; view.width];
        for row in rows {
            view.read(row, &mut row_values);
            sums[places[&clusters[row].to_bits()]].add(&row_values);
        }
        sums
    };
    let sums = fold_chunks(x.n_rows, CHUNK, zero.clone(), sums, |into, part| {
        into.iter_mut().zip(&part).for_each(|(into, part)| into.merge(part));
    });
    let score = |rows: Range<usize>| {
        let mut row_values = vec![0.0; view.width];
        let of_row = |row: usize| {
            view.read(row, &mut row_values);
            coefficient(&sums, places[&clusters[row].to_bits()], &row_values)
        };
        rows.map(of_row).sum::<f64>()
    };
    let total = fold_chunks(x.n_rows, CHUNK, 0.0, score, |into, part| *into += part);
    if total.is_finite() {
        return Ok(total / x.n_rows as f64);
    }
    Err(MlError::Invalid("the silhouette needs numbers that are finite, and so are their squares".into()))
}

/// The place of each cluster, by the bits of its number.
fn places(x: &Features, clusters: &[f64]) -> Result<BTreeMap<u64, usize>> {
    if clusters.len() != x.n_rows {
        return Err(MlError::Invalid(format!(
            "the silhouette needs a cluster for each row, got {} clusters and {} rows",
            clusters.len(),
            x.n_rows
        )));
    }
    if let Some(row) = clusters.iter().position(|cluster| !cluster.is_finite()) {
        return Err(MlError::Invalid(format!("the cluster of row {row} is {}", clusters[row])));
    }
    let mut places = BTreeMap::new();
    for cluster in clusters {
        let next = places.len();
        places.entry(cluster.to_bits()).or_insert(next);
    }
    if places.len() < 2 {
        return Err(MlError::Invalid(format!("the silhouette needs at least two clusters, got {}", places.len())));
    }
    Ok(places)
}

/// Rows as numbers, less the columns' means: squares stay small, and distances what they are.
struct View<'a> {
    x: &'a Features,
    means: Vec<f64>,
    width: usize,
}

impl<'a> View<'a> {
    fn new(x: &'a Features) -> Self {
        let mean = |values: &FeatureValues| match values {
            FeatureValues::Number(values) => values.iter().sum::<f64>() / x.n_rows as f64,
            FeatureValues::Category(_) => 0.0,
        };
        let size =
            |kind: &FeatureKind| if let FeatureKind::Category { indicators, .. } = kind { *indicators } else { 1 };
        Self {
            x,
            means: x.values.iter().map(mean).collect(),
            width: x.features.iter().map(|feature| size(&feature.kind)).sum(),
        }
    }

    fn read(&self, row: usize, into: &mut [f64]) {
        into.fill(0.0);
        let mut column = 0;
        for ((feature, values), mean) in self.x.features.iter().zip(&self.x.values).zip(&self.means) {
            match (&feature.kind, values) {
                (FeatureKind::Category { indicators, .. }, FeatureValues::Category(values)) => {
                    let index = values[row] as usize;
                    if index < *indicators {
                        into[column + index] = 1.0;
                    }
                    column += indicators;
                }
                (_, FeatureValues::Number(values)) => {
                    into[column] = values[row] - mean;
                    column += 1;
                }
                (_, FeatureValues::Category(_)) => column += 1,
            }
        }
    }
}

/// What the distances to a cluster's rows need of them.
#[derive(Debug, Clone)]
struct ClusterSums {
    total: Vec<f64>,
    squares: f64,
    count: f64,
}

impl ClusterSums {
    fn zero(width: usize) -> Self {
        Self { total: vec![0.0; width], squares: 0.0, count: 0.0 }
    }

    fn add(&mut self, row: &[f64]) {
        add_into(&mut self.total, row);
        self.squares += square(row);
        self.count += 1.0;
    }

    fn merge(&mut self, part: &Self) {
        add_into(&mut self.total, &part.total);
        self.squares += part.squares;
        self.count += part.count;
    }

    /// The mean squared distance of a row to the cluster's rows.
    fn mean_distance(&self, row: &[f64], square: f64) -> f64 {
        let product: f64 = self.total.iter().zip(row).map(|(a, b)| a * b).sum();
        square + self.squares / self.count - 2.0 * product / self.count
    }
}

fn coefficient(sums: &[ClusterSums], own: usize, row: &[f64]) -> f64 {
    let cluster = &sums[own];
    if cluster.count == 1.0 {
        return 0.0;
    }
    let square = square(row);
    // The row itself is one of those summed, at a distance of 0.
    let a = cluster.mean_distance(row, square) * cluster.count / (cluster.count - 1.0);
    let others = sums.iter().enumerate().filter(|(place, _)| *place != own);
    let b = others.map(|(_, other)| other.mean_distance(row, square)).fold(f64::INFINITY, f64::min);
    if a < b {
        1.0 - a / b
    } else if a > b {
        b / a - 1.0
    } else {
        // Equal, or NaN, which is to stay.
        a - b
    }
}

fn square(row: &[f64]) -> f64 {
    row.iter().map(|v| v * v).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimator::testing::{clusters_fixture, numbers, slice};

    #[test]
    fn values_are_those_of_spark() {
        for (name, data) in clusters_fixture().as_object().unwrap() {
            let Some(cases) = data["silhouette"].as_array() else { continue };
            let x = numbers(data);
            for case in cases {
                let clusters: Vec<f64> = serde_json::from_value(case["clusters"].clone()).unwrap();
                let expected = case["silhouette"].as_f64().unwrap();
                let got = silhouette(&x, &clusters).unwrap();
                // Spark does not take the means off, so the last digits of its squares are others.
                assert!((got - expected).abs() < 1e-10, "{name}: {got} and {expected}");
            }
        }
    }

    #[test]
    fn one_cluster_and_rows_without_one_are_errors() {
        let x = slice(&numbers(&clusters_fixture()["iris"]), 0..3);
        let error = |clusters: &[f64]| silhouette(&x, clusters).unwrap_err().to_string();
        assert!(error(&[1.0, 1.0, 1.0]).contains("at least two clusters, got 1"));
        assert!(error(&[1.0, 1.0]).contains("got 2 clusters and 3 rows"));
        assert!(error(&[1.0, f64::NAN, 0.0]).contains("row 1 is NaN"));
        assert_eq!(silhouette(&x, &[0.0, 1.0, 2.0]).unwrap(), 0.0);
    }
}
