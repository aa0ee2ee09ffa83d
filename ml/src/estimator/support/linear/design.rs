//! The standardised rows of a fit in memory, and the passes over them: loss with gradient, and Hessian.
//!
//! Numbers are a dense row-major block, centred when there is an intercept and divided by their deviation, with a
//! column of ones for the intercept behind them. Each category adds one index per row.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::columns::{Columns, Sums, category_columns, number_columns};
use super::{ClassEvaluation, LabelMoments, Moments, Passes, RowLoss};
use crate::Result;
use crate::estimator::support::chunks::fold_chunks;
use crate::estimator::support::training;
use crate::estimator::support::vectors::in_wide_vectors;
use crate::matrix::Matrix;

/// Rows of one parallel chunk of a gradient pass.
pub(super) const GRADIENT_CHUNK: usize = 4096;
/// Rows of one parallel chunk of a Hessian pass: larger, since each chunk sums a whole matrix of its own.
const HESSIAN_CHUNK: usize = 8192;
/// Rows whose margins are held at once inside a chunk: their values stay in the first cache.
pub(super) const BLOCK: usize = 128;
/// Rows of the dense block are padded to a multiple of this, for vector instructions.
pub(super) const LANES: usize = 4;

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

    /// The rows of `rows` that have a weight, and how many have a wrong one.
    pub(super) fn counted(matrix: &Matrix, rows: &[u32]) -> (Self, usize) {
        let Some(all) = &matrix.weight else { return (Self { numbers: rows.to_vec(), weight: None }, 0) };
        let weights = || rows.iter().map(|&r| (r, all[r as usize]));
        let (numbers, weight) = weights().filter(|(_, w)| *w > 0.0).unzip();
        let wrong = weights().filter(|(_, w)| !training::is_weight(*w)).count();
        (Self { numbers, weight: Some(weight) }, wrong)
    }

    /// The weight of the row at a place.
    pub(crate) fn weight(&self, place: usize) -> f64 {
        self.weight.as_ref().map_or(1.0, |w| w[place])
    }

    /// The sum of the weights.
    pub(crate) fn total(&self) -> f64 {
        self.weight.as_ref().map_or(self.numbers.len() as f64, |w| w.iter().sum())
    }
}

/// The rows of a fit. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Design {
    columns: Columns,
    labels: LabelMoments,
    /// The rows' labels; of a multiclass problem, the numbers of their classes.
    label: Arc<[f64]>,
    n_rows: usize,
    /// The rows' weights; none when all count alike.
    weight: Option<Vec<f64>>,
    /// Numbers, ones and padding, `[n_rows, width]`, row-major.
    dense: Vec<f64>,
    /// Indicator numbers, `[n_rows, n_categories]`, row-major; `n_indicators` stands for none.
    indicators: Vec<u32>,
    n_categories: usize,
}

/// The loss at a point and its gradient, by the optimiser's coordinates.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    pub(crate) loss: f64,
    pub(crate) gradient: Vec<f64>,
}

/// A point of the optimiser as rows read it.
pub(super) struct Coefficients {
    pub(super) dense: Vec<f64>,
    /// By indicator, and a zero for none.
    pub(super) indicators: Vec<f64>,
}

/// Sums over rows that a loss and its gradient are made of.
pub(super) struct GradientSums {
    pub(super) loss: f64,
    pub(super) dense: Vec<f64>,
    pub(super) indicators: Vec<f64>,
}

/// Sums over rows that a Hessian is made of: of dense columns, of indicators with dense columns, of indicators.
pub(super) struct HessianSums {
    pub(super) dense: Vec<f64>,
    pub(super) mixed: Vec<f64>,
    pub(super) indicators: Vec<f64>,
}

impl Design {
    /// Gathers and standardises rows; labels are in their order.
    ///
    /// # Errors
    /// Missing numbers.
    pub(crate) fn new(matrix: &Matrix, rows: &Rows, label: &Arc<[f64]>, has_intercept: bool) -> Result<Self> {
        training::numbers_are_present(matrix, &rows.numbers)?;
        let moments = Moments::of(matrix, rows, label);
        let columns = Columns::new(&moments, has_intercept);
        Ok(Self::gather(matrix, rows, Arc::clone(label), columns, moments.label()))
    }

    /// Gathers rows and standardises them as `columns` says.
    pub(super) fn gather(
        matrix: &Matrix,
        rows: &Rows,
        label: Arc<[f64]>,
        columns: Columns,
        labels: LabelMoments,
    ) -> Self {
        let mut design = Self {
            columns,
            labels,
            label,
            n_rows: rows.numbers.len(),
            weight: rows.weight.clone(),
            dense: Vec::new(),
            indicators: Vec::new(),
            n_categories: category_columns(matrix).count(),
        };
        design.gather_numbers(&number_columns(matrix), &rows.numbers);
        design.gather_categories(matrix, &rows.numbers);
        design
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The bytes that it takes.
    pub(super) fn size_bytes(&self) -> usize {
        let weights = self.weight.as_ref().map_or(0, Vec::len);
        8 * (self.dense.len() + self.label.len() + weights) + 4 * self.indicators.len()
    }

    /// By point, sums of the loss and its gradient over the rows. A point's do not depend on those beside it.
    pub(super) fn gradient_sums<L: RowLoss>(&self, loss: &L, points: &[Vec<f64>]) -> Vec<GradientSums> {
        let coefficients = self.coefficients(points);
        let zero = || self.zero_gradients(points.len());
        fold_chunks(
            self.n_rows,
            GRADIENT_CHUNK,
            zero(),
            |range| gradients(self, range, loss, &coefficients, zero()),
            |into: &mut Vec<_>, part| merge_all(into, part),
        )
    }

    /// Sums of the Hessian over the rows, from the curvature of a margin and a number of the row.
    pub(super) fn hessian_sums(
        &self,
        curvature: impl Fn(f64, f64) -> f64 + Sync,
        of_row: &[f64],
        point: &[f64],
    ) -> HessianSums {
        let coefficients = self.columns.row_coefficients(point);
        fold_chunks(
            self.n_rows,
            HESSIAN_CHUNK,
            HessianSums::zero(&self.columns),
            |range| hessian(self, range, &curvature, of_row, &coefficients),
            HessianSums::merge,
        )
    }

    /// The same of a loss.
    pub(super) fn hessian_sums_of<L: RowLoss>(&self, loss: &L, point: &[f64]) -> HessianSums {
        self.hessian_sums(|margin, label| loss.curvature(margin, label), &self.label, point)
    }

    fn gather_numbers(&mut self, numbers: &[&[f64]], rows: &[u32]) {
        let (width, n_numbers) = (self.columns.width(), self.columns.n_numbers);
        let Columns { center, deviation, has_intercept, .. } = &self.columns;
        let mut dense = vec![0.0; self.n_rows * width];
        let scale: Vec<f64> = deviation.iter().map(|d| if *d > 0.0 { 1.0 / d } else { 0.0 }).collect();
        let one = if *has_intercept { 1.0 } else { 0.0 };
        dense.par_chunks_mut(width).zip(rows.par_iter()).with_min_len(GRADIENT_CHUNK).for_each(|(into, &row)| {
            for (j, column) in numbers.iter().enumerate() {
                into[j] = (column[row as usize] - center[j]) * scale[j];
            }
            into[n_numbers] = one;
        });
        self.dense = dense;
    }

    fn gather_categories(&mut self, matrix: &Matrix, rows: &[u32]) {
        let none = self.columns.n_indicators as u32;
        let mut indices = vec![none; rows.len() * self.n_categories];
        let mut offset = 0;
        for (k, (values, size)) in category_columns(matrix).enumerate() {
            for (into, &row) in indices.iter_mut().skip(k).step_by(self.n_categories).zip(rows) {
                let index = values[row as usize] as usize;
                if index < size {
                    *into = (offset + index) as u32;
                }
            }
            offset += size;
        }
        self.indicators = indices;
    }

    /// Points as rows read them.
    pub(super) fn coefficients(&self, points: &[Vec<f64>]) -> Vec<Coefficients> {
        points.iter().map(|point| self.columns.row_coefficients(point)).collect()
    }

    /// Sums of no rows for so many points.
    pub(super) fn zero_gradients(&self, n_points: usize) -> Vec<GradientSums> {
        (0..n_points).map(|_| GradientSums::zero(&self.columns)).collect()
    }

    /// The margins of the rows of a block.
    #[inline(always)]
    pub(super) fn margins(&self, rows: Range<usize>, coefficients: &Coefficients, into: &mut [f64]) {
        let width = self.columns.width();
        let dense = self.dense[rows.start * width..rows.end * width].chunks_exact(width);
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

    pub(super) fn labels_of(&self, rows: Range<usize>) -> &[f64] {
        &self.label[rows]
    }

    pub(super) fn weights_of(&self, rows: Range<usize>) -> Option<&[f64]> {
        self.weight.as_ref().map(|w| &w[rows])
    }

    fn indicator_rows(&self, rows: Range<usize>) -> std::slice::ChunksExact<'_, u32> {
        let k = self.n_categories;
        self.indicators[rows.start * k..rows.end * k].chunks_exact(k.max(1))
    }

    #[inline(always)]
    fn gradients_of<L: RowLoss>(
        &self,
        rows: Range<usize>,
        loss: &L,
        coefficients: &[Coefficients],
        mut sums: Vec<GradientSums>,
    ) -> Vec<GradientSums> {
        let mut block = [0.0; BLOCK];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            let residuals = &mut block[..range.len()];
            for (coefficients, sums) in coefficients.iter().zip(&mut sums) {
                self.margins(range.clone(), coefficients, residuals);
                let (labels, weights) = (&self.label[range.clone()], self.weights_of(range.clone()));
                sums.loss += slopes_in_place(loss, residuals, labels, weights);
                self.add_gradient(range.clone(), residuals, sums);
            }
        }
        sums
    }

    #[inline(always)]
    pub(super) fn add_gradient(&self, rows: Range<usize>, residuals: &[f64], sums: &mut GradientSums) {
        let width = self.columns.width();
        add_multiplied_rows(&self.dense[rows.start * width..rows.end * width], residuals, &mut sums.dense);
        for (r, slots) in residuals.iter().zip(self.indicator_rows(rows)) {
            for &slot in slots {
                sums.indicators[slot as usize] += r;
            }
        }
    }

    #[inline(always)]
    fn hessian_of(
        &self,
        rows: Range<usize>,
        curvature: &impl Fn(f64, f64) -> f64,
        of_row: &[f64],
        coefficients: &Coefficients,
    ) -> HessianSums {
        let mut sums = HessianSums::zero(&self.columns);
        let width = self.columns.width();
        let mut block = [0.0; BLOCK];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            let curvatures = &mut block[..range.len()];
            self.margins(range.clone(), coefficients, curvatures);
            curvatures.iter_mut().zip(&of_row[range.clone()]).for_each(|(z, y)| *z = curvature(*z, *y));
            multiply(curvatures, self.weights_of(range.clone()));
            let dense = &self.dense[range.start * width..range.end * width];
            add_dense_products(dense, curvatures, width, &mut sums.dense);
            self.add_indicator_products(range, curvatures, &mut sums);
        }
        sums
    }

    #[inline(always)]
    fn add_indicator_products(&self, rows: Range<usize>, curvature: &[f64], sums: &mut HessianSums) {
        let (width, slots) = (self.columns.width(), self.columns.n_indicators + 1);
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
}

impl Passes for Design {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn labels(&self) -> LabelMoments {
        self.labels
    }

    fn evaluate<L: RowLoss>(&self, loss: &L, points: &[Vec<f64>]) -> Result<Vec<Evaluation>> {
        let sums = self.gradient_sums(loss, points);
        Ok(sums.iter().map(|sums| Evaluation::new(&self.columns, sums)).collect())
    }

    fn hessian<L: RowLoss>(&self, loss: &L, point: &[f64]) -> Result<Vec<f64>> {
        Ok(self.columns.hessian(&self.hessian_sums_of(loss, point)))
    }

    fn evaluate_classes(&self, places: &[u32], points: &[Vec<f64>]) -> Result<ClassEvaluation> {
        Ok(ClassEvaluation::new(&self.columns, &self.class_gradient_sums(places, points)))
    }

    fn class_hessians(&self, points: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
        let sums = self.class_hessian_sums(points, 0..points.len());
        Ok(sums.map(|sums| self.columns.hessian(&sums)).collect())
    }
}

impl Evaluation {
    /// The mean loss and the mean gradient of sums.
    pub(super) fn new(columns: &Columns, sums: &GradientSums) -> Self {
        Self { loss: sums.loss / columns.total_weight, gradient: columns.gradient(sums) }
    }
}

in_wide_vectors! {
    fn gradients<L: RowLoss>(
        design: &Design,
        rows: Range<usize>,
        loss: &L,
        coefficients: &[Coefficients],
        sums: Vec<GradientSums>,
    ) -> Vec<GradientSums> {
        design.gradients_of(rows, loss, coefficients, sums)
    }
}

in_wide_vectors! {
    fn hessian<C: Fn(f64, f64) -> f64>(
        design: &Design,
        rows: Range<usize>,
        curvature: &C,
        of_row: &[f64],
        coefficients: &Coefficients,
    ) -> HessianSums {
        design.hessian_of(rows, curvature, of_row, coefficients)
    }
}

/// Adds the sums over other rows, point by point.
pub(super) fn merge_all(into: &mut [GradientSums], part: Vec<GradientSums>) {
    into.iter_mut().zip(part).for_each(|(into, part)| into.merge(part));
}

/// Replaces margins by their weighted slopes and returns the weighted sum of the losses.
#[inline(always)]
fn slopes_in_place<L: RowLoss>(loss: &L, margins: &mut [f64], labels: &[f64], weights: Option<&[f64]>) -> f64 {
    // Losses are added up behind the loop: a running sum in it would keep it from vector instructions.
    let mut block = [0.0; BLOCK];
    let losses = &mut block[..labels.len()];
    for ((z, y), of_row) in margins.iter_mut().zip(labels).zip(&mut *losses) {
        (*of_row, *z) = loss.loss_and_slope(*z, *y);
    }
    multiply(losses, weights);
    multiply(margins, weights);
    losses.iter().sum()
}

#[inline(always)]
fn multiply(values: &mut [f64], weights: Option<&[f64]>) {
    if let Some(weights) = weights {
        values.iter_mut().zip(weights).for_each(|(v, w)| *v *= w);
    }
}

/// A dot product of padded rows, in [`LANES`] running sums.
#[inline(always)]
fn dot(x: &[f64], w: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (x, w) in x.chunks_exact(LANES).zip(w.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * w[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// Adds the sum of rows times `factors`, four rows at a time.
#[inline(always)]
fn add_multiplied_rows(rows: &[f64], factors: &[f64], into: &mut [f64]) {
    let width = into.len();
    let mut quads = rows.chunks_exact(4 * width);
    let mut quads_of = factors.chunks_exact(4);
    for (quad, r) in quads.by_ref().zip(quads_of.by_ref()) {
        let [x0, x1, x2, x3] = rows_of(quad);
        for ((((g, x0), x1), x2), x3) in into.iter_mut().zip(x0).zip(x1).zip(x2).zip(x3) {
            *g += (r[0] * x0 + r[1] * x1) + (r[2] * x2 + r[3] * x3);
        }
    }
    for (x, r) in quads.remainder().chunks_exact(width).zip(quads_of.remainder()) {
        into.iter_mut().zip(x).for_each(|(g, x)| *g += r * x);
    }
}

/// The rows of a quad.
#[inline(always)]
fn rows_of(quad: &[f64]) -> [&[f64]; 4] {
    let width = quad.len() / 4;
    std::array::from_fn(|i| &quad[i * width..(i + 1) * width])
}

/// Adds `sum of w x x'` over rows to the upper triangle of `into`, four rows at a time.
#[inline(always)]
fn add_dense_products(rows: &[f64], curvature: &[f64], width: usize, into: &mut [f64]) {
    let mut quads = rows.chunks_exact(4 * width);
    let mut weights = curvature.chunks_exact(4);
    for (quad, w) in quads.by_ref().zip(weights.by_ref()) {
        let [x0, x1, x2, x3] = rows_of(quad);
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
