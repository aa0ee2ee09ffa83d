//! Passes over the rows for classes: a point of the optimiser each, and the log loss of their softmax.

use std::ops::Range;

use super::design::{BLOCK, Coefficients, GRADIENT_CHUNK, GradientSums};
use super::{Design, Passes};
use crate::estimator::support::chunks::fold_chunks;
use crate::estimator::support::math::{exp, ln};

/// The mean log loss at points, one for each class, and its gradient by each.
#[derive(Debug, Clone)]
pub(crate) struct ClassEvaluation {
    pub(crate) loss: f64,
    pub(crate) gradients: Vec<Vec<f64>>,
    /// By row: the logarithm of the sum of `e^margin` over the classes.
    pub(crate) log_sums: Vec<f64>,
}

/// Sums of one chunk.
struct ClassSums {
    loss: f64,
    gradients: Vec<GradientSums>,
    log_sums: Vec<f64>,
}

impl Design {
    /// The weighted mean log loss and its gradients, in one pass; labels are class numbers in the order of the rows.
    pub(crate) fn evaluate_classes(&self, label: &[u32], points: &[Vec<f64>]) -> ClassEvaluation {
        let columns = self.columns();
        let coefficients: Vec<Coefficients> = points.iter().map(|point| columns.row_coefficients(point)).collect();
        let zero = || points.iter().map(|_| GradientSums::zero(columns)).collect();
        let sums = fold_chunks(
            self.n_rows(),
            GRADIENT_CHUNK,
            ClassSums { loss: 0.0, gradients: zero(), log_sums: Vec::with_capacity(self.n_rows()) },
            |range| {
                let sums = ClassSums { loss: 0.0, gradients: zero(), log_sums: Vec::with_capacity(range.len()) };
                self.class_gradients_of(range, label, &coefficients, sums)
            },
            ClassSums::merge,
        );
        let gradients = sums.gradients.iter().map(|sums| columns.gradient(sums)).collect();
        ClassEvaluation { loss: sums.loss / columns.total_weight, gradients, log_sums: sums.log_sums }
    }

    /// The part of the log loss' Hessian that is one class' own, at its point and the rows' log sums.
    pub(crate) fn class_hessian(&self, log_sums: &[f64], point: &[f64]) -> Vec<f64> {
        let curvature = |margin: f64, log_sum: f64| {
            let p = exp(margin - log_sum);
            p * (1.0 - p).max(0.0)
        };
        self.columns().hessian(&self.hessian_sums(curvature, log_sums, point))
    }

    fn class_gradients_of(
        &self,
        rows: Range<usize>,
        label: &[u32],
        coefficients: &[Coefficients],
        mut sums: ClassSums,
    ) -> ClassSums {
        let mut margins = vec![[0.0; BLOCK]; coefficients.len()];
        for start in rows.clone().step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.end);
            let n = range.len();
            for (coefficients, into) in coefficients.iter().zip(&mut margins) {
                self.margins(range.clone(), coefficients, &mut into[..n]);
            }
            let weights = self.weights_of(range.clone());
            sums.loss += slopes_in_place(&mut margins, &label[range.clone()], weights, &mut sums.log_sums);
            for (slopes, into) in margins.iter().zip(&mut sums.gradients) {
                self.add_gradient(range.clone(), &slopes[..n], into);
            }
        }
        sums
    }
}

impl ClassSums {
    fn merge(&mut self, part: Self) {
        self.loss += part.loss;
        self.gradients.iter_mut().zip(part.gradients).for_each(|(into, part)| into.merge(part));
        self.log_sums.extend(part.log_sums);
    }
}

/// Replaces the classes' margins by their weighted slopes, notes the rows' log sums and returns the weighted sum of
/// the losses.
fn slopes_in_place(
    margins: &mut [[f64; BLOCK]],
    labels: &[u32],
    weights: Option<&[f64]>,
    log_sums: &mut Vec<f64>,
) -> f64 {
    let n = labels.len();
    let mut largest = [f64::NEG_INFINITY; BLOCK];
    for class in margins.iter() {
        largest[..n].iter_mut().zip(class).for_each(|(most, z)| *most = most.max(*z));
    }
    let mut own = [0.0; BLOCK];
    own.iter_mut().zip(labels).enumerate().for_each(|(i, (own, y))| *own = margins[*y as usize][i]);
    let mut totals = [0.0; BLOCK];
    for class in margins.iter_mut() {
        for ((z, most), total) in class[..n].iter_mut().zip(&largest).zip(&mut totals) {
            *z = exp(*z - most);
            *total += *z;
        }
    }
    let weight = |i: usize| weights.map_or(1.0, |w| w[i]);
    let mut loss = 0.0;
    for i in 0..n {
        let log_sum = largest[i] + ln(totals[i]);
        loss += weight(i) * (log_sum - own[i]);
        log_sums.push(log_sum);
    }
    let factors: [f64; BLOCK] = std::array::from_fn(|i| if i < n { weight(i) / totals[i] } else { 0.0 });
    for class in margins.iter_mut() {
        class.iter_mut().zip(&factors).for_each(|(z, factor)| *z *= factor);
    }
    labels.iter().enumerate().for_each(|(i, y)| margins[*y as usize][i] -= weight(i));
    loss
}
