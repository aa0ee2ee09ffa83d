//! Proximal Newton steps with a Hessian that is kept as long as it serves.
//!
//! A Hessian pass costs several gradient passes, so a Hessian stays in use, from one step to the next and from one
//! candidate to the next, until steps shrink too slowly with it.

use super::design::Evaluation;
use super::{Bounds, Columns, Passes, Quadratic, RowLoss};
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::math::ln;

/// Steps end when the promised decrease is below this times `tol`, relative to the objective: coefficients are then
/// settled to six digits and more, which costs a pass or two more than Spark's looser rule.
const DECREASE_PER_TOL: f64 = 1e-6;
/// The share of the promised decrease that a step must keep (Armijo).
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// The most halvings of a step; below them the objective is flat to its last bits.
const MAX_HALVINGS: usize = 30;
/// A new Hessian costs about as much as this many further steps with the old one.
const STEPS_PER_HESSIAN: f64 = 5.0;
/// Rounding of the objective: a step that raises it by less than this is not worse.
const ROUNDING: f64 = 1e-14;

/// The penalties of each coordinate in the optimiser's units, and the bounds of all.
#[derive(Debug)]
pub(crate) struct Penalty {
    pub(crate) l1: Vec<f64>,
    pub(crate) l2: Vec<f64>,
    pub(crate) bounds: Option<Bounds>,
}

impl Penalty {
    /// A penalty of coefficients times `unit` times their columns' deviations.
    pub(crate) fn scaled(columns: &Columns, l1: f64, l2: f64, unit: f64) -> Self {
        Self::new(l1, l2, columns.deviation.iter().map(|_| unit))
    }

    /// A penalty of the coefficients of raw columns.
    pub(crate) fn raw(columns: &Columns, l1: f64, l2: f64) -> Self {
        Self::new(l1, l2, columns.deviation.iter().map(|d| if *d == 0.0 { 1.0 } else { 1.0 / d }))
    }

    /// `units` are what a coordinate of 1 counts; the intercept does not count.
    fn new(l1: f64, l2: f64, units: impl Iterator<Item = f64>) -> Self {
        let units: Vec<f64> = units.chain([0.0]).collect();
        let (l1, l2) = (units.iter().map(|u| l1 * u).collect(), units.iter().map(|u| l2 * u * u).collect());
        Self { l1, l2, bounds: None }
    }

    /// The penalty within bounds.
    pub(crate) fn within(self, bounds: Option<Bounds>) -> Self {
        Self { bounds, ..self }
    }

    /// Whether a point is within the bounds. One that is not is no place to search from, but to take a step from: a
    /// quadratic's minimum is within them, and near the point by what margins it gives.
    pub(crate) fn allows(&self, point: &[f64]) -> bool {
        self.bounds.as_ref().is_none_or(|bounds| bounds.contain(point))
    }

    /// The penalty at a point within the bounds.
    pub(crate) fn of(&self, point: &[f64]) -> f64 {
        point.iter().zip(&self.l1).zip(&self.l2).map(|((b, l1), l2)| l1 * b.abs() + 0.5 * l2 * b * b).sum()
    }
}

/// When steps end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// The most steps.
    pub(crate) max_iter: usize,
    /// The promised decrease that ends them, by [`DECREASE_PER_TOL`] and relative to the objective.
    pub(crate) tol: f64,
    /// An objective below this is rounding.
    pub(crate) floor: f64,
}

impl Stop {
    /// The promised decrease that ends steps at an objective.
    pub(crate) fn goal(&self, objective: f64) -> f64 {
        self.tol * DECREASE_PER_TOL * objective.abs().max(self.floor)
    }
}

/// A solver over the rows of one fit that keeps its Hessian between candidates.
#[derive(Debug)]
pub(crate) struct Solver<'a, P, L> {
    rows: &'a P,
    loss: L,
    free: Vec<bool>,
    hessian: Option<Vec<f64>>,
}

struct Step {
    to: Vec<f64>,
    /// The promised change of the objective; negative.
    promise: f64,
}

impl<'a, P: Passes, L: RowLoss> Solver<'a, P, L> {
    /// A solver without a Hessian.
    pub(crate) fn new(rows: &'a P, loss: L) -> Self {
        let free = (0..rows.columns().n_coordinates()).map(|j| rows.columns().is_free(j)).collect();
        Self { rows, loss, free, hessian: None }
    }

    /// The point without coefficients, from which a path starts; `intercept` counts where there is one.
    pub(crate) fn start(&self, intercept: f64) -> Vec<f64> {
        let columns = self.rows.columns();
        let mut point = vec![0.0; columns.n_coordinates()];
        if self.free[columns.intercept()] {
            point[columns.intercept()] = intercept;
        }
        point
    }

    /// The mean loss at a point.
    ///
    /// # Errors
    /// A pass that failed.
    pub(crate) fn loss(&self, point: &[f64]) -> Result<f64> {
        Ok(self.evaluate(point)?.loss)
    }

    fn evaluate(&self, point: &[f64]) -> Result<Evaluation> {
        self.rows.evaluate(&self.loss, point)
    }

    /// Minimises the objective from a point.
    ///
    /// # Errors
    /// Cancellation, a pass that failed.
    pub(crate) fn solve(
        &mut self,
        penalty: &Penalty,
        stop: Stop,
        start: Vec<f64>,
        ctx: &FitContext,
    ) -> Result<Vec<f64>> {
        let mut point = start;
        let mut here = self.evaluate(&point)?;
        if !penalty.allows(&point) {
            self.hessian = None;
            point = self.step(&point, &here, penalty, stop.goal(here.loss))?.to;
            here = self.evaluate(&point)?;
        }
        let mut last_promise = f64::NAN;
        for _ in 0..stop.max_iter {
            ctx.check()?;
            let objective = here.loss + penalty.of(&point);
            let goal = stop.goal(objective);
            let mut fresh = self.hessian.is_none();
            let mut step = self.step(&point, &here, penalty, goal)?;
            if !fresh && is_slow(step.promise, last_promise, goal) {
                self.hessian = None;
                fresh = true;
                step = self.step(&point, &here, penalty, goal)?;
            }
            last_promise = step.promise;
            if -step.promise <= goal {
                break;
            }
            match self.search(&point, objective, &step, penalty)? {
                Some((next, evaluation, full)) => {
                    (point, here) = (next, evaluation);
                    if !full && !fresh {
                        self.hessian = None;
                    }
                }
                None if fresh => break,
                None => self.hessian = None,
            }
        }
        Ok(point)
    }

    /// One more step with the Hessian at hand, without L1 penalties and bounds, unless it raises the objective: of a quadratic loss
    /// it takes out the rounding of the solution, which nearly dependent columns enlarge.
    ///
    /// # Errors
    /// A pass that failed.
    pub(crate) fn refine(&self, penalty: &Penalty, point: Vec<f64>) -> Result<Vec<f64>> {
        let Some(hessian) = &self.hessian else { return Ok(point) };
        let here = self.evaluate(&point)?;
        let corrected = self.quadratic(hessian, &point, &here, penalty).correct();
        let objective = here.loss + penalty.of(&point);
        let reached = self.loss(&corrected)? + penalty.of(&corrected);
        Ok(if reached <= objective + ROUNDING * objective.abs() { corrected } else { point })
    }

    fn quadratic<'b>(
        &'b self,
        hessian: &'b [f64],
        point: &'b [f64],
        here: &'b Evaluation,
        penalty: &'b Penalty,
    ) -> Quadratic<'b> {
        Quadratic { hessian, gradient: &here.gradient, at: point, penalty, free: &self.free }
    }

    fn step(&mut self, point: &[f64], here: &Evaluation, penalty: &Penalty, goal: f64) -> Result<Step> {
        let hessian = match self.hessian.take() {
            Some(hessian) => hessian,
            None => self.rows.hessian(&self.loss, point)?,
        };
        let to = self.quadratic(&hessian, point, here, penalty).minimise(goal * 1e-2);
        self.hessian = Some(hessian);
        let linear: f64 = here.gradient.iter().zip(&to).zip(point).map(|((g, v), b)| g * (v - b)).sum();
        Ok(Step { promise: linear + penalty.of(&to) - penalty.of(point), to })
    }

    /// Halves the step until the objective falls enough; whether it was taken in full, or nothing if it never fell.
    fn search(
        &self,
        point: &[f64],
        objective: f64,
        step: &Step,
        penalty: &Penalty,
    ) -> Result<Option<(Vec<f64>, Evaluation, bool)>> {
        let mut share = 1.0;
        for halvings in 0..=MAX_HALVINGS {
            let next: Vec<f64> = if halvings == 0 {
                step.to.clone()
            } else {
                point.iter().zip(&step.to).map(|(b, v)| b + share * (v - b)).collect()
            };
            let evaluation = self.evaluate(&next)?;
            let reached = evaluation.loss + penalty.of(&next);
            if reached <= objective + SUFFICIENT_DECREASE * share * step.promise + ROUNDING * objective.abs() {
                return Ok(Some((next, evaluation, halvings == 0)));
            }
            share *= 0.5;
        }
        Ok(None)
    }
}

/// Whether steps with an old Hessian shrink so slowly that a new one pays.
fn is_slow(promise: f64, last: f64, goal: f64) -> bool {
    if -promise <= goal || last.is_nan() {
        return false;
    }
    let rate = (promise / last).abs();
    // The number of further steps at this rate until the promise is below the goal.
    rate >= 1.0 || ln(goal / -promise) / ln(rate) > STEPS_PER_HESSIAN
}
