//! Binning: each training value becomes a bin number of one byte.
//!
//! Numbers are cut at quantiles of a fixed sample; missing numbers have the bin after the last. Categories have a bin
//! for each of their most frequent labels; rare labels and missing ones share the bin after the last.

use rayon::prelude::*;

use crate::matrix::{FeatureKind, FeatureValues, Matrix};

/// The most values that cuts are found from; more are sampled at an even stride.
const SAMPLE: usize = 200_000;
/// The most labels with a bin of their own.
const MOST_LABELS: usize = 254;

/// The binned training rows, shared by candidates.
#[derive(Debug)]
pub(crate) struct Binned {
    pub(crate) columns: Vec<Column>,
    pub(crate) n_rows: usize,
}

/// One binned column.
#[derive(Debug)]
pub(crate) struct Column {
    /// The bin of each row.
    pub(crate) bins: Vec<u8>,
    /// How many bins hold values; the next one is for what is missing.
    pub(crate) n_bins: usize,
    pub(crate) meaning: Meaning,
}

/// What a column's bins stand for.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// Bin `b` holds numbers above `cuts[b - 1]`, up to `cuts[b]`.
    Number { cuts: Vec<f64> },
    /// Bin `b` holds the label `labels[b]`.
    Category { labels: Vec<u32> },
}

impl Binned {
    /// Bins the rows to train on.
    pub(crate) fn new(matrix: &Matrix, rows: &[u32], max_bins: usize) -> Self {
        let columns = matrix
            .x
            .features
            .par_iter()
            .zip(&matrix.x.values)
            .map(|(feature, values)| match (values, &feature.kind) {
                (FeatureValues::Number(values), _) => number_column(values, rows, max_bins),
                (FeatureValues::Category(values), FeatureKind::Category { labels, .. }) => {
                    category_column(values, rows, labels.len())
                }
                (FeatureValues::Category(values), _) => category_column(values, rows, 0),
            })
            .collect();
        Self { columns, n_rows: rows.len() }
    }
}

fn number_column(values: &[f64], rows: &[u32], max_bins: usize) -> Column {
    let stride = rows.len().div_ceil(SAMPLE).max(1);
    let mut sample: Vec<f64> =
        rows.iter().step_by(stride).map(|&r| values[r as usize]).filter(|v| !v.is_nan()).collect();
    sample.sort_unstable_by(f64::total_cmp);
    let cuts = cuts(&sample, max_bins);
    let missing = cuts.len() as u8 + 1;
    let bin = |v: f64| if v.is_nan() { missing } else { cuts.partition_point(|c| *c < v) as u8 };
    let bins = rows.iter().map(|&r| bin(values[r as usize])).collect();
    Column { bins, n_bins: cuts.len() + 1, meaning: Meaning::Number { cuts } }
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

fn category_column(values: &[u32], rows: &[u32], n_labels: usize) -> Column {
    let mut counts = vec![0usize; n_labels];
    for &r in rows {
        if let Some(count) = counts.get_mut(values[r as usize] as usize) {
            *count += 1;
        }
    }
    let mut labels: Vec<u32> = (0..n_labels as u32).filter(|&l| counts[l as usize] > 0).collect();
    labels.sort_by_key(|&l| (std::cmp::Reverse(counts[l as usize]), l));
    labels.truncate(MOST_LABELS);
    let other = labels.len() as u8;
    let mut bin_of = vec![other; n_labels];
    for (bin, &label) in labels.iter().enumerate() {
        bin_of[label as usize] = bin as u8;
    }
    let bins = rows.iter().map(|&r| bin_of.get(values[r as usize] as usize).copied().unwrap_or(other)).collect();
    Column { bins, n_bins: labels.len(), meaning: Meaning::Category { labels } }
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
