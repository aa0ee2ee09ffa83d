//! A fixed-point number wide enough for any sum of `f64`, so that adding never rounds.
//!
//! After Neal, "Fast exact summation using small and large superaccumulators" (2015): 32-bit digits in 64-bit signed
//! chunks, so that carries are moved only every 2^30 additions. Addition is exact, hence the same in any order.

use super::magnitude::Magnitude;

/// Weight of the lowest bit of a sum: the smallest subnormal.
const SUM_EXPONENT: i64 = -1074;
/// Weight of the lowest bit of a sum of squares.
const SQUARE_EXPONENT: i64 = 2 * SUM_EXPONENT;
/// Chunks of a sum: 2,098 bits of range, 64 for the number of terms, one chunk of sign.
const SUM_CHUNKS: usize = 69;
/// Chunks of a sum of squares.
const SQUARE_CHUNKS: usize = 135;
/// Additions between two carries: each adds less than 2^32 to a chunk, six times at most.
const MAX_PENDING: u32 = 1 << 28;

/// An exact sum of finite `f64` values, or of their squares.
#[derive(Debug, Clone)]
pub struct Superaccumulator {
    chunks: Vec<i64>,
    exponent: i64,
    pending: u32,
}

impl Superaccumulator {
    /// A sum of values.
    pub fn for_values() -> Self {
        Self { chunks: vec![0; SUM_CHUNKS], exponent: SUM_EXPONENT, pending: 0 }
    }

    /// A sum of squares.
    pub fn for_squares() -> Self {
        Self { chunks: vec![0; SQUARE_CHUNKS], exponent: SQUARE_EXPONENT, pending: 0 }
    }

    /// Adds a finite value to a sum of values.
    pub fn add(&mut self, value: f64) {
        let (mantissa, offset) = parts(value);
        self.add_bits(mantissa, offset, value.is_sign_negative());
        self.count_pending();
    }

    /// Adds the square of a finite value to a sum of squares.
    pub fn add_square(&mut self, value: f64) {
        self.add_product(value, value);
    }

    /// Takes the square of a finite value off a sum of squares.
    pub fn subtract_square(&mut self, value: f64) {
        self.add_product(value, -value);
    }

    /// Adds the product of two finite values to a sum of squares.
    pub fn add_product(&mut self, a: f64, b: f64) {
        let ((x, x_offset), (y, y_offset)) = (parts(a), parts(b));
        let is_negative = a.is_sign_negative() != b.is_sign_negative();
        self.add_bits_at(u128::from(x) * u128::from(y), x_offset + y_offset, is_negative);
    }

    /// Adds `bits · 2^offset` in units of the lowest bit; it must be within the range of a sum.
    pub(super) fn add_bits_at(&mut self, bits: u128, offset: u32, negative: bool) {
        if bits != 0 {
            self.add_bits(bits as u64, offset, negative);
            self.add_bits((bits >> 64) as u64, offset + 64, negative);
            self.count_pending();
        }
    }

    /// Adds another sum of the same kind.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        other.carry();
        for (chunk, more) in self.chunks.iter_mut().zip(&other.chunks) {
            *chunk += more;
        }
        self.count_pending();
    }

    /// The sum, rounded once to the nearest `f64`.
    pub fn rounded(&mut self) -> f64 {
        self.mean(1)
    }

    /// The sum over `count`, rounded once to the nearest `f64`; zero for an empty sum.
    pub fn mean(&mut self, count: u64) -> f64 {
        let (magnitude, negative) = self.magnitude();
        let value = magnitude.ratio_to_f64(self.exponent, &[count.max(1)]);
        if negative { -value } else { value }
    }

    /// The sum in units of its lowest bit, and whether it is negative.
    pub(super) fn magnitude(&mut self) -> (Magnitude, bool) {
        self.carry();
        let negative = self.chunks.last().is_some_and(|&top| top < 0);
        let mut digits = self.clone();
        if negative {
            digits.chunks.iter_mut().for_each(|chunk| *chunk = -*chunk);
            digits.carry();
        }
        let mut limbs: Vec<u32> = digits.chunks.iter().map(|&chunk| chunk as u32).collect();
        limbs.push((digits.chunks.last().copied().unwrap_or(0) >> 32) as u32);
        (Magnitude::from_limbs(limbs), negative)
    }

    /// Weight of the lowest bit, as a power of two.
    pub(super) fn exponent(&self) -> i64 {
        self.exponent
    }

    /// Appends the sum to `bytes`: where its digits start, how many there are, and they.
    pub fn write(&mut self, bytes: &mut Vec<u8>) {
        self.carry();
        let first = self.chunks.iter().position(|&c| c != 0).unwrap_or(0);
        let end = self.chunks.iter().rposition(|&c| c != 0).map_or(first, |i| i + 1);
        bytes.extend((first as u32).to_le_bytes());
        bytes.extend(((end - first) as u32).to_le_bytes());
        for chunk in &self.chunks[first..end] {
            bytes.extend(chunk.to_le_bytes());
        }
    }

    /// Adds what [`Self::write`] wrote at the front of `bytes`, and takes it off them; none when they are damaged.
    pub fn read_and_add(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let first = u32::from_le_bytes(take(bytes)?) as usize;
        let count = u32::from_le_bytes(take(bytes)?) as usize;
        let chunks = self.chunks.get_mut(first..first.checked_add(count)?)?;
        for chunk in chunks {
            *chunk = chunk.checked_add(i64::from_le_bytes(take(bytes)?))?;
        }
        self.count_pending();
        Some(())
    }

    /// How much memory it holds, in bytes.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.chunks.capacity() * size_of::<i64>()
    }

    /// Adds `bits · 2^offset` in units of the lowest bit.
    fn add_bits(&mut self, bits: u64, offset: u32, negative: bool) {
        let index = (offset / 32) as usize;
        let wide = u128::from(bits) << (offset % 32);
        let digits = [wide as u32, (wide >> 32) as u32, (wide >> 64) as u32];
        if let Some(chunks) = self.chunks.get_mut(index..index + 3) {
            for (chunk, digit) in chunks.iter_mut().zip(digits) {
                *chunk += if negative { -i64::from(digit) } else { i64::from(digit) };
            }
        }
    }

    fn count_pending(&mut self) {
        self.pending += 1;
        if self.pending >= MAX_PENDING {
            self.carry();
        }
    }

    /// Moves carries up, so that all chunks but the last are digits in `0..2^32` and the last one has the sign.
    fn carry(&mut self) {
        let mut carry = 0;
        let last = self.chunks.len() - 1;
        for chunk in &mut self.chunks[..last] {
            let value = *chunk + carry;
            carry = value >> 32;
            *chunk = value & 0xffff_ffff;
        }
        self.chunks[last] += carry;
        self.pending = 0;
    }
}

/// Takes `N` bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

/// A finite value's mantissa, and its lowest bit's distance from the smallest subnormal's.
#[inline]
pub(super) fn parts(value: f64) -> (u64, u32) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match (bits >> 52 & 0x7ff) as u32 {
        0 => (fraction, 0),
        exponent => (fraction | 1 << 52, exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut accumulator = Superaccumulator::for_values();
        values.iter().for_each(|&v| accumulator.add(v));
        accumulator.rounded()
    }

    #[test]
    fn cancellation_loses_nothing() {
        assert_eq!(sum(&[1e308, 1.0, -1e308]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1e-16, -1e16]), 1.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]), 1e308);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[-5e-324, -5e-324]), -1e-323);
        assert_eq!(sum(&[]), 0.0);
    }

    #[test]
    fn squares_keep_their_tails() {
        let mut squares = Superaccumulator::for_squares();
        [1e-200, 1e200, 3.0].iter().for_each(|&v| squares.add_square(v));
        squares.merge(&squares.clone());
        assert_eq!(squares.rounded(), f64::INFINITY);
        let mut small = Superaccumulator::for_squares();
        [0.5, -1.5].iter().for_each(|&v| small.add_square(v));
        assert_eq!(small.rounded(), 2.5);
    }

    proptest! {
        #[test]
        fn sums_of_integers_are_those_of_i128(values in prop::collection::vec(-(1i64 << 53)..(1 << 53), 0..200)) {
            let floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            let exact: i128 = values.iter().map(|&v| i128::from(v)).sum();
            prop_assert_eq!(sum(&floats), exact as f64);
        }

        #[test]
        fn order_and_partitioning_change_no_bit(
            values in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL, 1..100),
            cut in 0usize..100,
        ) {
            let cut = cut.min(values.len());
            let mut left = Superaccumulator::for_values();
            let mut right = Superaccumulator::for_values();
            values[..cut].iter().rev().for_each(|&v| left.add(v));
            values[cut..].iter().for_each(|&v| right.add(v));
            let mut bytes = Vec::new();
            left.write(&mut bytes);
            prop_assert_eq!(right.read_and_add(&mut bytes.as_slice()), Some(()));
            prop_assert_eq!(right.rounded().to_bits(), sum(&values).to_bits());
        }
    }
}
