//! Upper tails of the distributions that tests compare with.
//!
//! Source: Press et al., "Numerical Recipes", 6.1, 6.2 and 6.4: series and continued fractions of the incomplete gamma
//! and beta functions.

use std::f64::consts::PI;

/// Terms after which a series or fraction ends in any case.
const MAX_TERMS: usize = 10_000;
/// What stands for a 0 that would be divided by.
const TINY: f64 = 1e-300;
/// Lanczos' coefficients for g = 7.
const LANCZOS: [f64; 9] = [
    0.999_999_999_999_809_9,
    676.520_368_121_885_1,
    -1_259.139_216_722_402_8,
    771.323_428_777_653_1,
    -176.615_029_162_140_6,
    12.507_343_278_686_905,
    -0.138_571_095_265_720_12,
    9.984_369_578_019_572e-6,
    1.505_632_735_149_311_6e-7,
];

/// The probability that a chi-squared variable is above `x`.
pub(super) fn chi_squared_above(x: f64, degrees: f64) -> f64 {
    let (a, x) = (degrees / 2.0, x / 2.0);
    if x.is_nan() || x <= 0.0 {
        return if x.is_nan() { x } else { 1.0 };
    }
    if x.is_infinite() {
        return 0.0;
    }
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 { 1.0 - scale * gamma_series(a, x) } else { scale * gamma_fraction(a, x) }
}

/// The probability that an F variable is above `f`.
pub(super) fn f_above(f: f64, between: f64, within: f64) -> f64 {
    if f.is_nan() || f <= 0.0 {
        return if f.is_nan() { f } else { 1.0 };
    }
    incomplete_beta(within / (within + between * f), within / 2.0, between / 2.0)
}

/// The logarithm of the gamma function of a positive number.
fn ln_gamma(x: f64) -> f64 {
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let terms = LANCZOS.iter().enumerate().skip(1).map(|(i, c)| c / (x + i as f64));
    let t = x + 7.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + (LANCZOS[0] + terms.sum::<f64>()).ln()
}

/// `Σ x^n / (a · (a + 1) · … · (a + n))`.
fn gamma_series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum) = (1.0 / a, 1.0 / a);
    for n in 1..MAX_TERMS {
        term *= x / (a + n as f64);
        sum += term;
        if term < sum * f64::EPSILON {
            break;
        }
    }
    sum
}

/// The continued fraction of the upper incomplete gamma function, by Lentz' method.
fn gamma_fraction(a: f64, x: f64) -> f64 {
    let b = |i: usize| x + (2 * i + 1) as f64 - a;
    lentz(1.0, b, |i| -(i as f64) * (i as f64 - a))
}

/// The regularised incomplete beta function.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let scale = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        scale * beta_fraction(x, a, b) / a
    } else {
        1.0 - scale * beta_fraction(1.0 - x, b, a) / b
    }
}

fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    let numerator = |i: usize| {
        let m = (i / 2) as f64;
        if i.is_multiple_of(2) {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        }
    };
    lentz(1.0, |_| 1.0, numerator)
}

/// `first / (b(0) + a(1) / (b(1) + a(2) / (b(2) + …)))`.
fn lentz(first: f64, b: impl Fn(usize) -> f64, a: impl Fn(usize) -> f64) -> f64 {
    let away_from_zero = |x: f64| if x.abs() < TINY { TINY } else { x };
    let mut value = away_from_zero(b(0));
    let (mut c, mut d) = (value, 0.0);
    for i in 1..MAX_TERMS {
        d = 1.0 / away_from_zero(b(i) + a(i) * d);
        c = away_from_zero(b(i) + a(i) / c);
        value *= c * d;
        if (c * d - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    first / value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-11 * expected.max(1e-3), "{got}, expected {expected}");
    }

    #[test]
    fn tails_in_closed_form() {
        for x in [0.01, 0.5, 3.0, 20.0, 300.0] {
            // Two degrees: an exponential variable. Four: one term more.
            close(chi_squared_above(x, 2.0), (-x / 2.0).exp());
            close(chi_squared_above(x, 4.0), (-x / 2.0).exp() * (1.0 + x / 2.0));
            // F of 2 and d: a power.
            close(f_above(x, 2.0, 8.0), (1.0 + x / 4.0).powi(-4));
            // F of 1 and 1: the square of a Cauchy variable.
            close(f_above(x, 1.0, 1.0), 1.0 - 2.0 / PI * x.sqrt().atan());
        }
        assert_eq!((chi_squared_above(0.0, 3.0), f_above(0.0, 1.0, 5.0)), (1.0, 1.0));
        assert_eq!((chi_squared_above(f64::INFINITY, 3.0), f_above(f64::INFINITY, 1.0, 5.0)), (0.0, 0.0));
        assert!(f_above(f64::NAN, 1.0, 5.0).is_nan() && chi_squared_above(f64::NAN, 1.0).is_nan());
    }

    #[test]
    fn gamma_of_whole_numbers_is_a_factorial() {
        close(ln_gamma(11.0).exp(), 3_628_800.0);
        close(ln_gamma(0.5), PI.sqrt().ln());
    }
}
