//! What trees are grown on: labels and weights, and what each row adds to the sums of a node, as whole numbers.
//!
//! Sums of whole numbers are exact in any order. Weights and numbers become whole by a unit of the data that lets the
//! sums over all rows of a tree fit a word.

use super::sample::MOST_COUNTS;
use super::side::{ClassSide, NumberSide, Rules, Side};
use crate::estimator::support::training::Labels;

/// Bits of a sum that are used, so that no sum overflows its word.
const SUM_BITS: u32 = 62;

impl Labels {
    /// Whether rows all have one label.
    pub(super) fn is_pure(&self, rows: &[u32]) -> bool {
        let label = |row: &u32| self.label[*row as usize];
        rows.first().is_none_or(|first| rows.iter().all(|row| label(row) == label(first)))
    }

    /// Whether a row counts at all.
    pub(super) fn counts(&self, row: u32) -> bool {
        self.weight.as_ref().is_none_or(|weight| weight[row as usize] > 0.0)
    }

    /// Appends the values of a leaf: the mean of its rows' labels, or the share of each class, summed in the rows' order.
    pub(super) fn push_leaf(&self, rows: &[u32], counts: &[u8], into: &mut Vec<f64>) {
        let start = into.len();
        into.resize(start + self.n_outputs, 0.0);
        let leaf = &mut into[start..];
        let mut total = 0.0;
        for row in rows.iter().map(|row| *row as usize) {
            let weight = self.weight.as_ref().map_or(1.0, |weight| weight[row]) * f64::from(counts[row]);
            total += weight;
            match self.n_outputs {
                1 => leaf[0] += weight * self.label[row],
                _ => leaf[self.label[row] as usize] += weight,
            }
        }
        leaf.iter_mut().for_each(|value| *value /= total);
    }

    /// The unit with which the sums of numbers up to `most` over the rows of a tree fit their words.
    fn unit(&self, most: f64) -> f64 {
        let of_rows = usize::BITS - (self.label.len() * (MOST_COUNTS + 1)).leading_zeros();
        // The exponent of a float is at most one below that of the next power of two.
        let exponent = ((most.to_bits() >> 52) & 0x7ff) as i32 - 1022;
        let unit = (SUM_BITS - of_rows) as i32 - exponent.max(-960);
        f64::from_bits(((unit + 1023) as u64) << 52)
    }

    /// The weights as whole numbers, and their unit; none that counts is rounded to 0.
    fn whole_weights(&self) -> (Option<Vec<i64>>, f64) {
        let Some(weight) = &self.weight else { return (None, 1.0) };
        let unit = self.unit(weight.iter().fold(0.0, |a, w| a.max(*w)));
        let whole = |w: &f64| ((w * unit) as i64).max(i64::from(*w > 0.0));
        (Some(weight.iter().map(whole).collect()), unit)
    }
}

/// What a kind of labels adds up to: a node's sums, and a bin's, are [`Self::width`] words.
pub(super) trait Target: Sync {
    /// What one row adds.
    type Row: Copy + Send + Sync;
    /// One side of a split.
    type Side<'a>: Side
    where
        Self: 'a;

    fn labels(&self) -> &Labels;

    /// How many words the sums of a node are.
    fn width(&self) -> usize;

    /// What a row adds that a tree sees `count` times.
    fn row(&self, row: usize, count: i64) -> Self::Row;

    /// Adds a row to one of the sums that stand one after the other.
    fn add(&self, sums: &mut [i64], at: usize, row: &Self::Row);

    /// How many rows sums are of.
    fn count(&self, sums: &[i64]) -> i64;

    /// The weight of sums, in the target's unit.
    fn weight(&self, sums: &[i64]) -> f64;

    /// An empty left side of a node with these sums in total and by bin.
    fn side<'a>(&'a self, rules: &'a Rules, total: &'a [i64], bins: &'a [i64]) -> Self::Side<'a>;
}

/// Numbers, and the classes 0 and 1 as numbers: the sum of weighted labels, the count, and with `WIDTH` 3 the weight.
#[derive(Debug)]
pub(super) struct Numbers<const WIDTH: usize> {
    labels: Labels,
    /// The weighted label of each row, less the mean of all where they are numbers.
    value: Vec<i64>,
    weight: Option<Vec<i64>>,
    pub(super) value_unit: f64,
    pub(super) weight_unit: f64,
}

impl<const WIDTH: usize> Numbers<WIDTH> {
    /// The classes 0 and 1.
    pub(super) fn of_classes(labels: Labels) -> Self {
        let (weight, unit) = labels.whole_weights();
        let of = |row: usize| labels.label[row] as i64 * weight.as_ref().map_or(1, |weight| weight[row]);
        let value = (0..labels.label.len()).map(of).collect();
        Self { labels, value, weight, value_unit: unit, weight_unit: unit }
    }

    /// Numbers. Their mean is taken off, which changes no gain, so that the differences keep their digits.
    pub(super) fn of_numbers(labels: Labels) -> Self {
        let (weight, weight_unit) = labels.whole_weights();
        let n_rows = labels.label.len();
        let mean = labels.label.iter().map(|label| label / n_rows as f64).sum::<f64>();
        let of = |row: usize| {
            let value = (labels.label[row] - mean) * labels.weight.as_ref().map_or(1.0, |weight| weight[row]);
            value.clamp(f64::MIN, f64::MAX)
        };
        let value_unit = labels.unit((0..n_rows).map(of).fold(0.0, |a, v| a.max(v.abs())));
        let value = (0..n_rows).map(|row| (of(row) * value_unit) as i64).collect();
        Self { labels, value, weight, value_unit, weight_unit }
    }
}

impl<const WIDTH: usize> Target for Numbers<WIDTH> {
    type Row = [i64; WIDTH];
    type Side<'a> = NumberSide<'a, WIDTH>;

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn width(&self) -> usize {
        WIDTH
    }

    #[inline]
    fn row(&self, row: usize, count: i64) -> [i64; WIDTH] {
        let mut sums = [count; WIDTH];
        sums[0] = self.value[row] * count;
        if let Some(weight) = &self.weight {
            sums[WIDTH - 1] = weight[row] * count;
        }
        sums
    }

    #[inline]
    fn add(&self, sums: &mut [i64], at: usize, row: &[i64; WIDTH]) {
        // Nothing wraps; checks for it would be half of the work.
        if let Some(sums) = sums.as_chunks_mut::<WIDTH>().0.get_mut(at) {
            sums.iter_mut().zip(row).for_each(|(a, b)| *a = a.wrapping_add(*b));
        }
    }

    #[inline]
    fn count(&self, sums: &[i64]) -> i64 {
        sums[1]
    }

    fn weight(&self, sums: &[i64]) -> f64 {
        sums[WIDTH - 1] as f64
    }

    fn side<'a>(&'a self, rules: &'a Rules, total: &'a [i64], bins: &'a [i64]) -> NumberSide<'a, WIDTH> {
        NumberSide::new(self, rules, total, bins)
    }
}

/// Several classes: the weight of each, and the count.
#[derive(Debug)]
pub(super) struct Classes {
    labels: Labels,
    weight: Option<Vec<i64>>,
    pub(super) weight_unit: f64,
}

/// What a row of a class adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassRow {
    class: u32,
    count: u32,
    weight: i64,
}

impl Classes {
    pub(super) fn new(labels: Labels) -> Self {
        let (weight, weight_unit) = labels.whole_weights();
        Self { labels, weight, weight_unit }
    }
}

impl Target for Classes {
    type Row = ClassRow;
    type Side<'a> = ClassSide<'a>;

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn width(&self) -> usize {
        self.labels.n_outputs + 1
    }

    #[inline]
    fn row(&self, row: usize, count: i64) -> ClassRow {
        let weight = self.weight.as_ref().map_or(1, |weight| weight[row]) * count;
        ClassRow { class: self.labels.label[row] as u32, count: count as u32, weight }
    }

    #[inline]
    fn add(&self, sums: &mut [i64], at: usize, row: &ClassRow) {
        let start = at * self.width();
        sums[start + row.class as usize] += row.weight;
        sums[start + self.labels.n_outputs] += i64::from(row.count);
    }

    #[inline]
    fn count(&self, sums: &[i64]) -> i64 {
        sums[self.labels.n_outputs]
    }

    fn weight(&self, sums: &[i64]) -> f64 {
        sums[..self.labels.n_outputs].iter().sum::<i64>() as f64
    }

    fn side<'a>(&'a self, rules: &'a Rules, total: &'a [i64], bins: &'a [i64]) -> ClassSide<'a> {
        ClassSide::new(self, rules, total, bins)
    }
}
