//! Minimising a quadratic with an elastic-net penalty: Cholesky, and coordinate descent where there is an L1 part or a
//! bound.

use super::Penalty;

/// Sweeps of coordinate descent between two steps to the solution for the signs and bounds found so far.
const SWEEPS_PER_POLISH: usize = 4;
/// The most sweeps: an unfinished solution is still a descent direction, which the line search checks.
const MAX_SWEEPS: usize = 2000;
/// Pivots below this share of their diagonal count as zero: the column depends on those before it.
const PIVOT_FLOOR: f64 = 1e-11;

/// `gradient' (v - at) + (v - at)' hessian (v - at) / 2 + sum l1 |v| + sum l2 v^2 / 2`, over the free coordinates and
/// within the bounds of the penalty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quadratic<'a> {
    pub(crate) hessian: &'a [f64],
    pub(crate) gradient: &'a [f64],
    pub(crate) at: &'a [f64],
    pub(crate) penalty: &'a Penalty,
    pub(crate) free: &'a [bool],
}

impl Quadratic<'_> {
    /// The minimum, to where a sweep would lower the value by less than `tolerance`.
    pub(crate) fn minimise(&self, tolerance: f64) -> Vec<f64> {
        match &self.penalty.bounds {
            Some(bounds) => bounds.minimise(self, tolerance),
            None if self.penalty.l1.iter().all(|l| *l == 0.0) => {
                self.solve(&self.free_coordinates(), &vec![0.0; self.at.len()])
            }
            None => self.descend(tolerance),
        }
    }

    /// The minimum without L1 penalties and bounds, found as a step from `at`: rounding is that of the step's size.
    pub(crate) fn correct(&self) -> Vec<f64> {
        let free = self.free_coordinates();
        let l2 = &self.penalty.l2;
        let mut right: Vec<f64> = free.iter().map(|&i| -self.gradient[i] - l2[i] * self.at[i]).collect();
        solve_positive(&mut self.active(&free), &mut right);
        let mut solution = self.at.to_vec();
        for (step, &i) in right.iter().zip(&free) {
            solution[i] += step;
        }
        solution
    }

    fn free_coordinates(&self) -> Vec<usize> {
        (0..self.at.len()).filter(|&j| self.free[j]).collect()
    }

    /// The Hessian with `l2` of some coordinates.
    fn active(&self, coordinates: &[usize]) -> Vec<f64> {
        let (d, k) = (self.at.len(), coordinates.len());
        let mut matrix = vec![0.0; k * k];
        for (a, &i) in coordinates.iter().enumerate() {
            let row = &self.hessian[i * d..(i + 1) * d];
            for (b, &j) in coordinates.iter().enumerate() {
                matrix[a * k + b] = row[j];
            }
            matrix[a * k + a] += self.penalty.l2[i];
        }
        matrix
    }

    /// The minimum by coordinate descent.
    pub(super) fn descend(&self, tolerance: f64) -> Vec<f64> {
        let v: Vec<f64> = self.at.iter().enumerate().map(|(j, at)| within(self.bounds(j), *at)).collect();
        let mut state = Descent { slope: self.slope_at(&v), v };
        for sweep in 1..=MAX_SWEEPS {
            let is_settled = self.sweep(&mut state) <= tolerance;
            if is_settled || sweep % SWEEPS_PER_POLISH == 0 {
                let gained = self.polish(&mut state);
                if is_settled && gained <= tolerance {
                    break;
                }
            }
        }
        state.v
    }

    /// One pass over the coordinates; the sum of their squared moves times curvatures.
    fn sweep(&self, state: &mut Descent) -> f64 {
        let d = self.at.len();
        let mut moved = 0.0;
        for j in (0..d).filter(|&j| self.free[j]) {
            let row = &self.hessian[j * d..(j + 1) * d];
            let curvature = row[j] + self.penalty.l2[j];
            if curvature <= 0.0 {
                continue;
            }
            let alone = soft_threshold(row[j] * state.v[j] - state.slope[j], self.penalty.l1[j]) / curvature;
            let target = within(self.bounds(j), alone);
            let step = target - state.v[j];
            if step != 0.0 {
                state.v[j] = target;
                add_scaled(&mut state.slope, step, row);
                moved += curvature * step * step;
            }
        }
        moved
    }

    /// Solves at once for the coordinates that are at no bound and not 0 by their penalty, and goes to the solution as far
    /// as all keep their signs and bounds; gives by how much that lowered the value.
    fn polish(&self, state: &mut Descent) -> f64 {
        let sides: Vec<(f64, f64)> = state.v.iter().enumerate().map(|(j, v)| self.side(j, *v)).collect();
        let moving: Vec<usize> = (0..sides.len()).filter(|&j| sides[j].0 < sides[j].1).collect();
        let solution = self.solve(&moving, &state.v);
        let share_of = |j: usize| share_within(sides[j], state.v[j], solution[j]);
        let share = moving.iter().map(|&j| share_of(j)).fold(1.0, f64::min);
        let mut v = state.v.clone();
        for &j in &moving {
            let is_first = share_of(j) <= share;
            v[j] = if is_first { within(sides[j], solution[j]) } else { v[j] + share * (solution[j] - v[j]) };
        }
        let next = Descent { slope: self.slope_at(&v), v };
        // Where columns depend on each other a solution need not be one.
        let gained = self.value(state) - self.value(&next);
        if gained > 0.0 {
            *state = next;
        }
        gained.max(0.0)
    }

    /// Where a coordinate can be without another sign of its L1 penalty; of one that stays where it is, that alone.
    fn side(&self, j: usize, v: f64) -> (f64, f64) {
        let (lower, upper) = self.bounds(j);
        if !self.free[j] || v <= lower || v >= upper || (v == 0.0 && self.penalty.l1[j] > 0.0) {
            (v, v)
        } else if self.penalty.l1[j] == 0.0 {
            (lower, upper)
        } else if v > 0.0 {
            (lower.max(0.0), upper)
        } else {
            (lower, upper.min(0.0))
        }
    }

    fn bounds(&self, j: usize) -> (f64, f64) {
        self.penalty.bounds.as_ref().map_or((f64::NEG_INFINITY, f64::INFINITY), |bounds| bounds.of(j))
    }

    /// The minimum over some coordinates, whose L1 penalties are linear with the signs that they have in `v`, where the
    /// others are as in `v`.
    fn solve(&self, moving: &[usize], v: &[f64]) -> Vec<f64> {
        let d = self.at.len();
        let mut solution = v.to_vec();
        moving.iter().for_each(|&i| solution[i] = 0.0);
        let right = moving.iter().map(|&i| {
            let row = self.hessian[i * d..(i + 1) * d].iter();
            let from: f64 = row.zip(self.at).zip(&solution).map(|((h, at), held)| h * (at - held)).sum();
            from - self.gradient[i] - self.penalty.l1[i] * v[i].signum()
        });
        let mut right: Vec<f64> = right.collect();
        solve_positive(&mut self.active(moving), &mut right);
        for (value, &i) in right.into_iter().zip(moving) {
            solution[i] = value;
        }
        solution
    }

    fn slope_at(&self, v: &[f64]) -> Vec<f64> {
        let d = v.len();
        let mut slope = self.gradient.to_vec();
        for ((v, at), row) in v.iter().zip(self.at).zip(self.hessian.chunks_exact(d)) {
            if v != at {
                add_scaled(&mut slope, v - at, row);
            }
        }
        slope
    }

    fn value(&self, state: &Descent) -> f64 {
        let slopes = self.gradient.iter().zip(&state.slope);
        let moves = state.v.iter().zip(self.at);
        let smooth: f64 = slopes.zip(moves).map(|((a, b), (v, at))| 0.5 * (a + b) * (v - at)).sum();
        smooth + self.penalty.of(&state.v)
    }
}

/// Coordinate descent's point, and the slope of the smooth part without `l2` there.
struct Descent {
    v: Vec<f64>,
    slope: Vec<f64>,
}

/// The value next to `v` in a range.
fn within((low, high): (f64, f64), v: f64) -> f64 {
    v.max(low).min(high)
}

/// How much of the way to `to` is in a range.
fn share_within((low, high): (f64, f64), from: f64, to: f64) -> f64 {
    if to > high {
        (high - from) / (to - from)
    } else if to < low {
        (low - from) / (to - from)
    } else {
        1.0
    }
}

fn soft_threshold(value: f64, by: f64) -> f64 {
    if value > by {
        value - by
    } else if value < -by {
        value + by
    } else {
        0.0
    }
}

fn add_scaled(into: &mut [f64], by: f64, from: &[f64]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += by * b;
    }
}

/// Solves `matrix x = right` in place for a symmetric positive semidefinite matrix, by `L D L'`.
///
/// A column that depends on those before it gets 0.
fn solve_positive(matrix: &mut [f64], right: &mut [f64]) {
    let k = right.len();
    let floor: Vec<f64> = (0..k).map(|i| matrix[i * k + i] * PIVOT_FLOOR).collect();
    let mut usable = vec![true; k];
    for i in 0..k {
        // Row i of L, from the finished rows above it; the matrix holds L D below its diagonal until then.
        for j in 0..i {
            if !usable[j] {
                matrix[i * k + j] = 0.0;
                continue;
            }
            let (above, own) = matrix.split_at_mut(i * k);
            let sum: f64 = own[..j].iter().zip(&above[j * k..j * k + j]).map(|(a, b)| a * b).sum();
            own[j] -= sum;
        }
        let mut pivot = matrix[i * k + i];
        for j in (0..i).filter(|&j| usable[j]) {
            let scaled = matrix[i * k + j] / matrix[j * k + j];
            pivot -= scaled * matrix[i * k + j];
            matrix[i * k + j] = scaled;
        }
        usable[i] = pivot > floor[i] && pivot > 0.0;
        matrix[i * k + i] = pivot;
    }
    substitute(matrix, right, &usable);
}

fn substitute(factor: &[f64], right: &mut [f64], usable: &[bool]) {
    let k = right.len();
    for i in 0..k {
        let sum: f64 = (0..i).map(|j| factor[i * k + j] * right[j]).sum();
        right[i] = if usable[i] { right[i] - sum } else { 0.0 };
    }
    for i in (0..k).filter(|&i| usable[i]) {
        right[i] /= factor[i * k + i];
    }
    for i in (0..k).rev() {
        let sum: f64 = (i + 1..k).filter(|&j| usable[j]).map(|j| factor[j * k + i] * right[j]).sum();
        right[i] = if usable[i] { right[i] - sum } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependent_columns_do_not_break_the_solver() {
        // The third column is the sum of the first two.
        let x = [[1.0, 0.0, 1.0], [0.0, 2.0, 2.0], [1.0, 1.0, 2.0], [3.0, -1.0, 2.0]];
        let mut matrix = vec![0.0; 9];
        let mut right = vec![0.0; 3];
        for row in x {
            for i in 0..3 {
                right[i] += row[i] * (2.0 * row[0] - row[1]);
                for j in 0..3 {
                    matrix[i * 3 + j] += row[i] * row[j];
                }
            }
        }
        solve_positive(&mut matrix, &mut right);
        assert!((right[0] - 2.0).abs() < 1e-12 && (right[1] + 1.0).abs() < 1e-12 && right[2] == 0.0, "{right:?}");
    }

    #[test]
    fn a_lasso_of_one_coordinate_is_its_soft_threshold() {
        let quadratic = Quadratic {
            hessian: &[2.0, 0.0, 0.0, 1.0],
            gradient: &[-3.0, 0.2],
            at: &[0.0, 0.0],
            penalty: &Penalty { l1: vec![1.0; 2], l2: vec![0.0; 2], bounds: None },
            free: &[true, true],
        };
        assert_eq!(quadratic.minimise(1e-15), vec![1.0, 0.0]);
    }
}
