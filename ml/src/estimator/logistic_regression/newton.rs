//! Proximal Newton steps with a Hessian that is kept as long as it serves.
//!
//! A Hessian pass costs several gradient passes, so a Hessian stays in use, from one step to the next and from one
//! candidate to the next, until steps shrink too slowly with it.

use super::LogisticRegressionParams;
use super::design::{Design, Evaluation};
use super::quadratic::Quadratic;
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

/// The penalties of each coordinate in the optimiser's units.
#[derive(Debug)]
pub(super) struct Penalty {
    l1: Vec<f64>,
    l2: Vec<f64>,
}

impl Penalty {
    pub(super) fn new(design: &Design, params: &LogisticRegressionParams) -> Self {
        let l1 = params.reg_param * params.elastic_net_param;
        let l2 = params.reg_param * (1.0 - params.elastic_net_param);
        // Without standardization the penalty counts raw coefficients, which are these over the deviation.
        let unit = |d: &f64| if params.standardization || *d == 0.0 { 1.0 } else { 1.0 / d };
        let units: Vec<f64> = design.deviation.iter().map(unit).chain([0.0]).collect();
        Self { l1: units.iter().map(|u| l1 * u).collect(), l2: units.iter().map(|u| l2 * u * u).collect() }
    }

    fn of(&self, point: &[f64]) -> f64 {
        point.iter().zip(&self.l1).zip(&self.l2).map(|((b, l1), l2)| l1 * b.abs() + 0.5 * l2 * b * b).sum()
    }
}

/// A solver over one design that keeps its Hessian between candidates.
#[derive(Debug)]
pub(super) struct Solver<'a> {
    design: &'a Design,
    free: Vec<bool>,
    hessian: Option<Vec<f64>>,
}

struct Step {
    to: Vec<f64>,
    /// The promised change of the objective; negative.
    promise: f64,
}

impl<'a> Solver<'a> {
    pub(super) fn new(design: &'a Design) -> Self {
        let free = (0..design.n_coordinates()).map(|j| design.is_free(j)).collect();
        Self { design, free, hessian: None }
    }

    /// The point without coefficients, from which a path starts.
    pub(super) fn start(&self) -> Vec<f64> {
        let mut point = vec![0.0; self.design.n_coordinates()];
        if self.free[self.design.intercept()] {
            let share = self.design.positive_share();
            point[self.design.intercept()] = ln(share / (1.0 - share));
        }
        point
    }

    /// Minimises the objective from a point.
    ///
    /// # Errors
    /// Cancellation.
    pub(super) fn solve(
        &mut self,
        params: &LogisticRegressionParams,
        start: Vec<f64>,
        ctx: &FitContext,
    ) -> Result<Vec<f64>> {
        let penalty = Penalty::new(self.design, params);
        let mut point = start;
        let mut here = self.design.evaluate(&point);
        let mut last_promise = f64::NAN;
        for _ in 0..params.max_iter {
            ctx.check()?;
            let objective = here.loss + penalty.of(&point);
            let goal = params.tol * DECREASE_PER_TOL * objective.abs().max(f64::MIN_POSITIVE);
            let mut fresh = self.hessian.is_none();
            let mut step = self.step(&point, &here, &penalty, goal);
            if !fresh && is_slow(step.promise, last_promise, goal) {
                self.hessian = None;
                fresh = true;
                step = self.step(&point, &here, &penalty, goal);
            }
            last_promise = step.promise;
            if -step.promise <= goal {
                break;
            }
            match self.search(&point, objective, &step, &penalty) {
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

    fn step(&mut self, point: &[f64], here: &Evaluation, penalty: &Penalty, goal: f64) -> Step {
        let design = self.design;
        let hessian = self.hessian.get_or_insert_with(|| design.hessian(point));
        let quadratic = Quadratic {
            hessian,
            gradient: &here.gradient,
            at: point,
            l1: &penalty.l1,
            l2: &penalty.l2,
            free: &self.free,
        };
        let to = quadratic.minimise(goal * 1e-2);
        let linear: f64 = here.gradient.iter().zip(&to).zip(point).map(|((g, v), b)| g * (v - b)).sum();
        Step { promise: linear + penalty.of(&to) - penalty.of(point), to }
    }

    /// Halves the step until the objective falls enough; whether it was taken in full, or nothing if it never fell.
    fn search(
        &self,
        point: &[f64],
        objective: f64,
        step: &Step,
        penalty: &Penalty,
    ) -> Option<(Vec<f64>, Evaluation, bool)> {
        let mut share = 1.0;
        for halvings in 0..=MAX_HALVINGS {
            let next: Vec<f64> = if halvings == 0 {
                step.to.clone()
            } else {
                point.iter().zip(&step.to).map(|(b, v)| b + share * (v - b)).collect()
            };
            let evaluation = self.design.evaluate(&next);
            let reached = evaluation.loss + penalty.of(&next);
            if reached <= objective + SUFFICIENT_DECREASE * share * step.promise + ROUNDING * objective.abs() {
                return Some((next, evaluation, halvings == 0));
            }
            share *= 0.5;
        }
        None
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
