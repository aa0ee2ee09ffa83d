//! `exp`, `ln` and the logistic functions from additions, multiplications and divisions only.
//!
//! The system's math library picks instructions by processor, and its last bit with them; these give the same bits
//! on every machine. Errors are within two units in the last place.

/// Adding and taking away 1.5 × 2^52 rounds to the nearest integer.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// The high bits of ln 2: times an integer below 2^20 it is exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
/// ln 2 less its high bits.
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// 1 / k! for k = 13 down to 0.
const EXP_SERIES: [f64; 14] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// e to the `x`; `x` beyond ±708 counts as ±708.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    let x = x.clamp(-708.0, 708.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    let mut sum = EXP_SERIES[0];
    for c in &EXP_SERIES[1..] {
        sum = sum * r + c;
    }
    // The low bits of `shifted` hold k: moved to the exponent they make 2^k.
    sum * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// `1 / (1 + e^-z)`.
#[inline(always)]
pub(crate) fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + exp(-z))
}

/// `ln(1 + e^z)`, without overflow.
#[inline]
pub(crate) fn softplus(z: f64) -> f64 {
    z.max(0.0) + ln_1p_unit(exp(-z.abs()))
}

/// [`softplus`] and [`sigmoid`], from one exponential.
#[inline(always)]
pub(crate) fn softplus_and_sigmoid(z: f64) -> (f64, f64) {
    let u = exp(-z.abs());
    let of_positive = 1.0 / (1.0 + u);
    (z.max(0.0) + ln_1p_unit(u), if z >= 0.0 { of_positive } else { u * of_positive })
}

/// Makes the shares of `e^z` of margins. A margin of NaN makes all shares NaN.
pub(crate) fn softmax(margins: &mut [f64]) {
    let largest = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    margins.iter_mut().for_each(|z| *z = exp(*z - largest));
    let sum: f64 = margins.iter().sum();
    margins.iter_mut().for_each(|z| *z /= sum);
}

/// `ln(1 + u)` for `u` in 0..=1.
#[inline(always)]
fn ln_1p_unit(u: f64) -> f64 {
    let s = u / (2.0 + u);
    two_atanh::<17>(s)
}

/// The natural logarithm of a positive, normal number.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut k = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        k += 1;
    }
    let k = k as f64;
    k * LN_2_HIGH + (two_atanh::<13>((m - 1.0) / (m + 1.0)) + k * LN_2_LOW)
}

/// One over the root of two pi.
const INVERSE_ROOT_2_PI: f64 = 0.398_942_280_401_432_7;
/// From here on the normal distribution's tail is a continued fraction; its series would need more and more terms.
const NORMAL_TAIL: f64 = 4.0;
/// Terms of the series up to [`NORMAL_TAIL`], and levels of the fraction from there: both are then exact to rounding.
const NORMAL_TERMS: usize = 64;

/// The density of the standard normal distribution.
pub(crate) fn normal_density(z: f64) -> f64 {
    INVERSE_ROOT_2_PI * exp(-0.5 * z * z)
}

/// The probability that a standard normal number is below `z`, to about 12 digits in its lower tail.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    let x = z.abs();
    if x.is_nan() {
        return x;
    }
    if x < NORMAL_TAIL {
        // 1/2 + density * (z + z^3 / 3 + z^5 / (3 * 5) ...).
        let mut term = z;
        let mut sum = z;
        for k in 1..NORMAL_TERMS {
            term *= z * z / (2 * k + 1) as f64;
            sum += term;
        }
        return 0.5 + normal_density(z) * sum;
    }
    // density / (x + 1 / (x + 2 / (x + 3 / ...))).
    let fraction = (1..=NORMAL_TERMS).rev().fold(x, |below, k| x + k as f64 / below);
    let tail = normal_density(x) / fraction;
    if z < 0.0 { tail } else { 1.0 - tail }
}

/// `2 atanh(s)` by its first `N` terms.
#[inline(always)]
fn two_atanh<const N: usize>(s: f64) -> f64 {
    let t = s * s;
    let mut sum = 0.0;
    for k in (0..N).rev() {
        sum = sum * t + 1.0 / (2 * k + 1) as f64;
    }
    2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_the_standard_library() {
        for i in -70_000..70_000 {
            let x = f64::from(i) * 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "exp({x})");
            let small = x * 0.05;
            assert!((softplus(small) / small.exp().ln_1p() - 1.0).abs() < 1e-14, "softplus({small})");
            let (both, sigmoid) = softplus_and_sigmoid(small);
            assert!(both == softplus(small) && (sigmoid * (1.0 + (-small).exp()) - 1.0).abs() < 1e-15, "{small}");
            let positive = x.exp();
            assert!((ln(positive) - positive.ln()).abs() <= 4e-16 * positive.ln().abs().max(0.5), "ln({positive})");
        }
        // By scipy.stats.norm.cdf.
        for (z, p) in [(-9.0, 1.128588405953841e-19), (-4.0, 3.167124183311986e-05), (-3.9, 4.8096344017602614e-05)] {
            assert!((normal_cdf(z) / p - 1.0).abs() < 1e-11, "normal_cdf({z})");
            assert!((normal_cdf(-z) - (1.0 - p)).abs() < 1e-15, "normal_cdf({})", -z);
        }
        assert!((normal_cdf(-1.5) / 0.06680720126885807 - 1.0).abs() < 1e-14);
        assert!(exp(f64::NAN).is_nan() && normal_cdf(f64::NAN).is_nan());
        assert_eq!(sigmoid(0.0), 0.5);
    }
}
