//! Natural numbers of any size: just what turning an exact sum into a correctly rounded `f64` needs.

use std::cmp::Ordering;

/// A natural number as 32-bit limbs, least significant first, without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Magnitude(Vec<u32>);

impl Magnitude {
    pub(super) fn from_limbs(mut limbs: Vec<u32>) -> Self {
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        Self(limbs)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bits(&self) -> u64 {
        self.0.last().map_or(0, |top| 32 * self.0.len() as u64 - u64::from(top.leading_zeros()))
    }

    fn bit(&self, index: u64) -> bool {
        self.0.get((index / 32) as usize).is_some_and(|limb| limb >> (index % 32) & 1 == 1)
    }

    /// Whether any bit below `index` is set.
    fn any_below(&self, index: u64) -> bool {
        let whole = ((index / 32) as usize).min(self.0.len());
        let rest = (1u64 << (index % 32)) - 1;
        self.0[..whole].iter().any(|&limb| limb != 0)
            || self.0.get(whole).is_some_and(|&limb| u64::from(limb) & rest != 0)
    }

    /// The number without its lowest `shift` bits; it must fit 64 bits.
    fn high_bits(&self, shift: u64) -> u64 {
        (0..64).filter(|i| self.bit(shift + i)).fold(0, |bits, i| bits | 1 << i)
    }

    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    pub(super) fn mul(&self, other: &Self) -> Self {
        let mut limbs = vec![0u32; self.0.len() + other.0.len()];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (j, &b) in other.0.iter().enumerate() {
                let wide = u64::from(a) * u64::from(b) + u64::from(limbs[i + j]) + carry;
                limbs[i + j] = wide as u32;
                carry = wide >> 32;
            }
            limbs[i + other.0.len()] = carry as u32;
        }
        Self::from_limbs(limbs)
    }

    pub(super) fn from_u64(value: u64) -> Self {
        Self::from_limbs(vec![value as u32, (value >> 32) as u32])
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let limb = |number: &Self, i: usize| u64::from(number.0.get(i).copied().unwrap_or(0));
        let mut carry = 0u64;
        let limbs = (0..=self.0.len().max(other.0.len())).map(|i| {
            let wide = limb(self, i) + limb(other, i) + carry;
            carry = wide >> 32;
            wide as u32
        });
        Self::from_limbs(limbs.collect())
    }

    /// The absolute difference of two numbers, and whether it was `other` that was larger.
    pub(super) fn difference(&self, other: &Self) -> (Self, bool) {
        if self.cmp(other) == Ordering::Less { (other.minus(self), true) } else { (self.minus(other), false) }
    }

    /// `self - other`, where `other` is not larger.
    fn minus(&self, other: &Self) -> Self {
        let mut borrow = 0i64;
        let limbs = self.0.iter().enumerate().map(|(i, &limb)| {
            let value = i64::from(limb) - i64::from(other.0.get(i).copied().unwrap_or(0)) + borrow;
            borrow = value >> 32;
            value as u32
        });
        Self::from_limbs(limbs.collect())
    }

    fn shifted_left(&self, shift: u64) -> Self {
        let mut limbs = vec![0u32; (shift / 32) as usize];
        let mut carry = 0u64;
        for &limb in &self.0 {
            let wide = u64::from(limb) << (shift % 32) | carry;
            limbs.push(wide as u32);
            carry = wide >> 32;
        }
        limbs.push(carry as u32);
        Self::from_limbs(limbs)
    }

    /// The quotient and whether there is a remainder.
    fn divided_by(&self, divisor: u64) -> (Self, bool) {
        let mut remainder = 0u128;
        let mut limbs = vec![0u32; self.0.len()];
        for (limb, quotient) in self.0.iter().zip(&mut limbs).rev() {
            let wide = remainder << 32 | u128::from(*limb);
            *quotient = (wide / u128::from(divisor)) as u32;
            remainder = wide % u128::from(divisor);
        }
        (Self::from_limbs(limbs), remainder != 0)
    }

    /// `self · 2^exponent / (d₁ · d₂ · …)`, rounded once to the nearest `f64`, ties to even.
    pub(super) fn ratio_to_f64(&self, exponent: i64, divisors: &[u64]) -> f64 {
        // The quotient keeps more bits than an f64 has; what is lost below them only decides ties.
        let divisor_bits: u64 = divisors.iter().map(|d| u64::from(64 - d.leading_zeros())).sum();
        let shift = (66 + divisor_bits).saturating_sub(self.bits());
        let (quotient, sticky) =
            divisors.iter().fold((self.shifted_left(shift), false), |(number, sticky), &divisor| {
                let (number, remainder) = number.divided_by(divisor);
                (number, sticky | remainder)
            });
        quotient.round_to_f64(exponent - shift as i64, sticky)
    }

    fn round_to_f64(&self, exponent: i64, sticky: bool) -> f64 {
        let bits = self.bits() as i64;
        let top = bits - 1 + exponent;
        if bits == 0 || top < -1075 {
            return 0.0;
        }
        if top > 1023 {
            return f64::INFINITY;
        }
        // Subnormal results have fewer bits than 53.
        let drop = bits - (top + 1075).min(53);
        if drop <= 0 {
            return compose(self.high_bits(0) << -drop, exponent + drop);
        }
        let drop_bits = drop as u64;
        let kept = self.high_bits(drop_bits);
        let above_half = self.any_below(drop_bits - 1) || sticky;
        let up = self.bit(drop_bits - 1) && (above_half || kept & 1 == 1);
        compose(kept + u64::from(up), exponent + drop)
    }
}

/// `mantissa · 2^exponent` for a mantissa of at most 53 bits (or 2^53) and an exponent that an `f64` can have.
fn compose(mantissa: u64, exponent: i64) -> f64 {
    let (mantissa, exponent) = if mantissa == 1 << 53 { (1 << 52, exponent + 1) } else { (mantissa, exponent) };
    if mantissa < 1 << 52 {
        return f64::from_bits(mantissa);
    }
    let biased = exponent + 1075;
    if biased >= 2047 {
        return f64::INFINITY;
    }
    f64::from_bits((biased as u64) << 52 | (mantissa & ((1 << 52) - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_come_back() {
        for value in [1u64, 3, 1 << 53, (1 << 53) - 1, 12_345_678_901] {
            assert_eq!(Magnitude::from_u64(value).ratio_to_f64(0, &[]), value as f64);
        }
    }

    #[test]
    fn ratios_round_once() {
        assert_eq!(Magnitude::from_u64(1).ratio_to_f64(0, &[3]), 1.0 / 3.0);
        assert_eq!(Magnitude::from_u64(2).ratio_to_f64(0, &[3, 7]), 2.0 / 21.0);
        assert_eq!(Magnitude::from_u64(u64::MAX).ratio_to_f64(0, &[]), 18_446_744_073_709_551_616.0);
    }

    #[test]
    fn subnormals_round_to_even() {
        let tiny = f64::from_bits(1);
        assert_eq!(Magnitude::from_u64(1).ratio_to_f64(-1074, &[]), tiny);
        assert_eq!(Magnitude::from_u64(1).ratio_to_f64(-1075, &[]), 0.0);
        assert_eq!(Magnitude::from_u64(3).ratio_to_f64(-1075, &[]), f64::from_bits(2));
        assert_eq!(Magnitude::from_u64(3).ratio_to_f64(-1076, &[]), tiny);
        assert_eq!(Magnitude::from_u64(1).ratio_to_f64(1024, &[]), f64::INFINITY);
    }
}
