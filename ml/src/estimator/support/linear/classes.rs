//! Passes over the rows for classes: a point of the optimiser each, and the log loss of their softmax.

use std::ops::Range;

use super::design::{BLOCK, Coefficients, GRADIENT_CHUNK, GradientSums, HessianSums, merge_all};
use super::{Columns, Design};
use crate::estimator::support::chunks::fold_chunks;
use crate::estimator::support::math::{exp, ln};
use crate::estimator::support::vectors::in_wide_vectors;

/// The mean log loss at points, one for each class, and its gradient by each.
#[derive(Debug, Clone)]
pub(crate) struct ClassEvaluation {
    pub(crate) loss: f64,
    pub(crate) gradients: Vec<Vec<f64>>,
}

impl ClassEvaluation {
    /// The mean loss and the mean gradients of the classes' sums.
    pub(super) fn new(columns: &Columns, sums: &[GradientSums]) -> Self {
        Self {
            loss: sums.iter().map(|sums| sums.loss).sum::<f64>() / columns.total_weight,
            gradients: sums.iter().map(|sums| columns.gradient(sums)).collect(),
        }
    }
}

impl Design {
    /// By class, sums of the log loss of its rows and of the gradient by its point; `places` has the point of each class.
    pub(super) fn class_gradient_sums(&self, places: &[u32], points: &[Vec<f64>]) -> Vec<GradientSums> {
        let coefficients = self.coefficients(points);
        let zero = || self.zero_gradients(points.len());
        fold_chunks(
            self.n_rows(),
            GRADIENT_CHUNK,
            zero(),
            |range| class_gradients(self, range, places, &coefficients, zero()),
            |into: &mut Vec<_>, part| merge_all(into, part),
        )
    }

    /// Of some classes, sums of the part of the log loss' Hessian that is a class' own.
    pub(super) fn class_hessian_sums<'a>(
        &'a self,
        points: &'a [Vec<f64>],
        classes: Range<usize>,
    ) -> impl Iterator<Item = HessianSums> + 'a {
        let log_sums = self.log_sums(points);
        let curvature = |margin: f64, log_sum: f64| {
            let p = exp(margin - log_sum);
            p * (1.0 - p).max(0.0)
        };
        points[classes].iter().map(move |point| self.hessian_sums(curvature, &log_sums, point))
    }

    /// By row, the logarithm of the sum of `e^margin` over the classes.
    fn log_sums(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let coefficients = self.coefficients(points);
        let of_chunk = |rows: Range<usize>| {
            let mut log_sums = Vec::with_capacity(rows.len());
            self.for_each_block(rows, &coefficients, |range, margins| {
                let (largest, totals) = exponentiate(margins, range.len());
                log_sums.extend((0..range.len()).map(|i| largest[i] + ln(totals[i])));
            });
            log_sums
        };
        let all = Vec::with_capacity(self.n_rows());
        fold_chunks(self.n_rows(), GRADIENT_CHUNK, all, of_chunk, |into: &mut Vec<f64>, part| into.extend(part))
    }

    #[inline(always)]
    fn class_gradients_of(
        &self,
        rows: Range<usize>,
        places: &[u32],
        coefficients: &[Coefficients],
        mut sums: Vec<GradientSums>,
    ) -> Vec<GradientSums> {
        self.for_each_block(rows, coefficients, |range, margins| {
            let labels = self.labels_of(range.clone());
            let mut own = [0; BLOCK];
            own.iter_mut().zip(labels).for_each(|(own, label)| *own = places[*label as usize] as usize);
            let own = &own[..labels.len()];
            let losses = slopes_in_place(margins, own, self.weights_of(range.clone()));
            own.iter().zip(losses).for_each(|(own, loss)| sums[*own].loss += loss);
            for (slopes, into) in margins.iter().zip(&mut sums) {
                self.add_gradient(range.clone(), &slopes[..labels.len()], into);
            }
        });
        sums
    }

    /// Gives `work` the rows of each block, and their margins by class.
    #[inline(always)]
    fn for_each_block(
        &self,
        rows: Range<usize>,
        coefficients: &[Coefficients],
        mut work: impl FnMut(Range<usize>, &mut [[f64; BLOCK]]),
    ) {
        let mut margins = vec![[0.0; BLOCK]; coefficients.len()];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            for (coefficients, into) in coefficients.iter().zip(&mut margins) {
                self.margins(range.clone(), coefficients, &mut into[..range.len()]);
            }
            work(range, &mut margins);
        }
    }
}

in_wide_vectors! {
    fn class_gradients(
        design: &Design,
        rows: Range<usize>,
        places: &[u32],
        coefficients: &[Coefficients],
        sums: Vec<GradientSums>,
    ) -> Vec<GradientSums> {
        design.class_gradients_of(rows, places, coefficients, sums)
    }
}

/// Replaces the classes' margins by their weighted slopes and gives the weighted losses of the rows, whose own classes
/// are `own`.
#[inline(always)]
fn slopes_in_place(margins: &mut [[f64; BLOCK]], own: &[usize], weights: Option<&[f64]>) -> [f64; BLOCK] {
    let n = own.len();
    let weight = |i: usize| weights.map_or(1.0, |w| w[i]);
    let mut losses = [0.0; BLOCK];
    own.iter().enumerate().for_each(|(i, own)| losses[i] = -margins[*own][i]);
    let (largest, totals) = exponentiate(margins, n);
    for i in 0..n {
        losses[i] = weight(i) * (largest[i] + ln(totals[i]) + losses[i]);
    }
    let factors: [f64; BLOCK] = std::array::from_fn(|i| if i < n { weight(i) / totals[i] } else { 0.0 });
    for class in margins.iter_mut() {
        class.iter_mut().zip(&factors).for_each(|(z, factor)| *z *= factor);
    }
    own.iter().enumerate().for_each(|(i, own)| margins[*own][i] -= weight(i));
    losses
}

/// Replaces margins by `e^(margin - largest)`, where `largest` is the row's; gives the largest ones and the sums.
#[inline(always)]
fn exponentiate(margins: &mut [[f64; BLOCK]], n: usize) -> ([f64; BLOCK], [f64; BLOCK]) {
    let mut largest = [f64::NEG_INFINITY; BLOCK];
    for class in margins.iter() {
        largest[..n].iter_mut().zip(class).for_each(|(most, z)| *most = most.max(*z));
    }
    let mut totals = [0.0; BLOCK];
    for class in margins.iter_mut() {
        for ((z, most), total) in class[..n].iter_mut().zip(&largest).zip(&mut totals) {
            *z = exp(*z - most);
            *total += *z;
        }
    }
    (largest, totals)
}
