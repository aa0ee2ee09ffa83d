//! Sums over rows that means and deviations are made of. Those of several parts of the rows merge.

use rayon::prelude::*;

use super::Rows;
use super::columns::{category_columns, number_columns};
use crate::matrix::{Feature, FeatureKind, Matrix};

/// How many numbers stand for the rows, for a column of numbers and for an indicator when moments are sent.
const PER_ROWS: usize = 3;
const PER_NUMBER: usize = 4;
const PER_INDICATOR: usize = 2;

/// Sums over rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub(super) n_rows: f64,
    /// The sum of the weights, and of their squares.
    pub(super) weight: f64,
    pub(super) squared_weight: f64,
    label: NumberMoments,
    pub(super) numbers: Vec<NumberMoments>,
    /// By indicator: the weight of its rows, and how many there are.
    pub(super) indicators: Vec<(f64, f64)>,
}

/// Sums of a column of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NumberMoments {
    least: f64,
    largest: f64,
    /// Of weights times values.
    sum: f64,
    /// Of weights times squared distances from the mean; 0 for a constant column.
    pub(super) squares: f64,
}

/// What solvers know of the labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelMoments {
    pub(crate) least: f64,
    pub(crate) largest: f64,
    pub(crate) mean: f64,
    /// The population's.
    pub(crate) deviation: f64,
}

impl Moments {
    /// Those of some rows of a matrix, without missing numbers; labels are in the order of the rows.
    pub(crate) fn of(matrix: &Matrix, rows: &Rows, label: &[f64]) -> Self {
        let weight = rows.total();
        let squared_weight = rows.weight.as_ref().map_or(weight, |w| w.iter().map(|w| w * w).sum());
        let of_column = |column: &&[f64]| {
            let value = |place: usize| column[rows.numbers[place] as usize];
            NumberMoments::of(value, rows, weight)
        };
        Self {
            n_rows: rows.numbers.len() as f64,
            weight,
            squared_weight,
            label: NumberMoments::of(|place| label[place], rows, weight),
            numbers: number_columns(matrix).par_iter().map(of_column).collect(),
            indicators: category_columns(matrix).flat_map(|(values, size)| of_indicators(values, size, rows)).collect(),
        }
    }

    /// Whether no row has a weight.
    pub(super) fn is_empty(&self) -> bool {
        self.weight == 0.0
    }

    /// What they say of the labels.
    pub(crate) fn label(&self) -> LabelMoments {
        let NumberMoments { least, largest, squares, .. } = self.label;
        LabelMoments { least, largest, mean: self.label.mean(self.weight), deviation: (squares / self.weight).sqrt() }
    }

    /// The moments with those of other rows.
    pub(super) fn merge(mut self, part: &Self) -> Self {
        let weights = (self.weight, part.weight);
        self.label.merge(&part.label, weights);
        self.numbers.iter_mut().zip(&part.numbers).for_each(|(into, part)| into.merge(part, weights));
        for (into, part) in self.indicators.iter_mut().zip(&part.indicators) {
            into.0 += part.0;
            into.1 += part.1;
        }
        self.n_rows += part.n_rows;
        self.weight += part.weight;
        self.squared_weight += part.squared_weight;
        self
    }

    /// As numbers, to be sent.
    pub(super) fn to_numbers(&self) -> Vec<f64> {
        let mut all = vec![self.n_rows, self.weight, self.squared_weight];
        let numbers = std::iter::once(&self.label).chain(&self.numbers);
        all.extend(numbers.flat_map(|n| [n.least, n.largest, n.sum, n.squares]));
        all.extend(self.indicators.iter().flat_map(|(weight, n_rows)| [*weight, *n_rows]));
        all
    }

    /// What [`Self::to_numbers`] gave for rows of these features; none of fewer numbers.
    pub(super) fn from_numbers(features: &[Feature], all: &[f64]) -> Option<Self> {
        let n_numbers = features.iter().filter(|f| f.kind == FeatureKind::Number).count();
        let (rows, rest) = all.split_at_checked(PER_ROWS)?;
        let (numbers, indicators) = rest.split_at_checked((1 + n_numbers) * PER_NUMBER)?;
        let number = |n: &[f64]| NumberMoments { least: n[0], largest: n[1], sum: n[2], squares: n[3] };
        let mut numbers = numbers.chunks_exact(PER_NUMBER).map(number);
        Some(Self {
            n_rows: rows[0],
            weight: rows[1],
            squared_weight: rows[2],
            label: numbers.next()?,
            numbers: numbers.collect(),
            indicators: indicators.chunks_exact(PER_INDICATOR).map(|i| (i[0], i[1])).collect(),
        })
    }
}

impl NumberMoments {
    /// Those of the values of places `0..rows`.
    fn of(value: impl Fn(usize) -> f64, rows: &Rows, weight: f64) -> Self {
        let mut moments = Self { least: f64::INFINITY, largest: f64::NEG_INFINITY, sum: 0.0, squares: 0.0 };
        for place in 0..rows.numbers.len() {
            let value = value(place);
            moments.least = moments.least.min(value);
            moments.largest = moments.largest.max(value);
            moments.sum += rows.weight(place) * value;
        }
        if moments.least < moments.largest {
            let mean = moments.mean(weight);
            let square = |place| (value(place) - mean) * (value(place) - mean);
            moments.squares = (0..rows.numbers.len()).map(|place| rows.weight(place) * square(place)).sum();
        }
        moments
    }

    /// The mean of values of this weight; that of a constant column is the constant to the bit.
    pub(super) fn mean(&self, weight: f64) -> f64 {
        if self.least < self.largest { self.sum / weight } else { self.least }
    }

    /// Adds those of other values (Chan, Golub, LeVeque 1979).
    fn merge(&mut self, part: &Self, (weight, of_part): (f64, f64)) {
        if of_part == 0.0 {
            return;
        }
        if weight == 0.0 {
            *self = *part;
            return;
        }
        let apart = part.mean(of_part) - self.mean(weight);
        self.squares += part.squares + apart * apart * (weight / (weight + of_part)) * of_part;
        self.least = self.least.min(part.least);
        self.largest = self.largest.max(part.largest);
        self.sum += part.sum;
    }
}

fn of_indicators(values: &[u32], size: usize, rows: &Rows) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); size];
    for (place, &row) in rows.numbers.iter().enumerate() {
        if let Some((weight, n_rows)) = sums.get_mut(values[row as usize] as usize) {
            *weight += rows.weight(place);
            *n_rows += 1.0;
        }
    }
    sums
}
