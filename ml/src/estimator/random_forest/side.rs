//! How much a split gains, from the sums of its left side.

use super::RandomForestParams;
use super::target::{Classes, Numbers, Target};
use crate::estimator::decision_tree::Impurity;
use crate::estimator::support::math::ln;

/// How many steps bring labels of several classes in order: the start is close, and near ties do not matter.
const POWER_STEPS: usize = 16;
/// Gains below this share of what they are the difference of are rounding.
const ROUNDING: f64 = 16.0 * f64::EPSILON;

/// What a split must keep to, and what it is to lower.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) impurity: Impurity,
    /// The fewest rows of a side, at least 1.
    pub(super) min_count: i64,
    /// The least weight of a side, in the target's unit.
    pub(super) min_weight: f64,
    /// The least gain for each unit of weight.
    pub(super) min_gain: f64,
}

impl Rules {
    /// Those of a tree, but for the weight, which is a share of the root's.
    pub(super) fn of(RandomForestParams { tree, .. }: &RandomForestParams) -> Self {
        Self {
            impurity: tree.impurity,
            min_count: tree.min_instances_per_node as i64,
            min_weight: 0.0,
            min_gain: tree.min_info_gain,
        }
    }

    /// Whether both sides are large enough.
    #[inline]
    fn allow(&self, left: i64, right: i64, left_weight: f64, right_weight: f64) -> bool {
        left >= self.min_count
            && right >= self.min_count
            && left_weight >= self.min_weight
            && right_weight >= self.min_weight
    }
}

/// The left side of a split of one feature, to which bins are added.
pub(super) trait Side {
    /// Takes all bins out.
    fn clear(&mut self);

    /// Adds a bin.
    fn add(&mut self, bin: usize);

    /// How many rows it has, and how many the other side has.
    fn counts(&self) -> (i64, i64);

    /// How much the split gains, in a unit of the node, if it keeps to the rules and gains.
    fn gain(&self) -> Option<f64>;

    /// How much a gain lowers the impurity, times the node's weight; none that is less than the rules ask for.
    fn weighted(&self, gain: f64) -> Option<f64>;

    /// Puts bins of categories in an order in which a good split is a cut.
    fn order(&self, bins: &mut [u8]);
}

/// The left side of a split of numbers, or of the classes 0 and 1.
#[derive(Debug)]
pub(super) struct NumberSide<'a, const WIDTH: usize> {
    target: &'a Numbers<WIDTH>,
    rules: &'a Rules,
    total: &'a [i64],
    bins: &'a [i64],
    left: [i64; WIDTH],
}

impl<'a, const WIDTH: usize> NumberSide<'a, WIDTH> {
    pub(super) fn new(target: &'a Numbers<WIDTH>, rules: &'a Rules, total: &'a [i64], bins: &'a [i64]) -> Self {
        Self { target, rules, total, bins, left: [0; WIDTH] }
    }

    /// The node's value and weight.
    fn whole(&self) -> (f64, f64) {
        (self.total[0] as f64, self.total[WIDTH - 1] as f64)
    }
}

impl<const WIDTH: usize> Side for NumberSide<'_, WIDTH> {
    fn clear(&mut self) {
        self.left = [0; WIDTH];
    }

    #[inline]
    fn add(&mut self, bin: usize) {
        self.left.iter_mut().zip(&self.bins[bin * WIDTH..]).for_each(|(a, b)| *a += b);
    }

    fn counts(&self) -> (i64, i64) {
        (self.left[1], self.total[1] - self.left[1])
    }

    /// Of the Gini impurity of two classes and of the variance, `(Sl W - S Wl)² / (Wl Wr)`: unlike a difference of squares
    /// it is 0 where nothing is gained.
    #[inline]
    fn gain(&self) -> Option<f64> {
        let (n_left, n_right) = self.counts();
        let ((value, weight), left, left_weight) = (self.whole(), self.left[0] as f64, self.left[WIDTH - 1] as f64);
        let right_weight = (self.total[WIDTH - 1] - self.left[WIDTH - 1]) as f64;
        if !self.rules.allow(n_left, n_right, left_weight, right_weight) {
            return None;
        }
        if self.rules.impurity == Impurity::Entropy {
            let whole = mixed(value, weight);
            let gain = whole - mixed(left, left_weight) - mixed(value - left, right_weight);
            return (gain > ROUNDING * n_log_n(weight)).then_some(gain);
        }
        let apart = left * weight - value * left_weight;
        (apart != 0.0).then(|| apart * apart / (left_weight * right_weight))
    }

    fn weighted(&self, gain: f64) -> Option<f64> {
        let (weight, unit) = (self.whole().1, self.target.units.weight);
        let of_values = gain / weight * unit / (self.target.units.value * self.target.units.value);
        let weighted = match self.rules.impurity {
            Impurity::Variance => of_values,
            Impurity::Gini => 2.0 * of_values,
            Impurity::Entropy => gain / unit / std::f64::consts::LN_2,
        };
        (weighted >= self.rules.min_gain * weight / unit).then_some(weighted)
    }

    /// By their means, which leaves the best split among the cuts (Fisher 1958; Breiman and others 1984, 4.2.2).
    fn order(&self, bins: &mut [u8]) {
        order_by(bins, |bin| {
            let sums = &self.bins[bin * WIDTH..(bin + 1) * WIDTH];
            sums[0] as f64 / sums[WIDTH - 1] as f64
        });
    }
}

/// The left side of a split of several classes.
#[derive(Debug)]
pub(super) struct ClassSide<'a> {
    target: &'a Classes,
    rules: &'a Rules,
    bins: &'a [i64],
    n_total: i64,
    /// The weight of the node, and of each of its classes.
    weight: f64,
    total: Vec<f64>,
    /// What the impurity's sum is of the node.
    whole: f64,
    n_left: i64,
    left: Vec<f64>,
}

impl<'a> ClassSide<'a> {
    pub(super) fn new(target: &'a Classes, rules: &'a Rules, total: &'a [i64], bins: &'a [i64]) -> Self {
        let n_total = target.count(total);
        let weight = target.weight(total);
        let total: Vec<f64> = total[..total.len() - 1].iter().map(|sum| *sum as f64).collect();
        let left = vec![0.0; total.len()];
        let whole = match rules.impurity {
            Impurity::Entropy => n_log_n(weight) - total.iter().map(|w| n_log_n(*w)).sum::<f64>(),
            _ => total.iter().map(|w| w * w).sum::<f64>() / weight,
        };
        Self { target, rules, bins, n_total, weight, total, whole, n_left: 0, left }
    }

    /// The weights of the classes in a bin, and the count.
    #[inline]
    fn bin(&self, bin: usize) -> &'a [i64] {
        let width = self.total.len() + 1;
        &self.bins[bin * width..(bin + 1) * width]
    }

    /// The weights of both sides and the sums of their classes' squared weights.
    #[inline]
    fn squares(&self) -> [f64; 4] {
        let [mut left_weight, mut left, mut right] = [0.0; 3];
        for (l, whole) in self.left.iter().zip(&self.total) {
            let r = whole - l;
            left_weight += l;
            left += l * l;
            right += r * r;
        }
        [left_weight, self.weight - left_weight, left, right]
    }

    /// The same with `w ln w` in place of squares.
    fn logs(&self) -> [f64; 4] {
        let [mut left_weight, mut left, mut right] = [0.0; 3];
        for (l, whole) in self.left.iter().zip(&self.total) {
            left_weight += l;
            left += n_log_n(*l);
            right += n_log_n(whole - l);
        }
        [left_weight, self.weight - left_weight, left, right]
    }

    /// How the classes of a bin differ from those of the node.
    fn apart(&self, bin: usize) -> (f64, Vec<f64>) {
        let sums = &self.bin(bin)[..self.total.len()];
        let weight = sums.iter().sum::<i64>() as f64;
        let apart = sums.iter().zip(&self.total).map(|(w, whole)| *w as f64 / weight - whole / self.weight);
        (weight, apart.collect())
    }
}

impl Side for ClassSide<'_> {
    fn clear(&mut self) {
        self.n_left = 0;
        self.left.fill(0.0);
    }

    #[inline]
    fn add(&mut self, bin: usize) {
        let sums = self.bin(bin);
        self.n_left += sums[self.left.len()];
        self.left.iter_mut().zip(sums).for_each(|(a, b)| *a += *b as f64);
    }

    fn counts(&self) -> (i64, i64) {
        (self.n_left, self.n_total - self.n_left)
    }

    #[inline]
    fn gain(&self) -> Option<f64> {
        let (n_left, n_right) = self.counts();
        if n_left < self.rules.min_count || n_right < self.rules.min_count {
            return None;
        }
        let is_entropy = self.rules.impurity == Impurity::Entropy;
        let [left_weight, right_weight, left, right] = if is_entropy { self.logs() } else { self.squares() };
        if !self.rules.allow(n_left, n_right, left_weight, right_weight) {
            return None;
        }
        let (gain, of) = if is_entropy {
            let sides = n_log_n(left_weight) - left + n_log_n(right_weight) - right;
            (self.whole - sides, n_log_n(self.weight))
        } else {
            (left / left_weight + right / right_weight - self.whole, self.weight)
        };
        (gain > ROUNDING * of).then_some(gain)
    }

    fn weighted(&self, gain: f64) -> Option<f64> {
        let unit = self.target.units.weight;
        let in_bits = if self.rules.impurity == Impurity::Entropy { gain / std::f64::consts::LN_2 } else { gain };
        let weighted = in_bits / unit;
        (weighted >= self.rules.min_gain * self.weight / unit).then_some(weighted)
    }

    /// By the first principal direction of their classes' shares (Coppersmith, Hong and Hosking 1999).
    fn order(&self, bins: &mut [u8]) {
        if bins.len() < 3 {
            return;
        }
        let apart: Vec<(f64, Vec<f64>)> = bins.iter().map(|bin| self.apart(usize::from(*bin))).collect();
        let direction = principal_direction(&apart);
        let mut scores = [0.0; 256];
        for (bin, (_, apart)) in bins.iter().zip(&apart) {
            scores[usize::from(*bin)] = dot(apart, &direction);
        }
        order_by(bins, |bin| scores[bin]);
    }
}

/// Orders bins by a number, equal ones by their own.
fn order_by(bins: &mut [u8], of: impl Fn(usize) -> f64) {
    let of = |bin: &u8| of(usize::from(*bin));
    bins.sort_by(|a, b| of(a).total_cmp(&of(b)).then(a.cmp(b)));
}

/// The direction in which weighted vectors differ most, by power iteration from the one that weighs most.
fn principal_direction(vectors: &[(f64, Vec<f64>)]) -> Vec<f64> {
    let size = |(weight, vector): &(f64, Vec<f64>)| weight * dot(vector, vector);
    let largest = vectors.iter().reduce(|a, b| if size(b) > size(a) { b } else { a });
    let mut direction = largest.map(|(_, vector)| vector.clone()).unwrap_or_default();
    for _ in 0..POWER_STEPS {
        let mut next = vec![0.0; direction.len()];
        for (weight, vector) in vectors {
            let along = weight * dot(vector, &direction);
            next.iter_mut().zip(vector).for_each(|(a, b)| *a += along * b);
        }
        let length = dot(&next, &next).sqrt();
        if length <= 0.0 {
            break;
        }
        next.iter_mut().for_each(|v| *v /= length);
        direction = next;
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The entropy of the classes 0 and 1, times the weight, in nats: `one` of the weight is of class 1.
fn mixed(one: f64, weight: f64) -> f64 {
    n_log_n(weight) - n_log_n(one) - n_log_n(weight - one)
}

/// `n ln n`, 0 at 0.
#[inline]
fn n_log_n(n: f64) -> f64 {
    if n > 0.0 { n * ln(n) } else { 0.0 }
}
