//! Minimising a quadratic with an elastic-net penalty: Cholesky, and coordinate descent where there is an L1 part.

/// Sweeps of coordinate descent between two attempts to solve for the signs found so far.
const SWEEPS_PER_POLISH: usize = 4;
/// The most sweeps: an unfinished solution is still a descent direction, which the line search checks.
const MAX_SWEEPS: usize = 2000;
/// Pivots below this share of their diagonal count as zero: the column depends on those before it.
const PIVOT_FLOOR: f64 = 1e-11;

/// `gradient' (v - at) + (v - at)' hessian (v - at) / 2 + sum l1 |v| + sum l2 v^2 / 2`, over the free coordinates.
#[derive(Debug)]
pub(crate) struct Quadratic<'a> {
    pub(crate) hessian: &'a [f64],
    pub(crate) gradient: &'a [f64],
    pub(crate) at: &'a [f64],
    pub(crate) l1: &'a [f64],
    pub(crate) l2: &'a [f64],
    pub(crate) free: &'a [bool],
}

impl Quadratic<'_> {
    /// The minimum, to where a sweep would lower the value by less than `tolerance`.
    pub(crate) fn minimise(&self, tolerance: f64) -> Vec<f64> {
        if self.l1.iter().all(|l| *l == 0.0) {
            let signs: Vec<f64> = self.free.iter().map(|f| f64::from(u8::from(*f))).collect();
            return self.solve_for_signs(&signs);
        }
        self.descend(tolerance)
    }

    /// The minimum without L1 penalties, found as a step from `at`: rounding is that of the step's size.
    pub(crate) fn correct(&self) -> Vec<f64> {
        let d = self.at.len();
        let free: Vec<usize> = (0..d).filter(|&j| self.free[j]).collect();
        let mut right: Vec<f64> = free.iter().map(|&i| -self.gradient[i] - self.l2[i] * self.at[i]).collect();
        solve_positive(&mut self.active(&free), &mut right);
        let mut solution = self.at.to_vec();
        for (step, &i) in right.iter().zip(&free) {
            solution[i] += step;
        }
        solution
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
            matrix[a * k + a] += self.l2[i];
        }
        matrix
    }

    fn descend(&self, tolerance: f64) -> Vec<f64> {
        let mut state = Descent { v: self.at.to_vec(), slope: self.gradient.to_vec() };
        for sweep in 1..=MAX_SWEEPS {
            if self.sweep(&mut state) <= tolerance {
                break;
            }
            if sweep % SWEEPS_PER_POLISH == 0 {
                self.polish(&mut state);
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
            let curvature = row[j] + self.l2[j];
            if curvature <= 0.0 {
                continue;
            }
            let target = soft_threshold(row[j] * state.v[j] - state.slope[j], self.l1[j]) / curvature;
            let step = target - state.v[j];
            if step != 0.0 {
                state.v[j] = target;
                add_scaled(&mut state.slope, step, row);
                moved += curvature * step * step;
            }
        }
        moved
    }

    /// Solves for the current zeros and signs at once, and takes the solution when it keeps them.
    fn polish(&self, state: &mut Descent) {
        let signs: Vec<f64> = (0..self.at.len())
            .map(|j| match (self.free[j], self.l1[j] == 0.0) {
                (false, _) => 0.0,
                (true, true) => 1.0,
                (true, false) if state.v[j] == 0.0 => 0.0,
                (true, false) => state.v[j].signum(),
            })
            .collect();
        let solution = self.solve_for_signs(&signs);
        let keeps = (0..signs.len()).all(|j| self.l1[j] == 0.0 || solution[j] * signs[j] > 0.0 || signs[j] == 0.0);
        if keeps {
            state.slope = self.slope_at(&solution);
            state.v = solution;
        }
    }

    /// The minimum where coordinates of sign 0 are 0 and the others' absolute values are linear.
    fn solve_for_signs(&self, signs: &[f64]) -> Vec<f64> {
        let d = self.at.len();
        let active: Vec<usize> = (0..d).filter(|&j| signs[j] != 0.0).collect();
        let right = active.iter().map(|&i| {
            let at: f64 = self.hessian[i * d..(i + 1) * d].iter().zip(self.at).map(|(h, b)| h * b).sum();
            at - self.gradient[i] - self.l1[i] * signs[i]
        });
        let mut right: Vec<f64> = right.collect();
        solve_positive(&mut self.active(&active), &mut right);
        let mut solution = vec![0.0; d];
        for (a, &i) in active.iter().enumerate() {
            solution[i] = right[a];
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
}

/// Coordinate descent's point, and the slope of the smooth part without `l2` there.
struct Descent {
    v: Vec<f64>,
    slope: Vec<f64>,
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
            l1: &[1.0, 1.0],
            l2: &[0.0, 0.0],
            free: &[true, true],
        };
        assert_eq!(quadratic.minimise(1e-15), vec![1.0, 0.0]);
    }
}
