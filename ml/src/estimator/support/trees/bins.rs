//! Binning: each training value becomes a bin number of one byte.
//!
//! Numbers are cut at quantiles of a fixed sample; missing numbers have the bin after the last. Categories have a bin
//! for each of their most frequent labels; rare labels and missing ones share the bin after the last.

use std::cmp::Reverse;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::codec::exact;
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features, Matrix};

/// The most values that cuts are found from; more are sampled at an even stride.
const SAMPLE: usize = 200_000;
/// The most labels with a bin of their own.
const MOST_LABELS: usize = 254;

/// The binned training rows, shared by candidates.
#[derive(Debug)]
pub(crate) struct Binned {
    /// By column, the bin of each row.
    pub(crate) columns: Vec<Vec<u8>>,
    /// By column, what its bins stand for.
    pub(crate) meanings: Arc<[Meaning]>,
    pub(crate) n_rows: usize,
}

/// What a column's bins stand for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Meaning {
    /// Bin `b` holds numbers above `cuts[b - 1]`, up to `cuts[b]`.
    Number {
        #[serde(with = "exact::list")]
        cuts: Vec<f64>,
    },
    /// Bin `b` holds the label `labels[b]`.
    Category { labels: Vec<u32> },
}

/// What the bins of a column are found from.
#[derive(Debug)]
pub(crate) enum Sample {
    /// Some of its numbers, none of them missing.
    Numbers(Vec<f64>),
    /// How many rows have each label.
    Labels(Vec<usize>),
}

impl Binned {
    /// Bins the rows to train on.
    pub(crate) fn new(matrix: &Matrix, rows: &[u32], max_bins: usize) -> Self {
        let every = stride(rows.len());
        let columns = matrix.x.features.par_iter().zip(&matrix.x.values);
        let meanings: Vec<Meaning> =
            columns.map(|(feature, values)| Sample::of(feature, values, rows, 0, every).meaning(max_bins)).collect();
        Self::by(meanings.into(), &matrix.x, rows)
    }

    /// Bins rows by what bins stand for.
    pub(crate) fn by(meanings: Arc<[Meaning]>, x: &Features, rows: &[u32]) -> Self {
        let columns = x.values.par_iter().zip(&*meanings).map(|(values, meaning)| meaning.bins(values, rows)).collect();
        Self { columns, meanings, n_rows: rows.len() }
    }
}

impl Meaning {
    /// How many bins hold values; the next one is for what is missing.
    pub(crate) fn n_bins(&self) -> usize {
        match self {
            Self::Number { cuts } => cuts.len() + 1,
            Self::Category { labels } => labels.len(),
        }
    }

    /// The bins of some rows of a column.
    fn bins(&self, values: &FeatureValues, rows: &[u32]) -> Vec<u8> {
        let missing = self.n_bins() as u8;
        match (self, values) {
            (Self::Number { cuts }, FeatureValues::Number(values)) => {
                let bin = |v: f64| if v.is_nan() { missing } else { cuts.partition_point(|c| *c < v) as u8 };
                rows.iter().map(|&r| bin(values[r as usize])).collect()
            }
            (Self::Category { labels }, FeatureValues::Category(values)) => {
                let mut bin_of = vec![missing; labels.iter().max().map_or(0, |label| *label as usize + 1)];
                labels.iter().zip(0..).for_each(|(label, bin)| bin_of[*label as usize] = bin);
                rows.iter().map(|&r| bin_of.get(values[r as usize] as usize).copied().unwrap_or(missing)).collect()
            }
            // Never so: the features of a matrix are those that its bins are of.
            _ => vec![missing; rows.len()],
        }
    }
}

impl Sample {
    /// That of some rows: each label, and from `first` on every so many numbers.
    pub(crate) fn of(feature: &Feature, values: &FeatureValues, rows: &[u32], first: usize, every: usize) -> Self {
        match (values, &feature.kind) {
            (FeatureValues::Number(values), _) => {
                let numbers = rows.iter().skip(first).step_by(every).map(|&r| values[r as usize]);
                Self::Numbers(numbers.filter(|v| !v.is_nan()).collect())
            }
            (FeatureValues::Category(values), FeatureKind::Category { labels, .. }) => {
                let mut counts = vec![0; labels.len()];
                for &r in rows {
                    if let Some(count) = counts.get_mut(values[r as usize] as usize) {
                        *count += 1;
                    }
                }
                Self::Labels(counts)
            }
            (FeatureValues::Category(_), _) => Self::Labels(Vec::new()),
        }
    }

    /// The bins of its column.
    pub(crate) fn meaning(self, max_bins: usize) -> Meaning {
        match self {
            Self::Numbers(mut numbers) => {
                numbers.sort_unstable_by(f64::total_cmp);
                Meaning::Number { cuts: cuts(&numbers, max_bins) }
            }
            Self::Labels(counts) => {
                let mut labels: Vec<u32> = (0..counts.len() as u32).filter(|&l| counts[l as usize] > 0).collect();
                labels.sort_by_key(|&l| (Reverse(counts[l as usize]), l));
                labels.truncate(MOST_LABELS);
                Meaning::Category { labels }
            }
        }
    }
}

/// Of how many numbers one is sampled.
pub(crate) fn stride(n_rows: usize) -> usize {
    n_rows.div_ceil(SAMPLE).max(1)
}

/// Cuts between sorted values, so that the bins hold about equally many and no value is in two.
fn cuts(sorted: &[f64], max_bins: usize) -> Vec<f64> {
    let runs: Vec<&[f64]> = sorted.chunk_by(|a, b| a == b).collect();
    let mut cuts = Vec::new();
    let mut in_bin = 0;
    let mut left = sorted.len();
    for pair in runs.windows(2) {
        in_bin += pair[0].len();
        let bins_left = max_bins - cuts.len();
        let is_full = runs.len() <= max_bins || in_bin * bins_left >= left;
        if is_full && bins_left > 1 {
            cuts.push(between(pair[0][0], pair[1][0]));
            left -= in_bin;
            in_bin = 0;
        }
    }
    cuts
}

/// A number from `low` on, below `high`.
fn between(low: f64, high: f64) -> f64 {
    let middle = low + (high - low) / 2.0;
    if middle >= low && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_a_bin_each() {
        assert_eq!(cuts(&[1.0, 1.0, 2.0, 4.0], 255), vec![1.5, 3.0]);
        assert_eq!(cuts(&[1.0, 1.0], 255), Vec::<f64>::new());
        assert_eq!(cuts(&[], 255), Vec::<f64>::new());
    }

    #[test]
    fn many_values_fill_bins_evenly() {
        let values: Vec<f64> = (0..10_000).map(f64::from).collect();
        let cuts = cuts(&values, 100);
        assert_eq!(cuts.len(), 99);
        assert!(cuts.windows(2).all(|w| (w[1] - w[0] - 100.0).abs() < 2.0), "{cuts:?}");
    }
}
