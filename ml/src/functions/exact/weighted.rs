//! Mean, mean square and spread of weighted values, exactly.

use super::superaccumulator::{Superaccumulator, take};

/// `Σw`, `Σwx` and `Σwx²` to the last bit, as long as the parts of the products are within the range of `f64`: there is
/// no cancellation in a spread, and no result depends on the order of the values.
///
/// A value that is NaN or infinite, or whose weighted square is, makes all results NaN.
#[derive(Debug, Clone)]
pub(crate) struct WeightedMoments {
    n_special: u64,
    weight: Superaccumulator,
    sum: Superaccumulator,
    squares: Superaccumulator,
}

impl WeightedMoments {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        let [weight, sum, squares] = std::array::from_fn(|_| Superaccumulator::for_values());
        Self { n_special: 0, weight, sum, squares }
    }

    /// Adds a value with a weight that is finite and above 0.
    pub(crate) fn add(&mut self, value: f64, weight: f64) {
        let [square, rest] = product(value, value);
        let squares = [product(weight, square), product(weight, rest)].concat();
        let sums = product(weight, value);
        self.weight.add(weight);
        if !squares.iter().chain(&sums).all(|part| part.is_finite()) {
            self.n_special += 1;
            return;
        }
        sums.into_iter().for_each(|part| self.sum.add(part));
        squares.into_iter().for_each(|part| self.squares.add(part));
    }

    /// The mean; none without values.
    pub(crate) fn mean(&mut self) -> Option<f64> {
        let weight = self.checked_weight()?;
        Some(self.sum.rounded() / weight)
    }

    /// The mean of the squares; none without values.
    pub(crate) fn mean_square(&mut self) -> Option<f64> {
        let weight = self.checked_weight()?;
        Some(self.squares.rounded() / weight)
    }

    /// The mean of the squares around the mean, `(Σw · Σwx² - (Σwx)²) / (Σw)²` over integers; none without values.
    pub(crate) fn spread(&mut self) -> Option<f64> {
        let weight = self.checked_weight()?;
        let ((weights, _), (sum, _), (squares, _)) =
            (self.weight.magnitude(), self.sum.magnitude(), self.squares.magnitude());
        let (numerator, _) = weights.mul(&squares).difference(&sum.mul(&sum));
        Some(numerator.ratio_to_f64(2 * self.sum.exponent(), &[1]) / weight / weight)
    }

    /// Its bytes, for another to [`Self::merge`].
    pub(crate) fn state_bytes(&mut self) -> Vec<u8> {
        let mut bytes = self.n_special.to_le_bytes().to_vec();
        [&mut self.weight, &mut self.sum, &mut self.squares].into_iter().for_each(|sum| sum.write(&mut bytes));
        bytes
    }

    /// Adds what another gave as bytes; none when they are damaged.
    pub(crate) fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        self.n_special += u64::from_le_bytes(take(bytes)?);
        for sum in [&mut self.weight, &mut self.sum, &mut self.squares] {
            sum.read_and_add(bytes)?;
        }
        Some(())
    }

    /// How much memory it holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.weight.size() + self.sum.size() + self.squares.size()
    }

    /// The sum of the weights: NaN with special values, none without values.
    fn checked_weight(&mut self) -> Option<f64> {
        let weight = Some(self.weight.rounded()).filter(|weight| *weight > 0.0)?;
        Some(if self.n_special > 0 { f64::NAN } else { weight })
    }
}

/// A product as the sum of two numbers (Dekker 1971): exact but for what is too small.
fn product(a: f64, b: f64) -> [f64; 2] {
    let high = a * b;
    [high, a.mul_add(b, -high)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::exact::ExactMoments;

    #[test]
    fn whole_weights_are_repeated_values() {
        let values = [1e4 + 1e-3, 1e4, 1e4 - 2.5e-3, -7.25, 0.1];
        let (mut weighted, mut repeated) = (WeightedMoments::new(), ExactMoments::new());
        for (i, value) in values.into_iter().enumerate() {
            weighted.add(value, (i + 1) as f64);
            (0..=i).for_each(|_| repeated.add(value));
        }
        let n = 15.0;
        let moments = repeated.moments();
        let close = |a: Option<f64>, b: f64| (a.unwrap() / b - 1.0).abs() < 1e-15;
        assert!(close(weighted.mean(), moments.mean.unwrap()));
        assert!(close(weighted.mean_square(), repeated.mean_square().unwrap()));
        assert!(close(weighted.spread(), moments.variance.unwrap() * (n - 1.0) / n));
    }

    #[test]
    fn values_far_from_zero_keep_their_spread() {
        let mut moments = WeightedMoments::new();
        [(1e9, 0.1), (1e9 + 1.0, 0.1)].into_iter().for_each(|(value, weight)| moments.add(value, weight));
        assert!((moments.spread().unwrap() - 0.25).abs() < 1e-15);
    }

    #[test]
    fn nothing_has_no_mean_and_special_values_have_nan() {
        let mut moments = WeightedMoments::new();
        assert_eq!((moments.mean(), moments.spread()), (None, None));
        moments.add(1e200, 1.0);
        let mut other = WeightedMoments::new();
        assert_eq!(other.merge(&moments.state_bytes()), Some(()));
        assert!(other.mean().unwrap().is_nan() && other.spread().unwrap().is_nan());
        assert_eq!(other.merge(&moments.state_bytes()[..9]), None);
    }
}
