//! The standardised rows of a fit, and the passes over them: loss with gradient, and Hessian.
//!
//! Means and deviations are weighted as Spark ML's summarizer does: the variance of a column is
//! `sum w (x - mean)^2 / (W - sum w^2 / W)` with `W = sum w`, the sample variance where all rows weigh alike.
//!
//! Numbers are a dense row-major block, centred when there is an intercept and divided by their deviation, with a
//! column of ones for the intercept behind them. Each category adds one index per row. Coordinates of the optimiser are
//! `[numbers | indicators | intercept]`, each in units of its column's deviation.

use std::ops::Range;

use rayon::prelude::*;

use super::RowLoss;
use crate::Result;
use crate::estimator::support::chunks::{add_into, fold_chunks};
use crate::estimator::support::training;
use crate::matrix::{FeatureKind, FeatureValues, Matrix};

/// Rows of one parallel chunk of a gradient pass.
pub(super) const GRADIENT_CHUNK: usize = 4096;
/// Rows of one parallel chunk of a Hessian pass: larger, since each chunk sums a whole matrix of its own.
const HESSIAN_CHUNK: usize = 8192;
/// Rows whose margins are held at once inside a chunk: their values stay in the first cache.
pub(super) const BLOCK: usize = 128;
/// Rows of the dense block are padded to a multiple of this, for vector instructions.
const LANES: usize = 4;

/// The rows to train on, without those of weight 0.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Their numbers in the matrix, ascending.
    pub(crate) numbers: Vec<u32>,
    /// Their weights, above 0; none when all count alike.
    pub(crate) weight: Option<Vec<f64>>,
}

impl Rows {
    /// The rows of `rows` that have a weight.
    ///
    /// # Errors
    /// Weights that are negative, NaN or infinite, or that are all 0.
    pub(crate) fn new(matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        let Some(weight) = training::weights(matrix, rows)? else {
            return Ok(Self { numbers: rows.to_vec(), weight: None });
        };
        let (numbers, weight) = rows.iter().zip(weight).filter(|(_, w)| *w > 0.0).unzip();
        Ok(Self { numbers, weight: Some(weight) })
    }

    /// The weight of the row at a place.
    pub(crate) fn weight(&self, place: usize) -> f64 {
        self.weight.as_ref().map_or(1.0, |w| w[place])
    }

    /// The sum of the weights.
    pub(crate) fn total(&self) -> f64 {
        self.weight.as_ref().map_or(self.numbers.len() as f64, |w| w.iter().sum())
    }

    /// The total, and what divides sums of squares: the total less one where all rows weigh alike.
    fn totals(&self) -> (f64, f64) {
        let total = self.total();
        let squares = self.weight.as_ref().map_or(total, |w| w.iter().map(|w| w * w).sum());
        (total, total - squares / total)
    }

    /// The weighted mean of a value for each row.
    pub(crate) fn mean(&self, values: &[f64]) -> f64 {
        values.iter().enumerate().map(|(i, v)| self.weight(i) * v).sum::<f64>() / self.total()
    }
}

/// The rows of a fit. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Design {
    n_rows: usize,
    /// The rows' weights; none when all count alike.
    weight: Option<Vec<f64>>,
    /// The sum of the weights.
    total_weight: f64,
    /// What divides sums of squares in a variance.
    freedom: f64,
    n_numbers: usize,
    n_indicators: usize,
    has_intercept: bool,
    /// Numbers, ones and padding, `[n_rows, width]`, row-major.
    dense: Vec<f64>,
    width: usize,
    /// Indicator numbers, `[n_rows, n_categories]`, row-major; `n_indicators` stands for none.
    indicators: Vec<u32>,
    n_categories: usize,
    /// What is taken off each number before scaling.
    center: Vec<f64>,
    /// The deviation of each coordinate but the intercept; 0 for constant columns, whose coefficients are 0.
    pub(crate) deviation: Vec<f64>,
}

/// The loss at a point and its gradient, by the optimiser's coordinates.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    pub(crate) loss: f64,
    pub(crate) gradient: Vec<f64>,
}

/// A point of the optimiser as rows read it.
pub(super) struct Coefficients {
    dense: Vec<f64>,
    /// By indicator, and a zero for none.
    indicators: Vec<f64>,
}

/// Sums of one chunk.
pub(super) struct GradientSums {
    loss: f64,
    dense: Vec<f64>,
    indicators: Vec<f64>,
}

struct HessianSums {
    dense: Vec<f64>,
    mixed: Vec<f64>,
    indicators: Vec<f64>,
}

impl Design {
    /// Gathers and standardises rows.
    ///
    /// # Errors
    /// Missing numbers.
    pub(crate) fn new(matrix: &Matrix, rows: &Rows, has_intercept: bool) -> Result<Self> {
        training::numbers_are_present(matrix, &rows.numbers)?;
        let numbers = number_columns(matrix);
        let moments: Vec<(f64, f64)> = numbers.par_iter().map(|v| mean_and_deviation(v, rows)).collect();
        let (total_weight, freedom) = rows.totals();
        let mut design = Self {
            n_rows: rows.numbers.len(),
            weight: rows.weight.clone(),
            total_weight,
            freedom,
            n_numbers: numbers.len(),
            n_indicators: 0,
            has_intercept,
            dense: Vec::new(),
            width: (numbers.len() + 1).next_multiple_of(LANES),
            indicators: Vec::new(),
            n_categories: 0,
            center: moments.iter().map(|m| if has_intercept { m.0 } else { 0.0 }).collect(),
            deviation: moments.iter().map(|m| m.1).collect(),
        };
        design.gather_numbers(&numbers, &rows.numbers);
        design.gather_categories(matrix, rows);
        Ok(design)
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(super) fn total_weight(&self) -> f64 {
        self.total_weight
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

    /// The weighted mean loss and its gradient, in one pass; the rows' labels are in the order of the rows.
    pub(crate) fn evaluate<L: RowLoss>(&self, loss: &L, label: &[f64], point: &[f64]) -> Evaluation {
        let coefficients = self.row_coefficients(point);
        let sums = fold_chunks(
            self.n_rows,
            GRADIENT_CHUNK,
            self.no_gradient(),
            |range| self.gradient_of(range, loss, label, &coefficients),
            GradientSums::merge,
        );
        Evaluation { loss: sums.loss / self.total_weight, gradient: self.gradient(&sums) }
    }

    /// The Hessian of the weighted mean loss, `[n_coordinates, n_coordinates]`, row-major and symmetric, from the
    /// curvature of a margin and a label.
    pub(crate) fn hessian(&self, curvature: impl Fn(f64, f64) -> f64 + Sync, label: &[f64], point: &[f64]) -> Vec<f64> {
        let coefficients = self.row_coefficients(point);
        let slots = self.n_indicators + 1;
        let zero = || HessianSums {
            dense: vec![0.0; self.width * self.width],
            mixed: vec![0.0; slots * self.width],
            indicators: vec![0.0; slots * slots],
        };
        let sums = fold_chunks(
            self.n_rows,
            HESSIAN_CHUNK,
            zero(),
            |range| self.hessian_of(range, &curvature, label, &coefficients, zero()),
            |into, part| {
                add_into(&mut into.dense, &part.dense);
                add_into(&mut into.mixed, &part.mixed);
                add_into(&mut into.indicators, &part.indicators);
            },
        );
        self.assemble(&sums)
    }

    fn gather_numbers(&mut self, numbers: &[&[f64]], rows: &[u32]) {
        let (width, n_numbers) = (self.width, self.n_numbers);
        let mut dense = vec![0.0; self.n_rows * width];
        let scale: Vec<f64> = self.deviation.iter().map(|d| if *d > 0.0 { 1.0 / d } else { 0.0 }).collect();
        let one = if self.has_intercept { 1.0 } else { 0.0 };
        dense.par_chunks_mut(width).zip(rows.par_iter()).with_min_len(GRADIENT_CHUNK).for_each(|(into, &row)| {
            for (j, column) in numbers.iter().enumerate() {
                into[j] = (column[row as usize] - self.center[j]) * scale[j];
            }
            into[n_numbers] = one;
        });
        self.dense = dense;
    }

    fn gather_categories(&mut self, matrix: &Matrix, rows: &Rows) {
        let mut columns: Vec<(&[u32], usize, usize)> = Vec::new();
        for (feature, values) in matrix.x.features.iter().zip(&matrix.x.values) {
            if let (FeatureKind::Category { indicators, .. }, FeatureValues::Category(values)) = (&feature.kind, values)
            {
                columns.push((&values[..], self.n_indicators, *indicators));
                self.n_indicators += indicators;
            }
        }
        self.n_categories = columns.len();
        let none = self.n_indicators as u32;
        let mut indices = Vec::with_capacity(rows.numbers.len() * columns.len());
        let mut sums = vec![0.0; self.n_indicators + 1];
        let mut counts = vec![0; self.n_indicators + 1];
        for (place, &row) in rows.numbers.iter().enumerate() {
            for (values, offset, size) in &columns {
                let index = values[row as usize] as usize;
                let slot = if index < *size { (offset + index) as u32 } else { none };
                sums[slot as usize] += rows.weight(place);
                counts[slot as usize] += 1;
                indices.push(slot);
            }
        }
        self.indicators = indices;
        let (n, freedom, n_rows) = (self.total_weight, self.freedom, self.n_rows);
        self.deviation.extend(sums.iter().zip(counts).take(self.n_indicators).map(|(sum, count)| {
            let share = sum / n;
            // Weighted sums round: whether an indicator is constant is told by the rows.
            if count == 0 || count == n_rows { 0.0 } else { (share * (1.0 - share) * n / freedom).max(0.0).sqrt() }
        }));
    }

    /// What an indicator's value of 1 is in units of its deviation; 0 for a constant one.
    fn indicator_unit(&self, indicator: usize) -> f64 {
        let deviation = self.deviation[self.n_numbers + indicator];
        if deviation > 0.0 { 1.0 / deviation } else { 0.0 }
    }

    pub(super) fn row_coefficients(&self, point: &[f64]) -> Coefficients {
        let mut dense = vec![0.0; self.width];
        dense[..self.n_numbers].copy_from_slice(&point[..self.n_numbers]);
        dense[self.n_numbers] = point[self.intercept()];
        let mut indicators: Vec<f64> =
            (0..self.n_indicators).map(|j| point[self.n_numbers + j] * self.indicator_unit(j)).collect();
        indicators.push(0.0);
        Coefficients { dense, indicators }
    }

    /// The margins of the rows of a block.
    pub(super) fn margins(&self, rows: Range<usize>, coefficients: &Coefficients, into: &mut [f64]) {
        let dense = self.dense[rows.start * self.width..rows.end * self.width].chunks_exact(self.width);
        for (z, x) in into.iter_mut().zip(dense) {
            *z = dot(x, &coefficients.dense);
        }
        if self.n_categories > 0 {
            let indicators = self.indicator_rows(rows);
            for (z, slots) in into.iter_mut().zip(indicators) {
                for &slot in slots {
                    *z += coefficients.indicators[slot as usize];
                }
            }
        }
    }

    pub(super) fn weights_of(&self, rows: Range<usize>) -> Option<&[f64]> {
        self.weight.as_ref().map(|w| &w[rows])
    }

    fn indicator_rows(&self, rows: Range<usize>) -> std::slice::ChunksExact<'_, u32> {
        let k = self.n_categories;
        self.indicators[rows.start * k..rows.end * k].chunks_exact(k.max(1))
    }

    pub(super) fn no_gradient(&self) -> GradientSums {
        GradientSums { loss: 0.0, dense: vec![0.0; self.width], indicators: vec![0.0; self.n_indicators + 1] }
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

    fn gradient_of<L: RowLoss>(
        &self,
        rows: Range<usize>,
        loss: &L,
        label: &[f64],
        coefficients: &Coefficients,
    ) -> GradientSums {
        let mut sums = self.no_gradient();
        let mut block = [0.0; BLOCK];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            let residuals = &mut block[..range.len()];
            self.margins(range.clone(), coefficients, residuals);
            sums.loss += slopes_in_place(loss, residuals, &label[range.clone()], self.weights_of(range.clone()));
            self.add_gradient(range, residuals, &mut sums);
        }
        sums
    }

    pub(super) fn add_gradient(&self, rows: Range<usize>, residuals: &[f64], sums: &mut GradientSums) {
        let dense = self.dense[rows.start * self.width..rows.end * self.width].chunks_exact(self.width);
        for (r, x) in residuals.iter().zip(dense) {
            for (g, x) in sums.dense.iter_mut().zip(x) {
                *g += r * x;
            }
        }
        for (r, slots) in residuals.iter().zip(self.indicator_rows(rows)) {
            for &slot in slots {
                sums.indicators[slot as usize] += r;
            }
        }
    }

    fn hessian_of(
        &self,
        rows: Range<usize>,
        curvature: &impl Fn(f64, f64) -> f64,
        label: &[f64],
        coefficients: &Coefficients,
        mut sums: HessianSums,
    ) -> HessianSums {
        let mut block = [0.0; BLOCK];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            let curvatures = &mut block[..range.len()];
            self.margins(range.clone(), coefficients, curvatures);
            curvatures.iter_mut().zip(&label[range.clone()]).for_each(|(z, y)| *z = curvature(*z, *y));
            multiply(curvatures, self.weights_of(range.clone()));
            let dense = &self.dense[range.start * self.width..range.end * self.width];
            add_dense_products(dense, curvatures, self.width, &mut sums.dense);
            self.add_indicator_products(range, curvatures, &mut sums);
        }
        sums
    }

    fn add_indicator_products(&self, rows: Range<usize>, curvature: &[f64], sums: &mut HessianSums) {
        let (width, slots) = (self.width, self.n_indicators + 1);
        let dense = self.dense[rows.start * width..rows.end * width].chunks_exact(width);
        for ((w, x), row) in curvature.iter().zip(dense).zip(self.indicator_rows(rows)) {
            for (k, &a) in row.iter().enumerate() {
                let a = a as usize;
                for (m, x) in sums.mixed[a * width..(a + 1) * width].iter_mut().zip(x) {
                    *m += w * x;
                }
                for &b in &row[k..] {
                    sums.indicators[a * slots + b as usize] += w;
                }
            }
        }
    }

    /// Puts the parts of the sums together and divides by deviations and the number of rows.
    fn assemble(&self, sums: &HessianSums) -> Vec<f64> {
        let (d, n, p) = (self.n_coordinates(), self.total_weight, self.n_numbers);
        let mut hessian = vec![0.0; d * d];
        let mut set = |i: usize, j: usize, value: f64| {
            hessian[i * d + j] = value / n;
            hessian[j * d + i] = value / n;
        };
        let coordinate = |j: usize| if j == p { d - 1 } else { j };
        for i in 0..=p {
            for j in i..=p {
                set(coordinate(i), coordinate(j), sums.dense[i * self.width + j]);
            }
        }
        let slots = self.n_indicators + 1;
        for a in 0..self.n_indicators {
            let unit = self.indicator_unit(a);
            for j in 0..=p {
                set(p + a, coordinate(j), unit * sums.mixed[a * self.width + j]);
            }
            for b in a..self.n_indicators {
                set(p + a, p + b, unit * self.indicator_unit(b) * sums.indicators[a * slots + b]);
            }
        }
        hessian
    }
}

impl GradientSums {
    pub(super) fn merge(&mut self, part: Self) {
        self.loss += part.loss;
        add_into(&mut self.dense, &part.dense);
        add_into(&mut self.indicators, &part.indicators);
    }
}

/// Replaces margins by their weighted slopes and returns the weighted sum of the losses.
fn slopes_in_place<L: RowLoss>(loss: &L, margins: &mut [f64], labels: &[f64], weights: Option<&[f64]>) -> f64 {
    let mut sum = 0.0;
    let Some(weights) = weights else {
        for (z, y) in margins.iter_mut().zip(labels) {
            let (loss, slope) = loss.loss_and_slope(*z, *y);
            sum += loss;
            *z = slope;
        }
        return sum;
    };
    for ((z, y), w) in margins.iter_mut().zip(labels).zip(weights) {
        let (loss, slope) = loss.loss_and_slope(*z, *y);
        sum += w * loss;
        *z = w * slope;
    }
    sum
}

fn multiply(values: &mut [f64], weights: Option<&[f64]>) {
    if let Some(weights) = weights {
        values.iter_mut().zip(weights).for_each(|(v, w)| *v *= w);
    }
}

/// A dot product of padded rows, in [`LANES`] running sums.
fn dot(x: &[f64], w: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (x, w) in x.chunks_exact(LANES).zip(w.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * w[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// Adds `sum of w x x'` over rows to the upper triangle of `into`, four rows at a time.
fn add_dense_products(rows: &[f64], curvature: &[f64], width: usize, into: &mut [f64]) {
    let mut quads = rows.chunks_exact(4 * width);
    let mut weights = curvature.chunks_exact(4);
    for (quad, w) in quads.by_ref().zip(weights.by_ref()) {
        let (x0, rest) = quad.split_at(width);
        let (x1, rest) = rest.split_at(width);
        let (x2, x3) = rest.split_at(width);
        for i in 0..width {
            let a = [w[0] * x0[i], w[1] * x1[i], w[2] * x2[i], w[3] * x3[i]];
            let from = i - i % LANES;
            let tail = x0[from..].iter().zip(&x1[from..]).zip(&x2[from..]).zip(&x3[from..]);
            for (m, (((x0, x1), x2), x3)) in into[i * width + from..(i + 1) * width].iter_mut().zip(tail) {
                *m += (a[0] * x0 + a[1] * x1) + (a[2] * x2 + a[3] * x3);
            }
        }
    }
    for (x, w) in quads.remainder().chunks_exact(width).zip(weights.remainder()) {
        for i in 0..width {
            let from = i - i % LANES;
            let a = w * x[i];
            for (m, x) in into[i * width + from..(i + 1) * width].iter_mut().zip(&x[from..]) {
                *m += a * x;
            }
        }
    }
}

fn number_columns(matrix: &Matrix) -> Vec<&[f64]> {
    matrix
        .x
        .values
        .iter()
        .filter_map(|v| match v {
            FeatureValues::Number(v) => Some(&v[..]),
            FeatureValues::Category(_) => None,
        })
        .collect()
}

/// The mean and the deviation of a column's rows; a deviation of 0 for a column that is constant.
fn mean_and_deviation(column: &[f64], rows: &Rows) -> (f64, f64) {
    let values = || rows.numbers.iter().map(|&r| column[r as usize]);
    let first = values().next().unwrap_or(0.0);
    if values().all(|v| v == first) {
        return (first, 0.0);
    }
    let (total, freedom) = rows.totals();
    let mean = values().enumerate().map(|(i, v)| rows.weight(i) * v).sum::<f64>() / total;
    let squares: f64 = values().enumerate().map(|(i, v)| rows.weight(i) * ((v - mean) * (v - mean))).sum();
    (mean, (squares / freedom).sqrt())
}
