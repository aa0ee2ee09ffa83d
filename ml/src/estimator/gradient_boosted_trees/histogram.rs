//! Histograms of fixed-point gradients: exact integer sums per bin.

use std::ops::IndexMut;

use crate::estimator::support::trees::{Meaning, RowBlock};

/// The sums of one bin: the gradient, and the count of rows above the Hessian, packed in one word.
///
/// Two words are one vector addition. Wrapping additions keep the packed fields right as long as the final Hessian
/// sum stays below 2^40, which [`Scale`] sees to.
pub(super) type Sums = [i64; 2];

/// One feature's sums by bin.
pub(super) type Histogram = [Sums; 256];

/// How many features are summed in one pass over rows: their histograms, 16 KiB, stay in the first cache.
const TOGETHER: usize = 4;
/// Rows that are copied next to each other before they are summed: a loop that does nothing else waits for many of them at
/// once.
const ROWS_PER_BLOCK: usize = 512;
/// Bits of the packed word that hold the Hessian; the count has the rest.
const HESSIAN_BITS: u32 = 40;
/// Bits of a row's gradient: with those of the most rows they fit a word.
const GRADIENT_BITS: i32 = 32;
/// The most rows of a fit: their count must fit above the Hessian.
pub(super) const MOST_ROWS: usize = (1 << (64 - HESSIAN_BITS)) - 1;

/// The fixed-point units of a tree, from bounds of its rows' derivatives and their number alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    gradient_unit: f64,
    hessian_unit: f64,
    /// One over the units: they are powers of two, so multiplying is exact and dividing is not needed.
    per_gradient_unit: f64,
    per_hessian_unit: f64,
}

impl Scale {
    /// Units with which the sums over `n_rows` rows with at most these gradients (in size) and Hessians fit their fields.
    pub(super) fn new(n_rows: usize, most_gradient: f64, most_hessian: f64) -> Self {
        let row_bits = (usize::BITS - n_rows.leading_zeros()) as i32;
        let gradient = GRADIENT_BITS - exponent_above(most_gradient);
        let hessian = HESSIAN_BITS as i32 - row_bits - exponent_above(most_hessian);
        Self {
            gradient_unit: power_of_two(gradient),
            hessian_unit: power_of_two(hessian),
            per_gradient_unit: power_of_two(-gradient),
            per_hessian_unit: power_of_two(-hessian),
        }
    }

    /// One row's sums.
    #[inline(always)]
    pub(super) fn pack(self, gradient: f64, hessian: f64) -> Sums {
        [nearest(gradient * self.gradient_unit), nearest(hessian * self.hessian_unit) | (1 << HESSIAN_BITS)]
    }

    /// The sum of gradients.
    #[inline]
    pub(super) fn gradient(self, sums: Sums) -> f64 {
        sums[0] as f64 * self.per_gradient_unit
    }

    /// The sum of Hessians.
    #[inline]
    pub(super) fn hessian(self, sums: Sums) -> f64 {
        (sums[1] & ((1 << HESSIAN_BITS) - 1)) as f64 * self.per_hessian_unit
    }
}

/// The nearest whole number of one of at most 2^50 in size, to which others are cut; 0 of NaN. Unlike a cast it is vector
/// instructions.
#[inline(always)]
fn nearest(value: f64) -> i64 {
    /// What is added to it has no room for a fraction: its low bits are the whole number.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const MOST: f64 = (1_u64 << 50) as f64;
    let value = if value.is_nan() { 0.0 } else { value };
    let shifted = value.clamp(-MOST, MOST) + ROUND;
    (shifted.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64)
}

/// The least exponent with `value <= 2^exponent`, within what units can be made of.
fn exponent_above(value: f64) -> i32 {
    if value <= 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let is_power = bits & ((1 << 52) - 1) == 0;
    (exponent + i32::from(!is_power)).clamp(-900, 900)
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// How many rows sums are of.
#[inline]
pub(super) fn count(sums: Sums) -> usize {
    (sums[1] as u64 >> HESSIAN_BITS) as usize
}

/// `a + b`.
#[inline]
pub(super) fn plus(a: Sums, b: Sums) -> Sums {
    [a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1])]
}

/// `a - b`.
#[inline]
pub(super) fn minus(a: Sums, b: Sums) -> Sums {
    [a[0].wrapping_sub(b[0]), a[1].wrapping_sub(b[1])]
}

/// How many bins of a histogram are used: those of values, and that of what is missing.
pub(super) fn n_used(meaning: &Meaning) -> usize {
    meaning.n_bins() + 1
}

/// Sums rows into the used bins of the histograms of some features of one block.
pub(super) fn fill(
    histograms: &mut [Histogram],
    features: &[usize],
    meanings: &[Meaning],
    rows: &[u32],
    bins: &[RowBlock],
    sums: &[Sums],
) {
    for (histogram, &feature) in histograms.iter_mut().zip(features) {
        histogram[..n_used(&meanings[feature])].fill([0, 0]);
    }
    add(&mut histograms.iter_mut().collect::<Vec<_>>(), features, rows, bins, sums);
}

/// Adds rows to the bins of some features of one block.
pub(super) fn add<H: IndexMut<usize, Output = Sums> + ?Sized>(
    histograms: &mut [&mut H],
    features: &[usize],
    rows: &[u32],
    bins: &[RowBlock],
    sums: &[Sums],
) {
    let (mut near_bins, mut near_sums) = ([RowBlock::EMPTY; ROWS_PER_BLOCK], [[0, 0]; ROWS_PER_BLOCK]);
    let (together, of_together) = (histograms.as_chunks_mut::<TOGETHER>(), features.as_chunks::<TOGETHER>());
    let (rest, of_rest) = (together.1.as_chunks_mut::<1>().0, of_together.1.as_chunks::<1>().0);
    for rows in rows.chunks(ROWS_PER_BLOCK) {
        let (near_bins, near_sums) = (&mut near_bins[..rows.len()], &mut near_sums[..rows.len()]);
        for ((&row, bins_of_row), sums_of_row) in rows.iter().zip(&mut *near_bins).zip(&mut *near_sums) {
            *bins_of_row = bins[row as usize];
            *sums_of_row = sums[row as usize];
        }
        together.0.iter_mut().zip(of_together.0).for_each(|(h, f)| add_rows(each(h), f, near_bins, near_sums));
        rest.iter_mut().zip(of_rest).for_each(|(h, f)| add_rows(each(h), f, near_bins, near_sums));
    }
}

/// Where histograms are, to be held in registers.
fn each<'a, H: ?Sized, const N: usize>(histograms: &'a mut [&mut H; N]) -> [&'a mut H; N] {
    histograms.each_mut().map(|histogram| &mut **histogram)
}

/// Adds rows to the histograms of `N` features.
#[inline]
fn add_rows<H: IndexMut<usize, Output = Sums> + ?Sized, const N: usize>(
    mut histograms: [&mut H; N],
    features: &[usize; N],
    bins: &[RowBlock],
    sums: &[Sums],
) {
    for (bins, &sums) in bins.iter().zip(sums) {
        for (histogram, &feature) in histograms.iter_mut().zip(features) {
            let into = &mut histogram[bins.bin(feature)];
            *into = plus(*into, sums);
        }
    }
}

/// Adds the sums of other rows, bin by bin.
pub(super) fn merge(into: &mut [Sums], from: &[Sums]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a = plus(*a, *b);
    }
}

/// Takes the smaller child's sums off the parent's, which leaves the larger child's.
pub(super) fn subtract(parent: &mut [Sums], smaller: &[Sums]) {
    for (a, b) in parent.iter_mut().zip(smaller) {
        *a = minus(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_sums_keep_count_and_hessian_apart() {
        for n in [1usize, 2, 1000, 100_000] {
            let scale = Scale::new(n, 1.0, 0.25);
            let row = scale.pack(-0.5, 0.25);
            let sums = (0..n).fold([0, 0], |a, _| plus(a, row));
            assert_eq!(count(sums), n);
            assert_eq!(scale.gradient(sums), -0.5 * n as f64);
            assert_eq!(scale.hessian(sums), 0.25 * n as f64);
            assert_eq!(minus(sums, sums), [0, 0]);
        }
    }

    #[test]
    fn units_follow_the_largest_row() {
        for (gradient, hessian) in [(1e-9, 1e-3), (3.0, 1.0), (1e12, 7e5), (0.0, 0.0)] {
            let scale = Scale::new(1_000, gradient, hessian);
            let sums = (0..1_000).fold([0, 0], |a, _| plus(a, scale.pack(gradient, hessian)));
            assert_eq!(count(sums), 1_000);
            assert!((scale.gradient(sums) - 1e3 * gradient).abs() <= 1e-6 * gradient, "{gradient}");
            assert!((scale.hessian(sums) - 1e3 * hessian).abs() <= 1e-2 * hessian, "{hessian}");
        }
    }
}
