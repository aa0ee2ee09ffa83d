//! The columns of the standardised rows: what is taken off them, and what they are divided by.
//!
//! Deviations are weighted as Spark ML's summarizer does: the variance of a column is
//! `sum w (x - mean)^2 / (W - sum w^2 / W)` with `W = sum w`, the sample variance where all rows weigh alike.

use serde::{Deserialize, Serialize};

use super::Moments;
use super::design::{Coefficients, GradientSums, HessianSums, LANES};
use crate::codec::exact;
use crate::estimator::support::chunks::add_into;
use crate::matrix::{Feature, FeatureKind, FeatureValues, Matrix};

/// How the rows of a fit are standardised.
///
/// Coordinates of the optimiser are `[numbers | indicators | intercept]`, each in units of its column's deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Columns {
    pub(super) n_numbers: usize,
    pub(super) n_indicators: usize,
    pub(super) has_intercept: bool,
    /// The sum of the weights.
    #[serde(with = "exact")]
    pub(super) total_weight: f64,
    /// What divides sums of squares in a variance.
    #[serde(with = "exact")]
    freedom: f64,
    /// What is taken off each number before scaling.
    #[serde(with = "exact::list")]
    pub(super) center: Vec<f64>,
    /// The deviation of each coordinate but the intercept; 0 for constant columns, whose coefficients are 0.
    #[serde(with = "exact::list")]
    pub(crate) deviation: Vec<f64>,
}

impl Columns {
    /// The columns of rows with these moments.
    pub(super) fn new(moments: &Moments, has_intercept: bool) -> Self {
        let total_weight = moments.weight;
        let freedom = total_weight - moments.squared_weight / total_weight;
        let of_indicator = |(weight, n_rows): &(f64, f64)| {
            let share = weight / total_weight;
            // Weighted sums round: whether an indicator is constant is told by the rows.
            let is_constant = *n_rows == 0.0 || *n_rows == moments.n_rows;
            if is_constant { 0.0 } else { (share * (1.0 - share) * total_weight / freedom).max(0.0).sqrt() }
        };
        let numbers = moments.numbers.iter();
        let center = numbers.clone().map(|n| if has_intercept { n.mean(total_weight) } else { 0.0 }).collect();
        let deviation = numbers.map(|n| (n.squares / freedom).sqrt());
        Self {
            n_numbers: moments.numbers.len(),
            n_indicators: moments.indicators.len(),
            has_intercept,
            total_weight,
            freedom,
            center,
            deviation: deviation.chain(moments.indicators.iter().map(of_indicator)).collect(),
        }
    }

    /// How many numbers a dense row has, with the intercept's one and padding for vector instructions.
    pub(super) fn width(&self) -> usize {
        (self.n_numbers + 1).next_multiple_of(LANES)
    }

    /// How many coordinates there are, the intercept's among them.
    pub(crate) fn n_coordinates(&self) -> usize {
        self.n_numbers + self.n_indicators + 1
    }

    /// The coordinate of the intercept.
    pub(crate) fn intercept(&self) -> usize {
        self.n_numbers + self.n_indicators
    }

    /// Whether a coordinate can be other than zero.
    pub(crate) fn is_free(&self, coordinate: usize) -> bool {
        self.deviation.get(coordinate).map_or(self.has_intercept, |d| *d > 0.0)
    }

    /// The population deviation over the sample deviation.
    pub(crate) fn population_unit(&self) -> f64 {
        (self.freedom / self.total_weight).sqrt()
    }

    /// Coefficients and intercept for raw columns from a point of the optimiser.
    pub(crate) fn raw_coefficients(&self, point: &[f64]) -> (Vec<f64>, f64) {
        let coefficients: Vec<f64> =
            self.deviation.iter().zip(point).map(|(d, b)| if *d > 0.0 { b / d } else { 0.0 }).collect();
        let shift: f64 = self.center.iter().zip(&coefficients).map(|(c, b)| c * b).sum();
        (coefficients, point[self.intercept()] - shift)
    }

    /// By coordinate but the intercept's, what its value of 1 takes off the optimiser's intercept to make the raw one.
    pub(super) fn intercept_shifts(&self) -> Vec<f64> {
        let shift = |(c, d): (f64, &f64)| if *d > 0.0 { c / d } else { 0.0 };
        self.center.iter().copied().chain(std::iter::repeat(0.0)).zip(&self.deviation).map(shift).collect()
    }

    /// What an indicator's value of 1 is in units of its deviation; 0 for a constant one.
    fn indicator_unit(&self, indicator: usize) -> f64 {
        let deviation = self.deviation[self.n_numbers + indicator];
        if deviation > 0.0 { 1.0 / deviation } else { 0.0 }
    }

    /// A point of the optimiser as rows read it.
    pub(super) fn row_coefficients(&self, point: &[f64]) -> Coefficients {
        let mut dense = vec![0.0; self.width()];
        dense[..self.n_numbers].copy_from_slice(&point[..self.n_numbers]);
        dense[self.n_numbers] = point[self.intercept()];
        let mut indicators: Vec<f64> =
            (0..self.n_indicators).map(|j| point[self.n_numbers + j] * self.indicator_unit(j)).collect();
        indicators.push(0.0);
        Coefficients { dense, indicators }
    }

    /// The mean gradient by the optimiser's coordinates.
    pub(super) fn gradient(&self, sums: &GradientSums) -> Vec<f64> {
        let n = self.total_weight;
        let mut gradient = Vec::with_capacity(self.n_coordinates());
        gradient.extend(sums.dense[..self.n_numbers].iter().map(|g| g / n));
        gradient.extend((0..self.n_indicators).map(|j| sums.indicators[j] * self.indicator_unit(j) / n));
        gradient.push(sums.dense[self.n_numbers] / n);
        gradient
    }

    /// Puts the parts of the sums together and divides by deviations and the total weight: `[n_coordinates,
    /// n_coordinates]`, row-major and symmetric.
    pub(super) fn hessian(&self, sums: &HessianSums) -> Vec<f64> {
        let (d, n, p, width) = (self.n_coordinates(), self.total_weight, self.n_numbers, self.width());
        let mut hessian = vec![0.0; d * d];
        let mut set = |i: usize, j: usize, value: f64| {
            hessian[i * d + j] = value / n;
            hessian[j * d + i] = value / n;
        };
        let coordinate = |j: usize| if j == p { d - 1 } else { j };
        for i in 0..=p {
            for j in i..=p {
                set(coordinate(i), coordinate(j), sums.dense[i * width + j]);
            }
        }
        let slots = self.n_indicators + 1;
        for a in 0..self.n_indicators {
            let unit = self.indicator_unit(a);
            for j in 0..=p {
                set(p + a, coordinate(j), unit * sums.mixed[a * width + j]);
            }
            for b in a..self.n_indicators {
                set(p + a, p + b, unit * self.indicator_unit(b) * sums.indicators[a * slots + b]);
            }
        }
        hessian
    }
}

/// The columns in the order of coordinates, all numbers and then all indicators: their features and names.
pub(crate) fn columns_of(features: &[Feature]) -> Vec<(&Feature, String)> {
    let (numbers, others): (Vec<_>, Vec<_>) = features.iter().partition(|f| f.kind == FeatureKind::Number);
    let features = numbers.into_iter().chain(others);
    features.flat_map(|feature| feature.expanded_names().into_iter().map(move |name| (feature, name))).collect()
}

/// The columns of numbers, in order.
pub(super) fn number_columns(matrix: &Matrix) -> Vec<&[f64]> {
    fn number(values: &FeatureValues) -> Option<&[f64]> {
        match values {
            FeatureValues::Number(values) => Some(values),
            FeatureValues::Category(_) => None,
        }
    }
    matrix.x.values.iter().filter_map(number).collect()
}

/// The columns of categories, in order, each with how many indicators it has.
pub(super) fn category_columns(matrix: &Matrix) -> impl Iterator<Item = (&[u32], usize)> {
    matrix.x.features.iter().zip(&matrix.x.values).filter_map(|(feature, values)| match (&feature.kind, values) {
        (FeatureKind::Category { indicators, .. }, FeatureValues::Category(values)) => Some((&values[..], *indicators)),
        _ => None,
    })
}

/// Sums over rows, which those over other rows are added to.
pub(super) trait Sums: Sized {
    /// No rows' sums.
    fn zero(columns: &Columns) -> Self;

    /// Adds those of other rows.
    fn merge(&mut self, part: Self);

    /// How many numbers they are.
    fn n_numbers(columns: &Columns) -> usize;

    /// As numbers, to be sent.
    fn into_numbers(self) -> Vec<f64>;

    /// What [`Self::into_numbers`] gave for these columns; none of fewer numbers.
    fn from_numbers(columns: &Columns, all: &[f64]) -> Option<Self>;
}

impl Sums for GradientSums {
    fn zero(columns: &Columns) -> Self {
        Self { loss: 0.0, dense: vec![0.0; columns.width()], indicators: vec![0.0; columns.n_indicators + 1] }
    }

    fn merge(&mut self, part: Self) {
        self.loss += part.loss;
        add_into(&mut self.dense, &part.dense);
        add_into(&mut self.indicators, &part.indicators);
    }

    fn n_numbers(columns: &Columns) -> usize {
        1 + columns.width() + columns.n_indicators + 1
    }

    fn into_numbers(self) -> Vec<f64> {
        [vec![self.loss], self.dense, self.indicators].concat()
    }

    fn from_numbers(columns: &Columns, all: &[f64]) -> Option<Self> {
        let (loss, rest) = all.split_first()?;
        let (dense, indicators) = rest.split_at_checked(columns.width())?;
        Some(Self { loss: *loss, dense: dense.to_vec(), indicators: indicators.to_vec() })
    }
}

impl Sums for HessianSums {
    fn zero(columns: &Columns) -> Self {
        let (width, slots) = (columns.width(), columns.n_indicators + 1);
        Self { dense: vec![0.0; width * width], mixed: vec![0.0; slots * width], indicators: vec![0.0; slots * slots] }
    }

    fn merge(&mut self, part: Self) {
        add_into(&mut self.dense, &part.dense);
        add_into(&mut self.mixed, &part.mixed);
        add_into(&mut self.indicators, &part.indicators);
    }

    fn n_numbers(columns: &Columns) -> usize {
        let (width, slots) = (columns.width(), columns.n_indicators + 1);
        width * width + slots * width + slots * slots
    }

    fn into_numbers(self) -> Vec<f64> {
        [self.dense, self.mixed, self.indicators].concat()
    }

    fn from_numbers(columns: &Columns, all: &[f64]) -> Option<Self> {
        let width = columns.width();
        let (dense, rest) = all.split_at_checked(width * width)?;
        let (mixed, indicators) = rest.split_at_checked((columns.n_indicators + 1) * width)?;
        Some(Self { dense: dense.to_vec(), mixed: mixed.to_vec(), indicators: indicators.to_vec() })
    }
}
