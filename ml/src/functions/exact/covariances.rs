//! Sample covariances of the elements of vectors, exactly.

use super::magnitude::Magnitude;
use super::superaccumulator::{Superaccumulator, take};

/// Sums of the elements of vectors and of their products in pairs, to the last bit.
///
/// The state of `n` elements has about `n²/2` KiB.
#[derive(Debug, Clone)]
pub struct ExactCovariances {
    count: u64,
    /// For each element, how many values were NaN or infinite.
    n_special: Vec<u64>,
    sums: Vec<Superaccumulator>,
    /// Of each element with itself and with those after it.
    products: Vec<Superaccumulator>,
}

impl ExactCovariances {
    /// Of nothing yet; vectors have `n` elements.
    pub fn new(n: usize) -> Self {
        Self {
            count: 0,
            n_special: vec![0; n],
            sums: vec![Superaccumulator::for_values(); n],
            products: vec![Superaccumulator::for_squares(); n * (n + 1) / 2],
        }
    }

    /// Adds a vector of that many elements.
    pub fn add(&mut self, vector: &[f64]) {
        self.count += 1;
        let mut products = self.products.iter_mut();
        for (i, &x) in vector.iter().enumerate() {
            if x.is_finite() {
                self.sums[i].add(x);
            } else {
                self.n_special[i] += 1;
            }
            for (&y, product) in vector[i..].iter().zip(products.by_ref()) {
                if x.is_finite() && y.is_finite() {
                    product.add_product(x, y);
                }
            }
        }
    }

    /// How many vectors were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The covariance matrix (over `count - 1`), row by row, each number rounded once; NaN with fewer than two vectors,
    /// and in the rows and columns of elements that were NaN or infinite.
    pub fn matrix(&mut self) -> Vec<f64> {
        let n = self.sums.len();
        let sums: Vec<(Magnitude, bool)> = self.sums.iter_mut().map(Superaccumulator::magnitude).collect();
        let mut matrix = vec![f64::NAN; n * n];
        let mut products = self.products.iter_mut();
        for i in 0..n {
            for (j, product) in (i..n).zip(products.by_ref()) {
                if self.count > 1 && self.n_special[i] == 0 && self.n_special[j] == 0 {
                    let value = covariance(self.count, product, &sums[i], &sums[j]);
                    (matrix[i * n + j], matrix[j * n + i]) = (value, value);
                }
            }
        }
        matrix
    }

    /// Its bytes, for another to [`Self::merge`].
    pub fn state_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.count].iter().chain(&self.n_special) {
            bytes.extend(number.to_le_bytes());
        }
        self.sums.iter_mut().chain(&mut self.products).for_each(|sum| sum.write(&mut bytes));
        bytes
    }

    /// Adds what another of as many elements gave as bytes; none when they are damaged.
    pub fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        for number in [&mut self.count].into_iter().chain(&mut self.n_special) {
            *number = number.checked_add(u64::from_le_bytes(take(bytes)?))?;
        }
        self.sums.iter_mut().chain(&mut self.products).try_for_each(|sum| sum.read_and_add(bytes))?;
        bytes.is_empty().then_some(())
    }

    /// How much memory it holds, in bytes.
    pub fn size(&self) -> usize {
        let sums = self.sums.iter().chain(&self.products).map(Superaccumulator::size);
        size_of::<Self>() + self.n_special.capacity() * size_of::<u64>() + sums.sum::<usize>()
    }
}

/// `(n · Σxy - Σx · Σy) / (n · (n - 1))` over integers, rounded once.
fn covariance(count: u64, product: &mut Superaccumulator, x: &(Magnitude, bool), y: &(Magnitude, bool)) -> f64 {
    let exponent = product.exponent();
    let (products, is_negative) = product.magnitude();
    let products = products.mul(&Magnitude::from_u64(count));
    let (of_sums, sums_negative) = (x.0.mul(&y.0), x.1 != y.1);
    let (numerator, flipped) =
        if is_negative == sums_negative { products.difference(&of_sums) } else { (products.plus(&of_sums), false) };
    let value = numerator.ratio_to_f64(exponent, &[count, count - 1]);
    if is_negative != flipped { -value } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ExactMoments;
    use super::*;

    fn matrix(rows: &[[f64; 3]]) -> Vec<f64> {
        let mut all = ExactCovariances::new(3);
        rows.iter().for_each(|row| all.add(row));
        all.matrix()
    }

    #[test]
    fn hand_computed() {
        let rows = [[1e9 + 1.0, 4.0, -1.0], [1e9 + 2.0, 2.0, 1.0], [1e9 + 3.0, 0.0, 3.0]];
        assert_eq!(matrix(&rows), [1.0, -2.0, 2.0, -2.0, 4.0, -4.0, 2.0, -4.0, 4.0]);
        // The product of the sums and the sum of the products have other signs.
        assert_eq!(matrix(&[[3.0, 2.0, 0.0], [-4.0, -1.0, 0.0]])[1], 10.5);
        assert_eq!(matrix(&[[1.0, 4.0, f64::NAN], [1.5, 2.0, 1.0]])[..3].iter().filter(|x| x.is_nan()).count(), 1);
        assert!(matrix(&[[1.0, 2.0, 3.0]]).iter().all(|x| x.is_nan()));
    }

    proptest! {
        #[test]
        fn merging_parts_is_adding_all(
            rows in prop::collection::vec(prop::array::uniform3(-1e6f64..1e6), 0..40),
            cut in 0usize..40,
        ) {
            let cut = cut.min(rows.len());
            let mut right = ExactCovariances::new(3);
            rows[cut..].iter().rev().for_each(|row| right.add(row));
            let mut left = ExactCovariances::new(3);
            rows[..cut].iter().for_each(|row| left.add(row));
            right.merge(&left.state_bytes()).unwrap();
            let bits = |matrix: Vec<f64>| matrix.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(bits(right.matrix()), bits(matrix(&rows)));
        }

        #[test]
        fn the_diagonal_is_the_variance(rows in prop::collection::vec(prop::array::uniform3(-1e6f64..1e6), 2..40)) {
            let matrix = matrix(&rows);
            for i in 0..3 {
                let mut moments = ExactMoments::new();
                rows.iter().for_each(|row| moments.add(row[i]));
                prop_assert_eq!(Some(matrix[i * 4]), moments.moments().variance);
            }
        }
    }
}
