//! Eigenvectors of symmetric matrices, by Jacobi's rotations.
//!
//! Source: Golub and Van Loan, "Matrix Computations", 8.5 (cyclic by row). Slower than reducing to tridiagonal form,
//! and simple, accurate, and the same to the bit wherever it runs.

/// Sweeps after which rotating ends in any case; seven or eight are common.
const MAX_SWEEPS: usize = 64;

/// The eigenvectors of a symmetric matrix of finite numbers, `[n, n]`, by falling eigenvalue, each of length 1.
pub(super) fn eigenvectors(matrix: Vec<f64>, n: usize) -> Vec<Vec<f64>> {
    let mut jacobi = Jacobi::new(matrix, n);
    for _ in 0..MAX_SWEEPS {
        if jacobi.sweep() == 0 {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| jacobi.at(b, b).total_cmp(&jacobi.at(a, a)));
    order.into_iter().map(|i| jacobi.vectors[i * n..(i + 1) * n].to_vec()).collect()
}

/// A matrix on its way to a diagonal one.
struct Jacobi {
    n: usize,
    matrix: Vec<f64>,
    /// One after the other; `matrix` is the first one in their coordinates.
    vectors: Vec<f64>,
}

impl Jacobi {
    fn new(matrix: Vec<f64>, n: usize) -> Self {
        let vectors = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
        Self { n, matrix, vectors }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.matrix[row * self.n + column]
    }

    /// Rotates each pair of coordinates once, and says how many had something to rotate.
    fn sweep(&mut self) -> usize {
        let n = self.n;
        let pairs = (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q)));
        pairs.filter(|&(p, q)| self.rotate(p, q)).count()
    }

    /// Rotates two coordinates so that the elements that join them become 0; false where they are already, as far as
    /// the diagonal ones can tell.
    fn rotate(&mut self, p: usize, q: usize) -> bool {
        let (app, aqq, apq) = (self.at(p, p), self.at(q, q), self.at(p, q));
        if apq == 0.0 || apq.abs() <= f64::EPSILON * 0.25 * (app.abs().sqrt() * aqq.abs().sqrt()) {
            return false;
        }
        let tau = (aqq - app) / (2.0 * apq);
        let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
        let c = 1.0 / (1.0 + t * t).sqrt();
        let s = t * c;
        for i in 0..self.n {
            let (x, y) = (self.at(i, p), self.at(i, q));
            self.matrix[i * self.n + p] = c * x - s * y;
            self.matrix[i * self.n + q] = s * x + c * y;
        }
        rotate_rows(&mut self.matrix, self.n, (p, q), (c, s));
        rotate_rows(&mut self.vectors, self.n, (p, q), (c, s));
        (self.matrix[p * self.n + q], self.matrix[q * self.n + p]) = (0.0, 0.0);
        true
    }
}

fn rotate_rows(matrix: &mut [f64], n: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    for i in 0..n {
        let (x, y) = (matrix[p * n + i], matrix[q * n + i]);
        matrix[p * n + i] = c * x - s * y;
        matrix[q * n + i] = s * x + c * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_those_of_the_matrix() {
        let n = 12;
        let entry =
            |i: usize, j: usize| (((i * j + i + j) * 7919) % 101) as f64 - 50.0 + if i == j { 40.0 } else { 0.0 };
        let matrix: Vec<f64> = (0..n * n).map(|k| entry(k / n, k % n)).collect();
        let vectors = eigenvectors(matrix.clone(), n);
        let mut last = f64::INFINITY;
        for (a, vector) in vectors.iter().enumerate() {
            let image: Vec<f64> =
                matrix.chunks(n).map(|row| row.iter().zip(vector).map(|(m, v)| m * v).sum()).collect();
            let value: f64 = image.iter().zip(vector).map(|(x, v)| x * v).sum();
            assert!(value <= last + 1e-9, "{value} after {last}");
            last = value;
            for (x, v) in image.iter().zip(vector) {
                assert!((x - value * v).abs() < 1e-10, "{x} is not {value} times {v}");
            }
            for (b, other) in vectors.iter().enumerate() {
                let dot: f64 = vector.iter().zip(other).map(|(x, y)| x * y).sum();
                assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn what_does_not_vary_is_last() {
        assert_eq!(eigenvectors(vec![0.0, 0.0, 0.0, 4.0], 2), [[0.0, 1.0], [1.0, 0.0]]);
        assert_eq!(eigenvectors(vec![0.0; 4], 2), [[1.0, 0.0], [0.0, 1.0]]);
        assert_eq!(eigenvectors(Vec::new(), 0), Vec::<Vec<f64>>::new());
    }
}
