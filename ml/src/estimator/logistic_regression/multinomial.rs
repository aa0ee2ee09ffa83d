//! The multinomial optimum, by proximal Newton steps of all classes at once.
//!
//! The Hessian of `K` classes is `K` times as wide as that of one; steps use its blocks on the diagonal, one for each
//! class, and a line search. Adding one vector to the coefficients of all classes changes no probability, so that only
//! the penalty tells how much: it is solved for after each step, since steps by blocks would creep along it.

use rayon::prelude::*;

use crate::estimator::FitContext;
use crate::estimator::support::linear::{ClassEvaluation, Passes, Penalty, Quadratic, Stop};
use crate::{MlError, Result};

/// What blocks are multiplied by. On the directions that change probabilities, a row's Hessian is one to two times its
/// blocks: with their middle each step leaves a third of the error or less.
const DAMPING: f64 = 1.5;
/// Blocks are renewed when a step promises more than this share of what the last one did.
const SLOW: f64 = 0.3;
/// Blocks are kept for this many steps at least: new ones cost many passes, and do not help where steps are slow since
/// two classes' coefficients hang together.
const STEPS_PER_BLOCK: usize = 8;
/// Steps by blocks that count as one of `max_iter`: they gain a part of a digit where Newton steps double digits.
const STEPS_PER_ITERATION: usize = 20;
/// The share of the goal of Newton steps that ends steps: where steps are slow, much more is left than one promises.
const GOAL: f64 = 1e-4;
/// The share of the promised decrease that a step must keep (Armijo).
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// The most halvings of a step; below them the objective is flat to its last bits.
const MAX_HALVINGS: usize = 30;
/// Rounding of the objective: a step that raises it by less than this is not worse.
const ROUNDING: f64 = 1e-14;
/// The most numbers in the blocks of all classes: 2 GiB.
const MOST_NUMBERS: usize = 1 << 28;

/// A point of the optimiser for each class.
pub(super) type Points = Vec<Vec<f64>>;

/// A solver over the rows of one fit that keeps its blocks between candidates.
#[derive(Debug)]
pub(super) struct MultinomialSolver<'a, P> {
    rows: &'a P,
    /// The point of each class that rows have.
    places: &'a [u32],
    free: Vec<bool>,
    blocks: Option<Vec<Vec<f64>>>,
}

struct Step {
    to: Points,
    /// The promised change of the objective; negative.
    promise: f64,
}

impl<'a, P: Passes> MultinomialSolver<'a, P> {
    /// # Errors
    /// More classes and columns than memory is for.
    pub(super) fn new(rows: &'a P, places: &'a [u32], n_classes: usize) -> Result<Self> {
        let d = rows.columns().n_coordinates();
        if n_classes * d * d > MOST_NUMBERS {
            return Err(MlError::Invalid(format!(
                "{n_classes} classes of {d} columns in the one-hot view take more than 2 GiB; take fewer columns, \
                 or gradient_boosted_trees"
            )));
        }
        let free = (0..d).map(|j| rows.columns().is_free(j)).collect();
        Ok(Self { rows, places, free, blocks: None })
    }

    /// The points without coefficients, from which a path starts; intercepts count where there are some.
    pub(super) fn start(&self, intercepts: &[f64]) -> Points {
        let place = self.rows.columns().intercept();
        let point = |intercept: &f64| {
            let mut point = vec![0.0; self.rows.columns().n_coordinates()];
            point[place] = if self.free[place] { *intercept } else { 0.0 };
            point
        };
        intercepts.iter().map(point).collect()
    }

    /// Minimises the objective from points.
    ///
    /// # Errors
    /// Cancellation, a pass that failed.
    pub(super) fn solve(&mut self, penalty: &Penalty, stop: Stop, start: Points, ctx: &FitContext) -> Result<Points> {
        let mut points = start;
        if !points.iter().all(|point| penalty.allows(point)) {
            self.blocks = None;
            let here = self.rows.evaluate_classes(self.places, &points)?;
            points = self.step(&points, &here, penalty, GOAL * stop.goal(here.loss))?.to;
        }
        settle(&mut points, penalty);
        let mut here = self.rows.evaluate_classes(self.places, &points)?;
        let mut last_promise = f64::INFINITY;
        let mut age = 0;
        for _ in 0..stop.max_iter.saturating_mul(STEPS_PER_ITERATION) {
            ctx.check()?;
            let objective = here.loss + of(penalty, &points);
            let goal = GOAL * stop.goal(objective);
            let mut fresh = self.blocks.is_none();
            let mut step = self.step(&points, &here, penalty, goal)?;
            age = if fresh { 0 } else { age + 1 };
            if age >= STEPS_PER_BLOCK && -step.promise > goal && -step.promise > SLOW * last_promise {
                self.blocks = None;
                age = 0;
                fresh = true;
                step = self.step(&points, &here, penalty, goal)?;
            }
            last_promise = -step.promise;
            if -step.promise <= goal {
                break;
            }
            match self.search(&points, objective, &step, penalty)? {
                Some(next) => (points, here) = next,
                None if fresh => break,
                None => self.blocks = None,
            }
        }
        Ok(points)
    }

    fn step(&mut self, points: &Points, here: &ClassEvaluation, penalty: &Penalty, goal: f64) -> Result<Step> {
        let blocks = match self.blocks.take() {
            Some(blocks) => blocks,
            None => self.new_blocks(points)?,
        };
        let minimise = |(class, hessian): (usize, &Vec<f64>)| {
            let (gradient, at) = (&here.gradients[class], &points[class]);
            Quadratic { hessian, gradient, at, penalty, free: &self.free }.minimise(goal * 1e-2)
        };
        let to: Points = blocks.par_iter().enumerate().map(minimise).collect();
        self.blocks = Some(blocks);
        let slopes = here.gradients.iter().flatten();
        let moves = to.iter().flatten().zip(points.iter().flatten());
        let linear: f64 = slopes.zip(moves).map(|(g, (v, b))| g * (v - b)).sum();
        Ok(Step { promise: linear + of(penalty, &to) - of(penalty, points), to })
    }

    fn new_blocks(&self, points: &Points) -> Result<Vec<Vec<f64>>> {
        let mut blocks = self.rows.class_hessians(points)?;
        blocks.iter_mut().flatten().for_each(|h| *h *= DAMPING);
        Ok(blocks)
    }

    /// Halves the step until the objective falls enough; nothing if it never fell.
    fn search(
        &self,
        points: &Points,
        objective: f64,
        step: &Step,
        penalty: &Penalty,
    ) -> Result<Option<(Points, ClassEvaluation)>> {
        let mut share = 1.0;
        for _ in 0..=MAX_HALVINGS {
            let mut next = between(points, &step.to, share);
            settle(&mut next, penalty);
            let evaluation = self.rows.evaluate_classes(self.places, &next)?;
            let reached = evaluation.loss + of(penalty, &next);
            if reached <= objective + SUFFICIENT_DECREASE * share * step.promise + ROUNDING * objective.abs() {
                return Ok(Some((next, evaluation)));
            }
            share *= 0.5;
        }
        Ok(None)
    }
}

/// The penalty of all classes.
fn of(penalty: &Penalty, points: &Points) -> f64 {
    points.iter().map(|point| penalty.of(point)).sum()
}

/// Points that are `share` of the way from one to another.
fn between(from: &Points, to: &Points, share: f64) -> Points {
    if share == 1.0 {
        return to.clone();
    }
    let point = |(from, to): (&Vec<f64>, &Vec<f64>)| from.iter().zip(to).map(|(b, v)| b + share * (v - b)).collect();
    from.iter().zip(to).map(point).collect()
}

/// Shifts each coordinate by the same number in all classes, to where the penalty is least: to a mean of 0 where there
/// is none, as Spark does. Within bounds it is as far on the way there as all classes stay within them.
fn settle(points: &mut Points, penalty: &Penalty) {
    for (j, (l1, l2)) in penalty.l1.iter().zip(&penalty.l2).enumerate() {
        let mut values: Vec<f64> = points.iter().map(|point| point[j]).collect();
        values.sort_by(f64::total_cmp);
        let (lower, upper) = penalty.bounds.as_ref().map_or((f64::NEG_INFINITY, f64::INFINITY), |bounds| bounds.of(j));
        let (least, most) = (values[values.len() - 1] - upper, values[0] - lower);
        let shift = best_shift(&values, *l1, *l2).max(least).min(most);
        points.iter_mut().for_each(|point| point[j] = (point[j] - shift).max(lower).min(upper));
    }
}

/// The `c` that makes `sum l1 |v - c| + l2 / 2 (v - c)^2` least, of ascending values; the mean without a penalty.
fn best_shift(values: &[f64], l1: f64, l2: f64) -> f64 {
    let (n, sum) = (values.len() as f64, values.iter().sum::<f64>());
    if l1 == 0.0 {
        return sum / n;
    }
    for (i, v) in values.iter().enumerate() {
        // The slopes just below and just above `v`.
        let squares = l2 * (n * v - sum);
        let below = l1 * (2.0 * i as f64 - n) + squares;
        let above = below + 2.0 * l1;
        match values.get(i + 1) {
            // Between two values all shifts are alike: none, if it is there.
            Some(next) if l2 == 0.0 && above == 0.0 => return 0.0_f64.clamp(*v, *next),
            _ if above >= 0.0 && below <= 0.0 => return *v,
            _ if above >= 0.0 => return (sum - l1 * (2.0 * i as f64 - n) / l2) / n,
            _ => {}
        }
    }
    sum / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_make_penalties_least() {
        let cost = |values: &[f64], l1: f64, l2: f64, c: f64| -> f64 {
            values.iter().map(|v| l1 * (v - c).abs() + l2 / 2.0 * (v - c) * (v - c)).sum()
        };
        for values in [vec![-1.0, 0.0, 0.0, 5.0], vec![-2.0, 1.0, 7.0], vec![0.5, 0.75], vec![-0.5, 0.25, 0.5, 4.0]] {
            for (l1, l2) in [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.1, 1.0), (1.0, 0.1)] {
                let best = cost(&values, l1, l2, best_shift(&values, l1, l2));
                let least = (-3000..8000).map(|c| cost(&values, l1, l2, f64::from(c) * 1e-3)).fold(f64::MAX, f64::min);
                assert!(best <= least + 1e-12, "{values:?} {l1} {l2}: {best} and {least}");
            }
        }
        assert_eq!(best_shift(&[-1.0, 0.0, 0.0, 5.0], 1.0, 0.2), 0.0);
    }
}
