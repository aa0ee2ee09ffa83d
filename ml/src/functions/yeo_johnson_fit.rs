//! `yeo_johnson_fit(x [, include])`: the `λ` under which a column's Yeo-Johnson transform is likeliest to be normal.
//!
//! It is where the log-likelihood `-n/2 · ln(variance of the transformed) + (λ - 1) · Σ sign(x) · ln(|x| + 1)` has its
//! maximum, found by golden-section search. The result is a struct: `count`, how many numbers there are; `infinite`,
//! how many of them are; `lambda`; and the `mean` and the `std` (over `n`) of the transformed numbers. The last three
//! are null without a number, with an infinite one, or where powers are infinite. Nulls and NaN, and rows for which
//! `include` is not true, are left out.
//!
//! The numbers are counted as in [`super::exact_quantile`], exactly up to 65,536 distinct ones and with mantissas
//! shortened beyond it, and the sums go over those counts in ascending order: the result does not depend on the order
//! and partitioning of the rows. `λ` is kept where the transformed numbers stay finite, and apart from one another.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::exact_quantile::MAX_EXACT_VALUES;
use super::key_counts::KeyCounts;
use super::support;
use super::yeo_johnson::{power, transformed};

const NAME: &str = "yeo_johnson_fit";

/// The natural logarithm of the largest transformed number: its square times 2^63 rows is finite.
const MAX_LOG: f64 = 300.0;
/// The same of the smallest one over 1, of which it is taken off: half of an `f64`'s digits are left.
const MIN_LOG: f64 = -18.0;
/// `λ` of columns that leave it open is no further from 1.
const MAX_LAMBDA: f64 = 1e6;
/// The search ends when `λ` is known this closely, for its size; the likelihood tells no more.
const TOLERANCE: f64 = 1e-9;
/// Steps after which any interval is that short.
const MAX_STEPS: usize = 100;

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<YeoJohnsonFit>()
}

/// A call of the function.
pub fn yeo_johnson_fit(x: Expr) -> Expr {
    udaf().call(vec![x])
}

/// What the function gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// How many numbers there are.
    pub count: u64,
    /// How many of them are infinite.
    pub infinite: u64,
    /// The likeliest transform; none without a number, with infinite ones, or where their powers are infinite.
    pub transform: Option<Transform>,
}

/// A transform and what it makes of the numbers that it was fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform {
    /// The transform's parameter.
    pub lambda: f64,
    /// The mean of the transformed numbers.
    pub mean: f64,
    /// Their standard deviation, over `n`; 0 for a column that does not vary.
    pub std: f64,
}

/// Reads the function's result.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Fitted> {
    let ScalarValue::Struct(result) = value else {
        return exec_err!("expected the struct that {NAME} gives, got {}", value.data_type());
    };
    let count = |index: usize| result.column(index).as_primitive_opt::<Int64Type>().map(|n| n.value(0) as u64);
    let number = |index: usize| {
        let numbers = result.column(index).as_primitive_opt::<Float64Type>()?;
        numbers.is_valid(0).then(|| numbers.value(0))
    };
    let (Some(count), Some(infinite)) = (count(0), count(1)) else {
        return support::damaged(NAME);
    };
    let transform = match (number(2), number(3), number(4)) {
        (Some(lambda), Some(mean), Some(std)) => Some(Transform { lambda, mean, std }),
        _ => None,
    };
    Ok(Fitted { count, infinite, transform })
}

fn fields() -> Fields {
    let count = |name: &str| Field::new(name, DataType::Int64, false);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    Fields::from(vec![count("count"), count("infinite"), number("lambda"), number("mean"), number("std")])
}

#[derive(Debug)]
struct YeoJohnsonFit(KeyCounts);

impl Aggregate for YeoJohnsonFit {
    const NAME: &'static str = NAME;

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Struct(fields())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self(KeyCounts::new(MAX_EXACT_VALUES)))
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        support::for_each_number(values, |v| self.0.add(v))
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.0.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let fitted = fitted(&self.0.sorted());
        let count = |count: u64| Arc::new(Int64Array::from(vec![count as i64])) as ArrayRef;
        let number =
            |of: fn(Transform) -> f64| Arc::new(Float64Array::from(vec![fitted.transform.map(of)])) as ArrayRef;
        let columns = vec![
            count(fitted.count),
            count(fitted.infinite),
            number(|transform| transform.lambda),
            number(|transform| transform.mean),
            number(|transform| transform.std),
        ];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// The fit to numbers in ascending order, each with how often it comes.
fn fitted(counts: &[(f64, u64)]) -> Fitted {
    let count: u64 = counts.iter().map(|(_, count)| count).sum();
    let infinite: u64 = counts.iter().filter(|(x, _)| x.is_infinite()).map(|(_, count)| count).sum();
    if count == 0 || infinite > 0 {
        return Fitted { count, infinite, transform: None };
    }
    let lambda = if counts.len() == 1 { 1.0 } else { Likelihood::of(counts).best_lambda() };
    let (mean, variance) =
        moments(counts.iter().map(|&(x, count)| (transformed(x, lambda), count as f64)), count as f64);
    let std = if counts.len() == 1 { 0.0 } else { variance.sqrt() };
    let transform = Some(Transform { lambda, mean, std }).filter(|_| mean.is_finite() && std.is_finite());
    Fitted { count, infinite, transform }
}

/// The mean and the variance, over `n`, of weighted numbers.
fn moments(numbers: impl Iterator<Item = (f64, f64)> + Clone, n: f64) -> (f64, f64) {
    let mean = numbers.clone().map(|(x, weight)| weight * x).sum::<f64>() / n;
    let variance = numbers.map(|(x, weight)| weight * (x - mean) * (x - mean)).sum::<f64>() / n;
    (mean, variance)
}

/// How likely a `λ` is for some numbers.
struct Likelihood {
    /// `sign(x) · ln(|x| + 1)` of each, and how often it comes.
    logs: Vec<(f64, f64)>,
    n: f64,
    mean_log: f64,
    /// The smallest magnitude among the logarithms where all have one sign, else 0: what numbers far from 0 have in
    /// common is taken out of the variance as a factor, so that they stay apart.
    base: f64,
}

impl Likelihood {
    fn of(counts: &[(f64, u64)]) -> Self {
        let log = |x: f64| x.abs().ln_1p().copysign(x);
        let logs: Vec<(f64, f64)> = counts.iter().map(|&(x, count)| (log(x), count as f64)).collect();
        let n: f64 = logs.iter().map(|(_, count)| count).sum();
        let mean_log = logs.iter().map(|(log, count)| count * log).sum::<f64>() / n;
        let (first, last) = (logs[0].0, logs[logs.len() - 1].0);
        let base = if first > 0.0 {
            first
        } else if last < 0.0 {
            -last
        } else {
            0.0
        };
        Self { logs, n, mean_log, base }
    }

    fn best_lambda(&self) -> f64 {
        let (low, high) = self.bounds();
        if low < high { minimum(|lambda| self.cost(lambda), low, high) } else { 1.0 }
    }

    /// The negative log-likelihood of each number, on average.
    fn cost(&self, lambda: f64) -> f64 {
        let numbers = self.logs.iter().map(|&(log, count)| (self.spread(log, lambda), count));
        let (_, variance) = moments(numbers, self.n);
        let common = 2.0 * self.base * exponent(self.mean_log, lambda);
        0.5 * (variance.max(f64::MIN_POSITIVE).ln() + common) - (lambda - 1.0) * self.mean_log
    }

    /// The transformed number but for a summand and the factor that all have in common.
    fn spread(&self, log: f64, lambda: f64) -> f64 {
        power(log.abs() - self.base, exponent(log, lambda)).copysign(log)
    }

    /// Between which `λ` is.
    fn bounds(&self) -> (f64, f64) {
        let (first, last) = (self.logs[0].0, self.logs[self.logs.len() - 1].0);
        let (mut low, mut high) = (1.0 - MAX_LAMBDA, 1.0 + MAX_LAMBDA);
        if last > 0.0 {
            high = high.min(MAX_LOG / last);
        }
        if first < 0.0 {
            low = low.max(2.0 - MAX_LOG / -first);
        }
        if first > 0.0 {
            low = low.max(MIN_LOG / self.base);
        }
        if last < 0.0 {
            high = high.min(2.0 - MIN_LOG / self.base);
        }
        (low, high)
    }
}

/// What a number of this logarithm is raised to.
fn exponent(log: f64, lambda: f64) -> f64 {
    if log >= 0.0 { lambda } else { 2.0 - lambda }
}

/// Where a function that falls and then rises has its minimum, by golden-section search.
fn minimum(cost: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
    let (mut left_cost, mut right_cost) = (cost(left), cost(right));
    for _ in 0..MAX_STEPS {
        if high - low <= TOLERANCE * (1.0 + low.abs()) {
            break;
        }
        if left_cost <= right_cost {
            (high, right, right_cost) = (right, left, left_cost);
            left = high - golden * (high - low);
            left_cost = cost(left);
        } else {
            (low, left, left_cost) = (left, right, right_cost);
            right = low + golden * (high - low);
            right_cost = cost(right);
        }
    }
    low.midpoint(high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fit(values: &[f64]) -> Fitted {
        let mut counts = KeyCounts::new(MAX_EXACT_VALUES);
        values.iter().for_each(|&x| counts.add(x));
        fitted(&counts.sorted())
    }

    /// The `λ`, mean and standard deviation of `f` of 0 to 199.
    fn check(f: impl Fn(f64) -> f64, lambda: f64, mean: f64, std: f64) {
        let values: Vec<f64> = (0..200).map(|i| f(f64::from(i))).collect();
        let found = fit(&values).transform.unwrap();
        for (found, expected) in [(found.lambda, lambda), (found.mean, mean), (found.std, std)] {
            assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} {expected}");
        }
    }

    #[test]
    fn lambda_is_that_of_scikit_learn() {
        // sklearn.preprocessing.PowerTransformer().fit of scikit-learn 1.9.1; mean and variance of its scaler.
        check(|i| i, 0.7137822303713236, 34.63685260980504, 16.39318814549327);
        check(|i| i / 100.0 - 1.0, 1.001740032959036, -0.004762834673889102, 0.5773394278228157);
        check(|i| (i * 0.7).sin(), 1.0258553545351692, 0.010902261940441037, 0.7058434119145724);
        check(|i| (i / 20.0).exp(), -0.019485753922159222, 4.749706860657348, 2.5118814636625983);
        check(|i| -(i / 20.0).exp(), 2.0194857592368822, -4.7497067802678865, 2.5118813961253768);
        check(|i| (i - 150.0).powi(3), 1.1306822877271034, -86640.63683658445, 191828.86668430272);
        check(|i| (i % 7.0).powi(4) - 40.0, 0.6521703717796233, 5.607323761238211, 95.193170574312);
        check(|i| 1.0 / (1.0 + i), -35.89020688449076, 0.011022629286326777, 0.006705435835083397);
        check(|i| (i % 2.0) * 3.0, 1.4011579658871392e-08, 0.693147187291851, 0.6931471872918509);
    }

    #[test]
    fn a_column_that_does_not_vary_stays() {
        let expected = Transform { lambda: 1.0, mean: 7.0, std: 0.0 };
        let found = fit(&[7.0; 3]);
        assert_eq!(found.count, 3);
        let found = found.transform.unwrap();
        assert_eq!((found.lambda, found.std), (expected.lambda, expected.std));
        assert!((found.mean - expected.mean).abs() < 1e-14);
    }

    #[test]
    fn numbers_far_from_zero_stay_apart() {
        let years: Vec<f64> = (1990..2020).map(f64::from).collect();
        let found = fit(&years).transform.unwrap();
        let transformed: Vec<f64> = years.iter().map(|&x| transformed(x, found.lambda)).collect();
        assert!(transformed.windows(2).all(|pair| (pair[1] - pair[0]) / found.std > 0.05), "{found:?}");
        let negative: Vec<f64> = years.iter().map(|x| -x).collect();
        // The likelihood is flat here: it tells no more digits.
        assert!((fit(&negative).transform.unwrap().lambda - (2.0 - found.lambda)).abs() < 1e-3);
    }

    #[test]
    fn nothing_and_infinities_have_no_transform() {
        assert_eq!(fit(&[f64::NAN]), Fitted { count: 0, infinite: 0, transform: None });
        assert_eq!(fit(&[1.0, f64::INFINITY]), Fitted { count: 2, infinite: 1, transform: None });
        assert_eq!(fit(&[-1e308, -9e307, 1e308]), Fitted { count: 3, infinite: 0, transform: None });
    }

    proptest! {
        #[test]
        fn numbers_of_any_size_have_a_finite_fit(
            values in prop::collection::vec(-1e60f64..1e60, 1..20),
            scale in 0..60,
        ) {
            let values: Vec<f64> = values.iter().map(|x| x * 10f64.powi(-2 * scale)).collect();
            let found = fit(&values).transform.unwrap();
            prop_assert!(found.lambda.is_finite() && found.mean.is_finite() && found.std.is_finite(), "{found:?}");
        }
    }
}
