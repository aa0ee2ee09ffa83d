//! What trees are grown on: labels and weights, and what each row adds to the sums of a node, as whole numbers.
//!
//! Sums of whole numbers are exact in any order. Weights and numbers become whole by a unit of the data that lets the
//! sums over all rows of a tree fit a word.

use serde::{Deserialize, Serialize};

use super::sample::MOST_COUNTS;
use super::side::{ClassSide, NumberSide, Rules, Side};
use crate::codec::exact;
use crate::estimator::ProblemType;
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

    /// The weight of a leaf's rows, and that of their labels, or of each class, summed in the rows' order.
    pub(super) fn leaf_sums(&self, rows: &[u32], counts: &[u8]) -> Vec<f64> {
        let mut sums = vec![0.0; 1 + self.n_outputs];
        for row in rows.iter().map(|row| *row as usize) {
            let weight = self.weight.as_ref().map_or(1.0, |weight| weight[row]) * f64::from(counts[row]);
            sums[0] += weight;
            match self.n_outputs {
                1 => sums[1] += weight * self.label[row],
                _ => sums[1 + self.label[row] as usize] += weight,
            }
        }
        sums
    }

    /// The weights as whole numbers of a unit; none that counts is rounded to 0.
    fn whole_weights(&self, unit: f64) -> Option<Vec<i64>> {
        let whole = |w: &f64| ((w * unit) as i64).max(i64::from(*w > 0.0));
        self.weight.as_ref().map(|weight| weight.iter().map(whole).collect())
    }

    /// What a row's label, less `mean`, is with its weight.
    fn weighted(&self, row: usize, mean: f64) -> f64 {
        let value = (self.label[row] - mean) * self.weight.as_ref().map_or(1.0, |weight| weight[row]);
        value.clamp(f64::MIN, f64::MAX)
    }

    /// A part of the mean of the labels of `n_rows` rows: that of these.
    pub(super) fn part_of_mean(&self, n_rows: usize) -> f64 {
        self.label.iter().map(|label| label / n_rows as f64).sum()
    }

    /// The largest weight; 0 where all rows count alike.
    pub(super) fn most_weight(&self) -> f64 {
        self.weight.iter().flatten().fold(0.0, |a, w| a.max(*w))
    }

    /// The largest size of a weighted label less the mean.
    pub(super) fn most_value(&self, mean: f64) -> f64 {
        (0..self.label.len()).map(|row| self.weighted(row, mean)).fold(0.0, |a, v| a.max(v.abs()))
    }
}

/// Appends the values of a leaf with these [`Labels::leaf_sums`]: the mean of its rows' labels, or the share of each class.
pub(super) fn push_values(sums: &[f64], into: &mut Vec<f64>) {
    into.extend(sums[1..].iter().map(|sum| sum / sums[0]));
}

/// In what labels and weights are whole numbers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Units {
    /// Taken off numbers, which changes no gain, so that their differences keep their digits; none of classes.
    #[serde(with = "exact::option")]
    mean: Option<f64>,
    #[serde(with = "exact")]
    pub(super) value: f64,
    #[serde(with = "exact")]
    pub(super) weight: f64,
}

impl Units {
    /// Those of classes of so many rows.
    pub(super) fn of_classes(n_rows: usize, most_weight: f64) -> Self {
        let weight = if most_weight > 0.0 { unit(n_rows, most_weight) } else { 1.0 };
        Self { mean: None, value: weight, weight }
    }

    /// Those of numbers.
    pub(super) fn of_numbers(n_rows: usize, most_weight: f64, mean: f64, most_value: f64) -> Self {
        Self { mean: Some(mean), value: unit(n_rows, most_value), ..Self::of_classes(n_rows, most_weight) }
    }

    /// Those of all rows.
    pub(super) fn new(labels: &Labels, problem: ProblemType) -> Self {
        let (n_rows, most_weight) = (labels.label.len(), labels.most_weight());
        if problem.is_classification() {
            return Self::of_classes(n_rows, most_weight);
        }
        let mean = labels.part_of_mean(n_rows);
        Self::of_numbers(n_rows, most_weight, mean, labels.most_value(mean))
    }
}

/// The unit with which the sums of numbers up to `most` over the rows of a tree fit their words.
fn unit(n_rows: usize, most: f64) -> f64 {
    let of_rows = usize::BITS - (n_rows * (MOST_COUNTS + 1)).leading_zeros();
    // The exponent of a float is at most one below that of the next power of two.
    let exponent = ((most.to_bits() >> 52) & 0x7ff) as i32 - 1022;
    let unit = (SUM_BITS - of_rows) as i32 - exponent.max(-960);
    f64::from_bits(((unit + 1023) as u64) << 52)
}

/// What a kind of labels adds up to: a node's sums, and a bin's, are [`Self::width`] words.
pub(super) trait Target: Send + Sync + Sized + 'static {
    /// What one row adds.
    type Row: Copy + Send + Sync;
    /// One side of a split.
    type Side<'a>: Side
    where
        Self: 'a;

    /// That of some labels.
    fn new(labels: Labels, units: Units) -> Self;

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

    /// Whether rows with these sums all have one label; none where sums do not tell.
    fn is_pure(&self, sums: &[i64]) -> Option<bool>;

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
    pub(super) units: Units,
}

impl<const WIDTH: usize> Target for Numbers<WIDTH> {
    type Row = [i64; WIDTH];
    type Side<'a> = NumberSide<'a, WIDTH>;

    fn new(labels: Labels, units: Units) -> Self {
        let weight = labels.whole_weights(units.weight);
        let of = |row: usize| match units.mean {
            None => labels.label[row] as i64 * weight.as_ref().map_or(1, |weight| weight[row]),
            Some(mean) => (labels.weighted(row, mean) * units.value) as i64,
        };
        let value = (0..labels.label.len()).map(of).collect();
        Self { labels, value, weight, units }
    }

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

    fn is_pure(&self, sums: &[i64]) -> Option<bool> {
        self.units.mean.is_none().then(|| sums[0] == 0 || sums[0] == sums[WIDTH - 1])
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
    pub(super) units: Units,
}

/// What a row of a class adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassRow {
    class: u32,
    count: u32,
    weight: i64,
}

impl Target for Classes {
    type Row = ClassRow;
    type Side<'a> = ClassSide<'a>;

    fn new(labels: Labels, units: Units) -> Self {
        let weight = labels.whole_weights(units.weight);
        Self { labels, weight, units }
    }

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

    fn is_pure(&self, sums: &[i64]) -> Option<bool> {
        Some(sums[..self.labels.n_outputs].iter().filter(|sum| **sum > 0).count() < 2)
    }

    fn side<'a>(&'a self, rules: &'a Rules, total: &'a [i64], bins: &'a [i64]) -> ClassSide<'a> {
        ClassSide::new(self, rules, total, bins)
    }
}
