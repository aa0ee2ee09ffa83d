//! The standardised rows of a fit, and the passes over them: loss with gradient, and Hessian.
//!
//! Numbers are a dense row-major block, centred when there is an intercept and divided by their deviation, with a
//! column of ones for the intercept behind them. Each category adds one index per row. Coordinates of the optimiser are
//! `[numbers | indicators | intercept]`, each in units of its column's deviation.

use std::ops::Range;

use rayon::prelude::*;

use crate::Result;
use crate::estimator::support::chunks::{add_into, fold_chunks};
use crate::estimator::support::math::{sigmoid, softplus};
use crate::estimator::support::training;
use crate::matrix::{FeatureKind, FeatureValues, Matrix};

/// Rows of one parallel chunk of a gradient pass.
const GRADIENT_CHUNK: usize = 4096;
/// Rows of one parallel chunk of a Hessian pass: larger, since each chunk sums a whole matrix of its own.
const HESSIAN_CHUNK: usize = 8192;
/// Rows whose margins are held at once inside a chunk: their values stay in the first cache.
const BLOCK: usize = 128;
/// Rows of the dense block are padded to a multiple of this, for vector instructions.
const LANES: usize = 4;

/// The rows of a fit. See the module's documentation.
#[derive(Debug)]
pub(super) struct Design {
    n_rows: usize,
    n_numbers: usize,
    n_indicators: usize,
    has_intercept: bool,
    /// Numbers, ones and padding, `[n_rows, width]`, row-major.
    dense: Vec<f64>,
    width: usize,
    /// Indicator numbers, `[n_rows, n_categories]`, row-major; `n_indicators` stands for none.
    indicators: Vec<u32>,
    n_categories: usize,
    label: Vec<f64>,
    /// What is taken off each number before scaling.
    center: Vec<f64>,
    /// The deviation of each coordinate but the intercept; 0 for constant columns, whose coefficients are 0.
    pub(super) deviation: Vec<f64>,
}

/// The loss at a point and its gradient, by the optimiser's coordinates.
#[derive(Debug, Clone)]
pub(super) struct Evaluation {
    pub(super) loss: f64,
    pub(super) gradient: Vec<f64>,
}

/// Weights as rows read them.
struct RowWeights {
    dense: Vec<f64>,
    /// By indicator, and a zero for none.
    indicators: Vec<f64>,
}

/// Sums of one chunk.
struct GradientSums {
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
    /// Missing numbers, labels other than 0 and 1, or one class only.
    pub(super) fn new(matrix: &Matrix, rows: &[u32], has_intercept: bool) -> Result<Self> {
        let label = training::binary_labels(matrix, rows)?;
        training::numbers_are_present(matrix, rows)?;
        let numbers = number_columns(matrix);
        let moments: Vec<(f64, f64)> = numbers.par_iter().map(|v| mean_and_deviation(v, rows)).collect();
        let mut design = Self {
            n_rows: rows.len(),
            n_numbers: numbers.len(),
            n_indicators: 0,
            has_intercept,
            dense: Vec::new(),
            width: (numbers.len() + 1).next_multiple_of(LANES),
            indicators: Vec::new(),
            n_categories: 0,
            label,
            center: moments.iter().map(|m| if has_intercept { m.0 } else { 0.0 }).collect(),
            deviation: moments.iter().map(|m| m.1).collect(),
        };
        design.gather_numbers(&numbers, rows);
        design.gather_categories(matrix, rows);
        Ok(design)
    }

    /// How many coordinates there are, the intercept's among them.
    pub(super) fn n_coordinates(&self) -> usize {
        self.n_numbers + self.n_indicators + 1
    }

    /// The coordinate of the intercept.
    pub(super) fn intercept(&self) -> usize {
        self.n_numbers + self.n_indicators
    }

    /// Whether a coordinate can be other than zero.
    pub(super) fn is_free(&self, coordinate: usize) -> bool {
        self.deviation.get(coordinate).map_or(self.has_intercept, |d| *d > 0.0)
    }

    /// The share of class 1.
    pub(super) fn positive_share(&self) -> f64 {
        self.label.iter().sum::<f64>() / self.n_rows as f64
    }

    /// Coefficients and intercept for raw columns from a point of the optimiser.
    pub(super) fn raw_coefficients(&self, point: &[f64]) -> (Vec<f64>, f64) {
        let coefficients: Vec<f64> =
            self.deviation.iter().zip(point).map(|(d, b)| if *d > 0.0 { b / d } else { 0.0 }).collect();
        let shift: f64 = self.center.iter().zip(&coefficients).map(|(c, b)| c * b).sum();
        (coefficients, point[self.intercept()] - shift)
    }

    /// Mean log loss and its gradient, in one pass.
    pub(super) fn evaluate(&self, point: &[f64]) -> Evaluation {
        let weights = self.row_weights(point);
        let zero =
            GradientSums { loss: 0.0, dense: vec![0.0; self.width], indicators: vec![0.0; self.n_indicators + 1] };
        let sums = fold_chunks(
            self.n_rows,
            GRADIENT_CHUNK,
            zero,
            |range| self.gradient_of(range, &weights),
            |into, part| {
                into.loss += part.loss;
                add_into(&mut into.dense, &part.dense);
                add_into(&mut into.indicators, &part.indicators);
            },
        );
        let n = self.n_rows as f64;
        let mut gradient = Vec::with_capacity(self.n_coordinates());
        gradient.extend(sums.dense[..self.n_numbers].iter().map(|g| g / n));
        gradient.extend((0..self.n_indicators).map(|j| sums.indicators[j] * self.indicator_unit(j) / n));
        gradient.push(sums.dense[self.n_numbers] / n);
        Evaluation { loss: sums.loss / n, gradient }
    }

    /// The Hessian of the mean log loss, `[n_coordinates, n_coordinates]`, row-major and symmetric.
    pub(super) fn hessian(&self, point: &[f64]) -> Vec<f64> {
        let weights = self.row_weights(point);
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
            |range| self.hessian_of(range, &weights, zero()),
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

    fn gather_categories(&mut self, matrix: &Matrix, rows: &[u32]) {
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
        let mut indices = Vec::with_capacity(rows.len() * columns.len());
        let mut counts = vec![0u64; self.n_indicators + 1];
        for &row in rows {
            for (values, offset, size) in &columns {
                let index = values[row as usize] as usize;
                let slot = if index < *size { (offset + index) as u32 } else { none };
                counts[slot as usize] += 1;
                indices.push(slot);
            }
        }
        self.indicators = indices;
        let n = rows.len() as f64;
        self.deviation.extend(counts[..self.n_indicators].iter().map(|&count| {
            let share = count as f64 / n;
            (share * (1.0 - share) * n / (n - 1.0)).sqrt()
        }));
    }

    /// What an indicator's value of 1 is in units of its deviation; 0 for a constant one.
    fn indicator_unit(&self, indicator: usize) -> f64 {
        let deviation = self.deviation[self.n_numbers + indicator];
        if deviation > 0.0 { 1.0 / deviation } else { 0.0 }
    }

    fn row_weights(&self, point: &[f64]) -> RowWeights {
        let mut dense = vec![0.0; self.width];
        dense[..self.n_numbers].copy_from_slice(&point[..self.n_numbers]);
        dense[self.n_numbers] = point[self.intercept()];
        let mut indicators: Vec<f64> =
            (0..self.n_indicators).map(|j| point[self.n_numbers + j] * self.indicator_unit(j)).collect();
        indicators.push(0.0);
        RowWeights { dense, indicators }
    }

    /// The margins of the rows of a block.
    fn margins(&self, rows: Range<usize>, weights: &RowWeights, into: &mut [f64]) {
        let dense = self.dense[rows.start * self.width..rows.end * self.width].chunks_exact(self.width);
        for (z, x) in into.iter_mut().zip(dense) {
            *z = dot(x, &weights.dense);
        }
        if self.n_categories > 0 {
            let indicators = self.indicator_rows(rows);
            for (z, slots) in into.iter_mut().zip(indicators) {
                for &slot in slots {
                    *z += weights.indicators[slot as usize];
                }
            }
        }
    }

    fn indicator_rows(&self, rows: Range<usize>) -> std::slice::ChunksExact<'_, u32> {
        let k = self.n_categories;
        self.indicators[rows.start * k..rows.end * k].chunks_exact(k.max(1))
    }

    fn gradient_of(&self, rows: Range<usize>, weights: &RowWeights) -> GradientSums {
        let mut sums =
            GradientSums { loss: 0.0, dense: vec![0.0; self.width], indicators: vec![0.0; self.n_indicators + 1] };
        let mut block = [0.0; BLOCK];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            let residuals = &mut block[..range.len()];
            self.margins(range.clone(), weights, residuals);
            sums.loss += residuals_in_place(residuals, &self.label[range.clone()]);
            self.add_gradient(range, residuals, &mut sums);
        }
        sums
    }

    fn add_gradient(&self, rows: Range<usize>, residuals: &[f64], sums: &mut GradientSums) {
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

    fn hessian_of(&self, rows: Range<usize>, weights: &RowWeights, mut sums: HessianSums) -> HessianSums {
        let mut block = [0.0; BLOCK];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            let curvature = &mut block[..range.len()];
            self.margins(range.clone(), weights, curvature);
            for v in curvature.iter_mut() {
                let p = sigmoid(*v);
                *v = p * (1.0 - p);
            }
            let dense = &self.dense[range.start * self.width..range.end * self.width];
            add_dense_products(dense, curvature, self.width, &mut sums.dense);
            self.add_indicator_products(range, curvature, &mut sums);
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
        let (d, n, p) = (self.n_coordinates(), self.n_rows as f64, self.n_numbers);
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

/// Replaces margins by `p - label` and returns the sum of the losses.
fn residuals_in_place(margins: &mut [f64], labels: &[f64]) -> f64 {
    let mut loss = 0.0;
    for (z, y) in margins.iter_mut().zip(labels) {
        loss += softplus(*z) - y * *z;
        *z = sigmoid(*z) - y;
    }
    loss
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

/// The mean and the sample deviation of a column's rows; a deviation of 0 for a column that is constant.
fn mean_and_deviation(column: &[f64], rows: &[u32]) -> (f64, f64) {
    let n = rows.len() as f64;
    let mean = rows.iter().map(|&r| column[r as usize]).sum::<f64>() / n;
    let first = column[rows[0] as usize];
    if rows.iter().all(|&r| column[r as usize] == first) {
        return (first, 0.0);
    }
    let squares: f64 = rows.iter().map(|&r| (column[r as usize] - mean) * (column[r as usize] - mean)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}
