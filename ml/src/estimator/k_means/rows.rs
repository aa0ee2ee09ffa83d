//! Rows as distances are computed from them: dense numbers, and one column number for each category.
//!
//! Columns are `[numbers | indicators | none]`. Indicators are never materialised: the column of a row's label is looked
//! up in the centres. The last column stands for no indicator and is zero in all centres.

use rayon::prelude::*;

use super::DistanceMeasure;
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features};

/// Rows that are gathered at once: the block stays in the second cache while columns are read one after the other.
const GATHER: usize = 256;

/// Where the columns of the one-hot view are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) n_numbers: usize,
    pub(super) n_categories: usize,
    /// By feature: its first column and how many it has.
    places: Vec<(usize, usize)>,
    width: usize,
}

impl Layout {
    pub(super) fn new(features: &[Feature]) -> Self {
        let is_number = |f: &&Feature| !matches!(f.kind, FeatureKind::Category { .. });
        let n_numbers = features.iter().filter(is_number).count();
        let (mut number, mut indicator) = (0, n_numbers);
        let place = |feature: &Feature| {
            let (next, size) = match feature.kind {
                FeatureKind::Category { indicators, .. } => (&mut indicator, indicators),
                _ => (&mut number, 1),
            };
            *next += size;
            (*next - size, size)
        };
        let places = features.iter().map(place).collect();
        Self { n_numbers, n_categories: features.len() - n_numbers, places, width: indicator + 1 }
    }

    /// How many columns there are, the one of no indicator among them.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The column of no indicator.
    pub(super) fn none(&self) -> usize {
        self.width - 1
    }

    /// The columns of the one-hot view in the order of the features.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        self.places.iter().flat_map(|&(first, size)| first..first + size)
    }
}

/// Some rows, less a shift and, for cosines, scaled to length 1.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) n_rows: usize,
    pub(super) layout: Layout,
    /// `[n_rows, n_numbers]`, row-major.
    numbers: Vec<f64>,
    /// Columns, `[n_rows, n_categories]`, row-major.
    indicators: Vec<u32>,
    /// What an indicator of a row is: its scale; empty where all are 1.
    units: Vec<f64>,
    /// The squared length of each row; not finite where a number is missing, too large, or all are 0 for cosines.
    pub(super) norms: Vec<f64>,
    /// How much each row counts; empty where all count 1.
    pub(super) weights: Vec<f64>,
}

impl Rows {
    /// Gathers rows; `shift`, which is taken off the numbers, keeps squares small and changes no Euclidean distance.
    pub(super) fn gather(layout: &Layout, x: &Features, rows: &[u32], shift: &[f64], measure: DistanceMeasure) -> Self {
        let mut gathered = Self {
            n_rows: rows.len(),
            layout: layout.clone(),
            numbers: gather_numbers(layout, x, rows, shift),
            indicators: gather_indicators(layout, x, rows),
            units: Vec::new(),
            norms: Vec::new(),
            weights: Vec::new(),
        };
        gathered.norms = (0..rows.len()).into_par_iter().with_min_len(GATHER).map(|row| gathered.norm(row)).collect();
        if measure == DistanceMeasure::Cosine {
            gathered.scale_to_unit_length();
        }
        gathered
    }

    /// Rows of all columns, `[n, width]`, the one of no indicator among them; `weights` say how much each counts.
    pub(super) fn of_centres(centres: Vec<f64>, width: usize, weights: Vec<f64>) -> Self {
        let layout = Layout { n_numbers: width, n_categories: 0, places: Vec::new(), width };
        let n_rows = weights.len();
        let norms = centres.chunks_exact(width).map(|centre| centre.iter().map(|v| v * v).sum()).collect();
        Self { n_rows, layout, numbers: centres, indicators: Vec::new(), units: Vec::new(), norms, weights }
    }

    /// The bytes that they take.
    pub(super) fn size_bytes(&self) -> usize {
        8 * (self.numbers.len() + self.units.len() + self.norms.len() + self.weights.len()) + 4 * self.indicators.len()
    }

    /// Some of these rows, as they are here.
    pub(super) fn take(&self, rows: &[u32], weights: Vec<f64>) -> Self {
        let all = || rows.iter().map(|&r| r as usize);
        Self {
            n_rows: rows.len(),
            layout: self.layout.clone(),
            numbers: all().flat_map(|r| self.numbers(r)).copied().collect(),
            indicators: all().flat_map(|r| self.indicators(r)).copied().collect(),
            units: if self.units.is_empty() { Vec::new() } else { all().map(|r| self.units[r]).collect() },
            norms: all().map(|r| self.norms[r]).collect(),
            weights,
        }
    }

    pub(super) fn numbers(&self, row: usize) -> &[f64] {
        let n = self.layout.n_numbers;
        &self.numbers[row * n..(row + 1) * n]
    }

    pub(super) fn indicators(&self, row: usize) -> &[u32] {
        let n = self.layout.n_categories;
        &self.indicators[row * n..(row + 1) * n]
    }

    pub(super) fn unit(&self, row: usize) -> f64 {
        self.units.get(row).copied().unwrap_or(1.0)
    }

    pub(super) fn weight(&self, row: usize) -> f64 {
        self.weights.get(row).copied().unwrap_or(1.0)
    }

    /// Adds a row, times `weight`, to columns.
    pub(super) fn add_to(&self, row: usize, weight: f64, columns: &mut [f64]) {
        for (sum, v) in columns.iter_mut().zip(self.numbers(row)) {
            *sum += weight * v;
        }
        for &column in self.indicators(row) {
            columns[column as usize] += weight * self.unit(row);
        }
    }

    /// The columns of a row.
    pub(super) fn expand(&self, row: usize) -> Vec<f64> {
        let mut columns = vec![0.0; self.layout.width()];
        self.add_to(row, 1.0, &mut columns);
        columns[self.layout.none()] = 0.0;
        columns
    }

    /// The squared distance of a row and a centre, from their differences: exact to the rounding of the result.
    pub(super) fn squared_distance(&self, row: usize, centre: &[f64]) -> f64 {
        let dense: f64 = self.numbers(row).iter().zip(centre).map(|(v, c)| (v - c) * (v - c)).sum();
        if self.layout.n_categories == 0 {
            return dense;
        }
        let mut sparse: f64 = centre[self.layout.n_numbers..].iter().map(|c| c * c).sum();
        for c in self.present(row).map(|column| centre[column]) {
            sparse += self.unit(row) * (self.unit(row) - 2.0 * c);
        }
        dense + sparse.max(0.0)
    }

    /// The columns of the indicators that a row has.
    fn present(&self, row: usize) -> impl Iterator<Item = usize> {
        let none = self.layout.none();
        self.indicators(row).iter().map(|&column| column as usize).filter(move |&column| column != none)
    }

    fn norm(&self, row: usize) -> f64 {
        self.numbers(row).iter().map(|v| v * v).sum::<f64>() + self.present(row).count() as f64
    }

    fn scale_to_unit_length(&mut self) {
        // A row of zeros has no direction: 1 / 0 makes its norm NaN below.
        let scales: Vec<f64> = self.norms.iter().map(|norm| 1.0 / norm.sqrt()).collect();
        let n = self.layout.n_numbers.max(1);
        self.numbers
            .par_chunks_mut(n)
            .zip(&scales)
            .with_min_len(GATHER)
            .for_each(|(numbers, scale)| numbers.iter_mut().for_each(|v| *v *= scale));
        for (norm, scale) in self.norms.iter_mut().zip(&scales) {
            *norm *= scale * scale;
        }
        self.units = scales;
    }
}

fn gather_numbers(layout: &Layout, x: &Features, rows: &[u32], shift: &[f64]) -> Vec<f64> {
    let n = layout.n_numbers;
    let mut numbers = vec![0.0; rows.len() * n];
    if n == 0 {
        return numbers;
    }
    let columns: Vec<&[f64]> = number_columns(x);
    numbers.par_chunks_mut(n * GATHER).zip(rows.par_chunks(GATHER)).for_each(|(into, rows)| {
        for (j, (column, shift)) in columns.iter().zip(shift).enumerate() {
            for (into, &row) in into.iter_mut().skip(j).step_by(n).zip(rows) {
                *into = column[row as usize] - shift;
            }
        }
    });
    numbers
}

fn gather_indicators(layout: &Layout, x: &Features, rows: &[u32]) -> Vec<u32> {
    let n = layout.n_categories;
    let mut indicators = vec![layout.none() as u32; rows.len() * n];
    let categories = layout.places.iter().zip(&x.values).filter_map(|(place, values)| match values {
        FeatureValues::Category(values) => Some((place, values)),
        FeatureValues::Number(_) => None,
    });
    for (k, (&(first, size), values)) in categories.enumerate() {
        for (into, &row) in indicators.iter_mut().skip(k).step_by(n).zip(rows) {
            let index = values[row as usize] as usize;
            if index < size {
                *into = (first + index) as u32;
            }
        }
    }
    indicators
}

/// The columns of numbers, in order.
pub(super) fn number_columns(x: &Features) -> Vec<&[f64]> {
    fn number(values: &FeatureValues) -> Option<&[f64]> {
        match values {
            FeatureValues::Number(values) => Some(values),
            FeatureValues::Category(_) => None,
        }
    }
    x.values.iter().filter_map(number).collect()
}
