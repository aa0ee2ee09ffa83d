//! Count, sum, mean, sample variance, minimum and maximum of a column, exactly.

use super::superaccumulator::{Superaccumulator, take};
use super::window::ExponentWindow;

/// What [`ExactMoments`] found; each number is rounded once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// How many values there were, NaN and infinities among them.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their mean; none without values.
    pub mean: Option<f64>,
    /// Their sample variance (over `count - 1`); none with fewer than two values.
    pub variance: Option<f64>,
    /// The smallest, by total order and NaN aside; none without such.
    pub min: Option<f64>,
    /// The largest, by total order and NaN aside; none without such.
    pub max: Option<f64>,
}

impl Moments {
    /// The smallest and the largest; none without a number.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        self.min.zip(self.max)
    }
}

/// Sums of values and of their squares, to the last bit.
///
/// NaN, or infinities of both signs, make sum, mean and variance NaN; infinities of one sign make sum and mean
/// infinite and the variance NaN.
#[derive(Debug, Clone)]
pub struct ExactMoments {
    count: u64,
    n_nan: u64,
    n_positive_infinity: u64,
    n_negative_infinity: u64,
    min: Option<f64>,
    max: Option<f64>,
    sum: Superaccumulator,
    squares: Option<Superaccumulator>,
    window: ExponentWindow,
}

impl ExactMoments {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self { squares: Some(Superaccumulator::for_squares()), ..Self::without_squares() }
    }

    /// Of nothing yet, and without what the variance needs.
    pub fn without_squares() -> Self {
        Self {
            count: 0,
            n_nan: 0,
            n_positive_infinity: 0,
            n_negative_infinity: 0,
            min: None,
            max: None,
            sum: Superaccumulator::for_values(),
            squares: None,
            window: ExponentWindow::default(),
        }
    }

    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        if !value.is_finite() {
            self.add_special(value);
            return;
        }
        self.extend(value, value);
        self.window.add(value, self.squares.is_some());
        if self.window.is_full() {
            self.drain();
        }
    }

    /// Takes away a value that was added. The bounds stay those of all that was ever added.
    pub fn remove(&mut self, value: f64) {
        self.count -= 1;
        if !value.is_finite() {
            let n = match value {
                f64::INFINITY => &mut self.n_positive_infinity,
                f64::NEG_INFINITY => &mut self.n_negative_infinity,
                _ => &mut self.n_nan,
            };
            *n -= 1;
            return;
        }
        self.window.add(-value, false);
        if let Some(squares) = &mut self.squares {
            squares.subtract_square(value);
        }
        if self.window.is_full() {
            self.drain();
        }
    }

    /// The moments of what was added.
    pub fn moments(&mut self) -> Moments {
        self.drain();
        let special = self.special();
        Moments {
            count: self.count,
            sum: special.unwrap_or_else(|| self.sum.rounded()),
            mean: (self.count > 0).then(|| special.unwrap_or_else(|| self.sum.mean(self.count))),
            variance: self.variance(special.is_some()),
            min: self.min,
            max: self.max,
        }
    }

    /// The mean of the squares; none without values or where squares are not kept.
    pub fn mean_square(&mut self) -> Option<f64> {
        self.drain();
        let special = self.special().map(|_| if self.n_nan > 0 { f64::NAN } else { f64::INFINITY });
        let count = self.count;
        let squares = self.squares.as_mut().filter(|_| count > 0)?;
        Some(special.unwrap_or_else(|| squares.mean(count)))
    }

    /// Its bytes, for another to [`Self::merge`].
    pub fn state_bytes(&mut self) -> Vec<u8> {
        self.drain();
        let mut bytes = Vec::with_capacity(256);
        for number in [self.count, self.n_nan, self.n_positive_infinity, self.n_negative_infinity] {
            bytes.extend(number.to_le_bytes());
        }
        for bound in [self.min, self.max] {
            bytes.push(u8::from(bound.is_some()));
            bytes.extend(bound.unwrap_or(0.0).to_le_bytes());
        }
        self.sum.write(&mut bytes);
        if let Some(squares) = &mut self.squares {
            squares.write(&mut bytes);
        }
        bytes
    }

    /// Adds what another gave as bytes; none when they are damaged.
    pub fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        self.count += u64::from_le_bytes(take(bytes)?);
        self.n_nan += u64::from_le_bytes(take(bytes)?);
        self.n_positive_infinity += u64::from_le_bytes(take(bytes)?);
        self.n_negative_infinity += u64::from_le_bytes(take(bytes)?);
        if let (Some(min), Some(max)) = (read_bound(bytes)?, read_bound(bytes)?) {
            self.extend(min, max);
        }
        self.sum.read_and_add(bytes)?;
        if let Some(squares) = &mut self.squares {
            squares.read_and_add(bytes)?;
        }
        Some(())
    }

    /// How much memory it holds, in bytes.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.window.size()
            + self.sum.size()
            + self.squares.as_ref().map_or(0, Superaccumulator::size)
    }

    fn add_special(&mut self, value: f64) {
        if value.is_nan() {
            self.n_nan += 1;
            return;
        }
        self.extend(value, value);
        if value > 0.0 {
            self.n_positive_infinity += 1;
        } else {
            self.n_negative_infinity += 1;
        }
    }

    fn extend(&mut self, min: f64, max: f64) {
        if self.min.is_none_or(|old| min.total_cmp(&old).is_lt()) {
            self.min = Some(min);
        }
        if self.max.is_none_or(|old| max.total_cmp(&old).is_gt()) {
            self.max = Some(max);
        }
    }

    fn drain(&mut self) {
        self.window.drain(&mut self.sum, self.squares.as_mut());
    }

    /// The sum where it is not a finite one.
    fn special(&self) -> Option<f64> {
        match (self.n_nan, self.n_positive_infinity, self.n_negative_infinity) {
            (0, 0, 0) => None,
            (0, _, 0) => Some(f64::INFINITY),
            (0, 0, _) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// `(n · Σx² - (Σx)²) / (n · (n - 1))` over integers, rounded once.
    fn variance(&mut self, special: bool) -> Option<f64> {
        let squares = self.squares.as_mut()?;
        if self.count < 2 {
            return None;
        }
        if special {
            return Some(f64::NAN);
        }
        let (sum, _) = self.sum.magnitude();
        let (sum_of_squares, _) = squares.magnitude();
        let scaled = sum_of_squares.mul(&super::magnitude::Magnitude::from_u64(self.count));
        let (numerator, _) = scaled.difference(&sum.mul(&sum));
        if numerator.is_zero() {
            return Some(0.0);
        }
        Some(numerator.ratio_to_f64(squares.exponent(), &[self.count, self.count - 1]))
    }
}

impl Default for ExactMoments {
    fn default() -> Self {
        Self::new()
    }
}

fn read_bound(bytes: &mut &[u8]) -> Option<Option<f64>> {
    let [present] = take(bytes)?;
    let value = f64::from_le_bytes(take(bytes)?);
    Some((present == 1).then_some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moments(values: &[f64]) -> Moments {
        let mut all = ExactMoments::new();
        values.iter().for_each(|&v| all.add(v));
        all.moments()
    }

    #[test]
    fn hand_computed() {
        let m = moments(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((m.count, m.sum, m.mean), (8, 40.0, Some(5.0)));
        assert_eq!(m.variance, Some(32.0 / 7.0));
        assert_eq!((m.min, m.max), (Some(2.0), Some(9.0)));
    }

    #[test]
    fn a_large_offset_costs_the_variance_nothing() {
        // The textbook formula in f64 gives a negative variance here.
        assert_eq!(moments(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).variance, Some(30.0));
        // statistics.variance of Python 3 over fractions: 1/200 rounded.
        assert_eq!(moments(&[0.25, 0.5]).variance, Some(0.03125));
        assert_eq!(moments(&[0.1, 0.1, 0.1]).variance, Some(0.0));
    }

    #[test]
    fn special_values() {
        assert_eq!(moments(&[f64::INFINITY, 1.0]).mean, Some(f64::INFINITY));
        assert!(moments(&[f64::INFINITY, f64::NEG_INFINITY]).sum.is_nan());
        let with_nan = moments(&[f64::NAN, 1.0]);
        assert!(with_nan.sum.is_nan());
        assert_eq!((with_nan.min, with_nan.max), (Some(1.0), Some(1.0)));
        assert_eq!(moments(&[]).mean, None);
        assert_eq!(moments(&[1.0]).variance, None);
        assert_eq!(moments(&[0.0, -0.0]).min.map(f64::to_bits), Some((-0.0f64).to_bits()));
    }

    #[test]
    fn a_window_that_slides_has_the_moments_of_what_is_in_it() {
        let value = |i: u64| match i * 2_654_435_761 % 9 {
            0 | 1 => 1e16,
            magnitude => ((i * 40_503 % 1_000) as f64 - 400.5) * 10_f64.powi(magnitude as i32 - 5),
        };
        let values: Vec<f64> = (0..500).map(value).collect();
        let mut sliding = ExactMoments::new();
        for end in 0..values.len() {
            sliding.add(values[end]);
            if end >= 9 {
                sliding.remove(values[end - 9]);
            }
            let expected = moments(&values[(end + 1).saturating_sub(9)..=end]);
            let found = sliding.moments();
            assert_eq!(
                (found.sum, found.mean, found.variance),
                (expected.sum, expected.mean, expected.variance),
                "{end}"
            );
        }
    }

    proptest! {
        #[test]
        fn merging_parts_is_adding_all(values in prop::collection::vec(prop::num::f64::ANY, 0..60), cut in 0usize..60) {
            let cut = cut.min(values.len());
            let mut right = ExactMoments::new();
            values[cut..].iter().rev().for_each(|&v| right.add(v));
            let mut left = ExactMoments::new();
            values[..cut].iter().for_each(|&v| left.add(v));
            right.merge(&left.state_bytes()).unwrap();
            prop_assert_eq!(format!("{:?}", right.moments()), format!("{:?}", moments(&values)));
        }

        #[test]
        fn removing_is_never_having_added(values in prop::collection::vec(prop::num::f64::ANY, 0..60), cut in 0usize..60) {
            let (gone, left) = values.split_at(cut.min(values.len()));
            let mut all = ExactMoments::new();
            values.iter().for_each(|&v| all.add(v));
            gone.iter().for_each(|&v| all.remove(v));
            let without_bounds = |moments: Moments| format!("{:?}", Moments { min: None, max: None, ..moments });
            prop_assert_eq!(without_bounds(all.moments()), without_bounds(moments(left)));
        }

        #[test]
        fn variance_is_close_to_welford(values in prop::collection::vec(-1e6f64..1e6, 2..200)) {
            let (mut mean, mut m2) = (0.0, 0.0);
            for (i, &v) in values.iter().enumerate() {
                let delta = v - mean;
                mean += delta / (i + 1) as f64;
                m2 += delta * (v - mean);
            }
            let expected = m2 / (values.len() - 1) as f64;
            let got = moments(&values).variance.unwrap();
            prop_assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-9));
        }
    }
}
