//! Proximal Newton steps with a Hessian that is kept as long as it serves.
//!
//! A Hessian pass costs several gradient passes, so a Hessian stays in use, from one step to the next and from one
//! candidate to the next, until steps shrink too slowly with it. Each step corrects it by what the gradient changed
//! (Broyden, Fletcher, Goldfarb and Shanno 1970).

use super::design::Evaluation;
use super::{Bounds, Columns, Passes, Quadratic, RowLoss, Together};
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
/// A gradient that changed by less than this share of what the Hessian says corrects it too much.
const LEAST_CORRECTION: f64 = 0.01;
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
    rows: &'a Together<'a, P, L>,
    free: Vec<bool>,
    hessian: Option<Vec<f64>>,
}

/// A point that a solver is at, and what is there.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub(crate) point: Vec<f64>,
    here: Evaluation,
    /// Where the last step leads, which promised too little to look there.
    next: Option<Vec<f64>>,
}

impl Reached {
    /// The minimum, as far as it is known.
    pub(crate) fn minimum(&self) -> &[f64] {
        self.next.as_ref().unwrap_or(&self.point)
    }

    /// The mean loss there.
    pub(crate) fn loss(&self) -> f64 {
        self.here.loss
    }

    fn objective(&self, penalty: &Penalty) -> f64 {
        self.here.loss + penalty.of(&self.point)
    }
}

struct Step {
    to: Vec<f64>,
    /// The promised change of the objective; negative.
    promise: f64,
}

impl<'a, P: Passes, L: RowLoss> Solver<'a, P, L> {
    /// A solver without a Hessian.
    pub(crate) fn new(rows: &'a Together<'a, P, L>) -> Self {
        let columns = rows.rows.columns();
        let free = (0..columns.n_coordinates()).map(|j| columns.is_free(j)).collect();
        Self { rows, free, hessian: None }
    }

    /// The point without coefficients, from which a path starts; `intercept` counts where there is one.
    ///
    /// # Errors
    /// A pass that failed.
    pub(crate) async fn start(&self, intercept: f64) -> Result<Reached> {
        let columns = self.rows.rows.columns();
        let mut point = vec![0.0; columns.n_coordinates()];
        if self.free[columns.intercept()] {
            point[columns.intercept()] = intercept;
        }
        self.reach(point).await
    }

    /// A point, and what is there.
    ///
    /// # Errors
    /// A pass that failed.
    pub(crate) async fn reach(&self, point: Vec<f64>) -> Result<Reached> {
        let here = self.rows.evaluate(&point).await?;
        Ok(Reached { point, here, next: None })
    }

    /// Minimises the objective from a point.
    ///
    /// # Errors
    /// Cancellation, a pass that failed.
    pub(crate) async fn solve(
        &mut self,
        penalty: &Penalty,
        stop: Stop,
        start: Reached,
        ctx: &FitContext,
    ) -> Result<Reached> {
        let mut at = Reached { next: None, ..start };
        if !penalty.allows(&at.point) {
            self.hessian = None;
            let step = self.step(&at, penalty, stop.goal(at.here.loss)).await?;
            at = self.reach(step.to).await?;
        }
        let mut last_promise = f64::NAN;
        for _ in 0..stop.max_iter {
            ctx.check()?;
            let goal = stop.goal(at.objective(penalty));
            let mut fresh = self.hessian.is_none();
            let mut step = self.step(&at, penalty, goal).await?;
            if !fresh && is_slow(step.promise, last_promise, goal) {
                self.hessian = None;
                fresh = true;
                step = self.step(&at, penalty, goal).await?;
            }
            last_promise = step.promise;
            if -step.promise <= goal {
                at.next = Some(step.to);
                break;
            }
            match self.search(&at, &step, penalty).await? {
                Some((next, full)) => {
                    if full || fresh {
                        self.correct_hessian(&at, &next);
                    } else {
                        self.hessian = None;
                    }
                    at = next;
                }
                None if fresh => break,
                None => self.hessian = None,
            }
        }
        Ok(at)
    }

    /// One more step with the Hessian at hand, without L1 penalties and bounds, unless it raises the objective: of a quadratic loss
    /// it takes out the rounding of the solution, which nearly dependent columns enlarge.
    ///
    /// # Errors
    /// A pass that failed.
    pub(crate) async fn refine(&self, penalty: &Penalty, at: Reached) -> Result<Reached> {
        let Some(hessian) = &self.hessian else { return Ok(at) };
        let corrected = self.reach(self.quadratic(hessian, &at, penalty).correct()).await?;
        let objective = at.objective(penalty);
        let is_worse = corrected.objective(penalty) > objective + ROUNDING * objective.abs();
        Ok(if is_worse { at } else { corrected })
    }

    fn quadratic<'b>(&'b self, hessian: &'b [f64], at: &'b Reached, penalty: &'b Penalty) -> Quadratic<'b> {
        Quadratic { hessian, gradient: &at.here.gradient, at: &at.point, penalty, free: &self.free }
    }

    async fn step(&mut self, at: &Reached, penalty: &Penalty, goal: f64) -> Result<Step> {
        let hessian = match self.hessian.take() {
            Some(hessian) => hessian,
            None => self.rows.hessian(&at.point).await?,
        };
        let to = self.quadratic(&hessian, at, penalty).minimise(goal * 1e-2);
        self.hessian = Some(hessian);
        let moved = to.iter().zip(&at.point).map(|(v, b)| v - b);
        let linear: f64 = at.here.gradient.iter().zip(moved).map(|(g, step)| g * step).sum();
        Ok(Step { promise: linear + penalty.of(&to) - penalty.of(&at.point), to })
    }

    /// Corrects the Hessian so that it tells the change of the gradient from one point to another.
    fn correct_hessian(&mut self, from: &Reached, to: &Reached) {
        let Some(hessian) = self.hessian.as_mut().filter(|_| !self.rows.loss.is_quadratic()) else { return };
        let moved = difference(&to.point, &from.point);
        let changed = difference(&to.here.gradient, &from.here.gradient);
        let told: Vec<f64> = hessian.chunks_exact(moved.len()).map(|row| product(row, &moved)).collect();
        let (curvature, told_curvature) = (product(&changed, &moved), product(&told, &moved));
        let is_sound = told_curvature > 0.0 && curvature > LEAST_CORRECTION * told_curvature;
        if !is_sound {
            return;
        }
        for ((row, changed_i), told_i) in hessian.chunks_exact_mut(moved.len()).zip(&changed).zip(&told) {
            for ((h, changed_j), told_j) in row.iter_mut().zip(&changed).zip(&told) {
                *h += changed_i * changed_j / curvature - told_i * told_j / told_curvature;
            }
        }
    }

    /// Halves the step until the objective falls enough; whether it was taken in full, or nothing if it never fell.
    async fn search(&self, at: &Reached, step: &Step, penalty: &Penalty) -> Result<Option<(Reached, bool)>> {
        let objective = at.objective(penalty);
        let mut share = 1.0;
        for halvings in 0..=MAX_HALVINGS {
            let next = if halvings == 0 {
                step.to.clone()
            } else {
                at.point.iter().zip(&step.to).map(|(b, v)| b + share * (v - b)).collect()
            };
            let next = self.reach(next).await?;
            let enough = objective + SUFFICIENT_DECREASE * share * step.promise + ROUNDING * objective.abs();
            if next.objective(penalty) <= enough {
                return Ok(Some((next, halvings == 0)));
            }
            share *= 0.5;
        }
        Ok(None)
    }
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
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
